#!/bin/bash
# The house: every folder of code is a room, stands in README's map, and includes only from rooms below it; a file that a comment
# names is there; no function has the name of one of libc's.
cd "$(dirname "$0")/../.." || exit 2

# A room and those it stands on, itself aside. runtime/emu is a room that knows of memory and code objects only.
rooms='
ir
rtc           ir
model         ir
text          ir
plan          ir model
compiler      ir rtc model plan
runtime/emu   ir
runtime/device ir rtc model plan runtime/emu
runtime       ir model plan runtime/device
runtime/mode  ir model text plan runtime runtime/device
lab           ir model plan compiler runtime runtime/mode
programs      ir rtc model text plan compiler runtime runtime/device runtime/mode lab
'
result() { [ -z "$2" ] && echo "ok house-$1" || echo "FAIL house-$1: $2"; }

sources() { find */ -name '*.[ch]' -o -name '*.inc' -o -name '*.def' | grep -v '^tests/\|^templates/\|^out/'; }
includes() { # "folder-of-file file included-path"
    sources | while read -r f; do
        sed -n 's/^#include "\([^"]*\)".*/\1/p' "$f" | while read -r i; do echo "$(dirname "$f") $f $i"; done
    done
}
bad=$(includes | awk -v rooms="$rooms" '
    BEGIN {
        n = split(rooms, line, "\n")
        for (i = 1; i <= n; i++) {
            m = split(line[i], w, " ")
            for (k = 1; k <= m; k++) may[w[1], w[k]] = 1
        }
    }
    {
        to = $3; if (!sub("/[^/]*$", "", to)) to = $1 # no folder: its own
        if (!(($1, to) in may)) printf "%s includes %s; ", $2, $3
    }')
result downwards "$bad"

missing=
for d in $(find * -maxdepth 0 -type d ! -name out); do
    grep -qE "^    $d/? " README.md || missing="$missing $d"
done
for d in $(echo "$rooms" | awk '{print $1}'); do grep -qE "^ +$d/? " README.md || missing="$missing $d"; done
result map "${missing:+README.md names no folder$missing}"

lost=
for d in $(sources | xargs -n1 dirname | sort -u); do
    echo "$rooms" | awk '{print $1}' | grep -qxF "$d" || lost="$lost $d"
done
result rooms "${lost:+not rooms:$lost}"

result named-files "$(python3 tests/house/named_files.py 2>&1 | tr '\n' ';')"

# A function of ours that has the name of one of libc's is called in its place, by libraries too.
names() { nm "$@" | sed -nE 's/^[0-9a-f]+ [TWDBR] ([^@]*).*/\1/p' | sort -u; }
libc=$(ldd out/gptoss-check | awk '/libc\.so|libm\.so/ { print $3 }')
taken=$(comm -12 <(names out/liball.a 2>/dev/null) <(names -D --defined-only $libc))
[ "$libc" ] || taken="no libc"
result libc-names "$taken"
