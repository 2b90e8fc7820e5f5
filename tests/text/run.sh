#!/bin/bash
# run.sh - tests/text: whoever reads text reads it alike. A byte order mark before it is no part of it, a line ends in LF or CRLF,
# a NUL byte is one more byte of a text and an error among ids.
cd "$(dirname "$0")/../.." || exit 1
out=$PWD/out/tests/text
rm -rf "$out" && mkdir -p "$out"
failed=0
report() { if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: ${2//$'\n'/ / }"; failed=1; fi; }
equal() { if cmp -s "$2" "$3"; then report "$1"; else report "$1" "$2 and $3 differ"; fi; }
refused() { # NAME PATTERN command…
    local name=$1 pattern=$2 got
    shift 2
    if got=$("$@" 2>&1 </dev/null); then report "$name" "taken"; else report "$name" "$(grep -aq -- "$pattern" <<<"$got" || echo "$got")"; fi
}
marked() { printf '\357\273\277' && cat "$1"; }
crlf() { sed 's/$/\r/' "$1"; }
{ out/gptoss-mkmodel tests/models/tiny.json "$out/model" --seed 6 &&
  out/gptoss-compile graphs/toy.lua --arch gfx90a --model "$out/model" --precision strict --max-batch 4 --max-tokens 64 -o "$out/plan.bin"; } >"$out/log" 2>&1 ||
    { echo "FAIL compile: $(tail -1 "$out/log")"; exit 1; }
run() { out/gptoss-exec "$out/plan.bin" --device ref "$@" 2>>"$out/log"; }
tok() { out/gptoss-tok "$@" 2>>"$out/log"; }
tokenizer=$out/model/tokenizer.json

# --- each kind of input as it is, with a mark, and with CRLF: the same result
printf '2\nHello there\n two \n' >"$out/texts"
printf '2\n72 101 5\n6 7\n' >"$out/ids"
printf 'Hello there\nand more\n' >"$out/lines"
printf 'Hello there' >"$out/prompt"
printf '{"task": "t", "prompt": "Hello", "answer": "x"}\n{"task": "t", "prompt": "there", "answer": "y"}\n' >"$out/problems"
getp() { run -m getp -n 24 -i "$1" -o -; }
getp_ids() { run -m getp -n 24 -i "$1" -o - --input-ids; }
generate() { run -m generate -n 24 -T 0 -i "$1"; }
generate_ids() { sed '1d; 3d' "$1" | marked_as "$1" | run -m generate -n 24 -T 0 -i - --input-ids; }
marked_as() { if [ "$(head -c 3 "$1")" = $'\357\273\277' ]; then marked -; else cat; fi; }
chat() { run -m chat -T 0 --date 2025-01-01 --max-answer 6 -n 700 -i "$1"; }
chat_stdin() { run -m chat -T 0 --date 2025-01-01 --max-answer 6 -n 700 <"$1"; }
evaluate() { run -m eval -n 24 -i "$1" -o -; }
encode() { tok encode -z "$tokenizer" "$1"; }
decode() { sed 1d "$1" | marked_as "$1" | tok decode -z "$tokenizer"; }
reads() { # NAME FILE: the function NAME on FILE
    "$1" "$out/$2" >"$out/plain" || echo "FAIL $1: failed"
    report "$1/some" "$([ -s "$out/plain" ] || echo 'prints nothing')"
    marked "$out/$2" >"$out/$2.mark" && crlf "$out/$2" >"$out/$2.crlf"
    "$1" "$out/$2.mark" >"$out/got"
    equal "$1/mark" "$out/plain" "$out/got"
    "$1" "$out/$2.crlf" >"$out/got"
    equal "$1/crlf" "$out/plain" "$out/got"
}
reads getp texts; reads getp_ids ids; reads generate prompt; reads generate_ids ids; reads chat lines; reads chat_stdin lines
reads evaluate problems; reads encode lines; reads decode ids
report verify/mark "$(run -m getp -n 24 -i "$out/texts" -o "$out/truth" && marked "$out/truth" >"$out/truth.mark" && run -m getp -n 24 -i "$out/texts" -o "$out/o" -v "$out/truth.mark" || tail -1 "$out/log")"
printf 'a\r\0\357\273\277b' >"$out/raw"
report encode/null-is-exact "$(tok encode -z "$tokenizer" -0 "$out/raw" | wc -w | grep -qx 6 || tok encode -z "$tokenizer" -0 "$out/raw")"

# --- files that are text: tokenizers, configurations, graphs, rules, templates, edited sources
cp -r "$out/model" "$out/marked"
for f in tokenizer config generation_config; do marked "$out/model/$f.json" >"$out/marked/$f.json"; done
run -m generate -n 24 -T 0 -w "$out/marked" -i "$out/prompt" >"$out/got"
generate "$out/prompt" >"$out/plain"
equal files/model "$out/plain" "$out/got"
printf 'SGVsbG8= 0\n' | marked - >"$out/o.tiktoken"
report files/tiktoken "$(printf 'Hello' | tok encode -z "$out/o.tiktoken" | grep -qx 0 || tail -1 "$out/log")"
mkdir "$out/graphs" "$out/rules" "$out/templates"
for g in graphs/*.lua; do marked "$g" >"$out/$g"; done
sed 's/name   = "[a-z_0-9]*"/name   = "mine"/' lua/fusions/topk_softmax.lua | marked - >"$out/rules/mine.lua"
for t in templates/row.hip templates/linear.hip; do marked $t >"$out/$t"; done
compile() { out/gptoss-compile "$@" --arch gfx90a --model "$out/model" --precision strict --max-batch 4 --max-tokens 64 >>"$out/log" 2>&1 || tail -1 "$out/log"; }
report files/graph "$(compile "$out/graphs/toy.lua" -o "$out/g.bin")"
report files/rule "$(compile graphs/toy.lua -o "$out/r.bin" --fusions "$out/rules/mine.lua")"
report files/template "$(compile graphs/toy.lua -o "$out/t.bin" --templates "$out/templates" --no-fusion all)"

# --- a NUL byte
printf 'a\0b c\n' >"$out/nul.lines"
n=$(tok encode -z "$tokenizer" "$out/nul.lines" | wc -w)
report nul/encode "$([ "$n" -ge 4 ] || echo "$n ids")"
printf '1\na\0b c\n' >"$out/nul.texts"
run -m logits -i "$out/nul.texts" -o "$out/nul.f32"
report nul/logits "$([ "$(stat -c %s "$out/nul.f32")" = $((n * 4 * 512)) ] || stat -c %s "$out/nul.f32")"
turn() { printf '%b\n' "$1" | out/gptoss-exec "$out/plan.bin" --device ref -m chat --date 2025-01-01 --max-answer 1 -n 700 --verbose 2>&1 >/dev/null | sed -n 's/^turn: \([0-9]*\) prompt.*/\1/p'; }
report nul/chat "$([ $(($(turn 'a\0b c') - $(turn 'a'))) = $((n - 1)) ] || echo "$(turn 'a\0b c') prompt tokens, $(turn a) of \"a\", $n ids")"
report nul/chat-command "$([ -n "$(turn '/quit\0')" ] || echo 'taken for a command')"
printf '%s' 'x' >"$out/one"; printf 'a\0b c' >"$out/nul.prompt"
report nul/generate "$(out/gptoss-exec "$out/plan.bin" --device ref -m generate -n 24 --verbose -i "$out/nul.prompt" 2>&1 >/dev/null | grep -q ": $n prompt" || echo 'cut')"
printf '5 6\0 7\n' >"$out/nul.ids"; printf '1\n5 6\0 7\n' >"$out/nul.getp"
refused nul/generate-ids 'a NUL byte among the ids' out/gptoss-exec "$out/plan.bin" --device ref -m generate --input-ids -i "$out/nul.ids"
refused nul/getp-ids 'getp:2: a NUL byte among the ids' out/gptoss-exec "$out/plan.bin" --device ref -m getp --input-ids -i "$out/nul.getp" -o "$out/o"
refused nul/decode 'a NUL byte among the ids' out/gptoss-tok decode -z "$tokenizer" "$out/nul.ids"
refused nul/verify 'a NUL byte among the ids' out/gptoss-exec "$out/plan.bin" --device ref -m getp -i "$out/texts" -o "$out/o" -v "$out/nul.ids"
printf '{"task": "t", "prompt": "a\0b", "answer": "x"}\n' >"$out/nul.problems"
refused nul/eval 'nul.problems:1' out/gptoss-exec "$out/plan.bin" --device ref -m eval -i "$out/nul.problems"
exit $failed
