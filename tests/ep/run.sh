#!/bin/bash
# --ep: experts dealt out over several devices. Bits are those of one device, whichever devices they are (emulated ones, the CPU, the
# reference, tests/hip/fake and tests/cuda/fake), whether they reach each other's memory or not, and in groups side by side (-g); only the
# rows that a device needs travel to it; each holds its share; a device that fails is named, and the exit status says so.
set -u
cd "$(dirname "$0")/../.." || exit 2
fake=$PWD/out/tests/fakehip exec=out/gptoss-exec compile=out/gptoss-compile
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT
unset GPTOSS_MODEL GPTOSS_SYNC_LAUNCHES GPTOSS_GPUS GPTOSS_EP HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES
ok() { echo "ok $1"; }
fail() { echo "FAIL $1: $2"; }
refused() { # NAME STATUS TEXT
    [ "$2" != 0 ] || { fail "$1" "exit 0"; return; }
    if tr '\n' ' ' <"$tmp/err" | grep -qE -- "$3"; then ok "$1"; else fail "$1" "expected \"$3\", got: $(tail -2 "$tmp/err")"; fi
}
make_plan() { # NAME options: in $tmp/NAME.bin
    local name=$1
    shift
    $compile "$@" -o "$tmp/$name.bin" 2>"$tmp/err" || fail "compile_$name" "$(tail -1 "$tmp/err")"
}

# Five experts, two a token: no number of devices but 1 and 5 divides them.
cat >"$tmp/odd.json" <<'J'
{"architectures": ["GptOssForCausalLM"], "vocab_size": 96, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
 "num_local_experts": 5, "num_experts_per_tok": 2, "head_dim": 16, "num_attention_heads": 2, "num_key_value_heads": 1,
 "sliding_window": 16, "max_position_embeddings": 128}
J
out/gptoss-mkmodel "$tmp/odd.json" "$tmp/odd" --seed 5 >/dev/null 2>&1
out/gptoss-mkmodel tests/models/least.json "$tmp/least" --seed 3 >/dev/null 2>&1
odd="graphs/gpt_oss.lua --model $tmp/odd --max-batch 8 --max-tokens 32"
least="graphs/gpt_oss.lua --model $tmp/least --max-batch 8 --max-tokens 32"
printf '7\n7\n1 2 3\n9 8 7 6 5 4 3\n95 94\n11 50 3 4\n5 4 3 2 1\n1 2 3 4 5 6 7 8 9\n' >"$tmp/in"
for n in 1 2 3 4 5; do make_plan odd$n $odd --arch host --ep $n; done
for n in 1 3; do make_plan gpu$n $odd --arch gfx90a --ep $n; done
for n in 1 2; do make_plan least$n $least --arch gfx90a --ep $n; done

# --- the CPU and the reference: every bit of the logits; the tokens
logits() { $exec "$tmp/$1.bin" -m logits --input-ids -i "$tmp/in" -o "$tmp/$1.logits" "${@:2}" >/dev/null 2>"$tmp/err"; }
getp() { $exec "$tmp/$1.bin" -m getp --input-ids -i "$tmp/in" -n 14 -o "$tmp/$1.ids" "${@:2}" >"$tmp/out" 2>"$tmp/err"; }
logits odd1 && getp odd1 && [ "$(wc -w <"$tmp/odd1.ids")" -gt 30 ] && ok host_1 || fail host_1 "$(tail -1 "$tmp/err")"
for n in 2 3 4 5; do
    logits odd$n && getp odd$n && cmp -s "$tmp/odd$n.logits" "$tmp/odd1.logits" && cmp -s "$tmp/odd$n.ids" "$tmp/odd1.ids" && ok host_$n || fail host_$n "$(cmp "$tmp/odd$n.logits" "$tmp/odd1.logits" 2>&1) $(tail -1 "$tmp/err")"
done
make_plan odd_s1 $odd --arch host --precision strict; logits odd_s1
make_plan odd_s3 $odd --arch host --precision strict --ep 3
logits odd_s3 && cmp -s "$tmp/odd_s3.logits" "$tmp/odd_s1.logits" && ok host_strict || fail host_strict "$(tail -1 "$tmp/err")"
make_plan odd_n1 $odd --arch host --no-fusion all; logits odd_n1
make_plan odd_n2 $odd --arch host --no-fusion all --ep 2
logits odd_n2 && cmp -s "$tmp/odd_n2.logits" "$tmp/odd_n1.logits" && ok host_unfused || fail host_unfused "$(tail -1 "$tmp/err")"
logits odd1 --device ref; mv "$tmp/odd1.logits" "$tmp/ref.logits"
logits odd3 --device ref && cmp -s "$tmp/odd3.logits" "$tmp/ref.logits" && ok ref || fail ref "$(tail -1 "$tmp/err")"

# --- the trained model, in text and by what it answers
make_plan tiny1 graphs/tiny.lua --arch host --model models/tiny
make_plan tiny3 graphs/tiny.lua --arch host --model models/tiny --ep 3
text() { $exec "$tmp/$1.bin" -m generate "reverse ABCDE:" -T 0 2>"$tmp/err"; }
[ -n "$(text tiny1)" ] && [ "$(text tiny3)" = "$(text tiny1)" ] && ok tiny_generate || fail tiny_generate "$(text tiny3) $(tail -1 "$tmp/err")"
$exec "$tmp/tiny3.bin" -m eval -t 40 --json >"$tmp/out" 2>"$tmp/err" && ok tiny_eval || fail tiny_eval "$(tail -1 "$tmp/err")"
$exec "$tmp/tiny3.bin" --self-test >"$tmp/out" 2>"$tmp/err" && grep -q '^ok fetch' "$tmp/out" && ok tiny_self_test || fail tiny_self_test "$(grep FAIL "$tmp/out" | head -2) $(tail -1 "$tmp/err")"

# --- emulated GPUs, which check every access: of memory that is another's, or was not written
logits gpu1 --device emu -t 3
logits gpu3 --device emu -t 3 && cmp -s "$tmp/gpu3.logits" "$tmp/gpu1.logits" && ok emu_3 || fail emu_3 "$(cmp "$tmp/gpu3.logits" "$tmp/gpu1.logits" 2>&1) $(tail -1 "$tmp/err")"
$exec "$tmp/gpu3.bin" --self-test --device emu --only expert >"$tmp/out" 2>"$tmp/err" && [ "$(grep -c '^ok expert_linear' "$tmp/out")" -gt 8 ] && ok emu_self_test || fail emu_self_test "$(grep FAIL "$tmp/out" | head -2) $(tail -1 "$tmp/err")"

# A token that goes to one expert travels to one device: over both, a row of bf16 a token and layer is written by fetch.
$exec "$tmp/least2.bin" -w "$tmp/least" -m getp --input-ids -i "$tmp/in" -n 10 -o "$tmp/ids" --device emu -f --json >"$tmp/out" 2>"$tmp/err"
python3 - "$tmp/out" <<'P' >"$tmp/why" 2>&1 && ok needed_rows || fail needed_rows "$(tail -1 "$tmp/why")"
import json, sys
j = json.load(open(sys.argv[1]))
each = [sum(k["bytes_written"] for k in d["profile"] if k["kernel"].startswith("fetch")) for d in j["devices"][0]["group"]]
tokens = j["prompt_tokens"] + j["generated_tokens"] - j["requests"]
assert min(each) > 0 and sum(each) == tokens * 32 * 2, (each, tokens)
P

# --- what the plan says
$exec --inspect "$tmp/odd3.bin" --json >"$tmp/out"
python3 - "$tmp/out" <<'P' >"$tmp/why" 2>&1 && ok inspect || fail inspect "$(tail -1 "$tmp/why")"
import json, sys
j = json.load(open(sys.argv[1]))
b = {x["name"]: x for x in j["buffers"]}
assert j["devices"] == 3
assert b["layer0.mlp.mlp1.w"]["hold"] == "each" and b["layer0.mlp.mlp1.w"]["share"] == 5 and b["layer0.mlp.mlp1.w"]["type"].endswith("[2,64,32]")
assert b["layer0.attn.qkv.w"]["hold"] == "first" and b["layer0.mlp.mlp2"]["hold"] == "common" and b["share"]["hold"] == "each"
P
$exec --inspect "$tmp/odd3.bin" >"$tmp/out"; grep -q '^  for 3 devices: ' "$tmp/out" && ok inspect_text || fail inspect_text "$(head -8 "$tmp/out")"

out/tests/damage_tool "$tmp/tiny3.bin"

# --- refused
try() { "$@" >/dev/null 2>"$tmp/err"; }
try $compile $odd --arch host --ep 6 -o "$tmp/x.bin"; refused more_than_experts $? '--ep 6: the model has 5 experts: so many devices at most'
try $compile $odd --arch host --ep 0 -o "$tmp/x.bin"; refused none $? 'ep'
getp odd2 --ep 3; refused another_ep $? '--ep 3: the plan is for 2 devices: recompile with gptoss-compile --ep 3'
getp odd1 --ep 2; refused ep_of_one $? '--ep 2: the plan is for 1 device: recompile with gptoss-compile --ep 2'
getp odd2 --ep 2 && cmp -s "$tmp/odd2.ids" "$tmp/odd1.ids" && ok this_ep || fail this_ep "$(tail -1 "$tmp/err")"
getp odd2 -g 3; refused not_multiple $? '-g 3: the plan is for groups of 2 devices .*: give a multiple of 2'
getp odd2 -g 1; refused one $? '-g 1: the plan is for groups of 2 devices .*: give a multiple of 2'
getp odd2 -g 4; refused host_groups $? '-g 4: of device host there are 2, and the plan is for groups of 2'
try $exec "$tmp/odd2.bin" -m parity; refused refused_parity $? 'looks at one device, the plan is for 2: compile one without --ep'
$exec "$tmp/odd2.bin" -m bench --pp 4 --tg 4 -r 1 >"$tmp/out" 2>"$tmp/err" && ok bench || fail bench "$(tail -1 "$tmp/err")"

# --- GPUs: the fake HIP library
if [ -f "$fake/libamdhip64.so.5" ]; then
hip() { # DEVICES PLAN options
    rm -f "$tmp/ids"
    want=$tmp/${2%?}.want
    FAKEHIP_DEVICES=$1 LD_LIBRARY_PATH=$fake FAKEHIP_LOG=$tmp/log $exec "$tmp/$2.bin" --device hip -m getp --input-ids -i "$tmp/in" -n 14 -o "$tmp/ids" "${@:3}" >"$tmp/out" 2>"$tmp/err"
}
calls() { awk -v c="$1" '$1 == c {n = $2} END {print n + 0}' "$tmp/log"; }
clean() { # NAME STATUS WANTED
    if grep -q 'fakehip: WRONG' "$tmp/err"; then fail "$1" "$(grep -m1 'fakehip: WRONG' "$tmp/err")"; return 1; fi
    if [ "$2" != "$3" ]; then fail "$1" "exit $2: $(tail -1 "$tmp/err")"; return 1; fi
}
same() { # NAME STATUS WANTED TEXT: the ids of one device; this is said
    clean "$1" "$2" "$3" || return
    if ! cmp -s "$tmp/ids" "$want"; then fail "$1" "$(cmp "$tmp/ids" "$want" 2>&1)"
    elif ! grep -qE -- "$4" "$tmp/err"; then fail "$1" "expected \"$4\", got: $(grep -vE '^ +hip|^getp' "$tmp/err" | tail -2)"
    else ok "$1"; fi
}
json() { # NAME, an expression of j, the summary
    if python3 -c 'import json, sys
j = json.load(open(sys.argv[1]))
assert eval(sys.argv[2]), json.dumps(j["devices"])' "$tmp/out" "$2" 2>"$tmp/why"
    then ok "$1"; else fail "$1" "$(tail -1 "$tmp/why")"; fi
}
hip 1 gpu1; code=$?; cp "$tmp/ids" "$want"; clean hip_1 $code 0 && [ "$(wc -w <"$want")" -gt 30 ] && ok hip_1 || fail hip_1 "$(wc -w <"$want") ids"
hip 1 least1; cp "$tmp/ids" "$want"
hip 2 least2; same hip_2 $? 0 .
hip 3 gpu3; same hip_3 $? 0 .
[ "$(calls hipDeviceEnablePeerAccess@1)" = 1 ] && [ "$(calls hipGraphLaunch@2)" -gt 20 ] && [ "$(calls hipMemcpyDtoHAsync@1)" = 0 ] && ok hip_no_host_between || fail hip_no_host_between "$(tr '\n' ' ' <"$tmp/log")"
hip 4 least2 -g 4 --json; same groups $? 0 .
json groups_memory 'len(j["devices"]) == 2 and all(d["free_before"] - d["group"][0]["free_loaded"] > d["free_before"] - d["group"][1]["free_loaded"] > 0 for d in j["devices"])'
json groups_names '[d["device"] for d in j["devices"]] == ["hip 0-1", "hip 2-3"] and [m["name"] for d in j["devices"] for m in d["group"]] == ["Fake MI250 0", "Fake MI250 1", "Fake MI250 2", "Fake MI250 3"]'
json groups_weights '[d["weights"] for d in j["devices"]] == ["disk", "peer"] and all(d["requests"] > 1 for d in j["devices"])'
hip 5 least2 -g all --json; same groups_all $? 0 .; json groups_all_two 'len(j["devices"]) == 2'
GPTOSS_AHEAD=0 hip 2 least2; same not_ahead $? 0 .
GPTOSS_SYNC_LAUNCHES=1 hip 2 least2; same one_by_one $? 0 .
FAKEHIP_NO_PEER=all hip 4 least2 -g 4; same no_peers $? 0 'device hip 1 cannot reach device hip 0 .*: what the group.s devices share lies in host memory'
FAKEHIP_NO_PEER=2-0 hip 3 gpu3; same some_peers $? 0 'device hip 2 cannot reach device hip 0 .*lies in host memory'
FAKEHIP_FAIL=hipDeviceEnablePeerAccess:1:999:1 hip 2 least2; same peer_refused $? 0 'device hip 1 cannot reach device hip 0 .*lies in host memory'
# --- a step in parts: each device's kernels, what they need of the link, who waits; the exchange counted from the ids
step() { FAKEHIP_DEVICES=3 FAKEHIP_MEMORY=500000000 LD_LIBRARY_PATH=$fake FAKEHIP_LOG=$tmp/log $exec "$tmp/$1.bin" --device "$2" -m bench "${@:3}" >"$tmp/out" 2>"$tmp/err"; }
step gpu3 hip --tg 2 --depth 9 --batches 4 --kernels --json; code=$?
clean parts $code 0 && python3 - "$tmp/out" <<'P' >"$tmp/why" 2>&1 && ok parts || fail parts "$(tail -1 "$tmp/why")"
import json, sys
j = json.load(open(sys.argv[1]))
rows, parts, link = j["kernels"], j["parts"], j["limits"]["link"]
assert all(link[k] > 0 for k in link), link
each = [r for r in rows if r["device"] is not None and r["link_megabytes"] is not None]
names = {r["kernel"] for r in each}
assert all([r["device"] for r in each if r["kernel"] == n] == [0, 1, 2] for n in names) and len(names) >= 4, names
assert {r["device"] for r in rows[:-1] if r["kernel"] not in names} == {0} and rows[-1]["kernel"] == "all" and rows[-1]["device"] is None
# 4 tokens go to 2 experts in each of 2 layers: ids of all are read by two devices, the rows that their experts need, and rows of all pairs are written
k, h, layers = 2, 32, 2
far = [r for r in each if r["device"]]
assert all(r["link_megabytes"] == 0 for r in each if not r["device"])
wrote = sum(r["link_megabytes"] for r in far if r["kernel"].startswith("expert")) * layers * 1e6
fetched = sum(r["link_megabytes"] for r in far if r["kernel"].startswith("fetch")) * layers * 1e6
assert abs(sum(r["link_megabytes"] * r["launches"] for r in far) - sum(p["link_megabytes"] for p in parts if p["part"].startswith("experts"))) < 1e-9
assert round(wrote) % (h * 4 * layers) == round(fetched) % (h * 2 * layers) == 0 and 0 < wrote <= 4 * k * h * 4 * layers and 0 < fetched <= 2 * 4 * h * 2 * layers, (wrote, fetched)
p = {(x["part"], x["device"]): x["microseconds"] for x in parts}
assert p["experts, on each device", 2] > 0 and p["first waits for the others", 0] >= 0 and p["step", 0] > 0
assert abs(p["first device alone", 0] + p["experts, on each device", 0] + p["first waits for the others", 0] + p["between parts", 0] - p["step, watched", 0]) < 0.1
assert abs(p["experts, on each device", 1] + p["idle", 1] - p["step, watched", 0]) < 0.1
P
step gpu3 hip --pp 6 --tg 2 --batches 2 --trace "$tmp/trace"; code=$?
clean trace $code 0 && python3 - "$tmp/trace" <<'P' >"$tmp/why" 2>&1 && ok trace || fail trace "$(tail -1 "$tmp/why")"
import json, sys
e = [x for x in json.load(open(sys.argv[1]))["traceEvents"] if x["ph"] == "X"]
assert {x["tid"] for x in e} == {0, 1, 2} and {x["pid"] for x in e} == {0, 1}
for pid in (0, 1):
    first, others = [x for x in e if x["pid"] == pid and not x["tid"]], [x for x in e if x["pid"] == pid and x["tid"]]
    assert all(a["ts"] + a["dur"] <= b["ts"] + 0.1 for a, b in zip(first, first[1:])) and all(x["dur"] >= 0 for x in others) # milliseconds, in float
    at = {x["name"]: x["ts"] for x in first}
    assert len(others) >= 8 and all(x["ts"] == at[x["name"]] for x in others)
P
FAKEHIP_NO_PEER=all step gpu3 hip --tg 1 --kernels; code=$?
clean parts_no_peer $code 0 && grep -q 'limits: .*no link: device hip 1 cannot reach device hip 0' "$tmp/out" && grep -qE '^handover [0-9.]+ us' "$tmp/out" && ok parts_no_peer || fail parts_no_peer "$(head -4 "$tmp/out")"
step gpu3 emu --tg 1 --batches 2 --kernels && grep -q '^tg1 .*experts, on each device  *2 ' "$tmp/out" && ! grep -q 'waits for' "$tmp/out" && ok parts_emu || fail parts_emu "$(tail -1 "$tmp/err")"
step odd2 host --tg 1 --kernels && grep -q 'no link: the devices are in one memory' "$tmp/out" && ok parts_host || fail parts_host "$(tail -1 "$tmp/err")"
step odd2 ref --tg 1 --kernels && grep -qE '^tg1 .* group .* 1 +0.000 +-$' "$tmp/out" && ok parts_ref || fail parts_ref "$(tail -1 "$tmp/err")"

hip 1 least2; refused too_few $? 'the plan is for groups of 2 devices .*device hip 1: there are 1'
hip 3 least2 -g 4; refused too_few_groups $? '-g 4: of device hip there are 3, and the plan is for groups of 2 .* hip 2  Fake'
FAKEHIP_ARCH=gfx90a,gfx942 hip 2 least2; refused mixture $? 'device hip 1 .* is gfx942, this plan is for gfx90a'

# Who fails is named, and its group is left out; alone, it is the end.
export GPTOSS_HANG_SECONDS=4
left='1 of 2 groups of devices failed; the others did all the work, and the results are whole'
FAKEHIP_FAULT=40:1 hip 4 least2 -g 4; same fault $? 1 'device hip 0-1 is left out, and [1-9] of its requests go to others: step .*device hip 1: .*hipErrorIllegalAddress'
grep -q "$left" "$tmp/err" && ok left_out || fail left_out "$(tail -1 "$tmp/err")"
FAKEHIP_FAULT=90:2 hip 4 least2 -g 4; same fault_first $? 1 'device hip 2-3 is left out, .*device hip 2: .*hipErrorIllegalAddress'
FAKEHIP_HANG=40:3 hip 4 least2 -g 4; same hang $? 1 'device hip 2-3 is left out, .*device hip 3: hung: nothing has come back for 4 s'
FAKEHIP_HANG=90:0 hip 2 least2; code=$?; clean hang_alone $code 1 && refused hang_alone $code 'error: step .*device hip 0: hung'
FAKEHIP_HANG=40:1 hip 2 least2; code=$?; clean hang_other $code 1 && refused hang_other $code 'error: step .*device hip 1: hung: .*in graph replay [0-9]+, of [0-9]+ launches from own'
FAKEHIP_MEMORY=1000000000,9000 hip 2 least2; code=$?; clean memory $code 1 && refused memory $code 'device hip 1: out of memory'

# Every call that the second device makes, failing once: nothing is left anywhere, and it is said.
hip 2 least2 -t 1 -n 4; grep -oE '^[A-Za-z]+@1 [1-9]' "$tmp/log" | cut -d@ -f1 | grep -vE 'Destroy|Free$|Unload|GetErrorName|PCIBusId|DeviceGetName|GetDeviceProperties|Peer' | sort -u >"$tmp/calls"
bad= n=0
while read -r call; do
    FAKEHIP_FAIL=$call:1:999:1 hip 2 least2 -t 1 -n 4
    code=$? n=$((n + 1))
    if grep -q 'fakehip: WRONG' "$tmp/err" || [ $code != 1 ] || ! grep -q 'error: .*device hip' "$tmp/err"; then bad="$bad $call (exit $code: $(grep -m1 -E 'WRONG|error' "$tmp/err"))"; fi
done <"$tmp/calls"
[ -z "$bad" ] && [ "$n" -gt 12 ] && ok "each of $n calls failing" || fail "each call failing" "$n:$bad"
else echo "skip hip: no HIP headers (libamdhip64-dev), so no fake HIP library"
fi

# --- the same calls of CUDA, whose kernels do nothing here
cuda_dir=$PWD/out/tests/fakecuda
make_plan sm90 $least --arch sm_90 --ep 2
if [ ! -f "$cuda_dir/libcuda.so.1" ]; then echo "skip cuda: no cuda.h (nvidia-cuda-dev), so no fake CUDA driver"
elif grep -q 'carries source only' "$tmp/err"; then echo "skip cuda: no NVRTC, so no code for sm_90"
else
cuda() {
    FAKECUDA_DEVICES=4 GPTOSS_PDL=0 LD_LIBRARY_PATH=$cuda_dir FAKECUDA_LOG=$tmp/log $exec "$tmp/sm90.bin" -w "$tmp/least" --device cuda -m getp --input-ids -i "$tmp/in" -n 12 -o "$tmp/ids" "$@" >"$tmp/out" 2>"$tmp/err"
}
tidy() { # NAME STATUS WANTED PATTERN-OF-THE-LOG
    if [ "$2" != "$3" ]; then fail "$1" "exit $2: $(tail -1 "$tmp/err")"
    elif tr '\n' ' ' <"$tmp/log" | grep -qE "wrong 0 $4\$"; then ok "$1"
    else fail "$1" "$(tr '\n' ' ' <"$tmp/log") $(grep -m1 WRONG "$tmp/err")"; fi
}
cuda; tidy cuda $? 0 'device 0 replays [1-9][0-9]* peers 0 device 1 replays [1-9][0-9]* peers 0 '
cuda -g 4; tidy cuda_groups $? 0 'device 0 replays [1-9][0-9]* peers 0 device 1 replays [1-9][0-9]* peers 0 device 2 replays [1-9][0-9]* peers [1-9][0-9]* device 3 replays [1-9][0-9]* peers [1-9][0-9]* '
FAKECUDA_NO_PEER=1 cuda; tidy cuda_no_peers $? 0 'device 0 replays [1-9][0-9]* peers 0 device 1 replays [1-9][0-9]* peers 0 '; grep -q 'lies in host memory' "$tmp/err" && ok cuda_no_peers_said || fail cuda_no_peers_said "$(tail -1 "$tmp/err")"
FAKECUDA_FAIL=1:3 cuda; refused cuda_fails $? 'device cuda 1: cannot replay a graph'

# What measures several GPUs, on four that do nothing: bench/gpus_check.sh as bench/pack.sh gpus packs it.
make_plan sm90_one $least --arch sm_90
mkdir -p "$tmp/carry/plans" "$tmp/carry/models" "$tmp/carry/kill" "$tmp/carry/bin" "$tmp/bench" "$tmp/big"
for name in 20b 120b; do cp "$tmp/sm90_one.bin" "$tmp/carry/plans/$name-1.bin"; cp "$tmp/sm90.bin" "$tmp/carry/plans/$name-2.bin"; cp tests/models/least.json "$tmp/carry/models/$name.json"; done
cp bench/gpus_check.sh "$tmp/carry/"; cp tests/gpus/kill_cuda.c out/tests/killcuda/libcuda.so.1 "$tmp/carry/kill/"; cp out/gptoss-exec out/gptoss-mkmodel "$tmp/carry/bin/"; echo none >"$tmp/carry/commit"
BIG=$tmp/big NEED=0 BUDGET=100 STEPS=40 REQUESTS=128 LONGEST=20 BATCH=8 GROUP_AT=10 FAKECUDA_DEVICES=4 GPTOSS_PDL=0 LD_LIBRARY_PATH=$cuda_dir "$tmp/carry/gpus_check.sh" getp killed >"$tmp/out" 2>"$tmp/err"
code=$?
[ $code = 0 ] && grep -q ' 13 ok, 0 failed' "$tmp/out" && [ "$(grep -c 'kill_cuda: device' "$tmp/out")" = 3 ] && ok gpus_check || fail gpus_check "exit $code: $(grep -E 'FAIL|left out:' "$tmp/out" | head -3) $(tail -1 "$tmp/out") $(tail -1 "$tmp/err")"
fi
