"""One client's connection: octets in and out, with bounds on what waits in between."""

import asyncio
import ssl
from typing import Final, cast

HIGH_WATER_OCTETS: Final = 64 * 1024
"""More than this is not read ahead, nor kept to be written."""

CLOSE_WITHIN_S: Final = 5.0
"""For the last reply to be read."""


class ClientGoneError(Exception):
    """The client has ended the connection, or takes too long."""


class Interrupted(Exception):  # noqa: N818 - it is no error
    """The relay wants to stop, and the client has said nothing meanwhile."""


class Channel(asyncio.Protocol):
    """A connection, for one reader."""

    def __init__(self) -> None:
        """Not connected yet."""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._reading = True
        self._ended = False
        self._interrupted = False
        self._end: asyncio.TimerHandle | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands; behind TLS it does so once more."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(HIGH_WATER_OCTETS)

    def data_received(self, data: bytes) -> None:
        """Octets have come."""
        self._buffer += data
        if len(self._buffer) > HIGH_WATER_OCTETS and self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """The client sends no more."""
        self._ended = True
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's interface
        """The connection is over."""
        self._ended = True
        if self._end is not None:
            self._end.cancel()
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Too much waits to be written."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """There is room again."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    # The session's side

    @property
    def source(self) -> str:
        """The client's address; empty where it is gone already."""
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(name[0]) if name else ""

    def interrupt(self) -> None:
        """Has the reader stop waiting, once."""
        self._interrupted = True
        self._wake()

    async def read(self, within_s: float) -> bytes:
        """What has come, at least one octet.

        Raises:
            ClientGoneError: The client has ended the connection.
            TimeoutError: Nothing has come.
            Interrupted: `interrupt` was called.
        """
        if not self._buffer and not self._ended and not self._interrupted:
            self._arrived = self._loop.create_future()
            timer = self._loop.call_later(max(0.0, within_s), self._wake)
            try:
                await self._arrived
            finally:
                timer.cancel()
                self._arrived = None
        if self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            if not self._reading and self._transport is not None and not self._transport.is_closing():
                self._reading = True
                self._transport.resume_reading()
            return data
        if self._ended:
            raise ClientGoneError
        if self._interrupted:
            self._interrupted = False
            raise Interrupted
        raise TimeoutError

    def write(self, data: bytes) -> None:
        """Begins to write."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self, within_s: float) -> None:
        """Waits until not too much waits to be written.

        Raises:
            ClientGoneError: The client does not read.
        """
        if self._writable is None:
            return
        try:
            async with asyncio.timeout(within_s):
                await asyncio.shield(self._writable)
        except TimeoutError:
            raise ClientGoneError from None

    async def start_tls(self, context: ssl.SSLContext, within_s: float) -> None:
        """Turns to TLS.

        Raises:
            ClientGoneError: The handshake failed, or the client sent something in the clear that was not asked for.
        """
        if self._transport is None or self._transport.is_closing() or self._buffer:
            raise ClientGoneError
        try:
            transport = await self._loop.start_tls(
                self._transport, self, context, server_side=True, ssl_handshake_timeout=within_s
            )
        except OSError:
            raise ClientGoneError from None
        if transport is None:
            raise ClientGoneError
        self.connection_made(transport)

    def close(self) -> None:
        """Ends the connection when all is written, or soon: the client may not read."""
        if self._transport is not None and not self._ended:
            self._transport.close()
            self._end = self._loop.call_later(CLOSE_WITHIN_S, self._transport.abort)

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()
