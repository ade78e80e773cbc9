"""The relay as a process: one replica, with its bundles in a folder or in the cluster."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from mailsettings.api import names
from mailsettings.core.egress import EgressPolicy
from mailsettings.edges.health import Health
from mailsettings.edges.kubernetes import Access, KubernetesApi
from mailsettings.edges.relay.kubernetes import Replicas, SecretBundles, SecretTokens, TokenReviewer
from mailsettings.edges.relay.local import (
    LOGGER,
    FolderBundles,
    LocalRates,
    LogSink,
    NoReviewer,
    NoTokens,
    Sinks,
    UnsharedSlots,
)
from mailsettings.edges.relay.metrics import Metrics
from mailsettings.edges.relay.server import Certificate, Options, Parts, Relay
from mailsettings.edges.relay_reports import Replica, Reporter
from mailsettings.edges.slots import LeasedSlots


@dataclass(frozen=True, slots=True)
class Listener:
    """Where to take connections."""

    host: str
    port: int
    implicit_tls: bool


@dataclass(frozen=True, slots=True)
class BundleSecrets:
    """Bundles in a cluster."""

    namespace: str
    access: Callable[[], Awaitable[Access]]
    """Gives the way to the API server."""
    replica: Replica
    """Who takes slots and reports."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where what the relay reads is, and where it listens."""

    bundles: Path | BundleSecrets
    """A folder, or Secrets."""
    chain: Path
    """The certificate and its chain, PEM."""
    key: Path
    listeners: Sequence[Listener]
    liveness: str | None = None
    """Where health is answered, such as `http://0.0.0.0:8080/healthz`, and beside it `/readyz` and `/metrics`."""


async def run(place: Place, egress: EgressPolicy, options: Options) -> None:
    """Runs the relay until SIGTERM or SIGINT, and finishes what has been begun.

    Args:
        place: Where everything is.
        egress: Where mail servers may be.
        options: How it is set up.

    Raises:
        OSError: The certificate cannot be read, or an address is taken.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if isinstance(place.bundles, Path):
        folder = FolderBundles(place.bundles)
        await asyncio.to_thread(folder.load)
        metrics = Metrics()
        sink = Sinks(LogSink(), metrics)
        parts = Parts(folder, egress, NoTokens(), NoReviewer(), UnsharedSlots(), LocalRates(), sink)
        await _serve(place, parts, options, [folder.keep_loaded()], metrics, stopped)
        return
    async with KubernetesApi(await place.bundles.access(), field_manager=names.RELAY_FIELD_MANAGER) as api:
        replica, namespace = place.bundles.replica, place.bundles.namespace
        bundles = SecretBundles(api, namespace)
        slots = LeasedSlots(api, namespace, holder=f"{replica.name}_{uuid4().hex}", logger=LOGGER)
        reporter = Reporter(api, namespace, replica, LOGGER)
        replicas = Replicas(api, namespace)
        rates = LocalRates(lambda: replicas.ready)
        tokens = SecretTokens(bundles, reporter.token_refused)
        metrics = Metrics()
        metrics.watch("slots", "Connections that the replica holds the right to, where providers count.", slots.count)
        sink = Sinks(LogSink(), reporter, metrics)
        parts = Parts(bundles, egress, tokens, TokenReviewer(api), slots, rates, sink)
        try:
            watching = [bundles.keep_loaded(), replicas.keep_counted(), reporter.keep_written()]
            await _serve(place, parts, options, watching, metrics, stopped, [bundles.listed, replicas.counted])
        finally:
            await slots.close()


async def _serve(
    place: Place,
    parts: Parts,
    options: Options,
    watching: Sequence[Coroutine[None, None, None]],
    metrics: Metrics,
    stopped: asyncio.Event,
    wanted: Sequence[asyncio.Event] = (),
) -> None:
    """Serves until `stopped`, from when all that is `wanted` has come, with `watching` beside it."""
    certificate = Certificate(place.chain, place.key)
    relay = Relay(parts, lambda: certificate.context, options)
    loop = asyncio.get_running_loop()
    metrics.watch("clients", "Clients that are connected.", lambda: relay.connections)
    metrics.watch("upstream_connections", "Connections to mail servers.", lambda: relay.pools.connections)
    watches = [loop.create_task(each) for each in (*watching, certificate.keep_loaded())]
    try:
        async with Health(place.liveness, lambda: relay.is_listening, metrics.page):
            if await all_before(wanted, stopped):
                await _listen(relay, place.listeners, stopped)
    finally:
        for watch in watches:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch


async def _listen(relay: Relay, listeners: Sequence[Listener], stopped: asyncio.Event) -> None:
    """Takes connections until `stopped`, and finishes what has been begun."""
    try:
        for listener in listeners:
            port = await relay.listen(listener.host, listener.port, implicit_tls=listener.implicit_tls)
            LOGGER.info("listening on %s port %d%s", listener.host, port, ", TLS" if listener.implicit_tls else "")
        await stopped.wait()
    finally:
        await relay.close()


async def all_before(wanted: Sequence[asyncio.Event], stopped: asyncio.Event) -> bool:
    """Whether all events come before the one that ends the wait."""
    for each in wanted:
        if not await _first(each, stopped):
            return False
    return not stopped.is_set()


async def _first(wanted: asyncio.Event, stopped: asyncio.Event) -> bool:
    """Whether the first event comes before the second."""
    waits = [asyncio.ensure_future(event.wait()) for event in (wanted, stopped)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return not stopped.is_set()
