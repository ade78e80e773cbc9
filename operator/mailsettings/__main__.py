"""The command line of the operator's image: run it, diagnose a failure, or render what is made from the code."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from mailsettings import diagnose
from mailsettings.config import PREFIX, Config
from mailsettings.core.documentation import DOCUMENTATION, publish

if TYPE_CHECKING:
    from mailsettings.edges.kubernetes import Access

DEFAULT_LIVENESS = "http://0.0.0.0:8080/healthz"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status."""
    options = _parser().parse_args(arguments)
    status: int = options.command(options)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mailsettings-operator",
        description="Kubernetes operator for mail-server settings.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run the operator until it is stopped",
        description="Runs the operator until SIGTERM or SIGINT, with the credentials of $KUBECONFIG, of the Pod's\n"
        "ServiceAccount, or of ~/.kube/config. It is configured by environment variables:\n\n" + _variables(),
        epilog="examples:\n"
        "  mailsettings-operator run\n"
        "  MAILSETTINGS_EGRESS_ALLOW='10.1.2.0/24' mailsettings-operator run --liveness none",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument(
        "--liveness",
        default=DEFAULT_LIVENESS,
        metavar="URL",
        help="where to answer liveness checks, and at /readyz beside it readiness checks; or 'none'\n"
        "(default: %(default)s)",
    )
    run.set_defaults(command=_run)
    relay = commands.add_parser(
        "relay",
        help="run one submission relay",
        description="Takes mail from clients that log in, and passes it on to the mail server of their bundle,\n"
        "until SIGTERM or SIGINT. Bundles are Secrets of a namespace, which the operator writes, or the files\n"
        "*.json of a folder; changed ones, and a changed certificate, are read without a restart.\n"
        "Of the variables of 'run' those of the egress policy, of the log level and of the Pod hold.",
        epilog="examples:\n"
        "  mailsettings-operator relay --namespace mailsettings-relay --certificate tls.crt --key tls.key\n"
        "  mailsettings-operator relay --bundles bundles --certificate tls.crt --key tls.key",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = relay.add_mutually_exclusive_group(required=True)
    source.add_argument("--namespace", help="where the bundles are as Secrets")
    source.add_argument("--bundles", type=Path, metavar="DIRECTORY", help="where the bundles are as files")
    relay.add_argument("--certificate", type=Path, required=True, metavar="FILE", help="the certificate, PEM")
    relay.add_argument("--key", type=Path, required=True, metavar="FILE", help="its key, PEM")
    relay.add_argument("--host", default="0.0.0.0", help="where to listen (default: %(default)s)")  # noqa: S104 - in a Pod
    relay.add_argument("--port", type=int, default=8587, help="for STARTTLS (default: %(default)s)")
    relay.add_argument("--tls-port", type=int, default=8465, metavar="PORT", help="for TLS (default: %(default)s)")
    relay.add_argument(
        "--liveness",
        default="none",
        metavar="URL",
        help="where to answer liveness checks, such as http://0.0.0.0:8080/healthz, and beside it readiness checks at\n"
        "/readyz and Prometheus at /metrics; or 'none' (default: %(default)s)",
    )
    relay.set_defaults(command=_relay)
    diagnosing = commands.add_parser(
        "diagnose",
        help=diagnose.SUMMARY,
        description=diagnose.DESCRIPTION,
        epilog=diagnose.EPILOG.format(program="mailsettings-operator"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    diagnose.add_arguments(diagnosing)
    diagnosing.set_defaults(command=_diagnose, parser=diagnosing)
    render = commands.add_parser(
        "render",
        help="write the CRDs and the documentation that is made from the code",
        description="Writes crds/, docs/reference.md, docs/troubleshooting.md and the admission policies that are\n"
        "made from the models.",
        epilog="examples:\n  python -m mailsettings render\n  python -m mailsettings render --check",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    render.add_argument("--root", type=Path, default=Path(), help="the repository's root (default: here)")
    render.add_argument("--check", action="store_true", help="write nothing; fail if anything would change")
    render.set_defaults(command=_render)
    return parser


def _variables() -> str:
    lines = []
    for name, field in Config.model_fields.items():
        lines.append(f"  {PREFIX}{name.upper()} (default: {field.default!r})")
        lines.append(f"      {' '.join((field.description or '').split())}")
    return "\n".join(lines)


def _config() -> Config | None:
    """The environment's; None: it cannot be used, and has been complained of."""
    try:
        config = Config.from_environment(os.environ)
        config.egress  # noqa: B018 - the policy is checked before anything starts
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            print(f"{PREFIX}{'.'.join(map(str, problem['loc'])).upper()}: {problem['msg']}", file=sys.stderr)  # noqa: T201
        return None
    except ValueError as error:
        print(f"{PREFIX}EGRESS_*: {error}", file=sys.stderr)  # noqa: T201
        return None
    DOCUMENTATION.url = config.docs_url
    return config


def _run(options: argparse.Namespace) -> int:
    from mailsettings.controller.leadership import LeaseLostError  # noqa: PLC0415 - kopf takes long to import
    from mailsettings.controller.logs import causes, set_up_logging  # noqa: PLC0415
    from mailsettings.controller.run import run  # noqa: PLC0415
    from mailsettings.edges.errors import described  # noqa: PLC0415

    config = _config()
    if config is None:
        return 2
    set_up_logging(config.log_level)
    liveness = None if options.liveness == "none" else options.liveness
    try:
        asyncio.run(run(config, liveness=liveness))
    except LeaseLostError:  # the log says why
        return 1
    except Exception as error:  # noqa: BLE001 - the last word of the process, whatever it is about
        for cause in causes(error):
            print(f"mailsettings-operator: {described(cause)}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _relay(options: argparse.Namespace) -> int:
    from mailsettings.edges.errors import described  # noqa: PLC0415
    from mailsettings.edges.relay import run as relay  # noqa: PLC0415
    from mailsettings.edges.relay.server import Options  # noqa: PLC0415
    from mailsettings.edges.relay_reports import Replica  # noqa: PLC0415

    config = _config()
    if config is None:
        return 2
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(message)s", level=logging.WARNING)
    logging.getLogger("mailsettings").setLevel(config.log_level)
    source = options.bundles
    if options.namespace:
        replica = Replica(config.pod_name or f"relay-{os.getpid()}", config.pod_uid)
        source = relay.BundleSecrets(options.namespace, _relay_access, replica)
    listeners = [
        relay.Listener(options.host, options.port, implicit_tls=False),
        relay.Listener(options.host, options.tls_port, implicit_tls=True),
    ]
    liveness = None if options.liveness == "none" else options.liveness
    place = relay.Place(source, options.certificate, options.key, listeners, liveness)
    try:
        asyncio.run(relay.run(place, config.egress, Options()))
    except OSError as error:
        print(f"mailsettings-operator: {described(error)}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


async def _relay_access() -> "Access":
    """By a kubeconfig where one is named, as on somebody's machine; else by the Pod's ServiceAccount.

    Raises:
        OSError: There are no credentials that can be used.
    """
    from mailsettings.edges.service_account import access_by_service_account  # noqa: PLC0415

    if not os.environ.get("KUBECONFIG"):
        return await access_by_service_account()
    from kubernetes.aio.config import ConfigException  # noqa: PLC0415 - a large library, which no Pod needs

    from mailsettings.edges.kubeconfig import access_by_kubeconfig  # noqa: PLC0415

    try:
        return await access_by_kubeconfig(os.environ["KUBECONFIG"])
    except ConfigException as error:
        raise OSError(f"the kubeconfig cannot be used: {error}") from None


def _diagnose(options: argparse.Namespace) -> int:
    complaint = diagnose.complain(options)
    if complaint is not None:
        options.parser.error(complaint)
    try:
        publish(os.environ)
    except ValueError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    return diagnose.run(options)


def _render(options: argparse.Namespace) -> int:
    from mailsettings.render import render  # noqa: PLC0415 - only this command needs it

    changed = render(options.root, check=options.check)
    for path in changed:
        print(f"{'differs from' if options.check else 'written:'} {path}")  # noqa: T201
    if options.check and changed:
        print("run: make crds", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
