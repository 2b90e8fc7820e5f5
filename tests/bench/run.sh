#!/bin/bash
# -m bench: what it runs, counts and prints, on ref, emu, host and, where its fake library is built, hip. No time is judged.
set -u
cd "$(dirname "$0")/../.." || exit 2
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT
unset GPTOSS_MODEL GPTOSS_SYNC_LAUNCHES
ok() { echo "ok $1"; }
fail() { echo "FAIL $1: $2"; }
compile() { out/gptoss-compile "graphs/$1.lua" --arch "$2" --max-tokens 64 -o "$tmp/$2.bin" 2>"$tmp/err"; }
out/gptoss-mkmodel tests/models/tiny.json "$tmp/model" --seed 3 2>/dev/null && compile toy gfx90a || { fail setup "$(tail -1 "$tmp/err")"; exit 1; }
compile toy host || { fail setup "$(tail -1 "$tmp/err")"; exit 1; }
bench() { # PLAN DEVICE arguments
    local plan=$1 device=$2
    shift 2
    out/gptoss-exec "$tmp/$plan.bin" -w "$tmp/model" --device "$device" -m bench "$@" >"$tmp/out" 2>"$tmp/err"
}
says() { # NAME PYTHON: about the last run's JSON, j; of(test, depth, batch) is a row of it
    if python3 - "$tmp/out" "$2" <<'PY' 2>"$tmp/why"; then ok "$1"; else fail "$1" "$(tail -1 "$tmp/why") $(tail -1 "$tmp/err")"; fi
import json, sys
j = json.load(open(sys.argv[1]))
rows = j.get('tests') or j.get('kernels')
def of(test, depth=0, batch=1): return [r for r in rows if (r['test'], r['depth'], r['batch']) == (test, depth, batch)][0]
exec(sys.argv[2])
PY
}

# --- sweeps
bench gfx90a ref -n 20 --json
says default 'assert [(r["test"], r["tokens"], r["steps"], r["repetitions"]) for r in rows] == [("pp10", 10, 1, 1), ("tg10", 10, 10, 1)]'
bench host host --pp 16,100 --tg 8 --depth 0,100 --batches 1,4 -r 3 --format json
says every_case 'assert len(rows) == 12 and all(r["repetitions"] == 3 and r["tokens_per_second"] > 0 and r["deviation"] >= 0 for r in rows)'
says steps 'assert of("pp100", 100, 4)["steps"] == 7 and of("pp16", 0, 4)["steps"] == 1 and of("tg8", 100, 4)["steps"] == 8 and of("tg8", 0, 4)["tokens"] == 32'
GPTOSS_AHEAD=1 bench gfx90a ref --pp 16 --tg 8 --depth 0,100 --batches 4 --json
says ahead 'assert of("tg8", 100, 4)["steps"] == 8 and of("pp16", 0, 4)["steps"] == 1'
# the emulator sees to it that what a depth makes up is there, and nothing beyond
bench gfx90a emu --pp 3 --tg 2 --depth 1,63,64,200 --batches 2 --json; says emu 'assert len(rows) == 8'
bench gfx90a ref --tg 2 --depth 1 --batches 2,3 --format csv
[ "$(wc -l <"$tmp/out")" = 3 ] && grep -q '^tg2,1,3,' "$tmp/out" && ok csv || fail csv "$(cat "$tmp/out")"
bench gfx90a ref --tg 2 --batches 2,3 --format md
[ "$(grep -c '^| tg2 ' "$tmp/out")" = 2 ] && grep -q '^|:---|---:|' "$tmp/out" && ok md || fail md "$(cat "$tmp/out")"
bench gfx90a ref --tg 2 --batches 2,3
grep -q '^bench on ref (reference interpreter), toy fast$' "$tmp/out" && [ "$(grep -c '^tg2 ' "$tmp/out")" = 2 ] && ok text || fail text "$(cat "$tmp/out")"

# --- kernels: every launch of the step is in a row, with what its body needs
out/gptoss-exec --inspect "$tmp/gfx90a.bin" --json >"$tmp/plan.json"
all='names = [r["kernel"] for r in rows]; plan = {k["symbol"] for k in json.load(open("'$tmp'/plan.json"))["kernels"]}; assert all(k in plan for n in names[:-1] for k in n.split(" + ")), names; assert names[-1] == "all" and len(set(names)) == len(names); assert sum(r["launches"] for r in rows[:-1]) == rows[-1]["launches"]'
bench gfx90a emu --tg 2 --depth 70 --batches 4 --kernels --json; says kernels_emu "$all"
# unembedding of 4 rows: 512 x 64 weights of 2 bytes, the norm's 64, 4 x 64 and 4 x 512 floats
says kernels_cost 'r = [r for r in rows if "linear_K64_N512" in r["kernel"]][0]; assert abs(r["megabytes"] - 75008e-6) < 1e-9 and abs(r["gigaflops"] - (4 * 512 * 128 + 4 * 4 * 64) * 1e-9) < 1e-12 and r["tokens"] == 4'
says no_limits_emu 'assert j["limits"]["read_bytes_per_second"] is None and "no limits of its own" in j["limits"]["note"]'
bench gfx90a ref --pp 8 --batches 4 --kernels --json
says kernels_ref 'assert sum(r["launches"] for r in rows[:-1]) == rows[-1]["launches"] and rows[0]["kernel"] == "tokens" and rows[0]["tokens"] == 32'
bench host host --tg 2 --batches 1,4 --kernels --json
says kernels_host 'assert j["limits"]["read_bytes_per_second"] > 1e8 and all(r["percent_of_read"] is not None for r in rows) and len([r for r in rows if r["kernel"] == "all"]) == 2'
bench host host --tg 2 --kernels; grep -q '^read limit [0-9.]* GB/s$' "$tmp/out" && ok kernels_text || fail kernels_text "$(head -3 "$tmp/out")"

# --- trace: one process a case, the nodes of step and sample one behind the other
bench gfx90a ref --pp 8 --tg 2 --batches 4 --trace "$tmp/trace.json" && cp "$tmp/trace.json" "$tmp/out"
says trace 'e = [x for x in j["traceEvents"] if x["ph"] == "X"]; assert len([x for x in j["traceEvents"] if x["ph"] == "M"]) == 2; n = [[x for x in e if x["pid"] == p] for p in (0, 1)]; assert len(n[0]) == len(n[1]) and n[0][0]["name"] == "ids" and n[0][-1]["cat"] == "sample" and all(a["ts"] + a["dur"] <= b["ts"] + 1e-6 for a, b in zip(n[0], n[0][1:])) and all(x["args"]["bytes"] > 0 for x in e)'

# --- errors
refused() { # NAME PATTERN arguments
    local name=$1 pattern=$2
    shift 2
    if bench gfx90a ref "$@"; then fail "$name" "exit 0"; elif grep -q -- "$pattern" "$tmp/err"; then ok "$name"; else fail "$name" "$(tail -1 "$tmp/err")"; fi
}
refused no_number '--pp 1,x: a list of whole numbers, at least 1' --pp 1,x
refused no_length '--tg 0: a list of whole numbers, at least 1' --tg 0
refused empty_list '--depth : a list' --depth ''
refused too_many 'the plan has 64 slots; recompile with --max-batch' --tg 1 --batches 65
refused too_deep 'tg9 at depth 1020: the plan has room for 1024 positions' --tg 9 --depth 1020
refused no_room 'need [0-9.]* MiB, there are' --tg 1 --depth 1000 --batches 8 --kv-memory 4K
refused both 'one at a time' --tg 1 --kernels --trace "$tmp/t"
refused trace_on_model 'is a file of the model' --tg 1 --trace "$tmp/model/config.json"
refused format 'it is text, csv, json or md' --tg 1 --format xml

# --- a whole model's least bytes
out/gptoss-compile graphs/gpt-oss-20b.lua --arch gfx90a -o "$tmp/20b.bin" 2>"$tmp/err" && why=$(out/tests/cost_test "$tmp/20b.bin") && ok cost_20b || fail cost_20b "$why$(tail -1 "$tmp/err")"

# --- a GPU's way, on the fake HIP library
[ -f out/tests/fakehip/libamdhip64.so.5 ] || { echo "skip hip: no fake HIP library"; exit 0; }
export LD_LIBRARY_PATH=$PWD/out/tests/fakehip
right() { # NAME: the last run found nothing wrong
    if grep -q 'fakehip: WRONG' "$tmp/err"; then fail "$1" "$(grep -m1 'fakehip: WRONG' "$tmp/err")"; return 1; fi
}
bench gfx90a hip --pp 5 --tg 2 --depth 0,70 --batches 2 -r 2 --json; right hip_sweep && says hip_sweep 'assert len(rows) == 4 and of("tg2", 70, 2)["steps"] == 2'
FAKEHIP_MEMORY=500000000 bench gfx90a hip --tg 2 --depth 70 --batches 2 --kernels --json; right hip_kernels && says hip_kernels "$all; assert 'out of memory' in j['limits']['note']"
bench gfx90a hip --tg 2 --batches 2 --trace "$tmp/trace.json" && cp "$tmp/trace.json" "$tmp/out"; right hip_trace && says hip_trace 'assert j["traceEvents"][0]["ph"] == "M" and all(x["dur"] >= 0 for x in j["traceEvents"][1:])'
