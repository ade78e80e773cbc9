"""What becomes of a token: kept, renewed, told."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.oauth2 import OAuth2
from mailsettings.api.probe import ProbeMode
from mailsettings.api.status import MAX_SCOPES, OAuth2Failure, ProbeFailureStatus, ProbeStatus, TokenState
from mailsettings.core.clock import parse_time
from mailsettings.core.oauth2.faults import TokenFault
from mailsettings.core.oauth2.lifecycle import (
    Decision,
    FailedRenewal,
    Urgency,
    authorize_command,
    awaited_consent,
    decide,
    is_asked_for,
    is_dropped,
    is_refused,
    oauth2_status,
    record,
    still_meant,
    urgency_of,
)
from mailsettings.core.oauth2.request import Token
from mailsettings.core.oauth2.secrets import OAuth2Secrets
from mailsettings.core.oauth2.stored import StoredToken
from mailsettings.core.oauth2.subject import TokenSubject, token_subject
from mailsettings.core.oauth2.terms import ConsentPage
from mailsettings.core.server import Source
from tests.unit.test_oauth2_fingerprint import DIGEST, subject

NOW: Final = datetime(2026, 11, 22, 16, 40, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
UNREACHABLE: Final = TokenFault(Reason.PROVIDER_UNREACHABLE, "No answer.", is_transient=True)
REVOKED: Final = TokenFault(Reason.TOKEN_REVOKED, "Revoked.")


def stored(age: timedelta = timedelta(), life: timedelta = HOUR, **changes: Any) -> StoredToken:
    token = Token("access", NOW - age, NOW - age + life, refresh_token="rotated")
    return StoredToken.of(token, subject(), sent="seed").model_copy(update=changes)


def failure(
    fault: TokenFault, ago: timedelta = timedelta(), before: OAuth2Failure | None = None, token: str | None = None
) -> OAuth2Failure:
    return record(FailedRenewal(subject(), fault, NOW - ago, token=token), before, DIGEST, seed="uid")


def decided(token: StoredToken | None, failed: OAuth2Failure | None = None, **options: Any) -> Decision:
    return decide(token, subject(), failed, now=NOW, seed="uid", **options)


def due(decision: Decision) -> datetime:
    assert decision.due is not None
    return decision.due


def test_first_token_is_got_at_once_and_nothing_is_known_meanwhile() -> None:
    decision = decided(None)
    assert due(decision) <= NOW
    assert (decision.finding.status, decision.finding.reason) == (None, Reason.TOKEN_PENDING)
    assert decision.state is TokenState.NOT_GENERATED


def test_live_token_is_kept_until_it_is_due() -> None:
    decision = decided(stored())
    assert NOW + timedelta(minutes=20) < due(decision) <= NOW + timedelta(minutes=30)
    assert (decision.finding.status, decision.state) == (True, TokenState.GENERATED)


def test_expired_token_is_renewed_at_once() -> None:
    decision = decided(stored(age=2 * HOUR))
    assert due(decision) <= NOW
    assert (decision.finding.status, decision.state) == (None, TokenState.EXPIRED)


def test_provider_whose_tokens_live_for_no_time_is_not_asked_without_end() -> None:
    assert due(decided(stored(life=timedelta()))) == NOW + timedelta(seconds=1)


@pytest.mark.parametrize("changed", [{"client": "other"}, {"seed": "other"}])
def test_changed_client_secret_or_seed_is_verified_at_once(changed: dict[str, Any]) -> None:
    decision = decided(stored(**changed))
    assert due(decision) <= NOW
    assert decision.finding.holds, "the token itself is as good as before"


def test_only_another_configuration_drops() -> None:
    assert not is_dropped(None, subject())
    assert not is_dropped(stored(), subject(client_secret="new", refresh_token="new"))
    assert is_dropped(stored(fingerprint="other"), subject())


def test_outage_takes_nothing_from_a_live_token() -> None:
    decision = decided(stored(age=timedelta(minutes=40)), failure(UNREACHABLE))
    assert decision.finding.holds
    assert "No answer." in decision.finding.message
    assert due(decision) > NOW
    assert decision.state is TokenState.EXPIRING


def test_outage_that_outlasts_the_token_is_told() -> None:
    decision = decided(stored(age=2 * HOUR), failure(UNREACHABLE))
    assert (decision.finding.status, decision.finding.reason) == (False, Reason.PROVIDER_UNREACHABLE)


def test_refusal_counts_although_the_token_lives() -> None:
    decision = decided(stored(), failure(REVOKED))
    assert (decision.finding.status, decision.finding.reason) == (False, Reason.TOKEN_REVOKED)
    assert decision.state is TokenState.REVOKED


def test_outage_does_not_take_a_refusal_back() -> None:
    told = failure(UNREACHABLE, before=failure(REVOKED, ago=HOUR))
    assert (told.cause, told.transient, told.consecutive_failures) == ("TokenRevoked", False, 2)
    assert not decided(stored(), told).finding.holds


def test_failure_says_what_to_do_and_where_more_is_told() -> None:
    refused = replace(REVOKED, remedy="Do.")
    told = failure(refused)
    assert told.remedy == "Do."
    assert told.docs == "docs/troubleshooting.md#refreshtokenrevoked"
    said = "Revoked. Do. See docs/troubleshooting.md#refreshtokenrevoked."
    assert decided(stored(), told).finding.message == said == refused.message
    still = failure(UNREACHABLE, before=told)
    assert (still.message, still.remedy, still.docs) == (told.message, told.remedy, told.docs)


def test_refusal_after_an_outage_is_told() -> None:
    assert failure(REVOKED, before=failure(UNREACHABLE, ago=HOUR)).cause == "TokenRevoked"


def test_new_token_that_cannot_be_stored_is_told_and_takes_nothing_from_the_old_one() -> None:
    decision = decided(stored(), unstored="403 Forbidden")
    assert (decision.finding.status, decision.finding.reason) == (True, Reason.AUTHORIZED)
    assert "403 Forbidden" in decision.finding.message
    assert decision.state is TokenState.EXPIRING
    for token in (None, stored(age=2 * HOUR)):
        decision = decided(token, failure(REVOKED), unstored="403 Forbidden")
        assert (decision.finding.status, decision.finding.reason) == (False, Reason.TOKEN_NOT_STORED)
        assert decision.finding.reason.needs_person
        assert decision.state is not TokenState.REVOKED, "the provider has given a token since"


def test_provider_that_asks_for_time_gets_it() -> None:
    throttled = TokenFault(Reason.PROVIDER_THROTTLED, "Later.", retry_after=timedelta(minutes=7), is_transient=True)
    retry_at = failure(throttled).retry_at
    assert retry_at is not None
    assert parse_time(retry_at) >= NOW + timedelta(minutes=7)


def test_failure_is_meant_until_something_changes() -> None:
    held = stored()
    told = failure(REVOKED, token=held.serial)
    assert still_meant(told, held, subject(), DIGEST) == told
    assert still_meant(told, None, subject(client_secret="new"), DIGEST) is None
    assert still_meant(told, None, subject(refresh_token="new"), DIGEST) is None
    assert still_meant(told, stored(), subject(), DIGEST) is None, "a token has come since"
    assert still_meant(failure(REVOKED), stored(), subject(), DIGEST) is None, "the first token has come since"
    assert still_meant(told.model_copy(update={"retry_at": "soon"}), None, subject(), DIGEST) is None
    assert still_meant(told.model_copy(update={"cause": "Gone"}), None, subject(), DIGEST) is None


def probed(token: str, failures: int = 1, reason: Reason = Reason.BAD_CREDENTIALS, stage: str = "auth") -> ProbeStatus:
    return ProbeStatus(
        mode=ProbeMode.AUTHENTICATE,
        last_probe_time="2026-11-22T16:39:00Z",
        duration="1ms",
        consecutive_failures=failures,
        fingerprint="x",
        generation=1,
        token=token,
        failure=ProbeFailureStatus(stage=stage, cause=reason, message=""),
    )


def test_refused_token_is_renewed_once() -> None:
    token = stored()
    assert is_refused(token, probed(token.serial))
    assert due(decided(token, urgency=Urgency.REFUSED)) <= NOW
    for refusal in (Reason.TOKEN_EXPIRED, Reason.WRONG_TOKEN_SCOPE_OR_AUDIENCE, Reason.MAILBOX_NOT_PERMITTED):
        assert is_refused(token, probed(token.serial, reason=refusal))
    assert not is_refused(token, probed(token.serial, stage="mail"))
    assert not is_refused(token, probed("another"))
    assert not is_refused(token, probed(token.serial, failures=2))
    assert not is_refused(token, probed(token.serial, reason=Reason.CONNECTION_TIMEOUT))
    assert not is_refused(None, probed(token.serial))
    assert not is_refused(token, None)


def test_a_person_s_request_leads_to_one_renewal_for_each_value() -> None:
    held = stored(age=timedelta(minutes=1))
    assert urgency_of(held, None, None, None) is Urgency.USUAL
    assert urgency_of(held, None, None, "1") is Urgency.ASKED
    assert due(decided(held, urgency=Urgency.ASKED)) <= NOW
    got = stored(request="1")
    assert not is_asked_for("1", got, None)
    assert is_asked_for("2", got, None)
    assert not is_asked_for(None, got, None), "the annotation was removed"
    assert urgency_of(held, None, probed(held.serial), "1") is Urgency.ASKED


def test_requests_do_not_lead_to_renewals_without_end() -> None:
    """A token that is brand-new is left alone for a moment, whoever asks; a clock that was wrong does not matter."""
    assert due(decided(stored(), urgency=Urgency.ASKED)) == NOW + timedelta(seconds=1)
    assert due(decided(stored(age=-HOUR), urgency=Urgency.ASKED)) == NOW + timedelta(seconds=1)


def test_a_request_does_not_wait_for_the_next_attempt_unless_the_provider_asks_for_time() -> None:
    old = stored(age=timedelta(minutes=1))
    assert due(decided(old, failure(REVOKED), urgency=Urgency.ASKED)) <= NOW
    throttled = TokenFault(Reason.PROVIDER_THROTTLED, "Later.", retry_after=timedelta(minutes=7), is_transient=True)
    assert due(decided(old, failure(throttled), urgency=Urgency.ASKED)) >= NOW + timedelta(minutes=7)


def test_a_request_that_failed_is_not_repeated_and_is_told() -> None:
    held = stored(request="1")
    asked = FailedRenewal(subject(), REVOKED, NOW, token=held.serial, request="2")
    told = record(asked, None, DIGEST, seed="uid")
    assert not is_asked_for("2", held, told)
    assert due(decided(held, told)) > NOW
    later = record(FailedRenewal(subject(), REVOKED, NOW, token=held.serial), told, DIGEST, seed="uid")
    assert not is_asked_for("2", held, later), "an attempt for no request forgets none"
    for token, failed, expected in ((held, told, "2"), (held, None, "1"), (None, told, "2"), (None, None, None)):
        status = oauth2_status(token, subject(), decided(token, failed), NOW)
        assert status.last_handled_request == expected


def test_answer_without_a_refresh_token_keeps_the_old_one() -> None:
    kept = StoredToken.of(Token("access", NOW, NOW + HOUR), subject(), sent="seed")
    assert kept.refresh_token == "seed"
    assert stored().refresh_token == "rotated"


def test_stored_refresh_token_wins_until_another_one_is_brought() -> None:
    kept = stored()
    assert subject().refresh_token(kept) == "rotated"
    assert subject(client_secret="new").refresh_token(kept) == "rotated"
    assert subject(refresh_token="new").refresh_token(kept) == "new"
    assert subject().refresh_token(stored(fingerprint="other")) == "seed"
    assert subject().refresh_token(None) == "seed"


def test_stored_token_survives_its_document_and_shows_no_secret() -> None:
    kept = stored()
    assert StoredToken.parse(kept.model_dump_json().encode()) == kept
    assert "access'" not in repr(kept)
    assert "rotated" not in repr(kept)
    for broken in (b"", b"{}", b"\xff", b"[]", b'{"serial": 1}'):
        assert StoredToken.parse(broken) is None


def test_status_tells_times_but_no_secret() -> None:
    token = stored()
    status = oauth2_status(token, subject(), decided(token), NOW, page=None)
    assert status.access_token_expires_at == "2026-11-22T17:40:00Z"
    assert status.refresh_token_expires_at == "2027-02-20T16:40:00Z"
    assert status.account == "no-reply@acme.example"
    assert "rotated" not in status.model_dump_json()
    assert oauth2_status(None, subject(), decided(None), NOW, page=None).next_refresh_time is None


def test_status_of_a_stored_token_with_too_many_scopes() -> None:
    token = stored(scopes=tuple(f"s{n}" for n in range(MAX_SCOPES + 1)))
    assert oauth2_status(token, subject(), decided(token), NOW).scopes == [*token.scopes[:MAX_SCOPES]]


CONSENT: Final[dict[str, Any]] = {
    "username": "no-reply@acme.example",
    "grant": "AuthorizationCode",
    "clientID": "client",
    "directoryID": "acme.example",
}
COMMAND: Final = authorize_command("shop", "mail")
PAGE: Final = ConsentPage("https://consent.acme.example/oauth2/start/uid", "https://consent.acme.example/callback")


def consented() -> TokenSubject:
    return token_subject(
        "Office365", OAuth2.model_validate(CONSENT), OAuth2Secrets(), level=Source.TENANT, digest=DIGEST
    )


def test_consent_is_awaited_with_the_way_that_there_is() -> None:
    in_browser = awaited_consent(consented(), PAGE, command=COMMAND, dropped=False)
    in_terminal = awaited_consent(consented(), None, command=COMMAND, dropped=False)
    assert in_browser is not None
    assert in_terminal is not None
    assert (in_browser.status, in_browser.reason) == (False, Reason.CONSENT_REQUIRED)
    assert "authorizeURL" in in_browser.message
    assert "authorizeURL" not in in_terminal.message
    for told in (in_browser.message, in_terminal.message):
        assert told.endswith("un: kubectl mailsettings authorize mail -n shop")
    assert authorize_command("", "default") == "kubectl mailsettings authorize --cluster default"
    assert awaited_consent(subject(), PAGE, command=COMMAND, dropped=False) is None, "nobody has to consent"


def test_dropped_consent_is_told_until_there_is_another() -> None:
    awaited = awaited_consent(consented(), PAGE, command=COMMAND, dropped=True)
    decision = decide(None, consented(), None, now=NOW, seed="uid", awaited=awaited)
    assert decision.due is None, "no provider is asked for what only a person can give"
    assert (decision.finding.status, decision.finding.reason) == (False, Reason.TOKEN_DROPPED)
    assert decision.finding.message.endswith(COMMAND)
    assert consented().oauth2.username not in decision.finding.message, "it may be what was changed"
    token = Token("access", NOW, NOW + HOUR, refresh_token="refresh")
    held = StoredToken.of(token, consented(), sent=None)
    decision = decide(held, consented(), None, now=NOW, seed="uid", awaited=None)
    assert decision.finding.holds
    assert due(decision) > NOW


def test_failed_consent_is_told_and_nothing_is_tried_again() -> None:
    denied = FailedRenewal(consented(), TokenFault(Reason.CONSENT_DENIED, "No."), NOW, of_consent=True)
    told = record(denied, None, DIGEST, seed="uid")
    awaited = awaited_consent(consented(), PAGE, command=COMMAND, dropped=False)
    decision = decide(None, consented(), told, now=NOW, seed="uid", awaited=awaited)
    assert (decision.due, decision.finding.reason) == (None, Reason.CONSENT_DENIED)
    assert told.retry_at is None
    assert still_meant(told, None, consented(), DIGEST) == told


def test_failed_consent_leaves_the_time_of_the_next_renewal() -> None:
    """The token has run out and its renewal is refused; a person's attempt brings that no sooner and no later."""
    token = Token("access", NOW - 2 * HOUR, NOW - HOUR, refresh_token="refresh")
    held = StoredToken.of(token, consented(), sent=None)
    refused = record(FailedRenewal(consented(), REVOKED, NOW, token=held.serial), None, DIGEST, seed="uid")
    denied = FailedRenewal(consented(), TokenFault(Reason.CONSENT_DENIED, "No."), NOW, of_consent=True)
    told = record(denied, refused, DIGEST, seed="uid")
    assert (told.cause, told.retry_at) == ("ConsentDenied", refused.retry_at)
    assert still_meant(told, held, consented(), DIGEST) == told
    decision = decide(held, consented(), told, now=NOW, seed="uid")
    assert refused.retry_at is not None
    assert decision.due == parse_time(refused.retry_at) > NOW


@pytest.mark.parametrize("age", [timedelta(minutes=31), timedelta(minutes=52), timedelta(minutes=59)])
def test_renewal_that_begins_is_no_news(age: timedelta) -> None:
    """Only its end is written, however late it begins."""
    token = stored(age=age)
    planned, late = (
        oauth2_status(token, subject(), decide(token, subject(), None, now=at, seed="uid"), at)
        for at in (token.issued_at, NOW)
    )
    assert due(decided(token)) < NOW
    assert late == planned


def test_token_that_nobody_renews_is_told_to_expire() -> None:
    token = StoredToken.of(Token("access", NOW - HOUR, NOW + timedelta(minutes=9)), consented(), sent=None)
    decision = decide(token, consented(), None, now=NOW, seed="uid")
    assert decision.due is None
    assert decision.state is TokenState.EXPIRING
