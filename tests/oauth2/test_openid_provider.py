"""Consent, refresh and devices at an OpenID provider that was not written here."""

from collections.abc import Iterator
from typing import Any

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.identity import Family
from mailsettings.api.oauth2 import SecretMethod
from mailsettings.core.oauth2.account import ExpectedAccount, check_consent, is_issuer, issuers_of
from mailsettings.core.oauth2.authorization import authorization_url
from mailsettings.core.oauth2.faults import TokenFault, diagnose_redirect
from mailsettings.core.oauth2.request import (
    AuthorizationCode,
    AuthorizationRequest,
    Client,
    ClientSecret,
    DeviceAuthorizationRequest,
    DeviceCode,
    Grant,
    RefreshToken,
    Token,
    TokenRequest,
)
from mailsettings.core.server import Source
from mailsettings.edges.oauth2 import tokens
from tests.support import openid
from tests.support.consent_pages import query
from tests.support.identity_provider import ACCOUNT, CLIENT_ID, CLIENT_SECRET, REDIRECT_URI
from tests.support.openid import MAIL, POST_CLIENT, PUBLIC_CLIENT, OpenIdProvider
from tests.support.token_requests import (
    PUBLIC,
    SECRET,
    VERIFIER,
    trusting,
)

pytestmark = [
    pytest.mark.skipif(bool(openid.missing()), reason=openid.missing()),
    pytest.mark.xdist_group("openid-provider"),
]

STATE, NONCE = "the-state", "the-nonce"
SCOPES = (MAIL, "openid", "email", "offline_access")
CLIENTS = [
    Client(CLIENT_ID, SECRET),
    Client(POST_CLIENT, ClientSecret(CLIENT_SECRET, SecretMethod.POST)),
    Client(PUBLIC_CLIENT, PUBLIC),
]
EACH_CLIENT = pytest.mark.parametrize("client", CLIENTS, ids=[client.id for client in CLIENTS])


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIdProvider]:
    with openid.openid_provider() as running:
        yield running


async def obtain(provider: OpenIdProvider, grant: Grant, scopes: tuple[str, ...] = SCOPES) -> Token:
    request = TokenRequest(Family.CUSTOM, provider.token_uri, grant, scopes)
    return await trusting(provider.ca_pem).obtain(request, Source.TENANT)


async def fault(provider: OpenIdProvider, grant: Grant) -> TokenFault:
    with pytest.raises(tokens.TokenError) as caught:
        await obtain(provider, grant)
    return caught.value.fault


def asked(provider: OpenIdProvider, client: Client, **changes: Any) -> AuthorizationRequest:
    options: dict[str, Any] = {"redirect_uri": REDIRECT_URI, "scopes": SCOPES, "login_hint": ACCOUNT, **changes}
    return AuthorizationRequest(Family.CUSTOM, provider.authorization_uri, client.id, **options)


def url_of(provider: OpenIdProvider, client: Client, **changes: Any) -> str:
    return authorization_url(asked(provider, client, **changes), state=STATE, verifier=VERIFIER, nonce=NONCE)


async def code_of(provider: OpenIdProvider, client: Client, **options: Any) -> AuthorizationCode:
    answer = query(await provider.log_in(url_of(provider, client), **options))
    assert answer["state"] == STATE
    assert is_issuer(answer["iss"], issuers_of(Family.CUSTOM, provider.authorization_uri))
    return AuthorizationCode(client, answer["code"], REDIRECT_URI, VERIFIER)


def expected(provider: OpenIdProvider, client: Client, nonce: str | None = NONCE) -> ExpectedAccount:
    return ExpectedAccount(
        family=Family.CUSTOM,
        username=ACCOUNT,
        client_id=client.id,
        issuers=issuers_of(Family.CUSTOM, provider.authorization_uri),
        nonce=nonce,
        claim="email",
        scopes=SCOPES,
    )


async def consented(provider: OpenIdProvider, client: Client) -> Token:
    return await obtain(provider, await code_of(provider, client))


@EACH_CLIENT
async def test_a_code_gives_tokens_of_the_account(provider: OpenIdProvider, client: Client) -> None:
    token = await consented(provider, client)
    assert await provider.is_live(token.access_token)
    assert token.account == ACCOUNT
    assert check_consent(token, expected(provider, client)) is None


async def test_another_account(provider: OpenIdProvider) -> None:
    client = CLIENTS[0]
    token = await obtain(provider, await code_of(provider, client, account="someone@acme.example"))
    found = check_consent(token, expected(provider, client))
    assert found is not None
    assert found.reason is Reason.WRONG_ACCOUNT


async def test_a_consent_that_was_declined(provider: OpenIdProvider) -> None:
    request = asked(provider, CLIENTS[0])
    answer = query(await provider.log_in(url_of(provider, CLIENTS[0]), decision="decline"))
    found = diagnose_redirect(answer["error"], answer["error_description"], request)
    assert found.reason is Reason.CONSENT_DENIED


async def test_a_scope_that_the_provider_does_not_know_is_missed(provider: OpenIdProvider) -> None:
    """This provider leaves it out without a word."""
    client = CLIENTS[0]
    answer = query(await provider.log_in(url_of(provider, client, scopes=(*SCOPES, "unheard.of"))))
    scopes = (*SCOPES, "unheard.of")
    token = await obtain(provider, AuthorizationCode(client, answer["code"], REDIRECT_URI, VERIFIER), scopes)
    wanted = expected(provider, client)
    found = check_consent(token, ExpectedAccount(**{**_fields(wanted), "scopes": scopes}))
    assert found is not None
    assert "missing: unheard.of" in found.message


def _fields(wanted: ExpectedAccount) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in ExpectedAccount.__slots__}


async def test_without_offline_access_there_is_no_refresh_token(provider: OpenIdProvider) -> None:
    client, scopes = CLIENTS[0], (MAIL, "openid", "email")
    answer = query(await provider.log_in(url_of(provider, client, scopes=scopes)))
    token = await obtain(provider, AuthorizationCode(client, answer["code"], REDIRECT_URI, VERIFIER), scopes)
    found = check_consent(token, expected(provider, client))
    assert found is not None
    assert found.reason is Reason.REFRESH_TOKEN_MISSING


@EACH_CLIENT
async def test_a_code_is_good_once_and_with_its_verifier(provider: OpenIdProvider, client: Client) -> None:
    code = await code_of(provider, client)
    token = await obtain(provider, code)
    again = await fault(provider, code)
    assert (again.reason, again.is_transient) == (Reason.CONSENT_EXPIRED, False)
    assert not await provider.is_live(token.access_token)
    other = await code_of(provider, client)
    stolen = AuthorizationCode(client, other.code, REDIRECT_URI, VERIFIER.swapcase())
    assert (await fault(provider, stolen)).reason is Reason.CONSENT_EXPIRED


@EACH_CLIENT
async def test_refresh_with_rotation_and_reuse_detection(provider: OpenIdProvider, client: Client) -> None:
    first = await consented(provider, client)
    second = await obtain(provider, _refresh(client, first), ())
    assert second.refresh_token not in (None, first.refresh_token)
    assert await provider.is_live(second.access_token)
    third = await obtain(provider, _refresh(client, second), ())
    reused = await fault(provider, _refresh(client, first))
    assert reused.reason is Reason.TOKEN_REVOKED
    assert (await fault(provider, _refresh(client, third))).reason is Reason.TOKEN_REVOKED
    assert not await provider.is_live(third.access_token)


def _refresh(client: Client, token: Token) -> RefreshToken:
    assert token.refresh_token is not None
    return RefreshToken(client, token.refresh_token)


async def test_a_refresh_may_not_ask_for_more(provider: OpenIdProvider) -> None:
    """Why the scopes of a consent are not sent again: those that were refused would end it (RFC 6749 §6)."""
    client = CLIENTS[0]
    token = await consented(provider, client)
    with pytest.raises(tokens.TokenError) as caught:
        await obtain(provider, _refresh(client, token), (*SCOPES, "profile"))
    assert caught.value.fault.reason is Reason.SCOPE_INVALID


async def test_a_wrong_secret(provider: OpenIdProvider) -> None:
    code = await code_of(provider, CLIENTS[0])
    wrong = AuthorizationCode(Client(CLIENT_ID, ClientSecret("wrong")), code.code, REDIRECT_URI, VERIFIER)
    assert (await fault(provider, wrong)).reason is Reason.CLIENT_AUTH_INVALID


@EACH_CLIENT
async def test_a_device(provider: OpenIdProvider, client: Client) -> None:
    request = DeviceAuthorizationRequest(Family.CUSTOM, provider.device_authorization_uri, client, SCOPES)
    codes = await trusting(provider.ca_pem).authorize_device(request, Source.TENANT)
    grant = DeviceCode(client, codes.device_code, codes.interval)
    waiting = await fault(provider, grant)
    assert (waiting.reason, waiting.error) == (Reason.CONSENT_REQUIRED, "authorization_pending")
    assert codes.verification_uri_complete is not None
    await provider.log_in_device(codes.verification_uri_complete, codes.user_code)
    token = await obtain(provider, grant)
    assert await provider.is_live(token.access_token)
    assert check_consent(token, expected(provider, client, nonce=None)) is None
    assert (await fault(provider, grant)).reason is Reason.CONSENT_EXPIRED


async def test_a_device_that_was_declined(provider: OpenIdProvider) -> None:
    client = CLIENTS[0]
    request = DeviceAuthorizationRequest(Family.CUSTOM, provider.device_authorization_uri, client, SCOPES)
    codes = await trusting(provider.ca_pem).authorize_device(request, Source.TENANT)
    await provider.log_in_device(codes.verification_uri, codes.user_code, decision="decline")
    refused = await fault(provider, DeviceCode(client, codes.device_code))
    assert (refused.reason, refused.is_transient) == (Reason.CONSENT_DENIED, False)
