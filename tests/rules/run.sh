#!/bin/bash
# What is said of --fusions: rules that come to nothing, kernels that are not there, recipes in counts. How a rule matches: tests/fuse.
cd "$(dirname "$0")/../.." || exit 1
out=out/tests/rules
rm -rf $out && mkdir -p $out
failed=0
report() { if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: ${2//$'\n'/ / }"; failed=1; fi; }
compile() { out/gptoss-compile graphs/tiny.lua -o $out/plan.bin "$@" >$out/said 2>$out/err; }
says() { grep -qF -- "$1" $out/err || cat $out/err; }

compile --arch host --explain
report shipped/silent "$(cat $out/err)"
report shipped/explained "$(grep -q '^refused swiglu_mlp2 .*overlaps rule mlp1_swiglu (priority 10, this one 0)' $out/said || cat $out/said)"
mkdir -p $out/home/lua/fusions && cp -r lua templates $out/home && cat >$out/home/lua/fusions/own.lua <<'LUA'
return fusion { name = "own", match = function(x, g) return softmax(rmsnorm(x, g)) end, kernel = "softmax" }
LUA
GPTOSS_HOME=$out/home compile --arch host --explain
report shipped/missed "$(cat $out/err; grep -q '^missed  own  *step .*softmax at layer0.mlp.p: its x is layer0.mlp.best' $out/said || cat $out/said)"

# --- nowhere
cat >$out/nowhere.lua <<'LUA'
return {
  fusion { name = "mine", match = function(x, g) return softmax(rmsnorm(x, g)) end, kernel = "softmax" },
  fusion { name = "beaten", match = function(x, w, b, ids) return swiglu(expert_linear(x, w, b, ids)) end, kernel = "expert_linear" },
  fusion { name = "read", match = function(x, g, w, b) return linear(rmsnorm(x, g), w, b) end, when = function(m) return m.w.shape[1] == 8 end, kernel = "linear" },
}
LUA
for precision in fast strict; do
    compile --arch host --precision $precision --fusions $out/nowhere.lua
    cp $out/err $out/$precision.err
    report nowhere/$precision "$(says "warning: $out/nowhere.lua:2: rule mine fits nowhere; nearest in step: softmax at layer0.mlp.p: its x is layer0.mlp.best, result 1 of topk, where the pattern has rmsnorm"
        says "warning: $out/nowhere.lua:3: rule beaten was refused wherever it fits (4 places), first in step at layer0.mlp.swiglu: overlaps rule mlp1_swiglu (priority 10, this one 0)"
        says "warning: $out/nowhere.lua:4: rule read was refused wherever it fits (8 places)")"
done
report nowhere/same "$(diff $out/fast.err $out/strict.err)"
compile --arch host --fusions $out/nowhere.lua --no-fusion mine --no-fusion beaten --no-fusion read
report nowhere/off "$(cat $out/err)"
compile --arch host --fusions $out/nowhere.lua --no-fusion all
report nowhere/all-off "$(cat $out/err)"

# --- kernels
mkdir $out/templates && sed 's/kernel linear(x: f32|bf16\[T,K\]/kernel gpu_only(x: f32[T,K], g: f32[K]/' templates/linear.hip >$out/templates/gpu_only.hip
sed 's/kernel linear(x: f32|bf16\[T,K\]/kernel host_only(x: f32[T,K], g: f32[K]/' templates/host/linear.c >$out/templates/host_only.c
sed 's/kernel gpu_only/kernel hopper_only/; 2i //! arch sm_90' $out/templates/gpu_only.hip >$out/templates/hopper_only.hip
rule() { cat >$out/rule.lua <<LUA
return fusion {
  name = "mine",
  priority = 1,
  match = function(x, g, w, b) return linear(rmsnorm(x, g), w, b) end,
  kernel = $1,
}
LUA
}
left() { # NAME ARCH WHY
    compile --arch $2 --fusions $out/rule.lua --templates $out/templates --explain
    report "$1" "$(says "warning: $out/rule.lua:1: rule mine is left out: kernel $3"; grep -q "^refused mine .*kernel $3" $out/said || cat $out/said; cmp $out/plan.bin $out/without.bin)"
}
# the plans differ in the rules that they list, so a plan without the rule cannot be compared byte by byte: with it off, it can
off() { compile --arch $1 --fusions $out/rule.lua --templates $out/templates --no-fusion mine && cp $out/plan.bin $out/without.bin; }
rule '"gpu_only"'; off host; left kernel/gpu-only host 'gpu_only has no template for host, fast (only a .hip'
rule '{ { T = 4, "linear" }, { "gpu_only" } }'; off host; left kernel/gpu-only-recipe host 'gpu_only has no template for host, fast (only a .hip'
rule '"host_only"'; off gfx90a; left kernel/host-only gfx90a 'host_only has no template for gfx90a, fast (only a .c'
rule '"hopper_only"'; off gfx90a; left kernel/other-arch gfx90a 'hopper_only has no template for gfx90a, fast (hopper_only.hip is for sm_90'
for arch in host gfx90a; do
    for kernel in '"expert_linaer"' '{ { T = 4, "linear" }, { "expert_linaer" } }' '"combnie"'; do # the last is no template's, but an op's
        rule "$kernel"
        typo=expert_linaer meant=expert_linear
        [ "$kernel" = '"combnie"' ] && typo=combnie meant=combine
        compile --arch $arch --fusions $out/rule.lua && code=0 || code=$?
        before=$(sed -n "5s/$typo.*//p" $out/rule.lua)
        report "kernel/typo-$arch-${#kernel}" "$([ $code = 1 ] || echo "exit $code"; says "$out/rule.lua:5:$((${#before} + 1)): error: fusion mine: no template is for a kernel $typo (did you mean $meant?)"; sed -n 3p $out/err | grep -q "^ *^$" || cat $out/err)"
    done
done

# --- of a recipe's alternatives one is launched
counts() { # what report and --inspect count, without names
    grep -o '[a-z]*: [0-9]* launches a step' $out/said
    out/gptoss-exec --inspect $out/plan.bin | grep -o '^  [a-z]*  *[0-9]* nodes, [0-9]* launches'
    out/gptoss-exec --inspect $out/plan.bin | grep '^  linear_' | awk '{print $1, $3}'
}
for graph in step head; do
    bias=', b'
    [ $graph = head ] && bias=''
    for kernel in '"linear"' '{ { T = 4, "linear" }, { T = 9, "linear" }, { "linear" } }'; do
        rule "$kernel"
        sed -i "s/w, b)/w$bias)/g" $out/rule.lua
        report "recipe/compiles-$graph-${#kernel}" "$(compile --arch host --fusions $out/rule.lua --report text || cat $out/err)"
        counts >$out/counts.${#kernel}
    done
    report recipe/counts-$graph "$([ -s $out/counts.8 ] || echo 'no counts'; diff $out/counts.8 $out/counts.${#kernel})"
    out/gptoss-exec --inspect $out/plan.bin --json >$out/plan.json
    report recipe/buckets-$graph "$(jq -r '.graphs[] | . as $g | [.launches[] | {node, linear: (.kernel | startswith("linear_")), b: .buckets[]}] | group_by(.node)[]
        | select((map(.b) | unique) != $g.buckets or (any(.linear) and (map(select(.linear) | .b) | sort) != $g.buckets)) | .[0].node' $out/plan.json || echo 'jq failed')"
done
exit $failed
