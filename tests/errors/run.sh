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

# --- command lines ---
says dump-stage '--dump nothing: there is no such stage; stages:' out/gptoss-compile graphs/toy.lua --arch host --dump nothing
says home 'which has no templates/lib/common.h' env GPTOSS_HOME=/dev out/gptoss-compile graphs/toy.lua --arch host
says override '--override out/tests/errors/nowhere' out/gptoss-compile graphs/toy.lua --arch host --override $out/nowhere
printf 'no JSON\n' >$out/tuning && says tuning-json 'tuning:1: not JSON' out/gptoss-compile graphs/toy.lua --arch host --tuning $out/tuning -o $out/none.bin
printf '{"a":1}\n' >$out/tuning && says tuning-choice 'no choice: "kernel" or "fusions"' out/gptoss-compile graphs/toy.lua --arch host --tuning $out/tuning -o $out/none.bin
says lab-ledger 'no ledger: --ledger-file names one' env -u HOME -u XDG_STATE_HOME out/gptoss-lab --ledger
says lab-keep "--keep $out/log/x" out/gptoss-lab graphs/toy.lua --arch host --rule lua/fusions/rmsnorm_qkv.lua --keep $out/log/x
says lab-case 'no case of gptoss-lab' bash -c 'echo "{}" >$out/case; out/gptoss-lab --replay $out/case'
says lab-case-json 'case:2: ' bash -c 'echo "{" >$out/case; out/gptoss-lab --replay $out/case'

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

# --- what runs ---
out/gptoss-mkmodel tests/models/tiny.json $out/model --seed 6 >/dev/null 2>&1 || echo "FAIL mkmodel tiny"
if out/gptoss-compile graphs/toy.lua --arch gfx90a -o $out/p.bin >/dev/null 2>$out/err; then
    printf '1\n1 2 3\n' >$out/in
    run() { says "$1" "$2" out/gptoss-exec $out/p.bin -w $out/model --device ref --input-ids "${@:3}"; }
    mkdir $out/data && : >$out/data/output.txt # where getp writes when nothing is said
    says truth-is-output '-v data/output.txt is where the output goes: give -o another name' bash -c "cd $out && ../../gptoss-exec p.bin -w model --device ref --input-ids -m getp -i in -v data/output.txt"
    printf '1 2\0 3\n' >$out/nul && run truth-nul 'a NUL byte among the ids' -m getp -i $out/in -o $out/ids -v $out/nul
    printf '1\n1 2\0 3\n' >$out/nul && run ids-nul 'a NUL byte among the ids' -m getp -i $out/nul -o $out/ids
    run chat-ids '--input-ids: chat is text' -m chat
    run paced-trace '--paced and --trace: one at a time' -m bench --pp 3 --tg 2 --paced --trace $out/trace
    run no-list 'numbers' -m bench --pp "$(seq -s, 1 200)" --tg 2
    says cpu-device '-m getp_cpu runs on ref, not on emu' out/gptoss-exec $out/p.bin -w $out/model -m getp_cpu --device emu --input-ids -i $out/in -o $out/ids
    says rank-job 'SLURM_NTASKS is 2, and there is no SLURM_JOB_ID' env -u SLURM_JOB_ID SLURM_NTASKS=2 SLURM_PROCID=0 SLURM_STEP_ID=0 out/gptoss-exec $out/p.bin -w $out/model -m getp --device ref --input-ids -i $out/in -o $out/ids
else
    echo "skip run: $(tail -1 $out/err)"
fi
exit $failed
