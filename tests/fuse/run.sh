#!/bin/bash
# run.sh - tests/fuse: x.lua (a graph, a line "--- rules", rules) and x.ir (what fuse_tool says).
# Options of fuse_tool stand in x.lua's comments: "-- run: off mlp1_swiglu". One line a test; REBASE=1 writes the .ir files.
# OUT: where to build (default out/tests/fuse); CFLAGS: more of them, for sanitizers. Names on the command line: only those.
cd "$(dirname "$0")/../.." || exit 1
out=${OUT:-out/tests/fuse}
mkdir -p "$out" || exit 1

sources="ir/*.c compiler/front*.c compiler/match.c compiler/fuse.c compiler/elementwise.c compiler/precision.c tests/fuse/fuse_tool.c"
${CC:-gcc} -std=gnu11 -I. -O2 -Wall -Wextra -Wpedantic -Werror $CFLAGS $(pkg-config --cflags lua5.4) -o "$out/fuse_tool" $sources \
    $(pkg-config --libs lua5.4) -lxxhash -lm -lpthread || exit 1

failed=0
report() { # NAME WHY: no why is fine
    if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: $2"; failed=1; fi
}

run_one() { # FILE: the tool's output, without the paths of the two halves
    local x=$out/$(basename "$1") rules=-
    awk '/^--- rules/ {exit} {print}' "$1" > "$x"
    if grep -q '^--- rules' "$1"; then # the same line numbers
        rules=${x%.lua}.rules.lua
        awk '/^--- rules/ {on = 1} {print on ? $0 : ""}' "$1" > "$rules"
    fi
    # shellcheck disable=SC2046
    timeout 60 "$out/fuse_tool" "$x" "$rules" $(sed -n 's/^-- run: //p' "$1") 2>&1 | sed "s|$out/||g"
    return "${PIPESTATUS[0]}"
}

for file in tests/fuse/*.lua; do
    name=$(basename "$file" .lua)
    [ $# -gt 0 ] && [[ " $* " != *" $name "* ]] && continue
    got=$(run_one "$file")
    status=$?
    want=tests/fuse/$name.ir
    if [ $status -ne 0 ]; then report "$name" "fuse_tool ended with $status: $(tail -1 <<< "$got")"; continue; fi
    [ -n "$REBASE" ] && printf '%s\n' "$got" > "$want"
    if [ ! -f "$want" ]; then report "$name" "no $want (REBASE=1 writes it)"
    elif [ "$got" == "$(cat "$want")" ]; then report "$name"
    else report "$name" "differs: $(diff <(cat "$want") <(printf '%s\n' "$got") | grep '^[<>]' | head -1)"; fi
done

for rule in lua/fusions/*.lua; do # every rule has a test that applies it
    [ $# -gt 0 ] && break
    rule=$(basename "$rule" .lua)
    grep -q "^done $rule " tests/fuse/*.ir && report "applied/$rule" || report "applied/$rule" "no test applies this rule"
done
exit $failed
