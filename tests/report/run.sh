#!/bin/bash
# What the compiler says of its work: --report json and html, --explain with them, --dump as dot. The page is looked at in chromium where
# that is installed: its DOM, from the command line.
cd "$(dirname "$0")/../.." || exit 1
out=$PWD/out/tests/report
rm -rf "$out" && mkdir -p "$out"
failed=0
report() { if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: ${2//$'\n'/ / }"; failed=1; fi; }
compile() { out/gptoss-compile "$@" -o "$out/plan.bin" 2>"$out/err" || cat "$out/err"; } # GRAPH options…
check() { python3 tests/report/check.py "$@" 2>&1 | tail -5; }

# --- json, and --explain inside
compile graphs/tiny.lua --arch host --explain >"$out/explain"
compile graphs/tiny.lua --arch host --report json --explain >"$out/explain.json"
compile graphs/tiny.lua --arch host --report json >"$out/report.json"
report json/explain "$(jq -r '.explain[] | [.outcome, .rule, .graph, .node + ":", .why] | join(" ")' "$out/explain.json" | diff - <(tr -s ' ' <"$out/explain") | head -3)"
report json/alone "$(jq 'has("explain")' "$out/report.json" | grep -vx false)"
report json/same "$(diff <(jq -S 'del(.explain, .jit_seconds)' "$out/explain.json") <(jq -S 'del(.jit_seconds)' "$out/report.json") | head -3)"

# --- dot
compile graphs/tiny.lua --arch host --dump fuse --dot >"$out/fuse.dot"
compile graphs/tiny.lua --arch host --dump fuse >"$out/fuse.ir"
report dot/nodes "$(diff <(grep -c ' \[label=' "$out/fuse.dot") <(awk '/^graph/ {on = 1} / = / && !/^ / {n++} END {print n}' "$out/fuse.ir"))"
report dot/edges "$(sed -n 's/^ *\("[^"]*"\) \[label=.*/\1/p' "$out/fuse.dot" | sort >"$out/declared"; grep -- '->' "$out/fuse.dot" | grep -o '"[^"]*"' | sort -u | comm -23 - "$out/declared" | head -3; [ "$(grep -c -- '->' "$out/fuse.dot")" -gt 40 ] || echo 'too few')"
report dot/dump "$(out/gptoss-compile graphs/tiny.lua --arch host --dot 2>&1 | grep -q -- 'there is no --dump' || echo taken)"
if command -v dot >/dev/null; then report dot/graphviz "$(dot -Tsvg -o "$out/fuse.svg" "$out/fuse.dot" 2>&1; grep -c '<g id="node' "$out/fuse.svg" | grep -vx "$(grep -c ' \[label=' "$out/fuse.dot")")"
else echo 'skip dot/graphviz: no dot'; fi

# --- the page
compile graphs/tiny.lua --arch host --report html >"$out/tiny.html"
report html/data "$(check data "$out/tiny.html" "$out/report.json" "$out/explain.json")"
compile graphs/gpt-oss-20b.lua --arch gfx90a --report html >"$out/20b.html"
compile graphs/gpt-oss-120b.lua --arch gfx90a --report html >"$out/120b.html"

# --- what was measured, beside each kernel; figures that are made up, and one run of bench
out/gptoss-compile graphs/tiny.lua --arch host --model models/tiny -o "$out/tiny.bin" 2>"$out/err"
out/gptoss-exec "$out/tiny.bin" -m bench --device host --pp 16 --tg 1 -r 1 --kernels --json >"$out/measured.json" 2>"$out/err"
compile graphs/tiny.lua --arch host --report html --measured "$out/measured.json" >"$out/measured.html"
refused() { report "measured/$1" "$(echo "$2" >"$out/x.json"; out/gptoss-compile graphs/tiny.lua --arch host --report "${4:-html}" --measured "$out/x.json" -o "$out/plan.bin" 2>&1 >"$out/x.html" | grep -q -- "$3" || echo "not said: $3"; [ ! -s "$out/x.html" ] || echo 'a page all the same')"; }
refused nothing '{}' 'it has no kernels: gptoss-exec -m bench --kernels --json prints them'
refused other '{"kernels": [{"test": "tg1", "tokens": 1, "kernel": "linear_K2880_N5120", "launches": 1, "microseconds": 1, "microseconds_in_step": 1}]}' 'none of its kernels is in this plan'
refused figure '{"kernels": [{"test": "tg1", "tokens": 1, "kernel": "linear_K128_N384", "launches": 1, "microseconds": "1", "microseconds_in_step": 2}]}' 'kernel 1 has no microseconds'
refused text '[' '--measured .*x.json: bad JSON at line 2'
refused report '{}' '--measured is for --report html' json

# --- gptoss-lab's page: of two plans that were judged; of large ones, which nothing here runs, for their size
compare() { out/gptoss-lab "${@:2}" --ledger-file "$out/ledger.jsonl" >"$out/$1" 2>"$out/err" || [ -n "$large" ] || cat "$out/err"; } # FILE options…
echo 'return fusion { name = "out_norm", priority = 30, match = function(a, w, b, x, g) local y = x + linear(a, w, b); return y, rmsnorm(y, g) end }' >"$out/out_norm.lua"
compare lab.html graphs/toy.lua --arch host --rule "$out/out_norm.lua" --max-batch 2 --max-tokens 8 --pp 8 --lines 2 --steps 4 --pairs 6 --seconds 0 --format html
compare lab.json graphs/toy.lua --arch host --rule "$out/out_norm.lua" --max-batch 2 --max-tokens 8 --pp 8 --lines 2 --steps 4 --no-speed --format json
report lab/data "$(check lab "$out/lab.html" "$out/lab.json")"
large=1 compare lab120b.html graphs/gpt-oss-120b.lua --arch gfx90a --rule "$out/out_norm.lua" --no-judge --format html
for m in tiny 20b 120b lab lab120b; do
    report html/size-$m "$([ "$(stat -c %s "$out/$m.html")" -lt 5000000 ] || stat -c %s "$out/$m.html")"
    report html/no-network-$m "$(grep -aoE '(https?:)?//[a-z0-9.-]+\.[a-z]+/[^" ]*|@import|url\([^)]*\)|(src|srcset|action)=' "$out/$m.html" | grep -vxF '//www.w3.org/2000/svg' | grep -vF 'http://www.w3.org/2000/svg' | head -3)"
done
browser=$(command -v chromium || command -v chromium-browser)
if [ -z "$browser" ]; then echo 'skip html/browser: no chromium'; exit $failed; fi

# look NAME PAGE#HASH SCRIPT [OPTION]: the DOM after the page's own script and this one
look() {
    local page=${2%%#*} hash=${2#"${2%%#*}"}
    python3 tests/report/check.py instrument "$out/$page" "$out/look.html" "$3"
    timeout 60 "$browser" ${4:-} --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$out/profile" --window-size=1400,1000 --dump-dom "file://$out/look.html$hash" >"$out/$1.dom" 2>"$out/$1.log"
}
dom() { report "html/$1" "$(check dom "$out/$1.dom" "${@:2}")"; }

look 20b 20b.html ''
dom 20b error= before.total=650 before.drawn=56 after.drawn=16 dots=16 label='layer 0, 2 … 22 (×12)' details='Open a node'
look 120b 120b.html ''
dom 120b error= before.total=974 before.drawn=56 after.drawn=16 label='layer 1, 3 … 35 (×18)'
look unfolded 120b.html "document.getElementById('unfold').click()"
dom unfolded error= before.drawn=974 after.drawn=254
look opened '20b.html#step/layer4.mlp.swiglu.bf16' ''
dom opened error= details='3 ops, fused by mlp1_swiglu' body=3 details='FLOP a byte' details='expert_linear.stream.hip' members=3
look before '20b.html#step/layer0.attn.k.rope' ''
dom before error= details='Now part of layer0.attn.q.rope.bf16 (qkv_rope_kv)' open=layer0.attn.k.rope partner=layer0.attn.q.rope.bf16
look head '20b.html#logits/logits' ''
dom head error= graph=logits details='final_norm_unembed'
key() { echo "const key = (e, k) => e.dispatchEvent(new KeyboardEvent('keydown', { key: k, bubbles: true, cancelable: true }));
    const first = document.querySelector('#after .node[tabindex=\"0\"]'); first.focus(); $*"; }
look keys 20b.html "$(key "for (let i = 0; i < 3; i++) key(document.activeElement, 'ArrowDown'); key(document.activeElement, 'Enter'); document.documentElement.dataset.focus = document.activeElement.id")"
dom keys error= details='attention' open=layer0.attn.heads.bf16 focus=details
look escape 20b.html "$(key "key(first, 'ArrowDown'); key(document.activeElement, 'Enter'); key(document.activeElement, 'Escape'); document.documentElement.dataset.at = document.activeElement.dataset.name")"
dom escape error= at=x
look lab lab.html "const d = [...document.querySelectorAll('#lab details')].find((d) => d.firstChild.textContent.includes('rmsnorm_N64.c')); d.open = true; d.dispatchEvent(new Event('toggle'))"
dom lab error= details='Open a node' label='Verdict: RIGHT: every kernel and the whole are within tolerance' label='42 → 38 nodes' label='95% interval' label='only without, 4 ×' differs=6 diff=6
look lab-node 'lab.html#step/layer0.mlp.n' ''
dom lab-node error= details='3 ops, fused by out_norm' details='Only with: the other plan has no such node' open=layer0.attn.out members=2
look lab-left lab.html "[...document.querySelectorAll('#before .node')].find((n) => n.dataset.name === 'layer0.mlp.n').dispatchEvent(new MouseEvent('click', { bubbles: true }))"
dom lab-left error= details='On the other side part of layer0.attn.out (out_norm)' partner=layer0.attn.out details='Only without'
# everything open, as a screen reader has it, in light and dark; the script is told first that a page can be wrong
everything="for (const d of document.querySelectorAll('#lab details')) d.open = true, d.dispatchEvent(new Event('toggle'));
    document.querySelectorAll('#after .node')[4].dispatchEvent(new MouseEvent('click', { bubbles: true })); for (const d of document.querySelectorAll('#details details')) d.open = true;"
look light lab.html "$everything $(cat tests/report/reader.js)"
dom light error= problems= dark=false
look dark lab.html "$everything $(cat tests/report/reader.js)" --force-dark-mode
dom dark error= problems= dark=true
look spoilt lab.html "document.querySelector('caption').remove(); document.querySelector('#after .node').removeAttribute('aria-label'); document.querySelector('h1').style.color = '#999'; $(cat tests/report/reader.js)"
report html/spoilt "$(for wrong in 'no caption' 'no label, or no role' 'contrast 2.8'; do grep -o 'data-problems="[^"]*"' "$out/spoilt.dom" | grep -q "$wrong" || echo "not seen: $wrong"; done)"
look reader120b '120b.html#step/layer4.mlp.swiglu.bf16' "$(cat tests/report/reader.js)"
dom reader120b error= problems=
look lab120b lab120b.html ''
dom lab120b error= label='Verdict: NOT JUDGED' label='layer 1, 3 … 35 (×18)' label='not judged: --no-judge' before.total=254 label='Predicted:'
echo 'return fusion { name = "bare", match = function(x, g) return rmsnorm(x, g) end, kernel = "no_such" }' >"$out/bare.lua"
large=1 compare bare.html graphs/toy.lua --arch host --rule "$out/bare.lua" --format html
look bare bare.html "$(cat tests/report/reader.js)"
dom bare error= problems= label='Verdict: NOT BUILT' label='no template is for a kernel no_such' label='with: could not be built' details='Open a node' before.drawn=0
look measured 'measured.html#step/layer0.mlp.out' ''
dom measured error= details='On this CPU' details='in a step' label='measured' label='pp16' label='tg1'
report measured/rows "$(jq -r '.kernels[] | select(.test == "tg1" and (.kernel | contains(" + "))) | .microseconds_in_step' "$out/measured.json" | awk '{printf "%.3g µs", $1}' | xargs -0 -I{} grep -c -F -- '{}' "$out/measured.dom" | grep -q '[1-9]' || echo 'no time of a fused node')"
look host tiny.html ''
dom host error= dots=0 before.drawn=56
exit $failed
