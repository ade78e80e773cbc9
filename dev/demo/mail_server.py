"""The demo's mail server: STARTTLS, two logins with a password, access tokens of one provider, and it keeps no mail."""

import base64
import binascii
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final, Self

from aiosmtpd.smtp import MISSING, SMTP, AuthResult, Envelope, LoginPassword, Session

from dev.demo.authority import HOST, Authority
from dev.loop_thread import LoopThread

LOGINS: Final = {"system@platform.example": "change-me", "postmaster@acme.example": "change-me-too"}
"""User names and passwords: those that the manifests in dev/examples have."""

_NAME: Final = "mail server"
_XOAUTH2: Final = re.compile("user=([^\x01]*)\x01auth=Bearer ([^\x01]*)\x01\x01")
"""Source: Google, OAuth 2.0 Mechanism."""
_OAUTHBEARER: Final = re.compile("n,a=([^,]*),\x01(?:[a-z]+=[^\x01]*\x01)*auth=Bearer ([^\x01]*)\x01\x01")
"""Source: RFC 7628 §3.1. The demo's user names have no character that would be written otherwise."""
_REFUSAL: Final = json.dumps({"status": "invalid_token", "schemes": "Bearer"})

AccountOf = Callable[[str], str]
"""Whom a live access token speaks for; empty: it is none."""


@dataclass(frozen=True, slots=True)
class Mail:
    """What is shown of a mail that arrived."""

    login: str
    """The user name of the client."""
    sender: str
    recipients: tuple[str, ...]
    subject: str
    token: int = 0
    """Which of the access tokens the client logged in with: 1 is the first that was ever seen, 0 is a password."""


@dataclass(frozen=True, slots=True)
class _Login:
    username: str
    token: int = 0


class MailServer:
    """Listens on a free loopback port while the `with` block runs."""

    def __init__(self, authority: Authority, account_of: AccountOf = lambda _token: "") -> None:
        self.received: SimpleQueue[Mail] = SimpleQueue()
        """What has arrived and has not been looked at."""
        self.port = 0
        self._context = authority.server_context()
        self._logins = _Logins(account_of)
        self._thread = LoopThread(_NAME)

    @property
    def refused_tokens(self) -> int:
        """How many logins with a token have been refused."""
        return self._logins.refused_tokens

    def __enter__(self) -> Self:
        """Starts to listen."""
        logging.getLogger("mail.log").setLevel(logging.CRITICAL)  # aiosmtpd's; the screen shows what matters
        self._thread.start()
        self.port = self._thread.run(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Breaks off what is going on and stops."""
        self._thread.run(self._close())
        self._thread.stop()

    async def _listen(self) -> int:
        self._listener = await self._thread.loop.create_server(self._connection, HOST, 0)
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def _close(self) -> None:
        self._listener.close()
        await self._thread.cancel_all()

    def _connection(self) -> SMTP:
        return SMTP(
            _Handler(self.received, self._logins),
            hostname="mail.platform.example",
            ident="demo",
            tls_context=self._context,
            require_starttls=True,
            auth_required=True,
            authenticator=_authenticate,
            loop=self._thread.loop,
        )


class _Logins:
    """Logins with access tokens."""

    def __init__(self, account_of: AccountOf) -> None:
        self.refused_tokens = 0
        self._account_of = account_of
        self._numbers: dict[str, int] = {}

    def accepted(self, presented: re.Match[str] | None) -> _Login | None:
        """The login that a user name and a token come to; None: it is refused."""
        username, token = presented.groups() if presented is not None else ("", "")
        if not username or self._account_of(token) != username:
            self.refused_tokens += 1
            return None
        return _Login(username, self._numbers.setdefault(token, len(self._numbers) + 1))


class _Handler:
    """aiosmtpd's hooks: for two mechanisms, and for a mail that has arrived."""

    def __init__(self, received: SimpleQueue[Mail], logins: _Logins) -> None:
        self._received = received
        self._logins = logins

    async def auth_XOAUTH2(self, server: SMTP, arguments: list[str]) -> AuthResult:  # noqa: N802
        return await self._bearer(server, arguments, _XOAUTH2)

    async def auth_OAUTHBEARER(self, server: SMTP, arguments: list[str]) -> AuthResult:  # noqa: N802
        return await self._bearer(server, arguments, _OAUTHBEARER)

    async def _bearer(self, server: SMTP, arguments: list[str], form: re.Pattern[str]) -> AuthResult:
        response = _decoded(arguments[1]) if len(arguments) == 2 else await server.challenge_auth("")
        if response is MISSING:  # aiosmtpd has answered
            return AuthResult(success=False)
        accepted = self._logins.accepted(form.fullmatch(response.decode("utf-8", "replace")))
        if accepted is not None:
            return AuthResult(success=True, auth_data=accepted)
        refused = await server.challenge_auth(_REFUSAL)
        return AuthResult(success=False, handled=refused is MISSING)

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        subject = message_from_bytes(content, policy=policy.default)["Subject"]
        login: Any = session.auth_data  # a _Login; aiosmtpd declares none
        self._received.put(
            Mail(
                login=_printable(login.username),
                sender=_printable(envelope.mail_from),
                recipients=tuple(map(_printable, envelope.rcpt_tos)),
                subject=_printable(subject),
                token=login.token,
            )
        )
        return "250 2.0.0 taken"


def _decoded(response: str) -> bytes:
    try:
        return base64.b64decode(response, validate=True)
    except binascii.Error:
        return b""


def _authenticate(
    _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, login: LoginPassword
) -> AuthResult:
    username, password = (part.decode("utf-8", "replace") for part in (login.login, login.password))
    return AuthResult(success=LOGINS.get(username) == password, handled=False, auth_data=_Login(username))


def _printable(text: object) -> str:
    """What a client said, without what a terminal might obey."""
    return "".join(character for character in str(text or "") if character.isprintable())
