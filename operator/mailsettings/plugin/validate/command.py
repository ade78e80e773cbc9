"""The command line of `validate`."""

import argparse
from typing import Final

from mailsettings.plugin.command import PROGRAM, Command, add_output_option

DESCRIPTION: Final = """\
Checks MailServerSettings and ClusterMailServerSettings in manifests, by the
rules of the API server and without one. A field that does not exist is refused,
and what the operator would warn of is said, too. Other kinds are skipped.

What Secrets hold and whom a mail server lets in, only the cluster knows."""

EPILOG: Final = f"""\
examples:
  # a file, several, or a folder with all that is below it
  {PROGRAM} validate -f mail.yaml
  {PROGRAM} validate -f system.yaml -f tenants.yaml
  {PROGRAM} validate -R -f deploy

  # what another program makes, with the result for a third one
  kustomize build . | {PROGRAM} validate -f -
  {PROGRAM} validate -f - -o json

With -o json each problem is one line: an object with file, line, object, field,
severity (error or warning) and message.

exit status: 0 nothing but warnings; 1 errors; 2 usage, or unreadable files"""


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
    add_output_option(parser, "json")


VALIDATE: Final = Command(
    name="validate",
    summary="check manifests, without a cluster",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=_add_arguments,
    module="mailsettings.plugin.validate.run",
)
