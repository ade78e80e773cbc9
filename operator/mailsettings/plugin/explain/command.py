"""The command line of `explain`."""

import argparse
from typing import Final

from mailsettings.plugin.command import PROGRAM, Command, add_output_option

DESCRIPTION: Final = """\
Explains a word that a status, a condition, an event, `diagnose` or another
command gives as the reason, and the types of conditions: what it means, what to
do, and whose move it is. The case of letters does not matter. Without a word it
lists them all. It needs no cluster and no network."""

EPILOG: Final = f"""\
examples:
  {PROGRAM} explain SmtpAuthDisabledTenant
  {PROGRAM} explain SecretNotFound
  {PROGRAM} explain ProbeSucceeded
  {PROGRAM} explain
  {PROGRAM} explain BadCredentials -o json

exit status: 0 explained; 1 there is no such word; 2 usage"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("word", nargs="?", metavar="WORD", help="a cause, a reason or a type of condition")
    add_output_option(parser, "json", "yaml")


EXPLAIN: Final = Command(
    name="explain",
    summary="tell what a cause, a reason or a condition means",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=_add_arguments,
    module="mailsettings.plugin.explain.run",
)
