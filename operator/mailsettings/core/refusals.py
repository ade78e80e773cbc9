"""Whether a mail server has refused an access token that should be good: then a renewed one may be taken. Pure."""

from typing import Final

from mailsettings.api.conditions import Reason
from mailsettings.api.status import ProbeStatus
from mailsettings.core.probe import Stage

_REFUSALS: Final = frozenset(
    {
        Reason.BAD_CREDENTIALS,
        Reason.TOKEN_EXPIRED,
        Reason.WRONG_TOKEN_SCOPE_OR_AUDIENCE,
        Reason.MAILBOX_NOT_PERMITTED,
    }
)
"""What servers say of tokens that are no longer good, which they seldom tell from those that never were."""


def is_first_refusal(status: ProbeStatus) -> bool:
    """Whether the last probe's token was refused, and the one before passed, or there was none."""
    failure = status.failure
    return (
        status.token is not None
        and failure is not None
        and failure.stage == Stage.AUTH
        and failure.cause in _REFUSALS
        and status.consecutive_failures == 1
    )
