"""The command line of `authorize`."""

import argparse
from typing import Final

from mailsettings.plugin.command import (
    PROGRAM,
    Command,
    add_cluster_options,
    add_operator_namespace_option,
    add_output_option,
    add_target_options,
    duration,
    name_is_missing,
)

DESCRIPTION: Final = """\
Asks you to log in at the provider and to consent, so that the operator can get
tokens for settings with grant AuthorizationCode or DeviceCode.

It prints an address, opens it in your browser, and takes the answer at a port
of this machine; with --paste you paste the address that the browser ends at,
which is what to do on a remote shell. You need the rights to read the settings,
and to get, create, patch and delete Secrets beside them (with --cluster: in the
operator's namespace). Tokens never come to this machine."""

EPILOG: Final = f"""\
examples:
  # a tenant's settings, in the context's namespace or another one
  {PROGRAM} authorize mail
  {PROGRAM} authorize mail -n shop

  # the system's settings, which tenants inherit
  {PROGRAM} authorize --cluster default

  # on a machine without a browser: open the address elsewhere, paste the answer
  {PROGRAM} authorize mail --paste

  # where the provider compares the redirect URI with its port
  {PROGRAM} authorize mail --port 8400
  {PROGRAM} authorize mail --redirect-uri http://localhost:8400/cb

  # for a script
  {PROGRAM} authorize mail --no-browser --timeout 5m -o json

exit status: 0 authorized; 1 not; 2 usage"""


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port: write a number from 1 to 65535")


def _loopback_uri(text: str) -> str:
    from mailsettings.core.oauth2.consent import is_loopback  # noqa: PLC0415 - help needs to be there at once

    if not is_loopback(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} does not lead to this machine: write http:// and localhost, 127.0.0.1 or [::1]"
        )
    return text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target_options(parser)
    parser.add_argument("--paste", action="store_true", help="paste the browser's last address, without a port here")
    parser.add_argument("--no-browser", action="store_true", help="print the address only")
    redirect = parser.add_mutually_exclusive_group()
    redirect.add_argument("--port", type=_port, metavar="N", help="where the answer is taken (default: a free port)")
    redirect.add_argument(
        "--redirect-uri",
        type=_loopback_uri,
        metavar="URI",
        help="the one that the provider knows (default: http://localhost:PORT for Office365, else "
        "http://127.0.0.1:PORT)",
    )
    parser.add_argument(
        "--timeout", type=duration, metavar="DURATION", help="give up after so long, such as 90s (default: 12m)"
    )
    add_operator_namespace_option(parser)
    add_cluster_options(parser)
    add_output_option(parser, "json", "yaml")


AUTHORIZE: Final = Command(
    name="authorize",
    summary="consent at a provider, so that the operator can get tokens",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=_add_arguments,
    module="mailsettings.plugin.authorize.run",
    complain=name_is_missing,
)
