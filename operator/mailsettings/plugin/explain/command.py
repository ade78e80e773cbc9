"""The command line of `explain`."""

import argparse
from typing import Final

from mailsettings.plugin.command import PROGRAM, Command, add_output_option

DESCRIPTION: Final = """\
Explains a cause that a status, a condition or `diagnose` names: what it means,
what to do, and whose move it is. Without a cause it lists them all. It needs no
cluster."""

EPILOG: Final = f"""\
examples:
  {PROGRAM} explain SmtpAuthDisabledTenant
  {PROGRAM} explain
  {PROGRAM} explain BadCredentials -o json

exit status: 0 explained; 1 there is no such cause; 2 usage"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cause", nargs="?", metavar="CAUSE", help="its name (default: list them all)")
    add_output_option(parser, "json")


EXPLAIN: Final = Command(
    name="explain",
    summary="what a cause means, and what to do about it",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=_add_arguments,
    module="mailsettings.plugin.explain.run",
)
