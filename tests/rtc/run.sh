#!/bin/bash
# Libraries that are there and do not load: dlopen's own reason, an error, no plan. What rtc.h promises otherwise: rtc_test.c.
cd "$(dirname "$0")/../.." || exit 1
out=out/tests/rtc
rm -rf $out && mkdir -p $out
failed=0
report() { if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: ${2//$'\n'/ / }"; failed=1; fi; }
compile() { out/gptoss-compile graphs/toy.lua --arch gfx90a "$@" >$out/said 2>$out/err; }
refused() { # NAME EXIT TEXT…
    local name=$1 code=$2 text
    shift 2
    report "$name" "$([ "$code" = 1 ] || echo "exit $code"; for text in "$@"; do grep -qF -- "$text" $out/err || cat $out/err; done; grep -E 'install |source only' $out/err; ls $out/x.bin 2>/dev/null)"
}

compile -o $out/plan.bin
if grep -q 'no hipRTC found' $out/err; then
    echo "skip hip: no hipRTC"
else
    mkdir $out/z3 && : >$out/z3/libz3.so.4
    LD_LIBRARY_PATH=$PWD/$out/z3 compile -o $out/x.bin
    code=$?
    if ldd "$(ldconfig -p | awk '/libamd_comgr.so.2 / {print $NF; exit}')" 2>/dev/null | grep -q libz3.so.4; then
        refused comgr/dependency $code 'comgr, which it needs, does not load: ' 'libz3.so.4: file too short'
        report comgr/emu "$(GPTOSS_CACHE=$out/no-cache LD_LIBRARY_PATH=$PWD/$out/z3 out/gptoss-exec --self-test $out/plan.bin --only rows --device emu 2>&1 | grep -q 'the emulator needs comgr .*libz3.so.4: file too short' || echo 'another reason')"
    else echo "skip comgr/dependency: comgr has no libz3"; rm -f $out/x.bin; fi
    (ulimit -v 120000; compile --no-cache -o $out/x.bin)
    refused comgr/memory $? 'does not load: ' 'failed to map segment'
fi

mkdir $out/cuda && : >$out/cuda/libcuda.so.1
LD_LIBRARY_PATH=$PWD/$out/cuda out/gptoss-exec --list-devices >$out/said 2>&1
if ldconfig -p | grep -q libcuda.so.1; then echo "skip cuda/broken: a driver is installed, which is found behind it"
else report cuda/broken "$(grep -q 'libcuda.so.1 is there but does not load: .*libcuda.so.1: file too short' $out/said || grep cuda $out/said)"; fi

TMPDIR=$PWD/$out/none compile --no-cache -o $out/x.bin
refused tmpdir $? 'cannot make a temporary directory in'
(unset CC; PATH=/nonexistent; out/gptoss-compile graphs/toy.lua --arch host -o $out/x.bin 2>$out/err)
report host/no-cc "$([ $? = 1 ] || echo 'exit 0'; grep -q 'no C compiler found' $out/err || cat $out/err; ls $out/x.bin 2>/dev/null)"
printf '#!/bin/sh\n[ "$1" = --version ] || case "$*" in *-shared*) sleep 100 ;; esac\nexec cc "$@"\n' >$out/slow-cc && chmod +x $out/slow-cc
(CC=$PWD/$out/slow-cc GPTOSS_RTC_TIMEOUT=0.1 out/gptoss-compile graphs/toy.lua --arch host --no-cache -o $out/x.bin 2>$out/err)
report host/time "$([ $? = 1 ] || echo 'exit 0'; grep -q 'the compiler did not end within 0.1 s' $out/err || cat $out/err; ls $out/x.bin 2>/dev/null)"
exit $failed
