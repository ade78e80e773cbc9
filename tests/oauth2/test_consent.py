"""A person's consent, from the authorization endpoint or a device to tokens, at a provider over https."""

import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.identity import Family
from mailsettings.core.oauth2.account import ExpectedAccount, check_consent, issuers_of
from mailsettings.core.oauth2.authorization import authorization_url
from mailsettings.core.oauth2.faults import TokenFault
from mailsettings.core.oauth2.request import (
    AuthorizationRequest,
    ClientAuth,
    DeviceAuthorization,
    DeviceAuthorizationRequest,
    Token,
    TokenRequest,
)
from mailsettings.core.server import Source
from mailsettings.edges.oauth2 import tokens
from tests.support import identity_provider as idp
from tests.support.consent_pages import NoConsentError, query
from tests.support.identity_provider import (
    ACCOUNT,
    CLIENT_ID,
    CLIENT_SECRET,
    DEVICE_GRANT,
    DIRECTORY,
    REDIRECT_URI,
    SCOPE,
    IdentityProvider,
    RegisteredClient,
    key_pair,
    saying,
)
from tests.support.token_requests import (
    PUBLIC,
    SECRET,
    VERIFIER,
    authorization,
    certificate_auth,
    device,
    poll,
    redemption,
    refresh,
    trusting,
)

STATE, NONCE = "the-state", "the-nonce"
FAMILIES = pytest.mark.parametrize("family", Family)
DEVICES = pytest.mark.parametrize("family", [Family.MICROSOFT, Family.CUSTOM])
CUSTOM_SCOPES = (SCOPE, "openid", "email", "offline_access")


@pytest.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    async with idp.identity_provider() as running:
        yield running


async def obtain(provider: IdentityProvider, request: TokenRequest) -> Token:
    return await trusting(provider.ca_pem).obtain(request, Source.TENANT)


async def authorize(provider: IdentityProvider, request: DeviceAuthorizationRequest) -> DeviceAuthorization:
    return await trusting(provider.ca_pem).authorize_device(request, Source.TENANT)


async def fault(call: Any) -> TokenFault:
    with pytest.raises(tokens.TokenError) as caught:
        await call
    return caught.value.fault


def endpoint(provider: IdentityProvider, family: Family) -> str:
    return provider.authority if family is Family.MICROSOFT else provider.token_uri


def scopes_for(family: Family) -> tuple[str, ...]:
    return CUSTOM_SCOPES if family is Family.CUSTOM else (SCOPE,)


def asked_of(provider: IdentityProvider, family: Family, **changes: Any) -> AuthorizationRequest:
    where = provider.microsoft_authorization_uri if family is Family.MICROSOFT else provider.authorization_uri
    return authorization(family, endpoint=where, **{"scopes": scopes_for(family), **changes})


def url_of(provider: IdentityProvider, family: Family, **changes: Any) -> str:
    return authorization_url(asked_of(provider, family, **changes), state=STATE, verifier=VERIFIER, nonce=NONCE)


async def redeeming(
    provider: IdentityProvider, family: Family, auth: ClientAuth = SECRET, **changes: Any
) -> TokenRequest:
    """The request with the code of a consent."""
    code = query(await provider.log_in(url_of(provider, family)))["code"]
    options: dict[str, Any] = {"code": code, "endpoint": endpoint(provider, family), "scopes": scopes_for(family)}
    return redemption(family, auth, **{**options, **changes})


def expected(provider: IdentityProvider, family: Family, **changes: Any) -> ExpectedAccount:
    options: dict[str, Any] = {
        "family": family,
        "username": ACCOUNT,
        "client_id": CLIENT_ID,
        "issuers": issuers_of(family, provider.authorization_uri),
        "nonce": NONCE,
        "directory_id": DIRECTORY,
        "claim": "email",
        "scopes": scopes_for(family),
    }
    return ExpectedAccount(**{**options, **changes})


# The code


AUTHS: list[tuple[str, RegisteredClient, ClientAuth]] = [
    ("secret", RegisteredClient(secret=CLIENT_SECRET), SECRET),
    ("public", RegisteredClient(), PUBLIC),
    ("certificate", RegisteredClient(assertion_key=key_pair().public_key), certificate_auth()),
]


@FAMILIES
@pytest.mark.parametrize(("client", "auth"), [row[1:] for row in AUTHS], ids=[row[0] for row in AUTHS])
async def test_a_consent_gives_tokens_of_the_account(
    provider: IdentityProvider, family: Family, client: RegisteredClient, auth: ClientAuth
) -> None:
    if family is Family.GOOGLE and auth not in (SECRET, PUBLIC):
        return
    provider.register(client)
    token = await obtain(provider, await redeeming(provider, family, auth))
    assert provider.is_live(token.access_token)
    assert token.account == ACCOUNT
    assert token.claims["nonce"] == NONCE
    assert check_consent(token, expected(provider, family)) is None
    assert token.refresh_token is not None
    again = refresh(family, auth, endpoint=endpoint(provider, family), token=token.refresh_token)
    assert provider.is_live((await obtain(provider, again)).access_token)


@FAMILIES
async def test_the_redirect_brings_state_and_issuer_back(provider: IdentityProvider, family: Family) -> None:
    answer = query(await provider.log_in(url_of(provider, family)))
    assert answer["state"] == STATE
    assert answer["iss"] == (provider.issuer if family is Family.MICROSOFT else provider.origin)
    provider.pages.sends_issuer = False
    assert "iss" not in query(await provider.log_in(url_of(provider, family)))


@FAMILIES
async def test_what_is_sent_with_a_code(provider: IdentityProvider, family: Family) -> None:
    request = await redeeming(provider, family)
    await obtain(provider, request)
    form = provider.token_requests[-1].form
    assert form["grant_type"] == "authorization_code"
    assert form["redirect_uri"] == REDIRECT_URI
    assert form["code_verifier"] == VERIFIER
    assert ("client_secret" in form) is (family is not Family.CUSTOM)
    assert ("scope" in form) is (family is Family.MICROSOFT)


@FAMILIES
async def test_a_code_is_good_once(provider: IdentityProvider, family: Family) -> None:
    request = await redeeming(provider, family)
    token = await obtain(provider, request)
    refused = await fault(obtain(provider, request))
    assert (refused.reason, refused.is_transient) == (Reason.CONSENT_EXPIRED, False)
    assert "Begin the consent again: `kubectl mailsettings authorize NAME`." in refused.message
    assert not provider.is_live(token.access_token)


@FAMILIES
@pytest.mark.parametrize(
    "changes", [{"verifier": "another" + VERIFIER}, {"code": "made-up"}], ids=["verifier", "no such code"]
)
async def test_codes_that_are_no_good(provider: IdentityProvider, family: Family, changes: dict[str, Any]) -> None:
    request = await redeeming(provider, family, **changes)
    refused = await fault(obtain(provider, request))
    assert (refused.reason, refused.is_transient) == (Reason.CONSENT_EXPIRED, False)


@FAMILIES
async def test_a_code_that_came_too_late(provider: IdentityProvider, family: Family) -> None:
    provider.pages.code_life_s = -1
    request = await redeeming(provider, family)
    assert (await fault(obtain(provider, request))).reason is Reason.CONSENT_EXPIRED


@FAMILIES
async def test_a_redirect_uri_that_differs_is_named(provider: IdentityProvider, family: Family) -> None:
    request = await redeeming(provider, family, redirect_uri=f"{REDIRECT_URI}/")
    refused = await fault(obtain(provider, request))
    assert refused.reason is Reason.CLIENT_NOT_PERMITTED
    assert f"{REDIRECT_URI}/, exactly" in refused.message


@FAMILIES
async def test_a_redemption_that_nobody_answers_is_not_promised_to_be_repeated(
    provider: IdentityProvider, family: Family
) -> None:
    provider.answers.append(saying("<html>", 503))
    refused = await fault(obtain(provider, await redeeming(provider, family)))
    assert (refused.reason, refused.is_transient) == (Reason.PROVIDER_UNAVAILABLE, True)
    assert "503. Begin the consent again." in refused.message
    assert len(provider.token_requests) == 1


@FAMILIES
async def test_an_odd_id_token_does_not_lose_the_refresh_token(provider: IdentityProvider, family: Family) -> None:
    """Whether the ID token is good is judged afterwards, with a message that helps."""
    provider.id_token_claims = {"exp": 1, "aud": "another", "nonce": None, "iss": "https://elsewhere.example"}
    token = await obtain(provider, await redeeming(provider, family))
    assert token.refresh_token is not None
    found = check_consent(token, expected(provider, family))
    assert found is not None
    assert found.reason is Reason.PROVIDER_ANSWER_INVALID


@FAMILIES
async def test_another_account(provider: IdentityProvider, family: Family) -> None:
    provider.accounts.add("someone@acme.example")
    code = query(await provider.log_in(url_of(provider, family), account="someone@acme.example"))["code"]
    token = await obtain(provider, await redeeming(provider, family, code=code))
    found = check_consent(token, expected(provider, family))
    assert found is not None
    assert found.reason is Reason.WRONG_ACCOUNT
    assert "someone@acme.example" in found.message
    assert ACCOUNT in found.message


@pytest.mark.parametrize("family", [Family.GOOGLE, Family.CUSTOM])
async def test_a_scope_that_the_person_unticked(provider: IdentityProvider, family: Family) -> None:
    provider.pages.declined_scopes = frozenset({SCOPE})
    token = await obtain(provider, await redeeming(provider, family))
    found = check_consent(token, expected(provider, family))
    assert found is not None
    assert found.reason is Reason.SCOPE_INVALID


# The pages of the test provider


async def test_a_declined_consent(provider: IdentityProvider) -> None:
    answer = query(await provider.log_in(url_of(provider, Family.CUSTOM), decision="decline"))
    assert (answer["error"], answer["state"]) == ("access_denied", STATE)


async def test_an_error_to_order(provider: IdentityProvider) -> None:
    provider.pages.redirect_errors.append({"error": "temporarily_unavailable"})
    assert query(await provider.log_in(url_of(provider, Family.CUSTOM)))["error"] == "temporarily_unavailable"


@pytest.mark.parametrize("change", ["redirect_uri", "client_id"])
async def test_nobody_is_sent_to_a_place_that_is_not_registered(provider: IdentityProvider, change: str) -> None:
    url = url_of(provider, Family.CUSTOM).replace(f"{change}=", f"{change}=another")
    with pytest.raises(NoConsentError, match="role='alert'"):
        await provider.log_in(url)


async def test_pkce_is_demanded(provider: IdentityProvider) -> None:
    url = url_of(provider, Family.CUSTOM).replace("S256", "plain")
    assert query(await provider.log_in(url))["error"] == "invalid_request"


async def test_a_wrong_password_leads_nowhere(provider: IdentityProvider) -> None:
    with pytest.raises(NoConsentError, match="password is wrong"):
        await provider.log_in(url_of(provider, Family.CUSTOM), password="wrong")


# Devices


@DEVICES
async def test_a_device_waits_until_the_person_has_allowed_it(provider: IdentityProvider, family: Family) -> None:
    provider.register(RegisteredClient())
    codes = await authorize(provider, _device(provider, family))
    request = poll(family, endpoint=endpoint(provider, family), code=codes.device_code)
    waiting = await fault(obtain(provider, request))
    assert (waiting.reason, waiting.is_transient) == (Reason.CONSENT_REQUIRED, True)
    assert (waiting.error, waiting.retry_after) == ("authorization_pending", None)
    await provider.log_in_device(codes.user_code)
    token = await obtain(provider, request)
    assert provider.is_live(token.access_token)
    assert token.refresh_token is not None
    assert check_consent(token, expected(provider, family, nonce=None)) is None
    assert len(provider.token_requests) == 2
    assert {each.form["grant_type"] for each in provider.token_requests} == {DEVICE_GRANT}


def _device(provider: IdentityProvider, family: Family, auth: ClientAuth = PUBLIC) -> DeviceAuthorizationRequest:
    where = provider.authority if family is Family.MICROSOFT else provider.device_authorization_uri
    return device(family, auth, endpoint=where, scopes=scopes_for(family))


@DEVICES
async def test_what_a_person_is_shown(provider: IdentityProvider, family: Family) -> None:
    provider.register(RegisteredClient())
    codes = await authorize(provider, _device(provider, family))
    assert codes.verification_uri == f"{provider.origin}/device"
    complete = f"{provider.origin}/device?user_code={codes.user_code}"
    assert codes.verification_uri_complete == (complete if family is Family.CUSTOM else None)
    assert codes.interval == timedelta(seconds=1)
    assert codes.device_code not in repr(codes)


async def test_microsoft_is_asked_for_what_lasts(provider: IdentityProvider) -> None:
    provider.register(RegisteredClient())
    await authorize(provider, _device(provider, Family.MICROSOFT))
    form = next(each.form for each in provider.asked if each.path.endswith("/devicecode"))
    assert sorted(form["scope"].split()) == sorted({SCOPE, "offline_access", "openid", "profile"})
    assert "claims" not in form


async def test_a_device_of_a_client_with_a_secret(provider: IdentityProvider) -> None:
    codes = await authorize(provider, _device(provider, Family.CUSTOM, SECRET))
    await provider.log_in_device(codes.user_code)
    request = poll(Family.CUSTOM, SECRET, endpoint=provider.token_uri, code=codes.device_code)
    assert provider.is_live((await obtain(provider, request)).access_token)
    assert [each.form.get("client_id") for each in provider.asked if each.method == "POST"][:1] == [CLIENT_ID]


@DEVICES
async def test_slow_down_makes_the_interval_longer(provider: IdentityProvider, family: Family) -> None:
    provider.register(RegisteredClient())
    codes = await authorize(provider, _device(provider, family))
    provider.pages.slow_downs = 1
    request = poll(family, endpoint=endpoint(provider, family), code=codes.device_code)
    slow = await fault(obtain(provider, request))
    assert (slow.reason, slow.is_transient, slow.error) == (Reason.CONSENT_REQUIRED, True, "slow_down")
    assert slow.retry_after == timedelta(seconds=10)
    assert len(provider.token_requests) == 1


@DEVICES
async def test_a_device_that_was_declined(provider: IdentityProvider, family: Family) -> None:
    provider.register(RegisteredClient())
    codes = await authorize(provider, _device(provider, family))
    await provider.log_in_device(codes.user_code, decision="decline")
    refused = await fault(obtain(provider, poll(family, endpoint=endpoint(provider, family), code=codes.device_code)))
    assert (refused.reason, refused.is_transient) == (Reason.CONSENT_DENIED, False)


@DEVICES
async def test_a_device_that_nobody_allowed_in_time(provider: IdentityProvider, family: Family) -> None:
    provider.register(RegisteredClient())
    codes = await authorize(provider, _device(provider, family))
    provider.pages.expire_devices()
    refused = await fault(obtain(provider, poll(family, endpoint=endpoint(provider, family), code=codes.device_code)))
    assert (refused.reason, refused.is_transient) == (Reason.CONSENT_EXPIRED, False)
    with pytest.raises(NoConsentError, match="no such code"):
        await provider.log_in_device(codes.user_code)


@DEVICES
async def test_no_codes_for_an_unknown_client(provider: IdentityProvider, family: Family) -> None:
    provider.clients.clear()
    refused = await fault(authorize(provider, _device(provider, family)))
    assert refused.reason in (Reason.CLIENT_UNKNOWN, Reason.CLIENT_NOT_PERMITTED)


@DEVICES
@pytest.mark.parametrize(
    "answer",
    [saying("<html>"), saying({}), saying({"device_code": "d", "user_code": "u", "verification_uri": "javascript:1"})],
    ids=["html", "empty", "no https"],
)
async def test_no_codes_in_the_answer(provider: IdentityProvider, family: Family, answer: idp.Behaviour) -> None:
    provider.answers.append(answer)
    refused = await fault(authorize(provider, _device(provider, family)))
    assert (refused.reason, refused.is_transient) == (Reason.PROVIDER_ANSWER_INVALID, True)


async def test_codes_are_not_sent_to_another_host(provider: IdentityProvider) -> None:
    document = provider.discovery_document(device_authorization_endpoint="https://attacker.example/x/devicecode")
    provider.discoveries.append(saying(document))
    refused = await fault(authorize(provider, _device(provider, Family.MICROSOFT)))
    assert "was not contacted" in refused.message


# Secrets


@FAMILIES
async def test_no_log_line_or_error_holds_a_code(
    provider: IdentityProvider, family: Family, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    request = await redeeming(provider, family)
    caplog.clear()
    token = await obtain(provider, request)
    echo = saying({"error": "invalid_grant", "error_description": " ".join(request.secrets())}, 400)
    provider.answers.append(echo)
    refused = await fault(obtain(provider, request))
    issued = [token.access_token, token.refresh_token or ""]
    texts = [repr(request), repr(token), repr(refused), refused.message]
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("aiohttp")]
    leaked = [secret for secret in (*request.secrets(), *issued) if any(secret in text for text in (*texts, *ours))]
    assert leaked == []
    assert "[redacted]" in refused.message


async def test_no_log_line_holds_a_device_code(provider: IdentityProvider, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    provider.register(RegisteredClient())
    codes = await authorize(provider, _device(provider, Family.MICROSOFT))
    await provider.log_in_device(codes.user_code)
    await obtain(provider, poll(Family.MICROSOFT, endpoint=provider.authority, code=codes.device_code))
    assert codes.device_code not in caplog.text
    assert codes.user_code not in caplog.text
