"""Whether and when the refresh token of settings that are deleted is revoked at the provider. Pure and level-based.

The settings wait for it, by a finalizer, and never for long: whoever deletes a namespace is not kept waiting by a
provider that cannot be reached.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mailsettings.api.identity import Family
from mailsettings.core.oauth2.faults import Failure, FailureKind
from mailsettings.core.oauth2.stored import StoredToken
from mailsettings.core.oauth2.subject import TokenSubject

WINDOW: Final = timedelta(minutes=5)
"""How long, from the deletion on, the settings wait for the provider."""

FIRST_DELAY: Final = timedelta(seconds=2)
"""Between the first two attempts; it doubles with each further one."""


@dataclass(frozen=True, slots=True)
class Tried:
    """How the attempts have gone so far."""

    count: int
    ended_at: datetime
    failure: Failure | None
    """Of the last one; None: the token is revoked."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """What is known of settings that are being deleted."""

    deleted_at: datetime
    enabled: bool = True
    """Whether tokens are to be revoked at all."""
    holds_token: bool = True
    """Whether a refresh token is held."""
    unsendable: str = ""
    """Why the token cannot be sent anywhere; empty: it can."""
    has_client: bool = True
    """Whether what the client authenticates with is still there."""
    busy_until: datetime | None = None
    """Until when somebody may be about to replace the token; None: nobody is."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The token is to be sent to the revocation endpoint now."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is to be done before."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Release:
    """The settings may go."""

    why: str = ""
    """Why the token may be good still; empty: it is not, or there is none."""


Step = Attempt | Wait | Release


def is_revocable(subject: TokenSubject, stored: StoredToken | None) -> bool:
    """Whether there is a refresh token of the configuration, and an endpoint that revokes it."""
    return (
        stored is not None
        and bool(stored.refresh_token)
        and stored.belongs_to(subject)
        and subject.revocation_endpoint is not None
    )


def needs_client(subject: TokenSubject) -> bool:
    """Whether the provider wants to know who asks: Google is sent the token alone."""
    return subject.family is not Family.GOOGLE


def next_step(deletion: Deletion, tried: Tried | None, *, now: datetime) -> Step:
    """What is next for settings that are being deleted.

    Args:
        deletion: What is known of them.
        tried: The attempts so far; None: none.
        now: The present time.
    """
    if not (deletion.enabled and deletion.holds_token):
        return Release()
    if tried is not None:
        return _after(deletion, tried, now)
    if deletion.unsendable:
        return Release(deletion.unsendable)
    if deletion.busy_until is not None and now < (until := min(deletion.busy_until, deletion.deleted_at + WINDOW)):
        return Wait(until)
    # However late it is: the operator may have stood still, and one attempt does not take long.
    return Attempt()


def _after(deletion: Deletion, tried: Tried, now: datetime) -> Step:
    if tried.failure is None:
        return Release()
    again = tried.ended_at + max(FIRST_DELAY * 2 ** (tried.count - 1), tried.failure.retry_after or timedelta())
    # Without the client's credentials a later attempt would fail likewise.
    if not deletion.has_client or deletion.unsendable or again >= deletion.deleted_at + WINDOW:
        return Release(described(tried.failure))
    return Attempt() if again <= now else Wait(again)


_TOLD_ERRORS: Final = frozenset(
    {"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_token_type"}
)
"""Sources: RFC 7009 §2.2.1, RFC 6749 §5.2. What else stands there may be anything, the token too."""


def described(failure: Failure) -> str:
    """A failed attempt in words that hold nothing of what the provider said."""
    if failure.kind is FailureKind.ANSWER:
        error = f" {failure.error}" if failure.error in _TOLD_ERRORS else ""
        return f"the provider answered {failure.status}{error}"
    detail = f", {failure.detail}" if failure.detail else ""
    return f"the call of the provider failed: {failure.kind.replace('-', ' ')}{detail}"
