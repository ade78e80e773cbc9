"""The command line of `test`."""

import argparse
from datetime import timedelta
from typing import Final

from mailsettings.plugin.command import (
    PROGRAM,
    Command,
    add_cluster_options,
    add_operator_namespace_option,
    add_output_option,
    add_timeout_option,
    no_address,
)

DEFAULT_TIMEOUT: Final = timedelta(minutes=3)

DESCRIPTION: Final = """\
Has the operator test a mail server now, and shows how far it came: each stage
with its time, and, where that failed or with --follow, all that was said,
without logins. With --follow the stages are shown as they come.

Tested are saved settings as they are in force, or with -f those of a manifest
that is not applied yet; its Secrets must be in the namespace. With --cluster
the system's settings are tested, in the operator's namespace. It creates a
MailServerTest, which the operator deletes after an hour. You need the right to
create those, and for -f to get Secrets in the namespace, too."""

EPILOG: Final = f"""\
examples:
  # up to the login
  {PROGRAM} test mail
  {PROGRAM} test mail -n shop

  # up to a mail that arrives
  {PROGRAM} test mail --to ops@acme.example

  # no login either, and all that is said
  {PROGRAM} test mail --mode Connect --follow

  # values that are not saved yet
  {PROGRAM} test -f mail.yaml --to ops@acme.example

  # the system's
  {PROGRAM} test --cluster --to ops@acme.example

  # for a script
  {PROGRAM} test mail --timeout 90s --rm -o json

exit status: 0 passed; 1 not; 2 usage"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="name of the settings (with --cluster it may be missing: default); with -f: which of those in the file",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-n", "--namespace", help="of the settings and of the test (default: the context's)")
    where.add_argument("--cluster", action="store_true", help="test a ClusterMailServerSettings")
    parser.add_argument("-f", "--filename", metavar="FILE", help="try the server of a manifest; - for standard input")
    parser.add_argument("--to", metavar="ADDRESS", help="send a mail there")
    parser.add_argument(
        "--mode",
        choices=("Connect", "Authenticate", "Send"),
        help="how far to go (default: Send with --to, else Authenticate)",
    )
    parser.add_argument("--follow", action="store_true", help="show each stage as it comes, and what was said")
    parser.add_argument("--rm", action="store_true", help="delete the MailServerTest at the end")
    add_timeout_option(parser, DEFAULT_TIMEOUT, "3m")
    add_operator_namespace_option(parser)
    add_cluster_options(parser)
    add_output_option(parser, "json", "yaml")


def _complain(options: argparse.Namespace) -> str | None:
    if options.cluster and options.filename is not None:
        return "--cluster tests saved settings; to try the server of a manifest leave it out"
    if options.name is None and options.filename is None and not options.cluster:
        return "name the settings, or a file with -f, or say --cluster"
    if (options.mode == "Send") != (options.to is not None) and options.mode is not None:
        return "--mode Send and --to go together; the other modes send no mail"
    return no_address(options.to)


TEST: Final = Command(
    name="test",
    summary="have a mail server tested now",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=_add_arguments,
    module="mailsettings.plugin.test.run",
    complain=_complain,
)
