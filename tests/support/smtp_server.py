"""Mail servers in the test's own event loop: one that works, on aiosmtpd, and one that misbehaves to order."""

import asyncio
import base64
import contextlib
import hmac
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from functools import cache
from typing import Any, Final

import trustme
from aiosmtpd.smtp import MISSING, SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.support.bearer import CHALLENGE, Presented, presented
from tests.support.listening import listening, streams

USERNAME: Final = "no-reply@acme.example"
PASSWORD: Final = "correct horse battery staple"
BEARER_MECHANISMS: Final = ("XOAUTH2", "OAUTHBEARER")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server's TLS settings and whom to trust for them."""

    context: ssl.SSLContext
    ca_pem: str
    chain_pem: str = ""
    key_pem: str = field(default="", repr=False)


def certificate(*names: str, not_before: datetime | None = None, not_after: datetime | None = None) -> Certificate:
    """A certificate of a private authority for these names or addresses."""
    ca = _authority()
    issued = ca.issue_cert(*names, not_before=not_before, not_after=not_after)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    return Certificate(
        context,
        ca.cert_pem.bytes().decode(),
        issued.cert_chain_pems[0].bytes().decode(),
        issued.private_key_pem.bytes().decode(),
    )


def expired_certificate(*names: str) -> Certificate:
    today = datetime.now(UTC)
    return certificate(*names, not_before=today - timedelta(days=30), not_after=today - timedelta(days=1))


def future_certificate(*names: str) -> Certificate:
    today = datetime.now(UTC)
    return certificate(*names, not_before=today + timedelta(days=1), not_after=today + timedelta(days=30))


def self_signed_certificate() -> Certificate:
    """An authority that presents its own certificate."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with ca.private_key_pem.tempfile() as key, ca.cert_pem.tempfile() as cert:
        context.load_cert_chain(cert, key)
    own = ca.cert_pem.bytes().decode()
    return Certificate(context, own, own)


def chained_certificate(
    *names: str, intermediate_until: datetime | None = None, beside: Iterable[trustme.CA] = ()
) -> Certificate:
    """A certificate that an intermediate authority has issued, which the server sends too.

    Args:
        names: Whom it is for.
        intermediate_until: When the intermediate's certificate ends.
        beside: Authorities whose certificates the server sends although they are none of its own.
    """
    root = trustme.CA()
    intermediate = root.create_child_ca()
    if intermediate_until is not None:
        intermediate._certificate = _until(intermediate_until, intermediate._certificate, root._private_key)
    issued = intermediate.issue_cert(*names)
    sent = [*issued.cert_chain_pems, *(each.cert_pem for each in beside)]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    whole = trustme.Blob(b"".join(each.bytes() for each in (issued.private_key_pem, *sent)))
    with whole.tempfile() as path:
        context.load_cert_chain(path)
    chain_pem = b"".join(each.bytes() for each in sent).decode()
    return Certificate(context, root.cert_pem.bytes().decode(), chain_pem)


def ended_authority() -> trustme.CA:
    """One whose own certificate is past its date."""
    ca = trustme.CA()
    ca._certificate = _until(datetime.now(UTC) - timedelta(days=1), ca._certificate, ca._private_key)
    return ca


def _until(moment: datetime, like: x509.Certificate, key: Any) -> x509.Certificate:
    builder = x509.CertificateBuilder(
        like.issuer, like.subject, like.public_key(), like.serial_number, like.not_valid_before_utc, moment
    )
    for extension in like.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(key, hashes.SHA256())


def another_authority_pem() -> str:
    return trustme.CA().cert_pem.bytes().decode()


@cache
def _authority() -> trustme.CA:
    return trustme.CA()


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail as it arrived."""

    sender: str
    recipients: list[str]
    data: bytes

    @property
    def message(self) -> EmailMessage:
        message = message_from_bytes(self.data, policy=SMTP_POLICY)
        assert isinstance(message, EmailMessage)
        return message


@dataclass(slots=True)
class MailServer:
    """A working server, and what it has seen."""

    port: int = 0
    mails: list[Mail] = field(default_factory=list)
    attempts: list[tuple[str, str, str]] = field(default_factory=list)
    """Logins: mechanism, user name, password (CRAM-MD5: the digest; XOAUTH2 and OAUTHBEARER: the access token)."""
    presented: list[Presented] = field(default_factory=list)
    """What came by XOAUTH2 and OAUTHBEARER."""
    acknowledged: list[bytes] = field(default_factory=list)
    """What clients answered to the challenge that refuses an access token."""
    ehlo_names: list[str] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0
    most_connections: int = 0
    """At a time."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def connected(self) -> None:
        self.connections += 1
        self.open_connections += 1
        self.most_connections = max(self.most_connections, self.open_connections)

    def disconnected(self) -> None:
        self.open_connections -= 1
        self._changed.set()

    async def closed(self) -> None:
        """Returns when no client is connected any more."""
        while self.open_connections:
            self._changed.clear()
            await self._changed.wait()


class _Handler:
    """aiosmtpd's hooks."""

    def __init__(
        self,
        server: MailServer,
        login: tuple[str, str],
        mechanisms: tuple[str, ...],
        takes: Callable[[Presented], bool] | None,
    ) -> None:
        self._server = server
        self._login = login
        self._takes = takes or (lambda said: (said.username, said.token) == login)
        if "CRAM-MD5" in mechanisms:
            self.auth_CRAM__MD5 = self._auth_cram_md5  # aiosmtpd looks mechanisms up by such names
        for mechanism in {*mechanisms} & {*BEARER_MECHANISMS}:
            setattr(self, f"auth_{mechanism}", self._auth_bearer)

    async def handle_EHLO(  # noqa: N802
        self, _smtp: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        self._server.ehlo_names.append(hostname)
        session.host_name = hostname
        return responses

    async def handle_DATA(self, _smtp: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        data = envelope.content
        assert isinstance(data, bytes)
        self._server.mails.append(Mail(str(envelope.mail_from), list(envelope.rcpt_tos), data))
        return "250 2.0.0 kept"

    def authenticate(
        self, _smtp: SMTP, _session: Session, _envelope: Envelope, mechanism: str, login: LoginPassword
    ) -> AuthResult:
        username, password = login.login.decode(), login.password.decode()
        self._server.attempts.append((mechanism, username, password))
        return AuthResult(success=(username, password) == self._login, handled=False)

    async def _auth_cram_md5(self, smtp: SMTP, _args: list[str]) -> AuthResult:
        challenge = b"<1896.697170952@mail.acme.example>"
        answer = await smtp.challenge_auth(base64.b64encode(challenge).decode(), encode_to_b64=False)
        if answer is MISSING:
            return AuthResult(success=False)
        username, digest = bytes(answer).decode().rsplit(" ", 1)
        self._server.attempts.append(("CRAM-MD5", username, digest))
        expected = hmac.new(self._login[1].encode(), challenge, "md5").hexdigest()
        return AuthResult(success=(username, digest) == (self._login[0], expected), handled=False)

    async def _auth_bearer(self, smtp: SMTP, args: list[str]) -> AuthResult:
        mechanism, *initial = args
        response = base64.b64decode(initial[0]) if initial else await smtp.challenge_auth("")
        if response is MISSING:
            return AuthResult(success=False)
        said = presented(mechanism, bytes(response))
        self._server.presented.append(said)
        self._server.attempts.append((mechanism, said.username, said.token))
        if self._takes(said):
            return AuthResult(success=True)
        answer = await smtp.challenge_auth(CHALLENGE)
        if answer is MISSING:
            return AuthResult(success=False)
        self._server.acknowledged.append(bytes(answer))
        return AuthResult(success=False, handled=False)


class _Connection(SMTP):
    """aiosmtpd's connection, counted."""

    line_length_limit = 12288
    """As RFC 4954 §4 has it for what follows the AUTH command, which itself aiosmtpd holds to 512."""

    def __init__(self, server: MailServer, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._counted = server
        self._is_counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._is_counted:  # once more after STARTTLS
            self._is_counted = True
            self._counted.connected()
        super().connection_made(transport)

    def eof_received(self) -> bool:
        super().eof_received()
        return False  # aiosmtpd ends its work, and would leave the transport to the garbage collector

    def connection_lost(self, error: Exception | None) -> None:
        if self._is_counted:
            self._is_counted = False
            self._counted.disconnected()
        super().connection_lost(error)


@contextlib.asynccontextmanager
async def mail_server(
    *,
    start_tls: ssl.SSLContext | None = None,
    implicit_tls: ssl.SSLContext | None = None,
    auth_required: bool = False,
    auth_without_tls: bool = False,
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN"),
    login: tuple[str, str] = (USERNAME, PASSWORD),
    takes: Callable[[Presented], bool] | None = None,
) -> AsyncIterator[MailServer]:
    """A working server on a free loopback port.

    Args:
        start_tls: Offers STARTTLS with these settings, and demands it.
        implicit_tls: Speaks TLS from the first byte.
        auth_required: Refuses mail before a login.
        auth_without_tls: Offers a login in the clear.
        mechanisms: What AUTH offers, of PLAIN, LOGIN, CRAM-MD5, XOAUTH2 and OAUTHBEARER.
        login: The only user name and password, or access token, that it takes.
        takes: Judges access tokens instead of `login`.
    """
    server = MailServer()
    handler = _Handler(server, login, mechanisms, takes)

    def connection() -> SMTP:
        with warnings.catch_warnings():
            # aiosmtpd warns of a login in the clear, which is what the test asks for.
            warnings.filterwarnings("ignore", "Requiring AUTH while not requiring TLS", UserWarning)
            return _Connection(
                server,
                handler,
                hostname="mail.acme.example",
                ident="test",
                tls_context=start_tls,
                require_starttls=start_tls is not None,
                auth_required=auth_required,
                auth_require_tls=not auth_without_tls and implicit_tls is None,
                auth_exclude_mechanism={"PLAIN", "LOGIN"} - {*mechanisms},
                authenticator=handler.authenticate,
                loop=loop,
            )

    loop = asyncio.get_running_loop()
    async with listening(connection, context=implicit_tls) as server.port:
        yield server
        async with asyncio.timeout(10):
            await server.closed()


class Peer:
    """The server's end of one connection, for scripts."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def close(self) -> None:
        """An orderly end."""
        self.writer.close()

    async def reset(self) -> None:
        """An RST instead of a FIN."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Returns when the client has left, and says nothing until then."""
        while await self.reader.read(4096):
            pass


Act = Callable[[Peer], Awaitable[None]]
"""What a server does at one point of the dialogue."""


def say(text: str) -> Act:
    """Answers with these lines."""

    async def act(peer: Peer) -> None:
        await peer.say("".join(f"{line}\r\n" for line in text.split("\n")).encode("utf-8", "surrogateescape"))

    return act


def say_bytes(data: bytes) -> Act:
    """Sends exactly this."""

    async def act(peer: Peer) -> None:
        await peer.say(data)

    return act


async def hang(peer: Peer) -> None:
    """Answers nothing, and keeps the connection."""
    await peer.gone()


async def close(peer: Peer) -> None:
    """Ends the connection without an answer."""
    await peer.close()


async def reset(peer: Peer) -> None:
    """Resets the connection."""
    await peer.reset()


def drip(data: bytes, *, interval_s: float = 0.02) -> Act:
    """Sends a byte now and then, again and again."""

    async def act(peer: Peer) -> None:
        position = 0
        while True:
            await peer.say(data[position % len(data) :][:1])
            position += 1
            await asyncio.sleep(interval_s)

    return act


def flood(chunk: bytes, *, limit: int = 1 << 30) -> Act:
    """Sends the same again and again until the client leaves; fails where it would have to send more than `limit`."""

    async def act(peer: Peer) -> None:
        sent = 0
        while sent < limit:
            await peer.say(chunk)
            sent += len(chunk)

    return act


def upgrade(context: ssl.SSLContext) -> Act:
    """Agrees to STARTTLS."""

    async def act(peer: Peer) -> None:
        await peer.say(b"220 2.0.0 go ahead\r\n")
        await peer.writer.start_tls(context)

    return act


@dataclass(slots=True)
class ScriptedServer:
    """A server that misbehaves to order, and what it was told."""

    port: int = 0
    lines: list[str] = field(default_factory=list)
    """The commands and other lines of all clients, in order."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server's end of the first connection is over."""


HEALTHY: Final[Mapping[str, Act]] = {
    "greeting": say("220 mail.acme.example ESMTP"),
    "EHLO": say("250-mail.acme.example\n250-SIZE 10000000\n250 AUTH PLAIN LOGIN"),
    "HELO": say("250 mail.acme.example"),
    "AUTH": say("235 2.7.0 ok"),
    "MAIL": say("250 2.1.0 ok"),
    "RCPT": say("250 2.1.5 ok"),
    "DATA": say("354 go ahead"),
    ".": say("250 2.0.0 kept"),
    "QUIT": say("221 2.0.0 bye"),
}
"""What a server without TLS does. A script replaces some of it."""


@contextlib.asynccontextmanager
async def scripted_server(
    script: Mapping[str, Act] = HEALTHY, *, implicit_tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedServer]:
    """A server on a free loopback port that does as the script says.

    Args:
        script: By `greeting`, a verb in capitals, or `.` for the end of a message: what to do then, where it is not
            what `HEALTHY` does.
        implicit_tls: Speaks TLS from the first byte.
    """
    server = ScriptedServer()
    acts = {**HEALTHY, **script}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _serve(Peer(reader, writer), acts, server.lines)
        finally:
            server.left.set()

    async with streams(serve, context=implicit_tls, limit=1 << 20) as server.port:
        yield server


async def _serve(peer: Peer, acts: Mapping[str, Act], lines: list[str]) -> None:
    await acts["greeting"](peer)
    in_message = False
    while line := await peer.reader.readline():
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if in_message and text != ".":
            continue
        lines.append(text)
        verb = "." if in_message else text.split(" ")[0].upper()
        in_message = verb == "DATA" and acts["DATA"] is HEALTHY["DATA"]
        await acts.get(verb, say("500 5.5.1 what?"))(peer)
