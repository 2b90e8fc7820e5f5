#!/bin/bash
# run.sh - tests/sample: the kernel of op sample in the emulator. It must draw what the reference draws, token by token, for
# every filter, at several vocabularies; getp's tokens must not depend on the batch, and be today's when -T is not given.
cd "$(dirname "$0")/../.." || exit 1
out=out/tests/sample
mkdir -p $out
failed=0
report() { if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: $2"; failed=1; fi; }

for vocab in 512 777 20011; do
    sed "s/\"vocab_size\": 512/\"vocab_size\": $vocab/" tests/models/tiny.json >$out/$vocab.json
    log=$out/$vocab.log
    { out/gptoss-mkmodel $out/$vocab.json $out/$vocab --seed 3 &&
      out/gptoss-compile graphs/gpt_oss.lua --arch gfx90a --model $out/$vocab --precision strict --max-batch 13 --max-tokens 32 -o $out/$vocab.bin; } >$log 2>&1 ||
        { report "compile/$vocab" "$(tail -1 $log)"; continue; }
    got=$(out/gptoss-exec --self-test $out/$vocab.bin --device emu --only sample 2>&1)
    if [ "$(grep -c '^ok sample' <<<"$got")" -ge 4 ] && ! grep -q FAIL <<<"$got"; then report "kernel/$vocab"; else report "kernel/$vocab" "$(tail -1 <<<"$got")"; fi
    seeds=$(for s in 1 2; do out/gptoss-exec --self-test $out/$vocab.bin --device emu --only sample --seed-schedule $s 2>&1; done)
    if grep -q FAIL <<<"$seeds"; then report "schedule/$vocab" "$(grep FAIL <<<"$seeds" | head -1)"; else report "schedule/$vocab"; fi
done

printf '4\nOne.\nTwo, two.\nOne.\nFour four four\n' >$out/in.txt
getp() { # NAME, device, options…
    local to=$out/$1 device=$2
    shift 2
    out/gptoss-exec $out/512.bin -m getp --device "$device" -i $out/in.txt -o "$to" -n 20 "$@" >"$to.log" 2>&1 || echo "$(tail -1 "$to.log")"
}
same() { cmp -s $out/"$1" $out/"$2" && echo "" || echo "$1 and $2 differ"; }
err=$(getp ref1 ref -T 1.2 -p 0.95 --top-k 50 --min-p 0.01 -s 9 -b 1)$(getp ref3 ref -T 1.2 -p 0.95 --top-k 50 --min-p 0.01 -s 9 -b 3)
report getp/batch "$err$(same ref1 ref3)"
err=$(getp emu2 emu -T 1.2 -p 0.95 --top-k 50 --min-p 0.01 -s 9 -b 2)
report getp/emu "$err$(same ref1 emu2)"
report getp/requests-differ "$([ "$(sed -n 1p $out/ref1)" != "$(sed -n 3p $out/ref1)" ] || echo 'equal prompts drew equal texts')"
err=$(getp seed ref -T 1.2 -p 0.95 --top-k 50 --min-p 0.01 -s 10)
report getp/seed "$err$(cmp -s $out/ref1 $out/seed && echo 'another seed, the same text')"
err=$(getp greedy ref)$(getp zero ref -T 0 -p 0.5 -s 4)$(getp one ref -T 3 --top-k 1)
report getp/greedy "$err$(same greedy zero)$(same greedy one)"
for bad in "-T -1" "-T x" "-p 1.5" "--min-p 2" "--top-k -1" "-s z"; do
    # shellcheck disable=SC2086
    got=$(out/gptoss-exec $out/512.bin -m getp --device ref -i $out/in.txt -o $out/bad $bad 2>&1) && report "bad/$bad" "taken" || report "bad/$bad" "$(grep -q 'error: -' <<<"$got" || echo "$got")"
done
exit $failed
