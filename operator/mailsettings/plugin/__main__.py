"""The command line of the plugin."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from mailsettings.plugin.authorize.command import AUTHORIZE
from mailsettings.plugin.command import PROGRAM, USAGE, Command, HelpFormatter
from mailsettings.plugin.completion.command import COMPLETION
from mailsettings.plugin.diagnose.command import DIAGNOSE
from mailsettings.plugin.explain.command import EXPLAIN
from mailsettings.plugin.imports.command import IMPORT
from mailsettings.plugin.rotate.command import ROTATE
from mailsettings.plugin.status.command import STATUS
from mailsettings.plugin.terminal import plain
from mailsettings.plugin.test.command import TEST
from mailsettings.plugin.validate.command import VALIDATE

COMMANDS: Final[tuple[Command, ...]] = (
    AUTHORIZE,
    COMPLETION,
    DIAGNOSE,
    EXPLAIN,
    IMPORT,
    ROTATE,
    STATUS,
    TEST,
    VALIDATE,
)

_EPILOG: Final = f"""\
examples:
  # what is wrong with the mail of a namespace, and what to do
  {PROGRAM} status -n shop
  {PROGRAM} explain SecretNotFound

Each command has options and examples of its own:
  {PROGRAM} status --help"""

COMPLETE: Final = "__complete"
"""The hidden command that shells ask."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status."""
    words = sys.argv[1:] if arguments is None else [*arguments]
    if words[:1] == [COMPLETE]:
        return complete_main(words[1:])
    words = _command_first(words)
    if not words or not (words[0] in _NAMES or words[0].startswith("-")):
        return _no_command(words)
    options = _parser().parse_args(words)
    command: Command = options.command
    complaint = command.complain(options)
    if complaint is not None:
        options.parser.print_usage(sys.stderr)
        sys.stderr.write(f"{options.parser.prog}: error: {complaint}\n")
        return USAGE
    from mailsettings.core.documentation import publish  # noqa: PLC0415 - help needs to be there at once

    try:
        publish(os.environ)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return USAGE
    return command.run(options)


_NAMES: Final = tuple(command.name for command in COMMANDS)
_WITH_VALUE: Final = ("-n", "--namespace", "--context", "--kubeconfig", "-o", "--output")


def _command_first(words: list[str]) -> list[str]:
    """The words with the command before options that stand in front of it, where kubectl takes its own."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] in _WITH_VALUE else 1
    if words[at : at + 1] and words[at] in _NAMES:
        return [words[at], *words[:at], *words[at + 1 :]]
    return words


def _no_command(words: list[str]) -> int:
    if not words:
        _parser().print_help(sys.stderr)
        return USAGE
    import difflib  # noqa: PLC0415 - only here

    meant = difflib.get_close_matches(words[0], _NAMES, n=1)
    hint = f"; did you mean {meant[0]}?" if meant else ""
    sys.stderr.write(f"usage: {PROGRAM} COMMAND ...\n")
    sys.stderr.write(f"{PROGRAM}: error: there is no command {plain(words[0])!r}{hint}\n")
    sys.stderr.write(f"All that there are:\n    {PROGRAM} --help\n")
    return USAGE


def complete_main(words: Sequence[str] | None = None) -> int:
    """Answers what can be typed next, to shells, and to kubectl as `kubectl_complete-mailsettings`."""
    from mailsettings.plugin.completion import words as completion  # noqa: PLC0415 - no command needs it

    return completion.main(COMMANDS, sys.argv[1:] if words is None else words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Mail settings in a cluster, from a terminal.",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
