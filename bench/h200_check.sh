#!/bin/bash
# The cuda device on a real GPU, with what bench/pack.sh put into .carry/: every kernel against its reference, whole models
# against ref, batches against each other, a 20b-shaped random checkpoint. A line per check: ok, FAIL; ends with the counts.
#   bench/h200_check.sh [quick|20b|many]     MODEL_DIR: where 14 GB may go (/dev/shm)
# quick: no 20b-shaped model; 20b: only that; many: of that, what many requests at once need: the same ids whatever -b is, twice, and the
# throughput from one token a step to 1,024 at 40 points.
cd "$(dirname "$0")/.." || exit 2
what=${1:-all}
carry=$PWD/.carry
export LD_LIBRARY_PATH=$carry/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} PATH=$carry/bin:$PATH
export GPTOSS_TRUST_CODE=1 # the plans were compiled where bench/pack.sh ran: not by this machine's compiler
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT
log=${OUT:-$tmp}
ok=0 bad=0
date -u +'%Y-%m-%d %H:%M UTC'
echo "commit $(cat .carry/commit 2>/dev/null)"

check() { # name, command… : its last line of stderr is the reason
    local name=$1 start=$SECONDS
    shift
    timeout "${LIMIT:-120}" "$@" >"$log/$name.out" 2>"$log/$name.err"
    local code=$?
    if [ $code = 0 ]; then ok=$((ok + 1)); echo "ok $name ($((SECONDS - start)) s)"
    else bad=$((bad + 1)); echo "FAIL $name: exit $code"; grep '^FAIL' "$log/$name.out" | head -8; tail -3 "$log/$name.err"
    fi
}
same() { # name, two files
    if cmp -s "$2" "$3"; then ok=$((ok + 1)); echo "ok $1"; else bad=$((bad + 1)); echo "FAIL $1: $(cmp "$2" "$3" 2>&1)"; fi
}
show() { sed "s/^/    /" "$log/$1.out" "$log/$1.err" | tail -"${2:-20}"; }

check list gptoss-exec --list-devices; show list

getp() { # name, plan, model, input, options…
    local name=$1 plan=$2 model=$3 input=$4
    shift 4
    check "$name" gptoss-exec "$carry/plans/$plan.bin" -w "$model" --input-ids -i "$input" -o "$tmp/$name.ids" "$@"
}

if [ "$what" = all ] || [ "$what" = quick ]; then
    for plan in tiny unfused mlp2 odd wide mqa d80 sparse d64; do
        for precision in strict fast; do check "selftest-$plan-$precision" gptoss-exec "$carry/plans/$plan-$precision.bin" --self-test; done
    done
    check selftest-kv16 gptoss-exec "$carry/plans/kv16.bin" --self-test --only attention
    check selftest-kv32 gptoss-exec "$carry/plans/kv32.bin" --self-test --only attention

    for precision in strict fast; do check selftest-host-$precision gptoss-exec "$carry/plans/host-$precision.bin" --self-test; done

    check mkmodel-tiny gptoss-mkmodel "$carry/models/tiny.json" "$tmp/tiny" --seed 3
    for precision in strict fast; do
        getp cpu-$precision tiny-$precision "$tmp/tiny" "$carry/tiny.in" -m getp_cpu -n 200
        for b in 1 3 64; do getp cuda-$precision-b$b tiny-$precision "$tmp/tiny" "$carry/tiny.in" -m getp -n 200 -b $b; done
        same $precision-b3-as-b1 "$tmp/cuda-$precision-b3.ids" "$tmp/cuda-$precision-b1.ids"
        same $precision-b64-as-b1 "$tmp/cuda-$precision-b64.ids" "$tmp/cuda-$precision-b1.ids"
        getp again-$precision tiny-$precision "$tmp/tiny" "$carry/tiny.in" -m getp -n 200 -b 64 -f
        same $precision-profiled "$tmp/again-$precision.ids" "$tmp/cuda-$precision-b1.ids"
        check parity-$precision gptoss-exec "$carry/plans/tiny-$precision.bin" -w "$tmp/tiny" --input-ids -i "$carry/tiny.in" -m parity -t 6 -n 40
    done
    for precision in strict fast; do # the trained model: as many right answers as on ref
        for device in cuda ref; do
            check eval-$precision-$device gptoss-exec "$carry/plans/trained-$precision.bin" -w "$carry/models/trained" -m eval --device $device \
                -i "$carry/models/trained/eval.jsonl" -o "$tmp/eval-$precision-$device.jsonl"
        done
        show eval-$precision-cuda
    done
    same eval-strict-as-ref "$tmp/eval-strict-cuda.jsonl" "$tmp/eval-strict-ref.jsonl"
    same strict-as-ref "$tmp/cuda-strict-b64.ids" "$tmp/cpu-strict.ids"
    draw=(-n 60 -T 1.2 --top-k 200 -p 0.95 --min-p 0.001 -s 7) # a draw depends on seed, request and position alone
    getp drawn-ref tiny-strict "$tmp/tiny" "$carry/tiny.in" -m getp_cpu "${draw[@]}"
    for b in 1 64; do getp drawn-b$b tiny-strict "$tmp/tiny" "$carry/tiny.in" -m getp -b $b "${draw[@]}"; done
    same drawn-b64-as-b1 "$tmp/drawn-b64.ids" "$tmp/drawn-b1.ids"
    same drawn-as-ref "$tmp/drawn-b1.ids" "$tmp/drawn-ref.ids"
    if [ $bad != 0 ]; then
        export GPTOSS_SYNC_LAUNCHES=1
        getp sync-strict tiny-strict "$tmp/tiny" "$carry/tiny.in" -m getp -n 100 -b 8
    fi
    show again-fast 40
fi

big=${MODEL_DIR:-/dev/shm}/gptoss-20b
if [ "$what" != quick ]; then
    [ -f "$big/config.json" ] || LIMIT=200 check mkmodel-20b gptoss-mkmodel "$carry/models/20b.json" "$big" --seed 1
fi

if [ "$what" = all ] || [ "$what" = 20b ]; then
    LIMIT=200 check selftest-20b-fast gptoss-exec "$carry/plans/20b-fast.bin" --self-test
    LIMIT=200 check bench-20b gptoss-exec "$carry/plans/20b-fast.bin" -w "$big" -m bench --pp 128 --tg 128 --batches 1,8,64 -r 3
    show bench-20b
    LIMIT=200 check kernels-20b gptoss-exec "$carry/plans/20b-fast.bin" -w "$big" -m bench --tg 128 --depth 512 --batches 1,64 --kernels
    show kernels-20b 60
    LIMIT=200 check selftest-20b-host gptoss-exec "$carry/plans/20b-host-fast.bin" --self-test --only linear
    LIMIT=200 check bench-20b-host gptoss-exec "$carry/plans/20b-host-fast.bin" -w "$big" -m bench -n 600 -r 1
    show bench-20b-host
    for b in 1 3 64; do LIMIT=300 getp 20b-b$b 20b-fast "$big" "$carry/20b.in" -m getp -n 220 -t 12 -b $b; done
    same 20b-b3-as-b1 "$tmp/20b-b3.ids" "$tmp/20b-b1.ids"
    same 20b-b64-as-b1 "$tmp/20b-b64.ids" "$tmp/20b-b1.ids"
    # Each number of tokens has kernels of its own, with shapes that no small model gives them: all must have the same bits.
    for c in 1 16 64 128 256 600; do
        LIMIT=100 check 20b-logits-$c gptoss-exec "$carry/plans/20b-fast.bin" -w "$big" -m logits --input-ids -i "$carry/20b-long.in" -o "$big/logits-$c" --prefill-chunk $c
        [ $c = 1 ] || { same 20b-logits-$c-as-1 "$big/logits-$c" "$big/logits-1"; rm -f "$big/logits-$c"; }
    done
    rm -f "$big/logits-1"
    LIMIT=200 check selftest-20b-strict gptoss-exec "$carry/plans/20b-strict.bin" --self-test
    LIMIT=200 check bench-20b-strict gptoss-exec "$carry/plans/20b-strict.bin" -w "$big" -m bench -b 1 -n 32 -r 2
    show bench-20b-strict
fi

if [ "$what" = all ] || [ "$what" = many ]; then
    for b in 1024 64 3 1 1024again 64again; do
        LIMIT=200 getp many-b$b 20b-many "$big" "$carry/many.in" -m getp -n 48 -b "${b%again}"
        [ $b = 1024 ] || same many-b$b-as-b1024 "$tmp/many-b$b.ids" "$tmp/many-b1024.ids"
    done
    echo "    $(wc -w <"$tmp/many-b1024.ids") ids of $(wc -l <"$tmp/many-b1024.ids") prompts: $(md5sum <"$tmp/many-b1024.ids")"
    points=1,2,3,4,5,6,7,8,10,12,14,16,20,24,28,32,40,48,56,64,72,80,96,112,128,144,160,176,192,208,224,256,320,384,448,512,640,768,896,1024
    LIMIT=300 check curve gptoss-exec "$carry/plans/20b-many.bin" -w "$big" -m bench --tg 16 --batches $points -r 1 --json
    [ -s "$log/curve.out" ] && python3 - "$log/curve.out" <<'PY'
import json, sys
best = 0
for t in json.load(open(sys.argv[1]))['tests']:
    rate = t['tokens_per_second']
    best = max(best, rate)
    print('    %5d tokens a step: %8.0f tok/s%s' % (t['batch'], rate, '' if rate > 0.98 * best else '   %.1f%% below fewer' % (100 - 100 * rate / best)))
PY
fi
[ "$what" = quick ] || rm -rf "$big"
echo "$ok ok, $bad failed"
[ $bad = 0 ]
