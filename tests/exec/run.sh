#!/bin/bash
# The executor's modes on the device ref, with a hand-made plan (handmade.h), against the oracle and for each error a user can
# cause. Needs out/ built. GPTOSS_OUT: another place of the programs.
cd "$(dirname "$0")/../.." || exit 2
out=${GPTOSS_OUT:-$PWD/out}
exec=$out/gptoss-exec
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT
failed=0
ok() { echo "ok $1"; }
fail() { echo "FAIL $1: $2"; failed=1; }
unset GPTOSS_MODEL

"$out/tests/handmade_tool" "$tmp/plan.bin" && "$out/gptoss-mkmodel" tests/models/tiny.json "$tmp/model" --seed 3 2>"$tmp/err" || { fail setup "no plan or no model: $(tail -1 "$tmp/err")"; exit 1; }
python3 - "$tmp" <<'PY' || { fail setup "python3"; exit 1; }
import random, sys
r = random.Random(1)
lines = [' '.join(str(r.randrange(0, 500)) for _ in range(n)) for n in (1, 3, 17, 70, 130, 5, 100, 64, 65, 2)]
open(sys.argv[1] + '/in', 'w').write('10\n' + '\n'.join(lines) + '\n')
open(sys.argv[1] + '/ids', 'w').write('\n'.join(lines) + '\n')
PY
run() { "$exec" "$tmp/plan.bin" -w "$tmp/model" --device ref "$@" 2>"$tmp/err"; }
getp() { run -m getp --input-ids -i "$tmp/in" "$@"; }

# --- right answers
python3 tests/oracle/oracle.py "$tmp/model" --ids "$tmp/ids" --greedy 150 --eos 504,503 >"$tmp/want"
same() { # NAME FILE WANTED
    if cmp -s "$2" "$3"; then ok "$1"; else fail "$1" "differs: $(cmp "$2" "$3" 2>&1); $(tail -1 "$tmp/err")"; fi
}
getp -o "$tmp/out" -n 150; same getp_oracle "$tmp/out" "$tmp/want"
getp -o - -n 150 >"$tmp/out2"; same getp_stdout "$tmp/out2" "$tmp/want"
getp -o "$tmp/out2" -n 150 -b 1; same getp_b1 "$tmp/out2" "$tmp/want"
getp -o "$tmp/out2" -n 150 -b 3 --prefill-chunk 3; same getp_chunk3 "$tmp/out2" "$tmp/want"
getp -o "$tmp/out2" -n 150 --prefill-chunk 1 --threads 1; same getp_chunk1 "$tmp/out2" "$tmp/want"
getp -o "$tmp/out2" -n 150 --kv-memory 200K --json >"$tmp/json"; same getp_small_kv "$tmp/out2" "$tmp/want"
# one step ahead, as GPUs are: the same tokens, the same tokens counted
export GPTOSS_AHEAD=1
getp -o "$tmp/out2" -n 150; same ahead "$tmp/out2" "$tmp/want"
getp -o "$tmp/out2" -n 150 -b 1; same ahead_b1 "$tmp/out2" "$tmp/want"
getp -o "$tmp/out2" -n 150 -b 3 --prefill-chunk 3; same ahead_chunk3 "$tmp/out2" "$tmp/want"
getp -o "$tmp/out2" -n 150 --kv-memory 200K --json >"$tmp/ahead.json"; same ahead_small_kv "$tmp/out2" "$tmp/want"
unset GPTOSS_AHEAD
python3 - "$tmp" <<'PY' && ok ahead_counts || fail ahead_counts "$(diff "$tmp/json" "$tmp/ahead.json")"
import json, sys
a, b = (json.load(open(sys.argv[1] + '/' + name)) for name in ('json', 'ahead.json'))
assert all(a[k] == b[k] for k in ('requests', 'prompt_tokens', 'generated_tokens', 'peak_in_flight'))
PY
run -m getp_cpu --device auto --input-ids -i "$tmp/in" -o "$tmp/out2" -n 150; same getp_cpu "$tmp/out2" "$tmp/want"
getp -o "$tmp/out2" -n 150 -t 4; head -4 "$tmp/want" >"$tmp/want4"; same getp_lines "$tmp/out2" "$tmp/want4"
getp -o "$tmp/out2" -n 150 -t 0; same getp_no_lines "$tmp/out2" /dev/null
# -n N gives the first N - prompt + 1 tokens; a prompt beyond it an empty line
getp -o "$tmp/out2" -n 70; python3 - "$tmp" <<'PY'; same getp_n "$tmp/out2" "$tmp/want2"
import sys
d = sys.argv[1]
with open(d + '/want2', 'w') as f:
    for p, w in zip(open(d + '/ids'), open(d + '/want')):
        f.write(' '.join(w.split()[:max(0, 70 - len(p.split()) + 1)]) + '\n')
PY
grep -q 'request 5 has 130 tokens, -n is 70: give -n 130 or more.*; nothing is generated' "$tmp/err" && ok getp_long_warning || fail getp_long_warning "$(cat "$tmp/err")"
[ "$(sed -n 4p "$tmp/out2" | wc -w)" = 1 ] && ok getp_exactly_n || fail getp_exactly_n "$(sed -n 4p "$tmp/out2")"
# prompts longer than the default -n: getp says which -n would do, and fails when no prompt is left; logits has no -n
fails() { # NAME PATTERN command…: exit 1, and stderr says so
    local name=$1 pattern=$2
    shift 2
    "$@" >"$tmp/printed"
    local code=$?
    if [ $code = 1 ] && grep -q -- "$pattern" "$tmp/err"; then ok "$name"; else fail "$name" "exit $code: $(cat "$tmp/err")"; fi
}
"$out/tests/handmade_tool" "$tmp/long.bin" rows 2048
long() { "$exec" "$tmp/long.bin" -w "$tmp/model" --device ref --input-ids "$@" 2>"$tmp/err"; }
python3 -c 'print(1); print(*[i * 7 % 500 for i in range(1100)])' >"$tmp/long.in"
{ echo 2; tail -1 "$tmp/long.in"; echo 1 2 3; } >"$tmp/mixed.in"
python3 -c 'print(1); print(*[i * 7 % 500 for i in range(2100)])' >"$tmp/longer.in"
printf '2\n\n\n' >"$tmp/empty.in"
needs='1100 tokens, -n is 1024 (the default): give -n 1100 or more, the plan has room for 2048'
fails getp_none_left "error: nothing to run: the longest prompt has $needs" long -m getp -i "$tmp/long.in" -o "$tmp/out2"
printf '\n' >"$tmp/line"; same getp_none_left_lines "$tmp/out2" "$tmp/line"
fails getp_none_left_plan 'error: nothing to run: the longest prompt has 2100 tokens, the plan has room for 2048: .*--max-seq' long -m getp -i "$tmp/longer.in" -o "$tmp/out2"
fails getp_all_empty 'error: nothing to run: every prompt is empty' long -m getp -i "$tmp/empty.in" -o "$tmp/out2"
long -m getp -i "$tmp/mixed.in" -o "$tmp/out2" && grep -q "warning: request 1 has $needs; nothing is generated" "$tmp/err" && [ "$(wc -l <"$tmp/out2")" = 2 ] && ok getp_some_left || fail getp_some_left "$(cat "$tmp/err")"
fails parity_none_left "error: nothing to run: the longest prompt has $needs" long -m parity -i "$tmp/long.in"
fails parity_all_empty 'every prompt is empty' long -m parity -i "$tmp/empty.in"
echo 0 >"$tmp/zero.in"; fails parity_no_requests 'no requests' long -m parity -i "$tmp/zero.in"
fails generate_long "error: the prompt has $needs" long -m generate "$(tail -1 "$tmp/long.in")"
printf '{"task": "t", "prompt": "%01100d", "answer": "1"}\n' 0 >"$tmp/set"
fails eval_none_left "error: nothing to run: the longest prompt has $needs" long -m eval -i "$tmp/set"
long -m logits -i "$tmp/mixed.in" -o "$tmp/got.f32" && [ "$(stat -c %s "$tmp/got.f32")" = $((1103 * 512 * 4)) ] && ! grep warning "$tmp/err" && ok logits_long || fail logits_long "$(cat "$tmp/err")"
long -m logits -i "$tmp/mixed.in" -o "$tmp/got.f32" -n 5 && [ "$(stat -c %s "$tmp/got.f32")" = $((1103 * 512 * 4)) ] && grep -q -- '--steps does nothing here' "$tmp/err" && ok logits_steps || fail logits_steps "$(cat "$tmp/err")"
rm -f "$tmp/got.f32"
fails logits_too_long 'error: request 1 has 2100 tokens, the plan has room for 2048: .*--max-seq' long -m logits -i "$tmp/longer.in" -o "$tmp/got.f32"
fails logits_empty 'every prompt is empty' long -m logits -i "$tmp/empty.in" -o "$tmp/got.f32"
[ ! -e "$tmp/got.f32" ] && ok logits_nothing_written || fail logits_nothing_written "$(ls -l "$tmp")"

# --- text: the same as its ids; carriage returns and empty prompts
printf '4\r\nHello world\r\n\r\nzwei  W\xc3\xb6rter\nlast' >"$tmp/text"
printf 'Hello world\n\nzwei  W\xc3\xb6rter\nlast\n' | "$out/gptoss-tok" encode -z "$tmp/model/tokenizer.json" >"$tmp/text.ids"
{ echo 4; cat "$tmp/text.ids"; } >"$tmp/text.in"
run -m getp -i "$tmp/text" -o "$tmp/out" -n 40; cp "$tmp/err" "$tmp/text.err"
run -m getp -i "$tmp/text.in" --input-ids -o "$tmp/out2" -n 40; same getp_text "$tmp/out" "$tmp/out2"
[ "$(sed -n 2p "$tmp/out")" = "" ] && grep -q 'request 2 is empty' "$tmp/text.err" && ok getp_empty || fail getp_empty "$(cat "$tmp/text.err")"
run -m getp -i - -o "$tmp/out2" -n 40 <"$tmp/text"; same getp_stdin "$tmp/out2" "$tmp/out"

# --- -v and --json
getp -o "$tmp/out2" -n 150 -v "$tmp/want" && grep -q '10 of 10 requests equal' "$tmp/err" && ok verify_equal || fail verify_equal "$(tail -1 "$tmp/err")"
sed '3s/[0-9]* /511 /2' "$tmp/want" >"$tmp/wrong"
getp -o "$tmp/out2" -n 150 -v "$tmp/wrong" && fail verify_differs "exit 0" || { grep -q '9 of 10 requests equal' "$tmp/err" && grep -q 'differs: request 3, token 2: got' "$tmp/err" && ok verify_differs || fail verify_differs "$(tail -1 "$tmp/err")"; }
cp "$tmp/want" "$tmp/truth"; getp -o "$tmp/truth" -n 150 -v "$tmp/truth" && fail verify_itself "exit 0" || { grep -q 'is -v too' "$tmp/err" && cmp -s "$tmp/truth" "$tmp/want" && ok verify_itself || fail verify_itself "$(tail -1 "$tmp/err")"; }
head -9 "$tmp/want" >"$tmp/short"
getp -o "$tmp/out2" -n 150 -v "$tmp/short" && fail verify_short "exit 0" || ok verify_short
getp -o "$tmp/out2" -n 150 -v "$tmp/want" --json >"$tmp/json"; python3 - "$tmp/json" <<'PY' && ok json || fail json "$(cat "$tmp/json")"
import json, sys
j = json.load(open(sys.argv[1]))
assert j['mode'] == 'getp' and j['requests'] == 10 and j['prompt_tokens'] == 457 and j['peak_pages'] > 0
assert j['verify']['equal_requests'] == 10
PY

# --- logits, parity, bench, inspect
python3 tests/oracle/oracle.py "$tmp/model" --values f32 --ids "$tmp/ids" -o "$tmp/want.f32" 2>/dev/null
run -m logits --input-ids -i "$tmp/in" -o "$tmp/got.f32"
# measured 8.1e-6 (2026-11): the oracle rounds after each op, ref inside none; strict's own bound is for engines that round alike
"$out/gptoss-check" "$tmp/got.f32" "$tmp/want.f32" --atol 2e-5 --rtol 1e-5 >"$tmp/check" 2>&1 && ok logits_oracle || fail logits_oracle "$(head -1 "$tmp/check")"
run -m logits --input-ids -i "$tmp/in" -o - --prefill-chunk 5 -b 2 | cmp -s - "$tmp/got.f32" && ok logits_stdout || fail logits_stdout "differs from the file"
run -m parity >"$tmp/parity" && grep -q ' 0 out of tolerance' "$tmp/parity" && ok parity || fail parity "$(tail -1 "$tmp/err")"
run -m parity --input-ids -i "$tmp/in" --json --dump-tensor no.such.value >/dev/null && fail parity_no_tensor "exit 0" || { grep -q 'no value is called no.such.value' "$tmp/err" && ok parity_no_tensor || fail parity_no_tensor "$(tail -1 "$tmp/err")"; }
(cd "$tmp" && "$exec" plan.bin -w model --device ref -m parity --dump-tensor layer1.attn.kv.next >/dev/null 2>&1 && cmp -s layer1.attn.kv.next.device layer1.attn.kv.next.ref) && ok dump_tensor || fail dump_tensor "no equal dumps"
run -m bench -n 20 --json | python3 -c 'import json,sys; j=json.load(sys.stdin); assert [t["tokens"] for t in j["tests"]] == [10, 10]' && ok bench || fail bench "$(tail -1 "$tmp/err")"
"$exec" --inspect "$tmp/plan.bin" --json | python3 -c 'import json,sys; assert json.load(sys.stdin)["precision"] == "strict"' && ok inspect_json || fail inspect_json "no JSON"

# killed, it leaves nothing behind
mkdir "$tmp/killed" && for i in 1 2 3; do (cd "$tmp/killed" && timeout -s KILL 0.$((i * 7)) "$exec" "$tmp/plan.bin" -w "$tmp/model" --device ref -m logits --input-ids -i "$tmp/in" -o rows --prefill-chunk 1 -b 1 2>/dev/null); ls "$tmp/killed"; rm -f "$tmp/killed/rows"; done | grep -v '^rows$' >"$tmp/left"
[ ! -s "$tmp/left" ] && ok logits_killed || fail logits_killed "left $(cat "$tmp/left")"

# --- errors: what was said, exit 1, and no output file
refused() { # NAME PATTERN COMMAND…
    local name=$1 pattern=$2
    shift 2
    rm -f "$tmp/none"
    if "$@" >"$tmp/stdout" 2>"$tmp/err"; then fail "$name" "exit 0"
    elif ! grep -q -- "$pattern" "$tmp/err"; then fail "$name" "said: $(tail -1 "$tmp/err")"
    elif ls "$tmp"/none* >/dev/null 2>&1; then fail "$name" "left an output file"
    else ok "$name"; fi
}
E() { "$exec" "$tmp/plan.bin" -o "$tmp/none" "$@"; }
R() { E --device ref -w "$tmp/model" "$@"; }
printf '3\n1 2\n3\n' >"$tmp/few"; printf 'three\n1\n' >"$tmp/nan"; printf '1\n1 512\n' >"$tmp/big"; printf '1\n1 x2\n' >"$tmp/word"; : >"$tmp/empty"
refused few_lines 'few: the first line says 3 requests, there are 2' R -m getp --input-ids -i "$tmp/few"
refused no_count 'nan:1: the first line must be the number of requests, it is "three"' R -m getp --input-ids -i "$tmp/nan"
refused empty_file 'empty: empty' R -m getp --input-ids -i "$tmp/empty"
refused big_id 'big:2: token id 512 is not in the model.s vocabulary of 512' R -m getp --input-ids -i "$tmp/big"
refused word_id 'word:2: "x2" is not a token id' R -m getp --input-ids -i "$tmp/word"
refused no_input '/missing: No such file' R -m getp --input-ids -i "$tmp/missing"
refused no_output_dir 'cannot be written' "$exec" "$tmp/plan.bin" --device ref -w "$tmp/model" -m getp --input-ids -i "$tmp/in" -o "$tmp/no/dir"
refused n_beyond '-n 257: the plan has room for 256 positions' R -m getp -n 257
refused b_beyond '-b 5: the plan has 4 slots' R -m getp -b 5
refused kv_small 'kv cache: one request may need' R -m getp --input-ids -i "$tmp/in" --kv-memory 4K
refused no_model '-w MODEL was not given, the plan records none.*GPTOSS_MODEL is not set' E --device ref -m getp
refused wrong_model_path 'missing' E --device ref -w "$tmp/missing" -m getp
refused auto_device '--device emu.*--device ref.*--arch host' E -w "$tmp/model" -m getp
refused hip_device 'device hip' R --device hip -m getp
refused no_device 'no device "tpu"' R --device tpu -m getp
refused no_kernels 'only --device ref runs it' R --device emu -m getp --input-ids -i "$tmp/in"
refused two_gpus '-g 2' R -m getp -g 2
refused temperature 'has no input sampling' R -m getp -T 0.7
refused output_is_folder 'cannot be written: Is a directory' "$exec" "$tmp/plan.bin" --device ref -w "$tmp/model" -m getp --input-ids -i "$tmp/in" -o "$tmp"
refused output_is_input 'in is -i too' "$exec" "$tmp/plan.bin" --device ref -w "$tmp/model" -m getp --input-ids -i "$tmp/in" -o "$tmp/in"
cp -r "$tmp/model" "$tmp/precious"
refused output_is_model 'is a file of the model' "$exec" "$tmp/plan.bin" --device ref -w "$tmp/precious" -m getp --input-ids -i "$tmp/in" -o "$tmp/precious/tokenizer.json"
mkdir -p "$tmp/default/data" && cp "$tmp/in" "$tmp/default/data/input.txt"
refused output_is_default_input 'is the input too' bash -c "cd '$tmp/default' && '$exec' '$tmp/plan.bin' --device ref -w '$tmp/model' -m getp --input-ids -o data/input.txt"
refused output_is_plan 'is the plan too' "$exec" "$tmp/plan.bin" --device ref -w "$tmp/model" -m getp --input-ids -i "$tmp/in" -o "$tmp/plan.bin"
refused logits_nowhere 'say where, with -o' "$exec" "$tmp/plan.bin" --device ref -w "$tmp/model" -m logits --input-ids -i "$tmp/in"
refused two_tasks 'one at a time: -m, --inspect' R -m getp --inspect
refused no_mode 'no mode "sing"' R -m sing
refused no_option 'no option --frob' R -m getp --frob
refused no_plan '/missing.bin: No such file' "$exec" "$tmp/missing.bin" -m getp
mkdir "$tmp/no_tok" && cp "$tmp"/model/*.safetensors "$tmp"/model/config.json "$tmp/no_tok"
refused no_tokenizer '-z TOKENIZER was not given and there is no .*no_tok/tokenizer.json' E --device ref -w "$tmp/no_tok" -m getp -i "$tmp/text"
"$out/tests/handmade_tool" "$tmp/odd.bin" row_index
refused unknown_input 'wants an input "row_index", which this program does not know' "$exec" "$tmp/odd.bin" --device ref -w "$tmp/model" -m getp --input-ids -i "$tmp/in" -o "$tmp/none"

# --- checkpoints that differ
sed 's/"swiglu_limit": 7.0/"swiglu_limit": 6.0/; s/"sliding_window": 16/"sliding_window": 32/' tests/models/tiny.json >"$tmp/limit.json"
cp -r "$tmp/model" "$tmp/limit" && cp "$tmp/limit.json" "$tmp/limit/config.json"
"$exec" "$tmp/plan.bin" --device ref -w "$tmp/limit" -m getp --input-ids -i "$tmp/in" -n 150 -o "$tmp/out2" 2>"$tmp/err"; same other_limit "$tmp/out2" "$tmp/want"
grep -q 'warning: swiglu_limit is 6 in the checkpoint, 7 in the plan' "$tmp/err" && grep -q 'sliding window is 32' "$tmp/err" && ok limit_warning || fail limit_warning "$(cat "$tmp/err")"
sed 's/"hidden_size": 64/"hidden_size": 96/' tests/models/tiny.json >"$tmp/wide.json" && "$out/gptoss-mkmodel" "$tmp/wide.json" "$tmp/wide" 2>/dev/null
refused other_shape 'hidden size is 96, in the plan 64: the plan was compiled for another model' E --device ref -w "$tmp/wide" -m getp --input-ids -i "$tmp/in"

# a NaN in a weight: the first value that has it is named
cp -r "$tmp/model" "$tmp/bad" && python3 - "$tmp/bad/model.safetensors" <<'PY'
import json, struct, sys
f = open(sys.argv[1], 'r+b')
n = struct.unpack('<Q', f.read(8))[0]
t = json.loads(f.read(n))['model.layers.2.self_attn.o_proj.bias']
f.seek(8 + n + t['data_offsets'][0] + (6 if t['dtype'] == 'BF16' else 12))
f.write(b'\xc0\x7f' if t['dtype'] == 'BF16' else b'\0\0\xc0\x7f')
PY
refused nan 'element 0 is NaN; the first value that is not finite in this step is layer2.attn.o$' E --device ref -w "$tmp/bad" -m getp --input-ids -i "$tmp/in"
cp -r "$tmp/model" "$tmp/bad2" && python3 - "$tmp/bad2/model.safetensors" <<'PY'
import json, struct, sys
f = open(sys.argv[1], 'r+b')
n = struct.unpack('<Q', f.read(8))[0]
t = json.loads(f.read(n))['model.norm.weight']
f.seek(8 + n + t['data_offsets'][0] + (6 if t['dtype'] == 'BF16' else 12))
f.write(b'\xc0\x7f' if t['dtype'] == 'BF16' else b'\0\0\xc0\x7f')
PY
GPTOSS_AHEAD=1 refused nan_ahead 'step 1 (.*element 0 is NaN; the first value that is not finite in this step is layer2.attn.o$' E --device ref -w "$tmp/bad" -m getp --input-ids -i "$tmp/in"
GPTOSS_AHEAD=1 refused nan_sample_ahead 'step 1 (.*request 1, token 1: its logits hold a NaN; the first value that is not finite in this step is n ' E --device ref -w "$tmp/bad2" -m getp --input-ids -i "$tmp/in"
refused nan_sample 'logits hold a NaN; the first value that is not finite in this step is n ' E --device ref -w "$tmp/bad2" -m getp --input-ids -i "$tmp/in"
exit $failed
