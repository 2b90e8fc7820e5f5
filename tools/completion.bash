# Completion for the gptoss programs. Options and their choices come from each program's --help, so nothing here repeats them.
# In a checkout: . tools/completion.bash
_gptoss() {
    local program=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words= help
    [ "$word" = = ] && word=                                      # "--mode=" is three words here: --mode, =, and nothing yet
    [ "$before" = = ] && before=${COMP_WORDS[COMP_CWORD - 2]}
    help=$(command "$program" --help 2>/dev/null)
    case ${program##*/}:$before in
        gptoss-exec:-m | gptoss-exec:--mode) words=$(sed -nE '/--mode/,/--inspect/s/^.{28}([a-z_]+)  .*/\1/p' <<<"$help") ;;
        gptoss-exec:--device | gptoss-lab:--device) words="auto hip cuda host emu ref" ;;
        gptoss-compile:--arch) words=$(command "$program" x --arch '?' 2>&1 | sed -n 's/.*one of: \(.*\); see.*/\1/p' | tr -d ,) ;;
        gptoss-lab:--arch) words=$(command "${program%lab}compile" x --arch '?' 2>&1 | sed -n 's/.*one of: \(.*\); see.*/\1/p' | tr -d ,) ;;
        gptoss-tok:gptoss-tok | gptoss-tok:*/gptoss-tok) words="encode decode" ;;
        *:-*) words=$(sed -nE "s/^  (-., |    )$before ([a-z0-9_]+(\|[a-z0-9_]+)+)( .*)?$/\2/p" <<<"$help" 2>/dev/null | tr '|' ' ') ;;
    esac
    if [[ $word == -* ]]; then words=$(grep -oE '^  (-.,|   ) --[a-z0-9-]+' <<<"$help" | tr -d ,); fi
    if [ -n "$words" ]; then mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word"); fi
}
complete -o default -F _gptoss gptoss-exec gptoss-compile gptoss-tok gptoss-mkmodel gptoss-check gptoss-lab
