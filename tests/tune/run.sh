#!/bin/bash
# --tune on a model of two layers, with a template that leaves something to choose: what is not legal, wrong, or sums in another way is
# thrown out and named, the best is kept in a file, and a compilation that is given the file takes it, measures nothing, and says so.
cd "$(dirname "$0")/../.." || exit 1
here=$PWD/tests/tune norm=$PWD/tests/lab/norm.lua out=$PWD/out/tests/tune
lab=$PWD/out/gptoss-lab compile=$PWD/out/gptoss-compile exec=$PWD/out/gptoss-exec
rm -rf "$out" && mkdir -p "$out" && cp tests/lab/small.lua graphs/gpt_oss.lua "$out"
export GPTOSS_LAB_LEDGER_FILE=$out/ledger.jsonl GPTOSS_LAB_PP=8 XDG_STATE_HOME=$out/state
failed=0
report() { if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: ${2//$'\n'/ / }"; failed=1; fi; }
is() { jq -e --argjson want "$2" "($1) == \$want" "$out/page" >/dev/null 2>&1 || echo "$1 is $(jq -c "$1" "$out/page" 2>&1), not $2"; } # of a JSON page
says() { for line; do grep -qE -- "$line" "$out/page" || echo "not said: $line"; done; }
sizes="--max-batch 2 --max-tokens 8 --max-seq 128"
with="--templates $here/templates"
run() { (cd "$out" && "$@") >"$out/page" 2>"$out/err" || { echo "exit $?: $(tail -3 "$out/err")"; }; }
build() { run "$compile" small.lua --arch $arch --fusions "$norm" $with $sizes "$@"; }
inspect() { "$exec" --inspect "$out/$1" --json >"$out/page"; }

# --- heads
head_is() { # NAME message line…
    local name=$1 message=$2
    rm -rf "$out/heads" && mkdir "$out/heads"
    printf '%s\n' '//! kernel own_norm(x: f32[T,K], g: f32[K]) -> (y: f32[T,K])' '//! block 1' "${@:3}" >"$out/heads/own_norm.c"
    (cd "$out" && "$compile" small.lua --arch host --fusions "$norm" --templates heads $sizes) >"$out/page" 2>&1
    report head/"$name" "$(says "own_norm.c:[0-9]+: error: $message")"
}
head_is above 'tune names no const above it' '//! tune ROWS 1 2' '//! const ROWS = 1'
head_is none 'expected values' '//! const ROWS = 1' '//! tune ROWS'
head_is word 'expected a whole number' '//! const ROWS = 1' '//! tune ROWS 2 many'

# --- on the emulator
arch=gfx90a
if out/gptoss-compile graphs/toy.lua --arch gfx90a --max-batch 2 --max-tokens 2 -o "$out/x.bin" 2>&1 | grep -q 'source only'; then echo "skip emu: no hipRTC"
else
    export GPTOSS_LAB_ONLY=own_norm_K64v2
    said=$(run "$lab" small.lua --arch gfx90a --rule "$norm" $with $sizes --tune --tuning kept.jsonl --format json)
    report emu/tried "$said$(is '[.choices[].of]' '["own_norm_K64v2"]'; is '[.choices[0].tried[] | select(.rejected | not) | .choice | [.PASSES, .ROWS]]' '[[1,1],[3,1],[1,2]]')"
    report emu/illegal "$(is '[.choices[0].tried[] | select(.choice.ROWS == 9) | .rejected | test("own_norm.hip:11: error: needs K <= 4096 && ROWS <= 4 .* ROWS=9 ")]' '[true]')"
    report emu/wrong "$(is '[.choices[0].tried[] | select(.choice.LEAVE == 1) | .rejected | test("^own_norm_K64v2 is wrong: layer[01].*nmse .*tolerance 1e-13")]' '[true]')"
    report emu/sums "$(is '[.choices[0].tried[] | select(.choice.SHARES == 32) | .rejected | test("changes how it sums: \"f64, K by 32 threads.* instead of \"f64, K by 64 threads")]' '[true]')"
    report emu/chosen "$(is '.choices[0] | [.choice.PASSES, .choice.ROWS, .default.PASSES, (.ratio < 0.999)]' '[1,1,6,true]'; is .unit '"counted cost"'; is .name '"emu"')"
    report file/line "$([ "$(wc -l <"$out/kept.jsonl")" = 1 ] || cat "$out/kept.jsonl"; cp "$out/kept.jsonl" "$out/page"; is '[.kernel, .arch, .precision, .counted, .choice.PASSES, (.shape | test(" K=64 ")), (.version | length)]' '["own_norm.hip","gfx90a","fast",true,1,true,16]')"

    report plan/says "$(build --tuning kept.jsonl --report json -o a.bin; is '.choices | map(.of)' '["own_norm_K64v2"]'; is '[.kernels[] | select(.tune.kept) | [.symbol, .tune.values.PASSES]]' '[["own_norm_K64v2",1]]'
        inspect a.bin; is '.choices[0].says | test("^LEAVE=0 PASSES=1 ROWS=1 SHARES=64: 0.[0-9]+ of the default.s counted cost, counted on emu")' true)"
    said=$(build --tuning kept.jsonl -o b.bin)
    report plan/equal "$said$(cmp "$out/a.bin" "$out/b.bin" 2>&1)"
    report plan/takes "$(build --tuning kept.jsonl --emit src -o b.bin; grep -A30 'namespace own_norm_K64v2_' "$out/src/own_norm.hip" | grep -m1 PASSES | grep -qx 'constexpr int PASSES = 1;' || echo 'not in the source')"
    report again/measures-nothing "$(build --tune --tuning kept.jsonl -o c.bin; grep -q ': 0 choices' "$out/err" || cat "$out/err"; [ "$(wc -l <"$out/kept.jsonl")" = 1 ] || echo 'another line'; cmp "$out/a.bin" "$out/c.bin" 2>&1)"

    # --- what is kept is for what it was measured for
    none() { jq -c "$2" "$out/kept.jsonl" >"$out/other.jsonl"; report file/"$1" "$(build --tuning other.jsonl -o o.bin; inspect o.bin; is .choices '[]')"; }
    none stale '.version = "0123456789abcdef"'
    none other-compiler '.compiler = "hipRTC 1"'
    none other-shape '.shape = "K=128"'
    report file/last "$(jq -c '., (.choice.ROWS = 2)' "$out/kept.jsonl" >"$out/other.jsonl"; build --tuning other.jsonl -o o.bin; inspect o.bin; is '[.choices[].says | test("PASSES=1 ROWS=2 ")]' '[true]')"
    report file/measured-first "$(jq -c '(.counted = false | .choice.PASSES = 3 | .device = "MI250" | .ratio = 0.5), .' "$out/kept.jsonl" >"$out/other.jsonl"; build --tuning other.jsonl -o o.bin; inspect o.bin
        is '.choices[0].says' '"LEAVE=0 PASSES=3 ROWS=1 SHARES=64: 0.500 of the default'"'"'s time, measured on MI250"')"
    fails() { jq -c "$2" "$out/kept.jsonl" >"$out/other.jsonl"; build --tuning other.jsonl -o o.bin >/dev/null; cp "$out/err" "$out/page"; report file/"$1" "$(says "$3")"; }
    fails no-candidate '., (.choice.ROWS = 4)' 'other.jsonl:2 chooses ROWS = 4, which is none of its tune line'
    fails no-choice 'del(.choice)' 'other.jsonl:1: no choice: '
    said=$(cd "$out" && GPTOSS_COMPILE_TUNE=1 GPTOSS_COMPILE_TUNING=kept.jsonl "$compile" small.lua --arch $arch --fusions "$norm" $with $sizes -o v.bin 2>&1) # asks once, not for ever
    report again/environment "$(grep -q ': 0 choices' <<<"$said" || echo "$said"; cmp "$out/a.bin" "$out/v.bin" 2>&1)"
    echo 'PASSES 1' >"$out/other.jsonl" && build --tuning other.jsonl -o o.bin >/dev/null
    cp "$out/err" "$out/page" && report file/no-json "$(says 'other.jsonl:1: bad JSON')"
fi

    # a kernel of steps of 2 to 16 tokens; the steps that are counted have one, or 17
    export GPTOSS_LAB_ONLY=linear_K64_N128v2
    said=$(run env GPTOSS_LAB_PP=17 "$lab" small.lua --arch gfx90a --max-batch 2 --max-tokens 32 --max-seq 128 --tune --tuning run.jsonl --format json)
    report emu/not-run "$(is '[.choices[].tried[] | select(.choice.WAVES != 4) | .rejected] | unique' '["not measured: no test runs it (--batches, --pp, --depth)"]'; [ ! -e "$out/run.jsonl" ] || cat "$out/run.jsonl")"

# --- on the host: times, fusions, edited sources
arch=host
export GPTOSS_LAB_ONLY=own_norm_K64v2
said=$(build --tune --tuning host.jsonl --report text -o h.bin) # the whole way: gptoss-compile asks gptoss-lab
report host/time "$said$(says '^choices of host.jsonl' 'own_norm_K64v2 .*PASSES=1: 0\.[0-9]+ of the default.s time, measured on .')"
export GPTOSS_LAB_ONLY=fusions
others="--no-fusion qkv_rope_kv --no-fusion rmsnorm_qkv --no-fusion router --no-fusion topk_softmax --no-fusion final_norm_unembed --no-fusion mlp2_combine"
said=$(run "$lab" small.lua --arch host $sizes $others --tune --pairs 6 --seconds 0 --tuning fusions.jsonl --format json)
report fusions/tried "$said$(is '.choices[0] | [.of, (.tried | map(.choice.off))]' '["fusions",[["mlp1_swiglu"]]]'; is '.choices[0].tried[0].ratio > 0' true)"
jq -c '.choice.off = ["mlp1_swiglu"] | .ratio = 0.9' "$out/fusions.jsonl" >"$out/off.jsonl"
said=$(run "$compile" small.lua --arch host $sizes $others --tuning off.jsonl --report json -o f.bin)
report fusions/taken "$said$(is '[.rules[] | select(.uses > 0) | .name]' '["swiglu_mlp2"]'; is '.choices' '[{"of":"fusions","says":"off mlp1_swiglu: 0.900 of the default'"'"'s time, measured on '"$(jq -r .device "$out/off.jsonl")"'"}]')"
said=$(run "$compile" small.lua --arch host $sizes --tuning off.jsonl --report json -o f.bin) # another set of rules
report fusions/other-rules "$said$(is .choices '[]')"
jq -c '.choice.off = ["no_such"]' "$out/fusions.jsonl" >"$out/off.jsonl"
run "$compile" small.lua --arch host $sizes $others --tuning off.jsonl -o f.bin >/dev/null
cp "$out/err" "$out/page" && report fusions/no-rule "$(says 'off.jsonl:1: there is no rule no_such')"

# alternatives of a recipe: never, always, for half and twice as many rows
echo 'return fusion { name = "head", priority = 21, match = function(x, g, w) return linear(rmsnorm(x, g), w) end, kernel = { { T = 4, "linear" }, { "rmsnorm", "linear" } } }' >"$out/head.lua"
only="--no-fusion qkv_rope_kv --no-fusion rmsnorm_qkv --no-fusion router --no-fusion topk_softmax --no-fusion mlp1_swiglu --no-fusion swiglu_mlp2 --no-fusion mlp2_combine"
said=$(run "$lab" small.lua --arch host $sizes $only --rule head.lua --tune --pairs 6 --seconds 0 --tuning recipes.jsonl --format json)
report recipes/tried "$said$(is '[.choices[0].tried[].choice.recipes.head // empty]' '[[0],[16777216],[2],[8]]'; is '[.choices[0].tried[] | select(.choice.recipes) | (.ratio > 0) or (.rejected == "the same code and launches")] | all' true)"
recipe() { jq -c ".choice = {off: [], recipes: $1} | .ratio = 0.9" "$out/recipes.jsonl" >"$out/bounds.jsonl"; run "$compile" small.lua --arch host $sizes $only --fusions head.lua --tuning bounds.jsonl --report json -o r.bin; }
launches() { "$exec" --inspect "$out/r.bin" | grep -o 'logits .*launches.*' | grep -oE '[0-9]+ \([0-9]+\)' | tr '\n' ' '; }
taken() { said=$(recipe "$2"); report recipes/"$1" "$said$(is '[.rules[] | select(.name == "head") | .recipe]' "$3"; is '.choices[0].says | test("^off none recipes head '"$4"': 0.900 of")' true; [ "$(launches)" = "$5" ] || launches)"; }
taken always '{head: [16777216]}' '[null]' always '1 (2) 2 (2) '
taken never '{head: [0]}' '[null]' 0 '1 (3) 2 (3) '
taken bound '{head: [1]}' '[[1]]' 1 '1 (2) 2 (3) '
bad_recipe() { recipe "$2" >/dev/null; cp "$out/err" "$out/page"; report recipes/"$1" "$(says "bounds.jsonl:1: $3")"; }
bad_recipe number '{head: [1, 2]}' 'rule head has 2 alternatives, not 3'
bad_recipe order '{head: [-1]}' 'the bounds of rule head do not ascend'
bad_recipe rule '{haed: [1]}' 'there is no rule haed'

unset GPTOSS_LAB_ONLY
page() { (cd "$out" && "$lab" small.lua --arch host $sizes --lines 2 --steps 4 --no-speed "$@") >"$out/page" 2>"$out/err"; code=$?; }
run "$compile" small.lua --arch host $sizes --emit edited -o e.bin
page --override edited
report override/same "$([ $code = 1 ] || echo "exit $code"; says '^verdict   NOT APPLIED' 'nothing was changed: no template, edited source or choice')"
sed -i 's|^DEVICE void run(|// edited\n&|' "$out"/edited/softmax_N2.c "$out"/edited/router*.c "$out"/edited/linear_K64_N512.c 2>/dev/null
page --override edited
report override/right "$([ $code = 0 ] || echo "exit $code: $(cat "$out/err")"; says '^verdict   RIGHT' '^alone     ok    linear_K64_N512')"
sed -i 's|^ *\(v\[[^]]*\]\) = .*;|&|; s|store(a.y, (long)t \* 512 + j, v\[0\])|store(a.y, (long)t * 512 + j, v[0] * 1.01f)|' "$out/edited/linear_K64_N512.c"
page --override edited
report override/wrong "$([ $code = 1 ] || echo "exit $code: $(cat "$out/err")"; says '^verdict   WRONG' 'kernel linear_K64_N512: .*nmse')"
page --rule "$norm" $with --tuning host.jsonl
report tuning/compared "$([ $code = 0 ] || echo "exit $code: $(cat "$out/err")"; says '^verdict   RIGHT' '^graphs    the same' '^sources   changed own_norm_K64v2.c: ' ' ok    own_norm_K64v2 ')"
exit $failed
