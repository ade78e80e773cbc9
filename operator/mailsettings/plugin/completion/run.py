"""Does what `completion` was asked for."""

import argparse
import sys
from typing import Final

from mailsettings.plugin.command import SUCCESS

_BASH: Final = r"""# bash completion for kubectl-mailsettings
_kubectl_mailsettings() {
    local lines line
    COMPREPLY=()
    lines=$("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) || return
    if [ "${lines##*:}" = 0 ]; then compopt -o default; fi
    while IFS= read -r line; do
        case $line in :*) continue ;; esac
        COMPREPLY+=("${line%%$'\t'*}")
    done <<< "$lines"
}
complete -F _kubectl_mailsettings kubectl-mailsettings
"""

_ZSH: Final = r"""#compdef kubectl-mailsettings
_kubectl_mailsettings() {
    local -a lines found
    local line
    lines=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    for line in "${lines[@]}"; do
        [[ $line == :* ]] && continue
        found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    if [[ ${lines[-1]} == ":0" ]]; then _files; else _describe 'kubectl mailsettings' found; fi
}
compdef _kubectl_mailsettings kubectl-mailsettings
"""

_FISH: Final = r"""# fish completion for kubectl-mailsettings
function __kubectl_mailsettings
    set -l typed (commandline -opc) (commandline -ct)
    set -l lines ($typed[1] __complete $typed[2..-1] 2>/dev/null)
    if test "$lines[-1]" = ":0"
        __fish_complete_path (commandline -ct)
    end
    string match -v ':*' -- $lines
end
complete -c kubectl-mailsettings -f -a '(__kubectl_mailsettings)'
"""

_KUBECTL: Final = r"""#!/bin/sh
exec kubectl-mailsettings __complete "$@"
"""

_SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH, "kubectl": _KUBECTL}


def run(options: argparse.Namespace) -> int:
    """Runs the command; the exit status."""
    sys.stdout.write(_SCRIPTS[options.shell])
    return SUCCESS
