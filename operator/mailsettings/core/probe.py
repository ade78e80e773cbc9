"""What is asked of a probe and what it answers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from mailsettings.api.conditions import Reason, explained
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import CUSTOM, provider_of
from mailsettings.core.clock import format_time
from mailsettings.core.oauth2.request import TokenRequest
from mailsettings.core.sender_dns import Sender
from mailsettings.core.server import BearerToken, Credentials, Server, Source


class Stage(StrEnum):
    """A step of the SMTP dialogue, in the order of the dialogue."""

    TOKEN = "token"
    """Before the dialogue: where settings are tried that are not saved, an access token is got for that."""
    RESOLVE = "resolve"
    PROXY = "proxy"
    CONNECT = "connect"
    GREETING = "greeting"
    TLS = "tls"
    EHLO = "ehlo"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class Origin:
    """For which settings a test mail is sent."""

    settings: str
    """Which ones, for the subject and the text: `MailServerSettings acme/notifications`."""
    namespace: str
    """On whose account it is; empty: the cluster objects'."""
    cluster: str = "unnamed"
    """In which cluster they are, for the text."""


@dataclass(frozen=True, slots=True)
class TestMail:
    """The message that a probe of mode Send delivers."""

    sender: str
    """The From header, `mailFrom` of the settings; its address is the envelope sender too."""
    recipient: str
    """A bare address."""
    origin: Origin


@dataclass(frozen=True, slots=True)
class TokenWish:
    """An access token that is to be got for one probe, and kept nowhere."""

    username: str
    """The mailbox that it is for."""
    request: TokenRequest
    """What to ask."""


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """One probe."""

    server: Server
    mode: ProbeMode
    """Connect, Authenticate or Send."""
    level: Source
    """Whose egress rules hold."""
    credentials: Credentials | BearerToken | None = None
    mail: TestMail | None = None
    """Required by mode Send."""
    sender: Sender | None = None
    """Whose domain is looked at in DNS, if the probe passes; None: nobody's."""
    wish: TokenWish | None = None
    """In place of `credentials`: they have to be got first."""
    provider: str = CUSTOM
    """Whose server it is, as the settings say: providers mean different things by the same words."""
    slots_of: str | None = None
    """The uid of the settings whose slots its connection is one of; None: of none."""

    @property
    def known_provider(self) -> str:
        """Whose server it is, also where the settings say Custom and name a known host."""
        return provider_of(self.provider, self.server.host)


@dataclass(frozen=True, slots=True)
class ProbeFailure:
    """Why a probe failed, in texts that hold no secret."""

    stage: Stage
    reason: Reason
    message: str
    """What happened."""
    code: int | None = None
    """The SMTP reply code, where the server answered."""
    enhanced_code: str | None = None
    """The enhanced status code, `5.7.8`. Source: RFC 3463."""
    remedy: str = ""
    """What to do."""
    docs: str = ""
    """Where the documentation tells of it; empty: it tells of the operator itself."""
    is_transient: bool = False
    """Whether it may pass without anybody's doing."""

    @property
    def explained(self) -> str:
        """All of it in the words of a condition."""
        return explained(self.message, self.remedy, self.docs, self.reason)


class Speaker(StrEnum):
    """Who says a line."""

    CLIENT = "C"
    SERVER = "S"
    NOTE = "-"
    """Nobody: what happened meanwhile."""


class Line(NamedTuple):
    """One line of the dialogue, fit to be shown."""

    speaker: Speaker
    text: str
    at: timedelta
    """Since the probe began."""
    stands_for: int = 1
    """How many lines it tells of: more where it says that so many are left out."""

    def __str__(self) -> str:
        """`C: EHLO [127.0.0.1]`."""
        return f"{self.speaker}: {self.text}"


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long a stage took, all its turns together."""

    stage: Stage
    duration: timedelta


@dataclass(frozen=True, slots=True)
class ProbeProgress:
    """How far a probe has come that has not ended."""

    stage: Stage
    """The present one."""
    stages: tuple[StageTime, ...] = ()
    """Those that are behind it, in the order in which they began; of the present one only earlier turns count."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of the server's chain, in texts that are fit to be shown."""

    subject: str
    """As RFC 4514 has it; where it is empty, the first of the names."""
    issuer: str
    expires_at: datetime
    """Aware, UTC."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server has shown of itself."""

    tls_version: str | None = None
    """`TLSv1.3`; None: nothing was encrypted."""
    cipher: str | None = None
    """OpenSSL's name for it."""
    chain: tuple[Certificate, ...] = ()
    """What it has sent, its own first, and in bounds."""
    trusted: tuple[Certificate, ...] = ()
    """The way from its own certificate to the authority for whose sake it is trusted, in bounds; empty: nothing was
    verified. What a server sends beside that may have ended long ago."""
    mechanisms: tuple[str, ...] | None = None
    """What it offers to log in with; None: it was not asked."""
    size: int | None = None
    """Of a message, in bytes, at most; None: it does not say, or says that there is no bound (RFC 1870 §4)."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a test mail may not be sent now."""

    why: str
    """Without a full stop, and without a secret."""
    until: datetime | None
    """From when on there is room for it; None: it could not be counted, so it is not known whether there is."""

    @property
    def text(self) -> str:
        """Why, and until when, without a full stop."""
        return self.why if self.until is None else f"{self.why}; there is room again at {format_time(self.until)}"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """How a probe ended."""

    duration: timedelta
    failure: ProbeFailure | None = None
    """None: it passed."""
    stages: tuple[StageTime, ...] = ()
    """In the order in which they began."""
    server: ServerFacts = ServerFacts()
    message_id: str | None = None
    """The Message-ID of the test mail, once its sending has begun: `<…@acme.example>`."""
    hold: Hold | None = None
    """What kept the test mail from being sent; `failure` tells of it too."""
    warnings: tuple[str, ...] = ()
    """What may keep mail from being delivered although the server takes it, in sentences without a full stop."""
    dialogue: tuple[Line, ...] = field(default=(), repr=False)
    """All that was said, without secrets and in bounds."""


Progress = Callable[[ProbeProgress], None]
"""Is told at the beginning of each stage how far a probe has come."""


Permit = Callable[[TestMail], Awaitable[Hold | None]]
"""Is asked right before a test mail is sent, and counts it; a `Hold`: it is not sent."""


async def freely(_mail: TestMail) -> Hold | None:
    """Of a person who sends one mail from the own machine: that needs no bound."""
    return None


def untold(_progress: ProbeProgress) -> None:
    """Of a probe that nobody follows."""
