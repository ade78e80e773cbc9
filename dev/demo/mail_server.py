"""The demo's mail server: STARTTLS with a certificate of a private authority, two logins, and it keeps no mail."""

import asyncio
import logging
import ssl
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from email import message_from_bytes, policy
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

HOST: Final = "127.0.0.1"
LOGINS: Final = {"system@platform.example": "change-me", "postmaster@acme.example": "change-me-too"}
"""User names and passwords: those that the manifests in dev/examples have."""

_TIMEOUT_S: Final = 10.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Mail:
    """What is shown of a mail that arrived."""

    login: str
    """The user name of the client."""
    sender: str
    recipients: tuple[str, ...]
    subject: str


class MailServer:
    """Listens on a free loopback port while the `with` block runs."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self.ca_certificate: str = authority.cert_pem.bytes().decode()
        """Of the authority that signed the server's certificate, in PEM."""
        self.received: SimpleQueue[Mail] = SimpleQueue()
        """What has arrived and has not been looked at."""
        self.port = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(self._context)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mail server", daemon=True)

    def __enter__(self) -> Self:
        """Starts to listen."""
        logging.getLogger("mail.log").setLevel(logging.CRITICAL)  # aiosmtpd's; the screen shows what matters
        self._thread.start()
        self.port = self._run(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Breaks off what is going on and stops."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT_S)
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_TIMEOUT_S)

    async def _listen(self) -> int:
        self._listener = await self._loop.create_server(self._connection, HOST, 0)
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def _close(self) -> None:
        self._listener.close()
        conversations = asyncio.all_tasks() - {asyncio.current_task()}
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)

    def _connection(self) -> SMTP:
        return SMTP(
            _Handler(self.received),
            hostname="mail.platform.example",
            ident="demo",
            tls_context=self._context,
            require_starttls=True,
            auth_required=True,
            authenticator=_authenticate,
            loop=self._loop,
        )


class _Handler:
    """aiosmtpd's hook for a mail that has arrived."""

    def __init__(self, received: SimpleQueue[Mail]) -> None:
        self._received = received

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        subject = message_from_bytes(content, policy=policy.default)["Subject"]
        self._received.put(
            Mail(
                login=str(session.auth_data),
                sender=_printable(envelope.mail_from),
                recipients=tuple(map(_printable, envelope.rcpt_tos)),
                subject=_printable(subject),
            )
        )
        return "250 2.0.0 taken"


def _authenticate(
    _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, login: LoginPassword
) -> AuthResult:
    username, password = (part.decode("utf-8", "replace") for part in (login.login, login.password))
    return AuthResult(success=LOGINS.get(username) == password, handled=False, auth_data=username)


def _printable(text: object) -> str:
    """What a client said, without what a terminal might obey."""
    return "".join(character for character in str(text or "") if character.isprintable())
