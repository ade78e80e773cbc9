"""What is done with a consent Secret."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.oauth2 import OAuth2
from mailsettings.core.clock import format_time
from mailsettings.core.digest import Digester
from mailsettings.core.oauth2.consent import (
    KEPT,
    MAX_VALUE_BYTES,
    REDEEMING,
    BeginDevice,
    Consent,
    ConsentKey,
    ConsentResult,
    Offer,
    PollDevice,
    Redeem,
    Refuse,
    Remove,
    Step,
    Wait,
    is_loopback,
    next_step,
)
from mailsettings.core.oauth2.faults import TokenFault
from mailsettings.core.oauth2.request import Token
from mailsettings.core.oauth2.secrets import OAuth2Secrets
from mailsettings.core.oauth2.state import LIFE, Flows
from mailsettings.core.oauth2.stored import StoredToken
from mailsettings.core.oauth2.subject import TokenSubject, token_subject
from mailsettings.core.oauth2.terms import ConsentTerms, begin, consent_terms
from mailsettings.core.server import Source

FLOWS: Final = Flows(b"k" * 32)
NOW: Final = datetime(2026, 11, 22, 16, 40, tzinfo=UTC)
UID: Final = "0b7f6a3e-9a51-4c55-9a44-6f0f7f5a2d10"
FLOW: Final = bytes(range(16))
LOOPBACK: Final = "http://127.0.0.1:51234"
EXTERNAL: Final = "https://consent.acme.example"
CUSTOM: Final[dict[str, Any]] = {
    "username": "no-reply@acme.example",
    "grant": "AuthorizationCode",
    "clientID": "client",
    "authorizationURI": "https://id.acme.example:8443/authorize?audience=mail",
    "tokenURI": "https://id.acme.example:8443/token",
    "scopes": ["openid", "offline_access", "mail"],
    "accountCheck": {"claim": "email"},
}
DEVICE: Final[dict[str, Any]] = {
    **{key: value for key, value in CUSTOM.items() if key != "authorizationURI"},
    "grant": "DeviceCode",
    "deviceAuthorizationURI": "https://id.acme.example:8443/device",
}


def terms(spec: dict[str, Any] = CUSTOM, **changes: Any) -> ConsentTerms:
    return consent_terms("Custom", OAuth2.model_validate({**spec, **changes}))


CLIENT_SECRET: Final = "the client's secret"


def consent(age: timedelta = timedelta(), *, callback_flow: str = "", **values: str) -> Consent:
    read = {ConsentKey(name.replace("_", "-")): value for name, value in values.items()}
    return Consent("secret-uid", callback_flow, NOW - age, read)


def state(**changes: Any) -> str:
    made = {"flow": FLOW, "uid": UID, "fingerprint": terms().fingerprint, "holder": "secret-uid", "now": NOW}
    return FLOWS.mint(**{**made, **changes})


def answered(age: timedelta = timedelta(), *, callback_flow: str = "", **values: str) -> Consent:
    given = {"state": state(), "code": "the-code", "redirect_uri": LOOPBACK, **values}
    return consent(age, callback_flow=callback_flow, **given)


def step(of: Consent, asked: ConsentTerms | None = None, *, now: datetime = NOW) -> Step:
    return next_step(of, asked or terms(), uid=UID, flows=FLOWS, client_secret=CLIENT_SECRET, now=now)


def refused(of: Consent, asked: ConsentTerms | None = None, *, now: datetime = NOW) -> TokenFault:
    found = step(of, asked, now=now)
    assert isinstance(found, Refuse)
    return found.fault


def subject_of(asked: ConsentTerms) -> TokenSubject:
    return token_subject(asked.provider, asked.oauth2, OAuth2Secrets(), level=Source.TENANT, digest=Digester(b"k" * 32))


# The question


def test_person_is_told_what_to_open() -> None:
    assert step(consent(redirect_uri=LOOPBACK)) == Offer(LOOPBACK)


def test_person_who_was_told_has_ten_minutes() -> None:
    offered = consent(redirect_uri=LOOPBACK, authorize_url="https://id.acme.example")
    assert step(offered) == Wait(NOW + LIFE)
    assert refused(offered, now=NOW + LIFE).reason is Reason.CONSENT_EXPIRED


@pytest.mark.parametrize(
    "uri",
    [
        "", "https://127.0.0.1:1", "http://acme.example", "http://127.0.0.1.acme.example", "http://localhost@evil",
        "http://localhost:x", "http://127.0.0.1/#f", "http://localhost/\n", "http://[::2]:1", "//localhost", "http://",
    ],
)  # fmt: skip
def test_browser_is_sent_to_no_other_machine(uri: str) -> None:
    assert not is_loopback(uri)
    assert "redirect-uri" in refused(consent(redirect_uri=uri)).message


@pytest.mark.parametrize("uri", ["http://localhost", "http://127.0.0.1:1/a?b", "http://[::1]:65535/"])
def test_browser_may_be_sent_to_the_persons_own_machine(uri: str) -> None:
    assert step(consent(redirect_uri=uri)) == Offer(uri)


def test_address_of_the_provider() -> None:
    url = begin(terms(), FLOWS, flow=FLOW, uid=UID, holder="secret-uid", redirect_uri=LOOPBACK, now=NOW)
    parts = urlsplit(url)
    query = {name: value for name, [value] in parse_qs(parts.query).items()}
    assert parts._replace(query="").geturl() == "https://id.acme.example:8443/authorize"
    assert query["audience"] == "mail"
    assert (query["redirect_uri"], query["login_hint"]) == (LOOPBACK, "no-reply@acme.example")
    assert (query["code_challenge_method"], query["response_type"]) == ("S256", "code")
    assert query["nonce"] == FLOWS.nonce(FLOW.hex())
    assert FLOWS.verifier(FLOW.hex()) not in url
    assert FLOWS.read(query["state"]).fits(terms().fingerprint)


def test_page_and_redirect_uri_of_each_provider() -> None:
    page = terms().page(UID, EXTERNAL)
    assert page is not None
    assert page.url == f"{EXTERNAL}/oauth2/start/{UID}"
    assert page.redirect_uri == f"{EXTERNAL}/oauth2/callback/id.acme.example:8443"
    assert terms().page(UID, "") is None
    assert terms(DEVICE).page(UID, EXTERNAL) is None


def test_another_external_address_changes_what_is_to_be_registered_and_nothing_that_is_held() -> None:
    before, after = (terms().page(UID, url) for url in (EXTERNAL, "https://moved.acme.example"))
    assert before is not None
    assert after is not None
    assert before.redirect_uri != after.redirect_uri
    assert step(answered(redirect_uri=before.redirect_uri, callback_flow=FLOW.hex(), state=state(holder="browser")))
    token = Token("access", NOW, NOW + LIFE, refresh_token="refresh")
    held = StoredToken.of(token, subject_of(terms()), sent=None)
    assert held.belongs_to(subject_of(terms())), "the address is no part of what a token belongs to"


# The answer


def test_code_is_redeemed() -> None:
    assert step(answered()) == Redeem("the-code", LOOPBACK, FLOW.hex())
    assert "the-code" not in repr(step(answered()))
    assert "the-code" not in repr(answered())


FAR: Final = "9999-12-31T23:59:59Z"


def test_time_that_somebody_else_has_written_keeps_nothing_longer_than_the_secret() -> None:
    assert step(answered(code="", redeemed_at=FAR)) == Wait(NOW + KEPT)


def test_code_that_was_taken_out_is_waited_for_and_then_given_up() -> None:
    taken = answered(code="", redeemed_at=format_time(NOW))
    assert step(taken) == Wait(NOW + REDEEMING)
    assert "interrupted" in refused(taken, now=NOW + REDEEMING).message
    assert "no code" in refused(answered(code="")).message


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        (answered(state=state(uid=UID.replace("0", "1"))), "another attempt"),
        (answered(state=state(holder="another-secret")), "another attempt"),
        (answered(state=state(fingerprint="another")), "changed"),
        (answered(state=state(now=NOW - LIFE - timedelta(seconds=1))), "ten minutes"),
        (answered(state="forged"), "no state"),
        (answered(state=""), "no state"),
        (answered(iss="https://evil.example"), "another issuer"),
        (answered(iss="https://id.acme.example"), "another issuer"),
        (answered(callback_flow="0" * 32, state=state(holder="browser")), "another attempt"),
        (answered(error="x" * (MAX_VALUE_BYTES + 1)), "longer than"),
    ],
)
def test_answer_to_something_else_is_not_redeemed(changed: Consent, word: str) -> None:
    assert word in refused(changed).message


def test_answer_whose_browser_was_checked_needs_no_other_binding() -> None:
    callback = answered(callback_flow=FLOW.hex(), state=state(holder="browser"), iss="https://id.acme.example:8443")
    assert isinstance(step(callback), Redeem)


def test_denial_is_told() -> None:
    fault = refused(answered(code="", error="access_denied", error_description="the person said no"))
    assert fault.reason is Reason.CONSENT_DENIED


def test_nothing_secret_that_the_provider_says_is_told() -> None:
    secrets = [state(), FLOWS.verifier(FLOW.hex()), FLOWS.nonce(FLOW.hex()), CLIENT_SECRET, "the-code"]
    fault = refused(answered(error="server_error", error_description=f"no: {' '.join(secrets)}"))
    assert "[redacted]" in fault.message
    assert [secret for secret in secrets if secret in fault.message] == []


def test_settings_that_ask_nobody() -> None:
    found = next_step(answered(), None, uid=UID, flows=FLOWS, client_secret=CLIENT_SECRET, now=NOW)
    assert isinstance(found, Refuse)
    assert "ask nobody" in found.fault.message


# The end


def test_result_is_kept_for_whoever_waits_for_it_and_then_removed() -> None:
    result = ConsentResult.of(None, "no-reply@acme.example")
    ended = answered(result=result.text())
    assert ended.result == result
    assert step(ended) == Wait(NOW + KEPT)
    assert step(ended, now=NOW + KEPT) == Remove()


@pytest.mark.parametrize("of", [consent(redirect_uri=LOOPBACK), answered(), consent(), answered(state="forged")])
def test_everything_is_removed_in_the_end(of: Consent) -> None:
    assert step(of, now=NOW + KEPT) == Remove()
    assert next_step(of, None, uid=UID, flows=FLOWS, client_secret=CLIENT_SECRET, now=NOW + KEPT) == Remove()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"a"', '{"authorized": 1}'])
def test_what_is_no_result(text: str) -> None:
    assert ConsentResult.parse(text) is None


# Device codes


def test_device_code_is_got_and_then_waited_for() -> None:
    assert step(consent(), terms(DEVICE)) == BeginDevice()
    begun = consent(sealed="sealed", user_code="ABCD", expires_at=format_time(NOW + LIFE))
    assert step(begun, terms(DEVICE)) == PollDevice("sealed")
