"""What becomes of messages when a replica is killed, is stopped, or is left by its clients in the middle of them."""

import asyncio
import itertools
import random
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from dev.relay_process import RelayProcess
from tests.support.listening import LOOPBACK
from tests.support.relay import SENDER, RawClient, bundle, eventually, prepared
from tests.support.smtp_server import Certificate, MailServer, Peer, certificate, mail_server, say, scripted_server

WITHIN_S: Final = 120.0
"""For everything that one test waits for, on a machine that does other things too."""
CLIENTS: Final = 6
AFTER_THE_END: Final = 8
"""So many messages each client sends after a replica has been killed."""


@pytest.fixture
def own() -> Certificate:
    return certificate(LOOPBACK)


@pytest.fixture
def trust(own: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=own.ca_pem)


@contextmanager
def replicas(count: int, folder: Path, own: Certificate, port: int) -> Iterator[list[RelayProcess]]:
    """Processes that share a mail server; all are gone when the block ends."""
    started = [prepared(folder / f"{number}", own, bundle(port, connections=CLIENTS)) for number in range(count)]
    try:
        for relay in started:
            relay.start()
        yield started
    finally:
        for relay in started:
            relay.kill()


def message(number: int) -> bytes:
    """One that no other is like, with dots and long enough to be cut anywhere."""
    lines = random.Random(number).choices([b"", b".", b"..", b".x", b"x" * 990, b"line %d" % number], k=300)
    return b"From: %s\r\nSubject: %d\r\n\r\n%s\r\n" % (SENDER.encode(), number, b"\r\n".join(lines))


def stuffed(number: int) -> bytes:
    """As a client writes it. Source: RFC 5321 §4.5.2."""
    return message(number).replace(b"\r\n.", b"\r\n..")


@dataclass
class Journal:
    """What the clients have done, by the messages' numbers."""

    numbers: Iterator[int] = field(default_factory=itertools.count)
    accepted: set[int] = field(default_factory=set)
    """Answered 250."""
    unknown: set[int] = field(default_factory=set)
    """Ended by the client; the connection broke before the answer."""
    unended: set[int] = field(default_factory=set)
    """Never ended by the client."""

    def check(self, upstream: MailServer) -> None:
        """That nothing was lost, and nothing has come that was not sent like that."""
        arrived = {int(mail.message["Subject"]): mail.data for mail in upstream.mails}
        assert self.accepted <= arrived.keys() <= self.accepted | self.unknown
        assert {number for number, data in arrived.items() if data != message(number)} == set()
        assert len(upstream.mails) == len(arrived)


async def send(client: RawClient, journal: Journal, *, vanishes: bool = False) -> None:
    """Sends the next message; the connection may break. With `vanishes` the client leaves in the middle of it."""
    number = next(journal.numbers)
    octets = stuffed(number)
    middle = len(octets) // 2
    journal.unended.add(number)
    await client.begin()
    await client.send(octets[:middle])
    if vanishes:
        client.writer.transport.abort()
        return
    await client.send(octets[middle:])
    journal.unended.remove(number)
    journal.unknown.add(number)
    client.writer.write(b".\r\n")
    if (await client.reply()).startswith("250"):
        journal.unknown.remove(number)
        journal.accepted.add(number)


async def work(relays: list[RelayProcess], trust: ssl.SSLContext, journal: Journal, killed: asyncio.Event) -> None:
    """Sends one message after the other; every fourth connection is left in the middle of a message."""
    left = AFTER_THE_END
    for turn in itertools.count():
        alive = [relay for relay in relays if relay.is_running()]
        try:
            async with RawClient.at(alive[turn % len(alive)].tls_port, trust) as client:
                await client.log_in()
                await send(client, journal)
                await send(client, journal, vanishes=turn % 4 == 3)
        except (OSError, AssertionError):
            assert killed.is_set() or not all(relay.is_running() for relay in relays)
        left -= killed.is_set()
        if left == 0:
            return


async def test_a_killed_replica_loses_nothing_that_was_answered(
    tmp_path: Path, own: Certificate, trust: ssl.SSLContext
) -> None:
    journal, killed = Journal(), asyncio.Event()
    async with asyncio.timeout(WITHIN_S), mail_server(auth_without_tls=True) as upstream:
        with replicas(2, tmp_path, own, upstream.port) as relays:
            workers = [asyncio.ensure_future(work(relays, trust, journal, killed)) for _ in range(CLIENTS)]
            async with RawClient.at(relays[0].tls_port, trust) as waiting:
                await waiting.log_in()
                await waiting.begin()
                cut = next(journal.numbers)
                await waiting.send(stuffed(cut)[:5000])
                await eventually(lambda: len(journal.accepted) >= 4 * CLIENTS, WITHIN_S)
                relays[0].kill()
                killed.set()
                await asyncio.gather(*workers)
            assert await asyncio.to_thread(relays[1].stop) == 0
        journal.check(upstream)
        assert len(journal.accepted) > 8 * CLIENTS
        assert len(journal.unended) > CLIENTS
        assert f"Subject: {cut}\r\n" not in str([mail.data for mail in upstream.mails])


async def test_a_stopped_replica_finishes_what_has_begun(
    tmp_path: Path, own: Certificate, trust: ssl.SSLContext
) -> None:
    asked, released = asyncio.Event(), asyncio.Event()

    async def slowly(peer: Peer) -> None:
        asked.set()
        await released.wait()
        await say("250 2.0.0 kept")(peer)

    head = b"From: %s\r\n\r\n" % SENDER.encode()
    async with asyncio.timeout(WITHIN_S), scripted_server({".": slowly}) as upstream:
        with replicas(1, tmp_path, own, upstream.port) as (relay,):
            async with (
                RawClient.at(relay.tls_port, trust) as ended,
                RawClient.at(relay.tls_port, trust) as writing,
                RawClient.at(relay.tls_port, trust) as idle,
            ):
                for client in (ended, writing, idle):
                    await client.log_in()
                await writing.begin()
                await writing.send(head + b"the first half\r\n")
                await ended.begin()
                await ended.send(head + b".\r\n")
                await asked.wait()
                stopped = asyncio.ensure_future(asyncio.to_thread(relay.stop))
                assert (await idle.reply()).startswith("421 4.3.2")
                with pytest.raises(OSError, match="Connect"):
                    await asyncio.open_connection(LOOPBACK, relay.tls_port)
                released.set()
                assert (await ended.reply()).startswith("250")
                assert (await writing.say(b"the second half\r\n.")).startswith("250")
                assert await stopped == 0
        assert upstream.lines.count(".") == 2
