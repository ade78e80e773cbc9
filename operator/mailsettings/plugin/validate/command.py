"""The command line of `validate`."""

import argparse
from datetime import timedelta
from typing import Final

from mailsettings.plugin.command import PROGRAM, Command, add_output_option, add_timeout_option, no_address

DEFAULT_TIMEOUT: Final = timedelta(minutes=1)

DESCRIPTION: Final = """\
Checks MailServerSettings and ClusterMailServerSettings in manifests, by the
rules of the API server and without one. A field that does not exist is refused,
and what the operator would warn of is said, too. Other kinds are skipped.

What Secrets hold and whom a mail server lets in, only the cluster knows; or
--probe, which tries the servers from this machine. The Secrets and ConfigMaps
that the settings refer to must be in the files, too."""

EPILOG: Final = f"""\
examples:
  # a file, several, or a folder with all that is below it
  {PROGRAM} validate -f mail.yaml
  {PROGRAM} validate -f system.yaml -f tenants.yaml
  {PROGRAM} validate -R -f deploy

  # what another program makes, with the result for a third one
  kustomize build . | {PROGRAM} validate -f -
  {PROGRAM} validate -f - -o json

  # the server, the login and perhaps a mail, without a cluster
  {PROGRAM} validate --probe -f mail.yaml -f secret.yaml
  {PROGRAM} validate --probe -f mail.yaml --to ops@acme.example

With -o json each problem is one line: an object with file, line, object, field,
severity (error or warning) and message; and so is the result of each probe, as
`test` prints it, with file and object.

exit status: 0 nothing but warnings, and every probe passed; 1 errors; 2 usage,
or unreadable files"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f",
        "--filename",
        action="append",
        required=True,
        metavar="FILE",
        help="YAML or JSON, or a folder with .yaml, .yml and .json files, or - for standard input; may be repeated",
    )
    parser.add_argument("-R", "--recursive", action="store_true", help="look into the folders of folders, too")
    parser.add_argument("--probe", action="store_true", help="try the servers from here, if there are no errors")
    parser.add_argument("--to", metavar="ADDRESS", help="with --probe: send a mail there")
    parser.add_argument(
        "--check-sender", action="store_true", help="with --probe: look at the DNS of mailFrom's domain, too"
    )
    add_timeout_option(parser, DEFAULT_TIMEOUT, "1m")
    add_output_option(parser, "json", meaning="print each problem and each probe as an object a line")


def _complain(options: argparse.Namespace) -> str | None:
    if not options.probe and (options.to is not None or options.check_sender):
        return "--to and --check-sender go with --probe"
    return no_address(options.to)


VALIDATE: Final = Command(
    name="validate",
    summary="check manifests, without a cluster",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=_add_arguments,
    module="mailsettings.plugin.validate.run",
    complain=_complain,
)
