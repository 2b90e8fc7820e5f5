#!/bin/bash
# Several GPUs of one machine, with what `bench/pack.sh gpus` put into .carry/, in at most BUDGET seconds (540): what does not fit any
# more is left out, and said.
#   .carry/gpus_check.sh [same] [getp] [120b] [killed]     these parts only
# same: models/tiny and random shapes give the same ids on one GPU, on all, with the experts over two, with both. getp: the 20b shape on
# 1, 2, 4 … GPUs and in groups of two: tokens a second, load, tail, CPU, the same ids. 120b: its shape on two GPUs beside one, the parts
# of a step beside the link's limits. killed: a device's context is lost half-way (tests/gpus/kill_cuda.c), and a process killed: the
# same ids all the same. A line a check, ok or FAIL; all that was printed lies in $OUT. BIG: where 80 GB may go (else /dev/shm,
# made larger where that may be done, or a disk). Parts that do not disturb each other run side by side, on GPUs of their own.
here=$(cd "$(dirname "$0")" && pwd)
carry=$here
[ -d "$carry/plans" ] || carry=$(cd "$here/.." && pwd)/.carry
[ -d "$carry/plans" ] || { echo "$carry: bench/pack.sh gpus makes it" >&2; exit 2; }
export LD_LIBRARY_PATH=$carry/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} PATH=$carry/bin:$PATH
export GPTOSS_TRUST_CODE=1 GPTOSS_HANG_SECONDS=${GPTOSS_HANG_SECONDS:-30}
BUDGET=${BUDGET:-540}
STEPS=${STEPS:-384} REQUESTS=${REQUESTS:-2048} LONGEST=${LONGEST:-200} BATCH=${BATCH:-256} GROUP_AT=${GROUP_AT:-2000} # tests/ep has others
few=$((BATCH >= 16 ? BATCH / 16 : 1))
parts=${*:-same getp 120b killed}
tmp=$(mktemp -d)
log=${OUT:-$tmp}/logs
mkdir -p "$log"
trap 'kill $(jobs -p) 2>/dev/null; pack_logs; rm -rf "$tmp" ${made_big:+"$big"}' EXIT
pack_logs() { [ -z "${OUT:-}" ] || { tar -C "$OUT" -czf "$OUT/logs.tar.gz" logs && rm -rf "$log"; }; }
ok=0 bad=0

say() { printf '%4d s  %s\n' $SECONDS "$*"; }
good() { ok=$((ok + 1)); say "ok $*"; }
wrong() { bad=$((bad + 1)); say "FAIL $*"; }
wanted() { [[ " $parts " = *" $1 "* ]]; }
fits() { # WHAT SECONDS: is there time for it?
    [ $((BUDGET - SECONDS)) -ge "$2" ] || { say "left out: $1 ($((BUDGET - SECONDS)) s left)"; return 1; }
}
go() { # NAME command…: its output in $log/NAME.out and .err; in what time is left
    local name=$1 time=$((BUDGET + 20 - SECONDS))
    shift
    timeout -k 5 $((time > 5 ? time : 5)) "$@" >"$log/$name.out" 2>"$log/$name.err"
}
why() { grep -vE '^ +cuda|^getp|^  all busy' "$log/$1.err" | tail -2 | cut -c1-300; }
getp() { # NAME PLAN MODEL INPUT options…: ids in $tmp/NAME.ids, the summary in $log/NAME.out
    go "$1" gptoss-exec "$carry/plans/$2.bin" -w "$3" --input-ids -i "$4" -m getp -o "$tmp/$1.ids" --json "${@:5}"
}
same() { # NAME STATUS WANTED-STATUS OTHER: NAME's ids are OTHER's first ones
    if [ ! -e "$tmp/$1.ids" ]; then wrong "$1: exit $2: $(why "$1")"
    elif [ "$2" != "$3" ]; then wrong "$1: exit $2, not $3: $(why "$1")"
    elif ! cmp -s "$tmp/$1.ids" <(head -n "$(wc -l <"$tmp/$1.ids")" "$tmp/$4.ids"); then wrong "$1: other ids than $4"
    elif [ ! -s "$tmp/$1.ids" ]; then wrong "$1: no ids"
    else good "$1: $(wc -w <"$tmp/$1.ids") ids as $4"; fi
}
tell() { python3 "$tmp/tell.py" "$@"; }
cat >"$tmp/tell.py" <<'PY'
import json, re, sys
what, path = sys.argv[1], sys.argv[2]
try: j = json.load(open(path))
except Exception as e: sys.exit('       %s: no results' % path)
def n(x, form='%.1f'): return '-' if x is None else form % x
if what == 'getp': # one device's beside it
    one = json.load(open(sys.argv[3]))
    g = int(sys.argv[4])
    rate, first = j['generated_per_second'], one['generated_per_second']
    print('       %d GPUs: %.0f generated tok/s, %.3f of %d times one; load %.2f s (%.2f of one); %.2f s, tail %.2f s (%.1f%%); CPU %.1f s = %.2f cores; shares %s; weights %s' % (
        g, rate, rate / first / g, g, j['load_seconds'], j['load_seconds'] / one['load_seconds'], j['seconds'], j['tail_seconds'], 100 * j['tail_seconds'] / j['seconds'],
        j['cpu_seconds'], j['cpu_seconds'] / j['seconds'], ' '.join('%.1f' % (100 * d['share']) for d in j['devices']), ' '.join('%s %.2f s' % (d['weights'], d['load_seconds']) for d in j['devices'])))
if what == 'sweep':
    for r in j['tests']: print('       %s: %s batch %d: %.1f tok/s (+- %s), %.3f ms a step' % (sys.argv[3], r['test'], r['batch'], r['tokens_per_second'], n(r['deviation']), r['milliseconds_per_step']))
if what in ('kernels', 'parts'):
    l = j['limits']
    print('       limits: read %.0f GB/s, matrix %.0f TFLOP/s%s' % ((l['read_bytes_per_second'] or 0) / 1e9, (l['matrix_flops'] or 0) / 1e12, ' ' + l['note'] if l['note'] else ''))
    if 'link' in l: print('       link: ' + ', '.join('%s %s' % (k.replace('_bytes_per_second', ''), '-' if v is None else '%.1f us' % (v * 1e6) if 'handover' in k else '%.0f GB/s' % (v / 1e9)) for k, v in l['link'].items()))
if what == 'parts':
    for r in j.get('parts', []): print('    T %-3d %-39s device %d %3d x %8.1f us a step%s' % (r['tokens'], r['part'], r['device'], r['times'], r['microseconds'],
        '' if not r['link_megabytes'] else ', link %.3f MB, %s us at its limit' % (r['link_megabytes'], n(r['link_microseconds']))))
if what == 'kernels':
    for r in j['kernels']:
        name = re.sub(r'_[A-Z][A-Za-z0-9_]*', '', r['kernel'])[:28]
        print('    T %-3d %-28s %2d x %7.2f us %3s%% bound%s' % (r['tokens'], name, r['launches'], r['microseconds'] or 0, n(r['percent_of_bound'], '%.0f'),
            '' if r.get('link_megabytes') is None else ' device %d link %.3f MB %s%%' % (r['device'], r['link_megabytes'], n(r['percent_of_link'], '%.0f'))))
PY

date -u +'%Y-%m-%d %H:%M UTC'
echo "commit $(cat "$carry/commit")"
go list gptoss-exec --list-devices
all=$(grep -cE '^ +cuda [0-9]+ ' "$log/list.out")
grep -E '^ +cuda [0-9]+ ' "$log/list.out"
[ "$all" -ge 2 ] || { echo "$all GPUs here: two at least" >&2; exit 1; }
n=$((all / 2 * 2)) # in pairs

# --- checkpoints: while small models run
room() { [ "$(df --output=avail -B1G "$1" 2>/dev/null | tail -1)" -ge "$2" ] 2>/dev/null; }
find_big() { # GB
    for big in ${BIG:+"$BIG"} /dev/shm "${TMPDIR:-/tmp}"; do
        room "$big" "$1" && break
        if [ "$big" = /dev/shm ]; then mount -o remount,size="$(($1 * 2))"G /dev/shm 2>/dev/null && room /dev/shm "$1" && break; fi
        big=
    done
    [ -n "$big" ] && big=$(mktemp -d "$big/gptoss-XXXXXX") && made_big=1
}
need=${NEED:-16}
wanted 120b && need=${NEED:-85}
find_big "$need" || { echo "nowhere $need GB are free; BIG=FOLDER says where" >&2; exit 1; }
make_big() { # NAME: its checkpoint; in the background, one after the other
    go mkmodel-"$1" gptoss-mkmodel "$carry/models/$1.json" "$big/$1" --seed 1
    echo $? >"$tmp/mkmodel-$1"
}
made() { # NAME: waits for it
    while [ ! -e "$tmp/mkmodel-$1" ] && [ $SECONDS -lt "$BUDGET" ]; do sleep 0.2; done
    [ "$(cat "$tmp/mkmodel-$1" 2>/dev/null)" = 0 ] && say "$(tail -1 "$log/mkmodel-$1.err")" && return
    wrong "mkmodel-$1: $(why mkmodel-"$1")"
    return 1
}
# A virtual machine's memory may begin small and grow as it is used, 3 s for 8 GiB: page by page it does, but not for who asks for 60 at once.
grow() { # GB
    [ "$(awk '/^MemTotal/ {print int($2 / 1048576)}' /proc/meminfo)" -gt $(($1 + 20)) ] && return
    python3 -c 'import sys
at = []
for i in range(int(sys.argv[1])): at.append(b"\1" * (1 << 30))' "$1" 2>"$log/grow.err"
    say "memory grown to $(awk '/^MemTotal/ {print int($2 / 1048576)}' /proc/meminfo) GiB"
}
{ if wanted getp || wanted killed; then make_big 20b; fi; if wanted 120b; then grow "$need"; make_big 120b; fi; } &

write_requests() { # FILE SEED VOCAB COUNT LEAST MOST
    python3 -c 'import random, sys
r = random.Random(int(sys.argv[1])); vocab, count, least, most = map(int, sys.argv[2:])
print(count)
for i in range(count): print(*(r.randrange(vocab) for _ in range(r.randint(least, most))))' "${@:2}" >"$1"
}
write_requests "$tmp/small.in" 7 300 90 1 130
write_requests "$tmp/big.in" 8 "$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["vocab_size"] * 99 // 100)' "$carry/models/20b.json")" "$REQUESTS" $((LONGEST / 10)) "$LONGEST"

# --- the same ids
small() { # NAME MODEL: each way of running it
    local name=$1 model=$2
    getp "$name-one" "$name-1" "$model" "$tmp/small.in" -n 200 || { echo "$name-one $?"; return; }
    getp "$name-all" "$name-1" "$model" "$tmp/small.in" -n 200 -g "$all"; echo "$name-all $?"
    getp "$name-all-b3" "$name-1" "$model" "$tmp/small.in" -n 200 -g "$all" -b 3; echo "$name-all-b3 $?"
    getp "$name-ep2" "$name-2" "$model" "$tmp/small.in" -n 200; echo "$name-ep2 $?"
    getp "$name-ep2-b3" "$name-2" "$model" "$tmp/small.in" -n 200 -b 3; echo "$name-ep2-b3 $?"
    getp "$name-ep2-all" "$name-2" "$model" "$tmp/small.in" -n 200 -g $n; echo "$name-ep2-all $?"
}
if wanted same; then
    small trained "$carry/models/trained" >"$tmp/small-trained" &
    running=($!)
    for name in odd wide sparse; do
        dtype=mxfp4; [ $name = wide ] && dtype=bf16
        go mkmodel-$name gptoss-mkmodel "$carry/models/$name.json" "$tmp/$name" --seed 3 --dtype $dtype || wrong "mkmodel-$name: $(why mkmodel-$name)"
        small $name "$tmp/$name" >"$tmp/small-$name" &
        running+=($!)
    done
    wait "${running[@]}"
    while read -r name code; do same "$name" "$code" 0 "${name%%-*}-one"; done < <(cat "$tmp"/small-*)
fi

# --- the 20b shape on more and more GPUs
big_getp() { getp "$1" "$2" "$big/20b" "$tmp/big.in" -n "$STEPS" "${@:3}"; }
one_20b() { # the ids that others are held against
    [ -e "$tmp/20b-g1.ids" ] && return
    local some=()
    wanted getp || some=(-t $((REQUESTS / 4)))
    big_getp 20b-g1 20b-1 -b "$BATCH" -g 1 "${some[@]}"; code=$?
    [ $code = 0 ] || { wrong "20b-g1: exit $code: $(why 20b-g1)"; return 1; }
}
scale() { # NAME PLAN GPUS
    fits "$1" 45 || return
    big_getp "$1" "$2" -b "$BATCH" -g "$3"; same "$1" $? 0 20b-g1
    tell getp "$log/$1.out" "$log/20b-g1.out" "$3"
}
if wanted getp || wanted killed; then made 20b && have_20b=1; fi
if wanted 120b; then # nothing shall run beside what follows; but not for ever
    while [ ! -e "$tmp/mkmodel-120b" ] && [ $SECONDS -lt $((BUDGET / 3)) ]; do sleep 0.2; done
    [ -e "$tmp/mkmodel-120b" ] || say "the 120b checkpoint is still being made: what follows runs beside that"
fi
if wanted getp && [ -n "${have_20b:-}" ] && one_20b; then
    tell getp "$log/20b-g1.out" "$log/20b-g1.out" 1
    for ((g = 2; g < all; g *= 2)); do scale 20b-g$g 20b-1 $g; done
    scale "20b-g$all" 20b-1 "$all"
    for ((g = 2; g < n; g *= 2)); do scale 20b-ep2-g$g 20b-2 $g; done
    scale "20b-ep2-g$n" 20b-2 "$n"
fi

# --- the 120b shape on two GPUs beside one
sweep() { # GPUS NAME PLAN
    CUDA_VISIBLE_DEVICES=$1 go "$2" gptoss-exec "$carry/plans/$3.bin" -w "$big/120b" -m bench --tg 32 --batches "1,$((BATCH / 4)),$BATCH" -r 3 --json || echo "$2: $(why "$2")" >>"$tmp/120b-failed"
}
kernels() {
    CUDA_VISIBLE_DEVICES=$1 go "$2" gptoss-exec "$carry/plans/$3.bin" -w "$big/120b" -m bench --tg 32 --batches "1,$((BATCH / 4)),$BATCH" --kernels --json || echo "$2: $(why "$2")" >>"$tmp/120b-failed"
}
if wanted 120b && fits 120b 90 && made 120b; then
    if [ "$all" -ge 4 ]; then
        { sweep 2,3 120b-two 120b-2; kernels 2,3 120b-two-kernels 120b-2; } & running=($!)
        sweep 0 120b-one 120b-1 & running+=($!)
        kernels 1 120b-one-kernels 120b-1 & running+=($!)
    else
        { sweep 0,1 120b-two 120b-2; kernels 0,1 120b-two-kernels 120b-2; sweep 0 120b-one 120b-1; kernels 0 120b-one-kernels 120b-1; } & running=($!)
    fi
    wait "${running[@]}"
    if [ -e "$tmp/120b-failed" ]; then while read -r line; do wrong "$line"; done <"$tmp/120b-failed"; else good "120b: one GPU and two, whole steps and parts"; fi
    tell sweep "$log/120b-one.out" 'one GPU'
    tell sweep "$log/120b-two.out" 'two GPUs'
    tell parts "$log/120b-two-kernels.out"
    tell kernels "$log/120b-two-kernels.out" >"$log/120b-two-kernels.txt"; grep -E ' link ' "$log/120b-two-kernels.txt"
    tell kernels "$log/120b-one-kernels.out" >"$log/120b-one-kernels.txt"; grep -E 'expert|mlp|group' "$log/120b-one-kernels.txt"
fi

# --- a device is lost, a process killed
libcuda=$(python3 -c 'import ctypes
ctypes.CDLL("libcuda.so.1")
print(next(l.split()[-1] for l in open("/proc/self/maps") if "libcuda.so" in l))')
if command -v ptxas >"$tmp/where" && sed -n '/^static const char ptx/,/;$/p' "$carry/kill/kill_cuda.c" | grep -o '"[^"]*"' | tr -d '"' | sed 's/\\n/\n/g' >"$tmp/trap.ptx" && ptxas -arch sm_90 -o "$tmp/trap.cubin" "$tmp/trap.ptx" 2>"$log/ptxas.err"
then export KILLCUDA_CODE=$tmp/trap.cubin; fi
killed() { # NAME DEVICE:REPLAY PLAN options: as big_getp
    LD_LIBRARY_PATH=$carry/kill:$LD_LIBRARY_PATH KILLCUDA_LIB=$libcuda KILLCUDA=$2 big_getp "$1" "$3" "${@:4}"
}
# One is lost half-way: either the others do all, or all of the process are lost with it and the next run, with --resume, does the rest.
lost() { # NAME DEVICE:REPLAY PLAN options
    fits "$1" 40 || return
    killed "$@"; code=$?
    grep -hE 'kill_cuda:|left out' "$log/$1.err" | sed -E 's/; GPTOSS_SYNC.*//; s/gptoss-exec: warning: //' | cut -c1-230 | sed 's/^/       /'
    if ! grep -q kill_cuda: "$log/$1.err"; then wrong "$1: nothing was killed"; return; fi
    if [ -e "$tmp/$1.ids" ]; then same "$1" $code 1 20b-g1; return; fi
    say "$1: exit $code, and no device went on: $(grep -ohE '[0-9]+ of [0-9]+ requests are done' "$log/$1.err" || echo 'no request was done')"
    [ $code = 1 ] || wrong "$1: exit $code"
    cp "$log/$1.err" "$log/$1-lost.err"
    big_getp "$1" "$3" "${@:4}" --resume; same "$1" $? 0 20b-g1
}
# Processes of their own, as Slurm's ranks are: who loses a device is one of them.
ranks() {
    local job=$$ pids=() i
    for ((i = 0; i < 2; i++)); do
        [ $i = 1 ] && export LD_LIBRARY_PATH=$carry/kill:$LD_LIBRARY_PATH KILLCUDA_LIB=$libcuda KILLCUDA=0:$STEPS
        SLURM_JOB_ID=$job SLURM_STEP_ID=0 SLURM_PROCID=$i SLURM_NTASKS=2 CUDA_VISIBLE_DEVICES=$i gptoss-exec "$carry/plans/20b-1.bin" -w "$big/20b" --input-ids -i "$tmp/big.in" -m getp \
            -o "$tmp/20b-ranks.ids" -n "$STEPS" -b "$BATCH" "${part[@]}" >"$log/20b-ranks-$i.out" 2>"$log/20b-ranks-$i.err" & pids+=($!)
    done
    wait "${pids[@]}"
}
if wanted killed && [ -n "${have_20b:-}" ] && fits killed 60 && one_20b; then
    part=(-t $((REQUESTS / 4))) # two replays a step
    lost 20b-lost-last $((all - 1)):"$STEPS" 20b-1 -g "$all" -b "$BATCH" "${part[@]}"
    lost 20b-lost-first 0:"$STEPS" 20b-1 -g "$all" -b "$BATCH" "${part[@]}"
    if fits 20b-ranks 45; then
        (ranks)
        if [ -e "$tmp/20b-ranks.ids" ]; then wrong "20b-ranks: it was to miss some requests"
        else good "20b-ranks: $(grep -ohE '[0-9]+ of [0-9]+ requests are missing' "$log/20b-ranks-0.err"), $(grep -oE 'rank 1 of 2.*' "$log/20b-ranks-0.err" | cut -c1-120)"; fi
        big_getp 20b-ranks 20b-1 -g "$all" -b "$BATCH" "${part[@]}" --resume; same 20b-ranks $? 0 20b-g1
    fi
    if fits 20b-lost-alone 40; then
        alone=(-b "$few" -t $((REQUESTS / 32)))
        killed 20b-lost-alone 0:$((5 * STEPS)) 20b-1 -g 1 "${alone[@]}"; code=$?
        [ $code = 1 ] && [ ! -e "$tmp/20b-lost-alone.ids" ] && good "20b-lost-alone: $(grep -ohE '[0-9]+ of [0-9]+ requests are done' "$log/20b-lost-alone.err")" || wrong "20b-lost-alone: exit $code: $(why 20b-lost-alone)"
        big_getp 20b-lost-alone 20b-1 -g "$all" "${alone[@]}" --resume; same 20b-lost-alone $? 0 20b-g1
        tell getp "$log/20b-lost-alone.out" "$log/20b-g1.out" "$all" | grep -o '[0-9.]* s, tail.*'
    fi
    if [ $n -lt 4 ]; then lost 20b-lost-in-group 1:"$GROUP_AT" 20b-2 -b "$BATCH" "${part[@]}"; else lost 20b-lost-in-group $((n - 1)):"$GROUP_AT" 20b-2 -g $n -b "$BATCH" "${part[@]}"; fi
    if fits 20b-process-killed 40; then
        command=(gptoss-exec "$carry/plans/20b-1.bin" -w "$big/20b" --input-ids -i "$tmp/big.in" -m getp -o "$tmp/20b-process-killed.ids" --json -n "$STEPS" -g "$all" -b "$few" "${part[@]}")
        "${command[@]}" >"$log/20b-process.out" 2>"$log/20b-process.err" & victim=$!
        until [ "$(cat "$tmp"/20b-process-killed.ids.parts/* 2>/dev/null | wc -l)" -gt $((REQUESTS / 50)) ] || ! kill -0 $victim 2>/dev/null; do sleep 0.02; done
        kill -KILL $victim 2>/dev/null
        wait $victim 2>/dev/null
        [ ! -e "$tmp/20b-process-killed.ids" ] && good "20b-process-killed: before its end" || wrong "20b-process-killed: it had ended"
        go 20b-process-killed "${command[@]}" --resume; same 20b-process-killed $? 0 20b-g1
        say "resumed: $(python3 -c 'import json, sys; print(sum(d["requests"] for d in json.load(open(sys.argv[1]))["devices"]), "requests were left")' "$log/20b-process-killed.out")"
    fi
fi
say "$ok ok, $bad failed"
[ $bad = 0 ]
