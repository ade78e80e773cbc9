"""Consent end to end: a person opens a page, logs in at the provider, and mail can be sent from then on."""

import base64
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from aiohttp import web

from dev.cluster import ApiError
from dev.loop_thread import LoopThread
from dev.operator_process import NAMESPACE, OperatorProcess
from mailsettings.api import names
from mailsettings.api.oauth2 import OAuth2
from mailsettings.core.oauth2.consent import MAX_OPEN, ConsentKey
from mailsettings.core.oauth2.state import LIFE, Flows
from mailsettings.core.oauth2.terms import consent_terms
from tests.support import openid
from tests.support.bearer import Presented
from tests.support.browser import Browser
from tests.support.consent import KIND, OTHER, SCOPES, Person, ask, consent_spec, encoded, wait_told
from tests.support.history import events_about
from tests.support.identity_provider import (
    ACCOUNT,
    CLIENT_ID,
    CLIENT_SECRET,
    DIRECTORY,
    IdentityProvider,
    RegisteredClient,
)
from tests.support.kube import Json, Kube, condition, reason_of
from tests.support.policies import POLICY_MESSAGE, secrets_policy
from tests.support.smtp_server import MailServer


@pytest.fixture
def provider(consent_provider: IdentityProvider) -> IdentityProvider:
    return consent_provider


@pytest.fixture
def settings(consent_settings: Json) -> Json:
    return consent_settings


def secret_values(kube: Kube, namespace: str) -> list[bytes]:
    held = kube.api.request("GET", f"/api/v1/namespaces/{namespace}/secrets")["items"]
    return [base64.b64decode(value) for each in held for value in (each.get("data") or {}).values()]


# --- it works ---


def test_person_consents_and_mail_can_be_sent(
    kube: Kube, namespace: str, provider: IdentityProvider, settings: Json, person: Person, external_url: str
) -> None:
    status = settings["status"]["oauth2"]
    assert status["tokenState"] == "NotGenerated"
    assert status["authorizeURL"] == f"{external_url}/oauth2/start/{settings['metadata']['uid']}"
    assert status["redirectURI"] == f"{external_url}/oauth2/callback/127.0.0.1:{provider.port}"
    assert condition(settings, "Stalled") is None, "a consent that is awaited is no failure"
    assert condition(settings, "Reconciling") is None
    awaited = (condition(settings, "Authorized") or {})["message"]
    assert awaited.endswith(f"`kubectl mailsettings authorize mail -n {namespace}`")
    kube.wait(
        lambda: (
            [e["type"] for e in events_about(kube, namespace, "mail") if e["reason"] == "ConsentRequired"] == ["Normal"]
        ),
        "the event, which is no warning",
    )

    start = person.browser.open(status["authorizeURL"])
    for fact in (namespace, "MailServerSettings mail", ACCOUNT, CLIENT_ID, f"127.0.0.1:{provider.port}", "mail.send"):
        assert fact in start.said
    page = person.consent(kube, settings)

    assert (page.title, page.status) == ("Mail can be sent", 200)
    assert ACCOUNT in page.said
    ready = kube.wait_ready("mail", namespace)
    assert ready["status"]["oauth2"]["tokenState"] == "Generated"
    assert ready["status"]["oauth2"]["account"] == ACCOUNT
    assert ready["status"]["oauth2"]["authorizeURL"] == status["authorizeURL"], "it stays the same"
    values = kube.secret_data("mail-smtp", namespace)
    assert values is not None
    assert provider.is_live(values["access-token"])
    [asked] = provider.token_requests
    assert asked.form["grant_type"] == "authorization_code"
    code = asked.form["code"].encode()
    assert not any(code in value for value in secret_values(kube, NAMESPACE)), "the code is used up"


def test_token_of_a_consent_is_renewed_for_ever(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    provider: IdentityProvider,
    settings: Json,
    person: Person,
) -> None:
    provider.access_life = timedelta(seconds=6)
    person.consent(kube, settings)
    kube.wait(lambda: len(provider.token_requests) >= 4, "three renewals")
    operator.kill()
    operator.start()
    kube.wait(lambda: len(provider.token_requests) >= 6, "renewals after a restart")
    renewals = provider.token_requests[1:]
    assert {asked.form["grant_type"] for asked in renewals} == {"refresh_token"}
    assert all("scope" not in asked.form for asked in renewals), "what was consented to goes on as it is"
    assert kube.wait_ready("mail", namespace)["status"]["oauth2"]["scopes"] == ["mail.send"]


def test_second_consent_replaces_the_first(
    kube: Kube, namespace: str, provider: IdentityProvider, settings: Json, person: Person
) -> None:
    person.consent(kube, settings)
    before = kube.wait_ready("mail", namespace)["status"]["oauth2"]["lastRefreshTime"]
    first = kube.secret_data("mail-smtp", namespace)
    page = person.consent(kube, settings)
    assert page.title == "Mail can be sent"
    kube.wait(lambda: kube.secret_data("mail-smtp", namespace) != first, "the new token")
    assert kube.wait_ready("mail", namespace)["status"]["oauth2"]["lastRefreshTime"] >= before


# --- it does not, and says so, on the page and in the condition ---


def test_denial(kube: Kube, namespace: str, settings: Json, person: Person) -> None:
    page = person.consent(kube, settings, decision="deny")
    denied = kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentDenied")
    assert page.title == "No consent"
    assert (condition(denied, "Authorized") or {})["message"] in page.said
    assert condition(denied, "Stalled") is None, "a consent is awaited as before"

    assert person.consent(kube, settings).title == "Mail can be sent"
    kube.wait_ready("mail", namespace)


def test_wrong_account(kube: Kube, namespace: str, provider: IdentityProvider, settings: Json, person: Person) -> None:
    page = person.consent(kube, settings, account=OTHER)
    wrong = kube.wait_condition("mail", namespace, "Authorized", "False", "WrongAccount")
    message = (condition(wrong, "Authorized") or {})["message"]
    assert ACCOUNT in message
    assert OTHER in message
    assert message in page.said
    token = kube.get("Secret", names.token_secret_name(settings["metadata"]["uid"]), NAMESPACE)
    assert token is None, "another account's token is not kept"
    assert kube.secret_data("mail-smtp", namespace) is None


def test_id_token_of_another_consent(
    kube: Kube, namespace: str, provider: IdentityProvider, settings: Json, person: Person
) -> None:
    provider.id_token_claims = {"nonce": "another"}
    page = person.consent(kube, settings)
    wrong = kube.wait_condition("mail", namespace, "Authorized", "False", "ProviderAnswerInvalid")
    message = (condition(wrong, "Authorized") or {})["message"]
    assert "belongs to another consent" in message
    assert message in page.said
    token = kube.get("Secret", names.token_secret_name(settings["metadata"]["uid"]), NAMESPACE)
    assert token is None, "its token is not kept"
    assert kube.secret_data("mail-smtp", namespace) is None


def test_token_that_the_api_server_refuses_is_told_without_its_words(
    operator: OperatorProcess, kube: Kube, settings: Json, person: Person
) -> None:
    """They may repeat what was refused."""
    name = names.token_secret_name(settings["metadata"]["uid"])

    def in_force() -> bool:
        body = {"metadata": {"name": name}, "stringData": {"token.json": "{}"}}
        try:
            kube.api.request("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", body, query={"dryRun": "All"})
        except ApiError:
            return True
        return False

    with secrets_policy(kube, NAMESPACE, f"object.metadata.name != '{name}'", in_force=in_force):
        page = person.consent(kube, settings)
    assert "the API server refused to keep the token" in page.said
    told = [line for line in operator.log_text().splitlines() if "could not be stored" in line]
    assert "422 Invalid" in told[-1]
    assert POLICY_MESSAGE not in told[-1]


@pytest.mark.parametrize(
    "claims", [{"email": "\ud800@acme.example"}, {"preferred_username": "\ud800"}], ids=["the account", "another"]
)
def test_surrogates_of_a_provider_end_as_anything_else_does(
    kube: Kube, namespace: str, provider: IdentityProvider, settings: Json, person: Person, claims: Json
) -> None:
    """JSON can have them, UTF-8 cannot."""
    provider.id_token_claims = claims
    page = person.consent(kube, settings)
    if "email" in claims:
        kube.wait_condition("mail", namespace, "Authorized", "False", "WrongAccount")
        assert page.title != "Mail can be sent"
    else:
        assert page.title == "Mail can be sent"
        kube.wait_ready("mail", namespace)


def test_scopes_of_a_provider_are_bounded(
    kube: Kube, namespace: str, provider: IdentityProvider, settings: Json, person: Person
) -> None:
    async def many(request: web.Request) -> web.StreamResponse:
        form = {key: str(value) for key, value in (await request.post()).items()}
        scope = " ".join(["\ud800", *(f"s{number}" for number in range(100)), *SCOPES])
        return web.json_response({**provider._grant(request, form), "scope": scope})

    provider.answers.append(many)
    assert person.consent(kube, settings).title == "Mail can be sent"
    told = kube.wait_ready("mail", namespace)["status"]["oauth2"]["scopes"]
    assert (len(told), told[:3]) == (64, SCOPES)


def test_provider_that_refuses_the_code(
    kube: Kube, namespace: str, provider: IdentityProvider, settings: Json, person: Person
) -> None:
    provider.register(RegisteredClient(secret="another", redirect_uris=provider.clients[CLIENT_ID].redirect_uris))
    page = person.consent(kube, settings)
    refused = kube.wait_condition("mail", namespace, "Authorized", "False", "ClientAuthInvalid")
    assert (condition(refused, "Authorized") or {})["message"] in page.said
    assert CLIENT_SECRET not in page.text


def test_provider_that_gives_no_refresh_token(
    kube: Kube, namespace: str, provider: IdentityProvider, settings: Json, person: Person
) -> None:
    provider.gives_refresh_token = False
    person.consent(kube, settings)
    kube.wait_condition("mail", namespace, "Authorized", "False", "RefreshTokenMissing")


def test_settings_that_change_on_the_way(
    kube: Kube, namespace: str, provider: IdentityProvider, settings: Json, person: Person
) -> None:
    url = person.begin(settings)
    kube.patch(KIND, "mail", namespace, spec={"auth": {"oauth2": {"scopes": [*SCOPES, "other"]}}})
    kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentRequired")
    page = person.finish(kube, person.log_in(url))
    kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentExpired")
    assert "changed meanwhile" in page.said
    assert provider.token_requests == []


def operator_flows(kube: Kube) -> Flows:
    secret = kube.get("Secret", names.OPERATOR_KEY_NAME, NAMESPACE)
    assert secret is not None
    return Flows(base64.b64decode(secret["data"]["key"]))


def test_state_that_is_too_old(
    kube: Kube, namespace: str, provider: IdentityProvider, settings: Json, person: Person
) -> None:
    callback = person.log_in(person.begin(settings))
    terms = consent_terms("Custom", OAuth2.model_validate(settings["spec"]["auth"]["oauth2"]))
    old = operator_flows(kube).mint(
        flow=bytes(16),
        uid=settings["metadata"]["uid"],
        fingerprint=terms.fingerprint,
        holder=next(iter(person.browser.cookies.values())),
        now=datetime.now(UTC) - LIFE - timedelta(seconds=2),
    )
    page = person.finish(kube, with_parameter(callback, "state", old))
    kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentExpired")
    assert "ten minutes" in page.said
    assert provider.token_requests == []


def with_parameter(url: str, name: str, value: str) -> str:
    parts = urlsplit(url)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    return parts._replace(query=urlencode({**query, name: value})).geturl()


def test_failed_consent_takes_nothing_from_a_live_token(
    kube: Kube, namespace: str, provider: IdentityProvider, settings: Json, person: Person
) -> None:
    person.consent(kube, settings)
    before = kube.wait_ready("mail", namespace)
    page = person.consent(kube, settings, decision="deny")
    assert page.title == "No consent"
    kube.wait(
        lambda: any(event["reason"] == "ConsentDenied" for event in events_about(kube, namespace, "mail")),
        "the event",
    )
    after = kube.wait_ready("mail", namespace)
    assert condition(after, "Authorized") == condition(before, "Authorized")


# --- an attacker gets nothing ---


def test_flow_ends_in_the_browser_in_which_it_began(
    kube: Kube, namespace: str, provider: IdentityProvider, settings: Json, person: Person
) -> None:
    """An attacker sends a victim the provider's address of a flow of his own, or the answer to one."""
    callback = person.log_in(person.begin(settings))
    victim = Browser()
    assert victim.open(callback).status == 403
    victim.open(settings["status"]["oauth2"]["authorizeURL"])
    page = victim.open(callback)
    assert (page.status, page.title) == (403, "Another browser has begun this")
    assert provider.token_requests == []
    assert reason_of(kube.settings("mail", namespace) or {}, "Authorized") == ("False", "ConsentRequired")
    assert person.finish(kube, callback).title == "Mail can be sent", "nothing was used up"


def test_code_is_redeemed_once(
    kube: Kube, namespace: str, provider: IdentityProvider, settings: Json, person: Person
) -> None:
    callback = person.log_in(person.begin(settings))
    first = person.finish(kube, callback)
    again = person.finish(kube, callback)
    other_code = person.finish(kube, with_parameter(callback, "code", "another"))
    assert {first.title, again.title, other_code.title} == {"Mail can be sent"}
    assert len(provider.token_requests) == 1


def test_answer_of_another_provider_is_not_taken(
    kube: Kube, provider: IdentityProvider, settings: Json, person: Person
) -> None:
    """One provider must not have the code of another one sent to its own token endpoint (mix-up)."""
    callback = person.log_in(person.begin(settings))
    elsewhere = callback.replace(f"/callback/127.0.0.1:{provider.port}", "/callback/accounts.google.com")
    assert person.browser.open(elsewhere).title == "The answer came from elsewhere"
    page = person.finish(kube, with_parameter(callback, "iss", "https://accounts.google.com"))
    assert "another issuer" in page.said
    assert provider.token_requests == []


def test_nobody_else_can_press_the_button(settings: Json, person: Person) -> None:
    url = settings["status"]["oauth2"]["authorizeURL"]
    start = person.browser.open(url)
    assert person.browser.post(url).status == 403
    assert person.browser.post(url, token="x").status == 403
    assert Browser().press(start).status == 403
    stranger = Browser()
    stranger.open(url)
    assert stranger.press(start).status == 403
    assert person.browser.press(start).status == 303


def test_pages_cannot_be_framed_cached_or_made_to_leak(settings: Json, person: Person) -> None:
    for page in (
        person.browser.open(settings["status"]["oauth2"]["authorizeURL"]),
        person.browser.open(settings["status"]["oauth2"]["redirectURI"]),
        person.browser.open(settings["status"]["oauth2"]["authorizeURL"] + "x"),
        person.browser.open(settings["status"]["oauth2"]["authorizeURL"] + "/x"),
    ):
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "script" not in page.text
    assert list(person.browser.cookies) == ["__Host-mailsettings-consent"]


@pytest.mark.parametrize(
    "query",
    ["", "?state=", "?state=forged&code=c", f"?state={'A' * 5000}", "?code=c", "?error=access_denied", "?state=%00%ff"],
)
def test_callback_of_nothing(settings: Json, person: Person, query: str) -> None:
    page = person.browser.open(settings["status"]["oauth2"]["redirectURI"] + query)
    assert (page.status, page.title) == (400, "Nothing was begun here")


def test_no_redirect_leads_where_a_request_says(settings: Json, person: Person) -> None:
    start = settings["status"]["oauth2"]["authorizeURL"]
    for url in (f"{start}?redirect_uri=https://evil.example", f"{start}?next=//evil.example"):
        pressed = person.browser.press(person.browser.open(url))
        assert "evil.example" not in pressed.location


def test_nobody_writes_into_conditions_by_a_callback(
    kube: Kube, namespace: str, settings: Json, person: Person
) -> None:
    """Whoever knows the address of the page can begin, and come back to the callback with any text."""
    callback = person.log_in(person.begin(settings), decision="deny")
    said = "Session locked, log in at https://evil.example/unlock"
    forged = with_parameter(with_parameter(callback, "error_description", said), "error", "https://evil.example")
    page = person.finish(kube, forged)
    told = kube.wait_condition("mail", namespace, "Authorized", "False", "TokenRequestRefused")
    for text in (page.text, json.dumps(told["status"]), json.dumps(events_about(kube, namespace, "mail"))):
        assert "evil.example" not in text


def test_denied_consent_does_not_hide_why_a_token_cannot_be_renewed(
    kube: Kube, namespace: str, provider: IdentityProvider, settings: Json, person: Person
) -> None:
    provider.access_life = timedelta(seconds=6)
    person.consent(kube, settings)
    kube.wait_ready("mail", namespace)
    stored = json.loads(
        (kube.secret_data(names.token_secret_name(settings["metadata"]["uid"]), NAMESPACE) or {})["token.json"]
    )
    provider.revoke(stored["refresh_token"])
    revoked = kube.wait_condition("mail", namespace, "Authorized", "False", "TokenRevoked")
    retry_at = revoked["status"]["oauth2"]["failure"]["retryAt"]
    person.consent(kube, settings, decision="deny")
    kube.wait(
        lambda: any(event["reason"] == "ConsentDenied" for event in events_about(kube, namespace, "mail")),
        "the event",
    )
    after = kube.wait_condition("mail", namespace, "Authorized", "False", "TokenRevoked")
    assert after["status"]["oauth2"]["failure"]["retryAt"] >= retry_at, "the back-off goes on"
    assert person.consent(kube, settings).title == "Mail can be sent"
    kube.wait_ready("mail", namespace)


# --- restarts and replicas ---


def test_restart_on_the_way_forgets_nothing(
    operator: OperatorProcess, kube: Kube, namespace: str, settings: Json, person: Person
) -> None:
    url = person.begin(settings)
    operator.kill()
    callback = person.log_in(url)
    operator.start()
    assert person.finish(kube, callback).title == "Mail can be sent"
    kube.wait_ready("mail", namespace)


def test_any_replica_takes_the_answer(
    kube: Kube,
    namespace: str,
    provider: IdentityProvider,
    settings: Json,
    person: Person,
    another_operator: OperatorProcess,
    external_url: str,
    another_url: str,
) -> None:
    callback = person.log_in(person.begin(settings))
    assert callback.startswith(external_url)
    page = person.finish(kube, callback.replace(external_url, another_url))
    assert page.title == "Mail can be sent"
    kube.wait_ready("mail", namespace)
    assert len(provider.token_requests) == 1, "two operators, one code, one redemption"


# --- what belongs to it ---


def test_changed_settings_drop_what_was_consented_to(
    kube: Kube, namespace: str, settings: Json, person: Person
) -> None:
    person.consent(kube, settings)
    kube.wait_ready("mail", namespace)
    kube.patch(KIND, "mail", namespace, spec={"auth": {"oauth2": {"scopes": [*SCOPES, "other"]}}})
    dropped = kube.wait_condition("mail", namespace, "Authorized", "False", "TokenDropped")
    assert dropped["status"]["oauth2"]["tokenState"] == "NotGenerated"
    person.consent(kube, dropped)
    kube.wait_ready("mail", namespace)


@pytest.mark.parametrize("change", [{"accountCheck": {"claim": "email", "skip": False}}, {}])
def test_rotated_client_secret_drops_nothing(
    kube: Kube, namespace: str, provider: IdentityProvider, settings: Json, person: Person, change: Json
) -> None:
    person.consent(kube, settings)
    kube.wait_ready("mail", namespace)
    provider.register(RegisteredClient(secret="rotated", redirect_uris=provider.clients[CLIENT_ID].redirect_uris))
    kube.patch("Secret", "oauth2", namespace, data={"secret": base64.b64encode(b"rotated").decode()})
    if change:
        kube.patch(KIND, "mail", namespace, spec={"auth": {"oauth2": change}})
    kube.wait(lambda: len(provider.token_requests) == 2, "the new secret to be verified")
    assert provider.token_requests[1].form["grant_type"] == "refresh_token"
    kube.wait_ready("mail", namespace)


def test_account_check_can_be_left_out_on_purpose(kube: Kube, namespace: str, settings: Json, person: Person) -> None:
    kube.patch(KIND, "mail", namespace, spec={"auth": {"oauth2": {"accountCheck": {"claim": None, "skip": True}}}})
    page = person.consent(kube, settings, account=OTHER)
    assert page.title == "Mail can be sent"
    authorized = kube.wait_condition("mail", namespace, "Authorized", "True")
    assert authorized["status"]["oauth2"]["account"] == OTHER


def consents(kube: Kube, namespace: str, settings: Json) -> list[Json]:
    """The consent Secrets for settings."""
    selector = f"labelSelector={names.LABEL_CONSENT_OF}%3D{settings['metadata']['uid']}"
    return list(kube.api.request("GET", f"/api/v1/namespaces/{namespace}/secrets?{selector}")["items"])


def test_consents_are_cleared_away(kube: Kube, namespace: str, settings: Json, person: Person) -> None:
    person.consent(kube, settings)
    [secret] = consents(kube, NAMESPACE, settings)
    assert secret["type"] == names.CONSENT_TYPE
    keys = set(secret["data"])
    assert str(ConsentKey.CODE) not in keys
    assert json.loads(base64.b64decode(secret["data"]["result"]))["authorized"] is True

    by_plugin = ask(kube, NAMESPACE, settings)["metadata"]["name"]
    metadata = {"labels": {names.LABEL_CONSENT_OF: settings["metadata"]["uid"]}}
    other = kube.create("Secret", f"other-{namespace}", NAMESPACE, metadata=metadata, stringData={"a": "b"})
    kube.delete(KIND, "mail", namespace)
    kube.wait(
        lambda: [each["metadata"]["uid"] for each in consents(kube, NAMESPACE, settings)] == [other["metadata"]["uid"]],
        f"the consents to be swept, {by_plugin} too, and nothing of another type",
    )
    kube.delete("Secret", f"other-{namespace}", NAMESPACE)


def test_labels_of_others_hold_no_consent_up(
    kube: Kube, new_namespace: Callable[[], str], settings: Json, person: Person
) -> None:
    thief = new_namespace()
    metadata = {"labels": {names.LABEL_CONSENT_OF: settings["metadata"]["uid"]}}
    for number in range(MAX_OPEN):
        kube.create("Secret", f"x{number}", thief, metadata=metadata, stringData={"a": "b"})
    assert person.consent(kube, settings).title == "Mail can be sent"


def test_many_answers_at_once_do_not_pass_the_limit(
    kube: Kube, provider: IdentityProvider, settings: Json, person: Person
) -> None:
    callbacks = [with_parameter(settings["status"]["oauth2"]["redirectURI"], "state", state_of(person.begin(settings)))]
    callbacks += [
        with_parameter(callbacks[0], "state", state_of(person.begin(settings))) for _ in range(2 * MAX_OPEN - 1)
    ]
    with ThreadPoolExecutor(16) as pool:
        statuses = [page.status for page in pool.map(person.browser.open, callbacks)]
    assert Counter(statuses) == {303: MAX_OPEN, 429: MAX_OPEN}
    assert len(consents(kube, NAMESPACE, settings)) == MAX_OPEN
    assert provider.token_requests == []


def state_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["state"][0]


# --- by a Secret, without a browser that reaches the operator ---


def wait_result(kube: Kube, secret: Json) -> Json:
    result: Json = json.loads(wait_told(kube, secret, "result"))
    return result


def hand_over(kube: Kube, secret: Json, callback: str, **changes: str) -> None:
    answer = {key: values[0] for key, values in parse_qs(urlsplit(callback).query).items()}
    known: dict[str, str] = {key: answer[key] for key in ("code", "state", "iss", "error") if key in answer}
    metadata = secret["metadata"]
    kube.patch("Secret", metadata["name"], metadata["namespace"], data=encoded({**known, **changes}))


LOOPBACK_URI: Final = "http://127.0.0.1:50123"


@pytest.fixture
def native(provider: IdentityProvider, settings: Json) -> Json:
    """The settings, whose client may redirect to the person's own machine."""
    provider.register(RegisteredClient(secret=CLIENT_SECRET, redirect_uris=frozenset({LOOPBACK_URI})))
    return settings


def test_consent_without_a_public_address(
    kube: Kube, namespace: str, provider: IdentityProvider, native: Json, person: Person
) -> None:
    secret = ask(kube, namespace, native, redirect_uri=LOOPBACK_URI)
    callback = person.log_in(wait_told(kube, secret, "authorize-url"))
    assert callback.startswith(LOOPBACK_URI)
    hand_over(kube, secret, callback)
    assert wait_result(kube, secret)["authorized"] is True
    kube.wait_ready("mail", namespace)
    seen = kube.secret_data(secret["metadata"]["name"], namespace) or {}
    assert {"code", "authorize-url"}.isdisjoint(seen)
    token = json.dumps(seen)
    assert provider.token_requests[0].form["code_verifier"] not in token


def test_answer_in_another_secret_is_worth_nothing(
    kube: Kube, namespace: str, provider: IdentityProvider, native: Json, person: Person
) -> None:
    secret, other = (ask(kube, namespace, native, redirect_uri=LOOPBACK_URI) for _ in range(2))
    callback = person.log_in(wait_told(kube, secret, "authorize-url"))
    wait_told(kube, other, "authorize-url")
    hand_over(kube, other, callback)
    assert wait_result(kube, other)["reason"] == "ConsentExpired"
    assert provider.token_requests == []


def test_browser_is_sent_to_nobody_elses_machine(kube: Kube, namespace: str, native: Json) -> None:
    secret = ask(kube, namespace, native, redirect_uri="https://evil.example/")
    assert "redirect-uri" in wait_result(kube, secret)["message"]


def test_secret_of_another_namespace_is_not_looked_at(
    kube: Kube, namespace: str, native: Json, new_namespace: Callable[..., str]
) -> None:
    elsewhere = ask(kube, new_namespace(), native, redirect_uri=LOOPBACK_URI)
    here = ask(kube, namespace, native, redirect_uri=LOOPBACK_URI)
    wait_told(kube, here, "authorize-url")
    name, other = elsewhere["metadata"]["name"], elsewhere["metadata"]["namespace"]
    assert set(kube.secret_data(name, other) or {}) == {"redirect-uri"}


def test_secret_of_another_type_is_not_looked_at(kube: Kube, namespace: str, native: Json) -> None:
    metadata = {"labels": {names.LABEL_CONSENT_OF: native["metadata"]["uid"]}}
    kube.create("Secret", "opaque", namespace, metadata=metadata, data=encoded({"redirect_uri": LOOPBACK_URI}))
    wait_told(kube, ask(kube, namespace, native, redirect_uri=LOOPBACK_URI), "authorize-url")
    assert set(kube.secret_data("opaque", namespace) or {}) == {"redirect-uri"}


def test_settings_that_ask_nobody_say_so(kube: Kube, namespace: str, provider: IdentityProvider, native: Json) -> None:
    kube.patch("Secret", "oauth2", namespace, data={"refresh-token": encoded({"a": provider.consent()})["a"]})
    ref = {"name": "oauth2", "key": "refresh-token"}
    changed = {"grant": "RefreshToken", "authorizationURI": None, "accountCheck": None, "refreshTokenSecretRef": ref}
    kube.patch(KIND, "mail", namespace, spec={"auth": {"oauth2": changed}})
    kube.wait_ready("mail", namespace)
    result = wait_result(kube, ask(kube, namespace, native, redirect_uri=LOOPBACK_URI))
    assert result["authorized"] is False
    assert "ask nobody" in result["message"]


def test_consent_that_cannot_be_answered_holds_nothing_up(
    kube: Kube, namespace: str, native: Json, person: Person
) -> None:
    source = {"labels": {names.LABEL_CONSENT_OF: native["metadata"]["uid"]}}
    data = encoded({"redirect_uri": LOOPBACK_URI})
    kube.create(
        "Secret", "a-frozen-one", namespace, metadata=source, type=names.CONSENT_TYPE, data=data, immutable=True
    )
    secret = ask(kube, namespace, native, redirect_uri=LOOPBACK_URI)
    hand_over(kube, secret, person.log_in(wait_told(kube, secret, "authorize-url")))
    assert wait_result(kube, secret)["authorized"] is True
    kube.wait_ready("mail", namespace)


# --- device codes ---


@pytest.fixture
def device(kube: Kube, namespace: str, provider: IdentityProvider, settings: Json) -> Json:
    """The settings with grant DeviceCode."""
    uris = {"authorizationURI": None, "deviceAuthorizationURI": provider.device_authorization_uri}
    kube.patch(KIND, "mail", namespace, spec={"auth": {"oauth2": {"grant": "DeviceCode", **uris}}})
    return kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentRequired")


def test_code_is_entered_on_another_device(
    kube: Kube, namespace: str, provider: IdentityProvider, device: Json, loop_thread: LoopThread
) -> None:
    assert "authorizeURL" not in device["status"]["oauth2"]
    secret = ask(kube, namespace, device)
    code = wait_told(kube, secret, "user-code")
    told = kube.secret_data(secret["metadata"]["name"], namespace) or {}
    assert told["verification-uri"] == f"{provider.origin}/device"
    loop_thread.run(provider.log_in_device(code))
    assert wait_result(kube, secret)["authorized"] is True
    kube.wait_ready("mail", namespace)
    device_code = provider.token_requests[-1].form["device_code"]
    assert device_code not in json.dumps(told), "whoever has it can get the tokens"


def test_device_code_survives_a_restart(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    provider: IdentityProvider,
    device: Json,
    loop_thread: LoopThread,
) -> None:
    secret = ask(kube, namespace, device)
    code = wait_told(kube, secret, "user-code")
    operator.kill()
    loop_thread.run(provider.log_in_device(code))
    operator.start()
    assert wait_result(kube, secret)["authorized"] is True


def test_device_code_is_declined(
    kube: Kube, namespace: str, provider: IdentityProvider, device: Json, loop_thread: LoopThread
) -> None:
    secret = ask(kube, namespace, device)
    loop_thread.run(provider.log_in_device(wait_told(kube, secret, "user-code"), decision="deny"))
    assert wait_result(kube, secret)["reason"] == "ConsentDenied"
    kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentDenied")


def test_device_code_is_no_longer_asked_for_when_the_person_gives_up(
    kube: Kube, namespace: str, provider: IdentityProvider, device: Json
) -> None:
    secret = ask(kube, namespace, device)
    wait_told(kube, secret, "user-code")
    kube.wait(lambda: len(provider.token_requests) >= 2, "the operator to ask twice")
    kube.delete("Secret", secret["metadata"]["name"], namespace)
    again = ask(kube, namespace, device)
    code = provider.token_requests[-1].form["device_code"]
    wait_told(kube, again, "user-code")

    def asked_for_new_one_thrice() -> bool:
        codes = [asked.form["device_code"] for asked in provider.token_requests]
        return sum(each != code for each in codes[codes.index(code) :]) >= 3

    kube.wait(asked_for_new_one_thrice, "three questions about the new code")
    assert provider.token_requests[-1].form["device_code"] != code
    assert [asked.form["device_code"] for asked in provider.token_requests[-3:]].count(code) == 0


def wait_for_silence(kube: Kube, provider: IdentityProvider) -> None:
    """Until the provider has not been asked for three seconds, while it would be each second."""
    seen = [(len(provider.token_requests), time.monotonic())]

    def is_silent() -> bool:
        if len(provider.token_requests) != seen[0][0]:
            seen[0] = (len(provider.token_requests), time.monotonic())
        return time.monotonic() - seen[0][1] > 3

    kube.wait(is_silent, "the operator to ask no more")


@pytest.mark.parametrize("change", ["deleted", "others"])
def test_device_code_is_no_longer_asked_for_when_the_settings_are_gone(
    kube: Kube,
    namespace: str,
    provider: IdentityProvider,
    device: Json,
    loop_thread: LoopThread,
    change: str,
) -> None:
    secret = ask(kube, namespace, device)
    code = wait_told(kube, secret, "user-code")
    kube.wait(lambda: provider.token_requests, "the operator to ask")
    if change == "deleted":
        kube.delete(KIND, "mail", namespace)
    else:
        kube.patch(KIND, "mail", namespace, spec={"auth": {"oauth2": {"scopes": [*SCOPES, "other"]}}})
    wait_for_silence(kube, provider)
    loop_thread.run(provider.log_in_device(code))
    wait_for_silence(kube, provider)
    assert kube.get("Secret", names.token_secret_name(device["metadata"]["uid"]), NAMESPACE) is None


def test_life_of_a_device_code_is_not_the_tenants_to_set(
    kube: Kube, namespace: str, provider: IdentityProvider, device: Json
) -> None:
    secret = ask(kube, namespace, device)
    wait_told(kube, secret, "user-code")
    told = datetime.fromisoformat(wait_told(kube, secret, "expires-at"))
    created = datetime.fromisoformat(secret["metadata"]["creationTimestamp"])
    assert told - created <= LIFE, "whatever the provider allows"


def test_open_consent_ends_when_the_settings_ask_nobody_any_more(
    kube: Kube, namespace: str, native: Json, person: Person
) -> None:
    secret = ask(kube, namespace, native, redirect_uri=LOOPBACK_URI)
    wait_told(kube, secret, "authorize-url")
    inherits = {"useSystemSettings": True, "systemSettingsRef": {"name": "none"}}
    own = dict.fromkeys(("provider", "connection", "auth", "mailFrom"))
    kube.patch(KIND, "mail", namespace, spec={**own, **inherits})
    assert wait_result(kube, secret)["authorized"] is False


# --- the system's settings ---


def test_system_is_consented_to_once_for_all(
    operator: OperatorProcess,
    kube: Kube,
    provider: IdentityProvider,
    person: Person,
    mail_server_of: Callable[[IdentityProvider], MailServer],
    new_namespace: Callable[..., str],
) -> None:
    name = f"system-{secrets.token_hex(4)}"
    kube.secret(name, NAMESPACE, secret=CLIENT_SECRET)
    tenants = [new_namespace({"mail": name}) for _ in range(2)]
    spec = consent_spec(provider, mail_server_of(provider))
    spec["auth"]["oauth2"]["clientAuth"]["secretRef"]["name"] = name
    spec["tenants"] = {"delivery": "Credentials", "namespaceSelector": {"matchLabels": {"mail": name}}}
    kube.create("ClusterMailServerSettings", name, spec=spec)
    try:
        asked = kube.wait_condition(name, None, "Authorized", "False", "ConsentRequired")
        for tenant in tenants:
            kube.create(KIND, "mail", tenant, spec={"systemSettingsRef": {"name": name}})
        waiting = kube.wait_condition("mail", tenants[0], "Authorized", "False", "ConsentRequired")
        assert condition(waiting, "Stalled") is None
        start = person.browser.open(asked["status"]["oauth2"]["authorizeURL"])
        assert "every tenant" in start.said
        assert person.consent(kube, asked).title == "Mail can be sent"
        for tenant in tenants:
            kube.wait_ready("mail", tenant)
            assert provider.is_live((kube.secret_data("mail-smtp", tenant) or {})["access-token"])
        assert len(provider.token_requests) == 1
    finally:
        allow = {"annotations": {names.ANNOTATION_ALLOW_DELETION: "true"}}
        kube.patch("ClusterMailServerSettings", name, metadata=allow)
        kube.delete("ClusterMailServerSettings", name)
        kube.delete("Secret", name, NAMESPACE)


# --- a provider that was not written here ---


@pytest.mark.skipif(bool(openid.missing()), reason=openid.missing())
def test_independent_provider(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    serve: Callable[..., MailServer],
    loop_thread: LoopThread,
    external_url: str,
) -> None:
    """Code, PKCE, ID token, rotation with reuse detection: all by `oidc-provider`, whose tokens live six seconds."""
    redirect_uri = f"{external_url}/oauth2/callback/127.0.0.1:{{port}}"
    with openid.openid_provider(access_life_s=6, redirect_uri=redirect_uri) as provider:
        seen: list[str] = []

        def takes(said: Presented) -> bool:
            seen.append(said.token)
            return said.username == ACCOUNT

        server = serve(auth_required=True, auth_without_tls=True, mechanisms=("XOAUTH2",), takes=takes)
        kube.secret("oauth2", namespace, secret=CLIENT_SECRET)
        spec = consent_spec(provider, server, scopes=["openid", "offline_access", "email", openid.MAIL])
        kube.create(KIND, "mail", namespace, spec=spec)
        asked = kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentRequired")

        wrong = Person(provider, loop_thread)
        assert OTHER in wrong.consent(kube, asked, account=OTHER).said
        person = Person(provider, loop_thread)
        assert person.consent(kube, asked).title == "Mail can be sent"
        kube.wait_ready("mail", namespace)

        def delivered() -> str:
            return (kube.secret_data("mail-smtp", namespace) or {})["access-token"]

        assert seen == [delivered()]
        tokens: set[str] = set()

        def has_seen_four() -> bool:
            tokens.add(delivered())
            return len(tokens) >= 4

        kube.wait(has_seen_four, "three renewals")
        assert loop_thread.run(provider.is_live(delivered()))
        kube.wait_ready("mail", namespace)


# --- Google's way ---


def test_google(kube: Kube, namespace: str, provider: IdentityProvider, settings: Json, person: Person) -> None:
    changed = {"scopes": None, "accountCheck": None}
    kube.patch(KIND, "mail", namespace, spec={"provider": "Google", "auth": {"oauth2": changed}})
    asked = kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentRequired")
    page = person.consent(kube, asked)
    assert page.title == "Mail can be sent", page.said
    ready = kube.wait_ready("mail", namespace)
    assert ready["status"]["oauth2"]["account"] == ACCOUNT
    assert "https://mail.google.com/" in ready["status"]["oauth2"]["scopes"]


# --- Microsoft's way ---

PUBLIC_CLIENT: Final = "99998888-aaaa-7777-bbbb-6666cccc5555"


def office365_spec(server: MailServer, **oauth2: Any) -> Json:
    """The spec of settings in the cloud that the operator's administrator has defined."""
    return {
        "mailFrom": "Acme <no-reply@acme.example>",
        "provider": "Office365",
        "connection": {"host": "127.0.0.1", "port": server.port, "timeout": "3s", "tls": {"mode": "Disabled"}},
        "auth": {"oauth2": {"username": ACCOUNT, "directoryID": DIRECTORY, "cloud": "Custom", **oauth2}},
    }


def test_microsoft(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    cloud: IdentityProvider,
    mail_server_of: Callable[[IdentityProvider], MailServer],
    loop_thread: LoopThread,
    external_url: str,
) -> None:
    redirect_uri = f"{external_url}/oauth2/callback/127.0.0.1:{cloud.port}"
    cloud.register(RegisteredClient(secret=CLIENT_SECRET, redirect_uris=frozenset({redirect_uri})))
    cloud.accounts.add(OTHER)
    kube.secret("oauth2", namespace, secret=CLIENT_SECRET)
    client = {"clientID": CLIENT_ID, "clientAuth": {"secretRef": {"name": "oauth2", "key": "secret"}}}
    spec = office365_spec(mail_server_of(cloud), grant="AuthorizationCode", **client)
    kube.create(KIND, "mail", namespace, spec=spec)
    asked = kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentRequired")
    assert asked["status"]["oauth2"]["redirectURI"] == redirect_uri

    assert OTHER in Person(cloud, loop_thread).consent(kube, asked, account=OTHER).said
    kube.wait_condition("mail", namespace, "Authorized", "False", "WrongAccount")
    page = Person(cloud, loop_thread).consent(kube, asked)
    assert page.title == "Mail can be sent", page.said
    ready = kube.wait_ready("mail", namespace)
    assert ready["status"]["oauth2"]["account"] == ACCOUNT
    assert cloud.is_live((kube.secret_data("mail-smtp", namespace) or {})["access-token"])


def test_microsoft_by_a_device_code(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    cloud: IdentityProvider,
    mail_server_of: Callable[[IdentityProvider], MailServer],
    loop_thread: LoopThread,
) -> None:
    cloud.register(RegisteredClient(id=PUBLIC_CLIENT))
    spec = office365_spec(mail_server_of(cloud), grant="DeviceCode", clientID=PUBLIC_CLIENT)
    kube.create(KIND, "mail", namespace, spec=spec)
    asked = kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentRequired")
    secret = ask(kube, namespace, asked)
    loop_thread.run(cloud.log_in_device(wait_told(kube, secret, "user-code")))
    assert wait_result(kube, secret)["authorized"] is True
    kube.wait_ready("mail", namespace)
