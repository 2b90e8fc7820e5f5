#!/bin/bash
# getp's ranks: processes with Slurm's variables set by hand, then srun on a cluster of this one host, where Slurm is installed. The
# ids are those of one process; a rank that fails or dies is named, what was done is kept, and the next run does the rest only.
set -u
cd "$(dirname "$0")/../.." || exit 2
exec=$PWD/out/gptoss-exec fake=$PWD/out/tests/fakehip
tmp=$(mktemp -d)
servers=
trap 'kill $servers 2>/dev/null; wait 2>/dev/null; rm -rf "$tmp"' EXIT
unset GPTOSS_MODEL GPTOSS_GPUS; for v in $(env | grep -o '^SLURM_[A-Z_]*'); do unset "$v"; done
ok() { echo "ok $1"; }
fail() { echo "FAIL $1: $2"; }

out/gptoss-mkmodel tests/models/least.json "$tmp/model" --seed 3 >/dev/null 2>&1
compile() { out/gptoss-compile graphs/gpt_oss.lua --model "$tmp/model" --arch "$1" --max-batch 8 --max-tokens 32 -o "$tmp/$1.bin" 2>"$tmp/err" || { fail "setup $1" "$(tail -1 "$tmp/err")"; exit 1; }; }
compile host
printf '9\n7\n1 2 3\n9 8\n\n11 150 3 4\n8 8\n5 4 3 2 1\n130\n12 13\n' >"$tmp/in"
cd "$tmp" || exit 2

plan=$tmp/host.bin
of=(-w "$tmp/model" --input-ids -i "$tmp/in" -m getp -n 12 -o "$tmp/ids")
getp() { "$exec" "$plan" "${of[@]}" "$@"; }
getp -o "$tmp/want" 2>/dev/null || { fail setup "no ids"; exit 1; }
fresh() { rm -rf "$tmp/ids" "$tmp/ids.parts"; }
rank() { # JOB RANK RANKS option…: status and messages in files
    SLURM_JOB_ID=$1 SLURM_STEP_ID=0 SLURM_PROCID=$2 SLURM_NTASKS=$3 GPTOSS_RANK_SECONDS=3 "$exec" "$plan" "${of[@]}" "${@:4}" >"$tmp/out$2" 2>"$tmp/err$2" &
    echo $! >"$tmp/pid$2"
    wait $!
    echo $? >"$tmp/code$2"
}
ranks() { # JOB RANKS LIST-OF-THOSE-THAT-RUN option…
    local job=$1 n=$2 some=$3 pids='' i
    shift 3
    rm -f "$tmp"/code*
    for i in $some; do rank "$job" "$i" "$n" "$@" & pids="$pids $!"; done
    # shellcheck disable=SC2086
    wait $pids
}
codes() { cat "$tmp"/code* | tr '\n' ' '; }
whole() { # NAME STATUSES: the ids are all there, and nothing else is left
    if [ "$(codes)" != "$2" ]; then fail "$1" "exit $(codes): $(cat "$tmp"/err*)"
    elif ! cmp -s "$tmp/ids" "$tmp/want"; then fail "$1" "$(diff "$tmp/ids" "$tmp/want" | head -2)"
    elif [ -e "$tmp/ids.parts" ]; then fail "$1" "$(ls "$tmp/ids.parts")"
    else ok "$1"; fi
}
missing() { # NAME STATUSES PATTERN: of what rank 0 says
    if [ "$(codes)" != "$2" ] || [ -e "$tmp/ids" ]; then fail "$1" "exit $(codes): $(cat "$tmp"/err*)"
    elif tr '\n' ' ' <"$tmp/err0" | grep -qE "$3.*what was done is kept in $tmp/ids.parts: the same command does the rest"; then ok "$1"
    else fail "$1" "$(cat "$tmp/err0")"; fi
}
said() { if grep -qE -- "$3" "$2"; then ok "$1"; else fail "$1" "$(cat "$2")"; fi; }

fresh; ranks 7 3 '0 1 2'; whole three '0 0 0 '
said shared "$tmp/err1" '^rank 1 of 3: getp on host: 3 requests'; said shared_last "$tmp/err2" '^rank 2 of 3: getp on host: 2 requests'
fresh; ranks 7 12 "$(seq -s' ' 0 11)"; whole more_than_requests '0 0 0 0 0 0 0 0 0 0 0 0 '
fresh; ranks 7 2 '0 1' --json -v "$tmp/want"; whole compared '0 0 '
jq -e '.ranks == 2 and .rank == 0 and .verify.equal_requests == 9' "$tmp/out0" >/dev/null && [ ! -s "$tmp/out1" ] && ok rank_0_tells || fail rank_0_tells "$(cat "$tmp"/out?)"
fresh; SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_NTASKS=4 getp 2>"$tmp/err0"; echo $? >"$tmp/code0"; rm "$tmp/code1"; whole batch_script '0 '

# One has not come: what the others did is kept; then two do the rest, then one alone.
fresh; ranks 7 3 '0 2'; missing absent '1 0 ' '3 of 8 requests are missing.*rank 1 of 3: it has not begun within 3 s'
cp -r "$tmp/ids.parts" "$tmp/kept"
ranks 8 2 '0 1'; whole rest '0 0 '; said rest_only "$tmp/err0" '5 of 8 requests are done'; said rest_shared "$tmp/err1" 'getp on host: 1 requests'
fresh; cp -r "$tmp/kept" "$tmp/ids.parts"; getp 2>"$tmp/err0"; echo $? >"$tmp/code0"; rm -f "$tmp/code1"; whole alone '0 '; said alone_rest "$tmp/err0" ' 7 prompt [+] 32 generated'
# Rank 0 was it: the others' work waits for the next run, which has nothing to run if it was all.
fresh; ranks 7 3 '1 2'; [ "$(codes)" = '0 0 ' ] && [ ! -e "$tmp/ids" ] && [ -e "$tmp/ids.parts/part.7.0.0.1" ] && ok no_rank_0 || fail no_rank_0 "$(codes)"
ranks 8 2 '0 1'; whole after_rank_0 '0 0 '
# A rank that has written its last line and still holds its part: a slow disk's.
fresh; rank 7 1 2
python3 -c 'import fcntl, sys, time
f = open(sys.argv[1], "r+")
fcntl.lockf(f, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)' "$tmp/ids.parts/part.7.0.0.1" >"$tmp/held" & holder=$!
until [ -s "$tmp/held" ] || ! kill -0 $holder 2>/dev/null; do sleep 0.1; done
rank 7 0 2; whole still_held '0 0 '
kill $holder 2>/dev/null
fresh; ranks 7 3 '0 2'; rank 7 1 3; rm -f "$tmp"/code*; ranks 9 1 0; whole nothing_left '0 '; said nothing_run "$tmp/err0" ' 0 prompt \+ 0 generated tokens in 0 steps'

# What is not whole, or not of this run.
torn() { fresh; cp -r "$tmp/kept" "$tmp/ids.parts"; sed -i '/^done/d' "$tmp/ids.parts/part.7.0.0.2"; printf '%s' "$1" >>"$tmp/ids.parts/part.7.0.0.2"; ranks 8 1 0; whole "torn $1" '0 '; said "torn_counts $1" "$tmp/err0" '5 of 8'; }
torn '1: 12'; torn '99: 12'
fresh; cp -r "$tmp/kept" "$tmp/ids.parts"; ranks 8 2 '0 1' -n 11; [ "$(codes)" = '1 1 ' ] && [ ! -e "$tmp/ids" ] && said other_run "$tmp/err1" 'is of another run .another input, plan or option.: remove .*ids.parts, or give another -o'
fresh; cp -r "$tmp/kept" "$tmp/ids.parts"; ranks 7 3 '0 2'; [ "$(codes)" = '1 1 ' ] && said same_run_twice "$tmp/err0" 'part.7.0.0.0: File exists'
fresh; rank 7 0 2 -o -; said to_stdout "$tmp/err0" '-o -: ranks meet in a folder beside the output'
SLURM_PROCID=2 SLURM_STEP_ID=0 SLURM_NTASKS=2 getp 2>"$tmp/err0"; said no_such_rank "$tmp/err0" 'are no rank and a number of ranks'

# One fails; one is killed in the middle of its work. Until then rank 0 waits, however long that is.
if [ -f "$fake/libamdhip64.so.5" ]; then
    (cd - >/dev/null && compile gfx90a)
    plan=$tmp/gfx90a.bin
    hip() { # RANK RANKS VARIABLE=VALUE…
        (export LD_LIBRARY_PATH=$fake "${@:3}"; rank "${job:-7}" "$1" "$2" --device hip -b 1)
    }
    fresh; LD_LIBRARY_PATH=$fake getp --device hip -o "$tmp/want" 2>"$tmp/err"
    rm -f "$tmp"/code*; hip 1 2 FAKEHIP_FAULT=400 & hip 0 2; wait $!
    missing fails '1 1 ' '[1-4] of 8 requests are missing.*rank 1 of 2 on .*hipErrorIllegalAddress'
    left=$(sed -n 's/^.*error: \([1-4]\) of.*/\1/p' "$tmp/err0")
    rm -f "$tmp"/code*; job=8; hip 1 2 & hip 0 2; wait $!; whole fails_rest '0 0 '; said fails_kept "$tmp/err0" "$((8 - left)) of 8 requests are done"

    fresh; rm -f "$tmp"/code*; job=7; hip 1 2 FAKEHIP_HANG=400 GPTOSS_HANG_SECONDS=100 & one=$!
    hip 0 2 & zero=$!
    for _ in $(seq 100); do [ "$(grep -c : "$tmp/ids.parts/part.7.0.0.1" 2>/dev/null)" -ge 1 ] 2>/dev/null && break; sleep 0.2; done
    sleep 6
    kill -0 $zero 2>/dev/null && [ ! -e "$tmp/code0" ] && ok waits || fail waits "rank 0 ended: $(cat "$tmp/err0")"
    kill -9 "$(cat "$tmp/pid1")"
    wait $zero $one
    missing dies '1 137 ' '[1-4] of 8 requests are missing.*rank 1 of 2 on .*it died: nothing was heard of it for 3 s'
    rm -f "$tmp"/code*; job=8; hip 0 1; whole dies_rest '0 '
else echo "skip fails: no HIP headers (libamdhip64-dev), so no fake HIP library"
fi

# --- Slurm itself, of this host alone
plan=$tmp/host.bin
getp -o "$tmp/want" 2>/dev/null
command -v srun >/dev/null && command -v slurmctld >/dev/null && command -v slurmd >/dev/null || { echo "skip slurm: not installed (slurmctld, slurmd, slurm-client)"; exit 0; }
host=$(hostname -s) ports=$((20000 + $$ % 20000))
mkdir -p "$tmp/state" "$tmp/spool"
cat >"$tmp/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$ports
SlurmdPort=$((ports + 1))
AuthType=auth/none
CredType=cred/none
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
StateSaveLocation=$tmp/state
SlurmdSpoolDir=$tmp/spool
SlurmctldPidFile=$tmp/ctld.pid
SlurmdPidFile=$tmp/d.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$host Default=YES State=UP
CONF
export SLURM_CONF=$tmp/slurm.conf
slurmctld -D >"$tmp/ctld.log" 2>&1 & servers=$!
slurmd -D -N "$host" >"$tmp/d.log" 2>&1 & servers="$servers $!"
for _ in $(seq 50); do sinfo -h -o %T 2>/dev/null | grep -q idle && break; sleep 0.3; done
sinfo -h -o %T 2>/dev/null | grep -q idle || { echo "skip slurm: a cluster of this host does not come up: $(tail -1 "$tmp/d.log") $(tail -1 "$tmp/ctld.log")"; exit 0; }
slurm() { GPTOSS_RANK_SECONDS=${begin:-60} timeout 120 srun -O "$@" >"$tmp/out0" 2>"$tmp/err0"; echo $? >"$tmp/code0"; }
run=("$exec" "$plan" "${of[@]}")
rm -f "$tmp"/code* "$tmp"/err*; fresh; slurm -n 3 "${run[@]}"; whole srun '0 '; [ "$(grep -c '^rank [012] of 3: getp' "$tmp/err0")" = 3 ] && ok srun_ranks || fail srun_ranks "$(cat "$tmp/err0")"
# shellcheck disable=SC2016
fresh; begin=10 slurm -n 3 bash -c '[ $SLURM_PROCID = 1 ] && kill -9 $$; exec "$@"' - "${run[@]}"
[ "$(cat "$tmp/code0")" != 0 ] && [ ! -e "$tmp/ids" ] && said srun_killed "$tmp/err0" 'rank 1 of 3: it has not begun within 10 s'
slurm -n 2 "${run[@]}"; whole srun_rest '0 '; said srun_rest_only "$tmp/err0" '5 of 8 requests are done'
