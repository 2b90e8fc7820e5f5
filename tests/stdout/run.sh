#!/bin/bash
# A result that did not arrive is a failure: every program and every mode that prints, with a stdout that is full and one that is
# closed, exits non-zero and says so; a stream that is closed is not replaced by a file of the program's own.
cd "$(dirname "$0")/../.." || exit 2
out=out/tests/stdout model=models/tiny
rm -rf $out && mkdir -p $out
failed=0
report() { if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: ${2//$'\n'/ / }"; failed=1; fi; }
compile="out/gptoss-compile graphs/tiny.lua --arch host --model $model --max-batch 4 --max-tokens 64"
$compile -o $out/plan.bin 2>$out/err || { echo "FAIL setup: $(tail -1 $out/err)"; exit 1; }
printf '1\nreverse ABCDE:\n' >$out/in
head -2 $model/eval.jsonl >$out/set.jsonl
echo 'reverse ABCDE:' >$out/text
out/gptoss-tok encode -z $model $out/text >$out/ids
printf '1 2 3\n' >$out/a
printf '1 2 4\n' >$out/b

lost() { # NAME code: the last command's stderr is in $out/err
    report "$1" "$([ "$2" != 0 ] || echo "exit 0"; grep -q 'error: .*stdout: ' $out/err || { echo "said:"; tail -1 $out/err; })"
}
prints() { # NAME command…: something on stdout, and 0; otherwise as the head says
    local name=$1
    shift
    "$@" >$out/printed 2>$out/err </dev/null
    report "$name" "$([ $? = 0 ] && [ -s $out/printed ] || tail -1 $out/err)"
    "$@" >/dev/full 2>$out/err </dev/null
    lost "$name-full" $?
    "$@" >&- 2>$out/err </dev/null
    lost "$name-closed" $?
    python3 -c 'import os, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_IGN) # as under many a service manager: write() fails instead
r, w = os.pipe(); os.close(r); os.dup2(w, 1); os.execvp(sys.argv[1], sys.argv[1:])' "$@" 2>$out/err </dev/null
    lost "$name-nobody-reads" $?
}
for p in compile exec tok mkmodel check; do
    prints $p-help out/gptoss-$p --help
    prints $p-version out/gptoss-$p --version
done
prints compile-output $compile -o -
for o in '--dump all' '--dump graph' '--explain' '--report text' '--report json'; do
    prints "compile${o// /-}" $compile -o $out/again.bin $o
done
run() { out/gptoss-exec $out/plan.bin "$@"; }
exec_() { prints "$1" out/gptoss-exec $out/plan.bin "${@:2}"; }
exec_ inspect --inspect
exec_ inspect-json --inspect --json
exec_ list-devices --list-devices
exec_ self-test --self-test --only rmsnorm
exec_ getp -m getp -i $out/in -o -
exec_ getp-print -m getp -i $out/in -o $out/o --print
exec_ getp-json -m getp -i $out/in -o $out/o --json
exec_ getp_cpu -m getp_cpu -i $out/in -o - -n 20
exec_ logits -m logits -i $out/in -o -
exec_ generate -m generate -T 0 'reverse ABCDE:'
exec_ generate-ids -m generate -T 0 --input-ids "$(cat $out/ids)"
exec_ chat -m chat -T 0 -i $out/text --max-answer 5
exec_ bench -m bench -n 8
exec_ bench-json -m bench -n 8 --json
exec_ parity -m parity -i $out/in
exec_ parity-json -m parity -i $out/in --json
exec_ eval -m eval -i $out/set.jsonl
exec_ eval-json -m eval -i $out/set.jsonl --json
exec_ eval-answers -m eval -i $out/set.jsonl -o -
prints tok-encode out/gptoss-tok encode -z $model $out/text
prints tok-decode out/gptoss-tok decode -z $model $out/ids
prints check out/gptoss-check $out/a $out/a
prints check-rows out/gptoss-check $out/a $out/a --rows 3
# where the answer is no, what is lost is the error still
out/gptoss-check $out/a $out/b >/dev/full 2>$out/err
lost check-differs-full $?

# --- long work ends with what is lost first: no plan is compiled
rm -f $out/again.bin && $compile -o $out/again.bin --dump graph >/dev/full 2>$out/err
report dump-ends "$([ ! -e $out/again.bin ] || echo 'it compiled on')"
out/gptoss-exec $out/plan.bin -m getp -i $out/in -o - --verbose >&- 2>$out/err
report getp-ends "$(grep loaded $out/err)"

# --- what prints nothing needs no stdout; and no file takes a closed stream's number
silent() { # NAME FILE command…: makes the same file with all three streams closed
    local name=$1 file=$2 want
    shift 2
    "$@" >/dev/null 2>&1 </dev/null && want=$(md5sum <$file) && rm -f $file
    "$@" <&- >&- 2>&-
    report "$name-closed" "$([ $? = 0 ] || echo 'exit 1'; [ "$(md5sum <$file)" = "$want" ] || echo "$file is another")"
}
silent compile $out/plan.bin $compile -o $out/plan.bin
silent emit $out/src/$(mkdir -p $out/src && $compile -o $out/again.bin --emit $out/src 2>/dev/null && ls $out/src | head -1) $compile -o $out/again.bin --emit $out/src
silent getp $out/o run -m getp -i $out/in -o $out/o --verbose -f
silent logits $out/l run -m logits -i $out/in -o $out/l
silent mkmodel $out/m/model.safetensors out/gptoss-mkmodel tests/models/tiny.json $out/m
out/gptoss-tok encode -z $model <&- >/dev/null 2>$out/err
report stdin-closed "$([ $? = 1 ] && grep -q 'stdin: ' $out/err || cat $out/err)"
exit $failed
