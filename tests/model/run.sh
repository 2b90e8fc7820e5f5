#!/bin/bash
# Whole models through the compiler and the devices.
#   golden/    float32 logits and 64 greedy tokens computed with transformers (tests/oracle/transformers_golden.py)
#   oracle     tests/oracle/oracle.py, which shares no code with the project, on a random checkpoint and its .bin
#   batch      the same bits at any -b, --prefill-chunk and wave order; strict and fast
#   flipped    one instruction byte of the plan changed
#   20b        two layers of the 20b, with fewer words, decode three tokens
set -u
out=out/tests/model
rm -rf $out && mkdir -p $out
golden_atol=2e-4 # strict against transformers in float32; measured 7.9e-5, of which its own float32 noise is 7.2e-5 (2026-11-21)

check() { # name, command…
    local name=$1
    shift
    if "$@" >$out/log 2>&1; then echo "ok $name"; else echo "FAIL $name: $(grep -v '^$' $out/log | tail -1)"; fi
}
compile() { out/gptoss-compile "$@" --arch gfx90a 2>$out/compile.err || { echo "FAIL compile $*: $(tail -1 $out/compile.err)"; return 1; }; }
exec_() { out/gptoss-exec "$@" 2>$out/exec.err || { tail -1 $out/exec.err; return 1; }; }

# --- golden ---
json_rows() { python3 -c 'import json, sys; j = json.load(open(sys.argv[1]))
if sys.argv[2] == "ids": print(len(j["ids"]))
for row in j[sys.argv[2]]: print(*row)' "$1" "$2"; }

same_tokens() { # got, golden greedy rows: the golden rows run on to 64 tokens; ours may stop at an end token
    python3 -c 'import sys
got, want = [[l.split() for l in open(f)] for f in sys.argv[1:3]]
assert len(got) == len(want), "rows"
for i, (g, w) in enumerate(zip(got, want)):
    n = min(len(g), len(w))
    assert n > 0 and g[:n] == w[:n], "row %d: %s and %s" % (i, g[:n], w[:n])
' "$1" "$2"
}

for dir in tests/golden/*/; do
    name=$(basename "$dir")
    json_rows "$dir/case.json" ids >$out/ids
    json_rows "$dir/case.json" greedy >$out/greedy
    compile graphs/gpt_oss.lua --model "$dir/model" --precision strict --max-batch 8 --max-tokens 64 -o $out/golden.bin || continue
    for device in ref emu; do
        logits() { exec_ $out/golden.bin -m logits --device $device --input-ids -i $out/ids -o $out/logits && out/gptoss-check $out/logits "$dir/logits.f32" --atol $golden_atol --rtol 0; }
        check "golden $name logits on $device" logits
        steps=128 # on emu the first tokens only, unless all is asked for
        [ $device = emu ] && [ -z "${TEST_ALL:-}" ] && steps=$(($(awk 'NR > 1 && NF > n {n = NF} END {print n}' $out/ids) + 10))
        tokens() { exec_ $out/golden.bin -m getp --device $device --input-ids -i $out/ids -o $out/tokens -n $steps && cut -d' ' -f1-64 $out/tokens >$out/first && same_tokens $out/first $out/greedy; }
        check "golden $name greedy tokens on $device" tokens
    done
done

# --- oracle ---
out/gptoss-mkmodel tests/models/tiny.json $out/tiny --seed 3 >/dev/null 2>&1 || echo "FAIL mkmodel"
out/gptoss-mkmodel tests/models/tiny.json $out/tiny.bin.model.bin --seed 3 >/dev/null 2>&1 || echo "FAIL mkmodel .bin"
tail -n +2 data/input.txt | out/gptoss-tok encode -z $out/tiny/tokenizer.json >$out/prompts
{ wc -l <$out/prompts; cat $out/prompts; } >$out/requests
compile graphs/toy.lua --model $out/tiny --precision strict --max-batch 8 --max-tokens 64 -o $out/tiny.bin
compile graphs/gpt_oss.lua --model $out/tiny.bin.model.bin --precision strict --max-batch 8 --max-tokens 64 -o $out/fp32.bin
oracle() {
    python3 tests/oracle/oracle.py $out/tiny --ids $out/prompts --greedy 72 --eos 503,504 >$out/oracle.txt || return 1
    exec_ $out/tiny.bin -m getp_cpu -o $out/ref.txt -n 72 && cmp $out/ref.txt $out/oracle.txt
}
check "oracle.py and getp_cpu generate the same tokens" oracle
oracle_logits() {
    python3 tests/oracle/oracle.py $out/tiny --ids $out/prompts -o $out/oracle.f32 || return 1
    exec_ $out/tiny.bin -m logits --device ref -o $out/ref.f32 && out/gptoss-check $out/ref.f32 $out/oracle.f32 --atol 2e-5 --rtol 0
}
check "oracle.py and ref compute the same logits" oracle_logits
bin_same() {
    exec_ $out/tiny.bin -m logits --device ref --input-ids -i $out/requests -o $out/a.f32 &&
        exec_ $out/fp32.bin -m logits --device ref --input-ids -i $out/requests -o $out/b.f32 && cmp $out/a.f32 $out/b.f32
}
check "the MXFP4 folder and the fp32 .bin of one seed give the same bits" bin_same

# --- batch, chunks, wave order ---
for precision in strict fast; do
    compile graphs/toy.lua --model $out/tiny --precision $precision --max-batch 64 --max-tokens 64 -o $out/batch.bin || continue
    lines=8
    [ $precision = strict ] && [ -z "${TEST_ALL:-}" ] && lines=4 # strict is fp64 on an emulator
    variant() { exec_ $out/batch.bin -m getp --device emu -t $lines -n 40 -o $out/getp."$1" "${@:2}" && exec_ $out/batch.bin -m logits --device emu -t $lines -o $out/logits."$1" "${@:2}"; }
    variant want -b 64
    n=0
    for options in "-b 1" "-b 3 --prefill-chunk 16" "-b 8 --prefill-chunk 5 --seed-schedule 7" "-b 64 --threads 1"; do # each way of each once
        n=$((n + 1))
        # shellcheck disable=SC2086
        same() { variant got $options && cmp $out/getp.want $out/getp.got && cmp $out/logits.want $out/logits.got; }
        check "$precision: same tokens and logits with $options" same
    done
    [ $precision = strict ] && check "strict: getp on emu equals getp_cpu" eval "exec_ $out/batch.bin -m getp_cpu -t 4 -n 40 -o $out/cpu && cut -d' ' -f1-64 $out/getp.want | head -4 >$out/getp.four && cmp $out/cpu $out/getp.four"
    check "$precision: parity of emu and ref" exec_ $out/batch.bin -m parity --device emu
done
fusions() { # every choice of rules computes the same
    for off in all mlp1_swiglu topk_softmax rmsnorm_qkv elementwise; do
        compile graphs/toy.lua --model $out/tiny --precision strict --max-batch 8 --max-tokens 64 --no-fusion $off -o $out/off.bin || return 1
        exec_ $out/off.bin -m getp --device emu -t 2 -n 40 -o $out/off.txt || return 1
        head -2 $out/cpu | cmp $out/off.txt - || { echo "with --no-fusion $off"; return 1; }
    done
}
check "strict: same tokens with any rule off" fusions

# --- changed graphs ---
# What a person experimenting would edit: a number of graphs/toy.lua, an op of graphs/gpt_oss.lua.
changed_graph() { # name, file, sed script
    local dir=$out/graphs-$1
    cp -rL graphs "$dir" && sed -i "$3" "$dir/$2"
    cmp -s "$dir/$2" "graphs/$2" && echo "FAIL changed graph $1: the edit does not apply"
    changed() {
        compile "$dir/toy.lua" --precision strict --max-batch 8 --max-tokens 64 -o $out/changed.bin || { cat $out/compile.err; return 1; }
        exec_ $out/changed.bin -m getp --device emu -w $out/tiny -t 3 -n 32 -o $out/changed.emu && exec_ $out/changed.bin -m getp_cpu -w $out/tiny -t 3 -n 32 -o $out/changed.cpu && cmp $out/changed.emu $out/changed.cpu || return 1
        exec_ $out/tiny.bin -m getp_cpu -t 3 -n 32 -o $out/unchanged || return 1
        if cmp -s $out/unchanged $out/changed.cpu; then echo "the change changes nothing"; return 1; fi
    }
    check "changed graph: $1" changed
}
changed_graph layers toy.lua 's/layers = 4/layers = 3/'
changed_graph window toy.lua 's/window = 16/window = 5/'
changed_graph topk toy.lua 's/topk = 2/topk = 3/'
changed_graph scaled gpt_oss.lua 's/return name(x + o, "out")/return name(x + o * 0.5, "out")/'
changed_graph moved gpt_oss.lua 's/local best, ids = topk(r, /local best, ids = topk(softmax(r), /'
changed_graph no-rope-on-keys gpt_oss.lua '/k = rope(k/d'

# --- flipped ---
check "flipped instruction bytes change the tokens or are reported" out/tests/flip_tool $out/tiny.bin $out/flipped.bin $out/tiny data/input.txt

# --- two layers of the 20b ---
if [ "$(df --output=avail -k $out | tail -1)" -lt 8000000 ]; then
    echo "skip 20b: under 8 GB of disk"
else
    two() { # precision, vocabulary, experts
        cat >$out/20b.json <<JSON
{"architectures": ["GptOssForCausalLM"], "vocab_size": $2, "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 2,
 "num_local_experts": $3, "num_experts_per_tok": 4, "head_dim": 64, "num_attention_heads": 64, "num_key_value_heads": 8,
 "sliding_window": 128, "max_position_embeddings": 131072, "initial_context_length": 4096, "quantization_config": {"quant_method": "mxfp4"}}
JSON
        printf '1\n17 4711 %d\n' $(($2 - 1)) >$out/20b.ids
        out/gptoss-mkmodel $out/20b.json $out/20b >/dev/null 2>$out/exec.err || { tail -1 $out/exec.err; return 1; }
        compile graphs/gpt-oss-20b.lua --model $out/20b --precision "$1" --max-batch 2 --max-tokens 16 -o $out/20b.bin || return 1
        exec_ $out/20b.bin -m getp --device emu --input-ids -i $out/20b.ids -n 4 -o $out/20b.emu && exec_ $out/20b.bin -m getp_cpu --input-ids -i $out/20b.ids -n 4 -o $out/20b.cpu && cmp $out/20b.emu $out/20b.cpu
    }
    # All words are 2.3 GB more; the kernels' own tests have them.
    words=16000
    [ -n "${TEST_ALL:-}" ] && words=201088
    check "two layers of the 20b, strict: emu and ref decode the same" two strict $words 32
    rm -rf $out/20b
    # fast repacks every weight in the emulator, a second for 10 MB: one expert more than a token takes
    check "two layers of the 20b, fast, with fewer experts and words: emu and ref decode the same" two fast 4800 5
    rm -rf $out/20b
fi
