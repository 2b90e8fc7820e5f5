#!/bin/bash
# What the compiler emits: whole kernels of graphs/toy.lua (without the prelude), and for the full-size models a summary: every
# kernel with its uses, launches and bytes, so that a lost fusion is a one-line diff. REBASE=1 rewrites the expected files.
set -u
here=tests/emit
out=out/tests/emit
rm -rf $out && mkdir -p $out
compare() { # name, got
    [ -n "${REBASE:-}" ] && cp "$2" "$here/$1"
    if diff -u "$here/$1" "$2" >$out/diff 2>&1; then echo "ok $1"; else echo "FAIL $1: differs (diff $here/$1 $2): $(grep -m1 '^[-+][^-+]' $out/diff)"; fi
}
out/gptoss-compile graphs/toy.lua --arch gfx90a --precision fast --emit $out/src -o $out/plan.bin 2>$out/err || echo "FAIL compile: $(tail -1 $out/err)"
for f in map.hip row.hip linear.stream.hip router.hip; do
    sed -n '/^#line 1 "[a-z_]*_[A-Z]/,$p' $out/src/$f >$out/$f
    compare $f $out/$f
done
for model in 20b 120b; do
    for precision in fast strict; do
        out/gptoss-compile graphs/gpt-oss-$model.lua --arch gfx90a --precision $precision --report text -o $out/plan.bin >$out/report 2>$out/err || echo "FAIL compile: $(tail -1 $out/err)"
        sed '1s/, compiled in.*//' $out/report | awk 'NF == 10 && NR > 5 {print $1, $2; next} {print}' | sed '/^kernel/d' >$out/$model-$precision.txt
        compare $model-$precision.txt $out/$model-$precision.txt
    done
done
out/gptoss-compile graphs/toy.lua --arch gfx90a --no-cache -o $out/a.bin 2>/dev/null && out/gptoss-compile graphs/toy.lua --arch gfx90a --no-cache -j 1 -o $out/b.bin 2>/dev/null
if cmp -s $out/a.bin $out/b.bin; then echo "ok equal inputs give equal plan bytes"; else echo "FAIL equal inputs give different plans"; fi
out/gptoss-compile graphs/toy.lua --arch gfx90a --override $out/src -o $out/c.bin 2>/dev/null
out/gptoss-compile graphs/toy.lua --arch gfx90a -o $out/d.bin 2>/dev/null
if cmp -s $out/c.bin $out/d.bin; then echo "ok --override of unedited sources changes nothing"; else echo "FAIL --override of unedited sources changes the plan"; fi
out/gptoss-compile graphs/toy.lua --arch gfx90a -o /dev/full 2>$out/err
code=$?
if [ $code = 1 ] && grep -q 'No space left' $out/err && [ -c /dev/full ]; then echo "ok a full disk is an error, and a device is not replaced"; else echo "FAIL /dev/full: exit $code: $(cat $out/err)"; fi
for arch in gfx942 gfx1100 sm_99 ""; do
    out/gptoss-compile graphs/toy.lua --arch "$arch" -o $out/e.bin 2>$out/err
    code=$?
    if [ $code -gt 0 ] && [ $code -lt 3 ] && grep -q "gfx90a" $out/err; then echo "ok --arch '$arch' is a clear error"; else echo "FAIL --arch '$arch': exit $code: $(cat $out/err)"; fi
done
