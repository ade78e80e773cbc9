"""Does what `rotate` was asked for."""

import argparse
import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mailsettings.api import names
from mailsettings.edges.kubernetes import Json, KubernetesApi, settings_path
from mailsettings.plugin.advice import Known, in_cluster, known_of, known_of_cluster
from mailsettings.plugin.authorize.target import title_of
from mailsettings.plugin.command import FAILURE, SUCCESS, CommandError
from mailsettings.plugin.connection import connected, not_found, told
from mailsettings.plugin.rotate.outcome import Outcome, check, outcome, title, unanswered
from mailsettings.plugin.terminal import Style, Terminal

POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the settings are."""

    kind: str
    namespace: str
    """Empty for a cluster object."""
    name: str

    @property
    def path(self) -> str:
        """On the API server."""
        return settings_path(self.kind, self.namespace, self.name)


def run(options: argparse.Namespace) -> int:
    """Runs the command; the exit status."""
    terminal = Terminal.standard()
    try:
        document, result = asyncio.run(_main(options, terminal))
    except CommandError as error:
        return _fail(options, terminal, in_cluster(error, options))
    except KeyboardInterrupt:
        message = "Interrupted; the request stays, and the operator goes on with it."
        return _fail(options, terminal, CommandError("Interrupted", message))
    if options.output is not None:
        terminal.tell_object(result.document(), options.output)
    else:
        _tell(terminal, {**known_of(document), **known_of_cluster(options)}, result)
    return SUCCESS if result.renewed else FAILURE


def _tell(terminal: Terminal, known: Known, result: Outcome) -> None:
    style = Style.GOOD if result.renewed else Style.BAD
    for line in result.lines(known):
        terminal.tell(line, None if line.startswith(" ") else style)


def _fail(options: argparse.Namespace, terminal: Terminal, error: CommandError) -> int:
    terminal.complain(error.reason, error.message, error.commands)
    if options.output is not None:
        result = Outcome(renewed=False, reason=error.reason, message=error.said)
        terminal.tell_object(result.document(), options.output)
    return FAILURE


async def _main(options: argparse.Namespace, terminal: Terminal) -> tuple[Json, Outcome]:
    async with connected(options) as connection:
        if options.cluster:
            place = _Place(names.CLUSTER_KIND, "", options.name or names.DEFAULT_SETTINGS)
        else:
            place = _Place(names.TENANT_KIND, options.namespace or connection.namespace, options.name)
        document = await _read(connection.api, place)
        check(document)
        request = datetime.now(UTC).isoformat(timespec="microseconds")
        patch = {
            "metadata": {
                "uid": document["metadata"]["uid"],
                "annotations": {names.ANNOTATION_ROTATE_REQUESTED_AT: request},
            }
        }
        with told(f"change {title(document)}"):
            document = await connection.api.merge(place.path, patch)
        terminal.tick(f"waiting for {title(document)}")
        return document, await _wait(connection.api, place, document, request, options.timeout.total_seconds())


async def _wait(api: KubernetesApi, place: _Place, document: Json, request: str, timeout_s: float) -> Outcome:
    try:
        async with asyncio.timeout(timeout_s):
            while (found := outcome(document, request)) is None:
                await asyncio.sleep(POLL_S)
                document = await _read(api, place)
            return found
    except TimeoutError:
        raise unanswered(document, f"{timeout_s:g} s") from None


async def _read(api: KubernetesApi, place: _Place) -> Json:
    with told(f"read {title_of(place.kind, place.namespace, place.name)}"):
        document = await api.get(place.path)
    if document is None:
        raise not_found(place.kind, place.namespace, place.name)
    return document
