# Completion for the gptoss programs. The options come from each program's --help, so nothing here repeats them.
# In a checkout: . tools/completion.bash
_gptoss() {
    local program=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=
    case ${program##*/}:$before in
        gptoss-exec:-m | gptoss-exec:--mode) words="generate chat getp getp_cpu logits parity bench" ;;
        gptoss-exec:--device) words="auto hip cuda host emu ref" ;;
        gptoss-exec:--reasoning) words="low medium high" ;;
        gptoss-compile:--arch) words=$(command "$program" x --arch '?' 2>&1 | sed -n 's/.*one of: //p' | tr -d ,) ;;
        gptoss-compile:--precision) words="fast strict" ;;
        gptoss-compile:--report) words="text json" ;;
        gptoss-mkmodel:--dtype) words="mxfp4 bf16 f32" ;;
        gptoss-mkmodel:--layout) words="huggingface openai" ;;
        gptoss-tok:gptoss-tok | gptoss-tok:*/gptoss-tok) words="encode decode" ;;
        *) [[ $word == -* ]] && words=$(command "$program" --help 2>/dev/null | grep -oE '(^|[ ,[])--?[a-zA-Z0-9][a-z0-9-]*' | tr -d ' ,[') ;;
    esac
    if [ -n "$words" ]; then mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word"); fi
}
complete -o default -F _gptoss gptoss-exec gptoss-compile gptoss-tok gptoss-mkmodel gptoss-check
