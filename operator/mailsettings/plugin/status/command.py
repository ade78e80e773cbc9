"""The command line of `status`."""

import argparse
from typing import Final

from mailsettings.plugin.command import PROGRAM, Command, add_cluster_options, add_output_option

DESCRIPTION: Final = """\
Shows whether mail settings work, link by link: the system's settings, those of
the tenant, credentials, token, probe and the Secret of the application. The
link at which it fails is marked, with what happened and what to do.

Without NAME it shows all settings of the namespace, those that fail first, and
only these link by link, unless with -o wide. Commands that help stand on lines
of their own, with the names filled in. What you may not read is shown as
unknown. The content of Secrets is never read.

With NAME, what was said between the operator and the server is shown too where
a probe has failed, without logins and without the mail; with --dialogue also
where it has passed."""

EPILOG: Final = f"""\
examples:
  # all settings of the context's namespace, of another one, of the cluster
  {PROGRAM} status
  {PROGRAM} status -n shop
  {PROGRAM} status -A

  # one of them, link by link
  {PROGRAM} status mail -n shop

  # with what was said at the last probe, although it has passed
  {PROGRAM} status mail -n shop --dialogue

  # the system's settings
  {PROGRAM} status --cluster default

  # for a script
  {PROGRAM} status mail -o json

exit status: 0 everything is ready; 1 something is not; 2 usage"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of the settings (default: all of them)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-n", "--namespace", help="whose MailServerSettings (default: the context's)")
    where.add_argument("-A", "--all-namespaces", action="store_true", help="those of every namespace, and the system's")
    where.add_argument("--cluster", action="store_true", help="ClusterMailServerSettings")
    parser.add_argument("--dialogue", action="store_true", help="with what was said between operator and server")
    add_cluster_options(parser)
    add_output_option(
        parser, "wide", "json", "yaml", meaning="wide: every link also of what works; json, yaml: one document"
    )


def _complain(options: argparse.Namespace) -> str | None:
    if options.name is not None and options.all_namespaces:
        return "a name is of one namespace: say -n instead of -A"
    return None


STATUS: Final = Command(
    name="status",
    summary="show whether mail settings work, and where they fail",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=_add_arguments,
    module="mailsettings.plugin.status.run",
    complain=_complain,
)
