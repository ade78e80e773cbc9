"""A relay in the test's own event loop."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dev.relay_process import RelayProcess
from mailsettings.api import names
from mailsettings.core.egress import EgressPolicy
from mailsettings.core.relay.audit import AuditRecord
from mailsettings.core.relay.bundle import Bundle
from mailsettings.core.relay.passwords import hash_password, new_password
from mailsettings.edges.relay.interfaces import Rates, Reviewer, Slots, Tokens
from mailsettings.edges.relay.local import LocalRates, MemoryBundles, NoReviewer, NoTokens, UnsharedSlots
from mailsettings.edges.relay.server import Options, Parts, Relay
from tests.support.listening import LOOPBACK
from tests.support.smtp_probe import ALLOW_LOOPBACK
from tests.support.smtp_server import PASSWORD, USERNAME, Certificate, certificate

HOST: Final = f"{names.RELAY_SERVICE}.{names.RELAY_NAMESPACE}.svc"
"""Its certificate is for this name, too."""
ACCOUNT: Final = "acme.notifications"
SECRET: Final = new_password()
HASH: Final = hash_password(SECRET)
SENDER: Final = "no-reply@acme.example"
RECIPIENT: Final = "ops@acme.example"
MESSAGE: Final = (
    b"From: Acme <no-reply@acme.example>\r\nTo: ops@acme.example\r\nSubject: hello\r\n\r\n.\r\nhello\r\n..\r\n"
)


def tenant(**changes: Any) -> dict[str, Any]:
    return {
        "username": ACCOUNT,
        "namespace": "acme",
        "settings": "notifications",
        "passwords": [HASH],
        "mailFrom": f"Acme <{SENDER}>",
        **changes,
    }


def bundle(port: int, **changes: Any) -> Bundle:
    """Of one tenant, for a mail server on the loopback without TLS.

    Args:
        port: Where it is.
        changes: `server`: is added to the server's fields; `tenant`: to the tenant's; others replace the bundle's.
    """
    server = {"host": LOOPBACK, "port": port, "tlsMode": "Disabled", **changes.pop("server", {})}
    given = {
        "credential": "system",
        "level": "System",
        "server": server,
        "login": {"username": USERNAME, "password": PASSWORD},
        "tenants": [tenant(**changes.pop("tenant", {}))],
        **changes,
    }
    return Bundle.model_validate(given)


@dataclass
class Recorder:
    """Keeps what the relay says of itself."""

    records: list[AuditRecord] = field(default_factory=list)
    logins: list[tuple[str, bool]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def message(self, record: AuditRecord) -> None:
        self.records.append(record)

    def login(self, username: str, *, accepted: bool) -> None:
        self.logins.append((username, accepted))

    def upstream_failed(self, credential: str, reason: str) -> None:
        self.failures.append((credential, reason))


@dataclass
class RunningRelay:
    """Where it is, and what it has said."""

    relay: Relay
    start_tls: int
    implicit: int
    bundles: MemoryBundles
    sink: Recorder
    certificate: Certificate


def prepared(folder: Path, own: Certificate, given: Bundle) -> RelayProcess:
    """A relay with its certificate and its bundle in a folder, to be started as a process of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "tls.crt").write_text(own.chain_pem)
    (folder / "tls.key").write_text(own.key_pem)
    (folder / "bundles").mkdir()
    (folder / "bundles" / "system.json").write_text(given.model_dump_json(by_alias=True))
    return RelayProcess(None, folder)


@contextlib.asynccontextmanager
async def running(
    *bundles: Bundle,
    options: Options | None = None,
    tokens: Tokens | None = None,
    reviewer: Reviewer | None = None,
    slots: Slots | None = None,
    rates: Rates | None = None,
    egress: EgressPolicy = ALLOW_LOOPBACK,
) -> AsyncIterator[RunningRelay]:
    """A relay on free loopback ports."""
    source, sink, own = MemoryBundles(bundles), Recorder(), certificate(LOOPBACK, HOST)
    parts = Parts(
        bundles=source,
        egress=egress,
        tokens=tokens or NoTokens(),
        reviewer=reviewer or NoReviewer(),
        slots=slots or UnsharedSlots(),
        rates=rates or LocalRates(),
        sink=sink,
    )
    relay = Relay(parts, lambda: own.context, options or Options())
    start_tls = await relay.listen(LOOPBACK, 0, implicit_tls=False)
    implicit = await relay.listen(LOOPBACK, 0, implicit_tls=True)
    try:
        yield RunningRelay(relay, start_tls, implicit, source, sink, own)
    finally:
        await relay.close()


async def eventually(condition: Callable[[], object], within_s: float = 20.0) -> None:
    """Returns when the condition holds.

    Raises:
        TimeoutError: It does not.
    """
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - nobody tells when it does
            await asyncio.sleep(0.005)


class RawClient:
    """A client that says just what it is told, over TLS or not."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, where: RunningRelay, *, implicit: bool = True) -> AsyncIterator["RawClient"]:
        context = ssl.create_default_context(cadata=where.certificate.ca_pem) if implicit else None
        async with cls.at(where.implicit if implicit else where.start_tls, context) as client:
            yield client

    @classmethod
    @contextlib.asynccontextmanager
    async def at(cls, port: int, context: ssl.SSLContext | None) -> AsyncIterator["RawClient"]:
        reader, writer = await asyncio.open_connection(LOOPBACK, port, ssl=context)
        client = cls(reader, writer)
        try:
            yield client
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)

    async def reply(self) -> str:
        """The next reply; empty at the connection's end."""
        lines = []
        async with asyncio.timeout(20):
            while line := (await self.reader.readline()).decode():
                lines.append(line.rstrip("\r\n"))
                if line[3:4] != "-":
                    break
        return "\n".join(lines)

    async def say(self, data: bytes) -> str:
        """Sends a line, and gives the reply."""
        self.writer.write(data + b"\r\n")
        return await self.reply()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(20):
            await self.writer.drain()

    async def log_in(self, username: str = ACCOUNT, password: str = SECRET) -> None:
        assert (await self.reply()).startswith("220")
        assert (await self.say(b"EHLO app")).startswith("250")
        response = base64.b64encode(f"\0{username}\0{password}".encode())
        assert (await self.say(b"AUTH PLAIN " + response)).startswith("235")

    async def begin(self, sender: str = SENDER, recipient: str = RECIPIENT) -> None:
        assert (await self.say(f"MAIL FROM:<{sender}>".encode())).startswith("250")
        assert (await self.say(f"RCPT TO:<{recipient}>".encode())).startswith("250")
        assert (await self.say(b"DATA")).startswith("354")
