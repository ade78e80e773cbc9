"""Getting tokens from a real provider over https: each family, each grant, each way to authenticate."""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.connection import ProxyProtocol
from mailsettings.api.identity import Family
from mailsettings.api.oauth2 import SecretMethod
from mailsettings.core.egress import EgressPolicy
from mailsettings.core.oauth2.faults import TokenFault
from mailsettings.core.oauth2.request import (
    ClientAuth,
    ClientCertificate,
    ClientSecret,
    RefreshToken,
    Token,
    TokenRequest,
)
from mailsettings.core.server import Proxy, Source
from mailsettings.edges.oauth2 import http, tokens
from tests.support import identity_provider as idp
from tests.support.identity_provider import (
    ACCOUNT,
    CLIENT_ID,
    CLIENT_SECRET,
    DIRECTORY,
    SCOPE,
    SERVICE_ACCOUNT,
    Behaviour,
    IdentityProvider,
    RegisteredClient,
    key_pair,
    microsoft_error,
    saying,
    service_account_key,
)
from tests.support.listening import LOOPBACK, Serve, streams
from tests.support.proxies import PROXY_LOGIN, real_proxy, scripted_proxy
from tests.support.smtp_probe import ALLOW_LOOPBACK, PATIENT
from tests.support.smtp_server import (
    Peer,
    another_authority_pem,
    certificate,
    expired_certificate,
)
from tests.support.token_requests import (
    ASSERTION,
    PUBLIC,
    SECRET,
    certificate_auth,
    client_credentials,
    federation,
    refresh,
    service_account,
    trusting,
)

SHORT = timedelta(milliseconds=700)


@pytest.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    async with idp.identity_provider() as running:
        yield running


async def obtain(
    provider: IdentityProvider,
    request: TokenRequest,
    *,
    policy: EgressPolicy = ALLOW_LOOPBACK,
    deadline: timedelta = PATIENT,
    ca_bundle: str | None = "",
    since_s: float | None = None,
) -> Token:
    bundle = provider.ca_pem if ca_bundle == "" else ca_bundle
    return await trusting(bundle, policy=policy, deadline=deadline).obtain(request, Source.TENANT, since_s)


async def fault(provider: IdentityProvider, request: TokenRequest, **options: Any) -> TokenFault:
    """How a request failed that must fail."""
    with pytest.raises(tokens.TokenError) as caught:
        await obtain(provider, request, **options)
    return caught.value.fault


def endpoint(provider: IdentityProvider, family: Family) -> str:
    return provider.authority if family is Family.MICROSOFT else provider.token_uri


def refreshing(provider: IdentityProvider, family: Family, auth: ClientAuth = SECRET, **options: Any) -> TokenRequest:
    return refresh(
        family, auth, endpoint=endpoint(provider, family), token=provider.consent(client_id=CLIENT_ID), **options
    )


FAMILIES = pytest.mark.parametrize("family", Family)


# What works


@FAMILIES
async def test_a_refresh_gives_a_token_and_the_new_refresh_token(provider: IdentityProvider, family: Family) -> None:
    request = refreshing(provider, family)
    before = datetime.now(UTC)
    token = await obtain(provider, request)
    assert provider.is_live(token.access_token)
    assert before <= token.issued_at <= datetime.now(UTC)
    assert token.life == timedelta(hours=1)
    assert token.scopes == (SCOPE,)
    assert token.refresh_token is not None
    again = refresh(family, endpoint=request.endpoint, token=token.refresh_token)
    assert provider.is_live((await obtain(provider, again)).access_token)


@FAMILIES
async def test_a_provider_that_does_not_rotate_keeps_the_refresh_token(
    provider: IdentityProvider, family: Family
) -> None:
    provider.rotates = False
    assert (await obtain(provider, refreshing(provider, family))).refresh_token is None


AUTHS: list[tuple[str, RegisteredClient, ClientAuth]] = [
    ("secret", RegisteredClient(secret=CLIENT_SECRET), SECRET),
    ("post", RegisteredClient(secret=CLIENT_SECRET), ClientSecret(CLIENT_SECRET, SecretMethod.POST)),
    ("certificate", RegisteredClient(assertion_key=key_pair().public_key), certificate_auth()),
    ("public", RegisteredClient(), PUBLIC),
]


@FAMILIES
@pytest.mark.parametrize(("client", "auth"), [row[1:] for row in AUTHS], ids=[row[0] for row in AUTHS])
async def test_each_way_to_authenticate_a_refresh(
    provider: IdentityProvider, family: Family, client: RegisteredClient, auth: ClientAuth
) -> None:
    if family is Family.GOOGLE and isinstance(auth, ClientCertificate):
        return
    provider.register(client)
    token = await obtain(provider, refreshing(provider, family, auth))
    assert provider.is_live(token.access_token)


@pytest.mark.parametrize("family", [Family.MICROSOFT, Family.CUSTOM])
@pytest.mark.parametrize(("client", "auth"), [row[1:] for row in AUTHS[:3]], ids=[row[0] for row in AUTHS[:3]])
async def test_each_way_to_authenticate_an_application(
    provider: IdentityProvider, family: Family, client: RegisteredClient, auth: ClientAuth
) -> None:
    provider.register(client)
    request = client_credentials(family, auth, endpoint=endpoint(provider, family), scopes=("mail/.default",))
    token = await obtain(provider, request)
    assert provider.claims(token.access_token)["sub"] == CLIENT_ID
    assert token.refresh_token is None
    assert token.scopes == ("mail/.default",)


async def test_a_certificate_with_an_elliptic_curve(provider: IdentityProvider) -> None:
    provider.register(RegisteredClient(assertion_key=key_pair("P-256").public_key))
    request = client_credentials(Family.CUSTOM, certificate_auth("P-256"), endpoint=provider.token_uri)
    assert provider.is_live((await obtain(provider, request)).access_token)


@pytest.mark.parametrize("family", [Family.MICROSOFT, Family.CUSTOM])
async def test_federation_reads_the_token_anew_for_each_request(provider: IdentityProvider, family: Family) -> None:
    provider.register(RegisteredClient(assertion_key=key_pair().public_key))
    given = [f"{_federated(number)}\n" for number in range(2)]
    remaining = iter(given)
    auth = federation(lambda: next(remaining))
    for text in given:
        await obtain(provider, client_credentials(family, auth, endpoint=endpoint(provider, family)))
        assert provider.token_requests[-1].form["client_assertion"] == text.strip()


def _federated(number: int) -> str:
    claims = {
        "iss": "https://kubernetes.acme.example",
        "sub": "system:serviceaccount:mailsettings-system:mailsettings-operator",
        "aud": "api://AzureADTokenExchange",
        "exp": int(time.time()) + 600,
        "jti": str(number),
    }
    return jwt.encode(claims, key_pair().private_key, algorithm="RS256")


async def test_a_service_account_acts_for_the_mailbox(provider: IdentityProvider) -> None:
    provider.service_account_key = key_pair().public_key
    token = await obtain(provider, service_account(endpoint=provider.token_uri))
    claims = provider.claims(token.access_token)
    assert (claims["azp"], claims["sub"]) == (SERVICE_ACCOUNT, ACCOUNT)
    assert token.account == ACCOUNT


async def test_a_key_file_does_not_say_where_the_assertion_is_sent(provider: IdentityProvider) -> None:
    provider.service_account_key = key_pair().public_key
    key = service_account_key(token_uri="https://attacker.example/token", universe_domain="attacker.example")
    token = await obtain(provider, service_account(endpoint=provider.token_uri, key=key))
    assert provider.is_live(token.access_token)


async def test_scopes_that_msal_adds_are_passed_once(provider: IdentityProvider) -> None:
    await obtain(provider, refreshing(provider, Family.MICROSOFT, scopes=(SCOPE, "offline_access", "openid")))
    scopes = provider.token_requests[-1].form["scope"].split()
    assert sorted(scopes) == sorted({SCOPE, "offline_access", "openid", "profile"})


async def test_a_custom_provider_is_asked_for_exactly_the_scopes_given(provider: IdentityProvider) -> None:
    await obtain(provider, refreshing(provider, Family.CUSTOM, scopes=("mail", "offline_access")))
    assert provider.token_requests[-1].form["scope"] == "mail offline_access"
    await obtain(provider, refreshing(provider, Family.CUSTOM, scopes=()))
    assert "scope" not in provider.token_requests[-1].form


@FAMILIES
async def test_an_odd_answer_does_not_lose_the_new_refresh_token(provider: IdentityProvider, family: Family) -> None:
    """The libraries judge what they do not need; the old refresh token may be dead already."""
    answer = {"access_token": "at", "token_type": "Bearer", "refresh_token": "rotated", "expires_in": "soon"}
    odd = {"id_token": "not.an.id-token", "client_info": "no base64!", "scope": [SCOPE]}
    provider.answers.append(saying({**answer, **odd}))
    assert (await obtain(provider, refreshing(provider, family))).refresh_token == "rotated"


@FAMILIES
async def test_reuse_of_a_replaced_refresh_token_ends_it(provider: IdentityProvider, family: Family) -> None:
    provider.detects_reuse = True
    request = refreshing(provider, family)
    token = await obtain(provider, request)
    refused = await fault(provider, request)
    assert (refused.reason, refused.error) == (Reason.TOKEN_REVOKED, "invalid_grant")
    assert not provider.is_live(token.access_token)


async def test_a_provider_that_ends_the_old_access_token(provider: IdentityProvider) -> None:
    provider.kills_old_access = True
    request = refreshing(provider, Family.CUSTOM)
    old, new = [await obtain(provider, request) for _ in range(2)]
    assert not provider.is_live(old.access_token)
    assert provider.is_live(new.access_token)


# What the provider refuses


@FAMILIES
async def test_a_revoked_consent(provider: IdentityProvider, family: Family) -> None:
    request = refreshing(provider, family)
    assert isinstance(request.grant, RefreshToken)
    provider.revoke(request.grant.token)
    assert (await fault(provider, request)).reason is Reason.TOKEN_REVOKED


@FAMILIES
async def test_a_wrong_client_secret(provider: IdentityProvider, family: Family) -> None:
    refused = await fault(provider, refreshing(provider, family, ClientSecret("not the secret")))
    assert refused.reason is Reason.CLIENT_AUTH_INVALID
    assert "clientAuth.secretRef" in refused.message


@FAMILIES
async def test_a_failure_is_not_remembered(provider: IdentityProvider, family: Family) -> None:
    """MSAL keeps identical errors for a minute, and throttles after a 5xx or 429: a mended server would look broken."""
    request = refreshing(provider, family)
    for status in (400, 503, 429):
        provider.answers.append(saying({"error": "invalid_grant"}, status, Retry_After="60"))
        await fault(provider, request)
        assert provider.is_live((await obtain(provider, request)).access_token)


@FAMILIES
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_no_call_is_repeated_by_a_library(provider: IdentityProvider, family: Family, status: int) -> None:
    provider.answers.append(saying("<html>not now</html>", status, Retry_After="7"))
    refused = await fault(provider, refreshing(provider, family))
    assert refused.is_transient
    assert refused.retry_after == timedelta(seconds=7)
    assert len(provider.token_requests) == 1


async def test_an_unknown_directory(provider: IdentityProvider) -> None:
    wrong = f"{provider.origin}/00000000-0000-4000-8000-000000000000"
    assert (await fault(provider, refresh(Family.MICROSOFT, endpoint=wrong))).reason is Reason.DIRECTORY_NOT_FOUND


async def test_a_wrong_mailbox_of_a_service_account(provider: IdentityProvider) -> None:
    provider.service_account_key = key_pair().public_key
    refused = await fault(provider, service_account(endpoint=provider.token_uri, subject=SERVICE_ACCOUNT))
    assert refused.reason is Reason.WRONG_ACCOUNT


# What cannot be sent


@pytest.mark.parametrize(
    ("auth", "says"),
    [
        (ClientCertificate("no key", key_pair().certificate), "private key"),
        (ClientCertificate("", ""), "private key"),
        (ClientCertificate(key_pair().private_key, "no certificate"), "the certificate is not one in PEM form"),
        (ClientCertificate(key_pair("P-256").private_key, key_pair().certificate), "do not belong together"),
        (certificate_auth("P-384"), "neither RSA nor of the curve P-256"),
    ],
    ids=["no key", "empty", "no certificate", "of others", "curve"],
)
@pytest.mark.parametrize("family", [Family.MICROSOFT, Family.CUSTOM])
async def test_keys_that_cannot_be_used(
    provider: IdentityProvider, family: Family, auth: ClientCertificate, says: str
) -> None:
    request = client_credentials(family, auth, endpoint=endpoint(provider, family))
    refused = await fault(provider, request)
    assert refused.reason is Reason.SECRET_VALUE_INVALID
    assert refused.message.startswith("auth.oauth2.clientAuth.certificateRef: ")
    assert says in refused.message
    assert provider.token_requests == []


async def test_microsoft_takes_rsa_only(provider: IdentityProvider) -> None:
    request = client_credentials(Family.MICROSOFT, certificate_auth("P-256"), endpoint=provider.authority)
    assert "not RSA" in (await fault(provider, request)).message


@pytest.mark.parametrize(
    "key",
    ["no JSON", "[]", "{}", service_account_key(private_key="no key"), service_account_key(private_key=7)],
    ids=["text", "list", "empty", "bad key", "number"],
)
async def test_key_files_that_cannot_be_used(provider: IdentityProvider, key: str) -> None:
    refused = await fault(provider, service_account(endpoint=provider.token_uri, key=key))
    assert refused.reason is Reason.SECRET_VALUE_INVALID
    assert "serviceAccountKeyRef" in refused.message


def _missing() -> str:
    raise FileNotFoundError(2, "No such file", "/var/run/secrets/tokens/idp")


def _binary() -> str:
    return b"\xff".decode()


@pytest.mark.parametrize("read", [_missing, _binary, lambda: "", lambda: "no JWT", lambda: "a.b.c\nd"])
@pytest.mark.parametrize("family", [Family.MICROSOFT, Family.CUSTOM])
async def test_federated_tokens_that_cannot_be_read(
    provider: IdentityProvider, family: Family, read: Callable[[], str]
) -> None:
    refused = await fault(provider, client_credentials(family, federation(read), endpoint=endpoint(provider, family)))
    assert refused.reason is Reason.FEDERATION_UNAVAILABLE
    assert provider.token_requests == []


# Where it may go


@FAMILIES
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(provider: IdentityProvider, family: Family, status: int) -> None:
    async with idp.identity_provider() as other:
        provider.answers.append(idp.redirecting(other.token_uri, status))
        refused = await fault(provider, refreshing(provider, family))
        assert other.asked == []
    assert refused.reason is Reason.PROVIDER_ANSWER_INVALID
    assert refused.is_transient
    assert "redirect" in refused.message


async def test_a_discovery_that_redirects_is_not_followed(provider: IdentityProvider) -> None:
    async with idp.identity_provider() as other:
        provider.discoveries.append(idp.redirecting(f"{other.authority}/v2.0/.well-known/openid-configuration"))
        assert "redirect" in (await fault(provider, refreshing(provider, Family.MICROSOFT))).message
        assert other.asked == []


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_a_discovery_document_cannot_lead_the_secret_elsewhere(provider: IdentityProvider, scheme: str) -> None:
    async with idp.identity_provider() as other:
        elsewhere = f"{scheme}://{LOOPBACK}:{other.port}/{DIRECTORY}/oauth2/v2.0/token"
        provider.discoveries.append(saying(provider.discovery_document(token_endpoint=elsewhere)))
        refused = await fault(provider, refreshing(provider, Family.MICROSOFT))
        assert other.asked == []
    assert refused.reason is Reason.PROVIDER_ANSWER_INVALID
    assert provider.token_requests == []


@FAMILIES
@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (EgressPolicy(), "port"),
        (EgressPolicy.parse(allow="127.0.0.1"), "is not the https port"),
        (EgressPolicy.parse(allow="127.0.0.1:587"), "is not the https port"),
        (EgressPolicy.parse(allow="127.0.0.0/8:*", deny="127.0.0.1"), "the operator's configuration denies"),
    ],
)
async def test_the_egress_policy_holds_inside_the_libraries(
    provider: IdentityProvider, family: Family, policy: EgressPolicy, says: str
) -> None:
    refused = await fault(provider, refreshing(provider, family), policy=policy)
    assert refused.reason is Reason.EGRESS_DENIED
    assert not refused.is_transient
    assert says in refused.message
    assert provider.asked == []


async def test_port_443_of_a_loopback_address_is_denied_too(provider: IdentityProvider) -> None:
    refused = await fault(provider, refresh(Family.CUSTOM, endpoint=f"https://{LOOPBACK}/token"), policy=EgressPolicy())
    assert "a loopback address" in refused.message


@FAMILIES
async def test_what_is_connected_to_is_what_was_checked(
    provider: IdentityProvider, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads elsewhere at the second look is not looked up a second time; its certificate is checked."""
    issued = certificate("idp.acme.example")
    async with idp.identity_provider(issued.context) as named:
        lookups: list[str] = []

        def look_up(host: str, port: int, **_options: object) -> list[Any]:
            lookups.append(host)
            address = LOOPBACK if len(lookups) % 2 else "169.254.169.254"
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        path = f"/{DIRECTORY}" if family is Family.MICROSOFT else "/token"
        named.discoveries.append(
            saying(
                named.discovery_document(
                    token_endpoint=f"https://idp.acme.example:{named.port}{path}/oauth2/v2.0/token",
                    authorization_endpoint=f"https://idp.acme.example:{named.port}{path}/authorize",
                )
            )
        )
        request = refresh(family, endpoint=f"https://idp.acme.example:{named.port}{path}", token=named.consent())
        if family is Family.MICROSOFT:  # two connections, and the second look-up leads to a metadata service
            assert (await fault(provider, request, ca_bundle=issued.ca_pem)).reason is Reason.EGRESS_DENIED
            return
        token = await obtain(provider, request, ca_bundle=issued.ca_pem)
        assert named.is_live(token.access_token)
        assert lookups == ["idp.acme.example"]
        assert named.asked[-1].headers["Host"] == f"idp.acme.example:{named.port}"


# Whom it trusts


@FAMILIES
async def test_an_authority_that_is_not_trusted(provider: IdentityProvider, family: Family) -> None:
    request = refreshing(provider, family)
    for bundle in (another_authority_pem(), None):
        refused = await fault(provider, request, ca_bundle=bundle)
        assert refused.reason is Reason.PROVIDER_UNTRUSTED
        assert refused.is_transient
    assert provider.asked == []


@FAMILIES
async def test_the_environment_changes_nothing(
    provider: IdentityProvider, family: Family, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any
) -> None:
    """REQUESTS_CA_BUNDLE overrides `verify` in requests; proxies and regions would lead the secret elsewhere."""
    other = tmp_path_factory.mktemp("trust") / "ca.pem"
    other.write_text(another_authority_pem())
    netrc = other.with_name("netrc")
    netrc.write_text(f"machine {LOOPBACK} login eve password other\n")
    hostile = {"REQUESTS_CA_BUNDLE": other, "CURL_CA_BUNDLE": other, "SSL_CERT_FILE": other, "NETRC": netrc}
    for name, path in hostile.items():
        monkeypatch.setenv(name, str(path))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("MSAL_FORCE_REGION", "westeurope")
    monkeypatch.setenv("SSLKEYLOGFILE", str(other.with_name("keys.log")))
    assert provider.is_live((await obtain(provider, refreshing(provider, family))).access_token)
    assert not other.with_name("keys.log").exists()


@pytest.mark.parametrize(
    ("context", "says"),
    [(expired_certificate(LOOPBACK).context, "expired"), (certificate("other.example").context, "not valid for")],
    ids=["expired", "another name"],
)
async def test_certificates_that_cannot_be_relied_on(context: ssl.SSLContext, says: str) -> None:
    async with idp.identity_provider(context) as provider:
        refused = await fault(provider, refresh(Family.CUSTOM, endpoint=provider.token_uri))
    assert refused.reason is Reason.PROVIDER_UNTRUSTED
    assert says in refused.message


async def test_a_broken_ca_bundle(provider: IdentityProvider) -> None:
    refused = await fault(provider, refreshing(provider, Family.CUSTOM), ca_bundle="no certificate")
    assert refused.reason is Reason.CA_BUNDLE_INVALID


# What answers in a provider's place


@FAMILIES
@pytest.mark.parametrize(
    "answer",
    [
        saying("<html>Sign in to the hotel's network</html>"),
        saying([]),
        saying({}),
        saying({"access_token": "at", "token_type": "mac"}),
        saying(""),
        saying("{" * 100_000),
    ],
    ids=["html", "list", "no token", "mac", "empty", "nested"],
)
async def test_nonsense(provider: IdentityProvider, family: Family, answer: Behaviour) -> None:
    provider.answers.append(answer)
    refused = await fault(provider, refreshing(provider, family))
    assert refused.reason is Reason.PROVIDER_ANSWER_INVALID
    assert refused.is_transient


@FAMILIES
async def test_an_endless_answer_is_cut_off(provider: IdentityProvider, family: Family) -> None:
    provider.answers.append(idp.huge(64 * http.MAX_ANSWER_BYTES))
    assert "more than" in (await fault(provider, refreshing(provider, family))).message


@FAMILIES
@pytest.mark.parametrize("answer", [idp.hanging(), idp.dripping()], ids=["hanging", "dripping"])
async def test_the_deadline_holds_for_the_whole_call(
    provider: IdentityProvider, family: Family, answer: Behaviour
) -> None:
    provider.answers.append(answer)
    started = time.monotonic()
    refused = await fault(provider, refreshing(provider, family), deadline=SHORT)
    assert time.monotonic() - started < SHORT.total_seconds() + 1
    assert refused.reason is Reason.PROVIDER_UNREACHABLE
    assert "within 0.7s" in refused.message


async def test_nothing_is_asked_when_the_time_is_over_at_the_start(provider: IdentityProvider) -> None:
    """As after a machine has stood still."""
    long_ago = time.monotonic() - PATIENT.total_seconds()
    found = await fault(provider, refreshing(provider, Family.CUSTOM), since_s=long_ago)
    assert (found.reason, found.is_transient) == (Reason.PROVIDER_UNREACHABLE, True)
    assert provider.asked == []


async def _silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _close(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Nothing is read or written."""


def _writing(data: bytes) -> Serve:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()

    return behave


async def _dripping_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-A: b\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


RAW: list[tuple[str, Serve, Reason, str]] = [
    ("closes", _close, Reason.PROVIDER_UNREACHABLE, "closed the connection"),
    ("silent", _silence, Reason.PROVIDER_UNREACHABLE, "within 0.7s"),
    ("drips headers", _dripping_headers, Reason.PROVIDER_UNREACHABLE, "within 0.7s"),
    ("no HTTP", _writing(b"220 smtp.acme.example ESMTP\r\n"), Reason.PROVIDER_ANSWER_INVALID, "not what"),
    ("long line", _writing(b"HTTP/1.1 200 " + b"x" * 70_000), Reason.PROVIDER_ANSWER_INVALID, "not what"),
    ("headers", _writing(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200), Reason.PROVIDER_ANSWER_INVALID, "not what"),
    (
        "cut off",
        _writing(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"),
        Reason.PROVIDER_UNREACHABLE,
        "closed the connection",
    ),
    (
        "bad chunk",
        _writing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        Reason.PROVIDER_UNREACHABLE,
        "closed the connection",
    ),
]


@pytest.mark.parametrize(("behaviour", "reason", "says"), [row[1:] for row in RAW], ids=[row[0] for row in RAW])
async def test_servers_that_speak_no_http(
    provider: IdentityProvider, behaviour: Serve, reason: Reason, says: str
) -> None:
    async with streams(behaviour, context=certificate(LOOPBACK).context) as port:
        request = refresh(Family.CUSTOM, endpoint=f"https://{LOOPBACK}:{port}/token")
        refused = await fault(provider, request, deadline=SHORT)
    assert refused.reason is reason
    assert refused.is_transient
    assert says in refused.message


async def test_a_port_that_speaks_no_tls(provider: IdentityProvider) -> None:
    async with streams(_writing(b"")) as port:
        request = refresh(Family.CUSTOM, endpoint=f"https://{LOOPBACK}:{port}/token")
        refused = await fault(provider, request, deadline=SHORT)
    assert refused.reason is Reason.PROVIDER_UNREACHABLE


async def test_a_tls_handshake_that_is_not_answered(provider: IdentityProvider) -> None:
    async with streams(_silence) as port:
        request = refresh(Family.CUSTOM, endpoint=f"https://{LOOPBACK}:{port}/token")
        assert "within 0.7s" in (await fault(provider, request, deadline=SHORT)).message


async def test_a_port_on_which_nothing_listens(provider: IdentityProvider, unused_tcp_port: int) -> None:
    request = refresh(Family.CUSTOM, endpoint=f"https://{LOOPBACK}:{unused_tcp_port}/token")
    assert "refused the connection" in (await fault(provider, request)).message


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (socket.gaierror(socket.EAI_NONAME, "none"), "There is no address"),
        (socket.gaierror(socket.EAI_AGAIN, "again"), "name servers gave no answer"),
    ],
)
async def test_names_that_are_not_found(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def look_up(*_arguments: object, **_options: object) -> list[Any]:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    refused = await fault(provider, refresh(Family.CUSTOM))
    assert (refused.reason, refused.is_transient) == (Reason.PROVIDER_UNREACHABLE, True)
    assert says in refused.message


# Threads


async def test_the_event_loop_goes_on_meanwhile(provider: IdentityProvider) -> None:
    provider.answers.append(idp.hanging())
    call = asyncio.create_task(fault(provider, refreshing(provider, Family.CUSTOM), deadline=SHORT))
    longest, before = 0.0, time.monotonic()
    while not call.done():
        await asyncio.sleep(0.01)
        longest, before = max(longest, time.monotonic() - before), time.monotonic()
    assert longest < SHORT.total_seconds() / 2
    await call


async def test_more_calls_than_threads_wait_and_do_not_begin_too_late(provider: IdentityProvider) -> None:
    provider.answers.extend([idp.hanging()] * tokens.MAX_THREADS)
    requests = [refreshing(provider, Family.CUSTOM) for _ in range(tokens.MAX_THREADS)]
    slow = [asyncio.create_task(fault(provider, each, deadline=3 * SHORT)) for each in requests]
    while len(provider.token_requests) < tokens.MAX_THREADS:  # noqa: ASYNC110 - the provider has no event for it
        await asyncio.sleep(0.01)
    late = await fault(provider, refreshing(provider, Family.CUSTOM), deadline=SHORT / 2)
    assert "was not asked" in late.message
    assert late.is_transient
    patient = await obtain(provider, refreshing(provider, Family.CUSTOM))
    assert provider.is_live(patient.access_token)
    assert {each.reason for each in await asyncio.gather(*slow)} == {Reason.PROVIDER_UNREACHABLE}
    assert len(provider.token_requests) == tokens.MAX_THREADS + 1


async def test_a_call_that_is_cancelled_is_not_torn_off(provider: IdentityProvider) -> None:
    """The provider may have replaced the refresh token already; whoever shields the call gets the answer."""
    release = asyncio.Event()
    good = {"access_token": "at", "token_type": "Bearer", "expires_in": 60, "refresh_token": "rotated"}

    async def late(request: Any) -> Any:
        await release.wait()
        return await saying(good)(request)

    provider.answers.append(late)
    call = asyncio.ensure_future(obtain(provider, refreshing(provider, Family.CUSTOM)))
    outer = asyncio.ensure_future(_shielded(call))
    while not provider.token_requests:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    outer.cancel()
    release.set()
    assert (await call).refresh_token == "rotated"


async def _shielded(call: Awaitable[Token]) -> Token:
    return await asyncio.shield(call)


# Secrets


@pytest.mark.parametrize("family", [Family.MICROSOFT, Family.CUSTOM])
@pytest.mark.parametrize("auth", [SECRET, certificate_auth(), federation()], ids=["secret", "certificate", "federated"])
@pytest.mark.parametrize("answer", ["granted", "refused", "nonsense", "elsewhere"])
async def test_no_log_line_or_error_holds_a_secret(
    provider: IdentityProvider, family: Family, auth: ClientAuth, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG, msal's, google-auth's, urllib3's and asyncio's too."""
    caplog.set_level(logging.DEBUG)
    granted = {"access_token": "issued-access-token", "token_type": "Bearer", "refresh_token": "issued-refresh-token"}
    request = refreshing(provider, family, auth)
    known = (
        *request.secrets(),
        *(line for key in request.private_keys() for line in key.splitlines()[1:-1]),
        ASSERTION,
    )
    issued = (granted["access_token"], granted["refresh_token"])
    echo = " ".join(known)
    provider.answers.append(
        {
            "granted": saying({**granted, "id_token": "a.b.c"}),
            "refused": saying(microsoft_error("invalid_client", 7000215, f"{echo} is wrong"), 401),
            "nonsense": saying(f"{echo} {granted}"),
            "elsewhere": idp.redirecting(f"https://attacker.example/?{known[0]}"),
        }[answer]
    )
    if answer == "granted":
        texts = [repr(await obtain(provider, request))]
    else:
        with pytest.raises(tokens.TokenError) as caught:
            await obtain(provider, request)
        texts = [str(caught.value), repr(caught.value), repr(caught.value.fault)]
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    asked = provider.token_requests[-1]
    assertion = asked.form.get("client_assertion", ASSERTION)
    texts += [*(record.getMessage() for record in caplog.records), caplog.text]
    leaked = [secret for secret in (*known, *issued, assertion) if any(secret in text for text in texts)]
    assert leaked == []


async def test_google_logs_no_secret(provider: IdentityProvider, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    provider.service_account_key = key_pair().public_key
    for request in (service_account(endpoint=provider.token_uri), refreshing(provider, Family.GOOGLE)):
        token = await obtain(provider, request)
        secrets = (
            *request.secrets(),
            *request.private_keys(),
            token.access_token,
            token.refresh_token or token.access_token,
        )
        assert not any(secret in caplog.text for secret in secrets)


def listing(port: int) -> EgressPolicy:
    """Where the loopback is allowed, and one proxy."""
    return EgressPolicy.parse(allow="127.0.0.0/8:* [::1/128]:*", proxies=f"{LOOPBACK}:{port}")


@pytest.mark.parametrize("protocol", ProxyProtocol)
@FAMILIES
async def test_the_provider_is_asked_through_the_proxy(
    provider: IdentityProvider, family: Family, protocol: ProxyProtocol, tmp_path: Path
) -> None:
    async with real_proxy(tmp_path, PROXY_LOGIN) as proxy:
        request = replace(refreshing(provider, family), proxy=proxy.spec(protocol, PROXY_LOGIN))
        token = await obtain(provider, request, policy=listing(proxy.port))
        assert provider.is_live(token.access_token)
        assert f"{LOOPBACK}:{urlsplit(provider.token_uri).port}" in proxy.log


@pytest.mark.parametrize(
    ("answer", "reason", "transient"),
    [
        (b"HTTP/1.1 407 no\r\n\r\n", Reason.PROXY_AUTH_REQUIRED, True),
        (b"HTTP/1.1 502 no\r\n\r\n", Reason.PROXY_FAILURE, True),
    ],
)
async def test_the_proxys_failures_are_not_the_providers(
    provider: IdentityProvider, answer: bytes, reason: Reason, transient: bool
) -> None:
    async def converse(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(answer)

    async with scripted_proxy(converse) as port:
        spec = Proxy(ProxyProtocol.HTTP, LOOPBACK, port, PROXY_LOGIN)
        found = await fault(provider, replace(refreshing(provider, Family.CUSTOM), proxy=spec), policy=listing(port))
    assert (found.reason, found.is_transient) == (reason, transient)
    assert spec.url in found.message
    assert PROXY_LOGIN.password not in found.message


async def test_a_proxy_that_is_not_listed_is_not_asked(provider: IdentityProvider) -> None:
    request = replace(refreshing(provider, Family.CUSTOM), proxy=Proxy(ProxyProtocol.SOCKS5, LOOPBACK, 1))
    found = await fault(provider, request)
    assert found.reason is Reason.EGRESS_DENIED
    assert "does not list it" in found.message
