"""What is to become of a token: kept or dropped, renewed now or later, and what is to be said. Pure and level-based.

The token itself is in a Secret of its own; how the last attempts failed is in the status, so that a restart neither
forgets a back-off nor asks a provider again what it has just refused.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from mailsettings.api.conditions import Reason
from mailsettings.api.status import MAX_SCOPES, OAuth2Failure, OAuth2Status, OAuth2Warning, ProbeStatus, TokenState
from mailsettings.core.clock import format_time, parse_time
from mailsettings.core.digest import Digester
from mailsettings.core.finding import Finding, failed, passed, unknown
from mailsettings.core.oauth2.faults import TokenFault
from mailsettings.core.oauth2.renewal import is_fresh, renew_at, retry_delay
from mailsettings.core.oauth2.stored import StoredToken
from mailsettings.core.oauth2.subject import TokenSubject
from mailsettings.core.oauth2.terms import ConsentPage
from mailsettings.core.refusals import is_first_refusal

MAX_SLEEP: Final = timedelta(days=7)
"""A due time further away was not set by this clock."""

REFUSED_REMEDY: Final = (
    "Correct what refuses it: the operator's role, a quota or an admission policy for Secrets in the operator's "
    "namespace. It is tried again and again."
)

MIN_INTERVAL: Final = timedelta(seconds=1)
"""Between renewals that succeed, so that a provider whose tokens live for no time at all is not asked without end."""


@dataclass(frozen=True, slots=True)
class FailedRenewal:
    """An attempt that has failed and is not yet in the status."""

    subject: TokenSubject
    fault: TokenFault
    ended_at: datetime
    token: str | None = None
    """The serial of the token that it was to replace; None: there was none."""
    request: str | None = None
    """The annotation by which a person asks for a renewal, as it was when the attempt began."""
    of_consent: bool = False
    """Whether it was a person's attempt, which tells nothing against a token that is held."""


class Urgency(Enum):
    """Why a token is renewed ahead of its time."""

    USUAL = auto()
    """It is not."""
    REFUSED = auto()
    """A mail server has refused this very token."""
    ASKED = auto()
    """A person asks for it, and nothing has been attempted for that yet."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done."""

    due: datetime | None
    """When to renew; the past: now; None: never, since only a person can give a new token."""
    finding: Finding
    """What the `Authorized` condition says."""
    state: TokenState
    failure: OAuth2Failure | None
    """What has to be remembered of earlier attempts."""


def is_dropped(stored: StoredToken | None, subject: TokenSubject) -> bool:
    """Whether the token is of a configuration that is no longer the object's."""
    return stored is not None and not stored.belongs_to(subject)


def decide(
    stored: StoredToken | None,
    subject: TokenSubject,
    failure: OAuth2Failure | None,
    *,
    now: datetime,
    seed: str,
    urgency: Urgency = Urgency.USUAL,
    awaited: Finding | None = None,
    unstored: str | None = None,
) -> Decision:
    """What is to become of the token.

    Args:
        stored: The token that is held, of this configuration; None: there is none.
        subject: The configuration.
        failure: How the last attempts failed, where nothing has changed since, as `still_meant` has it.
        now: The present time.
        seed: What jitter depends on: the object's uid.
        urgency: Whether it is to be renewed ahead of its time.
        awaited: What is said while only a person can give a token, as `awaited_consent` has it.
        unstored: How the API server refuses to store a new token that the operator has got; None: it does not.
    """
    due = None
    if subject.can_renew(stored):
        due = _due(stored, subject, now=now, seed=seed, urgency=urgency)
        if failure is not None and failure.retry_at and not _hurries(urgency, failure):
            due = max(due, parse_time(failure.retry_at))
    return Decision(
        due=due,
        finding=_finding(stored, subject, failure, now, awaited)
        if unstored is None
        else _unstored(stored, unstored, now),
        state=_state(stored, failure, now, is_held_up=unstored is not None, is_renewing=due is not None and due <= now),
        failure=failure,
    )


def is_asked_for(requested: str | None, stored: StoredToken | None, failure: OAuth2Failure | None) -> bool:
    """Whether a person asks for a renewal, and none has been attempted for that yet.

    What has been attempted is written down with the attempt's own outcome, so a crash repeats none that succeeded.
    """
    handled = (stored.request if stored is not None else None, failure.request if failure is not None else None)
    return requested is not None and requested not in handled


def _hurries(urgency: Urgency, failure: OAuth2Failure) -> bool:
    """A person who asks knows why it should go better now; a provider that asks for time gets it all the same."""
    return urgency is Urgency.ASKED and failure.cause != Reason.PROVIDER_THROTTLED


def _due(stored: StoredToken | None, subject: TokenSubject, *, now: datetime, seed: str, urgency: Urgency) -> datetime:
    if stored is None or urgency is Urgency.REFUSED or not stored.was_got_by(subject):
        return now
    if urgency is Urgency.ASKED:
        return min(max(now, stored.issued_at + MIN_INTERVAL), now + MIN_INTERVAL)
    due = max(renew_at(stored.token, seed=seed), stored.issued_at + MIN_INTERVAL)
    return due if due - now <= MAX_SLEEP else now


def _finding(
    stored: StoredToken | None,
    subject: TokenSubject,
    failure: OAuth2Failure | None,
    now: datetime,
    awaited: Finding | None,
) -> Finding:
    """A provider that is down tells nothing against a token that still lives; one that refuses does."""
    live = stored is not None and stored.is_live(now)
    if failure is not None and not (live and failure.transient):
        return failed(Reason(failure.cause), failure.explained)
    if awaited is not None and not subject.can_renew(stored):
        return awaited
    if not live:
        what = "A first token is being fetched" if stored is None else "The token has run out and is being renewed"
        return unknown(Reason.TOKEN_PENDING, f"{what} for {subject.oauth2.username}.")
    if failure is not None:
        return passed(Reason.AUTHORIZED, f"The token still lives, but its renewal is delayed. {failure.explained}")
    return passed(Reason.AUTHORIZED, f"A live token for {subject.oauth2.username} is held; it is renewed in time.")


def stranded(stored: StoredToken, failure: OAuth2Failure | None, now: datetime) -> Decision:
    """What is to be said while what the token is renewed with cannot be read."""
    cause = "it cannot be renewed: CredentialsResolved says what is missing"
    if stored.is_live(now):
        finding = passed(Reason.AUTHORIZED, f"The token lives until {format_time(stored.expires_at)}, but {cause}.")
    else:
        finding = unknown(Reason.TOKEN_PENDING, f"The token has run out, and {cause}.")
    return Decision(due=None, finding=finding, state=_state(stored, failure, now), failure=failure)


def authorize_command(namespace: str, name: str) -> str:
    """What a person can run to consent, in full; `namespace` is empty for a cluster object."""
    target = f"{name} -n {namespace}" if namespace else f"--cluster {name}"
    return f"kubectl mailsettings authorize {target}"


def awaited_consent(subject: TokenSubject, page: ConsentPage | None, *, command: str, dropped: bool) -> Finding | None:
    """What is said until a person has consented; None: nobody has to.

    Args:
        subject: The configuration.
        page: Where a person can consent in a browser.
        command: With which a person can consent in a terminal, as `authorize_command` has it.
        dropped: Whether there is no token because the one that was held belonged to other settings.
    """
    if not subject.oauth2.needs_consent:
        return None
    browser = "Open status.oauth2.authorizeURL in a browser, or run" if page is not None else "Run"
    remedy = f"{browser}: {command}"
    if dropped:
        # No account is named: it may be what was changed.
        lost = "The settings were changed, and what was consented to was for the old ones."
        return failed(Reason.TOKEN_DROPPED, f"{lost} {remedy}")
    awaited = f"Nobody has consented yet that mail is sent for {subject.oauth2.username}."
    return failed(Reason.CONSENT_REQUIRED, f"{awaited} {remedy}")


def _unstored(stored: StoredToken | None, why: str, now: datetime) -> Finding:
    """The provider has answered, so no earlier failure of its counts any more."""
    message = f"A new token was got, but the API server refuses to store it: {why}. {REFUSED_REMEDY}"
    if stored is not None and stored.is_live(now):
        return passed(Reason.AUTHORIZED, f"The token still lives, but its renewal is delayed. {message}")
    return failed(Reason.TOKEN_NOT_STORED, f"{message} If the operator ends meanwhile, the new token is lost.")


def _state(
    stored: StoredToken | None,
    failure: OAuth2Failure | None,
    now: datetime,
    *,
    is_held_up: bool = False,
    is_renewing: bool = False,
) -> TokenState:
    """What has become of the token.

    One that is being renewed, even if late, is not called expiring before that fails: after an outage of the operator
    it would be said of thousands at once, to be taken back a moment later.
    """
    if is_held_up:
        failure = None
    if failure is not None and failure.cause == Reason.TOKEN_REVOKED:
        return TokenState.REVOKED
    if stored is None:
        return TokenState.NOT_GENERATED
    if not stored.is_live(now):
        return TokenState.EXPIRED
    is_well = failure is None and not is_held_up and (is_renewing or is_fresh(stored.token, now))
    return TokenState.GENERATED if is_well else TokenState.EXPIRING


def still_meant(
    failure: OAuth2Failure | None, stored: StoredToken | None, subject: TokenSubject, digest: Digester
) -> OAuth2Failure | None:
    """The failure, unless a token has come since, or what it depended on has changed, or it cannot be read."""
    if failure is None or failure.attempt != digest(subject.attempt):
        return None
    try:
        if failure.retry_at is not None:
            parse_time(failure.retry_at)
        Reason(failure.cause)
    except ValueError:
        return None
    if stored is not None and stored.was_got_by(subject) and stored.serial != failure.token:
        return None
    return failure


def record(finished: FailedRenewal, before: OAuth2Failure | None, digest: Digester, *, seed: str) -> OAuth2Failure:
    """What is to be remembered after an attempt that has failed.

    A person's attempt is not made again by itself, and changes nothing about when a token is renewed. A provider that
    cannot be reached does not take back that it has refused: the refusal stays what is said.

    Args:
        finished: The attempt.
        before: The failure of the attempt before, as `still_meant` has it.
        digest: Makes the fingerprint of what was attempted.
        seed: What jitter depends on: the object's uid.
    """
    fault = finished.fault
    failures = 1 + (before.consecutive_failures if before else 0)
    stays = before is not None and not before.transient and fault.is_transient
    if finished.of_consent:
        retry_at, token = (before.retry_at, before.token) if before is not None else (None, finished.token)
    else:
        # Rounded up: the provider may have said how long to wait.
        delay = retry_delay(fault, consecutive_failures=failures, seed=seed) + timedelta(seconds=1)
        retry_at, token = format_time(finished.ended_at + delay), finished.token
    told = before if before is not None and stays else None
    return OAuth2Failure(
        cause=told.cause if told else str(fault.reason),
        message=told.message if told else fault.happened,
        remedy=(told.remedy if told else fault.remedy) or None,
        docs=(told.docs if told else fault.docs) or None,
        transient=fault.is_transient and not stays,
        time=format_time(finished.ended_at),
        retry_at=retry_at,
        consecutive_failures=failures,
        attempt=digest(finished.subject.attempt),
        token=token,
        request=finished.request or (before.request if before else None),
    )


def urgency_of(
    stored: StoredToken | None, failure: OAuth2Failure | None, probe: ProbeStatus | None, requested: str | None
) -> Urgency:
    """Whether a token is to be renewed ahead of its time.

    Args:
        stored: The token that is held.
        failure: How the last attempts failed.
        probe: What the status says of the probe.
        requested: The annotation by which a person asks for a renewal.
    """
    if is_asked_for(requested, stored, failure):
        return Urgency.ASKED
    return Urgency.REFUSED if is_refused(stored, probe) else Urgency.USUAL


def is_refused(stored: StoredToken | None, probe: ProbeStatus | None) -> bool:
    """Whether a mail server has refused the token that is held, for the first time in a row.

    Only then is it renewed ahead of its time: were it for every refusal, a mailbox that lacks a right would have its
    token renewed for ever.
    """
    return stored is not None and probe is not None and is_first_refusal(probe) and probe.token == stored.serial


def oauth2_status(
    stored: StoredToken | None,
    subject: TokenSubject,
    decision: Decision,
    now: datetime,
    *,
    page: ConsentPage | None = None,
    warnings: list[OAuth2Warning] | None = None,
) -> OAuth2Status:
    """What the status says; `page` is where a person can consent in a browser."""
    # What is due at once, whatever the time, has none of its own: it would change with every look. That a planned time
    # is past is no news either: the end of the renewal is.
    planned = decision.due if decision.due != now else None
    if stored is None:
        return OAuth2Status(
            token_state=decision.state,
            account=subject.oauth2.username,
            authorize_url=page.url if page else None,
            redirect_uri=page.redirect_uri if page else None,
            next_refresh_time=format_time(planned) if planned else None,
            last_handled_request=_last_handled(stored, decision),
            warnings=warnings,
            failure=decision.failure,
        )
    return OAuth2Status(
        token_state=decision.state,
        account=stored.account or subject.oauth2.username,
        authorize_url=page.url if page else None,
        redirect_uri=page.redirect_uri if page else None,
        scopes=[*stored.scopes[:MAX_SCOPES]] or None,
        access_token_expires_at=format_time(stored.expires_at),
        refresh_token_expires_at=format_time(stored.refresh_token_expires_at)
        if stored.refresh_token_expires_at
        else None,
        last_refresh_time=format_time(stored.issued_at),
        next_refresh_time=format_time(planned) if planned else None,
        last_handled_request=_last_handled(stored, decision),
        warnings=warnings,
        failure=decision.failure,
    )


def _last_handled(stored: StoredToken | None, decision: Decision) -> str | None:
    in_vain = decision.failure.request if decision.failure is not None else None
    return in_vain or (stored.request if stored is not None else None)
