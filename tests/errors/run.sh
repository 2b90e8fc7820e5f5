#!/bin/bash
# Errors that no other suite meets (make coverage: out/coverage/unsaid): each command fails with status 1 or 2 and says why.
cd "$(dirname "$0")/../.." || exit 2
out=out/tests/errors
rm -rf $out && mkdir -p $out
failed=0
says() { # NAME, what is said, command…
    local name=$1 words=$2
    shift 2
    timeout 60 "$@" >$out/log 2>$out/err </dev/null
    local code=$?
    if [ $code != 1 ] && [ $code != 2 ]; then echo "FAIL $name: exit $code: $(tail -1 $out/err)" && failed=1
    elif ! grep -qF -- "$words" $out/err; then echo "FAIL $name: $(tail -1 $out/err)" && failed=1
    else echo "ok $name"; fi
}
export out
# Memory that ends while a line is read is not the end of input: the command reads two lines, and fails where the second
# needs more than one line alone did. glibc sets no error then.
no_line() { # NAME, what is said, command…
    echo one >$out/short && { echo one && head -c 100000 /dev/zero | tr '\0' a && echo; } >$out/long
    local preload="LD_PRELOAD=$PWD/out/tests/faults/shim.so FAULT_CALLS=memory" calls
    env $preload FAULT_COUNT=$out/calls "${@:3}" <$out/short >$out/log 2>$out/err || echo "FAIL $1: $(tail -1 $out/err)"
    calls=$(awk '$1 == "memory" {print $2}' $out/calls)
    says "$1" "$2: Cannot allocate memory" env $preload FAULT_AT=$((calls + 3)) bash -c '"$@" <$out/long' - "${@:3}"
}

# --- command lines ---
says dump-stage '--dump nothing: there is no such stage; stages:' out/gptoss-compile graphs/toy.lua --arch host --dump nothing
says home 'which has no templates/lib/common.h' env GPTOSS_HOME=/dev out/gptoss-compile graphs/toy.lua --arch host
says override '--override out/tests/errors/nowhere' out/gptoss-compile graphs/toy.lua --arch host --override $out/nowhere
printf 'no JSON\n' >$out/tuning && says tuning-json 'tuning:1: bad JSON at column 2' out/gptoss-compile graphs/toy.lua --arch host --tuning $out/tuning -o $out/none.bin
printf '{"a":1}\n' >$out/tuning && says tuning-choice 'no choice: "kernel" or "fusions"' out/gptoss-compile graphs/toy.lua --arch host --tuning $out/tuning -o $out/none.bin
mkdir -p $out/zero && { printf '// gptoss' && head -c 9 /dev/zero; } >$out/zero/map.hip && says override-zero 'it holds a zero byte, so it is no source' out/gptoss-compile graphs/toy.lua --arch gfx90a --override $out/zero -o $out/none.bin
says lab-ledger 'no ledger: --ledger-file names one' env -u HOME -u XDG_STATE_HOME out/gptoss-lab --ledger
says lab-keep "--keep $out/log/x" out/gptoss-lab graphs/toy.lua --arch host --rule lua/fusions/rmsnorm_qkv.lua --keep $out/log/x
says lab-case 'no case of gptoss-lab' bash -c 'echo "{}" >$out/case; out/gptoss-lab --replay $out/case'
says lab-case-json 'case: bad JSON at line 2, ' bash -c 'echo "{" >$out/case; out/gptoss-lab --replay $out/case'

mkdir -p $out/alone/bin && cp out/gptoss-compile $out/alone/bin/ && says home-none 'cannot find templates/ and lua/ beside' env -u GPTOSS_HOME $out/alone/bin/gptoss-compile graphs/toy.lua --arch host
says list-empty '--no-fusion: the text is empty' out/gptoss-compile graphs/toy.lua --arch host --no-fusion ''
# shellcheck disable=SC2046
says list-long '--no-fusion: given more than' out/gptoss-compile graphs/toy.lua --arch host $(printf -- '--no-fusion a%d ' {1..300})
says flag-word 'GPTOSS_COMPILE_EXPLAIN maybe: it is 1 or 0, yes or no' env GPTOSS_COMPILE_EXPLAIN=maybe out/gptoss-compile graphs/toy.lua --arch host
says flag-value '--explain takes no value' out/gptoss-compile graphs/toy.lua --arch host --explain=yes
says feature-twice 'xnack is said twice' out/gptoss-compile graphs/toy.lua --arch gfx90a:xnack+:xnack-
says feature-none '"nothing+" is no feature of gfx90a' out/gptoss-compile graphs/toy.lua --arch gfx90a:nothing+
says dump-config 'a dump states no config: --model names a checkpoint that does' out/gptoss-compile tests/lua/toy.ir --arch host
says program-config 'its program{} gives no config' out/gptoss-compile tests/lua/ops.lua --arch host
says closed-stdout 'stdout: Bad file descriptor' bash -c 'out/gptoss-compile graphs/toy.lua --arch gfx90a --emit $out/src --report text >&-'
says full-disk 'No space left on device' bash -c 'printf a | out/gptoss-tok encode -z models/tiny/tokenizer.json >/dev/full'
no_line tok-no-memory stdin out/gptoss-tok encode -z models/tiny/tokenizer.json
mkdir -p $out/folder && says output-folder "$out/folder: cannot be written: Is a directory" out/gptoss-compile graphs/toy.lua --arch gfx90a -o $out/folder
says output-nowhere "$out/nowhere/p.bin: cannot be written" out/gptoss-compile graphs/toy.lua --arch gfx90a -o $out/nowhere/p.bin

# --- checkpoints ---
out/gptoss-mkmodel tests/models/least.json $out/model --seed 3 >/dev/null 2>&1 || echo "FAIL mkmodel"
checkpoint() { # NAME, what is said, shell command in a copy of it
    rm -rf $out/bad && cp -r $out/model $out/bad
    (cd $out/bad && eval "$3")
    says "$1" "$2" out/gptoss-compile graphs/gpt_oss.lua --arch gfx90a --model $out/bad -o $out/none.bin "${@:4}"
}
checkpoint swap-folder '--swap-embeddings is for .bin checkpoints only' : --swap-embeddings
checkpoint positions 'max_position_embeddings: expected an integer' 'sed -i "s/\"max_position_embeddings\": *[0-9]*/\"max_position_embeddings\": 1.5/" config.json'
checkpoint header 'the header is not a JSON object' 'printf "\2\0\0\0\0\0\0\0[]" >model.safetensors'
checkpoint experts-few '--ep 9: the model has' : --ep 9
checkpoint scaling-mscale 'mscale and mscale_all_dim are not supported' 'sed -i "s/\"beta_fast\"/\"mscale\": 1, \"mscale_all_dim\": 1, &/" config.json'
checkpoint openai-empty 'no .safetensors file' 'rm *.safetensors && echo "{\"num_hidden_layers\":2,\"num_experts\":2,\"experts_per_token\":1,\"vocab_size\":300,\"hidden_size\":32,\"intermediate_size\":32,\"head_dim\":16,\"num_attention_heads\":2,\"num_key_value_heads\":1,\"sliding_window\":8,\"initial_context_length\":64}" >config.json'

# --- a checkpoint that takes another's place: whatever fails, and whenever it is killed, one of the two is there, whole ---
swap=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
trap 'rm -rf "$swap"' EXIT
make_model() { env "${@:2}" out/gptoss-mkmodel tests/models/least.json $swap/m --threads 1 --seed $1 >$out/log 2>$out/err; }
make_model 3 && echo mine >$swap/m/notes && cp -r $swap/m $swap/old && make_model 4 && mv $swap/m $swap/new || echo "FAIL swap: $(tail -1 $out/err)"
preload="LD_PRELOAD=$PWD/out/tests/faults/shim.so"
swap() { # CLASS, how many of its calls before the last, variables of the shim
    local at=$(($(awk -v class=$1 '$1 == class {print $2}' $out/calls) - $2)) code
    cp -r $swap/old $swap/m
    make_model 4 $preload FAULT_CALLS=$1 FAULT_AT=$at "${@:3}" 2>/dev/null
    code=$?
    diff -r $swap/m $swap/new >$out/differs || { # the new one whole, with its notes here or still where the old one was moved to
        [ $code != 0 ] && { diff -r $swap/m $swap/old || { diff -r -x notes $swap/m $swap/new && ls $swap/m.tmp*/notes; }; } >>$out/differs
    } || bad="$bad $*: exit $code, $(head -1 $out/differs);"
    rm -rf $swap/m $swap/m.*
}
bad=
cp -r $swap/old $swap/m && make_model 4 $preload FAULT_CALLS=all FAULT_COUNT=$out/calls; rm -rf $swap/m
for before in 0 1 3; do swap open $before; done
for before in 0 1; do swap sync $before; swap name $before; swap name $before FAULT_KILL=9; done
for before in 2 4 8; do swap read $before; done
swap open 2 FAULT_KILL=9
[ -z "$bad" ] && echo "ok swap" || { echo "FAIL swap:$bad"; failed=1; }
cp -r $swap/old $swap/m
says swap-open 'm: Too many open files' env $preload FAULT_CALLS=open FAULT_AT=$(($(awk '$1 == "open" {print $2}' $out/calls) - 9)) out/gptoss-mkmodel tests/models/least.json $swap/m

# Another folder in its place, come while the new one was written: it is stopped in its first sync.
rm -rf $swap/m && cp -r $swap/old $swap/m && mkdir $swap/foreign && echo theirs >$swap/foreign/config.json && echo all >$swap/foreign/work
env $preload FAULT_CALLS=sync FAULT_AT=1 FAULT_KILL=19 out/gptoss-mkmodel tests/models/least.json $swap/m --seed 4 >$out/log 2>$out/err & maker=$!
for ((i = 0; i < 200; i++)); do grep -qs ' (gptoss-mkmodel) T ' /proc/$maker/stat && break; sleep 0.05; done
mv $swap/m $swap/aside && cp -r $swap/foreign $swap/m
kill -CONT $maker
wait $maker
code=$?
if [ $code = 1 ] && grep -q 'another folder has taken its place' $out/err && diff -r $swap/foreign $swap/m >$out/differs && ! ls -d $swap/m.* >/dev/null 2>&1; then echo "ok swap-foreign"
else echo "FAIL swap-foreign: exit $code: $(tail -1 $out/err) $(head -1 $out/differs) $(ls $swap)"; failed=1; fi
ln -s nowhere $swap/link && ln -s nowhere.bin $swap/link.bin
says swap-dangling 'link: a link to what is not there' out/gptoss-mkmodel tests/models/least.json $swap/link
says swap-dangling-bin 'link.bin: a link to what is not there' out/gptoss-mkmodel tests/models/least.json $swap/link.bin
echo old >$swap/nowhere.bin
if out/gptoss-mkmodel tests/models/least.json $swap/link.bin 2>$out/err && [ -L $swap/link.bin ] && [ "$(stat -c %s $swap/nowhere.bin)" -gt 1000 ]; then echo "ok swap-link-bin"
else echo "FAIL swap-link-bin: $(tail -1 $out/err) $(ls -l $swap)"; failed=1; fi

# --- tokenizers ---
tokenizer() { # NAME, what is said, what follows the vocabulary {"a":0,"b":1,"ab":2}, merges, added tokens, the pre-tokenizer's parts
    printf '{"added_tokens":%s,"pre_tokenizer":{"type":"Sequence","pretokenizers":[%s]},"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":%s}}' "$4" "$5" "$3" >$out/tokenizer.json
    says "tok-$1" "$2" out/gptoss-tok encode -z $out/tokenizer.json
}
level='{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}' own='{"type":"ByteLevel","add_prefix_space":false}'
split() { printf '{"type":"Split","pattern":{"Regex":"%s"},"behavior":"Isolated"}' "$1"; }
tokenizer twice 'id 0 occurs twice' '[]' '[{"id":0,"content":"a"},{"id":0,"content":"a"}]' "$level"
tokenizer added 'added_tokens is not an array' '[]' '{}' "$level"
tokenizer alphabet 'not in the byte-level alphabet' '["a \u4e00"]' '[]' "$level"
tokenizer splits 'more than one Split is not supported' '[]' '[]' "$(split a),$(split b),$level"
tokenizer level-twice 'ByteLevel twice' '[]' '[]' "$own,$own"
tokenizer level-first 'Split after ByteLevel is not supported' '[]' '[]' "$own,$(split a)"
tokenizer backslash 'pattern ends in a backslash' '[]' '[]' "$(split 'a\\'),$level"
{ head -c 6000 /dev/zero | base64 -w0 && echo ' 0'; } >$out/long.tiktoken && says tok-tiktoken-long 'a token of more than 512 bytes' out/gptoss-tok encode -z $out/long.tiktoken
{ printf '\20\0\0\0\0\0\0\0\210\23\0\0' && head -c 5000 /dev/zero | tr '\0' a; } >$out/long.bin && says tok-bin-long 'a token of more than 512 bytes' out/gptoss-tok encode -z $out/long.bin

# --- compilers ---
host_cc() { says "cc-$1" "$2" env CC="$3" GPTOSS_CACHE=$out/cc-cache out/gptoss-compile graphs/toy.lua --arch host -o $out/none.bin; }
script() { printf '#!/bin/sh\n%s\n' "$2" >$out/$1 && chmod +x $out/$1; }
host_cc nowhere 'CC is "nowhere-cc", which is not there; unset it or install it' nowhere-cc
script no-version 'exit 5' && host_cc version 'no-version --version fails (exit status 5)' $out/no-version
script no-elf 'case "$*" in *--version*) echo none ;; *-o\ *) while [ "$1" != -o ]; do shift; done; echo text >"$2" ;; esac' && host_cc elf 'no-elf gave no 64-bit ELF file' $out/no-elf

# --- what runs ---
printf 'return program { name = "one", config = model, step = function() output(embed(input("src", i32, { T }), param("embed", bf16, { 512, 64 }))) end }\n' >$out/one.lua
out/gptoss-mkmodel tests/models/tiny.json $out/model --seed 6 >/dev/null 2>&1 || echo "FAIL mkmodel tiny"
if out/gptoss-compile graphs/toy.lua --arch gfx90a -o $out/p.bin >/dev/null 2>$out/err; then
    printf '1\n1 2 3\n' >$out/in
    run() { says "$1" "$2" out/gptoss-exec $out/p.bin -w $out/model --device ref --input-ids "${@:3}"; }
    generation() { # NAME, what is said, a member of generation_config.json
        rm -rf $out/bad && cp -r $out/model $out/bad && sed -i "s/^{/{$3,/" $out/bad/generation_config.json
        says "$1" "$2" out/gptoss-exec $out/p.bin -w $out/bad --device ref -m generate -n 4 a
    }
    no_line chat-no-memory 'stdin: cannot be read' out/gptoss-exec $out/p.bin -w $out/model -m chat --device ref -T 0 --max-answer 1 --threads 1
    generation stop-strings 'stop_strings: expected a text, or a list of texts, that are not empty' '"stop_strings": [""]'
    generation suppress-list 'suppress_tokens: expected a list of token ids' '"suppress_tokens": 3'
    generation suppress-id 'suppress_tokens[1]: expected a token id' '"suppress_tokens": [1,-3]'
    echo '{"added_tokens":[],"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"model":{"type":"BPE","vocab":{"a":600},"merges":[]}}' >$out/large.json
    says tokenizer-large "token id 600 is not in the model's vocabulary of 512" out/gptoss-exec $out/p.bin -w $out/model -z $out/large.json --device ref -m generate -n 4 a
    poison() { # WEIGHT, N: its first N numbers are NaN in $out/bad
        local at i
        rm -rf $out/bad && cp -r $out/model $out/bad
        at=$(head -c 100000 $out/bad/model.safetensors | grep -ao "\"$1\":{[^}]*}" | sed 's/.*offsets": *\[\([0-9]*\).*/\1/')
        for ((i = 0; i < $2; i++)); do printf '\300\177'; done | dd of=$out/bad/model.safetensors bs=1 seek=$((8 + $(od -An -N8 -tu8 $out/bad/model.safetensors) + at)) conv=notrunc status=none
    }
    poison model.norm.weight 64
    nan() { says "nan-$1" "$2" out/gptoss-exec $out/p.bin -w $out/bad --device "$3" --input-ids -i $out/in -n 4 "${@:4}"; }
    nan getp 'NaN' ref -m getp -o $out/ids
    nan logits 'request 1, position 0: logit 0 is nan' ref -m logits -o $out/ids
    nan parity 'the logits of request 1 hold a NaN' emu -m parity
    # An expert whose weight is NaN is not passed over: what is chosen is NaN, and shows.
    poison model.layers.2.mlp.router.weight 1
    nan router 'the first value that is not finite in this step is layer2.mlp.' emu -m getp -o $out/ids
    out/gptoss-compile graphs/toy.lua --arch host -o $out/host.bin >/dev/null 2>$out/err &&
        says nan-router-host 'the first value that is not finite in this step is layer2.mlp.' out/gptoss-exec $out/host.bin -w $out/bad --device host --input-ids -i $out/in -n 4 -m getp -o $out/ids
    mkdir $out/data && : >$out/data/output.txt # where getp writes when nothing is said
    says truth-is-output '-v data/output.txt is where the output goes: give -o another name' bash -c "cd $out && ../../gptoss-exec p.bin -w model --device ref --input-ids -m getp -i in -v data/output.txt"
    printf '1 2\0 3\n' >$out/nul && run truth-nul 'a NUL byte among the ids' -m getp -i $out/in -o $out/ids -v $out/nul
    printf '1\n1 2\0 3\n' >$out/nul && run ids-nul 'a NUL byte among the ids' -m getp -i $out/nul -o $out/ids
    run chat-ids '--input-ids: chat is text' -m chat
    run paced-trace '--paced and --trace: one at a time' -m bench --pp 3 --tg 2 --paced --trace $out/trace
    run bench-depth 'positions; recompile with --max-seq' -m bench --pp 3 --depth 99999
    run bench-slots 'slots; recompile with --max-batch' -m bench --pp 3 --batches 999
    run bench-many '--batches 99999999999: too many' -m bench --pp 3 --batches 99999999999
    run bench-word '--depth x: a list of whole numbers, at least 0' -m bench --depth x
    run bench-both '--kernels and --trace: one at a time' -m bench --pp 3 --kernels --trace $out/trace
    run no-list 'numbers' -m bench --pp "$(seq -s, 1 200)" --tg 2
    says cpu-device '-m getp_cpu runs on ref, not on emu' out/gptoss-exec $out/p.bin -w $out/model -m getp_cpu --device emu --input-ids -i $out/in -o $out/ids
    says rank-job 'SLURM_NTASKS is 2, and there is no SLURM_JOB_ID' env -u SLURM_JOB_ID SLURM_NTASKS=2 SLURM_PROCID=0 SLURM_STEP_ID=0 out/gptoss-exec $out/p.bin -w $out/model -m getp --device ref --input-ids -i $out/in -o $out/ids
else
    echo "skip run: $(tail -1 $out/err)"
fi
# --- plans that have not all graphs, or are another device's ---
for arch in gfx90a host; do
    if ! out/gptoss-compile $out/one.lua --arch $arch --model $out/model --max-tokens 4 -o $out/one-$arch.bin >/dev/null 2>$out/err; then echo "skip one-$arch: $(tail -1 $out/err)"; fi
done
if [ -f $out/one-gfx90a.bin ] && [ -f $out/one-host.bin ]; then
    one() { says "one-$1" "$2" out/gptoss-exec $out/one-gfx90a.bin "${@:3}"; }
    while read -r mode name rest; do
        # shellcheck disable=SC2086
        one "$mode" "the plan has no graph \"$name\"" -m "$mode" --device ref $rest
    done <<END
getp sample --input-ids -i $out/in -o $out/ids
parity sample --input-ids -i $out/in
bench sample
chat sample
generate sample a
eval sample -i models/tiny/eval.jsonl
logits logits --input-ids -i $out/in -o $out/ids
END
    one self-test-ref '--self-test: device ref runs no kernels' --self-test --device ref
    one device-host 'device host runs plans made with --arch host; this one is for gfx90a' --self-test --device host
    says one-device-emu 'device emu runs gfx90a code; this plan is for host' out/gptoss-exec $out/one-host.bin --self-test --device emu
    one races '--races: device ref does not see them; --device emu does' -m getp --device ref --races --input-ids -i $out/in -o $out/ids
    one gpus '-g none: it is a number of devices, 1 or more, or all' -m getp -g none --input-ids -i $out/in -o $out/ids
    says compare 'the plans cannot be compared' out/gptoss-lab $out/one-gfx90a.bin $out/one-host.bin
    says lab-device '--device cuda: there is none here' env CUDA_VISIBLE_DEVICES= out/gptoss-lab $out/one-gfx90a.bin $out/one-gfx90a.bin --device cuda
    says predict-list '--batches 1,x: a list of whole numbers' out/gptoss-lab $out/one-gfx90a.bin --predict --batches 1,x
    printf '{' >$out/half && says predict-json "$out/half: bad JSON" out/gptoss-lab $out/one-gfx90a.bin --predict --measured $out/half
    report() { says "report-$1" "$2" out/gptoss-compile $out/one.lua --arch gfx90a --model $out/model --max-tokens 4 -o $out/none.bin --report html --measured "$3"; }
    report half "--measured $out/half: bad JSON" $out/half
    printf '{"kernels":[]}' >$out/m && report none 'it has no kernels' $out/m
    printf '{"kernels":[{"kernel":"k","test":"t","tokens":1}]}' >$out/m && report few 'its kernel 1 has no launches' $out/m
    printf '{"kernels":[{"kernel":"k","test":"t","tokens":1,"launches":1,"microseconds":null,"microseconds_in_step":1}]}' >$out/m && report other 'none of its kernels is in this plan' $out/m
fi

# --- a rule's own kernel whose head does not fit ---
mkdir -p $out/heads && printf 'return fusion { name = "own", priority = 90, match = function(x, r, g) return rmsnorm(rows(x, r), g) end, kernel = "own" }\n' >$out/own.lua
head() { # NAME, what is said, parameters of the kernel, its block, its grid
    local block=${4-//! block  WAVE} grid=${5-//! grid   T}
    printf '//! kernel own(%s) -> (y: f32[T,K])\n%s\n%s\n//! hook   out\n//! tol    strict 1e-6 fast 1e-6\nDEVICE void run(const Args &a) {}\n' "$3" "$grid" "$block" >$out/heads/own.hip
    says "head-$1" "$2" out/gptoss-compile graphs/toy.lua --arch gfx90a --fusions $out/own.lua --templates $out/heads -o $out/none.bin
}
head few 'takes 2 inputs, the node has 3' 'x: f32[_,K], r: i32[T]'
head symbolic 'x: N does not fit a symbolic dimension' 'x: f32[N,K], r: i32[T], g: f32[K]'
head constant 'g: T does not fit a constant dimension' 'x: f32[_,K], r: i32[T], g: f32[T]'
head number 'g: 33 is 33, here it is 64' 'x: f32[_,K], r: i32[T], g: f32[33]'
head mixes 'r: mixes T and S' 'x: f32[T,K], r: i32[T], g: f32[K]'
head rank 'x has 2 dimensions' 'x: f32[_,K,M], r: i32[T], g: f32[K]'
head rank-less 'x has 2 dimensions' 'x: f32[_], r: i32[T], g: f32[K]'
right='x: f32[_,K], r: i32[T], g: f32[K]'
head block 'block 64 * 50 is 3200, must be 1 to 1024' "$right" '//! block  64 * 50'
head grid 'grid dimension 0 is -1' "$right" '//! block  64' '//! grid   0 - 1'
head lds '1000000 bytes of shared memory' "$right" $'//! block  64\n//! lds    1000000'
head cluster 'cluster 4 is 4, must be 1 to 8, and 1 on gfx90a' "$right" $'//! block  64\n//! cluster 4'
head with 'with nothing: gfx90a has nothing of this name (targets.def)' "$right" $'//! block  64\n//! with nothing'

# --- the lab ---
says lab-without 'without the rule: ' out/gptoss-lab $out/nothing.lua --arch host --rule lua/fusions/rmsnorm_qkv.lua
says tune-device '--tune: no device here runs code for sm_90' env CUDA_VISIBLE_DEVICES= out/gptoss-compile $out/one.lua --arch sm_90 --model $out/model --tune --tuning $out/tuned
says tune-file '--tune: --tuning names the file' env -u HOME -u XDG_STATE_HOME out/gptoss-compile $out/one.lua --arch gfx90a --model $out/model --tune
mkdir -p $out/alone/lab && cp out/gptoss-lab $out/alone/lab/ && says lab-siblings 'gptoss-lab runs its sibling programs' $out/alone/lab/gptoss-lab graphs/toy.lua --arch host --rule lua/fusions/rmsnorm_qkv.lua
says lab-tmp "$out/nowhere/gptoss-lab-" env TMPDIR=$out/nowhere out/gptoss-lab graphs/toy.lua --arch host --rule lua/fusions/rmsnorm_qkv.lua
case_() { echo "{\"gptoss_lab_case\":1,\"arch\":\"gfx90a\",\"precision\":\"fast\",\"graph\":\"program p\\n\",\"vocab\":512,$3}" >$out/case && says "case-$1" "$2" out/gptoss-lab --replay $out/case; }
case_ vocab "the case's \"max_seq\" is 1099511627776; it is 0 to 16777216" '"max_seq":1099511627776'
case_ file 'a file of the case is called "../x"' '"rules":[{"name":"../x","text":""}]'
case_ fusion 'no_fusion lists something that is no name' '"no_fusion":[1]'
case_ graph 'it does not build now' '"max_batch":2,"max_tokens":8,"max_seq":64'

# --- files that are large (and not on the disk), and pipes that nobody writes to ---
big() { mkdir -p "${1%/*}" && rm -f "$1" && truncate -s "$2" "$1"; }
big $out/big/config.json 8G && says big-config 'config.json: 8589934592 bytes; such a file has at most' out/gptoss-compile graphs/toy.lua --arch host --model $out/big -o $out/none.bin
big $out/big/tokenizer.json 8G && says big-tokenizer 'tokenizer.json: 8589934592 bytes; such a file has at most' out/gptoss-tok encode -z $out/big
big $out/big/ledger 8G && says big-ledger 'ledger: 8589934592 bytes; such a file has at most' out/gptoss-lab --ledger --ledger-file $out/big/ledger
big $out/big/graph.lua 131073 && says big-graph 'graph.lua: 131073 bytes; such a file has at most 131072' out/gptoss-compile $out/big/graph.lua --arch host -o $out/none.bin
echo 'require "graph"' >$out/big/by.lua && says big-module 'graph.lua: 131073 bytes; such a file has at most 131072' out/gptoss-compile $out/big/by.lua --arch host -o $out/none.bin
says big-rule 'graph.lua: 131073 bytes; such a file has at most 131072' out/gptoss-compile graphs/toy.lua --arch host --fusions $out/big/graph.lua -o $out/none.bin
mkdir -p $out/pipes && mkfifo $out/pipes/map.c
says pipe-case 'map.c: not a regular file' out/gptoss-lab --replay $out/pipes/map.c
says pipe-source "none of this plan's sources" out/gptoss-compile graphs/toy.lua --arch host --override $out/pipes -o $out/none.bin
[ ! -f $out/one-gfx90a.bin ] || says pipe-measured 'map.c: not a regular file' out/gptoss-lab $out/one-gfx90a.bin --predict --measured $out/pipes/map.c

# --- libraries that are damaged, too old, or fail ---
fake() { # FILE, the library's name, words of its functions, one that it lacks: fake/library.c for what the real one exports
    local real
    real=$(ldconfig -p | awk -v name="$2" '$1 == name { print $NF; exit }')
    [ "$real" ] && mkdir -p "${1%/*}" && ${CC:-cc} -shared -fPIC -w -D"REAL=\"$real\"" -D"FUNCTIONS=$(nm -D --defined-only "$real" |
        awk -v begins="^$3" -v without="${4:-}" '$2 == "T" && $3 ~ begins { sub(/@.*/, "", $3); if ($3 != without) print "X(" $3 ")" }' | sort -u | tr '\n' ' ')" -o "$1" tests/errors/fake/library.c -ldl
}
damaged() { for f; do mkdir -p "${f%/*}" && echo 'no library' >"$f"; done; }
if ! ldconfig -p | grep -q libamdhip64.so.5 || ! [ -f $out/p.bin ]; then echo 'skip libraries: no libamdhip64.so.5 here'
else
    printf '1\n1 2 3\n' >$out/in
    getp="env GPTOSS_CACHE=$out/no-cache out/gptoss-exec $out/p.bin -w $out/model --device emu --input-ids -m getp -i $out/in -o $out/ids -n 4"
    emu() { says "emu-$1" "$2" env LD_LIBRARY_PATH=$out/"$3" "${@:4}" $getp; }
    damaged $out/damaged/libamd_comgr.so{,.2,.3}
    fake $out/comgr/libamd_comgr.so.2 libamd_comgr.so.2 amd_comgr_
    fake $out/lacks/libamd_comgr.so.2 libamd_comgr.so.2 amd_comgr_ amd_comgr_set_data
    emu damaged 'the emulator needs comgr to disassemble code objects: ' damaged
    emu lacks 'libamd_comgr.so has no amd_comgr_set_data' lacks
    emu loads 'gave up while it was loaded (status 3)' comgr FAKE_ENDS=amd_comgr_create_disassembly_info
    emu ends 'comgr ended with status 3 on this code object' comgr FAKE_ENDS=amd_comgr_set_data
    # One that ends at the second code object that it is given: a new one is given it again.
    if LD_LIBRARY_PATH=$out/comgr FAKE_ENDS=amd_comgr_set_data FAKE_AFTER=1 timeout 60 $getp >$out/log 2>$out/err; then echo 'ok emu-again'
    else echo "FAIL emu-again: $(tail -1 $out/err)"; failed=1; fi
    while read -r function words; do emu "$function" "$words" comgr FAKE_FAILS=amd_comgr_"$function"; done <<'END'
create_disassembly_info this comgr cannot disassemble gfx90a
create_data comgr fails
set_data comgr rejects the code object
get_data_metadata comgr finds no metadata
metadata_lookup the code object's metadata lists no kernels
get_metadata_list_size comgr finds no list of kernels
index_list_metadata comgr cannot read kernel 0
END
    jit() { # NAME, what is said, folder, variables
        rm -rf $out/jit && says "jit-$1" "$2" env ROCM_PATH=$out/"$3" GPTOSS_CACHE=$out/jit "${@:4}" out/gptoss-compile $out/one.lua --arch gfx90a --model $out/model --max-tokens 1 -o $out/none.bin
    }
    damaged $out/damaged/lib/lib{hiprtc.so{,.5,.6,.7},amdhip64.so{,.5,.6}}
    fake $out/rocm/lib/libhiprtc.so.5 libamdhip64.so.5 hiprtc && fake $out/rocm/lib/libamd_comgr.so.2 libamd_comgr.so.2 amd_comgr_
    fake $out/old/lib/libhiprtc.so.5 libamdhip64.so.5 hiprtc && fake $out/old/lib/libamd_comgr.so.2 libamd_comgr.so.2 amd_comgr_ amd_comgr_set_data
    cp $out/damaged/lib/libhiprtc.so $out/damaged/libhiprtc.so
    jit old 'comgr lacks amd_comgr_set_data: it is too old' old
    jit loads 'the hip compiler crashed while it was loaded' rocm FAKE_ENDS=hiprtcVersion
    while read -r function words; do jit "$function" "$words" rocm FAKE_FAILS="$function"; done <<'END'
hiprtcCompileProgram map.hip: does not compile (
hiprtcGetCodeSize map.hip: no code (
hiprtcGetCode map.hip: no code (
amd_comgr_get_data_metadata comgr cannot read the code object that the compiler made
amd_comgr_get_metadata_list_size comgr cannot list the kernels of the code object
amd_comgr_create_disassembly_info comgr cannot disassemble code for amdgcn-amd-amdhsa--gfx90a
amd_comgr_get_metadata_string kernel 0 has no readable name
amd_comgr_disassemble_instruction comgr cannot disassemble the instruction at 0x
amd_comgr_metadata_lookup no kernel embed_N64 in the compiled source
END
fi
nvrtc() { # NAME, what is said, folder, variables
    says "nvrtc-$1" "$2" env CUDA_HOME=$out/"$3" GPTOSS_CACHE=$out/nvrtc-cache "${@:4}" out/gptoss-compile $out/one.lua --arch sm_90 --model $out/model --max-tokens 1 -o $out/none.bin
}
mkdir -p $out/cuda/lib64 && ${CC:-cc} -shared -fPIC -w -D"FUNCTIONS=$(sed -n 's/^ *X(\([A-Z][A-Za-z]*\),.*/X(nvrtc\1)/p' rtc/rtc_cuda.c | sort -u | tr '\n' ' ')" -o $out/cuda/lib64/libnvrtc.so.13 tests/errors/fake/library.c -ldl
for function in CompileProgram GetCUBINSize GetCUBIN; do
    case $function in Compile*) words='does not compile (' ;; *) words='no code (' ;; esac
    nvrtc $function "map.hip: ${words}the fake one's error)" cuda FAKE_FAILS=nvrtc$function
done
for version in 12.8 12.9 13.0; do
    nvrtc wgmma-$version 'map.hip: ptxas serialises wgmma: (C7510) Potential' cuda FAKE_VERSION=$version FAKE_LOG='ptxas: (C7510) Potential Performance Loss'
done
damaged $out/damaged/lib64/libnvrtc.so{,.12,.13}

exit $failed
