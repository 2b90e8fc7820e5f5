#!/bin/bash
# What getp keeps beside its output, and --resume: kill -9 at any moment, a device that fails, Ctrl-C, another number of devices, and
# damage to the journal itself; the ids are those of one run. What is of another run is neither used nor lost. --skip-bad: a NaN ends
# its request only.
set -u
cd "$(dirname "$0")/../.." || exit 2
exec=$PWD/out/gptoss-exec fake=$PWD/out/tests/fakehip poison=$PWD/tests/journal/poison.py
tmp=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d) # memory: this syncs some hundred times
trap 'rm -rf "$tmp"' EXIT
unset GPTOSS_MODEL GPTOSS_GPUS; for v in $(env | grep -o '^SLURM_[A-Z_]*'); do unset "$v"; done
ok() { echo "ok $1"; }
fail() { echo "FAIL $1: $2"; }

out/gptoss-mkmodel tests/models/least.json "$tmp/model" --seed 3 >/dev/null 2>&1
compile() { out/gptoss-compile graphs/gpt_oss.lua --model "$tmp/model" --arch "$1" --max-batch 8 --max-tokens 32 -o "$tmp/$1.bin" "${@:2}" 2>"$tmp/err" || { fail "setup $1" "$(tail -1 "$tmp/err")"; exit 1; }; }
compile host && compile gfx90a
printf '12\n7\n1 2 3\n9 8\n\n11 150 3 4\n8 8\n5 4 3 2 1\n130\n12 13\n77 78 79\n4\n30 31\n' >"$tmp/in"
shim=$PWD/out/tests/faults/shim.so
cd "$tmp" || exit 2

# What runs at once is on host; what takes its time, or must be told to fail, on the fake HIP library.
run() { LD_LIBRARY_PATH=$fake FAKEHIP_DEVICES=3 builtin exec "$exec" "${plan:-host.bin}" -w "${model:-model}" --input-ids -i "${in:-in}" -m getp -n "${n:-12}" -o ids --device "${on:-host}" "$@" 2>err; }
getp() { (run "$@"); }
hip() { plan=gfx90a.bin on=hip getp "$@"; }
begin_hip() { (plan=gfx90a.bin on=hip run "$@") & pid=$!; } # kill finds the program itself
killed_at() { (export LD_PRELOAD=$shim FAULT_CALLS=$1 FAULT_AT=$2 FAULT_KILL=9; run "${@:3}"); } 2>/dev/null
records() { cat ids.parts/* 2>/dev/null | grep -c '^[0-9]*: '; }
fresh() { rm -rf ids ids.parts; }
same() { # NAME STATUS: all is there, nothing else is left
    if [ "$2" != 0 ]; then fail "$1" "exit $2: $(tail -2 err)"
    elif ! cmp -s ids want; then fail "$1" "$(diff ids want | head -2)"
    elif [ -e ids.parts ]; then fail "$1" "$(ls ids.parts) is left"
    else ok "$1"; fi
}
said() { if tr '\n' ' ' <err | grep -qE -- "$2"; then ok "$1"; else fail "$1" "expected \"$2\", got: $(cat err)"; fi; }
refused() { # NAME STATUS TEXT: and nothing was written or lost
    if [ "$2" != 1 ] || [ -e ids ] || [ "$(cat ids.parts/* | md5sum)" != "$(cat kept/* | md5sum)" ]; then fail "$1" "exit $2: $(cat err)"; else said "$1" "$3"; fi
}

fresh; getp; code=$?; cp ids want; same whole $code; [ "$(wc -w <want)" -gt 60 ] && ok some_ids || fail some_ids "$(cat want)"
getp --resume; same nothing_to_resume $?; said nothing_to_resume_said 'ids.parts: there is nothing to resume: all is done from the start'

# --- killed right before each call that writes, syncs or names something, and before some others; then resumed, killed, resumed
bad='' n_killed=0
for class in write sync name; do
    for ((k = 1; k < 500; k++)); do
        fresh; killed_at $class $k; code=$?
        [ $code = 137 ] || break
        n_killed=$((n_killed + 1))
        [ ! -e ids ] || cmp -s ids want || bad="$bad $class $k: a part of the output;"
        killed_at $class 9 --resume -b 3 || getp --resume -b 2
        [ $? = 0 ] && cmp -s ids want && [ ! -e ids.parts ] || bad="$bad $class $k: $(tail -1 err) $(ls -d ids*);"
    done
    [ $code = 0 ] || bad="$bad $class $k: exit $code;"
done
[ -z "$bad" ] && [ $n_killed -gt 30 ] && ok "killed at each of $n_killed calls" || fail "killed at each call" "$n_killed:$bad"

# --- a journal to try things with: five requests are done
for ((k = 1; k < 500; k++)); do fresh; killed_at write $k; [ "$(records)" -lt 5 ] || break; done
cp -r ids.parts kept; done=$(records); part=$(cd kept && echo part.*)
[ "$done" = 5 ] && ok five_done || fail five_done "$done"
again() { fresh; cp -r kept ids.parts; }
again; getp --resume; same resumed $?; said only_the_rest "ids.parts: 5 of 11 requests are done, by runs before this one"
# Not asked for: all is done anew, and said; what was there goes when the output is there.
again; getp; same not_resumed $?; said not_resumed_said 'ids.parts has 5 finished requests of an earlier run like this one: --resume would use them'
grep -q 'requests are done, by' err && fail not_resumed_used "$(cat err)" || ok not_resumed_used

# A limit of files' size is an error; what is kept is kept.
fresh; (ulimit -f 1; on=ref n=60 run); code=$?; [ $code = 1 ] && [ ! -e ids ] && said file_limit 'ids.parts/part.*: File too large' || fail file_limit "exit $code: $(cat err)"
on=ref n=60 getp --resume; code=$?; [ $code = 0 ] && [ "$(wc -w <ids)" -gt 500 ] && ok file_limit_resumed || fail file_limit_resumed "exit $code: $(tail -1 err)"
# Of another run: plan, model, input, options, kind of device.
other() { local name=$1; shift; again; "$@" --resume; refused "other_$name" $? "error: ids.parts/part.* is of another run .another input, plan or option.: remove ids.parts, or give another -o"; }
(cd - >/dev/null && mv "$tmp/host.bin" "$tmp/host" && compile host --max-seq 64 && mv "$tmp/host.bin" "$tmp/plan2.bin" && mv "$tmp/host" "$tmp/host.bin" && out/gptoss-mkmodel tests/models/least.json "$tmp/model2" --seed 4 >/dev/null 2>&1)
sed 's/^12 13$/12 14/' in >in2
plan=plan2.bin other plan getp; model=model2 other model getp; in=in2 other input getp; n=11 other steps getp
other temperature getp -T 0.5; other seed getp -s 3 -T 0.5; on=ref other device getp
other lines getp -t 11
cp -r model model3; again; model=model3 getp --resume; same moved_model $?
again; in=in2 getp; code=$?; [ $code = 0 ] && [ -e ids ] && cmp -s <(cat ids.parts/*) <(cat kept/*) && said other_left_alone 'warning: ids.parts/part.* is of another run .*: it is left as it is' || fail other_left_alone "exit $code: $(cat err)"
again; getp --resume -o - >out; refused to_stdout $? 'error: --resume: -o - is no file, and has no journal beside it'
getp --resume -o /dev/null; [ $? = 1 ] && said to_null '-o /dev/null is no file'
getp -o /dev/null; [ $? = 0 ] && [ ! -e /dev/null.parts ] && ok no_journal || fail no_journal "$(cat err)"

# --- damage
for cut in 1 2 19 25; do
    again; truncate -s -$cut "ids.parts/$part"
    getp --resume; same "torn_$cut" $?; said "torn_said_$cut" "$part: 1 of its lines are not whole, and do not count.* 4 of 11"
done
again; sed -i '2s/: ./: 9/' "ids.parts/$part"; cmp -s "kept/$part" "ids.parts/$part" && sed -i '2s/: ./: 8/' "ids.parts/$part"
getp --resume; same changed $?; said changed_said "1 of its lines are not whole.* 4 of 11"
again; head -c 300 /dev/urandom >>"ids.parts/$part"; getp --resume; same garbage $?; said garbage_said "of its lines are not whole.* 5 of 11"
again; sed -i '1s/rank/rang/' "ids.parts/$part"; getp --resume; same no_head $?; said no_head_said "$part: its first line is not whole: nothing of it is used"
again; : >"ids.parts/$part"; getp --resume; same empty_part $?
# A pipe in a part's place: nobody waits for who writes. A patience that is no time: the watch ends with the run.
timed() { timeout 20 "$exec" host.bin -w model --input-ids -i in -m getp -n 12 -o ids --device host 2>err; }
fresh; mkdir ids.parts && mkfifo ids.parts/part.x.0; timed; [ $? = 1 ] && said pipe 'ids.parts/part.x.0: not a regular file' || fail pipe "$(cat err)"
fresh; for s in inf nan 1e300; do GPTOSS_HANG_SECONDS=$s timed; same "hang_seconds_$s" $?; done
again; printf '5: 1 2 3 4 5 6 7 8 9 1 2 3 4 5 #0123456789abcdef\n99: 1 #0123456789abcdef\n' >>"ids.parts/$part"; getp --resume; same forged_sum $?

# --- a disk that takes no more: it is said, and what is kept is not called all
fresh; (export LD_PRELOAD=$shim FAULT_CALLS=sync FAULT_AT=4 FAULT_FOR=1000000; getp); code=$?
[ $code = 1 ] && said unsynced 'part.*: Input/output error: from here on nothing is kept.*of 11 of 11 requests that are done not all are kept in ids.parts' || fail unsynced "exit $code: $(cat err)"

# --- one at a time; Ctrl-C; a device that fails; more and fewer devices
if [ -f "$fake/libamdhip64.so.5" ]; then
    mv want want_host; fresh; hip; code=$?; cp ids want; same hip $code
    # Stopped longer than a device may be silent, it has not hung.
    fresh; export GPTOSS_HANG_SECONDS=0.5; begin_hip -b 1; unset GPTOSS_HANG_SECONDS
    for _ in 1 2 3; do sleep 0.1; kill -STOP $pid 2>/dev/null && n_stopped=$((${n_stopped:-0} + 1)); sleep 0.6; kill -CONT $pid 2>/dev/null; done
    wait $pid; same stopped $?; [ "${n_stopped:-0}" -ge 2 ] || fail stopped_often "$n_stopped"
    # It stops before it writes one more of its last dozen: some are kept, some are not.
    fresh; (export LD_PRELOAD=$shim FAULT_CALLS=write FAULT_COUNT=$tmp/count; hip -b 1); writes=$(awk '$1 == "write" {print $2}' count)
    fresh; export LD_PRELOAD=$shim FAULT_CALLS=write FAULT_AT=$((writes - 12)) FAULT_KILL=19; begin_hip -b 1; unset LD_PRELOAD
    for _ in $(seq 600); do grep -q '^State:.T' /proc/$pid/status && break; sleep 0.1; done
    (plan=gfx90a.bin on=hip run --resume -o ./ids); code=$?
    [ $code = 1 ] && said at_work "part.*: process $pid is at work on this" || fail at_work "exit $code: $(cat err)"
    begin=$(records); kill -INT $pid; kill -CONT $pid; wait $pid; code=$?; done=$(records)
    [ $code = 1 ] && [ ! -e ids ] && [ "$begin" -ge 2 ] && [ "$done" -ge "$begin" ] && [ "$done" -lt 11 ] && ok ctrl_c || fail ctrl_c "exit $code, $begin then $done"
    said ctrl_c_said "error: ended by Ctrl-C \\(SIGINT\\) *$done of 11 requests are done, and kept in ids.parts: the same command with --resume does the rest"
    hip --resume -g 3; same ctrl_c_resume $?; said ctrl_c_rest "$done of 11 requests are done"

    fresh; (export FAKEHIP_HANG=500 GPTOSS_HANG_SECONDS=100; plan=gfx90a.bin on=hip run -b 1) & pid=$!
    for _ in $(seq 400); do [ "$(records)" -ge 4 ] && break; sleep 0.05; done; sleep 0.3
    kill -TERM $pid; sleep 0.4; kill -0 $pid 2>/dev/null && ok waits_for_the_step || fail waits_for_the_step "$(cat err)"
    kill -TERM $pid; wait $pid; code=$?; [ $code = 143 ] && ok second_signal || fail second_signal "exit $code"

    fresh; FAKEHIP_FAULT=500 hip -b 1; code=$?; done=$(records); rm -rf kept; cp -r ids.parts kept; refused fault $code "hipErrorIllegalAddress.*$done of 11 requests are done, and kept in ids.parts: the same command with --resume does the rest"
    hip --resume -g 2; same fault_resume $?
    fresh; FAKEHIP_FAULT=3 hip -b 1; code=$?; [ $code = 1 ] && [ ! -e ids.parts ] && ! grep -q resume err && ok nothing_kept || fail nothing_kept "exit $code: $(cat err)"

    fresh
    for ((k = 0; k < 40; k++)); do
        begin_hip --resume -b $((k % 2 + 1)) -g $((k % 3 + 1))
        sleep "$(awk -v k=$k -v r=$RANDOM 'BEGIN {print 0.15 + r / 32768 * 0.35 + k * 0.1}')"
        kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null; code=$?
        [ $code = 137 ] || break
    done
    same "killed $k times" $code
    mv want_host want
else echo "skip fault: no HIP headers (libamdhip64-dev), so no fake HIP library"
fi

# --- NaN: the requests that meet it end; the others' ids are as ever. 150 is in a prompt; 94 is generated, by several.
bad() { # NAME TOKEN option…: on device $on with plan $plan
    local name=$1 token=$2; shift 2
    fresh; rm -rf bad; cp -r model bad; python3 "$poison" bad/model.safetensors "$token"
    getp "$@"; cp ids sound 2>/dev/null # of the whole model, by this device
    fresh; model=bad getp "$@"; code=$?
    [ $code = 1 ] && [ ! -e ids ] && said "nan_$name" 'request [0-9]+.* the first value that is not finite in this step is x' || fail "nan_$name" "exit $code"
    fresh; model=bad getp --skip-bad --json "$@" >out; code=$?
    python3 - in sound ids "$token" out <<'PY' >why 2>&1 && [ $code = 1 ] && [ ! -e ids.parts ] && said "skip_$name" '[1-9] of 11 requests were left out, as their logits hold a NaN: their lines in ids are empty: +request ' || fail "skip_$name" "exit $code: $(tail -1 why) $(tail -3 err)"
import json, sys
prompts, sound, ids = (open(f).read().split('\n')[:-1] for f in sys.argv[1:4])
bad = []
for i, (p, want, got) in enumerate(zip(prompts[1:], sound, ids)):
    met = sys.argv[4] in p.split() + want.split()[:-1]
    assert got == ('' if met else want), (i + 1, met, got, want)
    bad += [i + 1] * met
assert len(ids) == 12 and bad == [b['request'] for b in json.load(open(sys.argv[5]))['bad']], bad
PY
}
bad host 150; bad host_later 94 -b 3; n=24 bad host_drawn 94 -T 1 -s 1; n=24 bad host_drawn_by_3 94 -b 3 -T 1 -s 1; on=ref bad ref_later 94 -b 3; on=ref bad ref 150
if [ -f "$fake/libamdhip64.so.5" ]; then plan=gfx90a.bin on=hip bad hip_two 94 -g 2 -b 2; else plan=gfx90a.bin on=emu bad emu_later 94 -b 3; fi
# A rank leaves out, and the other hears of it.
fresh
for i in 0 1; do SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_PROCID=$i SLURM_NTASKS=2 model=bad getp --skip-bad & pids="${pids:-} $!"; done
for p in $pids; do wait "$p"; codes="${codes:-}$? "; done
cmp -s <(grep -c '^$' ids) <(echo "$(( $(grep -cE '(^| )94 ' sound) + 1 ))") && [ "$codes" = '1 0 ' ] && ok ranks_skip || fail ranks_skip "exit $codes: $(cat ids err)"
