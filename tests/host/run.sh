#!/bin/bash
# --arch host and --device host: kernels against their references, whole runs against getp_cpu, the batch, threads, CPU features.
cd "$(dirname "$0")/../.." || exit 2
w=out/tests/host
rm -rf $w && mkdir -p $w
compile=out/gptoss-compile exec=out/gptoss-exec
failed=0
ok() { echo "ok $1"; }
fail() { echo "FAIL $1: $(tr '\n' ' ' <<<"$2" | cut -c1-300)"; failed=1; }
# name, command…: passes when the command does
check() {
    local name=$1
    shift
    if "$@" >$w/out 2>$w/err; then ok "$name"; else fail "$name" "$(grep -h '^FAIL' $w/out | head -3; tail -3 $w/err)"; fi
}
# name, pattern, command…: passes when the command fails and says so
refuses() {
    local name=$1 pattern=$2
    shift 2
    if "$@" >$w/out 2>$w/err; then fail "$name" "it worked"; elif grep -q -- "$pattern" $w/err; then ok "$name"; else fail "$name" "$(tail -3 $w/err)"; fi
}
if ! command -v "${CC:-cc}" >/dev/null && ! command -v gcc >/dev/null && ! command -v clang >/dev/null; then
    echo "skip all: no C compiler here"
    exit 0
fi

out/gptoss-mkmodel tests/models/tiny.json $w/model --seed 1 >/dev/null 2>&1 || { fail mkmodel "failed"; exit 1; }
tiny() { $compile graphs/toy.lua --arch host --model $w/model "$@"; }

# --- kernels ---
for p in strict fast; do
    check compile_$p tiny --precision $p -o $w/$p.bin
    check compile_${p}_unfused tiny --precision $p --no-fusion all -o $w/$p.unfused.bin
    check compile_${p}_mlp2 tiny --precision $p --no-fusion mlp1_swiglu -o $w/$p.mlp2.bin
    check compile_${p}_kv tiny --precision $p "$([ $p = strict ] && echo --kv16 || echo --kv32)" -o $w/$p.kv.bin
    for v in $p $p.unfused $p.mlp2 $p.kv; do check "selftest_$v" $exec $w/$v.bin --self-test --device host; done
done
# The 20b's shapes, without its weights. The reference takes most of the time, so not every kernel twice.
for p in strict fast; do
    check compile_20b_$p $compile graphs/gpt-oss-20b.lua --arch host --precision $p --max-tokens 64 --max-batch 16 --max-seq 8192 -o $w/20b.$p.bin
    for k in expert_linear attention linear_K4096 linear_K2880_N5120; do
        check selftest_20b_${p}_$k $exec $w/20b.$p.bin --self-test --device host --only $k
    done
done

# --- every level of CPU features that the kernels know; the plan made for a lesser CPU runs on this one ---
for f in "none" "avx2 fma f16c" "avx2 fma f16c avx512f avx512bw avx512dq avx512vl"; do
    name=features_$(tr ' ' '_' <<<"$f")
    GPTOSS_HOST_FEATURES=$f tiny -o $w/feature.bin >/dev/null 2>&1
    check "$name" $exec $w/feature.bin --self-test --device host
    # made for this CPU, run on a lesser one: compiled again, never a crash
    check "recompile_$name" env GPTOSS_HOST_FEATURES="$f" $exec $w/fast.bin --self-test --device host
done
GPTOSS_HOST_FEATURES=none tiny --precision strict -o $w/strict.none.bin >/dev/null 2>&1

# --- checkpoints ---
# A .bin that holds unembedding first: the plan remembers how to read it.
out/gptoss-mkmodel tests/models/tiny.json $w/model.bin --seed 1 >/dev/null 2>&1
python3 - $w <<'PY'
import struct, sys
b = open(sys.argv[1] + '/model.bin', 'rb').read()
vocab, hidden = struct.unpack('<2i', b[:8])
n = vocab * hidden * 4
open(sys.argv[1] + '/swapped.bin', 'wb').write(b[:60] + b[60 + n:60 + 2 * n] + b[60:60 + n] + b[60 + 2 * n:])
PY
printf '3\n1 2 3\n7\n%s\n' "$(seq -s' ' 1 40)" >$w/few
ids() { $exec "$1" -m getp --input-ids -i $w/few -n 60 -o "$2" "${@:3}"; }
check swap_compile $compile graphs/toy.lua --arch host --model $w/swapped.bin --swap-embeddings --precision strict -o $w/swapped.plan
check swap_bin $compile graphs/toy.lua --arch host --model $w/model.bin --precision strict -o $w/bin.plan
ids $w/bin.plan $w/bin.ids 2>/dev/null
check swap_recorded ids $w/swapped.plan $w/swapped.ids
check swap_recorded_same cmp $w/swapped.ids $w/bin.ids
check swap_given ids $w/bin.plan $w/swapped.ids -w $w/swapped.bin --swap-embeddings
check swap_given_same cmp $w/swapped.ids $w/bin.ids
check swap_elsewhere ids $w/swapped.plan $w/swapped.ids -w $w/model.bin
check swap_elsewhere_same cmp $w/swapped.ids $w/bin.ids
refuses swap_alone "there is no --model" $compile graphs/toy.lua --arch host --swap-embeddings
# No sliding layer at all; one window for every layer; and what the compiler says of a torn checkpoint.
for types in full sliding; do
    sed 's/"sliding_window"/"layer_types": ["'$types'_attention", "'$types'_attention"], "sliding_window"/; s/"num_hidden_layers": [0-9]*/"num_hidden_layers": 2/' tests/models/tiny.json >$w/$types.json
    out/gptoss-mkmodel $w/$types.json $w/$types --seed 4 >/dev/null 2>&1
    check ${types}_compile $compile graphs/gpt_oss.lua --arch host --model $w/$types --precision strict -o $w/$types.plan
    check ${types}_runs ids $w/$types.plan $w/$types.ids
    sed 1d $w/few >$w/few.ids
    python3 tests/oracle/oracle.py $w/$types --ids $w/few.ids --greedy 60 --eos 504,503 >$w/$types.want 2>/dev/null
    check ${types}_oracle cmp $w/$types.ids $w/$types.want
done
cp -r $w/full $w/torn && python3 - $w/torn <<'PY'
import json, struct, sys
p = sys.argv[1] + '/model.safetensors'
b = open(p, 'rb').read()
n = struct.unpack('<Q', b[:8])[0]
h = b[8:8 + n].replace(b'layers.1.self_attn.sinks', b'layers.1.self_attn.sunk0')
open(p, 'wb').write(b[:8] + h + b[8 + n:])
PY
refuses torn_compile "layers.1.self_attn.sinks is missing" $compile graphs/gpt_oss.lua --arch host --model $w/torn -o $w/none.plan
refuses torn_exec "model: .*layers.1.self_attn.sinks is missing" ids $w/full.plan $w/none.ids -w $w/torn

# --- runs ---
prompts() { # count, longest: token ids
    awk -v n="$1" -v most="$2" 'BEGIN { srand(7); print n; for (i = 0; i < n; i++) { len = 1 + int(rand() * most); if (i == 0) len = most; s = ""; for (k = 0; k < len; k++) s = s " " int(rand() * 500); print substr(s, 2) } }'
}
prompts 9 150 >$w/in
getp() { $exec "$1" -m getp --device host -w $w/model --input-ids -i $w/in -n 190 -o "$2" "${@:3}" 2>$w/err; }
same() { if cmp -s "$2" "$3"; then ok "$1"; else fail "$1" "$(cmp "$2" "$3" 2>&1; tail -1 $w/err)"; fi; }
$exec $w/strict.bin -m getp_cpu -w $w/model --input-ids -i $w/in -n 190 -o $w/cpu 2>$w/err || fail getp_cpu "$(tail -1 $w/err)"
for p in strict fast; do
    getp $w/$p.bin $w/$p.b64
    [ $p = strict ] && same getp_strict_is_getp_cpu $w/strict.b64 $w/cpu
    for b in 1 3 8; do getp $w/$p.bin $w/got -b $b; same getp_${p}_b$b $w/got $w/$p.b64; done
    for t in 1 5; do getp $w/$p.bin $w/got --threads $t; same getp_${p}_threads$t $w/got $w/$p.b64; done
    getp $w/$p.bin $w/got --prefill-chunk 7
    same getp_${p}_chunk7 $w/got $w/$p.b64
done
# The same tokens without any rule, and with the other alternatives of the experts' rules.
for v in unfused mlp2; do getp $w/strict.$v.bin $w/got; same getp_strict_$v $w/got $w/cpu; done
for b in 1 3; do getp $w/fast.unfused.bin $w/got.$b -b $b; done
same getp_fast_unfused_batch $w/got.1 $w/got.3
getp $w/strict.none.bin $w/got
same getp_strict_any_cpu $w/got $w/cpu
for o in "-T 1" "-T 0.8 -p 0.9" "-T 2 --top-k 40 --min-p 0.02"; do
    rm -f $w/got $w/cpu.drawn
    $exec $w/strict.bin -m getp_cpu -w $w/model --input-ids -i $w/in -n 190 -s 5 $o -o $w/cpu.drawn 2>$w/err
    getp $w/strict.bin $w/got -s 5 $o
    same "getp_strict_$(tr -d ' .-' <<<"$o")" $w/got $w/cpu.drawn
done
check auto_is_host $exec $w/strict.bin -m getp -w $w/model --input-ids -i $w/few -n 50 -o $w/got

# --- 4,500 tokens of prompt: past the window, past YaRN's original context, many pages ---
sed 's/"max_position_embeddings": 1024/"max_position_embeddings": 8192/' tests/models/tiny.json >$w/long.json
out/gptoss-mkmodel $w/long.json $w/long --seed 2 >/dev/null 2>&1
prompts 1 4500 >$w/long.in
for p in strict fast; do
    check compile_long_$p $compile graphs/gpt_oss.lua --arch host --model $w/long --precision $p --max-seq 4600 -o $w/long.$p.bin
    check long_$p $exec $w/long.$p.bin -m getp --device host -w $w/long --input-ids -i $w/long.in -n 4510 -o $w/long.$p
    check long_${p}_chunk100 $exec $w/long.$p.bin -m getp --device host -w $w/long --input-ids -i $w/long.in -n 4510 -o $w/got --prefill-chunk 100
    same long_${p}_any_chunk $w/got $w/long.$p
done
check long_getp_cpu $exec $w/long.strict.bin -m getp_cpu -w $w/long --input-ids -i $w/long.in -n 4510 -o $w/long.cpu
same long_strict_is_getp_cpu $w/long.strict $w/long.cpu

# --- code that was not compiled here ---
out/tests/tamper $w/fast.bin $w/tampered.bin || fail tamper "failed"
selftest() { $exec "$@" --self-test --device host --only rmsnorm; }
anew="of the plan's [0-9]* modules was not compiled here: all are compiled anew"
check trust_compiled_here selftest $w/fast.bin
grep -q "not compiled here" $w/err && fail trust_no_word "$(cat $w/err)" || ok trust_no_word
check trust_tampered selftest $w/tampered.bin
grep -q "the code of 1 $anew" $w/err && ok trust_tampered_said || fail trust_tampered_said "$(cat $w/err)"
check trust_moved env GPTOSS_CACHE=$PWD/$w/other $exec $w/fast.bin --self-test --device host --only rmsnorm
grep -q "the code of [1-9][0-9]* $anew" $w/err && ok trust_moved_said || fail trust_moved_said "$(cat $w/err)"
refuses trust_no_cc "was not compiled here, and its sources cannot be compiled here either; .*--trust-code runs it as it is" \
    env -u CC PATH=/nowhere "$PWD/$exec" $w/tampered.bin --self-test --device host --only rmsnorm
check trust_code env -u CC PATH=/nowhere "$PWD/$exec" $w/tampered.bin --self-test --device host --only rmsnorm --trust-code
check trust_code_environment env -u CC PATH=/nowhere GPTOSS_TRUST_CODE=1 "$PWD/$exec" $w/tampered.bin --self-test --device host --only rmsnorm
tiny --precision fast --emit $w/emitted -o $w/none.bin >/dev/null 2>&1 && rm $w/none.bin && for f in $w/emitted/rmsnorm*.c; do echo "/* edited */" >>"$f"; done
check trust_override_compiled tiny --precision fast --override $w/emitted -o $w/edited.bin
check trust_override selftest $w/edited.bin
grep -q "not compiled here" $w/err && fail trust_override_no_word "$(cat $w/err)" || ok trust_override_no_word
mkdir -p $w/open && chmod 777 $w/open
GPTOSS_CACHE=$PWD/$w/open tiny --precision fast -o $w/open.bin >/dev/null 2>&1
refuses trust_open_cache "was not compiled here" env -u CC PATH=/nowhere GPTOSS_CACHE="$PWD/$w/open" "$PWD/$exec" $w/open.bin --self-test --device host --only rmsnorm
chmod 755 $w/open
check trust_closed_cache env -u CC PATH=/nowhere GPTOSS_CACHE="$PWD/$w/open" "$PWD/$exec" $w/open.bin --self-test --device host --only rmsnorm

# --- weights that change while they are in use: they are read where they are mapped ---
{ echo 60 && seq 60 | sed 's/$/ 2 3/'; } >$w/many
changing() { # the command writes to them once a request is done
    rm -rf $w/changing $w/changed.ids.parts && cp -r $w/model $w/changing
    $exec $w/strict.bin -w $w/changing -m getp --input-ids -i $w/many -b 1 -n 120 -o $w/changed.ids &
    while kill -0 $! 2>/dev/null && ! grep -qs '^0: ' $w/changed.ids.parts/*; do sleep 0.01; done
    "$@"
    wait $!
}
last_byte() { printf '\100' | dd of=$w/changing/model.safetensors bs=1 seek=$(($(stat -c %s $w/changing/model.safetensors) - 1)) conv=notrunc status=none; }
refuses weights_change 'model.safetensors: the file changed after it was opened' changing last_byte
refuses weights_change_nan 'model.safetensors: the file changed after it was opened' changing python3 tests/journal/poison.py $w/changing/model.safetensors 2

refuses no_sigchld 'false --version fails (exit status 1)' env --ignore-signal=CHLD CC=false $compile graphs/toy.lua --arch host -o $w/none.bin # and not: its end cannot be waited for

# --- errors ---
refuses no_cc "no C compiler found" env -u CC PATH=/nowhere $compile graphs/toy.lua --arch host -o $w/none.bin
refuses cc_missing 'CC is "no-such-cc"' env CC=no-such-cc $compile graphs/toy.lua --arch host -o $w/none.bin
[ -e $w/none.bin ] && fail no_plan_left "there is a plan"
refuses lacks_and_no_cc "which this one has not, and cannot be compiled here: no C compiler" \
    env -u CC PATH=/nowhere GPTOSS_HOST_FEATURES=none "$PWD/$exec" $w/fast.bin --self-test --device host
refuses other_arch "recompile with --arch gfx90a" $exec $w/fast.bin --self-test --device emu
cp -rL templates/host $w/templates && echo "no such type;" >>$w/templates/map.c
refuses bad_template "map.c:.*error" $compile graphs/toy.lua --arch host --templates $w/templates -o $w/none.bin
exit $failed
