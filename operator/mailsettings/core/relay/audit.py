"""The audit line: one for each message, without its content."""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

_ADDRESS: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*+"|[^\s<>"]+)@[^\s<>"]+')


def without_addresses(text: str) -> str:
    """A mail server's words without the addresses in them, quoted local parts too. Source: RFC 5321 §4.1.2."""
    return _ADDRESS.sub("(address)", text)


class Outcome(StrEnum):
    """What became of a message."""

    ACCEPTED = "accepted"
    """The mail server took it."""
    REFUSED = "refused"
    """The mail server did not."""
    DENIED = "denied"
    """A rule of the relay's did not let it pass."""
    FAILED = "failed"
    """The relay could not pass it on, and has said so."""
    UNKNOWN = "unknown"
    """The mail server did not say whether it took it."""
    ABANDONED = "abandoned"
    """The client did not end it."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One message, from MAIL to its end."""

    namespace: str
    settings: str
    sender: str
    """The envelope sender, as the client gave it."""
    recipients: int
    """How many were accepted."""
    octets: int
    """Of the message that came."""
    outcome: Outcome
    code: int
    """Of the last reply to the client; 0: nobody was there to be told."""
    enhanced: str = ""
    text: str = ""
    """Of that reply."""
    rule: str = ""
    """Which rule denied it."""
    fault: str = ""
    """Why the relay failed."""
    duration_s: float = 0.0
    """From MAIL to the last reply."""
    upstream_s: float = 0.0
    """Of it, waiting for the mail server's answer to the whole message."""
    addresses: tuple[str, ...] = ()
    """The recipients, where they are configured to be recorded."""

    def line(self) -> str:
        """One line of JSON."""
        fields: dict[str, Any] = {
            "event": "message",
            "namespace": self.namespace,
            "settings": self.settings,
            "sender": self.sender,
            "recipients": self.recipients,
            "octets": self.octets,
            "outcome": self.outcome,
            "code": self.code,
            "enhanced": self.enhanced,
            "reply": self.text,
            "rule": self.rule,
            "fault": self.fault,
            "seconds": round(self.duration_s, 4),
            "upstreamSeconds": round(self.upstream_s, 4),
        }
        if self.addresses:
            fields["to"] = self.addresses
        return json.dumps({name: value for name, value in fields.items() if value != ""}, ensure_ascii=True)
