"""Serves the consent pages until it is cancelled."""

import asyncio
from typing import Final

from aiohttp import web

from mailsettings.edges.consent_server.app import MAX_HEADER_BYTES

KEEP_ALIVE_S: Final = 15.0
SHUTDOWN_S: Final = 2.0


async def serve(application: web.Application, *, host: str, port: int, started: asyncio.Event) -> None:
    """Serves on one address.

    Args:
        application: What is served.
        host: The address to listen on.
        port: The port to listen on.
        started: Is set once it listens.

    Raises:
        OSError: The address cannot be listened on.
    """
    # No access log: the addresses hold codes and states.
    runner = web.AppRunner(
        application,
        access_log=None,
        keepalive_timeout=KEEP_ALIVE_S,
        shutdown_timeout=SHUTDOWN_S,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        started.set()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
