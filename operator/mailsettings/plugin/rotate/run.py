"""Does what `rotate` was asked for."""

import argparse
import asyncio
import json
from datetime import UTC, datetime
from typing import Final

from mailsettings.api import names
from mailsettings.edges.kubernetes import Json, KubernetesApi, settings_path
from mailsettings.plugin.authorize.target import title_of
from mailsettings.plugin.command import FAILURE, SUCCESS, CommandError
from mailsettings.plugin.connection import connected, told
from mailsettings.plugin.rotate.outcome import Outcome, check, outcome, title, unanswered
from mailsettings.plugin.terminal import Style, Terminal

POLL_S: Final = 0.5


def run(options: argparse.Namespace) -> int:
    """Runs the command; the exit status."""
    terminal = Terminal.standard()
    try:
        result = asyncio.run(_main(options, terminal))
    except CommandError as error:
        result = Outcome(renewed=False, reason=error.reason, message=error.message)
    except KeyboardInterrupt:
        message = "Interrupted; the request stays, and the operator goes on with it."
        result = Outcome(renewed=False, reason="Interrupted", message=message)
    text = f"{result.reason}: {result.message}"
    if not result.renewed:
        terminal.say_line(text, Style.BAD)
    elif options.output is None:
        terminal.tell(text, Style.GOOD)
    if options.output == "json":
        terminal.tell_document(json.dumps(result.document()))
    return SUCCESS if result.renewed else FAILURE


async def _main(options: argparse.Namespace, terminal: Terminal) -> Outcome:
    async with connected(options) as connection:
        if options.cluster:
            kind, namespace, name = names.CLUSTER_KIND, "", options.name or names.DEFAULT_SETTINGS
        else:
            kind, namespace, name = names.TENANT_KIND, options.namespace or connection.namespace, options.name
        path = settings_path(kind, namespace, name)
        document = await _read(connection.api, path, title_of(kind, namespace, name))
        check(document)
        request = datetime.now(UTC).isoformat(timespec="microseconds")
        patch = {
            "metadata": {
                "uid": document["metadata"]["uid"],
                "annotations": {names.ANNOTATION_ROTATE_REQUESTED_AT: request},
            }
        }
        with told(f"change {title(document)}"):
            document = await connection.api.merge(path, patch)
        terminal.tick(f"waiting for {title(document)}")
        return await _wait(connection.api, path, document, request, options.timeout.total_seconds())


async def _wait(api: KubernetesApi, path: str, document: Json, request: str, timeout_s: float) -> Outcome:
    name = title(document)
    try:
        async with asyncio.timeout(timeout_s):
            while (found := outcome(document, request)) is None:
                await asyncio.sleep(POLL_S)
                document = await _read(api, path, name)
            return found
    except TimeoutError:
        return unanswered(document, f"{timeout_s:g} s")


async def _read(api: KubernetesApi, path: str, name: str) -> Json:
    with told(f"read {name}"):
        document = await api.get(path)
    if document is None:
        raise CommandError("NotFound", f"There is no {name}.")
    return document
