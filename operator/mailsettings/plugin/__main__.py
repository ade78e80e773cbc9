"""The command line of the plugin."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from mailsettings.core.documentation import publish
from mailsettings.plugin.authorize.command import AUTHORIZE
from mailsettings.plugin.command import PROGRAM, USAGE, Command
from mailsettings.plugin.completion.command import COMPLETION
from mailsettings.plugin.diagnose.command import DIAGNOSE
from mailsettings.plugin.explain.command import EXPLAIN
from mailsettings.plugin.imports.command import IMPORT
from mailsettings.plugin.rotate.command import ROTATE
from mailsettings.plugin.status.command import STATUS
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

COMPLETE: Final = "__complete"
"""The hidden command that shells ask."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status."""
    words = sys.argv[1:] if arguments is None else [*arguments]
    if words[:1] == [COMPLETE]:
        return complete_main(words[1:])
    options = _parser().parse_args(words)
    command: Command = options.command
    complaint = command.complain(options)
    if complaint is not None:
        options.parser.print_usage(sys.stderr)
        sys.stderr.write(f"{options.parser.prog}: error: {complaint}\n")
        return USAGE
    try:
        publish(os.environ)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return USAGE
    return command.run(options)


def complete_main(words: Sequence[str] | None = None) -> int:
    """Answers what can be typed next, to shells, and to kubectl as `kubectl_complete-mailsettings`."""
    from mailsettings.plugin.completion import words as completion  # noqa: PLC0415 - no command needs it

    return completion.main(COMMANDS, sys.argv[1:] if words is None else words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Mail settings in a cluster, from a terminal.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
