"""What runs out is told ahead, and once."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.oauth2 import OAuth2
from mailsettings.api.status import OAuth2Status, OAuth2Warning, TokenState, WarningCause
from mailsettings.core.finding import failed, passed
from mailsettings.core.oauth2.request import Token
from mailsettings.core.oauth2.risks import (
    ClientEnds,
    Risk,
    announcements,
    next_due,
    parse_end,
    risks,
    standing,
    warned,
    warnings,
)
from mailsettings.core.oauth2.secrets import OAuth2Secrets
from mailsettings.core.oauth2.stored import StoredToken
from mailsettings.core.oauth2.subject import TokenSubject, token_subject
from mailsettings.core.server import Source
from tests.unit.test_oauth2_fingerprint import DIGEST, REF, subject

NOW: Final = datetime(2026, 11, 22, 16, 40, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
NOTHING: Final = ClientEnds()


def answer(
    of: TokenSubject,
    at: datetime = NOW,
    *,
    refresh: timedelta | None = None,
    before: StoredToken | None = None,
    **more: Any,
) -> StoredToken:
    """What is kept of an answer whose refresh token lives so long from then on."""
    token = Token("access", at, at + HOUR, refresh_token_expires_at=at + refresh if refresh else None, **more)
    sent = (before.refresh_token if before else None) or "seed"
    return StoredToken.of(token, of, sent=sent, before=before)


def only(found: list[Risk]) -> Risk:
    (risk,) = found
    return risk


# --- the refresh token ---


@pytest.mark.parametrize(
    ("provider", "life", "ahead"),
    [
        ("Office365", None, 14 * DAY),
        ("Office365", 10 * DAY, 5 * DAY),
        ("Google", timedelta(seconds=604799), 3 * DAY),
        ("Custom", 30 * DAY, 3 * DAY),
        ("Custom", HOUR, HOUR / 2),
    ],
)
def test_refresh_token_is_warned_of_ahead(provider: str, life: timedelta | None, ahead: timedelta) -> None:
    of = subject(provider)
    risk = only(risks(of, answer(of, refresh=life), NOTHING))
    ends_at = NOW + (life or 90 * DAY)
    assert (risk.cause, risk.ends_at) == (WarningCause.REFRESH_TOKEN, ends_at)
    assert risk.told_from == ends_at - ahead
    assert standing([risk], risk.told_from) == [risk]
    assert standing([risk], risk.told_from - timedelta(seconds=1)) == []
    assert next_due([risk], risk.told_from - timedelta(seconds=1)) == risk.told_from
    assert next_due([risk], risk.told_from) is None


def test_nothing_is_said_of_a_refresh_token_whose_end_nobody_knows() -> None:
    of = subject("Custom")
    assert risks(of, answer(of), NOTHING) == []
    assert risks(of, None, NOTHING) == []


def test_nothing_is_said_of_a_refresh_token_that_is_not_used() -> None:
    of = subject("Google")
    old = answer(of, refresh=DAY)
    assert risks(subject("Google", refresh_token="brought"), old, NOTHING) == []
    oauth2 = {"username": "a", "grant": "ClientCredentials", "clientID": "c", "clientAuth": {"secretRef": REF}}
    client = token_subject(
        "Custom", OAuth2.model_validate(oauth2), OAuth2Secrets("s"), level=Source.TENANT, digest=DIGEST
    )
    assert risks(client, answer(client, refresh=DAY), NOTHING) == []


def test_end_that_stands_still_is_warned_of_although_tokens_are_renewed() -> None:
    """Seven days from the consent on, whatever Google is asked meanwhile; the seconds are counted late."""
    of = subject("Google")
    first = kept = answer(of, refresh=7 * DAY)
    for hour in range(1, 5 * 24):
        late = timedelta(seconds=hour % 3)
        kept = answer(of, NOW + hour * HOUR, refresh=7 * DAY - hour * HOUR - late, before=kept)
    risk = only(risks(of, kept, NOTHING))
    assert risk.told_from == pytest.approx(NOW + 4 * DAY, abs=timedelta(seconds=3))
    assert kept.refresh_token_since == first.issued_at


def test_end_that_moves_with_every_renewal_is_far_away() -> None:
    of = subject("Custom")
    kept = answer(of, refresh=HOUR)
    for minute in range(5, 600, 5):
        at = NOW + timedelta(minutes=minute)
        kept = answer(of, at, refresh=HOUR, before=kept, refresh_token=f"rotated {minute}")
        risk = only(risks(of, kept, NOTHING))
        assert risk.told_from == at + HOUR / 2


def test_answer_wins_over_what_is_documented_and_over_what_was_known() -> None:
    assert answer(subject(), refresh=DAY).refresh_token_expires_at == NOW + DAY
    assert answer(subject()).refresh_token_expires_at == NOW + 90 * DAY
    of = subject("Custom")
    known = answer(of, refresh=7 * DAY)
    later = NOW + HOUR
    assert answer(of, later, before=known).refresh_token_expires_at == NOW + 7 * DAY
    assert answer(of, later, before=known, refresh_token="new").refresh_token_expires_at is None
    brought = Token("access", later, later + HOUR)
    assert StoredToken.of(brought, of, sent="another seed", before=known).refresh_token_expires_at is None


def test_only_an_end_that_renewals_prolong_hastens_them() -> None:
    of = subject("Custom")
    first = answer(of, refresh=HOUR)
    assert first.token.refresh_token_expires_at == NOW + HOUR
    standing_still = answer(of, NOW + HOUR / 2, refresh=HOUR / 2, before=first)
    assert standing_still.token.refresh_token_expires_at is None


def test_warning_names_the_likely_cause_and_the_remedy() -> None:
    google, microsoft = subject("Google"), subject()
    assert "Testing" in only(risks(google, answer(google, refresh=DAY), NOTHING)).message
    message = only(risks(microsoft, answer(microsoft), NOTHING)).message
    assert message.startswith("The refresh token runs out at 2027-02-20 16:40 UTC. ")
    assert "renewals have failed" in message
    assert "auth.oauth2.refreshTokenSecretRef" in message


# --- the client ---


@pytest.mark.parametrize(("life", "ahead"), [(730, 30), (365, 30), (120, 30), (90, 22.5), (1, 0.25)])
def test_certificate_is_warned_of_ahead(life: float, ahead: float) -> None:
    ends = ClientEnds(certificate=(NOW, NOW + life * DAY))
    risk = only(risks(subject("Custom"), None, ends))
    assert (risk.cause, risk.ends_at) == (WarningCause.CLIENT_CERTIFICATE, NOW + life * DAY)
    assert risk.told_from == NOW + (life - ahead) * DAY


@pytest.mark.parametrize(
    "certificate", [(NOW, NOW - DAY), (datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC))]
)
def test_certificate_that_nobody_takes_is_not_the_warnings_concern(certificate: tuple[datetime, datetime]) -> None:
    assert risks(subject("Custom"), None, ClientEnds(certificate=certificate)) == []


def test_client_secret_is_warned_of_by_its_annotation() -> None:
    risk = only(risks(subject("Custom"), None, ClientEnds(annotation="2027-03-31")))
    assert (risk.cause, risk.ends_at) == (WarningCause.CLIENT_SECRET, datetime(2027, 3, 31, tzinfo=UTC))
    assert risk.told_from == datetime(2027, 3, 1, tzinfo=UTC)
    assert "auth.oauth2.clientAuth.secretRef" in risk.message


def test_service_account_key_is_warned_of_by_its_annotation() -> None:
    oauth2 = OAuth2.model_validate({"username": "a", "grant": "ServiceAccount", "serviceAccountKeyRef": REF})
    of = token_subject("Google", oauth2, OAuth2Secrets(), level=Source.TENANT, digest=DIGEST)
    risk = only(risks(of, None, ClientEnds(annotation="2027-03-31")))
    assert risk.cause is WarningCause.SERVICE_ACCOUNT_KEY
    assert "auth.oauth2.serviceAccountKeyRef" in risk.message


def test_annotation_that_cannot_be_read_is_told_without_repeating_it() -> None:
    risk = only(standing(risks(subject("Custom"), None, ClientEnds(annotation="<next year>")), NOW))
    assert risk.ends_at is None
    assert "mailsettings.dev/expires-at" in risk.message
    assert "next year" not in risk.message
    assert (warnings([risk]) or [])[0].expires_at is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-03-31", datetime(2027, 3, 31, tzinfo=UTC)),
        (" 2027-03-31T10:00:00Z ", datetime(2027, 3, 31, 10, tzinfo=UTC)),
        ("2027-03-31t10:00:00.5z", datetime(2027, 3, 31, 10, 0, 0, 500000, tzinfo=UTC)),
        ("2027-03-31 10:00:00+02:00", datetime(2027, 3, 31, 8, tzinfo=UTC)),
        *((text, None) for text in ("", "soon", "2027-02-30", "2027-W01-1", "20270331", "2027-03-31T10:00:00")),
        *((text, None) for text in ("0999-01-01", "9999-12-31T23:59:59-10:00", "2027-03-31T10:00:00+99:00")),
    ],
)
def test_dates_are_read_as_rfc_3339_has_them(text: str, moment: datetime | None) -> None:
    assert parse_end(text) == moment


# --- how it is told ---


def warning(expires_at: str | None = "2027-03-31T00:00:00Z", cause: str = "ClientSecret") -> OAuth2Warning:
    return OAuth2Warning(cause=WarningCause(cause), expires_at=expires_at, message="It runs out.")


def status(*told: OAuth2Warning) -> OAuth2Status:
    return OAuth2Status(token_state=TokenState.GENERATED, account="a", warnings=[*told] or None)


def test_condition_keeps_its_reason_and_gains_the_warning() -> None:
    told = standing(risks(subject("Custom"), None, ClientEnds(annotation="2026-12-01")), NOW)
    finding = warned(passed(Reason.AUTHORIZED, "Live."), told)
    assert (finding.status, finding.reason) == (True, Reason.AUTHORIZED)
    assert finding.message.startswith("Live. Warning: The client secret runs out at 2026-12-01 00:00 UTC. ")
    refused = failed(Reason.TOKEN_REVOKED, "Revoked.")
    assert warned(refused, told) == refused, "what is wrong now comes first"


def test_each_warning_is_announced_once() -> None:
    (event,) = announcements(None, status(warning()), generation=2)
    assert (event.reason, event.message, event.observed_generation) == (Reason.RENEWAL_AT_RISK, "It runs out.", 2)
    assert announcements(status(), status(warning()), generation=2) == [event]
    assert announcements(status(warning()), status(warning()), generation=2) == []
    nearly = warning("2027-03-31T00:00:07Z")
    assert announcements(status(warning()), status(nearly), generation=2) == [], "seconds left are counted late"
    another = warning("2027-04-15T00:00:00Z")
    assert len(announcements(status(warning()), status(another), generation=2)) == 1
    key = warning(cause="ClientCertificate")
    assert len(announcements(status(warning()), status(warning(), key), generation=2)) == 1
    assert announcements(status(warning()), status(), generation=2) == []
    assert announcements(status(warning(None)), status(warning(None)), generation=2) == []
    assert len(announcements(status(warning("x")), status(warning()), generation=2)) == 1
