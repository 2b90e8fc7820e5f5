#!/bin/bash
# Every template x many legal specialisations on emu, each kernel on random inputs against its node's reference (--self-test);
# then every distinct kernel of the 20b's and 120b's plans at their real shapes, a sample of each launch's blocks.
# Ends with a test that no template was left out.
set -u
out=out/tests/kernel
rm -rf $out && mkdir -p $out
used=$out/templates

# name, self-test options…: runs out/NAME.bin and prints a line per kernel and T.
selftest() {
    local name=$1
    shift
    out/gptoss-exec $out/"$name".bin --self-test --device emu "$@" 2>$out/"$name".err | sed "s/^\(ok\|FAIL\) /\1 $name: /"
    local code=${PIPESTATUS[0]}
    [ "$code" = 0 ] || grep -q 'checks failed' $out/"$name".err || echo "FAIL $name: $(tail -1 $out/"$name".err)"
}
compile() { # name, arguments of gptoss-compile
    local name=$1
    shift
    if ! out/gptoss-compile "$@" --arch gfx90a -o $out/"$name".bin --report json >$out/"$name".json 2>$out/"$name".err; then
        echo "FAIL $name: $(tail -1 $out/"$name".err)"
        return 1
    fi
    sed -n 's/.*"template": "\([^"]*\)".*/\1/p' $out/"$name".json >>$used
    if grep -qE '"(scratch|vgpr_spills|sgpr_spills)": [1-9]' $out/"$name".json; then echo "FAIL $name: a kernel spills or uses scratch"; fi
}

# fp64 on an emulator is slow: 64 tokens at most there.
for precision in strict fast; do
    most=512
    [ $precision = strict ] && most=64
    compile tiny-$precision graphs/toy.lua --precision $precision --max-tokens $most && selftest tiny-$precision
    compile unfused-$precision graphs/toy.lua --precision $precision --max-tokens $most --no-fusion all && selftest unfused-$precision
    compile mlp2-$precision graphs/toy.lua --precision $precision --max-tokens $most --no-fusion mlp1_swiglu && selftest mlp2-$precision
    compile topk-$precision graphs/toy.lua --precision $precision --max-tokens $most --no-fusion router && selftest topk-$precision --only topk_softmax
    compile ep-$precision graphs/toy.lua --precision $precision --max-tokens 64 --ep 3 && for part in own fetch group; do selftest ep-$precision --only $part; done
done
selftest ep-fast --only expert_linear # pairs of other devices' experts among them
compile kv16 graphs/toy.lua --precision strict --max-tokens 64 --kv16 && selftest kv16 --only attention
compile kv32 graphs/toy.lua --precision fast --kv32 && selftest kv32 --only attention
compile most graphs/toy.lua --max-tokens 8192 --max-batch 1024 && selftest most --sample 64

# A value made of weights alone.
cp -rL graphs $out/graphs && sed -i 's/param("sinks", f32, { c.heads })/param("sinks", f32, { c.heads }) * 2.0/' $out/graphs/gpt_oss.lua
compile row $out/graphs/toy.lua && selftest row --only scale_N4

# A node that gives out what feeds its core.
cat >$out/exported.lua <<'LUA'
return fusion {
  name = "exported",
  match = function(x, g, w, b)
    local n = rmsnorm(x, g)
    return linear(n, w, b), n
  end,
  kernel = "linear",
}
LUA
for precision in strict fast; do
    compile exported-$precision graphs/toy.lua --precision $precision --max-tokens 64 --no-fusion qkv_rope_kv --no-fusion rmsnorm_qkv --no-fusion router \
        --fusions $out/exported.lua && selftest exported-$precision --only linear_K
done

# Shapes: vocab hidden inter layers experts topk head_dim heads kv_heads window experts' type
shape() {
    local name=$1 dtype=${12}
    cat >$out/"$name".json <<JSON
{"architectures": ["GptOssForCausalLM"], "vocab_size": $2, "hidden_size": $3, "intermediate_size": $4, "num_hidden_layers": $5,
 "num_local_experts": $6, "num_experts_per_tok": $7, "head_dim": $8, "num_attention_heads": $9, "num_key_value_heads": ${10},
 "sliding_window": ${11}, "max_position_embeddings": 1536}
JSON
    if ! out/gptoss-mkmodel $out/"$name".json $out/"$name".model --dtype "$dtype" >/dev/null 2>$out/"$name".err; then
        echo "FAIL $name: $(tail -1 $out/"$name".err)"
        return
    fi
    for precision in strict fast; do
        compile "$name-$precision" graphs/gpt_oss.lua --model $out/"$name".model --precision $precision --max-batch 5 --max-tokens 48 && selftest "$name-$precision"
    done
}
#     name     vocab hidden inter layers E  k  D   NH NKV window type
shape odd        301     96   160      2 5  3  48   3   1   20  mxfp4
shape wide       513     64    32      2 8  8  128  2   2   64  bf16
shape mqa        400     32    96      2 3  1  16  40   2    5  f32
shape d80        999    160    64      2 6  5  80   6   3  128  mxfp4
shape k1         300     32    32      2 9  1  32   4   1   33  mxfp4 # blocks of one wave
[ -n "${TEST_ALL:-}" ] && {
    for d in 16 32 64 96 112; do shape d$d 257 64 64 2 4 2 $d 4 2 16 bf16; done
    for k in 2 3 4 5 6 7 8; do shape k$k 300 32 32 2 9 $k 32 4 1 33 mxfp4; done
}

# The kernels of the 120b, and those of the 20b in strict, are tried where their text is not one of the 20b's.
for model in 20b 120b; do compile $model graphs/gpt-oss-$model.lua --emit $out/$model; done
compile 20b-strict graphs/gpt-oss-20b.lua --precision strict --emit $out/20b-strict
text_of() { awk -v line="\"$2\"" 'FNR == 1 {on = 0} /^#line 1 /{on = $3 == line} on' $out/"$1"/*.hip; }
selftest 20b --sample 64
for other in 120b 20b-strict; do
    tried=none
    sed -n 's/.*"symbol": "\([^"]*\)".*/\1/p' $out/$other.json | sort | while read -r symbol; do
        [[ $symbol == *$tried* ]] && continue # --only tried it too
        text_of $other "$symbol" >$out/text
        [ -s $out/text ] || echo "FAIL $other: no text of $symbol"
        text_of 20b "$symbol" | cmp -s - $out/text && continue
        tried=$symbol
        selftest $other --sample 64 --only "$symbol"
    done
done

# Those of another arch are tests/cuda's.
missing=$(comm -13 <(sort -u $used) <(cd templates && grep -LE '^//! arch +[^g ]' ./*.hip | sed 's|^\./||' | sort))
if [ -z "$missing" ]; then echo "ok every template is tested"; else echo "FAIL templates without a test: $(echo $missing)"; fi
