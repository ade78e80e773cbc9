"""Does what `authorize` was asked for."""

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from mailsettings.api import names
from mailsettings.api.grants import Grant
from mailsettings.core.oauth2.consent import ConsentResult
from mailsettings.edges.consents import ConsentStore
from mailsettings.edges.kubernetes import settings_path
from mailsettings.plugin.advice import Known, in_cluster, known_of_cluster, message_lines
from mailsettings.plugin.authorize.browser import has_browser, open_browser
from mailsettings.plugin.authorize.flow import Attempt, Means, Patience
from mailsettings.plugin.authorize.loopback import listen
from mailsettings.plugin.authorize.target import Target, target_of, title_of
from mailsettings.plugin.command import FAILURE, SUCCESS, CommandError
from mailsettings.plugin.connection import Connection, connected, not_found, told
from mailsettings.plugin.signals import ended_by_signals
from mailsettings.plugin.terminal import Style, Terminal

_HTTP_PORT: Final = 80
_STDIN: Final = 0


def run(options: argparse.Namespace) -> int:
    """Runs the command; the exit status."""
    terminal = Terminal.standard()
    try:
        target, result = asyncio.run(_main(options, terminal))
    except CommandError as error:
        return _fail(options, terminal, in_cluster(error, options))
    except (asyncio.CancelledError, KeyboardInterrupt):
        return _fail(options, terminal, CommandError("Interrupted", "Interrupted; nothing was authorized."))
    if options.output is not None:
        terminal.tell_object(_document(result), options.output)
    else:
        _tell(terminal, {**target.known, **known_of_cluster(options)}, result)
    return SUCCESS if result.authorized else FAILURE


def _tell(terminal: Terminal, known: Known, result: ConsentResult) -> None:
    style = Style.GOOD if result.authorized else Style.BAD
    for line in message_lines(result.reason, result.message, known):
        terminal.tell(line, None if line.startswith(" ") else style)


def _fail(options: argparse.Namespace, terminal: Terminal, error: CommandError) -> int:
    terminal.complain(error.reason, error.message, error.commands)
    if options.output is not None:
        result = ConsentResult(authorized=False, reason=error.reason, message=error.said)
        terminal.tell_object(_document(result), options.output)
    return FAILURE


def _document(result: ConsentResult) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(result.text())
    return document


async def authorize(
    options: argparse.Namespace, terminal: Terminal, patience: Patience
) -> tuple[Target, ConsentResult]:
    """Asks for the consent that the options name; for what, and the result.

    Raises:
        CommandError: There is no result.
    """
    async with connected(options) as connection:
        target = await _target(connection, options)
        terminal.say(f"Consent for {target.title}", Style.STRONG)
        terminal.say(f"  mail account: {target.account}")
        terminal.say(f"  provider:     {target.provider}")
        with _means(options, target) as means:
            attempt = Attempt(
                ConsentStore(connection.api, options.operator_namespace),
                target.namespace or options.operator_namespace,
                target,
                means,
                terminal,
                patience=patience,
                operator_namespace=options.operator_namespace,
                known=known_of_cluster(options),
            )
            return target, await attempt.run()


async def _main(options: argparse.Namespace, terminal: Terminal) -> tuple[Target, ConsentResult]:
    with ended_by_signals():
        return await authorize(options, terminal, _patience(options.timeout))


def _patience(timeout: timedelta | None) -> Patience:
    return Patience() if timeout is None else Patience(total=timeout)


async def _target(connection: Connection, options: argparse.Namespace) -> Target:
    if options.cluster:
        kind, namespace, name = names.CLUSTER_KIND, "", options.name or names.DEFAULT_SETTINGS
    else:
        kind, namespace, name = names.TENANT_KIND, options.namespace or connection.namespace, options.name
    title = title_of(kind, namespace, name)
    with told(f"read {title}"):
        document = await connection.api.get(settings_path(kind, namespace, name))
    if document is None:
        raise not_found(kind, namespace, name)
    return target_of(document)


@contextlib.contextmanager
def _means(options: argparse.Namespace, target: Target) -> Iterator[Means]:
    browser = open_browser if not options.no_browser and has_browser(os.environ, sys.platform) else None
    if target.grant is Grant.DEVICE_CODE:
        yield Means("", None, _STDIN, browser)
    elif options.paste:
        yield Means(_pasted_uri(options, target), None, _STDIN, browser)
    else:
        port = urlsplit(options.redirect_uri).port or _HTTP_PORT if options.redirect_uri else options.port
        with contextlib.closing(listen(port)) as listener:
            yield Means(options.redirect_uri or target.redirect_uri(listener.port), listener, _STDIN, browser)


def _pasted_uri(options: argparse.Namespace, target: Target) -> str:
    """Any port will do that nobody listens on."""
    if options.redirect_uri:
        return str(options.redirect_uri)
    if options.port:
        return target.redirect_uri(options.port)
    with contextlib.closing(listen(None)) as free:
        return target.redirect_uri(free.port)
