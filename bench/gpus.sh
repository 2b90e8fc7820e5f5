#!/bin/bash
# How getp grows with the number of devices, on real ones: for 1, 2, 4 … and all of them, tokens per second, what part of so many
# times one device's that is, seconds of loading against one's, seconds at the end in which not all were busy, the host's CPU seconds, and
# whether the ids are the same. Aims: 0.95 and 1.2. bench/gpus_check.sh does all that several GPUs are to be asked.
#   bench/gpus.sh plan.bin options-of-getp…      e.g. -w MODEL -i data/input.txt -n 1024
#   bench/gpus.sh plan.bin --ep two.bin …        then the same of a plan that gptoss-compile --ep 2 (or another number) made of the
#                                                same graph: groups of so many side by side, ids compared with plan.bin's on one device
# gptoss-exec is the one in out/, else that of bench/pack.sh in .carry/, whose plans are not of this machine's compiler: --trust-code.
cd "$(dirname "$0")/.." || exit 2
exec=$PWD/out/gptoss-exec
[ -x "$exec" ] || { exec=$PWD/.carry/bin/gptoss-exec; export GPTOSS_TRUST_CODE=1 LD_LIBRARY_PATH=$PWD/.carry/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; }
plans=("${1:?plan.bin}")
shift
while [ "${1:-}" = --ep ]; do plans+=("${2:?--ep plan.bin}"); shift 2; done
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT
all=$("$exec" --list-devices | grep -cE '^ +(hip|cuda) [0-9]+ ')
[ "$all" -gt 0 ] || { echo "no GPU here" >&2; exit 1; }
date -u +'%Y-%m-%d %H:%M UTC'
printf '%7s %14s %9s %9s %9s %7s %7s %7s\n' devices 'generated/s' 'of ideal' 'load s' 'of one' 'tail s' 'CPU s' ids
bad=0
for plan in "${plans[@]}"; do
each=$("$exec" --inspect "$plan" --json | jq .devices)
[ "$each" -gt 1 ] && echo "$plan: the experts over $each devices"
for g in $(for n in 1 2 4 8 16; do [ $((n * each)) -lt $((all / each * each)) ] && echo $((n * each)); done) $((all / each * each)); do
    [ "$g" -gt 0 ] || { echo "$plan: $all devices here"; bad=1; continue; }
    run=$each-$g
    "$exec" "$plan" -m getp "$@" -g "$g" -o "$tmp/$run.ids" --json >"$tmp/$run.json" 2>"$tmp/$run.err" || { echo "-g $g: $(tail -1 "$tmp/$run.err")"; bad=1; continue; }
    [ -e "$tmp/one.json" ] || cp "$tmp/$run.json" "$tmp/one.json"
    [ -e "$tmp/one.ids" ] || cp "$tmp/$run.ids" "$tmp/one.ids"
    same=same; cmp -s "$tmp/$run.ids" "$tmp/one.ids" || { same=DIFFER; bad=1; }
    jq -r --slurpfile one "$tmp/one.json" --arg g "$g" --arg same "$same" \
        '[$g, .generated_per_second, .generated_per_second / ($one[0].generated_per_second * ($g | tonumber)), .load_seconds, .load_seconds / $one[0].load_seconds, .tail_seconds, .cpu_seconds, $same] | @tsv' "$tmp/$run.json" |
        awk -F'\t' '{printf "%7d %14.1f %9.3f %9.2f %9.2f %7.2f %7.2f %7s\n", $1, $2, $3, $4, $5, $6, $7, $8}'
    jq -r '.devices[] | "        \(.device): \(.share * 100 | floor)% of the tokens, weights from \(.weights) in \(.load_seconds * 100 | floor / 100) s", ((.group // [.])[] | "            \(.name): \(.free_before / 1073741824 * 10 | floor / 10) GiB free before, \(.free_loaded / 1073741824 * 10 | floor / 10) after")' "$tmp/$run.json"
done
done
exit $bad
