"""A token that is got for one probe: with a real provider and a real mail server."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.identity import Family
from mailsettings.api.oauth2 import OAuth2
from mailsettings.api.probe import ProbeMode
from mailsettings.api.trial import obstacle
from mailsettings.core.oauth2.request import ClientSecret
from mailsettings.core.probe import ProbeProgress, ProbeRequest, ProbeResult, Stage, TokenWish
from mailsettings.core.sender_dns import Sender
from mailsettings.edges import sender_dns, trial
from tests.support.identity_provider import ACCOUNT, IdentityProvider, identity_provider
from tests.support.smtp_probe import ALLOW_LOOPBACK, PATIENT, request
from tests.support.smtp_server import MailServer, mail_server
from tests.support.token_requests import (
    SECRET,
    client_credentials,
    trusting,
)


@pytest.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    async with identity_provider() as running:
        yield running


@pytest.fixture
async def server(provider: IdentityProvider) -> AsyncIterator[MailServer]:
    async with mail_server(
        auth_without_tls=True,
        mechanisms=("XOAUTH2",),
        takes=lambda said: said.username == ACCOUNT and provider.is_live(said.token),
    ) as running:
        yield running


def wishing(provider: IdentityProvider, server: MailServer, secret: ClientSecret | None = None) -> ProbeRequest:
    asked = client_credentials(Family.CUSTOM, secret or SECRET, endpoint=provider.token_uri)
    plain = request(server.port, ProbeMode.AUTHENTICATE, credentials=None, mail=None)
    return replace(plain, wish=TokenWish(ACCOUNT, asked))


async def probe(provider: IdentityProvider, asked: ProbeRequest, told: list[ProbeProgress]) -> ProbeResult:
    obtain = trusting(provider.ca_pem).obtain
    return await trial.probe(asked, told.append, obtain=obtain, policy=ALLOW_LOOPBACK, deadline=PATIENT)


async def test_token_is_a_stage_before_the_others(provider: IdentityProvider, server: MailServer) -> None:
    told: list[ProbeProgress] = []
    result = await probe(provider, wishing(provider, server), told)
    assert result.failure is None
    assert [each.stage for each in result.stages][:2] == [Stage.TOKEN, Stage.RESOLVE]
    assert sum((each.duration for each in result.stages), timedelta()) <= result.duration
    assert [each.stage for each in told][:2] == [Stage.TOKEN, Stage.RESOLVE]
    assert all(each.stages[0].stage is Stage.TOKEN for each in told[1:])
    (presented,) = server.presented
    assert presented.token not in str(result.dialogue)


async def test_provider_that_gives_no_token_ends_the_probe(provider: IdentityProvider, server: MailServer) -> None:
    result = await probe(provider, wishing(provider, server, ClientSecret("not-the-secret")), [])
    assert result.failure is not None
    assert (result.failure.stage, result.failure.reason) == (Stage.TOKEN, Reason.CLIENT_AUTH_INVALID)
    assert [each.stage for each in result.stages] == [Stage.TOKEN]
    assert server.connections == 0


async def test_sender_is_looked_at_when_the_probe_has_passed_and_only_then(
    provider: IdentityProvider, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[Sender] = []

    async def look(sender: Sender) -> tuple[str, ...]:
        looked_at.append(sender)
        return ("acme.example has no SPF record",)

    monkeypatch.setattr(sender_dns, "sender_warnings", look)
    sender = Sender("acme.example", "Custom")
    assert (await probe(provider, wishing(provider, server), [])).warnings == ()
    passing = replace(wishing(provider, server), sender=sender)
    assert (await probe(provider, passing, [])).warnings == ("acme.example has no SPF record",)
    failing = replace(passing, server=replace(passing.server, port=1))
    assert (await probe(provider, failing, [])).failure is not None
    assert looked_at == [sender]


@pytest.mark.parametrize(
    ("provider_name", "fields", "field"),
    [
        ("Custom", {}, None),
        ("Custom", {"grant": "RefreshToken", "refreshTokenSecretRef": {"name": "a", "key": "b"}}, "auth.oauth2.grant"),
        (None, {"grant": "RefreshToken", "refreshTokenSecretRef": {"name": "a", "key": "b"}}, "auth.oauth2.grant"),
        ("Google", {"grant": "RefreshToken", "refreshTokenSecretRef": {"name": "a", "key": "b"}}, None),
        ("Office365", {"grant": "RefreshToken", "refreshTokenSecretRef": {"name": "a", "key": "b"}}, None),
        ("Office365", {"grant": "DeviceCode"}, "auth.oauth2.grant"),
        ("Office365", {"clientAuth": {"federation": {"audience": "a"}}}, "auth.oauth2.clientAuth.federation"),
    ],
)
def test_what_a_trial_would_spoil_is_refused(
    provider_name: str | None, fields: dict[str, object], field: str | None
) -> None:
    """A refresh token that may be replaced by its use would be lost."""
    spec = {
        "username": ACCOUNT,
        "grant": "ClientCredentials",
        "clientID": "x",
        "clientAuth": {"secretRef": {"name": "a", "key": "b"}},
        **fields,
    }
    found = obstacle(provider_name, OAuth2.model_validate(spec))
    assert (found.field if found else None) == field
