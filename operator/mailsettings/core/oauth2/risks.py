"""What will end the renewal of a token unless a person acts in time: it is told ahead. Pure."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from mailsettings.api import names
from mailsettings.api.conditions import ConditionType, Reason
from mailsettings.api.grants import Grant
from mailsettings.api.identity import Family
from mailsettings.api.status import Condition, OAuth2Status, OAuth2Warning, WarningCause
from mailsettings.core.clock import format_time, parse_time
from mailsettings.core.finding import Finding
from mailsettings.core.oauth2.stored import StoredToken
from mailsettings.core.oauth2.subject import TokenSubject

REFRESH_TOKEN_AHEAD: Final = timedelta(days=3)
"""How long before its end a refresh token is warned of, at most half its life."""
IDLE_REFRESH_TOKEN_AHEAD: Final = {Family.MICROSOFT: timedelta(days=14)}
"""The same where every use prolongs the life: then renewals have failed for months, and nothing is urgent yet."""

CLIENT_AHEAD: Final = timedelta(days=30)
"""How long before its end the client's authentication is warned of: whoever may replace it has to be found first."""
SHORT_CERTIFICATE_AHEAD: Final = 1 / 4
"""At most this share of a certificate's life: short ones are replaced by machines, which begin with a third left."""

NEWS: Final = timedelta(days=1)
"""An end that moves by less is the one that was announced before: providers count in seconds left."""

_RFC3339: Final = re.compile(
    r"2[0-9]{3}-[0-9]{2}-[0-9]{2}([Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2}))?"
)


@dataclass(frozen=True, slots=True)
class ClientEnds:
    """What is known of the end of the client's authentication."""

    certificate: tuple[datetime, datetime] | None = None
    """From when until when it is valid."""
    annotation: str | None = None
    """What the annotation `expires-at` of the Secret with the client secret or key says."""


@dataclass(frozen=True, slots=True)
class Risk:
    """Something that ends."""

    cause: WarningCause
    ends_at: datetime | None
    """None: it cannot be read when."""
    told_from: datetime
    """When the warning is due."""
    remedy: str

    @property
    def message(self) -> str:
        """The warning."""
        if self.ends_at is None:
            return self.remedy
        return f"{_TITLES[self.cause]} runs out at {_minute(self.ends_at)}. {self.remedy}"


_TITLES: Final = {
    WarningCause.REFRESH_TOKEN: "The refresh token",
    WarningCause.CLIENT_CERTIFICATE: "The client certificate",
    WarningCause.CLIENT_SECRET: "The client secret",
    WarningCause.SERVICE_ACCOUNT_KEY: "The service account's key",
}


def risks(subject: TokenSubject, stored: StoredToken | None, client: ClientEnds) -> list[Risk]:
    """Everything whose end is known, whether it is near or not."""
    return [*_refresh_token(subject, stored), *_certificate(client), *_annotated(subject, client)]


def standing(found: Iterable[Risk], now: datetime) -> list[Risk]:
    """Those that are to be told now."""
    return [risk for risk in found if risk.told_from <= now]


def next_due(found: Iterable[Risk], now: datetime) -> datetime | None:
    """When there will be something new to tell; None: never."""
    return min((risk.told_from for risk in found if risk.told_from > now), default=None)


def warned(finding: Finding, told: Iterable[Risk]) -> Finding:
    """A finding that holds with its warnings. The reason stays: a token that lives is as good as before."""
    if not finding.holds:
        return finding
    return replace(finding, message=" ".join([finding.message, *(f"Warning: {risk.message}" for risk in told)]))


def warnings(told: Iterable[Risk]) -> list[OAuth2Warning] | None:
    """What the status says; None: nothing."""
    return [
        OAuth2Warning(
            cause=risk.cause, expires_at=format_time(risk.ends_at) if risk.ends_at else None, message=risk.message
        )
        for risk in told
    ] or None


def announcements(before: OAuth2Status | None, after: OAuth2Status | None, *, generation: int) -> list[Condition]:
    """The warnings that are new, as events want them."""
    known = (before.warnings if before else None) or []
    return [
        Condition(
            type=ConditionType.AUTHORIZED,
            status="False",
            reason=Reason.RENEWAL_AT_RISK,
            message=warning.message,
            last_transition_time="",
            observed_generation=generation,
        )
        for warning in (after.warnings if after else None) or []
        if not any(_is_same(warning, other) for other in known)
    ]


def _is_same(one: OAuth2Warning, other: OAuth2Warning) -> bool:
    if one.cause != other.cause or None in (one.expires_at, other.expires_at):
        return (one.cause, one.expires_at) == (other.cause, other.expires_at)
    try:
        return abs(parse_time(one.expires_at or "") - parse_time(other.expires_at or "")) < NEWS
    except ValueError:
        return False


def _refresh_token(subject: TokenSubject, stored: StoredToken | None) -> Iterator[Risk]:
    if stored is None or stored.refresh_token_expires_at is None or subject.refresh_token(stored) is None:
        return
    if subject.refresh_token(stored) != stored.refresh_token:
        return  # another one has been brought, and is about to be used
    ends_at = stored.refresh_token_expires_at
    life = ends_at - (stored.refresh_token_since or stored.issued_at)
    ahead = IDLE_REFRESH_TOKEN_AHEAD.get(subject.family, REFRESH_TOKEN_AHEAD)
    remedy = (
        "Put a new one into the Secret of auth.oauth2.refreshTokenSecretRef before."
        if subject.oauth2.grant is Grant.REFRESH_TOKEN
        else "Consent again before."
    )
    yield Risk(
        WarningCause.REFRESH_TOKEN,
        ends_at,
        ends_at - min(ahead, life / 2),
        f"{_CIRCUMSTANCES.get(subject.family, '')}{remedy}",
    )


_CIRCUMSTANCES: Final = {
    Family.GOOGLE: "Google ends it after seven days while the publishing status of the consent screen is Testing: "
    'set it to "In production". ',
    Family.MICROSOFT: "Any renewal would prolong it, so renewals have failed for long: the log says why. ",
}


def _certificate(client: ClientEnds) -> Iterator[Risk]:
    if client.certificate is None:
        return
    begins_at, ends_at = client.certificate
    if ends_at < begins_at or begins_at < _FIRST_CERTIFICATE:
        return  # nobody takes it, and its use will say so
    ahead = min(CLIENT_AHEAD, (ends_at - begins_at) * SHORT_CERTIFICATE_AHEAD)
    yield Risk(
        WarningCause.CLIENT_CERTIFICATE,
        ends_at,
        ends_at - ahead,
        "Make the provider know another one, then put it with its key into the Secret of "
        "auth.oauth2.clientAuth.certificateRef.",
    )


_FIRST_CERTIFICATE: Final = datetime(1950, 1, 1, tzinfo=UTC)
"""Source: RFC 5280 §4.1.2.5."""


def _annotated(subject: TokenSubject, client: ClientEnds) -> Iterator[Risk]:
    if client.annotation is None:
        return
    is_key = subject.oauth2.grant is Grant.SERVICE_ACCOUNT
    cause = WarningCause.SERVICE_ACCOUNT_KEY if is_key else WarningCause.CLIENT_SECRET
    field = "auth.oauth2.serviceAccountKeyRef" if is_key else "auth.oauth2.clientAuth.secretRef"
    ends_at = parse_end(client.annotation)
    if ends_at is None:
        text = f"{field}: the annotation {names.ANNOTATION_EXPIRES_AT} of the Secret is no date as RFC 3339 has it."
        yield Risk(cause, None, datetime.min.replace(tzinfo=UTC), text)
        return
    remedy = f"Make another one at the provider and put it into the Secret of {field}, with its own date."
    yield Risk(cause, ends_at, ends_at - CLIENT_AHEAD, remedy)


def parse_end(text: str) -> datetime | None:
    """The moment that an annotation names: a date, whose beginning counts in UTC, or a time. Source: RFC 3339 §5.6."""
    if _RFC3339.fullmatch(text.strip()) is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip().upper())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _minute(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
