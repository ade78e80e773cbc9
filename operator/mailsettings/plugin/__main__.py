"""The command line of the plugin."""

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from mailsettings.plugin.authorize.command import AUTHORIZE
from mailsettings.plugin.command import PROGRAM, USAGE, Command
from mailsettings.plugin.test.command import TEST

COMMANDS: Final[tuple[Command, ...]] = (AUTHORIZE, TEST)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status."""
    options = _parser().parse_args(arguments)
    command: Command = options.command
    complaint = command.complain(options)
    if complaint is not None:
        options.parser.print_usage(sys.stderr)
        sys.stderr.write(f"{options.parser.prog}: error: {complaint}\n")
        return USAGE
    return command.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Mail settings in a cluster, from a terminal.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
