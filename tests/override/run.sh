#!/bin/bash
# --emit DIR, edit, --override DIR: whose file is used, what a wrong one is told, and what is left to look at when it does not compile.
cd "$(dirname "$0")/../.." || exit 1
out=out/tests/override
rm -rf $out && mkdir -p $out
failed=0
report() { if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: ${2//$'\n'/ / }"; failed=1; fi; }
compile() { out/gptoss-compile "$@" >$out/said 2>$out/err; }
wrong() { # NAME LINES command…: exit 1, and stderr holds each of the lines
    local name=$1 lines=$2 code line
    shift 2
    "$@" >$out/said 2>$out/err
    code=$?
    report "$name" "$([ $code = 1 ] || echo "exit $code"; while read -r line; do grep -qF -- "$line" $out/err || { echo "no: $line, but"; head -5 $out/err; }; done <<<"$lines")"
}

# The same graph with another constant, in a folder with the builder that it requires.
mkdir $out/graphs && cp graphs/gpt_oss.lua $out/graphs
sed 's/name = "tiny"/name = "tiny", swiglu_limit = 1.0/' graphs/tiny.lua >$out/graphs/limit.lua
sed 's/return name(x + o, "out")/return name(x + 2.0 * o, "out")/' graphs/gpt_oss.lua >$out/graphs/gpt_oss_twice.lua
sed 's/require "gpt_oss"/require "gpt_oss_twice"/' graphs/tiny.lua >$out/graphs/twice.lua

for arch in host gfx90a; do
    files=$out/$arch
    compile graphs/tiny.lua --arch $arch --emit $files -o $out/plain.bin || report $arch/emit "$(cat $out/err)"
    if [ $arch = host ]; then swiglu=expert_linear_R2_K128_E8_N256.c linear=linear_K256_N128.c; else swiglu=expert_linear.one.hip linear=linear.tile.hip; fi
    report $arch/identity "$(for f in $files/*; do sed -n 2p "$f" | grep -q '^// identity [a-z_]*[A-Za-z0-9_]* for '$arch', fast: .*; computes [0-9a-f]\{16\}$' || sed -n 2p "$f"; done)"
    compile graphs/tiny.lua --arch $arch --override $files -o $out/same.bin
    report $arch/unedited "$(cat $out/err; cmp $out/plain.bin $out/same.bin)"

    wrong $arch/other-constant "$swiglu was emitted for something else
  the file:         expert_linear_R2_K128_E8_N256 for
  this compilation: expert_linear_R2_K128_E8_N256 for
swiglu limit=7 
swiglu limit=1 " out/gptoss-compile $out/graphs/limit.lua --arch $arch --override $files -o $out/x.bin
    mkdir $files-one && cp $files/$linear $files-one
    wrong $arch/other-graph "$linear was emitted for something else" out/gptoss-compile $out/graphs/twice.lua --arch $arch --override $files-one -o $out/x.bin
    wrong $arch/other-precision "was emitted for something else" out/gptoss-compile graphs/tiny.lua --arch $arch --precision strict --override $files -o $out/x.bin
    sed -i '/^\/\/ identity /d' $files-one/$linear
    wrong $arch/no-identity "$linear has no \"// identity …\" line" out/gptoss-compile graphs/tiny.lua --arch $arch --override $files-one -o $out/x.bin

    # an argument more: the kernel would read what nobody passes
    if [ $arch = host ]; then
        sed 's/^    const float \*b;$/&\n    const float *more;/' $files/$linear >$files-one/$linear
        wrong $arch/arguments "$linear:$(grep -n '^struct Args' $files-one/$linear | cut -d: -f1): error: linear_K256_N128: its arguments are those that the plan passes" \
            out/gptoss-compile graphs/tiny.lua --arch $arch --override $files-one -o $out/x.bin
        sed 's/run((Args){p\[0\], /run((Args){p[0], p[9], /' $files/$linear >$files-one/$linear
    else
        sed 's/__restrict__ step, /__restrict__ step, const float *__restrict__ more, /' $files/$linear >$files-one/$linear
    fi
    wrong $arch/arguments-passed "its arguments are those that the plan passes; here must stand" \
        out/gptoss-compile graphs/tiny.lua --arch $arch --override $files-one -o $out/x.bin

    # blanks and comments are nobody's business
    sed 's/^    const float \*b;$/    const  float *b; \/\/ the bias/; s/^struct Args {/struct Args { \/\/ behind step/' $files/$linear >$files-one/$linear
    report $arch/edited "$(compile graphs/tiny.lua --arch $arch --override $files-one -o $out/edited.bin; grep -qxF "using $files-one/$linear" $out/err || cat $out/err
        out/gptoss-exec --inspect $out/edited.bin | grep -c ' overridden' | grep -qx 1 || echo 'not one overridden'
        out/gptoss-exec --inspect $out/edited.bin | grep -q "$linear .* overridden (--override)" || echo "not $linear"
        out/gptoss-exec --inspect $out/edited.bin --json | jq -r '.modules[] | select(.overridden) | .name' | grep -qx $linear || echo 'not in --json'
        out/gptoss-exec --inspect $out/plain.bin | grep ' overridden')"

    # the message is about the edited file's own line; there is still something to look at
    sed 's/^.*void run(.*$/&\n    no_such_name = 1;/' $files/$linear >$files-one/$linear
    line=$(grep -n no_such_name $files-one/$linear | cut -d: -f1)
    rm -f $out/x.bin
    wrong $arch/broken "$files-one/$linear:$line:" out/gptoss-compile graphs/tiny.lua --arch $arch --override $files-one --emit $files-failed --explain -o $out/x.bin
    report $arch/broken-shown "$([ "$(ls $files)" = "$(ls $files-failed)" ] || ls $files-failed; cmp $files-one/$linear $files-failed/$linear
        grep -q '^fused *mlp1_swiglu' $out/said || echo 'no --explain'; [ -e $out/x.bin ] && echo 'a plan')"
    : >$files-one/other.hip
    sed '1s/'$linear'/gone.hip/' $files/$linear >$files-one/gone.hip
    compile graphs/tiny.lua --arch $arch --override $files-one -o $out/x.bin
    report $arch/unused "$(grep -q "$files-one/gone.hip is not used: the plan has no source of this name" $out/err || cat $out/err; grep 'other.hip is not' $out/err)"
done

# a folder that held another plan: what --emit wrote goes, what somebody else wrote stays
cp -r $out/host $out/both && echo "// mine" >$out/both/mine.c && cp $out/host/$(ls $out/host | head -1) $out/both/copy.c
compile graphs/tiny.lua --arch gfx90a --emit $out/both -o $out/x.bin
report emit/older-plan "$(diff <(ls $out/both) <(cd $out/gfx90a && ls -- * ../both/mine.c ../both/copy.c | sed 's|.*/||' | sort))"
wrong emit/same-folder '--emit and --override name one folder' bash -c "out/gptoss-compile graphs/tiny.lua --arch host --emit $out/host --override $out/./host/ -o $out/x.bin; [ \$? = 2 ] && exit 1"
exit $failed
