"""How much the relay costs: messages a second through it and without it, and the memory that a large message takes.

python -m dev.relay_throughput [--seconds 10] [--clients 8]
"""

import argparse
import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

from mailsettings.core.relay.passwords import hash_password, new_password

LOOPBACK: Final = "127.0.0.1"
SENDER: Final = "no-reply@acme.example"
ACCOUNT: Final = "acme.notifications"
HEADER: Final = b"From: no-reply@acme.example\r\nTo: ops@acme.example\r\nSubject: hello\r\n\r\n"
THINKING_S: Final = 0.005
"""What the mail server takes to accept a message."""


def message(octets: int) -> bytes:
    """With its end."""
    line = b"x" * 76 + b"\r\n"
    return HEADER + line * ((octets - len(HEADER)) // len(line)) + b".\r\n"


async def serve(port: int, folder: Path) -> None:
    """A mail server that accepts everything, until it is stopped."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await _session(reader, writer, context)
        writer.close()

    server = await asyncio.start_server(client, LOOPBACK, port, limit=1 << 20)
    async with server:
        await server.serve_forever()


_REPLIES: Final = {
    b"AUTH": b"235 2.7.0 ok\r\n",
    b"DATA": b"354 go\r\n",
    b"QUIT": b"221 2.0.0 bye\r\n",
    b"STAR": b"220 2.0.0 go\r\n",
    b"EHLO": b"250-mail\r\n250-STARTTLS\r\n250-SIZE 50000000\r\n250 AUTH PLAIN\r\n",
}


async def _session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
    writer.write(b"220 mail ESMTP\r\n")
    while line := await reader.readline():
        verb = line[:4].upper()
        writer.write(_REPLIES.get(verb, b"250 2.0.0 ok\r\n"))
        if verb == b"STAR":
            await writer.start_tls(context)
        elif verb == b"DATA":
            tail = b"\r\n"
            while not tail.endswith(b"\r\n.\r\n"):
                tail = (tail + await reader.read(1 << 16))[-5:]
            await asyncio.sleep(THINKING_S)
            writer.write(b"250 2.0.0 kept\r\n")


@dataclass
class Client:
    """One connection, used again and again."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes, code: bytes) -> None:
        """Sends, and waits for this reply."""
        self.writer.write(data)
        await self.writer.drain()
        await self.expect(code)

    async def expect(self, code: bytes) -> None:
        """Waits for this reply."""
        while (line := await self.reader.readline())[3:4] == b"-":
            pass
        if not line.startswith(code):
            raise RuntimeError(f"{line!r} instead of {code!r}")

    async def send(self, data: bytes) -> None:
        """One message."""
        await self.say(f"MAIL FROM:<{SENDER}>\r\n".encode(), b"250")
        await self.say(b"RCPT TO:<ops@acme.example>\r\n", b"250")
        await self.say(b"DATA\r\n", b"354")
        await self.say(data, b"250")


@contextlib.asynccontextmanager
async def connected(port: int, folder: Path, password: str) -> AsyncIterator[Client]:
    """A client that has logged in."""
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=1 << 20)
    client = Client(reader, writer)
    await client.expect(b"220")
    await client.say(b"EHLO app\r\n", b"250")
    await client.say(b"STARTTLS\r\n", b"220")
    await writer.start_tls(context, server_hostname=LOOPBACK)
    await client.say(b"EHLO app\r\n", b"250")
    login = base64.b64encode(f"\0{ACCOUNT}\0{password}".encode())
    await client.say(b"AUTH PLAIN " + login + b"\r\n", b"235")
    try:
        yield client
    finally:
        writer.transport.abort()


async def rate(port: int, folder: Path, password: str, clients: int, seconds: float) -> tuple[float, list[float]]:
    """Messages a second of 2 KB, and how long each took."""
    data, took = message(2048), []
    end = time.monotonic() + seconds

    async def work() -> None:
        async with connected(port, folder, password) as client:
            while (began := time.monotonic()) < end:
                await client.send(data)
                took.append(time.monotonic() - began)

    began = time.monotonic()
    await asyncio.gather(*(work() for _ in range(clients)))
    return len(took) / (time.monotonic() - began), took


def free_port() -> int:
    """One that nobody has."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[int]:
    """A Python program until the block ends; its process id."""
    environment = {**os.environ, "MAILSETTINGS_EGRESS_ALLOW": "127.0.0.0/8:*", "MAILSETTINGS_LOG_LEVEL": "INFO"}
    running = subprocess.Popen([sys.executable, *arguments], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield running.pid
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(20)


def peak_kib(pid: int) -> int:
    """The most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0])


def cpu_s(pid: int) -> float:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def prepare(folder: Path, upstream: int) -> str:
    """Writes certificates and a bundle; the password."""
    authority = trustme.CA()
    own = authority.issue_cert(LOOPBACK)
    (folder / "ca.crt").write_bytes(authority.cert_pem.bytes())
    (folder / "tls.crt").write_bytes(own.cert_chain_pems[0].bytes())
    (folder / "tls.key").write_bytes(own.private_key_pem.bytes())
    password = new_password()
    server = {
        "host": LOOPBACK,
        "port": upstream,
        "tlsMode": "StartTLS",
        "caBundle": authority.cert_pem.bytes().decode(),
    }
    tenant = {
        "username": ACCOUNT,
        "namespace": "acme",
        "settings": "notifications",
        "passwords": [hash_password(password)],
        "mailFrom": SENDER,
        "allowedFrom": ["*@{namespace}.example"],
        "recipientDomains": ["*.example"],
        "maxMessageOctets": 40_000_000,
        "rateLimits": "1000000:60,10000000:3600",
    }
    bundle = {
        "credential": "system",
        "level": "System",
        "server": server,
        "login": {"username": ACCOUNT, "password": "x"},
        "connections": 64,
        "tenants": [tenant],
    }
    (folder / "bundles").mkdir()
    (folder / "bundles" / "system.json").write_text(json.dumps(bundle))
    return password


async def measure(options: argparse.Namespace, folder: Path) -> None:
    """All of it."""
    upstream, port = free_port(), free_port()
    password = prepare(folder, upstream)
    relay = ("-m", "mailsettings", "relay", "--bundles", f"{folder}/bundles", "--host", LOOPBACK, "--port", f"{port}")
    files = ("--certificate", f"{folder}/tls.crt", "--key", f"{folder}/tls.key", "--tls-port", f"{free_port()}")
    server = ("-m", "dev.relay_throughput", "--serve", f"{upstream}", "--folder", f"{folder}")
    with process(*server), process(*relay, *files) as pid:
        for each in (upstream, port):
            await _await_listening(each)
        ratios = []
        for _ in range(options.rounds):
            direct, fast = await rate(upstream, folder, password, options.clients, options.seconds)
            used_s = cpu_s(pid)
            through, slow = await rate(port, folder, password, options.clients, options.seconds)
            each_ms = (cpu_s(pid) - used_s) / len(slow) * 1000
            ratios.append(through / direct)
            print(
                f"direct {direct:.0f}/s (median {_ms(fast)} ms), relay {through:.0f}/s (median {_ms(slow)} ms,"
                f" {each_ms:.2f} ms of its processor),"
                f" ratio {ratios[-1]:.2f}"
            )
        print(f"median ratio {statistics.median(ratios):.2f}")
        before = peak_kib(pid)
        async with connected(port, folder, password) as client:
            began = time.monotonic()
            await client.send(message(25 << 20))
            took = time.monotonic() - began
        print(f"25 MiB: {took:.2f} s, peak memory {before} KiB before and {peak_kib(pid)} KiB after")


def _ms(took: list[float]) -> str:
    return f"{statistics.median(took) * 1000:.1f}"


async def _await_listening(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.05)
        else:
            writer.transport.abort()
            return


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dev.relay_throughput", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="direct and through the relay (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=8, help="at a time (default: %(default)s)")
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve, options.folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(options, Path(folder)))


if __name__ == "__main__":
    main()
