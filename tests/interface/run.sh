#!/bin/bash
# Graphs that compile but that no executor could run, or no checkpoint could fill: errors at the graph's line, when it is compiled.
cd "$(dirname "$0")/../.." || exit 1
out=out/tests/interface
rm -rf $out && mkdir -p $out
failed=0
report() { if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: ${2//$'\n'/ / }"; failed=1; fi; }
wrong() { # NAME MESSAGE command…: exit 1; MESSAGE at a line of the graph, which is quoted with a caret
    local name=$1 message=$2 code
    shift 2
    rm -f $out/plan.bin
    "$@" -o $out/plan.bin >$out/said 2>$out/err
    code=$?
    report "$name" "$([ $code = 1 ] || echo "exit $code"; [ -e $out/plan.bin ] && echo 'a plan'; grep -qE -- "^$out/[a-z_]*\.lua:[0-9]+:[0-9]+: error: $message" $out/err && grep -q '^ *^$' $out/err || cat $out/err)"
}
edited() { # NAME SED MESSAGE: the toy model by an edited builder
    sed "$2" graphs/gpt_oss.lua >$out/gpt_oss.lua
    cmp -s graphs/gpt_oss.lua $out/gpt_oss.lua && report "$1" 'nothing was edited' && return
    wrong "$1" "$3" out/gptoss-compile $out/toy.lua --arch host
}
config() { # NAME FIELDS MESSAGE…: the toy model's configuration with more fields
    sed "s/name = \"toy\",/name = \"toy\", $2,/" graphs/toy.lua >$out/toy.lua
    cp graphs/gpt_oss.lua $out
    wrong "$1" "$3" out/gptoss-compile $out/toy.lua --arch host "${@:4}"
    cp graphs/toy.lua $out
}
cp graphs/toy.lua graphs/gpt_oss.lua $out
out/gptoss-mkmodel tests/models/tiny.json $out/model 2>$out/err || cat $out/err # the toy's weights

# --- the configuration
config sliding/short 'sliding = { true, false, true }' "'sliding' has 3 entries, must say true or false for each of the 4 layers"
config sliding/long 'sliding = { true, false, true, false, true }' "'sliding' has 5 entries"
config sliding/empty 'sliding = {}' "'sliding' has 0 entries"
config sliding/number 'sliding = { 1, 0, 1, 0 }' "'sliding' is 1 for layer 0, must be true or false"
config sliding/short-model 'sliding = { true, false, true }' "'sliding' has 3 entries" --model $out/model
config sliding/force 'force = { sliding = { true } }' "'sliding' has 1 entries" --model $out/model
config layers/more 'force = { layers = 6 }' "'layers' is 6, the checkpoint has 4" --model $out/model
config config/other 'force = { kv_heads = 4 }' 'program: config.kv_heads is 4, the checkpoint has 2' --model $out/model
sed 's/name = "toy",/name = "toy", force = { layers = 2 },/' graphs/toy.lua >$out/toy.lua
report layers/fewer "$(out/gptoss-compile $out/toy.lua --arch host --model $out/model -o $out/fewer.bin 2>&1 | grep error; out/gptoss-exec --inspect $out/fewer.bin | grep -q '  2 layers' || echo 'not 2')"
cp graphs/toy.lua $out

# --- weights
edited param/name 's/param("qkv.w"/param("qvk.w"/' 'param layer0.attn.qvk.w: no tensor is called layer0.attn.qvk.w'
edited param/near 's/param("sinks"/param("sink"/' 'param layer0.attn.sink: .* \(did you mean layer0.attn.sinks\?\)'
edited param/layer 's/scope("layer", i - 1,/scope("layer", i,/' 'param layer4.attn.norm: no tensor layer4.attn.norm: the model has 4 layers'
edited param/shape 's/param("router.w", c.dense, { E, H })/param("router.w", c.dense, { E + E, H })/; s/topk(r,/topk(slice(r, { offset = 0, width = E }),/; s/param("router.b", f32, { E })/param("router.b", f32, { E + E })/' 'param layer0.mlp.router.w is bf16\[8,64\], a model of this configuration has \[4,64\]'
edited param/mxfp4 's/param("o.w", c.dense/param("o.w", mxfp4/' 'param layer0.attn.o.w is mxfp4, a model of this configuration has it as bf16'

# --- inputs, outputs, graphs
edited output/hidden 's/output(name(x, "hidden"))/output(name(x, "hiden"))/' 'output hiden of graph step is read by no graph; sample reads an input hidden'
edited input/name 's/input("pos"/input("position"/' 'graph step wants an input "position", which this program does not know: graph inputs are src, '
edited input/near 's/input("rows"/input("row"/' 'graph sample wants an input "row", which this program does not know \(did you mean rows\?\)'
edited input/type 's/input("pos", i32, { T })/input("pos", i32, { options.max_tokens })/; s/io.pos/io.slot/g' 'graph step has input pos as i32\[512\], must be i32\[T\]'
edited input/rope 's|input("rope", f32, { c.max_seq,|input("rope", f32, { 64,|' 'graph step has input rope as f32\[64,8,2\], must be'
edited input/blocks 's|PAGE - 1) // PAGE })|PAGE) // PAGE + 1 })|' 'graph step has input blocks.full as i32\[64,[0-9]*\], must be i32\[slots,pages of a sequence\]'
edited input/graph 's/logits = function() output(head(c)) end/logits = function() input("sample_slot", i32, { S }) output(head(c)) end/' 'graph logits reads input sample_slot, which is for sample'
edited graph/name 's/    sample = function/    smaple = function/' 'nobody runs a graph smaple \(did you mean sample\?\)'
edited graph/step 's/^    step = function() step(c) end,$//' 'program: there is no graph step'
edited output/sample 's/^  output(ids)$//' 'graph sample must have an output i32\[S\], the sampled ids'
edited output/logits 's/logits = function() output(head(c)) end/logits = function() output(sample(head(c))) end/' 'graph logits must have an output f32\[S,vocabulary\]'

# --- the KV cache
edited state/page 's/{ P, 2, c.kv_heads, PAGE, c.head_dim }/{ P, 2, c.kv_heads, 32, c.head_dim }/' 'state layer0.kv counts pages \(P\), so it must be a pool \[P,2,kv_heads,64,head_dim\]'
edited state/unread 's/^  local a = attention/  kv_write(state("more", f32, { P, 2, c.kv_heads, PAGE, c.head_dim }), k, v, io.slot, io.pos, blocks)\n&/' 'state layer0.attn.more: no attention reads it'
edited state/table 's/kv = kv_write(kv, k, v, io.slot, io.pos, blocks,/kv = kv_write(kv, k, v, io.slot, io.pos, io.blocks_full,/' 'kv_write finds the pages of layer0.kv by blocks.full, an attention by blocks.window'
exit $failed
