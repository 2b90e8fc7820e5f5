#!/bin/bash
# The device hip without a GPU: the real dev_hip.c and dev_gpu.c on tests/hip/fake, a HIP runtime that is compiled against HIP's
# headers, checks every call, runs launches in the emulator, and injects errors. Whole getp runs, graphs, --self-test, each error.
set -u
cd "$(dirname "$0")/../.." || exit 2
fake=$PWD/out/tests/fakehip
[ -f "$fake/libamdhip64.so.5" ] || { echo "skip hip: no HIP headers (libamdhip64-dev), so no fake HIP library"; exit 0; }
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT
unset GPTOSS_MODEL GPTOSS_SYNC_LAUNCHES
ok() { echo "ok $1"; }
fail() { echo "FAIL $1: $2"; }

out/gptoss-mkmodel tests/models/tiny.json "$tmp/model" --seed 3 >/dev/null 2>&1
for p in strict fast; do
    out/gptoss-compile graphs/toy.lua --arch gfx90a --precision $p --max-tokens 64 -o "$tmp/$p.bin" 2>"$tmp/err" || { fail setup "$(tail -1 "$tmp/err")"; exit 1; }
done
printf '5\n7\n1 2 3\n%s\n%s\n11 500 3 4\n' "$(seq -s' ' 100 116)" "$(seq -s' ' 1 22)" >"$tmp/in"

exec=out/gptoss-exec
hip() { LD_LIBRARY_PATH=$fake FAKEHIP_LOG=$tmp/log $exec "$@" >"$tmp/out" 2>"$tmp/err"; }
getp() { local plan=$1; shift; hip "$tmp/$plan.bin" -w "$tmp/model" --input-ids -i "$tmp/in" -m getp -n 24 -o "$tmp/ids" "$@"; }
calls() { awk -v c="$1" '$1 == c {n = $2} END {print n + 0}' "$tmp/log"; }
clean() { # NAME STATUS WANTED: that exit status, and nothing that the library found wrong
    if grep -q 'fakehip: WRONG' "$tmp/err"; then fail "$1" "$(grep -m1 'fakehip: WRONG' "$tmp/err")"; return 1; fi
    if [ "$2" != "$3" ]; then fail "$1" "exit $2: $(tail -1 "$tmp/err")"; return 1; fi
}
says() { # NAME STATUS TEXT: failed with it
    clean "$1" "$2" 1 || return
    if grep -qF -- "$3" "$tmp/err"; then ok "$1"; else fail "$1" "expected \"$3\", got: $(tail -2 "$tmp/err")"; fi
}

# --- right answers
$exec "$tmp/strict.bin" -w "$tmp/model" --input-ids -i "$tmp/in" -m getp_cpu -n 24 -o "$tmp/want" 2>/dev/null
same() { # NAME STATUS: it worked, and the ids are ref's
    clean "$1" "$2" 0 || return
    if cmp -s "$tmp/ids" "$tmp/want"; then ok "$1"; else fail "$1" "$(cmp "$tmp/ids" "$tmp/want" 2>&1)"; fi
}
getp strict; same getp_graphs $?
mallocs=$(calls hipMalloc) # the last are the KV cache's
[ "$(calls hipGraphLaunch)" -gt 40 ] && [ "$(calls hipModuleLaunchKernel)" -lt 500 ] && ok steps_are_replayed || fail steps_are_replayed "$(calls hipGraphLaunch) replays, $(calls hipModuleLaunchKernel) launches"
# Of one run ten steps longer than another, one copy a step: all of a step's inputs, and none waits for the ids of the last.
GPTOSS_AHEAD=0 getp strict; same getp_not_ahead $?
getp strict -t 1 -n 12; few=$(calls hipMemcpyHtoDAsync) queries=$(calls hipStreamQuery)
getp strict -t 1 -n 22; more=$(calls hipMemcpyHtoDAsync)
[ $((more - few)) = 10 ] && [ "$(calls hipStreamQuery)" = "$queries" ] && ok one_copy_a_step || fail one_copy_a_step "$few then $more copies, $queries then $(calls hipStreamQuery) waits for all"
getp strict -t 2 -b 1 --device hip; head -2 "$tmp/want" >"$tmp/want2"; mv "$tmp/want2" "$tmp/want"; same getp_b1 $?
GPTOSS_SYNC_LAUNCHES=1 getp strict -t 2; same getp_sync_launches $?
[ "$(calls hipGraphLaunch)" = 0 ] && ok sync_launches_capture_nothing || fail sync_launches_capture_nothing "$(calls hipGraphLaunch) replays"
getp strict -t 2 -f; same getp_profiled $?
grep -q '^linear_K64_N128 .* [0-9]' "$tmp/err" && ok profile_lists_kernels || fail profile_lists_kernels "$(tail -3 "$tmp/err")"
for p in strict fast; do
    hip "$tmp/$p.bin" --self-test; code=$?
    clean selftest_$p $code 0 && if [ "$(grep -c '^ok' "$tmp/out")" -gt 20 ]; then ok selftest_$p; else fail selftest_$p "$(grep -v '^ok' "$tmp/out" | head -1)"; fi
done

# --- devices
hip --list-devices; code=$?
clean list $code 0 && grep -q 'hip 0  Fake MI250 0  gfx90a:sramecc+:xnack-  1.0 of 1.0 GiB free  pci 0000:C0:00.0' "$tmp/out" && ok list || fail list "$(cat "$tmp/out")"
FAKEHIP_DEVICES=2 hip --list-devices; grep -q 'hip 1  Fake MI250 1' "$tmp/out" && ok list_two || fail list_two "$(cat "$tmp/out")"
FAKEHIP_DEVICES=0 hip --list-devices; grep -q 'hip .*: 0 here' "$tmp/out" && ok list_none || fail list_none "$(cat "$tmp/out")"
FAKEHIP_DEVICES=0 getp strict; says no_device $? "device hip: there is none: is the amdgpu driver loaded"
FAKEHIP_ARCH=gfx908:sramecc+:xnack- getp strict; says other_arch $? "is gfx908:sramecc+:xnack-, this plan is for gfx90a: recompile with --arch gfx908"
FAKEHIP_ARCH=gfx90a1 getp strict; says longer_arch $? "is gfx90a1, this plan is for gfx90a"
FAKEHIP_ARCH=gfx90a:sramecc-:xnack+ hip "$tmp/strict.bin" --self-test --only tokens; code=$?; clean any_feature $code 0 && ok any_feature

# NUMA: the thread that feeds a device stays on the CPUs of its node, of those it may use.
mkdir -p "$tmp/sys/bus/pci/devices/0000:c0:00.0" "$tmp/sys/devices/system/node/node1"
first=$(awk '/Cpus_allowed_list/ {split($2, a, /[-,]/); print a[1]}' /proc/self/status)
echo 1 >"$tmp/sys/bus/pci/devices/0000:c0:00.0/numa_node"
near() { # NAME CPULIST WANTED [VARIABLE=VALUE]: how many CPUs pinned memory was asked for from
    echo "$2" >"$tmp/sys/devices/system/node/node1/cpulist"
    env GPTOSS_SYSFS="$tmp/sys" ${4:+"$4"} LD_LIBRARY_PATH="$fake" FAKEHIP_LOG="$tmp/log" $exec "$tmp/strict.bin" --self-test --only tokens >"$tmp/out" 2>"$tmp/err"
    code=$?
    clean "$1" $code 0 || return
    if [ "$(calls cpus)" = "$3" ]; then ok "$1"; else fail "$1" "$(calls cpus) CPUs, expected $3"; fi
}
if [ "$(nproc)" -gt 1 ]; then
    near numa_bound "$first,9990-9991" 1
    near numa_range "0-9999" "$(nproc)"
    near numa_elsewhere 9990 "$(nproc)"
    near numa_off "$first" "$(nproc)" GPTOSS_NUMA=0
else echo "skip numa: one CPU"
fi
GPTOSS_SYSFS=$tmp/sys hip --list-devices; grep -q 'pci 0000:C0:00.0  numa node 1' "$tmp/out" && ok list_numa || fail list_numa "$(cat "$tmp/out")"

six() { LD_LIBRARY_PATH=$PWD/out/tests/fakehip6:$fake FAKEHIP_LOG=$tmp/log $exec "$@" >"$tmp/out" 2>"$tmp/err"; }
six "$tmp/strict.bin" --self-test --only linear_K64; code=$?
clean rocm6 $code 0 && [ "$(calls hipGetDevicePropertiesR0600)" = 1 ] && [ "$(calls hipGetDeviceProperties)" = 0 ] && ok rocm6 || fail rocm6 "$(cat "$tmp/log")"
# A feature that the plan names must be the device's.
for id in gfx90a:xnack- amdgcn-amd-amdhsa--gfx90a:xnack-:sramecc+; do
    out/gptoss-compile graphs/toy.lua --arch $id --precision strict --max-tokens 64 -o "$tmp/feature.bin" 2>"$tmp/err" || fail "feature_compile" "$(tail -1 "$tmp/err")"
    hip "$tmp/feature.bin" --self-test --only tokens; code=$?; clean "feature_$id" $code 0 && ok "feature_$id"
done
FAKEHIP_ARCH=gfx90a:sramecc+:xnack+ getp feature; says feature_other $? "is gfx90a:sramecc+:xnack+, this plan is for gfx90a:sramecc+:xnack-: recompile with --arch gfx90a"
FAKEHIP_ARCH=gfx90a:sramecc-:xnack- getp feature; says feature_other_first $? "is gfx90a:sramecc-:xnack-, this plan is for gfx90a:sramecc+:xnack-"

# ROCm 7 has 6's entry points under a newer name, which is looked for first; ROCM_PATH comes before the search path.
mkdir -p "$tmp/rocm7/lib" && ln -s "$PWD/out/tests/fakehip6/libamdhip64.so.6" "$tmp/rocm7/lib/libamdhip64.so.7"
LD_LIBRARY_PATH=$tmp/rocm7/lib:$fake FAKEHIP_LOG=$tmp/log $exec "$tmp/strict.bin" --self-test --only linear_K64 >"$tmp/out" 2>"$tmp/err"; code=$?
clean rocm7 $code 0 && [ "$(calls hipGetDevicePropertiesR0600)" = 1 ] && ok rocm7 || fail rocm7 "$(cat "$tmp/log")"
ROCM_PATH=$tmp/rocm7 FAKEHIP_LOG=$tmp/log $exec "$tmp/strict.bin" --self-test --only linear_K64 >"$tmp/out" 2>"$tmp/err"; code=$?
clean rocm_path $code 0 && [ "$(calls hipGetDevicePropertiesR0600)" = 1 ] && ok rocm_path || fail rocm_path "$(cat "$tmp/log" "$tmp/err")"
FAKEHIP_ARCH=gfx942:sramecc+:xnack- six "$tmp/strict.bin" --self-test --only tokens; says rocm6_other_arch $? "is gfx942:sramecc+:xnack-, this plan is for gfx90a"

# --- errors: each is one message, nothing stays behind
FAKEHIP_MEMORY=150000 getp strict; says out_of_memory $? "device hip 0: out of memory: "
FAKEHIP_FAIL=hipMalloc:${mallocs:-40}:2 getp strict; says out_of_memory_kv $? "out of memory: "
FAKEHIP_FAIL=hipModuleLoadData:1:209 getp strict; says wrong_code $? "cannot load the code of "
FAKEHIP_FAIL=hipModuleGetFunction:3:500 getp strict; says no_kernel $? "the code has no kernel "
FAKEHIP_FAIL=hipModuleLaunchKernel:7:719 getp strict; says launch_refused $? "kernel group_R2"
FAKEHIP_FAULT=30 getp strict; says fault $? "hipErrorIllegalAddress; in or before graph replay 4, of 4 launches"
FAKEHIP_FAULT=30 GPTOSS_SYNC_LAUNCHES=1 getp strict; says fault_named $? "hipErrorIllegalAddress; the last started was launch 30, kernel "
FAKEHIP_HANG=30 GPTOSS_HANG_SECONDS=0.5 getp strict; says hang $? "hung: nothing has come back for 0.5 s (GPTOSS_HANG_SECONDS); in graph replay 1, of "
FAKEHIP_HANG=30 GPTOSS_HANG_SECONDS=0.5 GPTOSS_SYNC_LAUNCHES=1 getp strict; says hang_named $? "step 1 ("

# Every call that a run makes, failing once.
getp strict -t 1; cut -d' ' -f1 "$tmp/log" | grep -vE 'Destroy|Free$|Unload|GetErrorName|PCIBusId|^cpus' >"$tmp/calls"
getp strict -t 1 -f; cut -d' ' -f1 "$tmp/log" | grep -vE 'Destroy|Free$|Unload|GetErrorName|PCIBusId|^cpus' >>"$tmp/calls"
bad=
for call in $(sort -u "$tmp/calls"); do
    option=; [ "$call" = hipEventElapsedTime ] && option=-f
    [ "$call" = hipEventRecord ] && option=-f
    FAKEHIP_FAIL=$call:1:999 getp strict -t 1 $option
    code=$?
    [ "$call" = hipDeviceGetName ] && continue
    if [ $code != 1 ] || grep -q 'fakehip: WRONG' "$tmp/err" || ! grep -q 'device hip' "$tmp/err"; then bad="$bad $call (exit $code: $(grep -m1 -E 'WRONG|error' "$tmp/err"))"; fi
done
n=$(sort -u "$tmp/calls" | wc -l)
if [ -z "$bad" ] && [ "$n" -gt 20 ]; then ok "each of $n calls failing"; else fail "each call failing" "$n:$bad"; fi

# A device that cannot be selected, once, all along a run: captured, copied to, freed from.
getp strict -t 1; n=$(calls hipSetDevice)
bad=
for i in $(seq $((n / 16)) $((n / 16)) "$n") $((n - 2)) $((n - 1)) "$n"; do
    FAKEHIP_FAIL=hipSetDevice:$i:999 getp strict -t 1
    code=$?
    if [ $code -gt 1 ] || grep -q 'fakehip: WRONG' "$tmp/err"; then bad="$bad $i (exit $code: $(grep -m1 -E 'WRONG|error' "$tmp/err"))"; fi
done
if [ -z "$bad" ] && [ "$n" -gt 100 ]; then ok "not selected, once"; else fail "not selected, once" "of $n:$bad"; fi
