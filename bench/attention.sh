#!/bin/bash
# Decode attention of the 20b's shape on a GPU: its kernels alone, behind 512 … 128k tokens, beside the limits measured in the same run.
#   bench/attention.sh ARCH MODEL_DIR [options of gptoss-exec]     a random checkpoint does (gptoss-mkmodel)
# 64 requests stop at 32k: the 12 full layers' KV is 24 KiB a token, 51 GB then.
set -eu
cd "$(dirname "$0")/.."
arch=$1 model=$2
shift 2
plan=$(mktemp) && trap 'rm -f "$plan"' EXIT
out/gptoss-compile graphs/gpt-oss-20b.lua --model "$model" --arch "$arch" --max-batch 64 --max-tokens 512 -o "$plan"
for sizes in "--batches 1 --depth 512,4096,32768,130000" "--batches 8,64 --depth 512,4096,32768"; do
    echo "$sizes"
    # shellcheck disable=SC2086
    out/gptoss-exec "$plan" -m bench --kernels --tg 1 $sizes "$@" | grep -E '^(read limit|matrix limit|limits|test)|attention'
done
