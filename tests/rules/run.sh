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
mkdir -p $out/home/lua/fusions && cp -rL lua templates $out/home && cat >$out/home/lua/fusions/own.lua <<'LUA'
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

# --- a value and its rounding as results of one rule, in some layers only: right in fast and in strict, one kernel for all of them
cat >$out/both.lua <<'LUA'
return fusion {
  name = "norm_both",
  priority = 20,
  match = function(x, g, w, b)
    local n = rmsnorm(x, g)
    return n, maybe(cast(n, { to = "bf16" })), topk(linear(n, w, b))
  end,
  when = function(m) return m.layer % 2 == 1 and m.scope == "layer" .. m.layer .. ".mlp" end,
}
LUA
for precision in fast strict; do
    results=3 && [ $precision = fast ] && results=4
    compile --arch host --precision $precision --fusions $out/both.lua --dump fuse
    report both/results-$precision "$(got=$(grep -B1 '^  rule norm_both' $out/said | grep FUSED | sed 's/ = FUSED.*//' | awk -F': ' '{print $1, NF - 1}' | tr '\n' ' ')
        [ "$got" = "layer1.mlp.n $results layer3.mlp.n $results " ] || echo "$got")"
    out/gptoss-exec $out/plan.bin --self-test --device host >$out/self 2>&1
    report both/self-test-$precision "$([ $? = 0 ] && grep -q '^ok rmsnorm_.*N128' $out/self || grep -v '^ok' $out/self)"
    out/gptoss-exec --inspect $out/plan.bin --json >$out/plan.json # layers 1 and 3 run the same kernels
    report both/shared-$precision "$(jq -r '.graphs[0].launches | map(select(.node == "layer1.mlp.n").kernel) == map(select(.node == "layer3.mlp.n").kernel) and (map(select(.node == "layer1.mlp.n")) | length > 1)' $out/plan.json | grep -vx true)"
done

# --- off in a part of the graph
explained() { awk -v rule="$1" -v why="$2" '$2 == rule && index($0, why) {print $1, $4}' $out/said | tr '\n' ' '; } # RULE WHY
compile --arch host --explain --no-fusion mlp1_swiglu@layer1..2 --no-fusion mlp2_combine@layer2 --no-fusion qkv_rope_kv@layer.attn --no-fusion elementwise@layer3.mlp
got() { [ "$(explained "$1" "$2")" = "$3" ] || explained "$1" "$2"; } # what became of a rule
report scope/rule "$(got mlp1_swiglu '' 'fused layer0.mlp.swiglu: refused layer1.mlp.swiglu: refused layer2.mlp.swiglu: fused layer3.mlp.swiglu: ')"
report scope/alternative "$(got swiglu_mlp2 '' 'refused layer0.mlp.mlp2: refused layer1.mlp.mlp2: fused layer2.mlp.mlp2: refused layer3.mlp.mlp2: ')"
report scope/range "$(got qkv_rope_kv 'no-fusion qkv_rope_kv@layer.attn' 'refused layer0.attn.kv: refused layer1.attn.kv: refused layer2.attn.kv: refused layer3.attn.kv: ')"
report scope/elementwise "$([ -n "$(explained elementwise 'no-fusion elementwise@layer3.mlp')" ] && ! grep -q '^fused   elementwise .* layer3.mlp' $out/said && grep -q '^fused   elementwise .* layer2.mlp' $out/said || cat $out/said)"
report scope/silent "$(cat $out/err)"
compile --arch host --report json --no-fusion all@layer
report scope/all "$(jq -r '.rules[] | select(.uses > 0).name' $out/said | tr '\n' ' ' | grep -vx 'final_norm_unembed ')"
compile --arch host --no-fusion mlp1_swiglu@layer2.attn
report scope/nothing "$(says 'warning: --no-fusion mlp1_swiglu@layer2.attn changes nothing')"
wrong() { compile --arch host --no-fusion "$2" && echo 'exit 0'; report "scope/$1" "$(says "$3")"; }
wrong absent mlp1_swiglu@layer4 'error: --no-fusion mlp1_swiglu@layer4: no op lies in layer4; there are layer0..3.attn, layer0..3.mlp'
wrong name mlp1_swigl@layer0 'error: --no-fusion mlp1_swigl@layer0: there is no such rule (did you mean mlp1_swiglu?)'
for part in layer3..1 layer0. '' 3 layer0..; do wrong "form-$part" "mlp1_swiglu@$part" "no scope; one is written layer7, layer0..11, layer0..11.attn or layer.attn"; done

# --- what would double with every op: ways to an op, ways to lay a pattern over it, places that it is computed at
grown() { # NAME, line of graphs/gpt_oss.lua: behind it, then the rule
    rm -rf $out/graphs && cp -rL graphs $out/graphs && sed -i "/$2/a $3" $out/graphs/gpt_oss.lua
    cat >$out/grown.lua
    timeout 30 out/gptoss-compile $out/graphs/toy.lua -o $out/plan.bin --arch host --max-batch 4 --max-tokens 8 --fusions $out/grown.lua --explain >$out/said 2>$out/err
    report grown/$1 "$([ $? = 0 ] && grep -q "^fused .*grown" $out/said || tail -1 $out/err)"
}
grown diamonds '^  local o = linear' 'for i = 1, 28 do o = o + o end' <<'LUA'
return fusion { name = "grown", priority = 99, kernel = "linear", match = function(x, w, b)
  local y = linear(x, w, b)
  for i = 1, 28 do y = y + y end
  return y
end }
LUA
grown ropes '^  q = rope' 'for i = 1, 24 do q = rope(q, io.pos, io.rope, { head_dim = c.head_dim }) end' <<'LUA'
return fusion { name = "grown", priority = 99, kernel = "rope", match = function(x, pos, table)
  for i = 1, 24 do x = rope(x, pos, table) end
  return x
end }
LUA
grown sums '^  local x = embed' 'x = x * 1.0001; for i = 1, 50 do x = x + x end' <<'LUA'
return fusion { name = "grown", priority = 99, kernel = "linear", match = function(x, w, b) return linear(x, w, b) end }
LUA
exit $failed
