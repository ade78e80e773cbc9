"""Clients of a submission server: how many mails they get through, and how long each takes."""

import asyncio
import base64
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.errors import BenchError
from tests.support.listening import LOOPBACK

SENDER: Final = "no-reply@acme.example"
WITHIN_S: Final = 60.0
"""For one reply, whatever else the machine does."""
OCTETS: Final = 2048
"""Of a mail."""


def _mail() -> bytes:
    header = f"From: {SENDER}\r\nTo: ops@acme.example\r\nSubject: hello\r\n\r\n".encode()
    line = b"x" * 76 + b"\r\n"
    return header + line * ((OCTETS - len(header)) // len(line)) + b".\r\n"


MAIL: Final = _mail()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to send, by STARTTLS, and as whom."""

    name: str
    port: int
    trust: ssl.SSLContext
    logins: Sequence[tuple[str, str]] = field(repr=False)
    """User names and passwords, for one client after the other."""


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def say(self, data: bytes, code: bytes) -> None:
        """Sends, and waits for this reply.

        Raises:
            BenchError: There is another one, or none.
        """
        self._writer.write(data)
        await self.expect(code)

    async def expect(self, code: bytes) -> None:
        """Waits for this reply.

        Raises:
            BenchError: There is another one, or none.
        """
        async with asyncio.timeout(WITHIN_S):
            while (line := await self._reader.readline())[3:4] == b"-":
                pass
        if not line.startswith(code):
            raise BenchError(f"{line!r} instead of {code!r}")

    async def start_tls(self, trust: ssl.SSLContext) -> None:
        """Goes on in TLS."""
        await self.say(b"STARTTLS\r\n", b"220")
        await self._writer.start_tls(trust, server_hostname=LOOPBACK)

    async def send(self) -> None:
        """One mail."""
        await self.say(f"MAIL FROM:<{SENDER}>\r\n".encode(), b"250")
        await self.say(b"RCPT TO:<ops@acme.example>\r\n", b"250")
        await self.say(b"DATA\r\n", b"354")
        await self.say(MAIL, b"250")

    def abort(self) -> None:
        """Ends it."""
        self._writer.transport.abort()


@contextlib.asynccontextmanager
async def connected(to: Endpoint, number: int) -> AsyncIterator[Client]:
    """A client that has logged in, with one of the logins."""
    username, password = to.logins[number % len(to.logins)]
    client = Client(*await asyncio.open_connection(LOOPBACK, to.port))
    try:
        await client.expect(b"220")
        await client.say(b"EHLO app\r\n", b"250")
        await client.start_tls(to.trust)
        await client.say(b"EHLO app\r\n", b"250")
        login = base64.b64encode(f"\0{username}\0{password}".encode())
        await client.say(b"AUTH PLAIN " + login + b"\r\n", b"235")
        yield client
    finally:
        client.abort()


async def rate(to: Endpoint, clients: int, seconds: float, *, reuse: bool) -> float:
    """Mails a second of so many clients, each of which sends one after the other.

    Args:
        to: Where.
        clients: How many at a time.
        seconds: How long.
        reuse: Whether each has one connection for all of its mails, which stands before the time runs; otherwise each
            mail has one.
    """
    return await (_rate_reusing if reuse else _rate_connecting)(to, clients, seconds)


async def _rate_reusing(to: Endpoint, clients: int, seconds: float) -> float:
    async with contextlib.AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connected(to, number)) for number in range(clients)]
        began = time.perf_counter()

        async def work(client: Client) -> int:
            sent = 0
            while time.perf_counter() < began + seconds:
                await client.send()
                sent += 1
            return sent

        sent = await asyncio.gather(*map(work, connections))
        return sum(sent) / (time.perf_counter() - began)


async def _rate_connecting(to: Endpoint, clients: int, seconds: float) -> float:
    began = time.perf_counter()

    async def work(number: int) -> int:
        sent = 0
        while time.perf_counter() < began + seconds:
            async with connected(to, number) as client:
                await client.send()
            sent += 1
        return sent

    sent = await asyncio.gather(*(work(number) for number in range(clients)))
    return sum(sent) / (time.perf_counter() - began)


async def send_many(to: Endpoint, clients: int, mails: int, per_connection: int) -> None:
    """Sends so many mails, as fast as can be, over connections that end after a while."""
    left = iter(range(mails))

    async def work(number: int) -> None:
        for _ in left:
            async with connected(to, number) as client:
                await client.send()
                for _ in zip(range(per_connection - 1), left, strict=False):
                    await client.send()

    await asyncio.gather(*(work(number) for number in range(clients)))


async def times_at(to: Endpoint, clients: int, seconds: float, rate: float) -> list[float]:
    """How long mails take that are due at a steady rate, each in seconds from when it is due.

    Args:
        to: Where.
        clients: How many connections there are; a mail waits for one if all are busy.
        seconds: How long.
        rate: Mails a second.
    """
    async with contextlib.AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connected(to, number)) for number in range(clients)]
        began = time.perf_counter()
        due = (began + number / rate for number in range(int(rate * seconds)))
        took: list[float] = []

        async def work(client: Client) -> None:
            for when in due:
                await asyncio.sleep(when - time.perf_counter())
                await client.send()
                took.append(time.perf_counter() - when)

        await asyncio.gather(*map(work, connections))
        return took
