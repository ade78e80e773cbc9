"""The relay as a process: how it is started and stopped, and what a large message costs it."""

import asyncio
import json
import os
import signal
import smtplib
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.listening import LOOPBACK
from tests.support.relay import ACCOUNT, MESSAGE, RECIPIENT, SECRET, SENDER, bundle
from tests.support.smtp_server import Certificate, MailServer, certificate, mail_server, scripted_server

ROOT: Final = Path(__file__).parents[2]
WITHIN_S: Final = 30.0


@dataclass
class Process:
    """A running one."""

    process: subprocess.Popen[str]
    port: int
    log: Path
    trusted: str

    def send(self, message: bytes) -> None:
        with smtplib.SMTP(LOOPBACK, self.port, timeout=WITHIN_S) as client:
            client.starttls(context=ssl.create_default_context(cadata=self.trusted))
            client.login(ACCOUNT, SECRET)
            client.sendmail(SENDER, [RECIPIENT], message)

    @property
    def peak_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WITHIN_S)


def start(folder: Path, own: Certificate, *more: str) -> subprocess.Popen[str]:
    (folder / "tls.crt").write_text(own.chain_pem)
    (folder / "tls.key").write_text(own.key_pem)
    files = ["--bundles", folder / "bundles", "--certificate", folder / "tls.crt", "--key", folder / "tls.key"]
    where = ["--host", LOOPBACK, "--port", "0", "--tls-port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator"), "MAILSETTINGS_EGRESS_ALLOW": "127.0.0.0/8:*"}
    command = [sys.executable, "-m", "mailsettings", "relay", *map(str, files), *where, *more]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(command, env=environment, stderr=log, stdout=log, text=True)


async def started(folder: Path, *more: str) -> Process:
    own = certificate(LOOPBACK)
    process = start(folder, own, *more)
    log = folder / "log"
    async with asyncio.timeout(WITHIN_S):
        while log.read_text().count("listening on") < 2:
            assert process.poll() is None, log.read_text()
            await asyncio.sleep(0.02)
    port = int(log.read_text().split(f"listening on {LOOPBACK} port ")[1].split()[0])
    return Process(process, port, log, own.ca_pem)


@pytest.fixture
async def upstream() -> AsyncIterator[MailServer]:
    async with mail_server(auth_without_tls=True) as server:
        yield server


def put(folder: Path, port: int) -> None:
    (folder / "bundles").mkdir()
    (folder / "bundles" / "system.json").write_text(bundle(port).model_dump_json(by_alias=True))


async def test_it_runs_until_it_is_stopped(tmp_path: Path, upstream: MailServer) -> None:
    put(tmp_path, upstream.port)
    relay = await started(tmp_path)
    try:
        await asyncio.to_thread(relay.send, MESSAGE)
        assert [mail.data for mail in upstream.mails] == [MESSAGE]
    finally:
        assert await asyncio.to_thread(relay.stop) == 0
    lines = [line for line in relay.log.read_text().splitlines() if '"event"' in line]
    assert [json.loads(line[line.index("{") :])["outcome"] for line in lines] == ["accepted"]
    assert SECRET not in relay.log.read_text()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc to read memory from")
async def test_a_large_message_costs_next_to_nothing(tmp_path: Path) -> None:
    """25 MiB are not kept; the smaller message before has everything loaded that any message needs."""
    line = b"x" * 998 + b"\r\n"
    head = b"From: no-reply@acme.example\r\n\r\n"
    async with scripted_server() as server:
        put(tmp_path, server.port)
        relay = await started(tmp_path)
        try:
            await asyncio.to_thread(relay.send, head + line * 2000)
            before = relay.peak_kib
            await asyncio.to_thread(relay.send, head + line * 26_214)
            assert relay.peak_kib - before < 1024
        finally:
            await asyncio.to_thread(relay.stop)
        assert server.lines.count(".") == 2


async def test_a_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    own = certificate(LOOPBACK)
    process = start(tmp_path, Certificate(own.context, own.ca_pem, "nonsense", own.key_pem))
    assert await asyncio.to_thread(process.wait, WITHIN_S) == 1
    assert "SSLError" in (tmp_path / "log").read_text()
