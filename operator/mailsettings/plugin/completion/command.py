"""The command line of `completion`."""

import argparse
from typing import Final

from mailsettings.plugin.command import PROGRAM, Command

DESCRIPTION: Final = """\
Prints a script by which a shell completes commands, options, names of settings,
namespaces and contexts.

bash, zsh and fish complete kubectl-mailsettings. For kubectl mailsettings,
kubectl asks the program kubectl_complete-mailsettings, which an installation
has beside the plugin; where it is missing, the last example makes it."""

EPILOG: Final = f"""\
examples:
  # source it in ~/.bashrc
  {PROGRAM} completion bash > mailsettings.bash

  # into a folder of $fpath; into ~/.config/fish/completions
  {PROGRAM} completion zsh > _kubectl-mailsettings
  {PROGRAM} completion fish > kubectl-mailsettings.fish

  # into a folder of $PATH, executable
  {PROGRAM} completion kubectl > kubectl_complete-mailsettings"""

SHELLS: Final = ("bash", "zsh", "fish", "kubectl")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="whose script: %(choices)s")


COMPLETION: Final = Command(
    name="completion",
    summary="print a script for completion in a shell",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=_add_arguments,
    module="mailsettings.plugin.completion.run",
)
