#!/bin/bash
# run.sh - each fuzzer for a few seconds, without clang: the seeds, every input that ever failed, and what driver.c makes of them,
# the same at each run. `make fuzz SECONDS=N` looks further, with sanitizers.
cd "$(dirname "$0")/../.." || exit 2
dir=out/fuzz
mkdir -p $dir
if ! why=$(tests/fuzz/seeds $dir/seeds 2>&1); then
    case $why in
    *hiprtc* | *HIP* | *comgr*) echo "skip fuzz: no code objects without a compiler: $(tail -1 <<<"$why")" && exit 0 ;;
    *) echo "FAIL fuzz-seeds: $(tail -1 <<<"$why")" && exit 1 ;;
    esac
fi
failed=0
for f in tests/fuzz/fuzz_*.c; do
    name=${f##*/fuzz_} name=${name%.c}
    [ "$name" = seed ] && continue
    case $name in code) n=500 ;; lua) n=500 ;; plan) n=2000 ;; run) n=600 ;; model | tok | eval | prompts | replay) n=3000 ;; *) n=20000 ;; esac
    inputs=$dir/seeds/$name
    [ -d "tests/fuzz/failed/$name" ] && inputs="$inputs tests/fuzz/failed/$name"
    dictionary=
    [ -f "tests/fuzz/$name.dict" ] && dictionary="-d tests/fuzz/$name.dict"
    # shellcheck disable=SC2086
    if said=$(nice "out/tests/fuzz_$name" -n $n -o "$dir/crash-$name" $dictionary $inputs 2>$dir/$name.log); then echo "ok fuzz-$name"
    else echo "FAIL fuzz-$name: $dir/crash-$name: $(tail -1 $dir/$name.log) $said" && failed=1; fi
done
exit $failed
