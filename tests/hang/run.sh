#!/bin/bash
# A kernel that never ends: the emulator says which, and where, after a number of instructions; host says which, and Ctrl-C ends the
# program in every mode. Each template here is row's, which computes rmsnorm, with a loop of another make.
cd "$(dirname "$0")/../.." || exit 2
out=out/tests/hang model=models/tiny
rm -rf $out && mkdir -p $out
failed=0
report() { if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: ${2//$'\n'/ / }"; failed=1; fi; }
template() { # NAME LOOP: $out/NAME/row.hip
    mkdir -p $out/$1
    LOOP=$2 awk '/^    const real row = / {print "    " ENVIRON["LOOP"]} {print}' templates/row.hip >$out/$1/row.hip
    grep -qF -- "$2" $out/$1/row.hip || { echo "FAIL setup: templates/row.hip is another"; exit 1; }
}
compile() { # PLAN ARCH [option…]
    out/gptoss-compile graphs/tiny.lua --arch $2 --model $model --no-fusion all --max-batch 4 --max-tokens 32 -o $out/$1.bin "${@:3}" 2>$out/err || { echo "FAIL compile $1: $(tail -1 $out/err)"; exit 1; }
}
template loop 'for (int n = threadIdx.x; n != -1;) { n = (n * 3 + 7) & 0xffffff; asm volatile("" : "+v"(n)); }'
template memory 'while (((const volatile float *)a.g)[0] != 1e30f) {}'
template barrier 'for (;;) __syncthreads();'
template deadlock '__shared__ volatile int flag; if (threadIdx.x == 0) flag = 0; __syncthreads(); if (threadIdx.x < 64) { while (!flag) {} } else { __syncthreads(); flag = 1; }'
for t in loop memory barrier deadlock; do compile $t gfx90a --templates $out/$t; done
compile right gfx90a
printf '1\nreverse ABCDE:\n' >$out/in
head -1 $model/eval.jsonl >$out/set.jsonl

emu() { timeout 300 out/gptoss-exec $out/$1.bin --device emu "${@:2}" >$out/log 2>$out/err; }
hung() { # NAME exit-status [LINE of row.hip]: what was said names kernel, place and count
    report "$1" "$([ $2 = 1 ] || echo "exit $2"; cat $out/log $out/err | grep -q 'kernel rmsnorm_N[0-9]*, workgroup (0,0,0), wave [0-3], pc 0x[0-9a-f]*, '"${3:+row.hip:$3, }"'[a-z].*: hung: no end after [0-9]* instructions of its workgroup (of 4 waves .*); if it is only long, --emu-limit allows more' || { echo said:; tail -1 $out/err; })"
}
line=$(grep -n '^    const real row = ' templates/row.hip | cut -d: -f1) # where the loop stands instead
emu loop -m getp -i $out/in -o $out/o; hung loop $? $line
emu memory -m getp -i $out/in -o $out/o --emu-limit 100000; hung memory $? $line
for t in barrier deadlock; do emu $t -m getp -i $out/in -o $out/o --emu-limit 100000; hung $t $?; done
report deadlock-waves "$(grep -q '(of 4 waves 1 run, 3 wait at a barrier, 0 have ended)' $out/err || cat $out/err)"
emu loop -m getp -i $out/in -o $out/o --emu-limit 100000 --seed-schedule 3 --threads 1; hung schedule $?
emu loop --self-test --only rmsnorm --emu-limit 100000; hung self-test $?
export GPTOSS_EMU_LIMIT=100000
emu loop -m parity -i $out/in; hung parity $?
emu loop -m logits -i $out/in -o $out/o; hung logits $?
emu loop -m bench; hung bench $?
emu loop -m eval -i $out/set.jsonl; hung eval $?
emu loop -m generate 'reverse A:'; hung generate $?
echo 'reverse A:' | emu loop -m chat; hung chat $?
unset GPTOSS_EMU_LIMIT
# the limit rules, and what kernels need of it is told
emu right -m bench -n 4 --emu-limit 50; report low-limit "$([ $? = 1 ] && grep -q ': hung: ' $out/err || tail -1 $out/err)"
emu right -m bench -n 4 -f; most=$(awk '$1 == "kernel" {for (i = 1; i <= NF; i++) if ($i == "longest") at = i} at && $at + 0 > n {n = $at + 0} END {print n}' $out/err)
report longest "$([ "${most:-0}" -gt 1000 ] && [ "$most" -lt 3355443 ] || { echo "$most"; head -3 $out/err; })"
emu right -m bench -n 4 --emu-limit "${most:-1}"; report limit-met "$([ $? = 0 ] || tail -1 $out/err)"
emu right -m bench -n 4 --emu-limit $((most / 2)); report limit-missed "$([ $? = 1 ] || echo 'exit 0')"

# --- host
mkdir -p $out/host
sed 's|^    const real row = |    while (((const volatile float *)a.g)[0] != 1e30f) {}\n&|' templates/host/row.c >$out/host/row.c
grep -q 1e30f $out/host/row.c || { echo "FAIL setup: templates/host/row.c is another"; exit 1; }
compile host host --templates $out/host
cat >$out/interrupt.py <<'PY'
# interrupt.py TIMES TERMINAL command…: presses Ctrl-C so often once the command says that a kernel does not come back; exits 0
# when it is then ended by it.
import os, pty, signal, subprocess, sys, time
times, terminal, command = int(sys.argv[1]), sys.argv[2] == 'terminal', sys.argv[3:]
master, slave = pty.openpty()
p = subprocess.Popen(command, stdin=slave if terminal else subprocess.DEVNULL, stdout=slave if terminal else subprocess.DEVNULL,
                     stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
def late(*_):
    p.kill()
    sys.exit('not done within 120 s')
signal.signal(signal.SIGALRM, late)
signal.alarm(120)
said, begun = [], False
for line in p.stderr:
    said.append(line)
    if 'kernel rmsnorm_N' in line and 'has not come back for' in line: begun = True; break
for i in range(times if begun else 0):
    assert p.poll() is None, 'ended before %d' % i
    p.send_signal(signal.SIGINT)
    if i == 1: # in chat the second one is answered
        for line in p.stderr:
            if 'once more ends the program' in line: break
    elif i + 1 < times:
        time.sleep(0.3) # two signals at once are one
p.wait()
sys.exit(None if begun and p.returncode == -signal.SIGINT else 'exit %s: %s' % (p.returncode, ''.join(said + p.stderr.readlines())))
PY
export GPTOSS_HANG_SECONDS=0.2
ctrl_c() { # NAME TIMES terminal|none mode…
    report "host-$1" "$(python3 $out/interrupt.py $2 $3 out/gptoss-exec $out/host.bin "${@:4}" 2>&1)"
}
ctrl_c self-test 1 none --self-test --only rmsnorm
ctrl_c getp 1 none -m getp -i $out/in -o $out/o
ctrl_c logits 1 none -m logits -i $out/in -o $out/o
ctrl_c parity 1 none -m parity -i $out/in
ctrl_c bench 1 none -m bench
ctrl_c eval 1 none -m eval -i $out/set.jsonl
ctrl_c generate 2 none -m generate 'reverse A:'
ctrl_c chat-words 1 none -m chat 'reverse A:'
ctrl_c chat 3 terminal -m chat 'reverse A:'
# who is only slow is not ended; and nothing is said of a kernel that comes back
compile quick host
GPTOSS_HANG_SECONDS=5 out/gptoss-exec $out/quick.bin -m bench -n 4 >/dev/null 2>$out/err
report host-quick "$([ $? = 0 ] && [ ! -s $out/err ] || cat $out/err)"
exit $failed
