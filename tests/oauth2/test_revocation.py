"""Revoking tokens at a real provider over https."""

import logging
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from mailsettings.api.identity import Family
from mailsettings.api.oauth2 import SecretMethod
from mailsettings.core.egress import EgressPolicy
from mailsettings.core.oauth2.faults import Failure, FailureKind
from mailsettings.core.oauth2.request import ClientAuth, ClientSecret
from mailsettings.core.server import Source
from mailsettings.edges.oauth2 import tokens
from tests.support import identity_provider as idp
from tests.support.identity_provider import (
    CLIENT_SECRET,
    IdentityProvider,
    RegisteredClient,
    hanging,
    key_pair,
    redirecting,
    saying,
)
from tests.support.smtp_probe import ALLOW_LOOPBACK, PATIENT
from tests.support.token_requests import (
    ASSERTION,
    PUBLIC,
    SECRET,
    certificate_auth,
    federation,
    refresh,
    revocation,
    trusting,
)

FAMILIES = pytest.mark.parametrize("family", [Family.CUSTOM, Family.GOOGLE])


@pytest.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    async with idp.identity_provider() as running:
        yield running


async def revoke(
    provider: IdentityProvider,
    family: Family,
    token: str,
    auth: ClientAuth = SECRET,
    *,
    policy: EgressPolicy = ALLOW_LOOPBACK,
    deadline: timedelta = PATIENT,
    endpoint: str = "",
) -> Failure | None:
    request = revocation(
        family,
        auth,
        endpoint=endpoint or provider.revocation_uri,
        token_endpoint=provider.token_uri,
        token=token,
    )
    return await trusting(provider.ca_pem, policy=policy, deadline=deadline).revoke(request, Source.TENANT)


@FAMILIES
async def test_revoked_token_gives_no_new_one(provider: IdentityProvider, family: Family) -> None:
    token = provider.consent()
    assert await revoke(provider, family, token) is None
    request = refresh(family, endpoint=provider.token_uri, token=token)
    with pytest.raises(tokens.TokenError) as caught:
        await trusting(provider.ca_pem).obtain(request, Source.TENANT)
    assert caught.value.fault.error == "invalid_grant"
    assert await revoke(provider, family, token) is None  # what is revoked already is revoked


@pytest.mark.parametrize(
    ("registered", "auth", "sent"),
    [
        (RegisteredClient(secret=CLIENT_SECRET), SECRET, set()),
        (
            RegisteredClient(secret=CLIENT_SECRET),
            ClientSecret(CLIENT_SECRET, SecretMethod.POST),
            {"client_id", "client_secret"},
        ),
        (
            RegisteredClient(assertion_key=key_pair().public_key),
            certificate_auth(),
            {"client_id", "client_assertion", "client_assertion_type"},
        ),
        (RegisteredClient(), PUBLIC, {"client_id"}),
    ],
    ids=["basic", "post", "certificate", "public"],
)
async def test_client_authenticates_as_at_the_token_endpoint(
    provider: IdentityProvider, registered: RegisteredClient, auth: ClientAuth, sent: set[str]
) -> None:
    provider.register(registered)
    token = provider.consent()
    assert await revoke(provider, Family.CUSTOM, token, auth) is None
    (request,) = provider.revocation_requests
    assert request.form.keys() == {"token", "token_type_hint"} | sent
    assert (request.form["token"], request.form["token_type_hint"]) == (token, "refresh_token")
    assert ("Authorization" in request.headers) == (not sent)


async def test_google_is_sent_the_token_alone(provider: IdentityProvider) -> None:
    token = provider.consent()
    assert await revoke(provider, Family.GOOGLE, token) is None
    (request,) = provider.revocation_requests
    assert request.form == {"token": token}
    assert "Authorization" not in request.headers


async def test_wrong_credentials_revoke_nothing(provider: IdentityProvider) -> None:
    failure = await revoke(provider, Family.CUSTOM, provider.consent(), ClientSecret("wrong"))
    assert failure is not None
    assert (failure.kind, failure.status, failure.error) == (FailureKind.ANSWER, 401, "invalid_client")


@FAMILIES
async def test_what_goes_wrong_is_told(provider: IdentityProvider, family: Family) -> None:
    provider.revocations.extend([saying("", 503), redirecting("https://other.example/"), hanging()])
    short = timedelta(milliseconds=700)
    found = [await revoke(provider, family, "a-token", deadline=short) for _ in range(3)]
    assert [failure and failure.kind for failure in found] == [
        FailureKind.ANSWER,
        FailureKind.REDIRECT,
        FailureKind.DEADLINE,
    ]


@FAMILIES
async def test_egress_policy_holds(provider: IdentityProvider, family: Family) -> None:
    failure = await revoke(provider, family, "a-token", policy=EgressPolicy.parse())
    assert failure is not None
    assert failure.kind is FailureKind.EGRESS_DENIED
    assert provider.asked == []


async def test_nothing_is_logged_that_is_secret(provider: IdentityProvider, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = provider.consent()
    provider.revocations.append(saying({"error": token, "error_description": CLIENT_SECRET}, 400))
    for auth in (SECRET, federation()):
        await revoke(provider, Family.CUSTOM, token, auth)
    assert not any(secret in caplog.text for secret in (token, CLIENT_SECRET, ASSERTION))
