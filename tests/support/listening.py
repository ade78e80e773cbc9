"""Servers on free loopback ports whose connections end with them, whatever their clients do."""

import asyncio
import contextlib
import itertools
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final

LOOPBACK: Final = "127.0.0.1"

TURNS: Final = 5
"""Of the loop, within which an accepted connection has its transport, and an aborted one is closed."""

BACKLOG: Final = 128

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What a server does with one connection. It closes nothing; that the client has left is no error of it."""


FREE_PORTS: Final = range(20000, 32000)
"""No connection is given one of these: connections get ports above 32767 on Linux."""


def free_port() -> int:
    """A port on which nothing listens, and which this process has not been given before.

    Whoever asks listens there later, so a port must not be given twice meanwhile.
    """
    while True:
        with socket.socket() as holder, contextlib.suppress(OSError):
            holder.bind((LOOPBACK, port := next(_PORTS)))
            return port


def _ports() -> Iterator[int]:
    """In an order that begins elsewhere in each process, so that tests beside each other do not meet."""
    start = secrets.randbelow(len(FREE_PORTS))
    return itertools.cycle((*FREE_PORTS[start:], *FREE_PORTS[:start]))


_PORTS: Final = _ports()


class _Admission(asyncio.Protocol):
    """Notes a connection, and leaves it to its protocol."""

    def __init__(self, protocol: Callable[[], asyncio.BaseProtocol], admitted: set[asyncio.Transport]) -> None:
        self._protocol = protocol
        self._admitted = admitted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._admitted.add(transport)
        protocol = self._protocol()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


class _Listener:
    """Accepts connections, and knows those whose TLS is not there yet, which asyncio's own servers forget."""

    def __init__(self, protocol: Callable[[], asyncio.BaseProtocol], context: ssl.SSLContext | None) -> None:
        self._protocol = protocol
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._socket = socket.create_server((LOOPBACK, 0), backlog=BACKLOG)
        self._socket.setblocking(False)
        self._admitted: set[asyncio.Transport] = set()
        self._beginning: set[asyncio.Task[object]] = set()
        self._loop.add_reader(self._socket, self._accept)
        self.port: int = self._socket.getsockname()[1]

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = self._socket.accept()
            connection.setblocking(False)
            # As asyncio's own servers: else a reply waits for the acknowledgement of TLS session tickets, 40 ms.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task: asyncio.Task[object] = self._loop.create_task(self._begin(connection))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # The client has left, or speaks no TLS.
            await self._loop.connect_accepted_socket(
                lambda: _Admission(self._protocol, self._admitted), connection, ssl=self._context
            )

    async def close(self) -> None:
        """Ends every connection, whatever its client does."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        await self._turns()
        for task in self._beginning:
            task.cancel()
        for transport in self._admitted:
            transport.abort()
        await self._turns()  # asyncio closes the sockets of aborted connections in the loop's next turns

    async def _turns(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def listening(
    protocol: Callable[[], asyncio.BaseProtocol], *, context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serves every connection with a protocol of its own; gives the port.

    A client that has died, or does not answer the end of TLS, would keep its connection beyond the test's event loop,
    and asyncio warns of that in whichever test comes next.
    """
    listener = _Listener(protocol, context)
    try:
        yield listener.port
    finally:
        await listener.close()


@contextlib.asynccontextmanager
async def streams(serve: Serve, *, context: ssl.SSLContext | None = None, limit: int = 1 << 16) -> AsyncIterator[int]:
    """Serves every connection with a coroutine, which is cancelled at the end; gives the port.

    Args:
        serve: What is done with a connection, which is over when it returns.
        context: Speaks TLS from the first byte.
        limit: The longest line that the reader takes, in bytes.
    """
    tasks: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = loop.create_task(conversation(reader, writer))
        tasks.add(task)

    def protocol() -> asyncio.BaseProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit, loop), connected, loop)

    async with listening(protocol, context=context) as port:
        try:
            yield port
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
