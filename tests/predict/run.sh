#!/bin/bash
# gptoss-lab --predict: its figures follow from the plan, the machine's row in targets.def and, where given, the counts and the
# measurements. No time is expected: what must hold between figures is.
cd "$(dirname "$0")/../.." || exit 1
lab=$PWD/out/gptoss-lab out=$PWD/out/tests/predict
rm -rf "$out" && mkdir -p "$out"
failed=0
report() { if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: ${2//$'\n'/ / }"; failed=1; fi; }
is() { jq -e --argjson want "$2" "($1) == \$want" "$out/page" >/dev/null 2>&1 || echo "$1 is $(jq -c "$1" "$out/page" 2>&1), not $2"; } # of a JSON page
page() { "$lab" "$@" --predict --format json >"$out/page" 2>"$out/err" || cat "$out/err"; }
out/gptoss-mkmodel tests/models/tiny.json "$out/model" 2>/dev/null
for arch in gfx90a sm_90 host; do
    out/gptoss-compile graphs/gpt_oss.lua --arch $arch --model "$out/model" --max-batch 4 --max-tokens 16 --max-seq 128 -o "$out/$arch.bin" 2>"$out/err" || report build "$(cat "$out/err")"
done
launches() { out/gptoss-exec --inspect "$out/$1.bin" --json | jq --arg g "$2" '.graphs[] | select(.name == $g) | [.launches[] | select(.buckets | index(1))] | length'; } # of a step of one

page "$out/gfx90a.bin" --batches 1,4 --pp 40
report sums "$(is '[.tests[] | (.kernels | map(.launches) | add) == .launches] | all' true; is '[.tests[] | ((.kernels | map(.bytes) | add) / .bytes - 1 | fabs) < 1e-9] | all' true
    is '[.tests[] | ((.ms_by | add) / .ms - 1 | fabs) < 1e-9] | all' true; is '[.tests[] | ((.kernels | map(.us) | add) / 1000 / .ms - 1 | fabs) < 1e-9] | all' true)"
report launches "$(is '.tests[0].launches' $(($(launches gfx90a step) + $(launches gfx90a sample))))"
report speed "$(is '[.tests[:2][] | (.tok_s * .ms / 1000 / .batch - 1 | fabs) < 1e-9] | all' true; is '.tests[2] | (.tok_s * .ms / 1000 / 40 - 1 | fabs) < 1e-9' true)"
report pieces "$(is '[.tests[].steps]' '[1,1,3]')" # 40 tokens, 16 at a time
report bound "$(is '. as $p | [.tests[].kernels[] | .us + 1e-9 >= .bytes / $p.read_bytes_per_second * 1e6 + .launches * $p.launch_us] | all' true)"
report machine "$(is '[.read_bytes_per_second, .machine]' "$(sed -n 's/.*"gfx90a".*"\(MI250[^"]*\)", \([0-9.e]*\),.*/[\2,"\1"]/p' compiler/targets.def | jq -c .)")"
report left-out "$(page "$out/gfx90a.bin" --batches 2,8; is '[.tests[] | select(.test == "tg1") | .batch]' '[2]')" # the plan has four slots
report label "$("$lab" "$out/gfx90a.bin" --predict | grep -q '^RECKONED, NOT MEASURED: .*MI250, one of its two dies: 1638 GB/s' || echo 'not labelled')"
report no-limits "$("$lab" "$out/host.bin" --predict 2>&1 | grep -q 'no limits are known of host' || echo 'no error')"

# --- what was measured elsewhere: the error there, and the other plan with it
jq -n '{tests: [{test: "tg8", depth: 0, batch: 1, tokens_per_second: 5000}, {test: "pp16", depth: 0, batch: 1, tokens_per_second: 1000}]}' >"$out/measured.json"
page "$out/gfx90a.bin" "$out/sm_90.bin" --measured "$out/measured.json"
report measured "$(is '[.checked.tests[] | .measured_tok_s]' '[5000,1000]'; is '[.checked.tests[] | (.error * .measured_tok_s / .tok_s - 1 | fabs) < 1e-9] | all' true
    is '[.tests[].error] == [.checked.tests[].error]' true; is '[.tests[] | (.scaled_tok_s * .error / .tok_s - 1 | fabs) < 1e-9] | all' true
    is '.checked.errors == ([.checked.tests[].error] | [min, add / 2, max])' true; is '[.machine, .checked.machine] | map(.[:4])' '["MI25","H200"]')"
for test in '"test": "pp9223372036854775807"' '"test": "p"' '"test": "pp8", "depth": 1e300'; do # the first was counted to its end, the second read behind it
    echo "{\"tests\": [{\"batch\": 1, \"depth\": 1, \"tokens_per_second\": 1, $test}]}" >"$out/wild.json"
    report "measured/wild $test" "$(timeout 20 "$lab" "$out/sm_90.bin" --predict --measured "$out/wild.json" 2>&1 | grep -q 'no tests in it' || echo 'no error')"
done
report measured/none "$(echo '{}' >"$out/none.json"; "$lab" "$out/sm_90.bin" --predict --measured "$out/none.json" 2>&1 | grep -q 'no tests in it' || echo 'no error')"

# --- what the emulator executed
if out/gptoss-exec --inspect "$out/gfx90a.bin" --json | jq -e '[.kernels[].vgprs] | add == 0' >/dev/null; then echo "skip counts: no hipRTC"
else
    for b in 1 4; do echo | out/gptoss-exec "$out/gfx90a.bin" -m bench --device emu --tg 1 --batches $b -f --paced; done >"$out/counts.json" 2>"$out/err"
    page "$out/gfx90a.bin" --batches 1,2,4 && jq -c '[.tests[].ms]' "$out/page" >"$out/static"
    page "$out/gfx90a.bin" --batches 1,2,4 --counts "$out/counts.json"
    report counts "$(is '[.tests[].counted]' '[true,false,true]'; is "[.tests[].ms] as \$m | $(cat "$out/static") as \$s | [range(3) | \$m[.] >= \$s[.]] | all" true
        is "(.tests[0].ms > $(jq '.[0]' "$out/static")) and .tests[0].ms_by.block > 0 and .tests[1].ms_by.block == 0" true)"
    k=$(jq -r '.tests[0].kernels | max_by(.us - .launches * 4.6) | .kernel' "$out/page") # the longest workgroup's instructions, one a cycle of its unit at least
    report counts/block "$(head -1 "$out/counts.json" | jq --arg k "$k" '[.profile[] | select(.kernel == $k)][0].longest / 1.7e3' >"$out/wave"; is "[.tests[0].kernels[] | select(.kernel == \"$k\") | .us / .launches - 4.6 >= $(cat "$out/wave") - 1e-6] | all" true)"
    report counts/not "$(echo '{"tests": [{}, {}], "profile": []}' >"$out/bad.json"; "$lab" "$out/gfx90a.bin" --predict --counts "$out/bad.json" 2>&1 | grep -q 'bad.json:1: not an answer of gptoss-exec' || echo 'no error')"
fi
exit $failed
