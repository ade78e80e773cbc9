"""What a client is told when the relay itself cannot do something: always a 4xx, so that it keeps its message."""

from enum import StrEnum
from typing import Final

from mailsettings.core.relay.replies import Reply, passed_on


class RelayFault(StrEnum):
    """Why a message could not be passed on, without the mail server having judged it."""

    UNREACHABLE = "unreachable"
    """There is no connection to the mail server, or it broke before the message was complete."""
    LOGIN = "login"
    """The mail server did not take the relay's login."""
    TOKEN = "token"
    """There is no access token."""
    BUSY = "busy"
    """All permitted connections to the mail server are in use, or as many messages sent as it permits."""
    GARBAGE = "garbage"
    """The mail server said what is no reply to the command."""
    OUTCOME_UNKNOWN = "outcomeUnknown"
    """The connection broke after the whole message had been sent."""
    NOT_CONVERTIBLE = "notConvertible"
    """The mail server lacks an extension that the message needs."""
    SETTINGS = "settings"
    """The relay has no settings for the tenant any more."""
    SLOW = "slow"
    """The client took too long."""
    CLOSING = "closing"
    """The relay is being stopped."""
    INTERNAL = "internal"
    """A mistake in the relay."""
    CLIENT_GONE = "clientGone"
    """The client ended the connection within its message. Nobody is told."""


REPLIES: Final = {
    RelayFault.UNREACHABLE: Reply(451, "the mail server cannot be reached; try again later", "4.4.1"),
    RelayFault.LOGIN: Reply(451, "the mail server refuses the relay's login; try again later", "4.7.0"),
    RelayFault.TOKEN: Reply(451, "there is no access token for the mail server; try again later", "4.7.0"),
    RelayFault.BUSY: Reply(451, "the mail server permits no more at present; try again later", "4.3.2"),
    RelayFault.GARBAGE: Reply(451, "the mail server's answer makes no sense; try again later", "4.5.0"),
    RelayFault.OUTCOME_UNKNOWN: Reply(451, "the mail server did not say whether it took the message", "4.4.2"),
    # The one exception: trying again would not help.
    RelayFault.NOT_CONVERTIBLE: Reply(554, "the mail server does not support what the message needs", "5.6.3"),
    RelayFault.SETTINGS: Reply(451, "the relay has no settings for this login any more", "4.3.5"),
    RelayFault.SLOW: Reply(421, "too slow", "4.4.2"),
    RelayFault.CLOSING: Reply(421, "the relay is being restarted; try again", "4.3.2"),
    RelayFault.INTERNAL: Reply(451, "the relay failed; try again later", "4.3.0"),
    RelayFault.CLIENT_GONE: Reply(421, "the connection has ended", "4.4.2"),
}

_ABOUT_LOGIN: Final = frozenset({530, 534, 535, 538})
"""Source: RFC 4954 §6. A client would take these for a judgement of its own login."""


def judged(code: int, message: str) -> Reply | RelayFault:
    """What to answer where a mail server has answered to MAIL, RCPT, DATA or a message.

    Args:
        code: Its code.
        message: Its lines, without the code.
    """
    if code in _ABOUT_LOGIN:
        return RelayFault.LOGIN
    if not (200 <= code < 300 or 400 <= code < 600):
        return RelayFault.GARBAGE
    reply = passed_on(code, message)
    # 421 ends the mail server's connection, not the client's. Source: RFC 5321 §3.8.
    return Reply(451, reply.text, reply.enhanced) if code == 421 else reply
