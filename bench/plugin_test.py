"""How long `kubectl mailsettings test` takes, beside a bare aiosmtplib script that says the same to the same server.

Both are processes, from their start to their end, in turn, on the same machine, with the same server: STARTTLS, a login
and a mail, whose replies take as long as those of a server that is near or far.
"""

import asyncio
import json
import os
import secrets
import ssl
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Final

import trustme

from bench import objects
from bench.bare import create
from bench.benchmark import Benchmark, Plan
from bench.errors import BenchError
from bench.progress import say
from bench.result import Result
from bench.world import World, Worlds
from dev.role_process import ROOT
from tests.support.listening import LOOPBACK, streams

NAME: Final = "plugin-test"
AT_MOST: Final = 1.2
LATENCIES_MS: Final = (0, 10, 50)
"""After which servers reply: one on the same machine, one in the same city, one far away."""
RECIPIENT: Final = "ops@acme.example"
TIMEOUT_S: Final = 60
WARM_UP: Final = 2
"""Rounds that do not count: Python reads its files from the disk then."""
MAILS_PER_HOUR: Final = 1000

BARE: Final = """\
import asyncio, json, sys
from email.message import EmailMessage
import aiosmtplib

async def main():
    said = json.loads(sys.argv[1])
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@acme.example", said["to"], "Test mail"
    message.set_content("This is a test mail.")
    await aiosmtplib.send(
        message,
        hostname=said["host"], port=said["port"], start_tls=True, cert_bundle=said["ca"],
        username="mailer", password="secret", local_hostname="[127.0.0.1]",
    )

asyncio.run(main())
"""
"""Not a byte more than it takes."""


INSTALLED: Final = "import sys\nfrom mailsettings.plugin.__main__ import main\nsys.exit(main())\n"
"""What pip puts on the PATH."""


async def run(plan: Plan, worlds: Worlds) -> list[Result]:
    """One result for each latency."""
    async with worlds() as place:
        place.configure(
            MAILSETTINGS_TEST_MAILS_PER_HOUR=str(MAILS_PER_HOUR),
            MAILSETTINGS_RECIPIENT_MAILS_PER_HOUR=str(2 * MAILS_PER_HOUR),
        )
        context = await _prepare(place, namespace := f"shop-{secrets.token_hex(3)}")
        await place.start()
        await _of_latency(place, namespace, context, latency_ms=1, rounds=WARM_UP)
        return [
            await _of_latency(place, namespace, context, latency_ms=latency_ms, rounds=plan.rounds)
            for latency_ms in LATENCIES_MS
        ]


async def _prepare(place: World, namespace: str) -> ssl.SSLContext:
    """All but the settings, and the certificate of the mail servers."""
    authority = trustme.CA()
    ca_pem = authority.cert_pem.bytes().decode()
    _ca_file(place).write_text(ca_pem)
    (place.folder / "bare.py").write_text(BARE)
    (place.folder / "kubectl-mailsettings").write_text(INSTALLED)
    password = {"metadata": {"name": "smtp"}, "stringData": {"password": "secret"}}
    await place.create_namespaces([{"metadata": {"name": namespace}}])
    await place.admin.send(create(objects.secrets_in(namespace), password))
    await place.admin.send(
        create(f"{objects.NAMESPACES}/{namespace}/configmaps", {"metadata": {"name": "ca"}, "data": {"ca.crt": ca_pem}})
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(LOOPBACK).configure_cert(context)
    return context


def _ca_file(place: World) -> Path:
    return place.folder / "mail-server.pem"


async def _of_latency(place: World, namespace: str, context: ssl.SSLContext, *, latency_ms: int, rounds: int) -> Result:
    async with _mail_server(latency_ms / 1000, context) as port:
        settings = f"after-{latency_ms}ms"
        await place.create_settings({namespace: objects.tested_by_hand(settings, port)})
        said = {"host": LOOPBACK, "port": port, "to": RECIPIENT, "ca": str(_ca_file(place))}
        bare = [str(place.folder / "bare.py"), json.dumps(said)]
        ours = [str(place.folder / "kubectl-mailsettings"), "test", settings, "-n", namespace, "--to", RECIPIENT]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(place.folder),
            "KUBECONFIG": str(place.kubeconfig),
            "PYTHONPATH": str(ROOT / "operator"),
        }
        times = [(await _timed(ours, environment), await _timed(bare, environment)) for _ in range(rounds)]
    ours_s, bare_s = (median(column) for column in zip(*times, strict=True))
    say(f"  replies after {latency_ms} ms: ours {ours_s:.3f} s, bare {bare_s:.3f} s")
    return Result(
        NAME, place.settings, ours_s, bare_s, None, None, ours_s / bare_s / AT_MOST, f"replies after {latency_ms} ms"
    )


async def _timed(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Seconds from the start of a Python process to its end.

    Raises:
        BenchError: It failed, or took longer than `TIMEOUT_S` seconds.
    """
    began_s = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise BenchError(f"{Path(command[0]).name} has not ended after {TIMEOUT_S} s") from None
    took_s = time.perf_counter() - began_s
    if process.returncode:
        raise BenchError(f"{Path(command[0]).name} has failed:\n{said.decode(errors='replace')}")
    return took_s


@asynccontextmanager
async def _mail_server(latency_s: float, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A server that takes everything, each reply after so many seconds; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say_after(text: str) -> None:
            await asyncio.sleep(latency_s)
            writer.write(f"{text}\r\n".encode())
            await writer.drain()

        await say_after("220 mail.acme.example ESMTP")
        while line := await reader.readline():
            verb = line.split(b" ")[0].strip().upper()
            if verb == b"EHLO":
                await say_after("250-mail.acme.example\r\n250-STARTTLS\r\n250 AUTH PLAIN")
            elif verb == b"STARTTLS":
                await say_after("220 go ahead")
                await writer.start_tls(context)
            elif verb == b"AUTH":
                await say_after("235 ok")
            elif verb == b"DATA":
                await say_after("354 go on")
                await reader.readuntil(b"\r\n.\r\n")
                await say_after("250 kept")
            elif verb == b"QUIT":
                await say_after("221 bye")
                break
            else:
                await say_after("250 ok")

    async with streams(serve) as port:
        yield port


BENCHMARK: Final = Benchmark(
    name=NAME,
    summary="kubectl mailsettings test with a mail, beside a bare script that sends one, as processes",
    run=run,
    full=(Plan(0, rounds=15),),
    quick=Plan(0, rounds=3),
)
