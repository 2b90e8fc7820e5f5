#!/bin/bash
# -g: several devices, on tests/hip/fake and tests/cuda/fake, which have as many as they are asked for, let them reach each other's
# memory or not, and fail where they are told to. Tokens are -g 1's, whatever happens; nothing stays behind on any device; who
# fails is named, and the exit status says so.
set -u
cd "$(dirname "$0")/../.." || exit 2
fake=$PWD/out/tests/fakehip exec=out/gptoss-exec
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT
unset GPTOSS_MODEL GPTOSS_SYNC_LAUNCHES GPTOSS_GPUS HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES
ok() { echo "ok $1"; }
fail() { echo "FAIL $1: $2"; }

# As small as the templates take it: the emulator runs every launch.
out/gptoss-mkmodel tests/models/least.json "$tmp/model" --seed 3 >/dev/null 2>&1
out/gptoss-compile graphs/gpt_oss.lua --model "$tmp/model" --arch gfx90a --max-batch 8 --max-tokens 32 -o "$tmp/one.bin" 2>"$tmp/err" || { fail setup "$(tail -1 "$tmp/err")"; exit 1; }
printf '14\n7\n1 2 3\n9 8 7 6 5 4 3\n9\n100 101\n11 150 3 4\n8 8\n5 4 3 2 1\n130\n1 2 3 4 5 6 7 8 9\n12 13\n77 78 79\n4\n30 31\n' >"$tmp/in"

run() { LD_LIBRARY_PATH=${lib:-$fake} FAKEHIP_LOG=$tmp/log $exec "$@" >"$tmp/out" 2>"$tmp/err"; }
getp() { rm -f "$tmp/ids"; run "$tmp/one.bin" -w "$tmp/model" --device hip --input-ids -i "$tmp/in" -m getp -n 12 -o "$tmp/ids" "$@"; }
calls() { awk -v c="$1" '$1 == c {n = $2} END {print n + 0}' "$tmp/log"; }
clean() { # NAME STATUS WANTED
    if grep -q 'fakehip: WRONG' "$tmp/err"; then fail "$1" "$(grep -m1 'fakehip: WRONG' "$tmp/err")"; return 1; fi
    if [ "$2" != "$3" ]; then fail "$1" "exit $2: $(tail -1 "$tmp/err")"; return 1; fi
}
same() { # NAME STATUS: all done, and the ids are those of one device
    clean "$1" "$2" 0 || return
    if cmp -s "$tmp/ids" "$tmp/want"; then ok "$1"; else fail "$1" "$(cmp "$tmp/ids" "$tmp/want" 2>&1)"; fi
}
left_out() { # NAME STATUS TEXT: the same ids, but the exit status is 1, and this is said of a device
    clean "$1" "$2" 1 || return
    if ! cmp -s "$tmp/ids" "$tmp/want"; then fail "$1" "$(cmp "$tmp/ids" "$tmp/want" 2>&1)"
    elif ! grep -qE -- "$3" "$tmp/err"; then fail "$1" "expected \"$3\", got: $(grep -vE '^  hip|^getp' "$tmp/err" | tail -2)"
    elif ! grep -q 'devices failed; the others did all the work, and the results are whole' "$tmp/err"; then fail "$1" "$(tail -1 "$tmp/err")"
    else ok "$1"; fi
}
refused() { # NAME STATUS TEXT: nothing is done
    [ "$2" != 0 ] && [ ! -e "$tmp/ids" ] || { fail "$1" "exit $2"; return; }
    if tr '\n' ' ' <"$tmp/err" | grep -qE -- "$3"; then ok "$1"; else fail "$1" "expected \"$3\", got: $(cat "$tmp/err")"; fi
}
json() { # NAME, an expression of j, the summary
    if python3 -c 'import json, sys
j = json.load(open(sys.argv[1]))
assert eval(sys.argv[2]), json.dumps([{k: v for k, v in d.items() if k != "profile"} for d in j["devices"]])' "$tmp/out" "$2" 2>"$tmp/why"
    then ok "$1"; else fail "$1" "$(tail -1 "$tmp/why")"; fi
}

if [ -f "$fake/libamdhip64.so.5" ]; then
# --- the same tokens
getp; code=$?; cp "$tmp/ids" "$tmp/want"; clean one $code 0 && [ "$(wc -w <"$tmp/want")" -gt 80 ] && ok one || fail one "$(wc -w <"$tmp/want") ids"
for g in 1 2 3 9; do FAKEHIP_DEVICES=9 getp -g $g; same "devices_$g" $?; done
FAKEHIP_DEVICES=3 getp -g all --json -f; same all $?
json shares 'len(j["devices"]) == 3 and sum(d["requests"] for d in j["devices"]) == 14 and abs(sum(d["share"] for d in j["devices"]) - 1) < 1e-9 and sum(d["generated_tokens"] for d in j["devices"]) == j["generated_tokens"] and all(d["requests"] > 1 for d in j["devices"])'
json tail '0 <= j["tail_seconds"] < j["seconds"] and 0 < j["cpu_seconds"] and abs(j["seconds"] - j["tail_seconds"] - min(d["busy_seconds"] for d in j["devices"])) < 1e-6'
json memory 'all(0 < d["free_loaded"] < d["free_before"] == d["memory"] for d in j["devices"])'
json weights_once '[d["weights"] for d in j["devices"]] == ["disk", "peer", "peer"]'
json profiles 'all(sum(k["launches"] for k in d["profile"]) > 50 for d in j["devices"])'
json prepared_once '[any(k["kernel"].startswith("repack") for k in d["profile"]) for d in j["devices"]] == [True, False, False]'
[ "$(calls hipMemcpyPeerAsync@0)" = 0 ] && [ "$(calls hipMemcpyPeerAsync@1)" -gt 10 ] && [ "$(calls hipMemcpyPeerAsync@1)" = "$(calls hipMemcpyPeerAsync@2)" ] && ok peer_copies || fail peer_copies "$(grep Peer "$tmp/log" | tr '\n' ' ')"
FAKEHIP_DEVICES=2 getp -g 2 -f; grep -q '^device hip 0:$' "$tmp/err" && [ "$(grep -c '^tokens_N1 .* [0-9]' "$tmp/err")" = 2 ] && ok profile_text || fail profile_text "$(cat "$tmp/err")"
FAKEHIP_DEVICES=2 getp -g 2 -b 1; same b1 $?; grep -q 'at most 2 in flight' "$tmp/err" && ok b_is_of_a_device || fail b_is_of_a_device "$(grep getp "$tmp/err")"
FAKEHIP_DEVICES=2 GPTOSS_AHEAD=0 GPTOSS_GPUS=2 getp; same not_ahead $?; [ "$(calls hipGraphLaunch@1)" -gt 5 ] && ok by_environment || fail by_environment "$(cat "$tmp/err")"
FAKEHIP_DEVICES=3 getp -g 3 -T 0.8 -s 5; cp "$tmp/ids" "$tmp/drawn"; getp -T 0.8 -s 5; cmp -s "$tmp/ids" "$tmp/drawn" && ! cmp -s "$tmp/ids" "$tmp/want" && ok drawn || fail drawn "$(cat "$tmp/err")"
printf '3\n\n5\n\n' >"$tmp/few"
FAKEHIP_DEVICES=4 getp -i "$tmp/few" -g 4; code=$?
clean more_than_requests $code 0 && [ "$(awk '{printf (NF > 0) ","}' "$tmp/ids")" = 0,1,0, ] && ok more_than_requests || fail more_than_requests "$(cat "$tmp/ids")"

# --- the trained model, in text
out/gptoss-compile graphs/tiny.lua --arch gfx90a --model models/tiny --max-batch 16 --max-tokens 64 -o "$tmp/tiny.bin" 2>"$tmp/err" || fail tiny "$(tail -1 "$tmp/err")"
grep -vE '"(recall|remember)"' models/tiny/eval.jsonl | head -7 >"$tmp/set"
python3 -c 'import json, sys
p = [json.loads(l)["prompt"] for l in open(sys.argv[1])]
print(len(p), *p, sep="\n")' "$tmp/set" >"$tmp/text"
tiny() { FAKEHIP_DEVICES=3 run "$tmp/tiny.bin" --device hip -m getp -i "$tmp/text" -n 40 -o "$tmp/ids" --print "$@"; }
tiny; code=$?; cp "$tmp/ids" "$tmp/want_ids"; cp "$tmp/out" "$tmp/want_text"
tiny -g 3 || code=1
[ $code = 0 ] && cmp -s "$tmp/ids" "$tmp/want_ids" && cmp -s "$tmp/out" "$tmp/want_text" && [ "$(grep -c '^--- request' "$tmp/out")" = 7 ] && ok tiny_print || fail tiny_print "$(diff "$tmp/out" "$tmp/want_text" | head -3) $(tail -1 "$tmp/err")"
FAKEHIP_FAIL=hipGraphLaunch:3:999:2 tiny -g 3; code=$?
[ $code = 1 ] && cmp -s "$tmp/ids" "$tmp/want_ids" && cmp -s "$tmp/out" "$tmp/want_text" && ok tiny_print_left_out || fail tiny_print_left_out "exit $code: $(tail -1 "$tmp/err")"
problems() { run "$tmp/tiny.bin" --device hip -m eval -i "$tmp/set" -o "$tmp/answers" --json "$@"; }
problems; code=$?; cp "$tmp/answers" "$tmp/want_answers"; clean eval_one $code 0
FAKEHIP_DEVICES=2 problems -g 2; code=$?; clean eval $code 0 && cmp -s "$tmp/answers" "$tmp/want_answers" && [ "$(calls hipGraphLaunch@1)" -gt 5 ] && ok eval || fail eval "$(diff "$tmp/answers" "$tmp/want_answers" | head -2)"
FAKEHIP_FAIL=hipGraphLaunch:5:999:1 FAKEHIP_DEVICES=2 problems -g 2; code=$?; clean eval_left_out $code 1 && cmp -s "$tmp/answers" "$tmp/want_answers" && ok eval_left_out || fail eval_left_out "$(diff "$tmp/answers" "$tmp/want_answers" | head -2)"

# --- which devices
rm -f "$tmp/ids"
refuse3() { FAKEHIP_DEVICES=3 getp "$@"; }
refuse3 -g 4; refused too_many $? '-g 4: of device hip there are 3: +hip 0  Fake.* +hip 1  Fake.* +hip 2  Fake'
FAKEHIP_ARCH=gfx90a:sramecc+:xnack-,gfx90a,gfx942:xnack- refuse3 -g all; refused mixture $? '-g 3: device hip 2 does not run a plan for gfx90a .*VISIBLE_DEVICES.* hip 0 .*hip 2  Fake MI250 2  gfx942'
FAKEHIP_ARCH=gfx90a:sramecc+:xnack-,gfx90a,gfx942:xnack- refuse3 -g 2; same mixture_beyond $?
FAKEHIP_ARCH=gfx942:xnack-,gfx90a refuse3 -g 2; refused mixture_first $? '-g 2: device hip 0 does not run a plan for gfx90a'
for g in 0 -1 2x many; do refuse3 -g $g; refused "number_$g" $? "-g $g: it is a number of devices, 1 or more, or all"; done
for mode in chat generate logits bench parity; do run "$tmp/one.bin" -m $mode -g 2; refused "mode_$mode" $? "-g: -m $mode runs on one device; getp and eval run on several"; done
HIP_VISIBLE_DEVICES=2,0 refuse3 -g all --json; same hip_visible $?; json hip_visible_names '[d["name"] for d in j["devices"]] == ["Fake MI250 2", "Fake MI250 0"]'
ROCR_VISIBLE_DEVICES=1,2 HIP_VISIBLE_DEVICES=1 refuse3 -g all --json; same rocr_visible $?; json rocr_visible_names '[d["name"] for d in j["devices"]] == ["Fake MI250 2"]'
CUDA_VISIBLE_DEVICES=1 refuse3 -g 2; refused cuda_visible $? 'of device hip there is 1: +hip 0  Fake MI250 1'

# Each thread stays near its own device, whatever the first was bound to.
cpus=$(python3 -c 'import os; print(*sorted(os.sched_getaffinity(0))[:2])')
read -r a b <<<"$cpus"
if [ -n "$b" ]; then
    for d in 0 1; do mkdir -p "$tmp/sys/bus/pci/devices/0000:c$d:00.0" "$tmp/sys/devices/system/node/node$d"; echo $d >"$tmp/sys/bus/pci/devices/0000:c$d:00.0/numa_node"; done
    echo "$a" >"$tmp/sys/devices/system/node/node0/cpulist"; echo "$b" >"$tmp/sys/devices/system/node/node1/cpulist"
    FAKEHIP_DEVICES=2 GPTOSS_SYSFS=$tmp/sys getp -g 2; same numa $?
    [ "$(calls cpu@0),$(calls cpu@1)" = "$a,$b" ] && ok numa_near || fail numa_near "$(grep cpu@ "$tmp/log" | tr '\n' ' ')"
else echo "skip numa: one CPU"
fi

# --- who cannot reach whom
reach() { FAKEHIP_DEVICES=3 getp -g 3 --json; }
FAKEHIP_NO_PEER=all reach; same no_peers $?; json no_peers_weights '[d["weights"] for d in j["devices"]] == ["disk", "host", "host"]'
[ "$(grep -c 'cannot reach device hip 0 (hipErrorPeerAccessUnsupported): its weights come through host memory' "$tmp/err")" = 1 ] && [ "$(calls hipMemcpyPeerAsync)" = 0 ] && ok no_peers_said || fail no_peers_said "$(cat "$tmp/err")"
FAKEHIP_NO_PEER=2-0,0-1 reach; same some_peers $?; json some_peers_weights '[d["weights"] for d in j["devices"]] == ["disk", "peer", "host"]'
FAKEHIP_FAIL=hipDeviceEnablePeerAccess:1:999:1 reach; same peer_refused $?; json peer_refused_weights '[d["weights"] for d in j["devices"]] == ["disk", "host", "peer"]'
FAKEHIP_FAIL=hipMemcpyPeerAsync:10:999:1 reach; left_out peer_fails_half_way $? 'device hip 1 is left out: .*cannot copy from another device: hipErrorUnknown'
json peer_fails_summary '"cannot copy" in j["devices"][1]["error"] and j["devices"][1]["requests"] == 0 and not "error" in j["devices"][2]'
FAKEHIP_NO_PEER=all FAKEHIP_FAIL=hipMemcpyDtoHAsync:10:999:0 reach; left_out host_fails_half_way $? 'device hip [12] is left out: .*cannot copy from another device'

# --- who fails
two() { FAKEHIP_DEVICES=2 GPTOSS_HANG_SECONDS=6 getp -g 2; }
FAKEHIP_FAULT=60:1 two; left_out fault $? 'device hip 1 is left out, and [1-9] of its requests go to others: step .*hipErrorIllegalAddress'
FAKEHIP_FAULT=60:0 two; left_out fault_first $? 'device hip 0 is left out, and [1-9] of its requests go to others: step .*hipErrorIllegalAddress'
FAKEHIP_HANG=60:1 two; left_out hang $? 'device hip 1 is left out, and [1-9] of its requests go to others: .*device hip 1: hung: nothing has come back for 6 s'
FAKEHIP_MEMORY=1000000000,150000 two; left_out out_of_memory $? 'device hip 1 is left out: .*device hip 1: out of memory'
FAKEHIP_MEMORY=150000,1000000000 two; left_out out_of_memory_first $? 'device hip 0 is left out: .*device hip 0: out of memory'
two; last=$(calls hipMalloc@0)
FAKEHIP_FAIL=hipMalloc:$last:2:0 two; left_out out_of_memory_kv $? 'device hip 0 is left out: kv cache .*out of memory'
FAKEHIP_FAIL=hipStreamCreateWithFlags:1:999:0 two; left_out not_opened $? 'device hip 0 is left out: device hip 0: cannot make a stream'
FAKEHIP_FAIL=hipGraphLaunch:6:999:0,hipGraphLaunch:9:999:1 two; code=$?; clean both_fail $code 1; refused both_fail $code 'device hip 0 is left out.*device hip 1 is left out.*error: step 3 .*device hip 0'
FAKEHIP_MEMORY=150000 two; code=$?; clean none_loads $code 1; refused none_loads $code 'error: .*device hip [01]: out of memory'

# Every call that the second device makes, failing once: in the end, the same ids, and nothing is left anywhere.
few() { rm -f "$tmp/ids"; FAKEHIP_DEVICES=2 run "$tmp/one.bin" -w "$tmp/model" --device hip --input-ids -i "$tmp/in" -m getp -t 3 -n 4 -o "$tmp/ids" "$@"; }
few; cp "$tmp/ids" "$tmp/want"
few -g 2; grep -oE '^[A-Za-z]+@1 [1-9]' "$tmp/log" | cut -d@ -f1 | grep -vE 'Destroy|Free$|Unload|GetErrorName|PCIBusId|DeviceGetName|GetDeviceProperties' >"$tmp/calls"
bad= n=0
for call in $(sort -u "$tmp/calls"); do
    FAKEHIP_FAIL=$call:1:999:1 few -g 2
    code=$? n=$((n + 1)) says='device hip 1 is left out'
    if [[ $call = *Peer ]] || [[ $call = *PeerAccess ]]; then code=$((code + 1)) says='its weights come through host memory'; fi
    if grep -q 'fakehip: WRONG' "$tmp/err" || [ $code != 1 ] || ! cmp -s "$tmp/ids" "$tmp/want" || ! grep -q "$says" "$tmp/err"; then
        bad="$bad $call (exit $code: $(grep -m1 -E 'WRONG|error|left out' "$tmp/err"))"
    fi
done
[ -z "$bad" ] && [ "$n" -gt 20 ] && ok "each of $n calls failing" || fail "each call failing" "$n:$bad"
else echo "skip hip: no HIP headers (libamdhip64-dev), so no fake HIP library"
fi

# --- the same of CUDA, whose kernels do nothing here: who does what, and where
cuda_dir=$PWD/out/tests/fakecuda
if [ -f "$cuda_dir/libcuda.so.1" ]; then
out/tests/handmade_tool "$tmp/hand.bin" --cuda && out/gptoss-mkmodel tests/models/tiny.json "$tmp/hand" --seed 3 2>/dev/null
printf '6\n1 2 3\n4\n5 6\n%s\n7\n8 9\n' "$(seq -s' ' 1 30)" >"$tmp/cuda_in"
cuda() { # of three devices
    rm -f "$tmp/ids"
    FAKECUDA_DEVICES=3 LD_LIBRARY_PATH=$cuda_dir FAKECUDA_LOG=$tmp/log GPTOSS_HANG_SECONDS=2 $exec "$tmp/hand.bin" --trust-code -w "$tmp/hand" --device cuda -m getp --input-ids -i "$tmp/cuda_in" -o "$tmp/ids" -n 40 --json "$@" >"$tmp/out" 2>"$tmp/err"
}
tidy() { # NAME STATUS WANTED PATTERN-OF-THE-LOG: the ids are -g 1's
    if [ "$2" != "$3" ]; then fail "$1" "exit $2: $(tail -1 "$tmp/err")"
    elif ! cmp -s "$tmp/ids" "$tmp/want"; then fail "$1" "$(cmp "$tmp/ids" "$tmp/want" 2>&1)"
    elif tr '\n' ' ' <"$tmp/log" | grep -qE "wrong 0 $4\$"; then ok "$1"
    else fail "$1" "$(tr '\n' ' ' <"$tmp/log") $(grep -m1 WRONG "$tmp/err")"; fi
}
each='device 0 replays [1-9][0-9]* peers 0 device 1 replays [1-9][0-9]* peers [1-9][0-9]* device 2 replays [1-9][0-9]* peers [1-9][0-9]* '
cuda; code=$?; cp "$tmp/ids" "$tmp/want"; tidy cuda_one $code 0 'device 0 replays [1-9][0-9]* peers 0 '
cuda -g 3; tidy cuda_three $? 0 "$each"
json cuda_weights '[d["weights"] for d in j["devices"]] == ["disk", "peer", "peer"] and all(d["requests"] == 2 for d in j["devices"])'
FAKECUDA_NO_PEER=1 cuda -g 2; tidy cuda_no_peers $? 0 'device 0 replays [1-9][0-9]* peers 0 device 1 replays [1-9][0-9]* peers 0 '
grep -q 'device cuda 1 cannot reach device cuda 0 .*: its weights come through host memory' "$tmp/err" && ok cuda_no_peers_said || fail cuda_no_peers_said "$(cat "$tmp/err")"
FAKECUDA_FAIL_PEER=2:4 cuda -g 3; tidy cuda_peer_fails $? 1 'device 0 replays [1-9][0-9]* peers 0 device 1 replays [1-9][0-9]* peers [1-9][0-9]* device 2 replays 0 peers 4 '
FAKECUDA_FAIL=1:9 cuda -g 3; tidy cuda_fails $? 1 "$each"
FAKECUDA_FAIL=0:9 cuda -g 3; tidy cuda_first_fails $? 1 "$each"
# What a hung device has is left to it: no leak.
FAKECUDA_HANG=2:9 ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0 cuda -g 3; tidy cuda_hangs $? 1 "$each"; grep -q 'device cuda 2 is left out, and 2 of its requests go to others: .*hung' "$tmp/err" && ok cuda_hang_said || fail cuda_hang_said "$(cat "$tmp/err")"
# A context that is lost half-way (kill_cuda.c, with which bench/gpus_check.sh does the same to a GPU). Where others live on, they do all.
killed() { # D:N options
    rm -f "$tmp/ids"
    KILLCUDA=$1 KILLCUDA_LIB=$cuda_dir/libcuda.so.1 FAKECUDA_DEVICES=3 LD_LIBRARY_PATH=out/tests/killcuda FAKECUDA_LOG=$tmp/log $exec "$tmp/hand.bin" --trust-code -w "$tmp/hand" --device cuda -m getp --input-ids -i "$tmp/cuda_in" -o "$tmp/ids" -n 40 --json "${@:2}" >"$tmp/out" 2>"$tmp/err"
}
for d in 0 1 2; do
    FAKECUDA_APART=1 killed $d:9 -g 3; tidy cuda_killed_$d $? 1 "$each"
    grep -q "kill_cuda: device $d, behind replay 9" "$tmp/err" && grep -q "device cuda $d is left out, and [12] of its requests go to others" "$tmp/err" && ok cuda_killed_${d}_said || fail cuda_killed_${d}_said "$(cat "$tmp/err")"
done
# Where the driver ends the process's others too (two H200, 2026-11-29), what was finished is kept, and --resume does the rest.
killed 1:90 -g 3 -b 1; code=$?
[ $code = 1 ] && [ ! -e "$tmp/ids" ] && [ "$(grep -c 'is left out, and' "$tmp/err")" = 3 ] && grep -qE '[1-5] of 6 requests are done, and kept in .*--resume does the rest' "$tmp/err" && ok cuda_all_lost || fail cuda_all_lost "exit $code: $(cat "$tmp/err")"
cuda -g 3 -b 1 --resume; code=$?
[ $code = 0 ] && cmp -s "$tmp/ids" "$tmp/want" && ok cuda_all_lost_resumed || fail cuda_all_lost_resumed "exit $code: $(cat "$tmp/err")"
killed 0:130 -b 2; code=$?
[ $code = 1 ] && [ ! -e "$tmp/ids" ] && grep -qE '[1-5] of 6 requests are done, and kept in .*--resume does the rest' "$tmp/err" && ok cuda_killed_alone || fail cuda_killed_alone "exit $code: $(cat "$tmp/err")"
cuda --resume; code=$?
[ $code = 0 ] && cmp -s "$tmp/ids" "$tmp/want" && [ "$(jq ".devices[0].requests" "$tmp/out")" -lt 6 ] && ok cuda_killed_resumed || fail cuda_killed_resumed "exit $code: $(cat "$tmp/err" "$tmp/out")"
CUDA_VISIBLE_DEVICES=2,1 cuda -g all; json cuda_visible '[d["name"] for d in j["devices"]] == ["Fake H100 2", "Fake H100 1"]'
cuda -g 4; refused cuda_too_many $? '-g 4: of device cuda there are 3: +cuda 0  Fake H100 0.*cuda 2  Fake'
else echo "skip cuda: no cuda.h (nvidia-cuda-dev), so no fake CUDA driver"
fi
