"""The command line of `import`."""

import argparse
from typing import Final

from mailsettings.api import names
from mailsettings.plugin.command import PROGRAM, Command

SOURCES: Final = ("thingsboard",)
DESCRIPTION: Final = """\
Makes manifests out of mail settings of ThingsBoard: of what
GET /api/admin/settings/mail answers, or of its jsonValue alone. They go to
standard output, with passwords in a Secret and nowhere else; what could not be
carried over, and what is left to do, goes to standard error. The result is
judged like validate judges it."""

EPILOG: Final = f"""\
examples:
  # the settings of a tenant, in the namespace shop
  {PROGRAM} import --from thingsboard mail.json -n shop > shop.yaml

  # those of the system administrator, which tenants inherit
  {PROGRAM} import --from thingsboard mail.json --cluster > a.yaml

  # what another program gives, under another name
  {PROGRAM} import --from thingsboard - --name notifications

exit status: 0 made; 1 made, but the API server would refuse it, or not
made; 2 usage, or an unreadable file"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="JSON, or - for standard input")
    parser.add_argument("--from", dest="source", choices=SOURCES, required=True, help="whose settings they are")
    parser.add_argument("--name", help="of the settings (default: mail, with --cluster: default)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-n", "--namespace", help="of the objects (default: none, so that whoever applies them decides)")
    where.add_argument("--cluster", action="store_true", help="make a ClusterMailServerSettings")
    parser.add_argument(
        "--operator-namespace",
        default=names.OPERATOR_NAMESPACE,
        metavar="NAMESPACE",
        help="where the Secret of a ClusterMailServerSettings goes (default: %(default)s)",
    )


IMPORT: Final = Command(
    name="import",
    summary="make manifests out of ThingsBoard's mail settings",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=_add_arguments,
    module="mailsettings.plugin.imports.run",
)
