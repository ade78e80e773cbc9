"""A connection, to a client or a mail server: octets in and out, with bounds on what waits in between."""

import asyncio
import contextlib
import ssl
from asyncio import sslproto
from collections.abc import Callable
from typing import Final, cast

HIGH_WATER_OCTETS: Final = 64 * 1024
"""More than this is not read ahead, nor kept to be written."""

CLOSE_WITHIN_S: Final = 5.0
"""For the last reply to be read."""

TLS_RECORD_OCTETS: Final = 16 * 1024
"""No record of TLS has more (RFC 8446 §5.1)."""

# asyncio keeps a buffer of this size for each TLS connection, and nobody fills one of 256 KB. There are up to 2,000
# connections.
sslproto.SSLProtocol.max_size = TLS_RECORD_OCTETS


class PeerGoneError(Exception):
    """The other side has ended the connection, or takes too long."""


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
        self._lost = asyncio.Event()
        self._interrupted = False
        self._end: asyncio.TimerHandle | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._read_by_s = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._writable: asyncio.Future[None] | None = None
        self._heard: asyncio.Future[None] | None = None
        self.when_heard: Callable[[], None] = lambda: None
        """Is told whenever octets have come, or the end."""

    @classmethod
    def over(cls, transport: asyncio.Transport) -> "Channel":
        """Takes a connection that stands from whoever has it."""
        channel = cls()
        transport.set_protocol(channel)
        channel.connection_made(transport)
        return channel

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands; behind TLS it does so once more."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(HIGH_WATER_OCTETS)
        if isinstance(transport, sslproto._SSLProtocolTransport):  # noqa: SLF001 - it has no public name
            # Otherwise it keeps 256 KB of what has not been decrypted, beside what is not read ahead here.
            transport.set_read_buffer_limits(TLS_RECORD_OCTETS)

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
        self._lost.set()
        for timer in (self._end, self._alarm):
            if timer is not None:
                timer.cancel()
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
        for waiting in (self._arrived, self._heard):
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
        self.when_heard()

    # The session's side

    @property
    def source(self) -> str:
        """The client's address; empty where it is gone already."""
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(name[0]) if name else ""

    @property
    def is_open(self) -> bool:
        """Whether the other side seems to be there."""
        return not self._ended and self._transport is not None and not self._transport.is_closing()

    @property
    def has_arrived(self) -> bool:
        """Whether there is something to be read at once."""
        return bool(self._buffer)

    def interrupt(self) -> None:
        """Has the reader stop waiting, once."""
        self._interrupted = True
        self._wake()

    async def read(self, within_s: float) -> bytes:
        """What has come, at least one octet.

        Raises:
            PeerGoneError: The client has ended the connection.
            TimeoutError: Nothing has come.
            Interrupted: `interrupt` was called.
        """
        if not self._buffer and not self._ended and not self._interrupted:
            self._arrived = self._loop.create_future()
            self._wake_at(self._loop.time() + within_s)
            try:
                await self._arrived
            finally:
                self._arrived = None
        if self._buffer:
            return self.take()
        if self._ended:
            raise PeerGoneError
        if self._interrupted:
            self._interrupted = False
            raise Interrupted
        raise TimeoutError

    def take(self) -> bytes:
        """What has come, which may be nothing."""
        data = bytes(self._buffer)
        self._buffer.clear()
        if not self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()
        return data

    def _wake_at(self, time_s: float) -> None:
        """Has the reader wait no longer than that.

        An alarm that is set too early is set anew when it comes: most reads are over long before, and would each have
        set one for nothing.
        """
        self._read_by_s = time_s
        if self._alarm is not None:
            if self._alarm.when() <= time_s:
                return
            self._alarm.cancel()
        self._alarm = self._loop.call_at(time_s, self._alarmed)

    def _alarmed(self) -> None:
        self._alarm = None
        if self._arrived is None:
            return
        if self._loop.time() < self._read_by_s:
            self._wake_at(self._read_by_s)
        else:
            self._wake()

    def write(self, data: bytes) -> None:
        """Begins to write."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self, within_s: float) -> None:
        """Waits until not too much waits to be written.

        Raises:
            PeerGoneError: The other side does not read.
        """
        if self._writable is None:
            return
        try:
            async with asyncio.timeout(within_s):
                await asyncio.shield(self._writable)
        except TimeoutError:
            raise PeerGoneError from None

    async def drained_before_heard(self, within_s: float) -> bool:
        """Waits until not too much waits to be written; False: the other side has said something before, or ended.

        Raises:
            PeerGoneError: It does not read.
        """
        if self._writable is None:
            return True
        if self._buffer or self._ended:
            return False
        self._heard = heard = self._loop.create_future()
        try:
            done, _ = await asyncio.wait({heard, self._writable}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._heard = None
            heard.cancel()
        if not done:
            raise PeerGoneError
        return heard not in done

    async def start_tls(self, context: ssl.SSLContext, within_s: float) -> None:
        """Turns to TLS.

        Raises:
            PeerGoneError: The handshake failed, or the client sent something in the clear that was not asked for.
        """
        if self._transport is None or self._transport.is_closing() or self._buffer:
            raise PeerGoneError
        try:
            transport = await self._loop.start_tls(
                self._transport, self, context, server_side=True, ssl_handshake_timeout=within_s
            )
        except OSError:
            self._give_up()
            raise PeerGoneError from None
        except BaseException:  # cancelled
            self._give_up()
            raise
        if transport is None:
            raise PeerGoneError
        self.connection_made(transport)

    def _give_up(self) -> None:
        """Of an end before TLS stands asyncio tells nobody."""
        self.abort()
        self._lost.set()

    def close(self) -> None:
        """Ends the connection when all is written, or soon: the client may not read, nor end its side of TLS."""
        if self._transport is not None and not self._lost.is_set():
            self._transport.close()
            self._end = self._loop.call_later(CLOSE_WITHIN_S, self._transport.abort)

    async def closed(self) -> None:
        """Waits until the connection is over, which it is soon after `close`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * CLOSE_WITHIN_S):
                await self._lost.wait()

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()
