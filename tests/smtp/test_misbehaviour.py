"""Servers that misbehave: each way, at each stage, ends in its reason within its time."""

import asyncio
import base64
import socket
import ssl
import warnings
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import TlsMode
from mailsettings.core.diagnosis import FaultKind
from mailsettings.core.probe import ProbeFailure, Stage
from mailsettings.edges import network, smtp
from tests.support.listening import LOOPBACK
from tests.support.smtp_probe import failure, probe, request
from tests.support.smtp_server import (
    PASSWORD,
    USERNAME,
    Act,
    Certificate,
    Peer,
    certificate,
    close,
    drip,
    expired_certificate,
    flood,
    future_certificate,
    hang,
    reset,
    say,
    say_bytes,
    scripted_server,
    self_signed_certificate,
    upgrade,
)

START_TLS, IMPLICIT, DISABLED = TlsMode.START_TLS, TlsMode.IMPLICIT, TlsMode.DISABLED
IMPATIENT = timedelta(milliseconds=400)
"""Of steps that are to run out of time."""
OFFER = say("250-mail.acme.example\n250-STARTTLS\n250 AUTH PLAIN LOGIN")
TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x28"
SERVER_HELLO = b"\x16\x03\x03\x00\x7a\x02"


@pytest.fixture(scope="module")
def tls() -> Certificate:
    return certificate(LOOPBACK)


def check(found: ProbeFailure, stage: Stage, reason: Reason, port: int) -> None:
    assert (found.stage, found.reason) == (stage, reason)
    assert found.explained.upper().startswith(stage.upper())
    assert f"{LOOPBACK}:{port}" in found.explained
    assert PASSWORD not in found.explained
    assert len(found.explained) < 1200


VERBS = {
    "greeting": Stage.GREETING,
    "EHLO": Stage.EHLO,
    "AUTH": Stage.AUTH,
    "MAIL": Stage.MAIL,
    "RCPT": Stage.RCPT,
    "DATA": Stage.DATA,
    ".": Stage.DATA,
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("act", "reason"),
    [
        pytest.param(close, Reason.SERVER_TEMPORARY, id="close"),
        pytest.param(reset, Reason.SERVER_TEMPORARY, id="reset"),
        pytest.param(say("421 4.3.2 shutting down"), Reason.SERVER_TEMPORARY, id="421"),
        pytest.param(say("451 4.3.0 try later"), Reason.SERVER_TEMPORARY, id="451"),
        pytest.param(say("250-half a reply\n421"), Reason.SERVER_TEMPORARY, id="421 at the end"),
        pytest.param(say("no reply at all"), Reason.PROTOCOL_ERROR, id="words"),
        pytest.param(say("HTTP/1.1 400 Bad Request\nServer: x\n"), Reason.PROTOCOL_ERROR, id="HTTP"),
        pytest.param(say_bytes(b"\x00\xff\xfe\r\n\x80\r\n"), Reason.PROTOCOL_ERROR, id="binary"),
        pytest.param(say("999 what"), Reason.PROTOCOL_ERROR, id="999"),
        pytest.param(say("+25 what"), Reason.PROTOCOL_ERROR, id="+25"),
        pytest.param(say("000 what"), Reason.PROTOCOL_ERROR, id="000"),
        pytest.param(flood(b"x" * 65536), Reason.PROTOCOL_ERROR, id="a line without end"),
        pytest.param(flood(b"250-and more\r\n" * 4096), Reason.PROTOCOL_ERROR, id="a reply without end"),
        pytest.param(say(f"250 {'x' * 9000}"), Reason.PROTOCOL_ERROR, id="a line of 9000"),
    ],
)
async def test_faults_at_each_stage(verb: str, act: Act, reason: Reason) -> None:
    async with scripted_server({verb: act}) as server:
        found = await failure(request(server.port))
        check(found, VERBS[verb], reason, server.port)
        # What is no SMTP reply is not shown: anything may answer on that port.
        assert (found.code is None) == (act in (close, reset) or reason is not Reason.SERVER_TEMPORARY)
        assert '"' not in found.explained or found.code is not None
        async with asyncio.timeout(10):
            await server.left.wait()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "act",
    [
        pytest.param(hang, id="hang"),
        pytest.param(drip(b"250-and more\r\n"), id="drip"),
        pytest.param(drip(b"2"), id="drip without an end"),
    ],
)
async def test_slowness_at_each_stage(verb: str, act: Act) -> None:
    """A step's time holds for the whole reply: a byte now and then does not prolong it."""
    async with scripted_server({verb: act}) as server:
        found = await failure(request(server.port, timeout=IMPATIENT))
        check(found, VERBS[verb], Reason.CONNECTION_TIMEOUT, server.port)
        assert "0.4s" in found.explained
        async with asyncio.timeout(10):
            await server.left.wait()


@pytest.mark.parametrize("verb", VERBS)
async def test_the_deadline_ends_what_no_step_does(verb: str) -> None:
    async with scripted_server({verb: hang}) as server:
        found = await failure(request(server.port), deadline=IMPATIENT)
        check(found, VERBS[verb], Reason.CONNECTION_TIMEOUT, server.port)
        async with asyncio.timeout(10):
            await server.left.wait()


@pytest.mark.parametrize(
    ("verb", "reply", "reason"),
    [
        ("greeting", "554 5.7.1 no service for you", Reason.IP_BLOCKED),
        ("greeting", "250 hello", Reason.PROTOCOL_ERROR),
        ("EHLO", "550 5.7.1 bad name", Reason.IP_BLOCKED),
        ("EHLO", "530 5.7.0 Must issue a STARTTLS command first", Reason.START_TLS_EXPECTED),
        ("EHLO", "354 what", Reason.PROTOCOL_ERROR),
        ("AUTH", "535 5.7.8 Error: authentication failed", Reason.BAD_CREDENTIALS),
        ("AUTH", "535 Authentication failed", Reason.BAD_CREDENTIALS),
        ("AUTH", "454 4.7.0 Temporary authentication failure", Reason.SERVER_TEMPORARY),
        ("AUTH", "538 5.7.11 Encryption required", Reason.START_TLS_EXPECTED),
        ("AUTH", "504 5.5.4 Unrecognized authentication type", Reason.AUTH_MECHANISM_UNSUPPORTED),
        ("AUTH", "503 5.5.1 Error: authentication not enabled", Reason.AUTH_NOT_OFFERED),
        ("AUTH", "501 5.5.2 cannot decode", Reason.PROTOCOL_ERROR),
        ("AUTH", "334 ", Reason.PROTOCOL_ERROR),
        ("AUTH", "250 fine", Reason.PROTOCOL_ERROR),
        ("MAIL", "530 5.7.0 Authentication required", Reason.AUTH_REQUIRED),
        ("MAIL", "550 5.1.8 sender refused", Reason.SENDER_NOT_ALLOWED),
        ("MAIL", "500 what", Reason.PROTOCOL_ERROR),
        ("MAIL", "354 what", Reason.PROTOCOL_ERROR),
        ("RCPT", "550 5.1.1 no such user", Reason.RECIPIENT_REJECTED),
        ("RCPT", "554 5.7.1 <ops@acme.example>: Relay access denied", Reason.RELAY_DENIED),
        ("RCPT", "553 5.7.1 Sender address rejected: not owned by user", Reason.SENDER_NOT_ALLOWED),
        ("DATA", "554 5.5.1 no valid recipients", Reason.RECIPIENT_REJECTED),
        (".", "552 5.3.4 too big", Reason.MESSAGE_TOO_LARGE),
        (".", "554 5.2.252 SendAsDenied; cannot send as", Reason.SENDER_NOT_ALLOWED),
    ],
)
async def test_replies(verb: str, reply: str, reason: Reason) -> None:
    async with scripted_server({verb: say(reply)}) as server:
        found = await failure(request(server.port))
        check(found, VERBS[verb], reason, server.port)
        assert found.code == int(reply[:3])
        assert server.lines[-1:] == (["QUIT"] if verb != "greeting" else [])


async def test_long_multiline_replies_are_read_whole_and_shown_short() -> None:
    reply = "\n".join(f"550{'-' if number < 200 else ' '}5.7.1 line {number}" for number in range(201))
    async with scripted_server({"MAIL": say(reply)}) as server:
        found = await failure(request(server.port))
        assert (found.code, found.enhanced_code) == (550, "5.7.1")
        assert "line 0 line 1 line 2" in found.explained
        assert "line 200" not in found.explained
        assert len(found.explained) < 900


@pytest.mark.parametrize(
    "echo",
    [
        PASSWORD,
        base64.b64encode(PASSWORD.encode()).decode(),
        base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode()).decode(),
        f"\0{USERNAME}\0{PASSWORD}",
        PASSWORD.replace(" ", "%20"),
        PASSWORD.replace(" ", "\t"),
        PASSWORD.replace(" ", "\n535-"),
    ],
)
async def test_a_server_that_repeats_the_login(echo: str) -> None:
    async with scripted_server({"AUTH": say(f"535-5.7.8 you said {echo}\n535 5.7.8 and more")}) as server:
        found = await failure(request(server.port))
        assert found.reason is Reason.BAD_CREDENTIALS
        words = found.explained.split()
        assert not {"battery", "staple", echo} & {*words}
        assert base64.b64encode(PASSWORD.encode()).decode()[4:-4] not in found.explained
        assert "[redacted]" in found.explained


@pytest.mark.parametrize("text", ["\x1b[31mred", "\u202eabc", "zero\u200bwidth", "nul\x00", "caf\udce9"])
async def test_texts_that_would_confuse_a_reader(text: str) -> None:
    async with scripted_server({"MAIL": say(f"550 5.7.1 {text}")}) as server:
        found = await failure(request(server.port))
        assert found.explained.isprintable()
        assert found.explained.encode("utf-8")


class TestTls:
    """Faults of TLS."""

    @pytest.mark.parametrize("mode", [START_TLS, DISABLED])
    @pytest.mark.parametrize("first", [TLS_ALERT, SERVER_HELLO, b"\x15", b"\x16\x03"])
    @pytest.mark.parametrize("after", [close, hang], ids=["close", "hang"])
    async def test_tls_where_a_greeting_was_due(self, mode: TlsMode, first: bytes, after: Act) -> None:
        async def act(peer: Peer) -> None:
            await peer.say(first)
            await after(peer)

        async with scripted_server({"greeting": act}) as server:
            found = await failure(request(server.port, tls_mode=mode))
            check(found, Stage.GREETING, Reason.IMPLICIT_TLS_EXPECTED, server.port)
            assert "Implicit" in found.explained
            assert server.lines == []

    @pytest.mark.parametrize("mode", [START_TLS, DISABLED])
    async def test_a_server_that_waits_for_tls(self, mode: TlsMode, tls: Certificate) -> None:
        """What a real one on another port than 465 does: nothing, until somebody speaks TLS to it."""
        async with scripted_server(implicit_tls=tls.context) as server:
            found = await failure(request(server.port, tls_mode=mode, timeout=IMPATIENT))
            check(found, Stage.GREETING, Reason.IMPLICIT_TLS_EXPECTED, server.port)
            assert "Implicit" in found.explained
            assert server.lines == []

    @pytest.mark.parametrize("mode", [START_TLS, DISABLED])
    @pytest.mark.parametrize(
        "act",
        [
            hang,
            drip(b"2"),
            lambda peer: _when_spoken_to(peer, say("220 at last")),
            lambda peer: _when_spoken_to(peer, close),
        ],
        ids=["hang", "drip", "greets when spoken to", "closes when spoken to"],
    )
    async def test_a_slow_server_does_not_wait_for_tls(self, mode: TlsMode, act: Act) -> None:
        async with scripted_server({"greeting": act}) as server:
            found = await failure(request(server.port, tls_mode=mode, timeout=IMPATIENT))
            check(found, Stage.GREETING, Reason.CONNECTION_TIMEOUT, server.port)

    @pytest.mark.parametrize(
        "greeting",
        [say("220 mail.acme.example ESMTP"), say("554 go away"), say("HTTP/1.1 400 Bad Request")],
        ids=["220", "554", "HTTP"],
    )
    async def test_a_greeting_where_tls_was_due(self, greeting: Act) -> None:
        async with scripted_server({"greeting": greeting}) as server:
            found = await failure(request(server.port, tls_mode=IMPLICIT))
            check(found, Stage.TLS, Reason.START_TLS_EXPECTED, server.port)

    @pytest.mark.parametrize(
        ("act", "reason"),
        [
            pytest.param(hang, Reason.CONNECTION_TIMEOUT, id="hang"),
            pytest.param(close, Reason.SERVER_TEMPORARY, id="close"),
            pytest.param(reset, Reason.SERVER_TEMPORARY, id="reset"),
            pytest.param(drip(SERVER_HELLO + bytes(100)), Reason.CONNECTION_TIMEOUT, id="drip"),
            pytest.param(say_bytes(TLS_ALERT), Reason.TLS_PROTOCOL_VERSION, id="alert"),
        ],
    )
    async def test_handshakes_that_do_not_end(self, act: Act, reason: Reason) -> None:
        async with scripted_server({"greeting": act}) as server:
            check(
                await failure(request(server.port, tls_mode=IMPLICIT, timeout=IMPATIENT)),
                Stage.TLS,
                reason,
                server.port,
            )
        agreed = {"EHLO": OFFER, "STARTTLS": _in_turn(say("220 go ahead"), _client_hello, act)}
        async with scripted_server(agreed) as server:
            check(
                await failure(request(server.port, tls_mode=START_TLS, timeout=IMPATIENT)),
                Stage.TLS,
                reason,
                server.port,
            )

    @pytest.mark.parametrize(
        ("act", "reason"),
        [
            pytest.param(say("454 4.7.0 TLS not available"), Reason.START_TLS_NOT_OFFERED, id="454"),
            pytest.param(say("501 5.5.4 no"), Reason.PROTOCOL_ERROR, id="501"),
            pytest.param(say("250 fine"), Reason.PROTOCOL_ERROR, id="250"),
            pytest.param(say("what"), Reason.PROTOCOL_ERROR, id="words"),
            pytest.param(close, Reason.SERVER_TEMPORARY, id="close"),
            pytest.param(hang, Reason.CONNECTION_TIMEOUT, id="hang"),
        ],
    )
    async def test_starttls_that_is_not_agreed_to(self, act: Act, reason: Reason) -> None:
        async with scripted_server({"EHLO": OFFER, "STARTTLS": act}) as server:
            found = await failure(request(server.port, tls_mode=START_TLS, timeout=IMPATIENT))
            check(found, Stage.TLS, reason, server.port)
            assert not any(line.startswith("AUTH") for line in server.lines)

    @pytest.mark.parametrize("verb", ["greeting", *(verb for verb in VERBS if verb != "greeting")])
    @pytest.mark.parametrize(
        ("act", "reason"),
        [
            pytest.param(close, Reason.SERVER_TEMPORARY, id="close"),
            pytest.param(hang, Reason.CONNECTION_TIMEOUT, id="hang"),
            pytest.param(say("what"), Reason.PROTOCOL_ERROR, id="words"),
            pytest.param(say("421 4.3.2 bye"), Reason.SERVER_TEMPORARY, id="421"),
        ],
    )
    async def test_faults_inside_implicit_tls(self, verb: str, act: Act, reason: Reason, tls: Certificate) -> None:
        async with scripted_server({verb: act}, implicit_tls=tls.context) as server:
            asked = request(server.port, tls_mode=IMPLICIT, ca_bundle=tls.ca_pem, timeout=2 * IMPATIENT)
            check(await failure(asked), VERBS[verb], reason, server.port)
            async with asyncio.timeout(10):
                await server.left.wait()

    @pytest.mark.parametrize("mode", [START_TLS, IMPLICIT])
    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (lambda: expired_certificate(LOOPBACK), Reason.CERTIFICATE_EXPIRED),
            (lambda: future_certificate(LOOPBACK), Reason.CERTIFICATE_EXPIRED),
            (lambda: certificate("10.9.8.7"), Reason.CERTIFICATE_NAME_MISMATCH),
            (lambda: certificate("mail.acme.example"), Reason.CERTIFICATE_NAME_MISMATCH),
        ],
        ids=["expired", "not yet valid", "another address", "a name"],
    )
    async def test_certificates(self, mode: TlsMode, make: Any, reason: Reason) -> None:
        faulty: Certificate = make()
        found = await _failure_over(mode, faulty, ca_bundle=faulty.ca_pem)
        assert (found.stage, found.reason) == (Stage.TLS, reason)

    @pytest.mark.parametrize("mode", [START_TLS, IMPLICIT])
    async def test_a_self_signed_certificate(self, mode: TlsMode) -> None:
        found = await _failure_over(mode, self_signed_certificate())
        assert (found.stage, found.reason) == (Stage.TLS, Reason.CERTIFICATE_UNTRUSTED)
        assert "self-signed" in found.explained

    @pytest.mark.parametrize("mode", [START_TLS, IMPLICIT])
    @pytest.mark.parametrize(
        ("newest", "minimum"), [("TLSv1_2", "TLSv1.3"), ("TLSv1_1", "TLSv1.2"), ("TLSv1", "TLSv1.2")]
    )
    async def test_old_tls_versions(self, mode: TlsMode, newest: str, minimum: str) -> None:
        old = certificate(LOOPBACK)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "ssl.TLSVersion", DeprecationWarning)
            old.context.set_ciphers("ALL:@SECLEVEL=0")
            old.context.minimum_version = ssl.TLSVersion.TLSv1
            old.context.maximum_version = ssl.TLSVersion[newest]
        with socket.create_server((LOOPBACK, 0)) as listener:
            port = listener.getsockname()[1]
            serving = asyncio.create_task(asyncio.to_thread(_refuse_handshake, listener, old.context, mode))
            asked = request(port, tls_mode=mode, ca_bundle=old.ca_pem, tls_min_version=minimum)
            found = await failure(asked)
            await serving
        assert (found.stage, found.reason) == (Stage.TLS, Reason.TLS_PROTOCOL_VERSION)
        assert minimum in found.explained

    @pytest.mark.parametrize("injected", ["250 AUTH PLAIN", "220 more", "500 what"])
    async def test_words_slipped_in_before_tls_are_not_believed(self, injected: str, tls: Certificate) -> None:
        """Source: RFC 3207 §4.2."""
        agreed = {"EHLO": OFFER, "STARTTLS": _in_turn(say(f"220 go ahead\n{injected}"), hang)}
        async with scripted_server(agreed) as server:
            asked = request(server.port, tls_mode=START_TLS, ca_bundle=tls.ca_pem, timeout=IMPATIENT)
            found = await failure(asked)
            assert found.stage is Stage.TLS
            assert not any(line.startswith("AUTH") for line in server.lines)


async def test_failed_logins_are_not_repeated() -> None:
    async with scripted_server({"AUTH": say("535 5.7.8 no")}) as server:
        await failure(request(server.port))
        assert [line.split(" ")[1] for line in server.lines if line.startswith("AUTH")] == ["PLAIN"]


def unreachable(cause: Exception) -> network.ConnectionUnreachable:
    error = network.ConnectionUnreachable("words")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        # asyncio's own limit for a handshake, which may be a moment earlier than the step's
        (ConnectionAbortedError("SSL handshake is taking longer than 10 seconds"), FaultKind.TIMEOUT),
        (TimeoutError(), FaultKind.TIMEOUT),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), FaultKind.LOST),
        (ssl.SSLError(1, "[SSL] unknown error"), FaultKind.TLS_OTHER),
        (ConnectionResetError(), FaultKind.LOST),
        # a reset that comes before it is known that the connection was made
        (unreachable(ConnectionResetError()), FaultKind.LOST),
        (unreachable(OSError(113, "No route to host")), FaultKind.UNREACHABLE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_exceptions_that_depend_on_the_moment(error: Exception, kind: FaultKind) -> None:
    assert smtp._translate(error, Stage.TLS).kind is kind


async def test_nothing_listens() -> None:
    async with scripted_server() as server:
        port = server.port
    found = await failure(request(port))
    check(found, Stage.CONNECT, Reason.CONNECTION_REFUSED, port)


async def test_a_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    found = await failure(request(587, host="no-such-host.example"))
    assert (found.stage, found.reason) == (Stage.RESOLVE, Reason.DNS_NOT_FOUND)
    assert "no-such-host.example" in found.explained


async def test_many_faults_at_once_do_not_disturb_each_other() -> None:
    scripts: list[Mapping[str, Act]] = [{}, {"MAIL": hang}, {"AUTH": close}, {"EHLO": flood(b"x" * 4096)}] * 5

    async def outcome(script: Mapping[str, Act]) -> Reason | None:
        async with scripted_server(script) as server:
            asked = request(server.port, ProbeMode.SEND, timeout=timedelta(seconds=3))
            found = (await probe(asked)).failure
            return None if found is None else found.reason

    reasons = await asyncio.gather(*map(outcome, scripts))
    assert reasons == [None, Reason.CONNECTION_TIMEOUT, Reason.SERVER_TEMPORARY, Reason.PROTOCOL_ERROR] * 5


def _in_turn(*acts: Act) -> Act:
    async def act(peer: Peer) -> None:
        for each in acts:
            await each(peer)

    return act


async def _when_spoken_to(peer: Peer, act: Act) -> None:
    await peer.reader.read(4096)
    await act(peer)


async def _client_hello(peer: Peer) -> None:
    """Waits for the client to begin: what comes earlier is discarded."""
    assert await peer.reader.read(1) == b"\x16"


async def _failure_over(mode: TlsMode, server_certificate: Certificate, **server: Any) -> ProbeFailure:
    """How a probe fails whose TLS handshake must fail."""
    script = {"EHLO": OFFER, "STARTTLS": upgrade(server_certificate.context)}
    implicit = server_certificate.context if mode is IMPLICIT else None
    async with scripted_server(script, implicit_tls=implicit) as running:
        return await failure(request(running.port, tls_mode=mode, **server))


def _refuse_handshake(listener: socket.socket, context: ssl.SSLContext, mode: TlsMode) -> None:
    """A server in a thread: asyncio's closes the connection without the alert that says why."""
    listener.settimeout(10)
    connection, _ = listener.accept()
    connection.settimeout(10)
    with connection:
        if mode is START_TLS:
            for reply in (b"220 mail ESMTP\r\n", b"250-mail\r\n250 STARTTLS\r\n", b"220 go ahead\r\n"):
                connection.sendall(reply)
                if b"go ahead" not in reply:
                    assert connection.recv(4096)
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)
