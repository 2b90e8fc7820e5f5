#!/bin/bash
# --arch sm_90: NVRTC compiles every template here; where there is a GPU, each kernel runs on it against its reference. What was
# measured and compared on an H200 is in bench/h200.md.
set -u
cd "$(dirname "$0")/../.." || exit 2
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT
ok() { echo "ok $1"; }
fail() { echo "FAIL $1: $2"; }

# --- how kernels are launched, on a driver that runs none (fake/fakecuda.c)
fake=$PWD/out/tests/fakecuda
launches() { # NAME WANTED [VARIABLE=VALUE]…: the log of a getp run
    local name=$1 want=$2
    shift 2
    env "$@" LD_LIBRARY_PATH="$fake" FAKECUDA_LOG="$tmp/log" out/gptoss-exec "$tmp/hand.bin" --trust-code -w "$tmp/model" --device cuda -m getp --input-ids -i "$tmp/in" -o "$tmp/ids" -n 40 2>"$tmp/err" || { fail "$name" "$(tail -1 "$tmp/err")"; return; }
    if grep -qE "$want" <<<"$(tr '\n' ' ' <"$tmp/log")"; then ok "$name"; else fail "$name" "$(tr '\n' ' ' <"$tmp/log")"; fi
}
if [ -f "$fake/libcuda.so.1" ]; then
    out/tests/handmade_tool "$tmp/hand.bin" --cuda && out/gptoss-mkmodel tests/models/tiny.json "$tmp/model" --seed 3 2>/dev/null
    printf '2\n1 2 3\n%s\n' "$(seq -s' ' 1 30)" >"$tmp/in"
    launches overlap_in_graphs '^plain [1-9][0-9]* early ([1-9][0-9]*) early_in_graph \1 replays [1-9][0-9]* shared 60000 wrong 0'
    launches overlap_off '^plain [1-9][0-9]* early 0 .* wrong 0' GPTOSS_PDL=0
    launches overlap_old_driver '^plain [1-9][0-9]* early 0 .* wrong 0' FAKECUDA_VERSION=12020
    launches overlap_not_one_by_one '^plain [1-9][0-9]* early 0 early_in_graph 0 replays 0 ' GPTOSS_SYNC_LAUNCHES=1
else echo "skip launches: no cuda.h (nvidia-cuda-dev), so no fake CUDA driver"
fi

compile() { # NAME, arguments
    local name=$1
    shift
    out/gptoss-compile "$@" --arch sm_90 -o "$tmp/$name.bin" --report json >"$tmp/$name.json" 2>"$tmp/$name.err"
}
# Kernels that spill, or use local memory. Under 64 bytes: what calls of a division's or square root's slow path save, and what
# attention.pages, which has all 255 registers for four tokens, has to spill of what it has folded.
spilling() {
    jq -r '.kernels[] | select(.scratch >= 64 or (.vgpr_spills > 0 and .template != "attention.pages.hip")) | "\(.symbol) (\(.scratch) bytes)"' "$1" | paste -sd' '
}
compile toy-strict graphs/toy.lua --precision strict
grep -q 'no NVRTC found' "$tmp/toy-strict.err" && { echo "skip cuda: no NVRTC"; exit 0; }
here=$(out/gptoss-exec --list-devices | sed -n 's/^cuda .*: \([0-9]*\) here$/\1/p')

for p in strict fast; do
    for what in "toy" "toy --no-fusion all" "toy --no-fusion mlp1_swiglu" "gpt-oss-20b" "gpt-oss-120b"; do
        set -- $what
        name=$1${3:+-no-$3}-$p
        [ $name$here${TEST_ALL:-} = gpt-oss-120b-strict0 ] && continue # its kernels differ from the 20b's in a number
        if ! compile "$name" graphs/"$1".lua --precision $p "${@:2}"; then fail "$name" "$(tail -1 "$tmp/$name.err")"
        elif [ "$(spilling "$tmp/$name.json")" != "" ]; then fail "$name" "spills or uses local memory: $(spilling "$tmp/$name.json")"
        elif grep -q '"vgprs": 0' "$tmp/$name.json"; then fail "$name" "a kernel without statistics"
        else ok "$name"; fi
        if [ "$here" = 0 ]; then continue; fi
        out/gptoss-exec "$tmp/$name.bin" --self-test 2>&1 | sed "s/^\(ok\|FAIL\) /\1 $name /"
    done
done
[ "$here" = 0 ] && echo "skip self-tests: no NVIDIA GPU here"

# Products of many tokens, with rows and tokens that fill no tile, a length that fills no unit, experts without a token.
cat >"$tmp/odd.json" <<'JSON'
{"architectures": ["GptOssForCausalLM"], "vocab_size": 301, "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 2,
 "num_local_experts": 40, "num_experts_per_tok": 1, "head_dim": 48, "num_attention_heads": 3, "num_key_value_heads": 1,
 "sliding_window": 20, "max_position_embeddings": 512}
JSON
for dtype in mxfp4 bf16; do
    out/gptoss-mkmodel "$tmp/odd.json" "$tmp/odd-$dtype" --dtype $dtype >"$tmp/err" 2>&1 || fail odd-$dtype "$(tail -1 "$tmp/err")"
    name=odd-$dtype-fast
    if ! compile $name graphs/gpt_oss.lua --model "$tmp/odd-$dtype" --max-batch 70 --max-tokens 700; then fail $name "$(tail -1 "$tmp/$name.err")"; continue; fi
    for t in linear.wgmma linear.wgmma64 linear.wgmma256 expert_linear.wgmma expert_linear.wgmma64; do
        kernels=$(awk -v RS='}' -v t="\"template\": \"$t.hip\"" 'index($0, t)' "$tmp/$name.json")
        if [ -n "$kernels" ] && ! grep -qE '"vgpr_spills": [1-9]' <<<"$kernels"; then ok "$name $t"; else fail "$name $t" "${kernels:-no kernel of it}"; fi
    done
    [ "$here" = 0 ] || out/gptoss-exec "$tmp/$name.bin" --self-test 2>&1 | sed "s/^\(ok\|FAIL\) /\1 $name /"
done

# Attention of many tokens: heads of 64, 8 to a kv head; else, and for few tokens, another template.
sed 's/"head_dim": 48, "num_attention_heads": 3/"head_dim": 64, "num_attention_heads": 16/; s/"num_key_value_heads": 1/"num_key_value_heads": 2/' "$tmp/odd.json" >"$tmp/d64.json"
out/gptoss-mkmodel "$tmp/d64.json" "$tmp/d64" --dtype bf16 >"$tmp/err" 2>&1 || fail d64 "$(tail -1 "$tmp/err")"
for tokens in 700 256; do
    compile d64-$tokens graphs/gpt_oss.lua --model "$tmp/d64" --max-batch 70 --max-tokens $tokens || fail d64-$tokens "$(tail -1 "$tmp/d64-$tokens.err")"
    [ "$here" = 0 ] || out/gptoss-exec "$tmp/d64-$tokens.bin" --self-test --only attention 2>&1 | sed "s/^\(ok\|FAIL\) /\1 d64-$tokens /"
done
got=$(jq -r '.kernels[] | select(.template == "attention.wgmma.hip") | .vgpr_spills' "$tmp/d64-700.json" | paste -sd' ')
[ "$got" = '0 0' ] && ok attention_wgmma || fail attention_wgmma "spills of its two kernels: $got"
grep -q '"attention.wgmma.hip"' "$tmp/d64-256.json" "$tmp/odd-bf16-fast.json" && fail attention_other "of few tokens, or heads of 48" || ok attention_other

# An error names the template's file and line.
mkdir "$tmp/templates" && sed 's/^    const int wave = threadIdx.x/    const int wave = oops/' templates/linear.stream.hip >"$tmp/templates/linear.stream.hip"
line=$(grep -n oops "$tmp/templates/linear.stream.hip" | cut -d: -f1)
compile broken graphs/toy.lua --templates "$tmp/templates"
grep -q "linear.stream.hip($line): error: identifier \"oops\" is undefined" "$tmp/broken.err" && ok error_names_line || fail error_names_line "$(head -3 "$tmp/broken.err")"

# wgmma whose results are used before they are waited for: ptxas makes such code right, and slow.
mkdir "$tmp/wgmma" && { sed '/^\/\/!/!d; /^\/\/! body/d' templates/linear.wgmma64.hip && cat <<'HIP'
DEVICE void run(const Args &a) {
    const AFragment one = {{threadIdx.x, threadIdx.x, threadIdx.x, threadIdx.x}};
    float d[4] = {};
    wgmma_fence();
    for (int i = 0; i < row_count(a); i++) {
        Wgmma<8>::multiply(d, one, i);
        wgmma_commit();
        d[0] += 1;
    }
    wgmma_wait<0>();
    const Behind::Token token = Behind{a}.token(0);
    Behind{a}.give(token, 0, 0, d, Behind{a}.ask(token, 0, 0));
}
HIP
} >"$tmp/wgmma/linear.wgmma64.hip"
compile serialised graphs/toy.lua --templates "$tmp/wgmma" && fail serialised_wgmma "it compiled"
grep -q 'linear.wgmma64.hip: ptxas serialises wgmma: (C75' "$tmp/serialised.err" && ok serialised_wgmma || fail serialised_wgmma "$(head -3 "$tmp/serialised.err")"

# Without a GPU, and on the wrong device.
if [ "$here" = 0 ]; then
    out/gptoss-exec "$tmp/toy-strict.bin" --self-test 2>"$tmp/err" && fail no_gpu "it ran"
    grep -q 'no device here runs a plan for sm_90 (device cuda: ' "$tmp/err" && ok no_gpu || fail no_gpu "$(cat "$tmp/err")"
fi
out/gptoss-exec "$tmp/toy-strict.bin" --self-test --device emu 2>"$tmp/err" && fail wrong_device "it ran"
grep -q 'device emu runs gfx90a code; this plan is for sm_90' "$tmp/err" && ok wrong_device || fail wrong_device "$(cat "$tmp/err")"
