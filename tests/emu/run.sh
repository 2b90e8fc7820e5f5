#!/bin/bash
# What gptoss-exec makes of the emulator's findings: the kernels of a graph do not race; one without its barriers does, and each place
# is named by a line of its template.
cd "$(dirname "$0")/../.." || exit 2
out=out/tests/emu-lines
rm -rf $out && mkdir -p $out/raced $out/outside
failed=0
report() { if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: ${2//$'\n'/ / }"; failed=1; fi; }
compile() { # PLAN [option…]
    out/gptoss-compile graphs/toy.lua --arch gfx90a -o $out/$1.bin "${@:2}" 2>$out/err && return
    grep -q 'no hipRTC' $out/err && { echo "skip lines: $(tail -1 $out/err)"; exit $failed; }
    echo "FAIL compile $1: $(tail -1 $out/err)"; exit 1
}
emu() { timeout 300 out/gptoss-exec $out/$1.bin --device emu "${@:2}" >$out/log 2>$out/err; }
compile fast
compile strict --precision strict
for p in fast strict; do emu $p --self-test --races; report races-none-$p "$([ $? = 0 ] || grep -v '^ok' $out/log $out/err | head -3)"; done

sed 's/__syncthreads();//' templates/sample.hip >$out/raced/sample.hip
compile raced --templates $out/raced
emu raced --self-test --only sample --races; code=$?
report races-exit "$([ $code = 1 ] || echo "exit $code")"
report races-named "$(cat $out/log $out/err | grep -q "kernel sample_[A-Z0-9]*: race on byte [0-9]* of LDS: .* at [a-z/]*sample.hip:[0-9]* (pc .* there is no barrier between" || head -3 $out/log $out/err)"
# each line that is named there touches shared memory: none is empty, a comment or beyond the end
wrong=$(cat $out/log $out/err | grep -o 'sample.hip:[0-9]* (pc' | tr -dc '0-9\n' | sort -un | while read -r n; do sed -n "${n}p" templates/sample.hip | grep -q '[a-z].*[][(]' || echo $n; done)
report races-lines "$wrong"
emu raced --self-test --only sample; report races-unasked "$(cat $out/log $out/err | grep 'race on')"
timeout 60 out/gptoss-exec $out/fast.bin --device ref --self-test --races >$out/log 2>$out/err
report races-elsewhere "$([ $? = 1 ] && grep -q -- '--races: device ref does not see them; --device emu does' $out/err || cat $out/err)"

# a fault
awk '/^    const real row = / {print "    if (threadIdx.x == 5) ((volatile float *)a.g)[1 << 28] = 1;"} {print}' templates/row.hip >$out/outside/row.hip
line=$(grep -n '1 << 28' $out/outside/row.hip | cut -d: -f1)
compile outside --templates $out/outside --no-fusion all
emu outside --self-test --only rmsnorm
report fault-line "$(cat $out/log $out/err | grep -q "wave 0, lane 5, pc 0x[0-9a-f]*, row.hip:${line:-none}, [a-z].*: writes 4 bytes" || head -3 $out/log $out/err)"

# hot spots: five lines at most of a kernel, which exist
out/gptoss-mkmodel tests/models/tiny.json $out/model --seed 6 2>$out/err || { echo "FAIL model: $(cat $out/err)"; exit 1; }
emu fast -w $out/model -m bench --pp 4 -f
report hot-lines "$(grep -qE '^ +[0-9.]+% +[0-9]+  row.hip:[0-9]+$' $out/err || cat $out/err)"
report hot-most "$(awk '/^ +[0-9.]+% / {n++; if (n > 5) bad = 1; if (n > 1 && $2 > last) bad = 1; last = $2; next} {n = 0} END {if (bad) print "more than five, or not the most first"}' $out/err)"

# a comgr that ends the process that loads it, or the one that asks it: an error, not the program's end
ends() { # NAME, C, what must be said
    mkdir -p $out/comgr
    printf '#include <stdlib.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n%s\n' "$2" | cc -shared -fPIC -x c -o $out/comgr/libamd_comgr.so.2 - || { echo "FAIL $1: cc"; failed=1; return; }
    GPTOSS_CACHE=$out/no-cache LD_LIBRARY_PATH=$PWD/$out/comgr timeout 60 out/gptoss-exec $out/fast.bin --device emu --self-test --only sample >$out/log 2>$out/err
    code=$?
    report "$1" "$([ $code = 1 ] && cat $out/log $out/err | grep -qF -- "$3" || echo "exit $code: $(head -3 $out/log) $(cat $out/err)")"
}
ends comgr-aborts '__attribute__((constructor)) static void f(void) { abort(); }' 'gave up while it was loaded (signal 6): out of memory'
# Not by _exit, of which TSan would have something to say.
ends comgr-ends '__attribute__((constructor)) static void f(void) { syscall(SYS_exit_group, 127); }' 'gave up while it was loaded (status 127): out of memory'
good=create_data\ release_data\ set_data\ get_data_metadata\ destroy_metadata\ metadata_lookup\ get_metadata_string\ get_metadata_list_size\ index_list_metadata\ create_disassembly_info\ destroy_disassembly_info\ disassemble_instruction
ends comgr-crashes "$(for f in $good; do [ $f = create_data ] && echo "int amd_comgr_$f(void) { abort(); }" || echo "int amd_comgr_$f(void) { return 0; }"; done)" 'comgr crashed on this code object (signal 6): it is damaged'
ends comgr-hollow "$(for f in $good; do echo "int amd_comgr_$f(void) { return $([ $f = create_disassembly_info ] && echo 1 || echo 0); }"; done)" 'this comgr cannot disassemble gfx90a'

# What comgr said is kept: with it none is needed. An entry that is damaged, however, is none, and is written anew.
again() { # NAME, the exit status wanted, LD_LIBRARY_PATH
    GPTOSS_CACHE=$out/kept LD_LIBRARY_PATH=$3 timeout 60 out/gptoss-exec $out/fast.bin --device emu --self-test --only sample >$out/log 2>$out/err
    code=$?
    report "$1" "$([ $code = "$2" ] || echo "exit $code: $(head -3 $out/log) $(cat $out/err)")"
}
rm -rf $out/kept && mkdir $out/kept
again kept-none 1 $PWD/$out/comgr # where comgr is the hollow one
again kept-first 0 ''
again kept 0 $PWD/$out/comgr
entry=$(ls $out/kept/*.said | head -1) size=$(stat -c %s "$(ls $out/kept/*.said | head -1)")
cp "$entry" $out/whole.said
printf '\377' | dd of="$entry" bs=1 seek=$((size - 9)) conv=notrunc status=none
again kept-damaged 1 $PWD/$out/comgr
truncate -s $((size - 1)) "$entry"
again kept-torn 1 $PWD/$out/comgr
again kept-again 0 ''
report kept-whole "$(cmp "$entry" $out/whole.said 2>&1)"
chmod o+w $out/kept && again kept-open 1 $PWD/$out/comgr # others may have written there
exit $failed
