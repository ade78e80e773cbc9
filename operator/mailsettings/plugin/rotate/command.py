"""The command line of `rotate`."""

import argparse
from datetime import timedelta
from typing import Final

from mailsettings.plugin.command import (
    PROGRAM,
    Command,
    add_cluster_options,
    add_output_option,
    add_target_options,
    add_timeout_option,
    name_is_missing,
)

DEFAULT_TIMEOUT: Final = timedelta(seconds=60)

DESCRIPTION: Final = """\
Has the operator get a new access token now, ahead of its time, and waits until
it is there: to try a new client secret, or after a token has got out.
Applications get the new token in their Secret. The old one ends when it runs
out, or as the provider has it.

Settings that the relay sends for get a new password there, too; the old one
holds another 24 hours.

You need the right to patch the settings; the operator does the work."""

EPILOG: Final = f"""\
examples:
  # a tenant's settings, in the context's namespace or another one
  {PROGRAM} rotate mail
  {PROGRAM} rotate mail -n shop

  # the system's settings, with one token for all tenants that inherit
  {PROGRAM} rotate --cluster default

  # for a script
  {PROGRAM} rotate mail --timeout 2m -o json

exit status: 0 renewed; 1 not; 2 usage"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target_options(parser)
    add_timeout_option(parser, DEFAULT_TIMEOUT, "60s")
    add_cluster_options(parser)
    add_output_option(parser, "json", "yaml")


ROTATE: Final = Command(
    name="rotate",
    summary="have an OAuth2 token or a password at the relay renewed now",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=_add_arguments,
    module="mailsettings.plugin.rotate.run",
    complain=name_is_missing,
)
