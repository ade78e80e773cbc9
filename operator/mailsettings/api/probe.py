"""`spec.probe`: the test of the settings against the real server."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from mailsettings.api.model import ApiModel, Lax, Rule, between, duration_rule
from mailsettings.api.scalars import Address, Duration

MIN_INTERVAL: Final = "1m"
MAX_INTERVAL: Final = "720h"


class ProbeMode(StrEnum):
    """How far a probe goes."""

    DISABLED = "Disabled"
    CONNECT = "Connect"
    AUTHENTICATE = "Authenticate"
    SEND = "Send"


class Probe(ApiModel):
    """The test of the settings against the real server."""

    mode: Annotated[ProbeMode, Lax] | None = None
    """Connect stops after the greeting, TLS and EHLO; Authenticate logs in too; Send delivers a test mail; Disabled
    tests nothing. When absent Authenticate, or Connect where there is no auth."""
    interval: (
        Annotated[
            Duration,
            AfterValidator(between(MIN_INTERVAL, MAX_INTERVAL)),
            Field(json_schema_extra=duration_rule(MIN_INTERVAL, MAX_INTERVAL)),
        ]
        | None
    ) = None
    """The time between two probes, jittered. From 1m to 720h; when absent 6h."""
    recipient: Address | None = None
    """Who gets the test mail of mode Send."""

    rules = (
        Rule(
            cel="!has(self.mode) || self.mode != 'Send' || has(self.recipient)",
            holds=lambda s: s.mode != ProbeMode.SEND or s.recipient is not None,
            message="probe.recipient: mode Send needs an address that the test mail goes to",
        ),
    )
