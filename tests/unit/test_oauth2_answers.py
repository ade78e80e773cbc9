"""Reading what identity providers answer."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.api.identity import Family
from mailsettings.api.status import MAX_SCOPES
from mailsettings.core.oauth2.answers import (
    ASSUMED_DEVICE_LIFE,
    ASSUMED_LIFE,
    MAX_ACCOUNT_LENGTH,
    MAX_DEVICE_INTERVAL,
    MAX_DEVICE_LIFE,
    MAX_LIFE,
    MAX_RETRY_AFTER,
    MIN_DEVICE_INTERVAL,
    parse_device_authorization,
    parse_retry_after,
    parse_token,
    read_device_answer,
    read_discovery,
    read_token_answer,
)
from mailsettings.core.oauth2.faults import Failure, FailureKind
from mailsettings.core.oauth2.request import DEVICE_INTERVAL, DeviceAuthorization, Token
from mailsettings.core.oauth2.stored import StoredToken
from tests.support.token_requests import REFRESH_TOKEN, refresh, service_account
from tests.unit.test_oauth2_fingerprint import subject

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GOOD: dict[str, Any] = {"access_token": "ya29.good", "token_type": "Bearer", "expires_in": 3599}


def read(content: Any, status: int = 200) -> dict[str, Any] | Failure:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return read_token_answer(status, body, None, now=NOW)


def token_of(**changes: Any) -> Token:
    answer = read({**GOOD, **changes})
    assert isinstance(answer, dict), answer
    return parse_token(answer, refresh(Family.CUSTOM, scopes=("mail", "offline_access")), issued_at=NOW)


def id_token(claims: Any) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJSUzI1NiJ9.{payload}.c2ln"


@pytest.mark.parametrize(
    "changes",
    [{"token_type": "bearer"}, {"token_type": "BEARER"}, {"expires_in": "3599"}, {"scope": None}, {"id_token": 7}],
)
def test_tokens_that_can_be_used(changes: dict[str, Any]) -> None:
    assert token_of(**changes).access_token == "ya29.good"


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 7},
        {"access_token": "two words"},
        {"access_token": "line\nbreak"},
        {"access_token": "non-ascii-é"},
        {"access_token": "x" * 65537},
        {"token_type": "mac"},
        {"token_type": "DPoP"},
        {"token_type": None},
        {"expires_in": 0},
        {"expires_in": -5},
    ],
)
def test_successes_without_a_usable_token(changes: dict[str, Any]) -> None:
    assert read({**GOOD, **changes}) == Failure(FailureKind.NO_TOKEN, 200)


@pytest.mark.parametrize(
    ("value", "life"),
    [
        (3599, timedelta(seconds=3599)),
        ("3599", timedelta(seconds=3599)),
        (3599.9, timedelta(seconds=3599.9)),
        (None, ASSUMED_LIFE),
        ("soon", ASSUMED_LIFE),
        (True, ASSUMED_LIFE),
        ([], ASSUMED_LIFE),
        (float("nan"), ASSUMED_LIFE),
        (1e300, MAX_LIFE),
    ],
)
def test_life(value: Any, life: timedelta) -> None:
    token = token_of(expires_in=value)
    assert token.life == life
    assert token.expires_at == NOW + life


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("new-one", "new-one"),
        (None, None),
        ("", None),
        ("null and void", None),
        (7, None),
        (REFRESH_TOKEN, None),
    ],
)
def test_an_answer_without_a_new_refresh_token_keeps_the_old_one(value: Any, expected: str | None) -> None:
    assert token_of(refresh_token=value).refresh_token == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"refresh_token_expires_in": 604799}, NOW + timedelta(seconds=604799)),
        ({"refresh_expires_in": 1800}, NOW + timedelta(minutes=30)),
        ({"refresh_expires_in": 0}, None),
    ],
)
def test_end_of_the_refresh_token(changes: dict[str, Any], expected: datetime | None) -> None:
    assert token_of(**changes).refresh_token_expires_at == expected


@pytest.mark.parametrize(
    ("scope", "expected"),
    [("a  b", ("a", "b")), (None, ("mail", "offline_access")), (" ", ("mail", "offline_access")), (["a"],) * 2],
)
def test_scopes(scope: Any, expected: Any) -> None:
    expected = ("mail", "offline_access") if isinstance(scope, list) else expected
    assert token_of(scope=scope).scopes == expected


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("a \ud800 b", ("a", "b")),
        ("\ud800", ()),
        ('a "b" c\\d \x00 é \u2028e', ("a", "e")),
        (f"{'x' * 256} {'x' * 257}", ("x" * 256,)),
    ],
)
def test_what_is_no_scope_is_left_out(scope: str, expected: tuple[str, ...]) -> None:
    assert token_of(scope=scope).scopes == expected


def test_of_too_many_scopes_those_asked_for_stay() -> None:
    scopes = token_of(scope=" ".join([*(f"a{n}" for n in range(1000)), "mail"])).scopes
    assert (len(scopes), scopes[:2]) == (MAX_SCOPES, ("mail", "a0"))


@pytest.mark.parametrize(
    ("token", "account"),
    [
        (id_token({"preferred_username": "a@acme.example", "email": "b@acme.example"}), "a@acme.example"),
        (id_token({"email": "b@acme.example"}), "b@acme.example"),
        (id_token({"sub": "123"}), None),
        (id_token({"email": 7}), None),
        (id_token([]), None),
        ("not.a!.token", None),
        ("one.two", None),
        (None, None),
    ],
)
def test_account(token: str | None, account: str | None) -> None:
    assert token_of(id_token=token).account == account


@pytest.mark.parametrize(
    "name", ["\ud800@acme.example", "a\x00", "a\nb", "a\u202eb", " ", "", "x" * (MAX_ACCOUNT_LENGTH + 1)]
)
def test_account_that_cannot_be_shown_is_none(name: str) -> None:
    assert token_of(id_token=id_token({"email": name})).account is None
    other = token_of(id_token=id_token({"preferred_username": name, "email": "é b@acme.example"}))
    assert other.account == "é b@acme.example"
    assert token_of(id_token=id_token({"email": "x" * MAX_ACCOUNT_LENGTH})).account == "x" * MAX_ACCOUNT_LENGTH


def test_the_claims_of_the_id_token() -> None:
    claims = {"sub": "123", "nonce": "n", "aud": ["a", "b"], "email": "b@acme.example"}
    assert token_of(id_token=id_token(claims)).claims == claims
    assert "b@acme.example" not in repr(token_of(id_token=id_token(claims)).claims.keys())
    for nothing in ("not.a!.token", id_token([]), None, "one.two"):
        assert token_of(id_token=nothing).claims == {}


CODES: dict[str, Any] = {
    "device_code": "GmRhmhcxhwAzkoEqiMEg",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://idp.acme.example/device",
    "verification_uri_complete": "https://idp.acme.example/device?user_code=WDJB-MJHT",
    "expires_in": 900,
    "interval": 5,
}


def codes_of(**changes: Any) -> DeviceAuthorization | Failure:
    body = json.dumps({**CODES, **changes}).encode()
    answer = read_device_answer(200, body, None, now=NOW)
    return answer if isinstance(answer, Failure) else parse_device_authorization(answer, asked_at=NOW)


def test_codes_of_a_device() -> None:
    assert codes_of() == DeviceAuthorization(
        device_code="GmRhmhcxhwAzkoEqiMEg",
        user_code="WDJB-MJHT",
        verification_uri="https://idp.acme.example/device",
        verification_uri_complete="https://idp.acme.example/device?user_code=WDJB-MJHT",
        expires_at=NOW + timedelta(minutes=15),
        interval=timedelta(seconds=5),
    )


@pytest.mark.parametrize(
    ("changes", "life", "interval"),
    [
        ({"expires_in": None, "interval": None}, ASSUMED_DEVICE_LIFE, DEVICE_INTERVAL),
        ({"expires_in": 10**9, "interval": 10**9}, MAX_DEVICE_LIFE, MAX_DEVICE_INTERVAL),
        ({"expires_in": "600", "interval": 0}, timedelta(minutes=10), MIN_DEVICE_INTERVAL),
    ],
)
def test_times_of_a_device(changes: dict[str, Any], life: timedelta, interval: timedelta) -> None:
    codes = codes_of(**changes)
    assert isinstance(codes, DeviceAuthorization)
    assert (codes.expires_at - NOW, codes.interval) == (life, interval)


@pytest.mark.parametrize("complete", [None, 7, "http://idp.acme.example/", "javascript:alert(1)", "https://x y"])
def test_a_complete_address_that_nobody_should_open_is_left_out(complete: Any) -> None:
    codes = codes_of(verification_uri_complete=complete)
    assert isinstance(codes, DeviceAuthorization)
    assert codes.verification_uri_complete is None


@pytest.mark.parametrize(
    "changes",
    [
        {"device_code": None},
        {"device_code": "two words"},
        {"user_code": None},
        {"user_code": ""},
        {"user_code": "\x1b[31mred"},
        {"user_code": "x" * 65},
        {"verification_uri": None},
        {"verification_uri": "http://idp.acme.example/device"},
        {"verification_uri": "https://idp.acme.example/\u202e"},
    ],
)
def test_codes_that_cannot_be_used(changes: dict[str, Any]) -> None:
    assert codes_of(**changes) == Failure(FailureKind.NOT_JSON, 200)


def test_a_token_in_place_of_codes_is_nonsense() -> None:
    body = json.dumps(GOOD).encode()
    assert read_device_answer(200, body, None, now=NOW) == Failure(FailureKind.NOT_JSON, 200)


def test_the_account_of_a_service_account_is_the_mailbox() -> None:
    request = service_account(subject="ops@acme.example")
    assert parse_token(GOOD, request, issued_at=NOW).account == "ops@acme.example"


def test_a_success_with_an_error_in_it_is_none() -> None:
    answer = read({**GOOD, "error": "bad_refresh_token"})
    assert isinstance(answer, Failure)
    assert (answer.kind, answer.error) == (FailureKind.ANSWER, "bad_refresh_token")


@pytest.mark.parametrize("error", [7, None, "", "two words", 'quo"te', "x" * 81, "line\nbreak"])
def test_an_error_that_is_no_code_is_left_out(error: Any) -> None:
    answer = read({"error": error}, 400)
    assert isinstance(answer, Failure)
    assert answer.error == ""


def test_errors_of_googles_other_apis() -> None:
    answer = read({"error": {"code": 400, "message": "No.", "status": "INVALID_ARGUMENT"}}, 400)
    assert isinstance(answer, Failure)
    assert (answer.error, answer.description) == ("INVALID_ARGUMENT", "No.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("0", timedelta()),
        ("120", timedelta(minutes=2)),
        (" 120 ", timedelta(minutes=2)),
        ("999999999", MAX_RETRY_AFTER),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("Sun, 22 Nov 2026 12:05:00 GMT", timedelta(minutes=5)),
        ("Sun, 22 Nov 2026 11:55:00 GMT", timedelta()),
        ("Sun, 22 Nov 2099 12:05:00 GMT", MAX_RETRY_AFTER),
        ("Sun, 22 Nov 9999 99:99:99 GMT", None),
    ],
)
def test_retry_after(text: str | None, expected: timedelta | None) -> None:
    assert parse_retry_after(text, now=NOW) == expected


@given(status=st.integers(100, 599), body=st.binary(max_size=200), retry_after=st.none() | st.text(max_size=40))
def test_no_answer_makes_the_reader_fail(status: int, body: bytes, retry_after: str | None) -> None:
    assert isinstance(read_token_answer(status, body, retry_after, now=NOW), Failure)
    assert isinstance(read_discovery(status, body, retry_after, now=NOW), Failure)
    assert isinstance(read_device_answer(status, body, retry_after, now=NOW), Failure)


_TEXT = st.text(st.characters(), max_size=20) | st.text("\ud800a ", max_size=5)
"""Lone surrogates, too, which JSON can have and UTF-8 cannot."""
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
)
_NAMES = [*GOOD, "refresh_token", "scope", "id_token", "error", "error_description", "error_codes", "suberror"]


@given(
    status=st.sampled_from([200, 400, 500]), content=st.dictionaries(st.sampled_from(_NAMES), _JSON), good=st.booleans()
)
def test_no_json_makes_the_reader_fail(status: int, content: dict[str, Any], good: bool) -> None:
    answer = read({**(GOOD if good else {}), **content}, status)
    if isinstance(answer, dict):
        token = parse_token(answer, refresh(Family.CUSTOM), issued_at=NOW)
        assert token.expires_at > NOW
        assert StoredToken.of(token, subject(), sent=None).model_dump_json()


def test_json_that_is_deeply_nested_is_no_answer() -> None:
    assert read(b"[" * 200_000, 400) == Failure(FailureKind.NOT_JSON, 400)


DOCUMENT = {
    "issuer": "https://login.example/dir/v2.0",
    "authorization_endpoint": "https://login.example/dir/authorize",
    "token_endpoint": "https://login.example/dir/token",
}


def test_a_discovery_document_gives_its_endpoints_alone() -> None:
    body = json.dumps({**DOCUMENT, "jwks_uri": "https://login.example/keys"}).encode()
    assert read_discovery(200, body, None, now=NOW) == DOCUMENT


@pytest.mark.parametrize(
    "endpoint",
    [None, 7, "", "http://login.example/dir/token", "https://login.example", "https:///dir/token", "https://[bad/dir"],
)
@pytest.mark.parametrize("name", ["token_endpoint", "authorization_endpoint"])
def test_a_discovery_document_that_msal_could_not_take(name: str, endpoint: Any) -> None:
    body = json.dumps({**DOCUMENT, name: endpoint}).encode()
    assert read_discovery(200, body, None, now=NOW) == Failure(FailureKind.NOT_JSON, 200)


def test_a_discovery_that_is_refused_is_read_as_an_error() -> None:
    failure = read_discovery(400, b'{"error": "invalid_tenant", "error_codes": [90002]}', None, now=NOW)
    assert isinstance(failure, Failure)
    assert (failure.error, failure.codes) == ("invalid_tenant", frozenset({90002}))


def test_a_token_in_place_of_a_discovery_document_is_nonsense() -> None:
    assert read_discovery(200, json.dumps(GOOD).encode(), None, now=NOW) == Failure(FailureKind.NOT_JSON, 200)
