#!/bin/bash
# run.sh - tests/chat: generate, chat, getp --print, options and their environment variables, as a user runs them; a terminal session.
cd "$(dirname "$0")/../.." || exit 1
out=out/tests/chat/cli
rm -rf $out && mkdir -p $out
failed=0
report() { if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: ${2//$'\n'/ / }"; failed=1; fi; }
equal() { cmp -s "$2" "$3" && report "$1" || report "$1" "$2 and $3 differ"; }
refused() { # NAME PATTERN command…
    local name=$1 pattern=$2 got
    shift 2
    if got=$("$@" 2>&1 </dev/null); then report "$name" "taken"; else report "$name" "$(grep -q -- "$pattern" <<<"$got" || echo "$got")"; fi
}
{ out/gptoss-mkmodel tests/models/tiny.json $out/model --seed 6 &&
  out/gptoss-compile graphs/toy.lua --arch gfx90a --model $out/model --precision strict --max-batch 4 --max-tokens 64 -o $out/plan.bin; } >$out/log 2>&1 ||
    { echo "FAIL compile: $(tail -1 $out/log)"; exit 1; }
exec=out/gptoss-exec
export GPTOSS_SEED=0 # else generate and chat draw one
run() { $exec $out/plan.bin --device ref "$@" 2>>$out/log; }

# --- generate
prompt="Hello there, how are you?"
run -m generate -n 80 "$prompt" >$out/words
run -m generate -n 80 Hello there, how are you? >$out/more-words
printf '%s\n' "$prompt" >$out/prompt
run -m generate -n 80 -i $out/prompt >$out/file
printf '%s' "$prompt" | run -m generate -n 80 -i - >$out/stdin
run -m generate -n 80 -o $out/o "$prompt" >$out/silent; echo >>$out/o
report generate/some "$([ "$(wc -c <$out/words)" -gt 20 ] || echo "only $(cat $out/words)")"
equal generate/words $out/words $out/more-words
equal generate/file $out/words $out/file
equal generate/stdin $out/words $out/stdin
equal generate/output $out/words $out/o
report generate/output-silent "$(cat $out/silent)"
run -m generate -n 80 -s 1 "$prompt" >$out/seed1
report generate/seed "$(cmp -s $out/words $out/seed1 && echo 'another seed, the same text')"
run -m generate -n 80 -T 0 "$prompt" >$out/greedy
printf '1\n%s\n' "$prompt" >$out/requests
run -m getp -n 80 -i $out/requests -o $out/ids
run -m generate -n 80 -T 0 --input-ids "$(out/gptoss-tok encode -z $out/model/tokenizer.json $out/prompt)" >$out/greedy-ids
equal generate/same-as-getp $out/ids <(awk -v n="$(wc -w <$out/ids)" '{print}' $out/greedy-ids)
stop=$(head -c 60 $out/greedy | LC_ALL=C tr -cd 'a-z ' | grep -oE '[a-z]{2}' | tail -1)
run -m generate -n 80 -T 0 --stop "$stop" --stop "never there" "$prompt" >$out/stopped
report generate/stop "$(grep -qF -- "$stop" $out/stopped && echo "--stop $stop is in the text"; head -c "$(($(wc -c <$out/stopped) - 1))" $out/stopped | cmp -sn "$(($(wc -c <$out/stopped) - 1))" - $out/greedy || echo 'not the beginning')"
sed 's/"do_sample": true/"do_sample": false/' $out/model/generation_config.json >$out/g && cp -r $out/model $out/greedy-model && cp $out/g $out/greedy-model/generation_config.json
run -m generate -n 80 -w $out/greedy-model "$prompt" >$out/config-greedy
equal generate/config-greedy $out/greedy $out/config-greedy
sed 's/"do_sample": true/"do_sample": true, "temperature": 5.0, "top_k": 1/' $out/model/generation_config.json >$out/greedy-model/generation_config.json
run -m generate -n 80 -w $out/greedy-model "$prompt" >$out/config-topk
equal generate/config-top-k $out/greedy $out/config-topk

# --- generation_config.json: stop_strings, max_new_tokens, suppress_tokens; what is not implemented is said, once
settings() { # more settings in greedy-model's file
    sed 's/"do_sample": true/"do_sample": false'"${1:+, ${1//\//\\/}}"'/' $out/model/generation_config.json >$out/greedy-model/generation_config.json
}
greedy() { settings "$1"; shift; $exec $out/plan.bin --device "${on:-ref}" -m generate -w $out/greedy-model "$@" "$prompt" 2>$out/said; }
greedy "\"stop_strings\": [\"never there\", \"$stop\"]" -n 80 >$out/got; equal config/stop-strings $out/stopped $out/got
greedy "\"stop_strings\": \"$stop\"" -n 80 >$out/got; equal config/stop-string $out/stopped $out/got
greedy "\"stop_strings\": [\"e\"]" -n 80 --stop "$stop" >$out/got; equal config/stop-given $out/stopped $out/got
greedy '"max_new_tokens": 5' --verbose >/dev/null; report config/max-new "$(grep -q '+ 5 generated tokens.*ended by max_new_tokens' $out/said || tail -1 $out/said)"
greedy '"max_new_tokens": 5' -n 80 >$out/got; equal config/max-new-given $out/greedy $out/got
report config/chat-max-new "$(echo hi | $exec $out/plan.bin --device ref -w $out/greedy-model -m chat -n 700 2>&1 | grep -q 'cut off after 5 tokens' || echo 'not cut off')"
report config/chat-max-answer "$(echo hi | $exec $out/plan.bin --device ref -w $out/greedy-model -m chat -n 700 --max-answer 3 2>&1 | grep -q 'cut off after 3 tokens' || echo 'not cut off')"
ids() { greedy "$1" -n 40 --input-ids "${@:2}"; }
prompt_words=$prompt prompt="$(out/gptoss-tok encode -z $out/model/tokenizer.json $out/prompt)"
ids "" >$out/free
banned=$(tr ' ' '\n' <$out/free | sort -u | head -4 | paste -sd,)
out/gptoss-compile graphs/toy.lua --arch host --model $out/model --precision strict --max-batch 4 --max-tokens 64 -o $out/host.bin >>$out/log 2>&1
for on in ref emu host; do
    for how in greedy drawn; do
        plan=$out/plan.bin; [ $on = host ] && plan=$out/host.bin
        settings "\"suppress_tokens\": [$banned, 9999999]"
        $exec $plan --device $on -m generate -w $out/greedy-model -n 40 --input-ids $([ $how = drawn ] && echo -T 1.3 -s 5) "$prompt" >$out/suppressed-$how-$on 2>$out/said
        report config/suppress-$how-$on "$([ "$(wc -w <$out/suppressed-$how-$on)" -gt 20 ] || tail -1 $out/said; for id in ${banned//,/ }; do grep -qw $id $out/suppressed-$how-$on && echo "$id came"; done)"
        equal config/suppress-$how-$on-same $out/suppressed-$how-ref $out/suppressed-$how-$on
    done
done
GPTOSS_AHEAD=1 $exec $out/plan.bin -m generate --device ref -w $out/greedy-model -n 40 --input-ids -T 1.3 -s 5 "$prompt" >$out/suppressed-ahead 2>$out/said
equal config/suppress-ahead $out/suppressed-drawn-ref $out/suppressed-ahead
on=ref
# the first token that was suppressed gives way to the likeliest other one
run -m logits --input-ids -i <(echo 1; echo "$prompt") -o $out/logits
report config/suppress-next "$(python3 - $out/logits "$banned" "$(cut -d' ' -f1 $out/suppressed-greedy-ref)" <<'P'
import array, sys
a = array.array('f', open(sys.argv[1], 'rb').read())[-512:]
banned = set(map(int, sys.argv[2].split(',')))
want = max((i for i in range(512) if i not in banned), key=lambda i: a[i])
if want != int(sys.argv[3]): print('got %s, the likeliest other is %d' % (sys.argv[3], want))
P
)"
prompt=$prompt_words
printf '1\n%s\n' "$prompt" >$out/requests
run -m getp -n 80 -i $out/requests -o $out/got -w $out/greedy-model; equal config/getp-does-not-read-it $out/ids $out/got
greedy '"repetition_penalty": 1.0, "num_beams": 1, "min_length": 0, "bad_words_ids": [], "typical_p": 1.0, "forced_eos_token_id": null, "renormalize_logits": false' -n 80 >$out/got
report config/neutral "$(cat $out/said)"
greedy '"repetition_penalty": 1.1, "begin_suppress_tokens": [5]' -n 80 >$out/got
report config/ignored "$([ "$(grep -c 'warning: .*generation_config.json: not implemented and ignored: repetition_penalty, begin_suppress_tokens$' $out/said)" = 1 ] && [ "$(wc -l <$out/said)" = 1 ] || cat $out/said)"
for bad in '"stop_strings": [5]' '"stop_strings": [""]' '"suppress_tokens": 5' '"suppress_tokens": ["x"]' '"max_new_tokens": 0' '"temperature": "hot"'; do
    settings "$bad"
    refused "config/bad ${bad//\"/}" "generation_config.json: ${bad:1:8}" $exec $out/plan.bin -m generate --device ref -w $out/greedy-model x
done

# --- special tokens in a prompt; a seed that nobody chose
printf '<|start|>user<|message|>Hi<|end|>' >$out/special
tokens() { $exec $out/plan.bin --device ref -m generate -n 80 -T 0 "$@" --verbose 2>&1 >/dev/null | sed -n 's/.*: \([0-9]*\) prompt.*/\1/p'; }
report special/off "$([ "$(tokens -i $out/special)" = "$(out/gptoss-tok encode -z $out/model/tokenizer.json $out/special | wc -w)" ] || tokens -i $out/special)"
report special/generate "$([ "$(tokens --special -i $out/special)" = "$(out/gptoss-tok encode -s -z $out/model/tokenizer.json $out/special | wc -w)" ] || tokens --special -i $out/special)"
run -m generate -n 80 -T 0 --special -i $out/special >$out/a
run -m generate -n 80 -T 0 "$(cat $out/special)" --special >$out/b; equal special/words $out/a $out/b
{ echo 1; cat $out/special; echo; } >$out/special.requests
{ echo 1; out/gptoss-tok encode -s -z $out/model/tokenizer.json $out/special; } >$out/special.ids
for mode in getp logits; do
    run -m $mode -n 80 -i $out/special.requests --special -o $out/a
    run -m $mode -n 80 -i $out/special.ids --input-ids -o $out/b
    equal special/$mode $out/a $out/b
done
draw() { env -u GPTOSS_SEED $exec $out/plan.bin --device ref -m generate -n 80 -T 1 "$@" "$prompt" 2>$out/said; }
draw --verbose >$out/a; seed=$(sed -n 's/^drawn with -s \([0-9]*\)$/\1/p' $out/said)
draw >$out/b; report seed/random "$(cmp -s $out/a $out/b && echo 'the same text twice')"
report seed/silent "$(cat $out/said)"
draw -s "$seed" >$out/b; equal seed/given $out/a $out/b
report seed/chat "$(echo hi | env -u GPTOSS_SEED $exec $out/plan.bin --device ref -m chat -n 700 --max-answer 3 -T 1 --verbose 2>&1 | grep -q '^drawn with -s [0-9]' || echo 'not said')"
refused generate/two-prompts 'two prompts' $exec $out/plan.bin -m generate --device ref -i $out/prompt hello
refused generate/empty 'prompt is empty' $exec $out/plan.bin -m generate --device ref -i /dev/null
refused generate/no-file 'No such file' $exec $out/plan.bin -m generate --device ref -i $out/none
refused generate/long 'the prompt has' $exec $out/plan.bin -m generate --device ref -n 3 "$prompt"
refused generate/stop-empty 'text is empty' $exec $out/plan.bin -m generate --device ref --stop '' x
refused getp/words 'two plans' $exec $out/plan.bin -m getp --device ref hello

# --- the environment
GPTOSS_MODE=generate GPTOSS_STEPS=80 GPTOSS_TEMPERATURE=0 run "$prompt" >$out/environment
equal environment/values $out/greedy $out/environment
GPTOSS_TEMPERATURE=0 run -m generate -n 80 -T 1 "$prompt" >$out/environment
equal environment/command-line-wins $out/words $out/environment
GPTOSS_STEPS=many refused environment/bad 'GPTOSS_STEPS many: not a whole number' $exec $out/plan.bin -m generate --device ref x

# --- getp --print
printf '3\nOne, two\n\nthree four five\n' >$out/three
run -m getp -n 30 -i $out/three -o $out/three.ids --print >$out/print
report print/all "$([ "$(grep -c '^--- request' $out/print)" = 3 ] && sed -n '1p' $out/print | grep -q '^--- request 1: ' || cat $out/print)"
report print/text "$(grep -aqF -- "$(sed -n 3p $out/three.ids | tr " " "\n" | awk '$1 < 400' | head -3 | tr "\n" " " | out/gptoss-tok decode -z $out/model/tokenizer.json | head -1 | grep -aoE '[a-zA-Z ]{1,}' | head -1)" $out/print || echo 'the third text is not there')"
refused print/stdout 'both write to stdout' $exec $out/plan.bin -m getp --device ref -i $out/three -o - --print

# --- chat
chat() { run -m chat --date 2025-01-01 --max-answer 10 -n 700 "$@"; }
printf 'hi\nand more\n/new\nhi\n/quit\nnot read\n' | $exec $out/plan.bin --device ref -m chat --date 2025-01-01 --max-answer 10 -n 700 --verbose >$out/chat 2>$out/chat.err
report chat/turns "$([ "$(grep -c '^turn:' $out/chat.err)" = 3 ] || tail -3 $out/chat.err)"
report chat/cache "$(sed -n 's/^turn: \([0-9]*\) prompt.*/\1/p' $out/chat.err | tr '\n' ' ' | awk '$2 < $1 / 3 && $3 == $1 {ok = 1} END {if (!ok) print "prompt tokens run: " $0}')"
printf 'hi\n' | chat >$out/chat1
chat -i $out/prompt >$out/chat2
chat "$prompt" </dev/null >$out/chat3
equal chat/words $out/chat2 $out/chat3
report chat/again "$(head -c "$(wc -c <$out/chat1)" $out/chat | cmp -s - $out/chat1 || echo 'the same words, another answer')"
printf 'hi\n' | chat -y "Be brief." --reasoning high >$out/chat4 && report chat/system || report chat/system "failed"
refused chat/reasoning 'low, medium or high' $exec $out/plan.bin -m chat --device ref --reasoning huge
refused chat/full 'there is room for' bash -c "printf 'one\ntwo\n' | $exec $out/plan.bin -m chat --device ref -n 100"
python3 - $out <<'P'
import json, sys
t = json.load(open(sys.argv[1] + '/model/tokenizer.json'))
t['added_tokens'] = [x for x in t['added_tokens'] if x['content'] not in ('<|start|>', '<|message|>')]
json.dump(t, open(sys.argv[1] + '/plain.json', 'w'))
P
refused chat/no-harmony 'missing are <|start|> <|message|>' $exec $out/plan.bin -m chat --device ref -z $out/plain.json

# --stop ends an answer before its text, and the conversation goes on
answer=$(sed -n 1p $out/chat1)
stop=$(LC_ALL=C tr -cd 'a-z\n ' <<<"$answer" | grep -oE '[a-z]{2,}' | tail -1)
printf 'hi\nhi\n' | chat --stop "$stop" >$out/chat5
report chat/stop "$([ -n "$stop" ] || echo "no word in $answer"; grep -qF -- "$stop" $out/chat5 && echo "--stop $stop is there"; grep -qF -- "${answer%%"$stop"*}" $out/chat5 || echo "what is before it is not: $(cat $out/chat5)")"
refused chat/date 'it is a date' $exec $out/plan.bin -m chat --device ref --date tomorrow
for date in 2025-02-31 2025-13-01 2025-1-05 25-01-01 '2025-01-01 '; do refused "chat/date $date" 'it is a date' $exec $out/plan.bin -m chat --device ref --date "$date"; done
report chat/date-leap "$(echo hi | chat --date 2024-02-29 | grep -q . || tail -1 $out/log)"
report chat/command-misspelt "$(echo /hlep | $exec $out/plan.bin -m chat --device ref 2>&1 | grep -q 'there is no command /hlep; .*; did you mean /help?' || echo 'no suggestion')"
refused device/misspelt 'did you mean host?' $exec $out/plan.bin -m chat --device hots
refused chat/folder 'cannot be read: Is a directory' $exec $out/plan.bin -m chat --device ref -i $out
printf ' /help \n/nope\n/usr/bin is full\n' | chat --verbose >$out/chat6 2>$out/chat6.err
refused chat/first-too-long 'with the instructions this message has' bash -c "echo hi | $exec $out/plan.bin -m chat --device ref -n 30"

# --- reasoning of earlier turns: what chat says is what one-shot prompts, rendered by hand, say
cp -r $out/model $out/reasoner && python3 tests/chat/reasoner.py make $out/reasoner &&
    out/gptoss-compile graphs/toy.lua --arch gfx90a --model $out/reasoner --precision strict --max-batch 1 --max-tokens 64 -o $out/reasoner.bin >>$out/log 2>&1
python3 tests/chat/reasoner.py check $out/reasoner.bin || failed=1

# --- a terminal
if command -v script >/dev/null; then
    shows() { for _ in $(seq 300); do grep -aqF -- "$1" $out/typescript 2>/dev/null && return; sleep 0.1; done; } # waits for it
    terminal() { # COLUMNS, command, keys: 'shows "> "; printf …'
        rm -f $out/typescript # exec: a dash that stayed would end by the Ctrl-C that its child lives through
        GPTOSS_HISTORY=$PWD/$out/history timeout 90 script -qfec "stty cols $1; exec $2" $out/typescript < <(eval "$3") >/dev/null 2>&1
    }
    talk="env -u LANG -u LC_ALL -u LC_CTYPE $exec $out/plan.bin --device ref -m chat --date 2025-01-01 --max-answer 10"
    { echo _HiStOrY_V2_; seq -f 'old\040line\040%06.0f\040of\040many' 40000; } >$out/history # more than it may have: cut to its last lines
    terminal 100 "$talk" 'shows "> "; printf "hello\r"; sleep 1; printf "/help\r"; sleep 0.5; printf "/bye\\\\\\rmore\r"; sleep 0.5; printf "/quit\r"; sleep 0.5'
    report terminal/exit "$([ $? = 0 ] || echo failed)"
    report terminal/prompt "$(grep -aq '> ' $out/typescript || echo 'no prompt')"
    report terminal/help "$(grep -aq 'begin another conversation' $out/typescript || echo 'no help')"
    if pkg-config --exists libedit; then
        report terminal/history "$(grep -aq hello $out/history || echo 'no history kept')"
        report terminal/history-cut "$(grep -aq 040000 $out/history && [ "$(stat -c %s $out/history)" -lt 100000 ] && ! ls $out/history.* 2>/dev/null || ls -l $out/history*)"
        # Ctrl-C gives up a line and no more; a paste with line breaks and a tab is one turn; letters beyond ASCII without a locale;
        # Tab is a tab. What was sent is what the history has, in vis(3)'s encoding.
        terminal 100 "$talk" 'shows "> "; printf "half \003"; shows leaves; printf "Gr\303\274\303\237e\tx\r"; sleep 1; printf "\033[200~one\r\r\ttwo\n\nthree\033[201~\r"; sleep 1; printf "\033[A\033[Bend\r"; sleep 1; printf "/quit\r"; sleep 0.5'
        report terminal/interrupt "$([ $? = 0 ] && grep -aq 'Ctrl-D or /quit leaves' $out/typescript && ! grep -aq half $out/history || echo "not given up: $(tail -3 $out/history)")"
        report terminal/utf8 "$(grep -aqF 'Gr\M-C\M-<\M-C\M^_e\^Ix' $out/history || grep -aqF $'Gr\303\274\303\237e' $out/history || echo "$(tail -4 $out/history)")"
        report terminal/paste "$([ "$(grep -acF 'one\012\012\011two' $out/history)" = 1 ] || echo "$(tail -4 $out/history)")"
    fi
    # a bar shows on a terminal, whole in any width, with the time left; elsewhere none
    { echo 60; for i in $(seq 60); do echo "$prompt $i"; done; } >$out/many
    for columns in 40 60 100; do
        terminal $columns "$exec $out/plan.bin --device ref -m getp -n 400 -i $out/many -o $out/bar.ids" :
        report terminal/bar-$columns "$(tr '\r' '\n' <$out/typescript | grep -a '^getp.*%' | sed 's/\x1b\[K//' | awk -v w=$columns 'length > w - 1 {print "too long: " $0} / left$/ {n++} END {if (!n) print "no time left"}')"
    done
    GPTOSS_CACHE=$PWD/$out/cache terminal 80 "out/gptoss-compile graphs/toy.lua --arch gfx90a -o $out/bar.bin" :
    report terminal/bar-compile "$(grep -aq 'compiling .*%  [0-9]* of [0-9]* kernel files' $out/typescript || tail -c 300 $out/typescript)"
else
    echo "skip terminal: no script(1)"
fi
exit $failed
