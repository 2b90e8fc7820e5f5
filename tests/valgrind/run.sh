#!/bin/bash
# run.sh - load, run, close on each device that runs here, under valgrind: no byte is lost, nothing is read that was not written or
# lies outside. The process that reads code objects for the emulator ends without cleaning up (runtime/emu/comgr.c); it is not judged.
set -u
cd "$(dirname "$0")/../.." || exit 2
command -v valgrind >/dev/null || { echo "skip valgrind: not installed (tools/deps does)"; exit 0; }
nm -D out/gptoss-exec | grep -qE '__[at]san_init' && { echo "skip valgrind: built with a sanitizer"; exit 0; }
valgrind -q /bin/true >/dev/null 2>&1 || { echo "skip valgrind: it does not start here: $(valgrind -q /bin/true 2>&1 | grep -m1 -iE 'install|error')"; exit 0; }
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT
fake=$PWD/out/tests/fakehip
export GPTOSS_HOST_FEATURES="popcnt f16c fma bmi1 bmi2 avx2" # valgrind knows no AVX-512
failed=0
report() { if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: ${2//$'\n'/ / }"; failed=1; fi; }

out/gptoss-mkmodel tests/models/least.json "$tmp/model" --seed 3 2>/dev/null
printf '2\n7 8\n1 2 3\n' >"$tmp/in"
compile() { out/gptoss-compile graphs/gpt_oss.lua --model "$tmp/model" --arch "$1" --max-batch 2 --max-tokens 8 -o "$tmp/$1.bin" 2>"$tmp/err"; }
watched() { # name, command…: what valgrind says of the process itself, nothing else
    local name=$1 pid
    shift
    valgrind -q --leak-check=full --show-leak-kinds=definite,indirect,possible --num-callers=20 --suppressions=tests/valgrind/others.supp \
        --log-file="$tmp/$name.%p" "$@" >"$tmp/out" 2>"$tmp/err" &
    pid=$!
    wait $pid || tail -1 "$tmp/err"
    [ -f "$tmp/$name.$pid" ] || echo "valgrind wrote nothing"
    head -12 "$tmp/$name.$pid"
}
getp() { watched "$2" out/gptoss-exec "$tmp/$1.bin" -w "$tmp/model" --device "$2" --input-ids -i "$tmp/in" -m getp -n 5 -o "$tmp/ids.$2"; }

report compile "$(watched compile out/gptoss-compile graphs/gpt_oss.lua --model "$tmp/model" --arch host --max-batch 2 --max-tokens 8 -o "$tmp/x.bin")"
compile gfx90a || { echo "skip devices: $(tail -1 "$tmp/err")"; exit $failed; }
report ref "$(getp gfx90a ref)"
report emu "$(getp gfx90a emu)"
if compile host; then report host "$(getp host host)"; else echo "skip host: $(tail -1 "$tmp/err")"; fi
if [ -f "$fake/libamdhip64.so.5" ]; then report hip "$(LD_LIBRARY_PATH=$fake getp gfx90a hip)"
else echo "skip hip: no HIP headers (libamdhip64-dev), so no fake HIP library"; fi
exit $failed
