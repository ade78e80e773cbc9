"""Probes of real Postfix and Dovecot."""

import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import TlsMode
from mailsettings.core import probe as interface
from mailsettings.core.probe import Stage
from mailsettings.core.server import Credentials
from mailsettings.edges import smtp
from mailsettings.edges.smtp import EHLO_NAME
from tests.support import postfix
from tests.support.postfix import Postfix
from tests.support.smtp_probe import ALLOW_LOOPBACK, PATIENT, failure, probe, request
from tests.support.smtp_server import USERNAME

pytestmark = pytest.mark.postfix

START_TLS, IMPLICIT, DISABLED = TlsMode.START_TLS, TlsMode.IMPLICIT, TlsMode.DISABLED

LISTENERS = [
    ("start_tls", START_TLS),
    ("implicit", IMPLICIT),
    ("dovecot_start_tls", START_TLS),
    ("dovecot_implicit", IMPLICIT),
]
LISTENER = pytest.mark.parametrize(("listener", "mode"), LISTENERS, ids=[name for name, _ in LISTENERS])


@pytest.fixture(scope="module")
def servers() -> Iterator[Postfix]:
    reason = postfix.missing()
    if reason is not None:
        pytest.skip(reason)
    with postfix.postfix() as servers:
        yield servers


def mail(*, sender: str = f"Acme Ünïcode <{USERNAME}>", recipient: str = postfix.RECIPIENT) -> interface.TestMail:
    """A mail that can be told from all others."""
    return interface.TestMail(
        sender, recipient, interface.Origin(f"MailServerSettings acme/{secrets.token_hex(8)}", "acme")
    )


def ask(servers: Postfix, listener: str, mode: TlsMode, **options: object) -> interface.ProbeRequest:
    trust = {} if mode is DISABLED else {"ca_bundle": servers.ca_pem}
    return request(getattr(servers, listener), tls_mode=mode, **{**trust, **options})  # type: ignore[arg-type]


@LISTENER
async def test_a_mail_arrives(servers: Postfix, listener: str, mode: TlsMode) -> None:
    sent = mail()
    result = await probe(ask(servers, listener, mode, mail=sent))
    assert result.failure is None, servers.logs()
    message = servers.received(f"Test mail of {sent.origin.settings}")
    assert message["From"] == sent.sender
    assert message["To"] == postfix.RECIPIENT
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Return-Path"] == f"<{USERNAME}>"
    assert message["Message-ID"].endswith("@acme.example>")
    body = message.get_body(("plain",))
    assert body is not None
    assert sent.origin.settings in body.get_content()


@LISTENER
async def test_a_wrong_password(servers: Postfix, listener: str, mode: TlsMode) -> None:
    wrong = Credentials(USERNAME, "not the password")
    found = await failure(ask(servers, listener, mode, credentials=wrong))
    assert (found.stage, found.reason) == (Stage.AUTH, Reason.BAD_CREDENTIALS)
    assert (found.code, found.enhanced_code) == (535, "5.7.8")
    assert "not the password" not in found.explained


@LISTENER
async def test_an_unknown_user(servers: Postfix, listener: str, mode: TlsMode) -> None:
    found = await failure(ask(servers, listener, mode, credentials=Credentials("nobody@acme.example", "x")))
    assert (found.stage, found.reason) == (Stage.AUTH, Reason.BAD_CREDENTIALS)


@LISTENER
async def test_a_right_password_alone(servers: Postfix, listener: str, mode: TlsMode) -> None:
    asked = replace(ask(servers, listener, mode), mode=ProbeMode.AUTHENTICATE)
    assert (await probe(asked)).failure is None


@LISTENER
async def test_certificates_are_verified(servers: Postfix, listener: str, mode: TlsMode) -> None:
    found = await failure(ask(servers, listener, mode, ca_bundle=None))
    assert (found.stage, found.reason) == (Stage.TLS, Reason.CERTIFICATE_UNTRUSTED)
    found = await failure(ask(servers, listener, mode, tls_server_name="other.acme.example"))
    assert (found.stage, found.reason) == (Stage.TLS, Reason.CERTIFICATE_NAME_MISMATCH)


async def test_a_relay_without_a_login(servers: Postfix) -> None:
    sent = mail()
    assert (await probe(ask(servers, "relay", DISABLED, credentials=None, mail=sent))).failure is None
    servers.received(f"Test mail of {sent.origin.settings}")


async def test_relay_denied(servers: Postfix) -> None:
    elsewhere = mail(recipient="somebody@elsewhere.example")
    found = await failure(ask(servers, "relay", DISABLED, credentials=None, mail=elsewhere))
    assert (found.stage, found.reason) == (Stage.RCPT, Reason.RELAY_DENIED)
    assert (found.code, found.enhanced_code) == (554, "5.7.1")
    assert "Relay access denied" in found.explained


async def test_an_unknown_recipient(servers: Postfix) -> None:
    found = await failure(ask(servers, "start_tls", START_TLS, mail=mail(recipient="nobody@acme.example")))
    assert (found.stage, found.reason, found.code) == (Stage.RCPT, Reason.RECIPIENT_REJECTED, 550)
    assert found.enhanced_code == "5.1.1"


async def test_a_sender_that_the_login_does_not_own(servers: Postfix) -> None:
    found = await failure(ask(servers, "start_tls", START_TLS, mail=mail(sender="ceo@acme.example")))
    assert (found.stage, found.reason) == (Stage.MAIL, Reason.SENDER_NOT_ALLOWED)


async def test_a_login_is_demanded(servers: Postfix) -> None:
    found = await failure(ask(servers, "dovecot_start_tls", START_TLS, credentials=None))
    assert (found.stage, found.reason) == (Stage.MAIL, Reason.AUTH_REQUIRED)


@pytest.mark.parametrize("credentials", [None, Credentials(USERNAME, "x")], ids=["no login", "login"])
async def test_tls_is_demanded(servers: Postfix, credentials: Credentials | None) -> None:
    """By Postfix; Dovecot holds a connection from its own machine to be safe without."""
    found = await failure(ask(servers, "start_tls", DISABLED, credentials=credentials))
    assert found.reason is Reason.START_TLS_EXPECTED


@pytest.mark.parametrize("listener", ["start_tls", "dovecot_start_tls", "relay"])
async def test_implicit_tls_where_starttls_is_spoken(servers: Postfix, listener: str) -> None:
    found = await failure(ask(servers, listener, IMPLICIT))
    assert (found.stage, found.reason) == (Stage.TLS, Reason.START_TLS_EXPECTED)


@pytest.mark.parametrize("listener", ["implicit", "dovecot_implicit"])
@pytest.mark.parametrize("mode", [START_TLS, DISABLED])
async def test_a_plain_session_where_implicit_tls_is_spoken(servers: Postfix, listener: str, mode: TlsMode) -> None:
    found = await failure(ask(servers, listener, mode, timeout=timedelta(milliseconds=500)))
    assert (found.stage, found.reason) == (Stage.GREETING, Reason.IMPLICIT_TLS_EXPECTED)
    assert "Implicit" in found.explained


async def test_starttls_where_there_is_none(servers: Postfix) -> None:
    found = await failure(ask(servers, "relay", START_TLS))
    assert (found.stage, found.reason) == (Stage.TLS, Reason.START_TLS_NOT_OFFERED)


@pytest.mark.parametrize(
    ("name", "accepted"), [(EHLO_NAME, True), ("pod-7d9f", False), ("mailsettings.invalid", False), ("[127.0.0", False)]
)
async def test_the_client_introduces_itself_acceptably(servers: Postfix, name: str, accepted: bool) -> None:
    result = await smtp.probe(
        ask(servers, "start_tls", START_TLS),
        permit=interface.freely,
        policy=ALLOW_LOOPBACK,
        deadline=PATIENT,
        ehlo_name=name,
    )
    assert (result.failure is None) is accepted
    assert result.failure is None or result.failure.stage is Stage.EHLO
