#!/bin/bash
# Put what bench/h200_check.sh needs on a machine without Lua, jansson or zstd into .carry/: programs, the shared libraries that
# they need, plans for sm_90 (NVRTC compiles them here), configurations, requests. Under 60 MB. There the plans are of another
# machine's compiler: GPTOSS_TRUST_CODE=1 runs their code as it is (SECURITY.md).
#   bench/pack.sh && (carry .carry to the GPU machine) && bench/h200_check.sh
set -eu
cd "$(dirname "$0")/.."
make -s all
rm -rf .carry && mkdir -p .carry/bin .carry/lib .carry/plans .carry/models
for p in gptoss-exec gptoss-lab gptoss-mkmodel gptoss-check gptoss-tok; do
    strip -o .carry/bin/$p out/$p
    ldd out/$p | awk '/jansson|zstd|xxhash|pcre2|libedit|libbsd|libmd|tinfo/ {print $3}' | xargs -r -I{} cp -L {} .carry/lib/
done

compile() { # name, arguments of gptoss-compile
    local name=$1
    shift
    out/gptoss-compile "$@" --arch sm_90 -o .carry/plans/"$name".bin
}
for precision in strict fast; do
    compile tiny-$precision graphs/toy.lua --precision $precision
    compile unfused-$precision graphs/toy.lua --precision $precision --no-fusion all
    compile mlp2-$precision graphs/toy.lua --precision $precision --no-fusion mlp1_swiglu
    compile trained-$precision graphs/tiny.lua --model models/tiny --precision $precision
    compile 20b-$precision graphs/gpt-oss-20b.lua --precision $precision --max-batch 256 --max-tokens 2048
done
for precision in strict fast; do # the CPU's kernels; that machine's CPU may have what this one has not (AMX)
    out/gptoss-compile graphs/toy.lua --arch host --precision $precision -o .carry/plans/host-$precision.bin
    out/gptoss-compile graphs/gpt-oss-20b.lua --arch host --precision $precision --max-seq 8192 --max-batch 16 -o .carry/plans/20b-host-$precision.bin
done
compile kv16 graphs/toy.lua --precision strict --kv16
compile kv32 graphs/toy.lua --precision fast --kv32
cp tests/models/tiny.json .carry/models/
cp -r models/tiny .carry/models/trained

# vocab hidden inter layers experts topk head_dim heads kv_heads window experts' type, as in tests/kernel/run.sh
shape() {
    local name=$1
    cat >.carry/models/"$name".json <<JSON
{"architectures": ["GptOssForCausalLM"], "vocab_size": $2, "hidden_size": $3, "intermediate_size": $4, "num_hidden_layers": $5,
 "num_local_experts": $6, "num_experts_per_tok": $7, "head_dim": $8, "num_attention_heads": $9, "num_key_value_heads": ${10},
 "sliding_window": ${11}, "max_position_embeddings": 512}
JSON
    out/gptoss-mkmodel .carry/models/"$name".json out/pack-model --dtype "${12}" >/dev/null 2>&1
    for precision in strict fast; do
        compile "$name-$precision" graphs/gpt_oss.lua --model out/pack-model --precision $precision --max-batch 70 --max-tokens 700
    done
}
shape odd        301     96   160      2 5  3  48   3   1   20  mxfp4
shape wide       513     64    32      2 8  8  128  2   2   64  bf16
shape mqa        400     32    96      2 3  1  16  40   2    5  f32
shape d80        999    160    64      2 6  5  80   6   3  128  mxfp4
shape sparse     301     96   160      2 40 1  48   3   1   20  mxfp4

cat >.carry/models/20b.json <<'JSON'
{"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880,
 "num_hidden_layers": 24, "num_local_experts": 32, "num_experts_per_tok": 4, "head_dim": 64, "num_attention_heads": 64,
 "num_key_value_heads": 8, "sliding_window": 128, "max_position_embeddings": 131072, "initial_context_length": 4096,
 "rope_theta": 150000, "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false,
 "original_max_position_embeddings": 4096}, "swiglu_limit": 7.0, "rms_norm_eps": 1e-5, "quantization_config": {"quant_method": "mxfp4"}}
JSON
python3 - <<'PY'
import random
r = random.Random(7)
def write(name, vocab, lengths):
    with open('.carry/' + name, 'w') as f:
        f.write('%d\n' % len(lengths))
        for n in lengths: f.write(' '.join(str(r.randrange(vocab)) for _ in range(n)) + '\n')
write('tiny.in', 500, [1, 3, 17, 70, 130, 5, 100, 64, 65, 2] + [r.randrange(1, 90) for _ in range(70)])
write('20b-long.in', 199000, [600])
write('20b.in', 199000, [1, 7, 33, 64, 65, 200, 12, 90] + [r.randrange(4, 60) for _ in range(56)])
PY
cp bench/h200_check.sh .carry/ # so that .carry is all that has to travel
git rev-parse --short HEAD >.carry/commit
du -sh .carry
