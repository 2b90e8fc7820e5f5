#!/bin/bash
# run.sh - tests/lua: what the front end makes of x.lua is x.ir. tests/bad: the error that it gives for x.lua is x.err.
# In x.lua, "-- run: OPTIONS" are front_tool's ("@" is the file itself, the default), "-- only: REGEX" the lines compared.
# Line numbers in gpt_oss.lua are left out, for it is edited. One line a test; names on the command line: only those. REBASE=1 writes the expected files.
# FRONT_TOOL: the tool (default out/tests/front_tool).
cd "$(dirname "$0")/../.." || exit 2
suite=${SUITE:-lua}
end=ir
[ "$suite" = bad ] && end=err
tool=${FRONT_TOOL:-out/tests/front_tool}
# Modules are looked for beside the file, then in GPTOSS_LUA: tests use the graphs' own.
lua=$(mktemp -d) || exit 1
trap 'rm -rf "$lua"' EXIT
cp lua/*.lua graphs/*.lua "$lua"
export GPTOSS_LUA=$lua

run_one() { # FILE: output and errors; the tool's exit status
    local options only
    options=$(sed -n 's/^-- run: //p' "$1")
    only=$(sed -n 's/^-- only: //p' "$1")
    options=${options:-@}
    # shellcheck disable=SC2086
    timeout 60 "$tool" ${options//@/$1} 2>&1 | sed -E "s|$lua|lua|g; s#^((lua|graphs)/gpt_oss.lua):[0-9]+:[0-9]+:#\1:#" | grep -E -- "${only:-}"
    return "${PIPESTATUS[0]}"
}

failed=0
report() { # NAME WHY: no why is fine
    if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: $2"; failed=1; fi
}

for file in tests/"$suite"/*.lua; do
    name=$(basename "$file" .lua)
    [ $# -gt 0 ] && [[ " $* " != *" $name "* ]] && continue
    want=tests/$suite/$name.$end
    got=$(run_one "$file")
    status=$?
    if [ "$end" = ir ] && [ $status -ne 0 ]; then report "$name" "exit $status: $(head -1 <<<"$got")"; continue; fi
    if [ "$end" = err ] && [ $status -ne 1 ]; then report "$name" "exit $status, expected an error: $(head -1 <<<"$got")"; continue; fi
    [ -n "$REBASE" ] && printf '%s\n' "$got" >"$want"
    if [ ! -f "$want" ]; then report "$name" "no $want (REBASE=1 writes it)"
    elif [ "$got" == "$(cat "$want")" ]; then report "$name"
    else report "$name" "differs: $(diff "$want" - <<<"$got" | grep '^[<>]' | head -1)"; fi
done
exit $failed
