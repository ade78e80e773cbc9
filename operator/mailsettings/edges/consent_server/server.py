"""Serves the consent pages until it is cancelled.

Anybody may connect, so nobody is let take much: one request for each connection, a limited time for it, a limited
number of connections, of which the oldest has to go.
"""

import asyncio
import logging
from typing import Final

from aiohttp import web

from mailsettings.edges.consent_server.app import HEADERS, MAX_HEADER_BYTES, refusal
from mailsettings.edges.errors import described

CONNECTION_S: Final = 30.0
"""From the connection's beginning to its end, whatever is sent or read how slowly."""

MAX_CONNECTIONS: Final = 256
MAX_HEADERS: Final = 64
LINGERING_S: Final = 2.0
SHUTDOWN_S: Final = 2.0


async def serve(
    application: web.Application,
    logger: logging.Logger,
    *,
    host: str,
    port: int,
    started: asyncio.Event,
    connection_s: float = CONNECTION_S,
    max_connections: int = MAX_CONNECTIONS,
) -> None:
    """Serves on one address.

    Args:
        application: What answers; each answer has to end its connection.
        logger: Is told what breaks, without anything of a request.
        host: The address to listen on.
        port: The port; 0: any that is free.
        started: Is set once it listens.
        connection_s: How many seconds a connection may last.
        max_connections: How many there may be at a time.

    Raises:
        OSError: The address cannot be listened on.
    """
    runner = web.AppRunner(application, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    loop = asyncio.get_running_loop()
    open_: dict[_Connection, asyncio.TimerHandle] = {}

    def connection() -> _Connection:
        assert runner.server is not None  # noqa: S101 - it is there from setup to cleanup
        return _Connection(runner.server, loop, logger, open_, seconds=connection_s, limit=max_connections)

    try:
        listening = await loop.create_server(connection, host, port)
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            listening.close()
    finally:
        await runner.cleanup()


class _Connection(web.RequestHandler):
    """One connection. Unlike aiohttp's own, it neither logs nor shows anything of a request that breaks."""

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        logger: logging.Logger,
        open_: "dict[_Connection, asyncio.TimerHandle]",
        *,
        seconds: float,
        limit: int,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # None is aiohttp's way of saying "none"; codes are in addresses
            keepalive_timeout=seconds,
            lingering_time=LINGERING_S,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )
        self._own_loop = loop
        self._own_logger = logger
        self._open = open_
        self._seconds = seconds
        self._limit = limit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Makes room for itself and sets its end."""
        super().connection_made(transport)
        if len(self._open) >= self._limit:
            next(iter(self._open)).abort()
        self._open[self] = self._own_loop.call_later(self._seconds, self.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Gives its place free."""
        self._forget()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Ends the connection at once, whatever is still to be sent."""
        self._forget()
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    def _forget(self) -> None:
        timer = self._open.pop(self, None)
        if timer is not None:
            timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Takes what has come; what aiohttp cannot even refuse ends the connection."""
        try:
            super().data_received(data)
        except Exception as error:  # noqa: BLE001 - asyncio would log it with its text
            self._own_logger.warning("the consent endpoint could not read a request: %s", described(error))
            self.abort()

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - aiohttp's signature
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """The page for a request that cannot be read; the errors of handlers do not come here."""
        response = refusal(status)
        response.headers.update(HEADERS)
        response.force_close()
        return response

    def log_exception(self, *_args: object, **options: object) -> None:
        """Says what broke in the server, not what was asked for."""
        error = options.get("exc_info")
        if isinstance(error, web.RequestPayloadError):
            return  # what is left of a body that its sender has broken; the answer is sent
        name = described(error) if isinstance(error, BaseException) else "an answer is missing"
        self._own_logger.error("the consent endpoint broke: %s", name)
