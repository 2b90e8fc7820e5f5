#!/bin/bash
# The manners that all six programs share (ir/cli.c, base.c's files): help, environment, mistakes, outputs that are safe.
cd "$(dirname "$0")/../.." || exit 1
out=$PWD/out/tests/cli
rm -rf "$out" && mkdir -p "$out"
failed=0
report() { if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: ${2//$'\n'/ / }"; failed=1; fi; }
usage() { # NAME PATTERN command…: exit 2, and one line that says it
    local name=$1 pattern=$2 got code
    shift 2
    got=$("$@" 2>&1 >/dev/null </dev/null)
    code=$?
    report "$name" "$([ $code = 2 ] || echo "exit $code"; [ "$(wc -l <<<"$got")" = 1 ] || echo "not one line"; grep -q -- "$pattern" <<<"$got" || echo "said: $got")"
}

make -s man >"$out/log" 2>&1
for p in gptoss-compile gptoss-exec gptoss-tok gptoss-mkmodel gptoss-check gptoss-lab; do
    out/$p --help >"$out/help" 2>"$out/err"
    report $p/help "$([ $? = 0 ] && [ ! -s "$out/err" ] && grep -q "^usage: $p " "$out/help" && grep -q '^Examples:' "$out/help" && grep -q '  -h, --help ' "$out/help" || cat "$out/help" "$out/err")"
    report $p/help-width "$(awk 'length > 100' "$out/help")"
    report $p/long-forms "$(grep -E '^  -[a-zA-Z0-9] ' "$out/help")" # a letter always has its long form beside it
    report $p/version "$(out/$p --version | grep -q "^$p [0-9]" || out/$p --version)"
    usage $p/unknown 'no option --frob.*; see '$p' --help' out/$p --frob
    usage $p/unknown-letter 'no option -@' out/$p -@
    for option in --help --version; do
        report $p$option-full "$(out/$p $option 2>"$out/err" >/dev/full && echo 'exit 0'; grep -q 'No space' "$out/err" || cat "$out/err")"
    done
    # each option is in the manual, made from --help; and completion offers it
    report $p/manual "$(for o in $(grep -oE '^  (-., |    )--[a-z0-9-]+' "$out/help" | grep -oE -- '--.*'); do grep -q -- "${o//-/\\\\-}" out/man/$p.1 || echo "no $o"; done)"
    report $p/manual-help "$(awk '/^[A-Z].*:$/ {on = $0 != "Examples:"} on && /^  / && substr($0, 28, 1) == " " && length > 28 {print substr($0, 29)}' "$out/help" | sed 's/-/\\-/g' | while IFS= read -r line; do grep -qF -- "$line" out/man/$p.1 || echo "no $line"; done)"
    if command -v man >/dev/null; then report $p/manual-clean "$(LC_ALL=C.UTF-8 MANROFFSEQ='' man --warnings -E UTF-8 -l -Tutf8 -Z out/man/$p.1 2>&1 >/dev/null)"; else echo "skip $p/manual-clean: no man"; fi
    report $p/completion "$(bash -c ". tools/completion.bash; COMP_WORDS=(out/$p --); COMP_CWORD=1; _gptoss out/$p -- out/$p; printf '%s\n' \"\${COMPREPLY[@]}\"" | sort >"$out/offered"; for o in $(grep -oE '^  (-., |    )--[a-z0-9-]+' "$out/help" | grep -oE -- '--.*'); do grep -qx -- "$o" "$out/offered" || echo "no $o"; done; grep -x -- --some-name "$out/offered")"
done
complete_() { bash -c ". tools/completion.bash; COMP_WORDS=($1); COMP_CWORD=\$((\${#COMP_WORDS[@]} - 1)); _gptoss; printf '%s ' \"\${COMPREPLY[@]}\""; }
report completion/mode "$([ "$(complete_ 'out/gptoss-exec -m e')" = 'eval ' ] || complete_ 'out/gptoss-exec -m e')"
report completion/equals "$([ "$(complete_ 'out/gptoss-exec --reasoning = l')" = 'low ' ] || complete_ 'out/gptoss-exec --reasoning = l')"
report completion/choice "$([ "$(complete_ 'out/gptoss-compile --precision s')" = 'strict ' ] || complete_ 'out/gptoss-compile --precision s')"

# --- values
usage value/missing '-n needs a value: STEPS' out/gptoss-exec x -n
usage value/word '-n many: not a whole number' out/gptoss-exec x -n many
usage value/joined '-n 5x: not a whole number' out/gptoss-exec x -n5x
usage value/zero '-b 0: it is 1 or more' out/gptoss-exec x -b 0
usage value/negative '--steps -1: it is 1 or more' out/gptoss-exec x --steps=-1
usage value/wide '-p 1.5: it is 0 to 1' out/gptoss-exec x -p 1.5
usage value/nan '-T nan: not a number' out/gptoss-exec x -T nan
usage value/huge '-n 99999999999999999999: not a whole number' out/gptoss-exec x -n 99999999999999999999
usage value/size '--kv-memory 3X: not a size' out/gptoss-exec x --kv-memory 3X
usage value/size-blank 'not a size' out/gptoss-exec x --kv-memory '16 '
usage value/choice '--reasoning huge: it is low, medium or high' out/gptoss-exec x --reasoning huge
usage value/flag '--inspect takes no value' out/gptoss-exec x --inspect=yes
usage value/empty 'the text is empty' out/gptoss-exec x --stop ''
usage plan/none 'no plan given' out/gptoss-exec -m getp
usage plan/nothing 'nothing to do' out/gptoss-exec x
usage mkmodel/layout 'a layout of its own' out/gptoss-mkmodel tests/models/tiny.json "$out/m.bin" --layout openai
usage mkmodel/dtype 'holds f32 only' out/gptoss-mkmodel tests/models/tiny.json "$out/m.bin" --dtype mxfp4
usage compile/tune '--tune measures what is emitted.* no --override' out/gptoss-compile graphs/toy.lua --arch host --tune --override .
usage compile/report 'it is text, json or html' out/gptoss-compile graphs/toy.lua --arch host --report htm
usage compile/stdout 'one at a time' out/gptoss-compile graphs/toy.lua --arch host --report json --dump fuse
usage compile/dot 'there is no --dump' out/gptoss-compile graphs/toy.lua --arch host --dot
usage compile/folder 'No such file' out/gptoss-compile graphs/toy.lua --arch host -o "$out/no/plan.bin"
usage compile/emit '--emit.*No such file' out/gptoss-compile graphs/toy.lua --arch host -o "$out/x.bin" --emit "$out/no/src"
for id in gfx90a: gfx90a:xnack gfx90a:foo- gfx90a::xnack- gfx90a:xnack-- sm_90:xnack- host:avx2+; do
    usage "compile/arch-$id" "--arch $id: \".*\" is no feature of" out/gptoss-compile graphs/toy.lua --arch $id
done
usage compile/arch-twice 'xnack is said twice' out/gptoss-compile graphs/toy.lua --arch gfx90a:xnack-:sramecc+:xnack+
cp graphs/toy.lua "$out/graph.lua"
usage compile/itself 'is an input too' out/gptoss-compile "$out/graph.lua" --arch host -o "$out/graph.lua"
report compile/itself-kept "$(cmp "$out/graph.lua" graphs/toy.lua)"
mkdir "$out/empty"
report compile/override "$(out/gptoss-compile graphs/toy.lua --arch host -o "$out/x.bin" --override "$out/empty" 2>&1 | grep -q "none of this plan's sources" || echo taken)"

# --- misspelt words, and a prompt that looks like an option
usage misspelt/mode 'no mode "genrate"; there are .*; did you mean generate?' out/gptoss-exec x -m genrate hello
usage misspelt/mode-far 'no mode "frobnicate"; there are generate, chat, .*eval; see' out/gptoss-exec x -m frobnicate hello
usage misspelt/mode-environment 'did you mean chat?' env GPTOSS_MODE=caht out/gptoss-exec x
usage misspelt/option 'no option --step; did you mean --steps?' out/gptoss-exec x -m getp --step 5
usage misspelt/value 'no option --stesp; did you mean --steps?' out/gptoss-exec x --stesp=5
usage misspelt/exchanged 'no option --verobse; did you mean --verbose?' out/gptoss-exec x --verobse
usage misspelt/one-dash 'eed: not a whole number; did you mean --seed?' out/gptoss-exec x -m chat -seed
usage misspelt/compile 'no option --no-fusoin; did you mean --no-fusion?' out/gptoss-compile x --no-fusoin all
usage misspelt/verb 'say encode or decode; did you mean decode?' out/gptoss-tok decoed -z x
report misspelt/short "$(out/gptoss-exec x --xy 2>&1 | grep 'did you mean')"
usage dash/words '; a prompt that begins with a dash goes behind --;' out/gptoss-exec x -m generate '-5 plus 3 is'
usage dash/list '; a prompt that begins with a dash goes behind --;' out/gptoss-exec x -m generate '- milk'
usage dash/number '-n  is a letter: not a whole number; a prompt that begins' out/gptoss-exec x -m generate '-n is a letter'
usage dash/help 'no option -hello; a prompt that begins' out/gptoss-exec x -m generate -hello
usage dash/long 'no option --- title; a prompt that begins' out/gptoss-exec x -m generate '--- title'
report dash/none "$(out/gptoss-tok encode '-5 plus' 2>&1 | grep 'goes behind')"
report dash/behind "$(out/gptoss-exec "$out/none.bin" -m generate -- '-5 plus 3 is' 2>&1 | grep -q 'plan: .*No such file' || echo 'not a prompt')"
report help/parity "$(out/gptoss-exec --help | grep -q 'parity: requests (default: ' || echo 'no word of its input')"
report help/json "$(out/gptoss-exec --help | grep -A1 -- ' --json' | grep -q 'stderr where --print' || echo 'no word of --print')"

# --- the same value in every form; the environment; "--"
printf '1 2 3\n' >"$out/a" && printf '1 2 3.5\n' >"$out/b"
same() { report "$1" "$("${@:2}" >"$out/got" 2>&1 || cat "$out/got")"; }
same form/long out/gptoss-check "$out/a" "$out/b" --atol 1
same form/equals out/gptoss-check --atol=1 "$out/a" "$out/b"
same form/letter out/gptoss-check "$out/a" -a 1 "$out/b"
same form/joined out/gptoss-check -a1 "$out/a" "$out/b"
same environment/value env GPTOSS_ATOL=1 out/gptoss-check "$out/a" "$out/b"
report environment/command-line-wins "$(GPTOSS_ATOL=1 out/gptoss-check "$out/a" "$out/b" --atol 0.1 >/dev/null && echo 'the environment won')"
usage environment/bad 'in the environment: GPTOSS_ATOL x: not a number' env GPTOSS_ATOL=x out/gptoss-check "$out/a" "$out/b"
usage environment/bad-flag 'GPTOSS_VERBOSE maybe: it is 1 or 0, yes or no' env GPTOSS_VERBOSE=maybe out/gptoss-exec x
same environment/mkmodel env GPTOSS_MKMODEL_SEED=7 out/gptoss-mkmodel tests/models/tiny.json "$out/seven"
out/gptoss-mkmodel tests/models/tiny.json "$out/seven2" -s 7 2>/dev/null
report environment/mkmodel-seed "$(cmp "$out/seven/model.safetensors" "$out/seven2/model.safetensors" 2>&1)"
report environment/flag-off "$(printf 'a\nb' | GPTOSS_TOK_NULL=off out/gptoss-tok encode -z "$out/seven" | wc -l | grep -qx 2 || echo on)"
report environment/flag-on "$(printf 'a\nb' | GPTOSS_TOK_NULL=Yes out/gptoss-tok encode -z "$out/seven" | wc -l | grep -qx 1 || echo off)"
printf 'x\n' >"$out/--odd" && report words/dashes "$(cd "$out" && "$OLDPWD/out/gptoss-tok" encode -z seven -- --odd 2>&1 | grep -q '^[0-9]' || echo 'not read')"
report words/bundle "$(printf '<|end|>\0a' | out/gptoss-tok encode -z "$out/seven" -0s 2>&1 | wc -l | grep -qx 2 || echo 'not two')"
report environment/mode-gives-way "$(GPTOSS_MODE=chat out/gptoss-exec "$out/none.bin" --inspect 2>&1 | grep -q 'plan: .*No such file' || echo 'it did not')"
report environment/input-gives-way "$(GPTOSS_INPUT=x out/gptoss-exec "$out/none.bin" -m generate hi 2>&1 | grep -q 'plan: .*No such file' || echo 'it did not')"
report unused/warning "$(out/gptoss-exec none.bin -m generate --print 2>&1 | grep -q 'warning: --print does nothing here: it is for getp' || echo none)"

# --- outputs: whole or not at all; links are followed, permissions stay, streams are written in place
decode() { out/gptoss-compile graphs/toy.lua --arch host --no-fusion all "$@" 2>"$out/err"; }
decode -o "$out/plan" && ln -s plan "$out/link" && chmod 600 "$out/plan" && before=$(md5sum <"$out/plan") && : >"$out/plan"
decode -o "$out/link"
report output/link "$([ -L "$out/link" ] && [ "$(md5sum <"$out/plan")" = "$before" ] || ls -l "$out")"
report output/mode "$([ "$(stat -c %a "$out/plan")" = 600 ] || stat -c %a "$out/plan")"
decode -o /dev/stdout >"$out/streamed"
report output/dev-stdout "$([ -L /dev/stdout ] && [ "$(md5sum <"$out/streamed")" = "$before" ] || ls -l /dev/stdout "$out/streamed")"
echo kept >"$out/log" && decode -o /dev/stdout >>"$out/log"
report output/dev-stdout-appends "$(head -c 5 "$out/log" | grep -qx kept || echo 'what was there is gone')"
ln -s made "$out/dangling" && decode -o "$out/dangling"
report output/dangling "$([ -L "$out/dangling" ] && [ -f "$out/made" ] || ls -l "$out")"
cp -r "$out/seven" "$out/precious" && usage output/model-file 'is an input too' out/gptoss-compile graphs/toy.lua --arch host --model "$out/precious" -o "$out/precious/config.json"
decode -o /dev/full && code=0 || code=$?
report output/full "$([ $code = 1 ] && grep -q 'No space' "$out/err" || cat "$out/err")"
report output/left-over "$(ls "$out" | grep tmp)"

# --- what is built by default is hardened; a sanitizer's or coverage's build is not
if nm out/gptoss-exec | grep -qE '__[at]san_init|__gcov_init'; then echo "skip hardened: another build"
else
    for p in exec compile tok mkmodel check lab; do
        readelf -hdlW out/gptoss-$p >"$out/elf" && nm -D out/gptoss-$p >>"$out/elf"
        report "hardened/$p" "$(for what in 'Type: *DYN' 'GNU_RELRO' 'Flags:.* NOW' '__stack_chk_fail' '__[a-z]*printf_chk'; do grep -qE -- "$what" "$out/elf" || echo "no $what"; done)"
    done
fi

# --- make install, with a tight umask, over an older one
mkdir -p "$out/root/usr/share/gptoss/lua/fusions" && : >"$out/root/usr/share/gptoss/lua/fusions/old.lua"
(umask 077 && make -s install DESTDIR="$out/root" PREFIX=/usr) >"$out/log" 2>&1
report install "$([ $? = 0 ] || tail -3 "$out/log")"
report install/readable "$(find "$out/root/usr" ! -perm -444 -o -type d ! -perm -555 | head -3)"
report install/no-old-rules "$(ls "$out/root/usr/share/gptoss/lua/fusions/old.lua" 2>/dev/null)"
report install/runs "$(cd / && "$out/root/usr/bin/gptoss-compile" "$out/root/usr/share/gptoss/graphs/toy.lua" --arch host -o "$out/i.bin" 2>&1)"
report install/page "$(cd / && "$out/root/usr/bin/gptoss-compile" "$out/root/usr/share/gptoss/graphs/toy.lua" --arch host -o "$out/i.bin" --report html 2>&1 | tail -1 | grep -vx '</html>')"
make -s uninstall DESTDIR="$out/root" PREFIX=/usr >"$out/log" 2>&1
report uninstall "$(find "$out/root" ! -type d)"
exit $failed
