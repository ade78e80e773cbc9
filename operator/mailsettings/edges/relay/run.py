"""The relay as a process: one replica, with its bundles in a folder."""

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mailsettings.core.egress import EgressPolicy
from mailsettings.edges.relay.local import (
    LOGGER,
    FolderBundles,
    LogSink,
    NoReviewer,
    NoTokens,
    UnsharedRates,
    UnsharedSlots,
)
from mailsettings.edges.relay.server import Certificate, Options, Parts, Relay


@dataclass(frozen=True, slots=True)
class Listener:
    """Where to take connections."""

    host: str
    port: int
    implicit_tls: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where what the relay reads is, and where it listens."""

    bundles: Path
    """A folder."""
    chain: Path
    """The certificate and its chain, PEM."""
    key: Path
    listeners: Sequence[Listener]


async def run(place: Place, egress: EgressPolicy, options: Options) -> None:
    """Runs the relay until SIGTERM or SIGINT, and finishes what has been begun.

    Args:
        place: Where everything is.
        egress: Where mail servers may be.
        options: How it is set up.

    Raises:
        OSError: The certificate cannot be read, or an address is taken.
    """
    certificate = Certificate(place.chain, place.key)
    bundles = FolderBundles(place.bundles)
    await asyncio.to_thread(bundles.load)
    parts = Parts(bundles, egress, NoTokens(), NoReviewer(), UnsharedSlots(), UnsharedRates(), LogSink())
    relay = Relay(parts, certificate.context, options)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    watches = [loop.create_task(bundles.keep_loaded()), loop.create_task(certificate.keep_loaded())]
    try:
        for listener in place.listeners:
            port = await relay.listen(listener.host, listener.port, implicit_tls=listener.implicit_tls)
            LOGGER.info("listening on %s port %d%s", listener.host, port, ", TLS" if listener.implicit_tls else "")
        await stopped.wait()
    finally:
        await relay.close()
        for watch in watches:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
