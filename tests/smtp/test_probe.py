"""Probes of servers that work."""

import asyncio
import hmac
import socket
from datetime import timedelta
from typing import Any

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import TlsMode
from mailsettings.core import probe as interface
from mailsettings.core.egress import EgressPolicy
from mailsettings.core.probe import Stage
from mailsettings.core.server import Credentials, Source
from mailsettings.edges.smtp import EHLO_NAME
from tests.support.listening import LOOPBACK
from tests.support.smtp_probe import LOGIN, failure, probe, request
from tests.support.smtp_server import (
    HEALTHY,
    PASSWORD,
    USERNAME,
    Certificate,
    Peer,
    another_authority_pem,
    certificate,
    close,
    hang,
    mail_server,
    say,
    scripted_server,
    upgrade,
)

START_TLS, IMPLICIT, DISABLED = TlsMode.START_TLS, TlsMode.IMPLICIT, TlsMode.DISABLED


@pytest.fixture(scope="module")
def tls() -> Certificate:
    return certificate(LOOPBACK, "localhost", "mail.acme.example")


def serve(mode: TlsMode, tls: Certificate, **options: Any) -> Any:
    """A server for a TLS mode that demands a login."""
    return mail_server(
        start_tls=tls.context if mode is START_TLS else None,
        implicit_tls=tls.context if mode is IMPLICIT else None,
        auth_without_tls=mode is DISABLED,
        auth_required=True,
        **options,
    )


def trust(mode: TlsMode, tls: Certificate) -> dict[str, Any]:
    return {"tls_mode": mode} | ({} if mode is DISABLED else {"ca_bundle": tls.ca_pem})


@pytest.mark.parametrize("mode", TlsMode)
async def test_a_mail_is_sent_after_a_login(mode: TlsMode, tls: Certificate) -> None:
    async with serve(mode, tls) as server:
        result = await probe(request(server.port, **trust(mode, tls)))
        assert result.failure is None
        assert result.duration > timedelta(0)
        (mail,) = server.mails
        assert mail.sender == "no-reply@acme.example"
        assert mail.recipients == ["ops@acme.example"]
        assert mail.message["From"] == "Acme <no-reply@acme.example>"
        assert "MailServerSettings acme/notifications" in mail.message["Subject"]
        assert server.attempts == [("PLAIN", USERNAME, PASSWORD)]
        assert set(server.ehlo_names) == {EHLO_NAME}
        assert server.connections == 1


@pytest.mark.parametrize("mode", TlsMode)
async def test_authenticate_logs_in_and_sends_nothing(mode: TlsMode, tls: Certificate) -> None:
    async with serve(mode, tls) as server:
        result = await probe(request(server.port, ProbeMode.AUTHENTICATE, **trust(mode, tls)))
        assert result.failure is None
        assert len(server.attempts) == 1
        assert server.mails == []


@pytest.mark.parametrize("mode", TlsMode)
async def test_connect_does_not_show_the_password(mode: TlsMode, tls: Certificate) -> None:
    async with serve(mode, tls) as server:
        wrong = Credentials(USERNAME, "wrong password")
        result = await probe(request(server.port, ProbeMode.CONNECT, credentials=wrong, **trust(mode, tls)))
        assert result.failure is None
        assert server.attempts == []
        assert len(server.ehlo_names) == (2 if mode is START_TLS else 1)


@pytest.mark.parametrize("mode", TlsMode)
@pytest.mark.parametrize("mechanisms", [("PLAIN", "LOGIN"), ("LOGIN",), ("CRAM-MD5",), ("PLAIN", "LOGIN", "CRAM-MD5")])
async def test_a_wrong_password_is_tried_once(mode: TlsMode, mechanisms: tuple[str, ...], tls: Certificate) -> None:
    async with serve(mode, tls, mechanisms=mechanisms) as server:
        wrong = Credentials(USERNAME, "wrong password")
        found = await failure(request(server.port, credentials=wrong, **trust(mode, tls)))
        assert (found.stage, found.reason) == (Stage.AUTH, Reason.BAD_CREDENTIALS)
        assert (found.code, found.enhanced_code) == (535, "5.7.8")
        assert found.message == (
            f'AUTH: {LOOPBACK}:{server.port} refused the login with 535 5.7.8 "Authentication credentials invalid". '
            "User name, password or token refused."
        )
        assert found.remedy.startswith(
            "Check the user name, and the password in the Secret that auth.basic.passwordSecretRef"
        )
        assert found.docs == "docs/troubleshooting.md#badcredentials"
        assert len(server.attempts) == 1
        assert server.connections == 1


@pytest.mark.parametrize(
    ("mode", "mechanisms", "chosen"),
    [
        (START_TLS, ("PLAIN", "LOGIN", "CRAM-MD5"), "PLAIN"),
        (IMPLICIT, ("LOGIN", "CRAM-MD5"), "LOGIN"),
        (START_TLS, ("CRAM-MD5",), "CRAM-MD5"),
        (DISABLED, ("PLAIN", "LOGIN", "CRAM-MD5"), "CRAM-MD5"),
        (DISABLED, ("PLAIN", "LOGIN"), "PLAIN"),
        (DISABLED, ("LOGIN",), "LOGIN"),
    ],
)
async def test_the_mechanism_is_chosen_by_what_is_offered_and_by_tls(
    mode: TlsMode, mechanisms: tuple[str, ...], chosen: str, tls: Certificate
) -> None:
    async with serve(mode, tls, mechanisms=mechanisms) as server:
        assert (await probe(request(server.port, ProbeMode.AUTHENTICATE, **trust(mode, tls)))).failure is None
        ((mechanism, username, password),) = server.attempts
        assert (mechanism, username) == (chosen, USERNAME)
        assert password == (PASSWORD if chosen != "CRAM-MD5" else _digest(PASSWORD))


def _digest(password: str) -> str:
    return hmac.new(password.encode(), b"<1896.697170952@mail.acme.example>", "md5").hexdigest()


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
async def test_logins_are_utf_8(mechanism: str, tls: Certificate) -> None:
    login = ("jürgen@acme.example", "pässwörd ✓ 日本")
    async with serve(START_TLS, tls, mechanisms=(mechanism,), login=login) as server:
        asked = request(server.port, ProbeMode.AUTHENTICATE, credentials=Credentials(*login), **trust(START_TLS, tls))
        assert (await probe(asked)).failure is None


async def test_an_open_relay_needs_no_login() -> None:
    async with mail_server() as server:
        assert (await probe(request(server.port, credentials=None))).failure is None
        assert len(server.mails) == 1


async def test_a_server_that_wants_a_login_says_so() -> None:
    async with mail_server(auth_required=True, auth_without_tls=True) as server:
        found = await failure(request(server.port, credentials=None))
        assert (found.stage, found.reason, found.code) == (Stage.MAIL, Reason.AUTH_REQUIRED, 530)


async def test_a_plain_session_where_starttls_is_demanded(tls: Certificate) -> None:
    async with mail_server(start_tls=tls.context) as server:
        found = await failure(request(server.port, credentials=None))
        assert (found.stage, found.reason, found.code) == (Stage.MAIL, Reason.START_TLS_EXPECTED, 530)


async def test_no_password_in_the_clear_where_auth_comes_after_starttls(tls: Certificate) -> None:
    async with mail_server(start_tls=tls.context, auth_required=True) as server:
        found = await failure(request(server.port))
        assert (found.stage, found.reason) == (Stage.AUTH, Reason.START_TLS_EXPECTED)
        assert server.attempts == []


@pytest.mark.parametrize(
    ("ehlo", "reason"),
    [
        ("250-mail\n250 SIZE 1000", Reason.AUTH_NOT_OFFERED),
        ("250 mail", Reason.AUTH_NOT_OFFERED),
        ("250-mail\n250 AUTH GSSAPI XOAUTH2", Reason.AUTH_MECHANISM_UNSUPPORTED),
    ],
)
async def test_no_password_is_sent_to_a_server_that_does_not_ask_for_one(ehlo: str, reason: Reason) -> None:
    async with scripted_server({"EHLO": say(ehlo)}) as server:
        found = await failure(request(server.port))
        assert (found.stage, found.reason) == (Stage.AUTH, reason)
        assert not any(line.startswith("AUTH") for line in server.lines)
        assert server.lines[-1] == "QUIT"


async def test_a_stripped_starttls_is_never_passed_over() -> None:
    async with scripted_server() as server:
        found = await failure(request(server.port, tls_mode=START_TLS))
        assert (found.stage, found.reason) == (Stage.TLS, Reason.START_TLS_NOT_OFFERED)
        assert server.lines == [f"EHLO {EHLO_NAME}", "QUIT"]


async def test_what_was_offered_before_starttls_is_forgotten(tls: Certificate) -> None:
    offers = iter(("250-mail\n250-STARTTLS\n250 AUTH PLAIN", "250-mail\n250 SIZE 5"))

    async def ehlo(peer: Peer) -> None:
        await say(next(offers))(peer)

    async with scripted_server({"EHLO": ehlo, "STARTTLS": upgrade(tls.context)}) as server:
        found = await failure(request(server.port, **trust(START_TLS, tls)))
        assert found.reason is Reason.AUTH_NOT_OFFERED


async def test_a_server_that_knows_only_helo() -> None:
    async with scripted_server({"EHLO": say("502 5.5.2 not implemented")}) as server:
        assert (await probe(request(server.port, credentials=None))).failure is None
        assert server.lines[:2] == [f"EHLO {EHLO_NAME}", f"HELO {EHLO_NAME}"]


@pytest.mark.parametrize(
    "goodbye", [hang, close, say("500 no"), say("garbage")], ids=["hang", "close", "500", "garbage"]
)
async def test_a_failed_goodbye_is_no_failure(goodbye: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailsettings.edges.smtp.QUIT_TIMEOUT", timedelta(milliseconds=50))
    async with scripted_server({"QUIT": goodbye}) as server:
        assert (await probe(request(server.port))).failure is None
        assert server.lines[-1] == "QUIT"


async def test_a_deadline_during_the_goodbye_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted_server({"QUIT": hang}) as server:
        monkeypatch.setattr("mailsettings.edges.smtp.QUIT_TIMEOUT", timedelta(hours=1))
        async with asyncio.timeout(60):
            result = await probe(request(server.port), deadline=timedelta(seconds=2))
        assert result.failure is None


async def test_a_deadline_during_the_goodbye_does_not_hide_the_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailsettings.edges.smtp.QUIT_TIMEOUT", timedelta(seconds=30))
    async with scripted_server({"AUTH": say("535 5.7.8 no"), "QUIT": hang}) as server:
        found = await failure(request(server.port), deadline=timedelta(seconds=2))
        assert found.reason is Reason.BAD_CREDENTIALS


async def test_cancelling_a_probe_closes_its_connection() -> None:
    reached = asyncio.Event()

    async def act(peer: Peer) -> None:
        reached.set()
        await peer.gone()

    async with scripted_server({"MAIL": act}) as server:
        running = asyncio.create_task(probe(request(server.port)))
        async with asyncio.timeout(10):
            await reached.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await server.left.wait()


async def test_dots_at_the_beginning_of_lines_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailsettings.core.message._TEXT", ".\n..\n{settings}\n")
    async with mail_server() as server:
        assert (await probe(request(server.port, credentials=None))).failure is None
        body = server.mails[0].message.get_body(("plain",))
        assert body is not None
        assert body.get_content().splitlines()[:2] == [".", ".."]


async def test_the_egress_policy_holds_for_probes() -> None:
    async with mail_server() as server:
        for host in (LOOPBACK, "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "::ffff:127.0.0.1", "localhost"):
            for level in Source:
                asked = request(server.port, host=host, level=level)
                found = await failure(asked, policy=EgressPolicy.parse(smtp_ports=str(server.port)))
                assert (found.stage, found.reason) == (Stage.CONNECT, Reason.EGRESS_DENIED)
                assert "a loopback address" in found.explained
        assert server.connections == 0


async def test_a_mail_is_needed_to_send_one() -> None:
    with pytest.raises(ValueError, match="needs a mail"):
        await probe(request(1, ProbeMode.SEND, mail=None))


class TestCertificates:
    """What is trusted, in both modes of TLS."""

    MODES = pytest.mark.parametrize("mode", [START_TLS, IMPLICIT])

    @MODES
    async def test_only_the_bundle_is_trusted(self, mode: TlsMode, tls: Certificate) -> None:
        async with serve(mode, tls) as server:
            found = await failure(request(server.port, tls_mode=mode, ca_bundle=another_authority_pem()))
            assert (found.stage, found.reason) == (Stage.TLS, Reason.CERTIFICATE_UNTRUSTED)
            assert server.attempts == []

    @MODES
    async def test_private_authorities_are_not_trusted_without_a_bundle(self, mode: TlsMode, tls: Certificate) -> None:
        async with serve(mode, tls) as server:
            found = await failure(request(server.port, tls_mode=mode))
            assert found.reason is Reason.CERTIFICATE_UNTRUSTED
            assert "caBundle" in found.explained

    @MODES
    async def test_the_server_name_decides_what_the_certificate_must_say(self, mode: TlsMode, tls: Certificate) -> None:
        async with serve(mode, tls) as server:
            right = request(server.port, **trust(mode, tls), tls_server_name="mail.acme.example")
            assert (await probe(right)).failure is None
            wrong = request(server.port, **trust(mode, tls), tls_server_name="other.acme.example")
            found = await failure(wrong)
            assert (found.stage, found.reason) == (Stage.TLS, Reason.CERTIFICATE_NAME_MISMATCH)
            assert "other.acme.example" in found.explained

    @MODES
    async def test_the_host_decides_without_a_server_name(self, mode: TlsMode) -> None:
        other = certificate("mail.acme.example")
        async with serve(mode, other) as server:
            found = await failure(request(server.port, **trust(mode, other)))
            assert found.reason is Reason.CERTIFICATE_NAME_MISMATCH

    @MODES
    async def test_the_final_dot_of_a_host_is_no_part_of_the_name(
        self, mode: TlsMode, tls: Certificate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (LOOPBACK, 0))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: answer)
        async with serve(mode, tls) as server:
            asked = request(server.port, **trust(mode, tls), host="mail.acme.example.")
            assert (await probe(asked)).failure is None

    @MODES
    async def test_verification_can_be_skipped(self, mode: TlsMode) -> None:
        other = certificate("other.example")
        async with serve(mode, other) as server:
            asked = request(server.port, tls_mode=mode, tls_insecure_skip_verify=True)
            assert (await probe(asked)).failure is None

    @MODES
    @pytest.mark.parametrize(
        "bundle",
        [
            "",
            "nonsense",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "ключ",
        ],
    )
    async def test_a_bundle_that_cannot_be_read(self, mode: TlsMode, bundle: str) -> None:
        async with scripted_server() as server:
            found = await failure(request(server.port, tls_mode=mode, ca_bundle=bundle))
            assert (found.stage, found.reason) == (Stage.TLS, Reason.CA_BUNDLE_INVALID)
            assert server.lines == []

    @MODES
    @pytest.mark.parametrize("minimum", ["TLSv1.2", "TLSv1.3"])
    async def test_the_minimum_version_can_be_met(self, mode: TlsMode, minimum: str, tls: Certificate) -> None:
        async with serve(mode, tls) as server:
            assert (await probe(request(server.port, **trust(mode, tls), tls_min_version=minimum))).failure is None


def test_the_password_is_in_no_representation_of_a_request() -> None:
    asked = request(1)
    assert isinstance(asked, interface.ProbeRequest)
    assert LOGIN.password not in repr(asked)


def test_the_healthy_script_is_complete() -> None:
    assert {"greeting", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", ".", "QUIT"} <= set(HEALTHY)
