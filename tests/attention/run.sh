#!/bin/bash
# Attention over several chunks (templates/attention.pages.hip) on emu: contexts over 512 and 1024 keys, a full layer and one whose window
# spans chunks. The same bits whatever the number of tokens a step, which sets how many blocks share a token, and whichever units the
# blocks take; and what ref computes.
set -u
out=out/tests/attention
rm -rf $out && mkdir -p $out

check() { # name, command…
    local name=$1
    shift
    if "$@" >$out/log 2>&1; then echo "ok $name"; else echo "FAIL $name: $(grep -v '^$' $out/log | tail -1)"; fi
}
cat >$out/model.json <<'JSON'
{"architectures": ["GptOssForCausalLM"], "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
 "num_local_experts": 2, "num_experts_per_tok": 2, "head_dim": 16, "num_attention_heads": 2, "num_key_value_heads": 1,
 "sliding_window": 600, "max_position_embeddings": 1152, "initial_context_length": 64}
JSON
out/gptoss-mkmodel $out/model.json $out/model --dtype bf16 --seed 5 >/dev/null 2>$out/log || echo "FAIL mkmodel: $(tail -1 $out/log)"
prompts() { # lengths…
    python3 -c '
import random, sys
random.seed(7)
print(len(sys.argv) - 1, *(" ".join(str(random.randrange(60)) for _ in range(int(n))) for n in sys.argv[1:]), sep="\n")' "$@"
}
prompts 1090 9 530 >$out/ids
prompts 1035 1030 >$out/two

compile() { out/gptoss-compile graphs/gpt_oss.lua --model $out/model --arch gfx90a --max-batch 4 --max-tokens 512 "$@"; }
run() { out/gptoss-exec $out/"$1".bin -m logits --device emu --input-ids -i $out/ids -o $out/"$2" "${@:3}"; }
first() { compile -o $out/plan.bin && run plan want; }
check "long contexts run" first
same() { # plan, what it must equal, options of run
    run "$1" got "${@:3}" && cmp $out/"$2" $out/got
}
check "same logits by 60 tokens a step, waves in another order" same plan want --prefill-chunk 60 --seed-schedule 3
generate() { out/gptoss-exec $out/plan.bin -m getp --device emu --input-ids -i $out/two -n 1044 -o $out/"$1" "${@:2}"; }
same_tokens() { generate tokens && generate alone -b 1 && cmp $out/tokens $out/alone; }
check "same tokens one request at a time" same_tokens
as_ref() { # file of logits, each row of which is judged; the worst was 7.8e-5 (2026-11-29)
    [ -s $out/ref ] || out/gptoss-exec $out/plan.bin -m logits --device ref --input-ids -i $out/ids -o $out/ref || return 1
    out/gptoss-check $out/"$1" $out/ref --rows 64 | awk -F'nmse |,' '$2 > 3e-4 {print; bad = 1} /nmse/ {n++} END {exit bad || n < 1629}'
}
check "logits as ref has them" as_ref want

# Edited templates. With chunks of 128 keys, spans are of 512; then spans as units from the second chunk on, and one block a token.
edited() { # name, sed scripts
    local name=$1 script
    shift
    mkdir -p $out/templates && cp templates/attention.pages.hip $out/templates/
    for script; do
        cp $out/templates/attention.pages.hip $out/unedited
        sed -i "$script" $out/templates/attention.pages.hip
        if cmp -s $out/unedited $out/templates/attention.pages.hip; then echo "$script does not apply"; return 1; fi
    done
    compile --templates $out/templates -o $out/"$name".bin
}
small='s/<= 512 ? M : 8/<= 512 ? M : 2/'
smaller() { edited small "$small" && run small small --prefill-chunk 60 && ! cmp -s $out/want $out/small; }
check "smaller chunks are another order" smaller
check "and as ref has it, too" as_ref small
units() { edited "$1" "$small" "$2" && same "$1" small --prefill-chunk 60; }
check "same logits with spans as units" units spans 's/FINE = 64/FINE = 1/'
check "same logits with one block a token" units one 's/min(UNITS, 256/min(1, 256/'
several() { edited several 's/const  TOKENS = .*/const  TOKENS = 2/' && same several want; }
check "same logits with two tiles of tokens a block" several
one_token() { edited one_token 's/const  SIDE = .*/const  SIDE = 1/' && same one_token want; }
check "same logits with one token a tile" one_token
