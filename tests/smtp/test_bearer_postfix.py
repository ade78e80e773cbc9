"""Logins by an access token to real Postfix and Dovecot, which validate it."""

import re
import secrets
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import TlsMode
from mailsettings.core import probe as interface
from mailsettings.core.probe import Stage
from mailsettings.core.server import BearerToken, Credentials, Login
from tests.support import postfix
from tests.support.introspection import Introspection, introspection
from tests.support.jwt import ALGORITHM, Signer
from tests.support.postfix import Postfix, TokenValidation
from tests.support.smtp_probe import failure, probe, request
from tests.support.smtp_server import BEARER_MECHANISMS, PASSWORD, USERNAME

pytestmark = pytest.mark.postfix

ISSUER: Final = "https://idp.acme.example"
SCOPE: Final = "https://mail.acme.example/smtp"
LISTENERS: Final = {
    "start_tls": TlsMode.START_TLS,
    "implicit": TlsMode.IMPLICIT,
    "dovecot_start_tls": TlsMode.START_TLS,
    "dovecot_implicit": TlsMode.IMPLICIT,
}
LISTENER = pytest.mark.parametrize("listener", LISTENERS)


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    reason = postfix.missing()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer()


@pytest.fixture(scope="module", params=BEARER_MECHANISMS)
def servers(request: pytest.FixtureRequest, signer: Signer) -> Iterator[Postfix]:
    """Validate the signature themselves, and offer one of the mechanisms."""
    local = TokenValidation(
        mechanisms=(request.param,),
        settings={
            "introspection_mode": "local",
            "local_validation_key_dict": "fs:posix:prefix={keys}/",
            "username_attribute": "email",
            "issuers": ISSUER,
            "scope": SCOPE,
        },
        keys={f"default/{ALGORITHM}/{signer.key_id}": signer.public_pem},
    )
    with postfix.postfix(local) as servers:
        yield servers


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Introspection]:
    with introspection() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def asking_servers(endpoint: Introspection) -> Iterator[Postfix]:
    """Ask the endpoint about each token, and offer both mechanisms."""
    remote = TokenValidation(
        mechanisms=BEARER_MECHANISMS,
        settings={
            "introspection_mode": "post",
            "introspection_url": endpoint.url,
            "force_introspection": "yes",
            "active_attribute": "active",
            "active_value": "true",
            "username_attribute": "email",
            "scope": SCOPE,
        },
    )
    with postfix.postfix(remote) as servers:
        yield servers


def claims(**changes: Any) -> dict[str, Any]:
    """Of a token that is right."""
    return {"iss": ISSUER, "sub": "4711", "email": USERNAME, "scope": SCOPE, **changes}


def ask(
    servers: Postfix, listener: str, login: Login, mode: ProbeMode = ProbeMode.AUTHENTICATE
) -> interface.ProbeRequest:
    subject = f"MailServerSettings acme/{secrets.token_hex(8)}"
    mail = interface.TestMail(f"Acme <{USERNAME}>", postfix.RECIPIENT, interface.Origin(subject, "acme"))
    return request(
        getattr(servers, listener),
        mode,
        credentials=login,
        mail=mail,
        tls_mode=LISTENERS[listener],
        ca_bundle=servers.ca_pem,
    )


async def refused(servers: Postfix, listener: str, token: str, username: str = USERNAME) -> interface.ProbeFailure:
    """How a token is refused that must be."""
    found = await failure(ask(servers, listener, BearerToken(username, token)))
    assert found.stage is Stage.AUTH, servers.logs()
    assert found.reason is Reason.TOKEN_EXPIRED, f"{found.explained}\n{servers.logs()}"
    assert (found.code, found.enhanced_code) == (535, "5.7.8")
    # What Dovecot says by OAUTHBEARER and by XOAUTH2, whatever is wrong with the token.
    assert re.search('after the challenge "status (invalid_token|401, scope mail, schemes bearer)"', found.explained)
    assert token[-20:] not in found.explained
    return found


@LISTENER
@pytest.mark.parametrize("padding", [0, 2200], ids=["usual", "4 KB"])
async def test_a_mail_arrives(servers: Postfix, signer: Signer, listener: str, padding: int) -> None:
    token = signer.token(claims(groups="g" * padding))
    asked = ask(servers, listener, BearerToken(USERNAME, token), ProbeMode.SEND)
    result = await probe(asked)
    assert result.failure is None, servers.logs()
    assert asked.mail is not None
    message = servers.received(f"Test mail of {asked.mail.origin.settings}")
    assert message["Return-Path"] == f"<{USERNAME}>"


WRONG: Final[dict[str, dict[str, Any]]] = {
    "expired": {"exp": int(time.time()) - 120},
    "not yet valid": {"nbf": int(time.time()) + 3600},
    "another scope": {"scope": "https://mail.acme.example/imap"},
    "without a scope": {"scope": None},
    "another issuer": {"iss": "https://elsewhere.example"},
    "another mailbox": {"email": "ceo@acme.example"},
}


@LISTENER
@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
async def test_wrong_claims(servers: Postfix, signer: Signer, listener: str, changes: dict[str, Any]) -> None:
    await refused(servers, listener, signer.token(claims(**changes)))


@LISTENER
async def test_another_user_name(servers: Postfix, signer: Signer, listener: str) -> None:
    await refused(servers, listener, signer.token(claims()), username="ceo@acme.example")


@LISTENER
async def test_another_key(servers: Postfix, listener: str) -> None:
    await refused(servers, listener, Signer().token(claims()))


@LISTENER
@pytest.mark.parametrize("token", ["garbage-that-is-no-token-at-all", "a.b.c", "x" * 3000])
async def test_garbage(servers: Postfix, listener: str, token: str) -> None:
    await refused(servers, listener, token)


@LISTENER
async def test_passwords_still_work_beside_tokens(servers: Postfix, listener: str) -> None:
    assert (await probe(ask(servers, listener, Credentials(USERNAME, PASSWORD)))).failure is None


@LISTENER
async def test_an_introspected_token(asking_servers: Postfix, endpoint: Introspection, listener: str) -> None:
    token = f"opaque-{secrets.token_urlsafe(24)}"
    endpoint.answers[token] = {"active": True, **claims()}
    assert (await probe(ask(asking_servers, listener, BearerToken(USERNAME, token)))).failure is None
    assert token in endpoint.asked


@LISTENER
@pytest.mark.parametrize("changes", [{"active": False}, {"scope": "other"}, {"email": "ceo@acme.example"}])
async def test_an_introspected_token_that_is_wrong(
    asking_servers: Postfix, endpoint: Introspection, listener: str, changes: dict[str, Any]
) -> None:
    token = f"opaque-{secrets.token_urlsafe(24)}"
    endpoint.answers[token] = {"active": True, **claims(), **changes}
    await refused(asking_servers, listener, token)


@pytest.mark.parametrize(
    ("listener", "reason", "code"),
    [
        ("start_tls", Reason.BAD_CREDENTIALS, 535),  # Postfix has one answer to everything, and no challenge here
        ("implicit", Reason.BAD_CREDENTIALS, 535),
        ("dovecot_start_tls", Reason.SERVER_TEMPORARY, 454),
        ("dovecot_implicit", Reason.SERVER_TEMPORARY, 454),
    ],
)
async def test_an_endpoint_that_fails_is_temporary_where_the_server_says_so(
    asking_servers: Postfix,
    endpoint: Introspection,
    listener: str,
    reason: Reason,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoint, "status", 500)
    token = f"opaque-{secrets.token_urlsafe(24)}"
    found = await failure(ask(asking_servers, listener, BearerToken(USERNAME, token)))
    assert (found.stage, found.reason, found.code) == (Stage.AUTH, reason, code)
    assert "challenge" not in found.explained
    assert found.is_transient == (code == 454)
