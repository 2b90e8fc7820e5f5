#!/bin/bash
# Put what bench/h200_check.sh or bench/gpus_check.sh needs on a machine without Lua, jansson or zstd into .carry/: programs, the shared
# libraries that they need, plans for sm_90 (NVRTC compiles them here), configurations, requests. Under 60 MB, and 20. There the plans are
# of another machine's compiler: GPTOSS_TRUST_CODE=1 runs their code as it is (SECURITY.md).
#   bench/pack.sh && (carry .carry to the GPU machine) && .carry/h200_check.sh
#   bench/pack.sh gpus && (carry .carry to the machine of several GPUs) && .carry/gpus_check.sh
set -eu
cd "$(dirname "$0")/.."
what=${1:-one}
make -s all
rm -rf .carry && mkdir -p .carry/bin .carry/lib .carry/plans .carry/models
git rev-parse --short HEAD >.carry/commit
for p in gptoss-exec gptoss-lab gptoss-mkmodel gptoss-check gptoss-tok; do
    [ $what = gpus ] && [ $p != gptoss-exec ] && [ $p != gptoss-mkmodel ] && continue
    strip -o .carry/bin/$p out/$p
    ldd out/$p | awk '/jansson|zstd|xxhash|pcre2|libedit|libbsd|libmd|tinfo/ {print $3}' | xargs -r -I{} cp -L {} .carry/lib/
done

compile() { # name, arguments of gptoss-compile
    local name=$1
    shift
    out/gptoss-compile "$@" --arch sm_90 -o .carry/plans/"$name".bin
}
# vocab hidden inter layers experts topk head_dim heads kv_heads window experts' type, as in tests/kernel/run.sh
numbers() {
    case $1 in
        odd)    echo 301  96 160 2 5  3  48 3  1 20  mxfp4 ;;
        wide)   echo 513  64  32 2 8  8 128 2  2 64  bf16 ;;
        mqa)    echo 400  32  96 2 3  1  16 40 2 5   f32 ;;
        d80)    echo 999 160  64 2 6  5  80 6  3 128 mxfp4 ;;
        sparse) echo 301  96 160 2 40 1  48 3  1 20  mxfp4 ;;
        d64)    echo 301  96 160 2 5  3  64 32 2 100 mxfp4 ;;
    esac
}
shape() { # NAME: its configuration, and a checkpoint for the compiler
    local v
    read -ra v < <(numbers "$1")
    cat >.carry/models/"$1".json <<JSON
{"architectures": ["GptOssForCausalLM"], "vocab_size": ${v[0]}, "hidden_size": ${v[1]}, "intermediate_size": ${v[2]}, "num_hidden_layers": ${v[3]},
 "num_local_experts": ${v[4]}, "num_experts_per_tok": ${v[5]}, "head_dim": ${v[6]}, "num_attention_heads": ${v[7]}, "num_key_value_heads": ${v[8]},
 "sliding_window": ${v[9]}, "max_position_embeddings": 512}
JSON
    out/gptoss-mkmodel .carry/models/"$1".json out/pack-model --dtype "${v[10]}" >/dev/null 2>&1
}
big() { # NAME LAYERS EXPERTS
    cat >.carry/models/"$1".json <<JSON
{"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880,
 "num_hidden_layers": $2, "num_local_experts": $3, "num_experts_per_tok": 4, "head_dim": 64, "num_attention_heads": 64,
 "num_key_value_heads": 8, "sliding_window": 128, "max_position_embeddings": 131072, "initial_context_length": 4096,
 "rope_theta": 150000, "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false,
 "original_max_position_embeddings": 4096}, "swiglu_limit": 7.0, "rms_norm_eps": 1e-5, "quantization_config": {"quant_method": "mxfp4"}}
JSON
}
cp -r models/tiny .carry/models/trained
big 20b 24 32
# The numbers of several GPUs: groups of two beside each of one.
if [ $what = gpus ]; then
    make -s out/tests/killcuda/libcuda.so.1
    mkdir .carry/kill && cp out/tests/killcuda/libcuda.so.1 tests/gpus/kill_cuda.c .carry/kill/
    big 120b 36 128
    for ep in 1 2; do
        compile trained-$ep graphs/tiny.lua --model models/tiny --ep $ep
        for name in odd wide sparse; do
            shape $name
            compile $name-$ep graphs/gpt_oss.lua --model out/pack-model --max-batch 70 --max-tokens 700 --ep $ep
        done
        for name in 20b 120b; do compile $name-$ep graphs/gpt-oss-$name.lua --max-batch 256 --max-tokens 2048 --ep $ep; done
    done
    cp bench/gpus_check.sh .carry/
    du -sh .carry
    exit
fi
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
compile 20b-many graphs/gpt-oss-20b.lua --max-batch 1024 --max-tokens 4096
compile kv16 graphs/toy.lua --precision strict --kv16
compile kv32 graphs/toy.lua --precision fast --kv32
cp tests/models/tiny.json .carry/models/
for name in odd wide mqa d80 sparse d64; do
    shape $name
    for precision in strict fast; do
        compile "$name-$precision" graphs/gpt_oss.lua --model out/pack-model --precision $precision --max-batch 70 --max-tokens 700
    done
done

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
write('many.in', 199000, [r.randrange(4, 30) for _ in range(256)])
PY
if [ -f ../shared/data/getp-input.txt ] && [ -f ../shared/data/o200k_base.tiktoken ]; then # real prompts, where they are at hand
    { echo 256; sed -n 2,257p ../shared/data/getp-input.txt | out/gptoss-tok encode -z ../shared/data/o200k_base.tiktoken; } >.carry/many.in
fi
cp bench/h200_check.sh .carry/ # so that .carry is all that has to travel
du -sh .carry
