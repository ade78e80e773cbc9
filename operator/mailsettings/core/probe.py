"""What is asked of a probe and what it answers."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from mailsettings.api.conditions import Reason
from mailsettings.api.probe import ProbeMode
from mailsettings.core.server import BearerToken, Credentials, Server, Source


class Stage(StrEnum):
    """A step of the SMTP dialogue, in the order of the dialogue."""

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
class TestMail:
    """The message that a probe of mode Send delivers."""

    sender: str
    """The From header, `mailFrom` of the settings; its address is the envelope sender too."""
    recipient: str
    """A bare address."""
    settings: str
    """Which settings are tested, for the subject and the text: `MailServerSettings acme/notifications`."""


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


@dataclass(frozen=True, slots=True)
class ProbeFailure:
    """Why a probe failed, in texts that hold no secret."""

    stage: Stage
    reason: Reason
    message: str
    """One or two sentences: what happened, and what to do."""
    code: int | None = None
    """The SMTP reply code, where the server answered."""
    enhanced_code: str | None = None
    """The enhanced status code, `5.7.8`. Source: RFC 3463."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """How a probe ended."""

    duration: timedelta
    failure: ProbeFailure | None = None
    """None: it passed."""
