"""What tenants may send through the relay: `spec.tenants.policy` of the cluster kind, `spec.policy` of a tenant's."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from mailsettings.api.model import UNIQUE, ApiModel, Lax
from mailsettings.api.scalars import FromPattern

_LIMIT: Final = "[1-9][0-9]{0,8}:[1-9][0-9]{0,6}"
RATE_LIMITS_PATTERN: Final = f"^{_LIMIT}(,{_LIMIT}){{0,7}}$"
FEW_RATE_LIMITS_PATTERN: Final = f"^{_LIMIT}(,{_LIMIT}){{0,3}}$"
"""Half as many: those of both levels hold together."""

SIZE_PATTERN: Final = "^[1-9][0-9]{0,5}(Ki|Mi)$"
_DNS_LABEL: Final = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
RECIPIENT_DOMAIN_PATTERN: Final = rf"^([*]\.)?{_DNS_LABEL}(\.{_DNS_LABEL})*$"

_UNITS: Final = {"Ki": 1024, "Mi": 1024**2}

Size = Annotated[str, Field(max_length=8, pattern=SIZE_PATTERN)]
"""A Kubernetes quantity in Ki or Mi: `25Mi`."""

RecipientDomain = Annotated[str, Field(max_length=253, pattern=RECIPIENT_DOMAIN_PATTERN)]
"""A domain, `acme.example`, or all domains below one, `*.acme.example`."""


def parse_size(text: str) -> int:
    """The octets that a `Size` means."""
    return int(text[:-2]) * _UNITS[text[-2:]]


class ForeignSender(StrEnum):
    """What becomes of a message from a sender that is not permitted."""

    REFUSE = "Refuse"
    REWRITE = "Rewrite"
    """The permitted sender is put in its place, in the envelope and in the header."""


class Sending(StrEnum):
    """Whether messages are taken at all."""

    ALLOWED = "Allowed"
    BLOCKED = "Blocked"


class SendingPolicy(ApiModel):
    """What the relay lets each tenant send. A tenant's own policy narrows this one: of both the stricter holds."""

    sending: Annotated[Sending, Lax] | None = None
    """Blocked refuses every message. When absent Allowed."""
    foreign_sender: Annotated[ForeignSender, Lax] | None = None
    """What becomes of a message from a sender that is not permitted, in the envelope or in the From header: Refuse, or
    Rewrite, which puts mailFrom in its place. When absent Refuse."""
    recipient_domains: Annotated[list[RecipientDomain], Field(max_length=64), *UNIQUE] | None = None
    """Where messages may go: acme.example, or *.acme.example for all domains below it. When absent everywhere."""
    max_message_size: Size | None = None
    """How large a message may be, such as 10Mi. When absent as large as the relay and the mail server take."""
    rate_limits: Annotated[str, Field(max_length=80, pattern=FEW_RATE_LIMITS_PATTERN)] | None = None
    """How many messages in how many seconds, in ThingsBoard's notation: 1000:60,10000:3600. Of all settings of a
    tenant's each has its own count. When absent any number."""


class TenantPolicy(SendingPolicy):
    """What the relay lets these settings send. It narrows what the system's settings permit: the stricter holds."""

    allowed_from: Annotated[list[FromPattern], Field(max_length=16), *UNIQUE] | None = None
    """Senders beside mailFrom: * stands for any text without @, and {namespace} for the namespace. With the system's
    server all of them must be within its tenants.allowedFrom. When absent only mailFrom."""
