"""The relay as a process: how it is started and stopped, and what a large message costs it."""

import asyncio
import itertools
import json
import smtplib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from dev.relay_process import RelayProcess
from dev.role_process import StartError
from tests.support.listening import LOOPBACK
from tests.support.relay import ACCOUNT, MESSAGE, RECIPIENT, SECRET, SENDER, bundle, prepared
from tests.support.smtp_server import Certificate, MailServer, Peer, certificate, mail_server, say, scripted_server

WITHIN_S: Final = 30.0


@pytest.fixture
def own() -> Certificate:
    return certificate(LOOPBACK)


@pytest.fixture
async def upstream() -> AsyncIterator[MailServer]:
    async with mail_server(auth_without_tls=True) as server:
        yield server


def send(relay: RelayProcess, own: Certificate, message: bytes) -> None:
    with smtplib.SMTP(LOOPBACK, relay.port, timeout=WITHIN_S) as client:
        client.starttls(context=ssl.create_default_context(cadata=own.ca_pem))
        client.login(ACCOUNT, SECRET)
        client.sendmail(SENDER, [RECIPIENT], message)


def peak_kib(relay: RelayProcess) -> int:
    status = Path(f"/proc/{relay.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


async def test_it_runs_until_it_is_stopped(tmp_path: Path, own: Certificate, upstream: MailServer) -> None:
    relay = prepared(tmp_path, own, bundle(upstream.port))
    relay.start()
    try:
        await asyncio.to_thread(send, relay, own, MESSAGE)
        assert [mail.data for mail in upstream.mails] == [MESSAGE]
    finally:
        assert await asyncio.to_thread(relay.stop) == 0
    lines = [line for line in relay.log_text().splitlines() if '"event"' in line]
    assert [json.loads(line[line.index("{") :])["outcome"] for line in lines] == ["accepted"]
    assert SECRET not in relay.log_text()


async def read_slowly(peer: Peer) -> None:
    """Takes a message more slowly than a client sends it: whatever may be kept between them is."""
    await say("354 go on")(peer)
    for number in itertools.count(1):
        if await peer.reader.readline() in (b"", b".\r\n"):
            break
        if number % 1000 == 0:
            await asyncio.sleep(0.1)
    await say("250 2.0.0 taken")(peer)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc to read memory from")
async def test_a_large_message_costs_next_to_nothing(tmp_path: Path, own: Certificate) -> None:
    """25 MiB are not kept; the smaller message before has everything loaded that any message needs."""
    line = b"x" * 998 + b"\r\n"
    head = b"From: no-reply@acme.example\r\n\r\n"
    async with scripted_server({"DATA": read_slowly}) as server:
        relay = prepared(tmp_path, own, bundle(server.port))
        relay.start()
        try:
            await asyncio.to_thread(send, relay, own, head + line)
            before = peak_kib(relay)
            await asyncio.to_thread(send, relay, own, head + line * 26_214)
            assert peak_kib(relay) - before < 640
        finally:
            await asyncio.to_thread(relay.stop)
        assert server.lines.count("DATA") == 2


def test_a_certificate_that_cannot_be_read(tmp_path: Path, own: Certificate) -> None:
    relay = prepared(tmp_path, Certificate(own.context, own.ca_pem, "nonsense", own.key_pem), bundle(9))
    with pytest.raises(StartError, match="SSLError"):
        relay.start()
