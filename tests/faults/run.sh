#!/bin/bash
# Every failure in turn, of some: make faults has all (docs/security.md says what they were). Each call of a class (memory, map, open, read,
# write, sync, name, fork, thread) and of the device fails once, in compile and getp.
#   tests/faults/run.sh [EVERY|stacks [SCENARIO | SCENARIO-CLASS…]]    classes also: full (a disk that stays full), part, device
cd "$(dirname "$0")/../.." || exit 2
tmp=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
trap 'rm -rf "$tmp"' EXIT
unset GPTOSS_MODEL GPTOSS_GPUS; for v in $(env | grep -o '^SLURM_[A-Z_]*'); do unset "$v"; done
out/gptoss-mkmodel tests/models/least.json "$tmp/model" --seed 3 >/dev/null 2>&1
# With the shim, for with it the compiler counts as another.
for arch in host gfx90a; do
    LD_PRELOAD=$PWD/out/tests/faults/shim.so GPTOSS_CACHE=$tmp/cache out/gptoss-compile graphs/gpt_oss.lua --model "$tmp/model" --arch $arch --max-batch 8 --max-tokens 32 -o "$tmp/$arch.bin" 2>"$tmp/err" || { echo "FAIL setup: $(tail -1 "$tmp/err")"; exit 1; }
    [ $arch = host ] && ls "$tmp/cache" >"$tmp/host.list"
done
GPTOSS_CACHE=$tmp/cache out/gptoss-exec "$tmp/gfx90a.bin" -w "$tmp/model" --self-test --device emu --only rows >/dev/null 2>"$tmp/err" || { echo "FAIL setup: $(tail -1 "$tmp/err")"; exit 1; }
printf '9\n7\n1 2 3\n9 8\n\n11 150 3 4\n8 8\n5 4 3 2 1\n130\n12 13\n' >"$tmp/in"
python3 tests/faults/faults.py "$tmp" "${1:-1600}" "${@:2}"
