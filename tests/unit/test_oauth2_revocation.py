"""Whether and when the refresh token of deleted settings is revoked."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.api.oauth2 import OAuth2
from mailsettings.core.oauth2.answers import read_revocation_answer
from mailsettings.core.oauth2.faults import Failure, FailureKind
from mailsettings.core.oauth2.revocation import (
    WINDOW,
    Attempt,
    Deletion,
    Release,
    Step,
    Tried,
    Wait,
    described,
    is_revocable,
    needs_client,
    next_step,
)
from mailsettings.core.oauth2.secrets import OAuth2Secrets
from mailsettings.core.oauth2.stored import StoredToken
from mailsettings.core.oauth2.subject import TokenSubject, token_subject
from mailsettings.core.server import Source
from tests.unit.test_oauth2_fingerprint import DIGEST, REF

NOW: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)
DELETION: Final = Deletion(NOW)
UNAVAILABLE: Final = Failure(FailureKind.ANSWER, 503)
GOOGLE_REVOKES: Final = "https://oauth2.googleapis.com/revoke"
GOOGLE_TOKENS: Final = "https://oauth2.googleapis.com/token"


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def failed(count: int = 1, failure: Failure = UNAVAILABLE, at: datetime = NOW) -> Tried:
    return Tried(count, at, failure)


REVOKED: Final = Tried(1, NOW, None)
WHY: Final = "the provider answered 503"


@pytest.mark.parametrize(
    ("deletion", "tried", "now", "wanted"),
    [
        pytest.param(DELETION, None, NOW, Attempt(), id="at once"),
        pytest.param(DELETION, None, NOW + 2 * WINDOW, Attempt(), id="once, however late"),
        pytest.param(DELETION, REVOKED, NOW, Release(), id="revoked"),
        pytest.param(replace(DELETION, enabled=False), None, NOW, Release(), id="switched off"),
        pytest.param(replace(DELETION, enabled=False), failed(), NOW, Release(), id="switched off meanwhile"),
        pytest.param(replace(DELETION, holds_token=False), None, NOW, Release(), id="no token"),
        pytest.param(replace(DELETION, unsendable="x"), None, NOW, Release("x"), id="a token of other settings"),
        pytest.param(replace(DELETION, unsendable="x"), failed(), NOW, Release(WHY), id="changed meanwhile"),
        pytest.param(replace(DELETION, busy_until=after(9)), None, NOW, Wait(after(9)), id="while it is renewed"),
        pytest.param(replace(DELETION, busy_until=NOW), None, NOW, Attempt(), id="after it is renewed"),
        pytest.param(
            replace(DELETION, busy_until=NOW + 2 * WINDOW), None, NOW, Wait(NOW + WINDOW), id="an endless renewal"
        ),
        pytest.param(replace(DELETION, busy_until=NOW + 2 * WINDOW), None, NOW + WINDOW, Attempt(), id="its end"),
        pytest.param(replace(DELETION, has_client=False), None, NOW, Attempt(), id="without credentials"),
        pytest.param(replace(DELETION, has_client=False), failed(), NOW, Release(WHY), id="not twice"),
        pytest.param(replace(DELETION, has_client=False), REVOKED, NOW, Release(), id="it was not needed"),
        pytest.param(DELETION, failed(), NOW, Wait(after(2)), id="refused"),
        pytest.param(DELETION, failed(), after(2), Attempt(), id="again"),
        pytest.param(DELETION, failed(2), NOW, Wait(after(4)), id="refused twice"),
        pytest.param(DELETION, failed(7), NOW, Wait(after(128)), id="refused for long"),
        pytest.param(DELETION, failed(8, at=after(255)), after(255), Release(WHY), id="refused for too long"),
        pytest.param(
            DELETION,
            failed(failure=replace(UNAVAILABLE, retry_after=timedelta(seconds=60))),
            NOW,
            Wait(after(60)),
            id="as the provider asks",
        ),
        pytest.param(
            DELETION,
            failed(failure=replace(UNAVAILABLE, retry_after=WINDOW)),
            NOW,
            Release(WHY),
            id="more than there is",
        ),
    ],
)
def test_what_is_next(deletion: Deletion, tried: Tried | None, now: datetime, wanted: Step) -> None:
    assert next_step(deletion, tried, now=now) == wanted


@given(st.floats(0, 20), st.floats(0, 900))
def test_nobody_waits_longer_than_the_window_and_one_attempt(call_s: float, late_s: float) -> None:
    """However long calls take, and however late the operator comes to it."""
    now, tried, attempts = after(late_s), None, 0
    while not isinstance(step := next_step(DELETION, tried, now=now), Release):
        if isinstance(step, Wait):
            now = step.until
            continue
        attempts += 1
        now += timedelta(seconds=call_s)
        tried = failed(attempts, at=now)
    assert step.why
    assert 1 <= attempts <= 8
    assert now <= max(NOW + WINDOW, after(late_s)) + timedelta(seconds=call_s)


def test_words_hold_nothing_of_the_provider_s() -> None:
    told = Failure(FailureKind.ANSWER, 400, error="unsupported_token_type", description="secret")
    assert described(told) == "the provider answered 400 unsupported_token_type"
    assert described(replace(told, error="secret")) == "the provider answered 400"
    assert described(Failure(FailureKind.NAME_NOT_FOUND)) == "the call of the provider failed: name not found"
    assert described(Failure(FailureKind.TLS, detail="bad record")).endswith("failed: tls, bad record")


# --- what there is to revoke ---


def subject(provider: str = "Custom", **changes: Any) -> TokenSubject:
    values: dict[str, Any] = {
        "username": "no-reply@acme.example",
        "grant": "RefreshToken",
        "clientID": "client",
        "clientAuth": {"secretRef": REF},
        "tokenURI": "https://login.acme.example/token",
        "revocationURI": "https://login.acme.example/revoke",
        "refreshTokenSecretRef": REF,
        **changes,
    }
    oauth2 = OAuth2.model_validate({key: value for key, value in values.items() if value is not None})
    secrets = OAuth2Secrets(client_secret="s", refresh_token="seed")
    return token_subject(provider, oauth2, secrets, level=Source.TENANT, digest=DIGEST)


def stored(of: TokenSubject, refresh_token: str | None = "r") -> StoredToken:
    return StoredToken(
        serial="1",
        fingerprint=of.fingerprint,
        client=of.client,
        seed=of.seed,
        access_token="a",
        refresh_token=refresh_token,
        issued_at=NOW,
        expires_at=after(3600),
    )


GOOGLE: Final[dict[str, Any]] = {"tokenURI": None, "revocationURI": None}
OFFICE: Final[dict[str, Any]] = {**GOOGLE, "directoryID": "acme.example"}
CODE: Final[dict[str, Any]] = {"refreshTokenSecretRef": None, "grant": "AuthorizationCode"}
DEVICE: Final[dict[str, Any]] = {"refreshTokenSecretRef": None, "grant": "DeviceCode"}
ACMES: Final = "https://login.acme.example/revoke"


@pytest.mark.parametrize(
    ("of", "endpoint"),
    [
        pytest.param(subject(), ACMES, id="custom"),
        pytest.param(subject(revocationURI=None), None, id="custom without"),
        pytest.param(
            subject(**CODE, authorizationURI="https://login.acme.example/authorize"), ACMES, id="a consent in a browser"
        ),
        pytest.param(
            subject(**DEVICE, deviceAuthorizationURI="https://login.acme.example/device"),
            ACMES,
            id="a device's consent",
        ),
        pytest.param(subject("Google", **GOOGLE), GOOGLE_REVOKES, id="google"),
        pytest.param(subject("Google", **{**GOOGLE, **CODE}), GOOGLE_REVOKES, id="a consent at google"),
        pytest.param(subject("Google", revocationURI=None), None, id="google by another endpoint"),
        pytest.param(subject("Google", **{**GOOGLE, "tokenURI": GOOGLE_TOKENS}), GOOGLE_REVOKES, id="google, named"),
        pytest.param(subject("Office365", **OFFICE), None, id="microsoft"),
    ],
)
def test_where_tokens_are_revoked(of: TokenSubject, endpoint: str | None) -> None:
    assert of.revocation_endpoint == endpoint
    assert is_revocable(of, stored(of)) is (endpoint is not None)


def test_nothing_is_revocable_without_a_refresh_token_of_the_configuration() -> None:
    assert not is_revocable(subject(), None)
    assert not is_revocable(subject(), stored(subject(), refresh_token=None))
    assert not is_revocable(subject(), stored(subject(username="other@acme.example")))


def test_request_says_what_to_revoke_and_for_whom() -> None:
    of = subject()
    request = of.revocation_request("the-token", lambda _: "")
    assert (request.endpoint, request.token_endpoint) == (ACMES, "https://login.acme.example/token")
    assert request.client.id == "client"
    assert "the-token" not in repr(request)
    with pytest.raises(ValueError, match="lack"):
        subject(revocationURI=None).revocation_request("the-token", lambda _: "")
    assert needs_client(of)
    assert not needs_client(subject("Google", **GOOGLE))


# --- what the endpoint answers ---


@pytest.mark.parametrize(
    ("status", "content", "wanted"),
    [
        (200, "", None),
        (200, "not JSON", None),
        (200, '{"error": "whatever"}', None),
        (400, '{"error": "invalid_token"}', None),
        (401, '{"error": "invalid_token"}', (FailureKind.ANSWER, 401)),
        (400, '{"error": "invalid_request"}', (FailureKind.ANSWER, 400)),
        (401, "", (FailureKind.ANSWER, 401)),
        (503, "", (FailureKind.ANSWER, 503)),
        (204, "", (FailureKind.NOT_JSON, 204)),
        (404, "", (FailureKind.NOT_JSON, 404)),
        (302, "", (FailureKind.REDIRECT, 302)),
    ],
)
def test_answer_of_a_revocation_endpoint(status: int, content: str, wanted: tuple[FailureKind, int] | None) -> None:
    read = read_revocation_answer(status, content.encode(), None, now=NOW)
    assert ((read.kind, read.status) if isinstance(read, Failure) else None) == wanted


def test_provider_may_ask_for_time() -> None:
    body = json.dumps({"error": "temporarily_unavailable"}).encode()
    read = read_revocation_answer(503, body, "60", now=NOW)
    assert isinstance(read, Failure)
    assert read.retry_after == timedelta(minutes=1)
