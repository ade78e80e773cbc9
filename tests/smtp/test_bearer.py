"""Logins by an access token."""

import asyncio
import base64
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import TlsMode
from mailsettings.core.probe import ProbeFailure, Stage
from mailsettings.core.server import BearerToken
from tests.support.bearer import CHALLENGE, presented
from tests.support.listening import LOOPBACK
from tests.support.smtp_probe import LOGIN, failure, probe, request
from tests.support.smtp_server import (
    BEARER_MECHANISMS,
    USERNAME,
    Act,
    Certificate,
    Peer,
    certificate,
    close,
    hang,
    mail_server,
    reset,
    say,
    scripted_server,
)

START_TLS, IMPLICIT, DISABLED = TlsMode.START_TLS, TlsMode.IMPLICIT, TlsMode.DISABLED
SHORT = "ya29.a0AfH6SMBx-short_token"
LONG = "eyJ0eXAiOiJKV1QifQ." + "".join(f"claim{number:05}_-" for number in range(330))
"""As long as Microsoft's with many claims: 4 KB."""
BOTH = ("PLAIN", "LOGIN", *BEARER_MECHANISMS)
MECHANISM = pytest.mark.parametrize("mechanism", BEARER_MECHANISMS)
REFUSAL = f"334 {base64.b64encode(CHALLENGE).decode()}"


@pytest.fixture(scope="module")
def tls() -> Certificate:
    return certificate(LOOPBACK)


def serve(mode: TlsMode, tls: Certificate, token: str, mechanisms: tuple[str, ...] = BOTH) -> Any:
    """A server for a TLS mode that demands a login by that token."""
    return mail_server(
        start_tls=tls.context if mode is START_TLS else None,
        implicit_tls=tls.context if mode is IMPLICIT else None,
        auth_without_tls=mode is DISABLED,
        auth_required=True,
        mechanisms=mechanisms,
        login=(USERNAME, token),
    )


def trust(mode: TlsMode, tls: Certificate) -> dict[str, Any]:
    return {"tls_mode": mode} | ({} if mode is DISABLED else {"ca_bundle": tls.ca_pem})


def answers(*replies: str | Act) -> tuple[Act, list[str]]:
    """What to do at AUTH and at each line that follows it, and those lines as they come."""
    lines: list[str] = []

    async def act(peer: Peer) -> None:
        for number, reply in enumerate(replies):
            if number:
                lines.append((await peer.reader.readline()).decode().removesuffix("\r\n"))
            await (say(reply) if isinstance(reply, str) else reply)(peer)

    return act, lines


def offering(*mechanisms: str) -> Act:
    return say(f"250-mail.acme.example\n250 AUTH {' '.join(mechanisms)}")


def without_secrets(found: ProbeFailure, token: str) -> None:
    pieces = {token[start : start + 16] for start in range(max(1, len(token) - 15))}
    assert not [piece for piece in pieces if piece in found.explained]


@MECHANISM
@pytest.mark.parametrize("token", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("mode", TlsMode)
async def test_a_mail_is_sent_after_a_login(mode: TlsMode, token: str, mechanism: str, tls: Certificate) -> None:
    async with serve(mode, tls, token, ("PLAIN", mechanism)) as server:
        asked = request(server.port, credentials=BearerToken(USERNAME, token), **trust(mode, tls))
        assert (await probe(asked)).failure is None
        assert len(server.mails) == 1
        assert server.attempts == [(mechanism, USERNAME, token)]
        assert server.acknowledged == []
        (said,) = server.presented
        assert (said.host, said.port) == ((LOOPBACK, str(server.port)) if mechanism == "OAUTHBEARER" else ("", ""))


@MECHANISM
@pytest.mark.parametrize("token", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("mode", TlsMode)
async def test_a_refused_token_is_tried_once(mode: TlsMode, token: str, mechanism: str, tls: Certificate) -> None:
    async with serve(mode, tls, "another token", (mechanism,)) as server:
        asked = request(server.port, credentials=BearerToken(USERNAME, token), **trust(mode, tls))
        found = await failure(asked)
        assert (found.stage, found.reason) == (Stage.AUTH, Reason.TOKEN_EXPIRED)
        assert (found.code, found.enhanced_code) == (535, "5.7.8")
        assert found.explained.startswith(
            f"AUTH: {LOOPBACK}:{server.port} refused the access token with "
            '535 5.7.8 "Authentication credentials invalid" '
            'after the challenge "status invalid_token, scope https://mail.acme.example/smtp, schemes Bearer". '
        )
        without_secrets(found, token)
        assert server.attempts == [(mechanism, USERNAME, token)]
        assert server.acknowledged == [b"" if mechanism == "XOAUTH2" else b"\x01"]
        assert server.connections == 1


async def test_connect_does_not_show_the_token(tls: Certificate) -> None:
    async with serve(START_TLS, tls, SHORT) as server:
        asked = request(server.port, ProbeMode.CONNECT, credentials=BearerToken(USERNAME, "x"), **trust(START_TLS, tls))
        assert (await probe(asked)).failure is None
        assert server.attempts == []


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(("LOGIN", "XOAUTH2"), "XOAUTH2"), (BOTH, "XOAUTH2"), (("PLAIN", "OAUTHBEARER"), "OAUTHBEARER")],
)
async def test_the_mechanism_is_chosen_by_what_is_offered(
    offered: tuple[str, ...], chosen: str, tls: Certificate
) -> None:
    async with serve(START_TLS, tls, SHORT, offered) as server:
        asked = request(server.port, credentials=BearerToken(USERNAME, SHORT), **trust(START_TLS, tls))
        assert (await probe(asked)).failure is None
        assert [mechanism for mechanism, *_ in server.attempts] == [chosen]


async def test_a_token_is_never_sent_as_a_password() -> None:
    async with scripted_server({"EHLO": offering("PLAIN", "LOGIN", "CRAM-MD5")}) as server:
        found = await failure(request(server.port, credentials=BearerToken(USERNAME, SHORT)))
        assert (found.stage, found.reason) == (Stage.AUTH, Reason.AUTH_MECHANISM_UNSUPPORTED)
        assert "offers a login by PLAIN, LOGIN, CRAM-MD5 only, and not by XOAUTH2 or OAUTHBEARER" in found.explained
        assert "the access token was not sent" in found.explained
        assert server.lines[-1] == "QUIT"
        assert not any(line.startswith("AUTH") for line in server.lines)


async def test_a_password_is_never_sent_as_a_token() -> None:
    async with scripted_server({"EHLO": offering(*BEARER_MECHANISMS)}) as server:
        found = await failure(request(server.port, credentials=LOGIN))
        assert found.reason is Reason.AUTH_MECHANISM_UNSUPPORTED
        assert "by XOAUTH2, OAUTHBEARER only, and not by PLAIN, LOGIN or CRAM-MD5" in found.explained
        assert not any(line.startswith("AUTH") for line in server.lines)


@pytest.mark.parametrize("ehlo", [say("250 mail"), say("250-mail\n250 SIZE 1000")])
async def test_no_token_is_sent_to_a_server_without_a_login(ehlo: Act) -> None:
    async with scripted_server({"EHLO": ehlo}) as server:
        found = await failure(request(server.port, credentials=BearerToken(USERNAME, SHORT)))
        assert found.reason is Reason.AUTH_NOT_OFFERED
        assert "the access token was not sent" in found.explained


class TestWithoutTls:
    """A token in the clear is a token given away."""

    async def test_none_is_sent_where_auth_comes_after_starttls(self, tls: Certificate) -> None:
        async with mail_server(start_tls=tls.context, auth_required=True, mechanisms=BOTH) as server:
            found = await failure(request(server.port, credentials=BearerToken(USERNAME, SHORT)))
            assert (found.stage, found.reason) == (Stage.AUTH, Reason.START_TLS_EXPECTED)
            assert server.attempts == []

    @pytest.mark.parametrize("mode", [START_TLS, IMPLICIT])
    async def test_none_is_sent_unless_the_settings_say_so(self, mode: TlsMode) -> None:
        async with scripted_server({"EHLO": offering(*BEARER_MECHANISMS)}) as server:
            found = await failure(request(server.port, credentials=BearerToken(USERNAME, SHORT), tls_mode=mode))
            assert found.stage is Stage.TLS
            assert not any(line.startswith("AUTH") for line in server.lines)


class TestLength:
    """RFC 4954 §4: 512 octets for the command, 12288 for a response on its own line."""

    async def test_a_short_token_stands_in_the_command(self) -> None:
        async with scripted_server({"EHLO": offering("XOAUTH2")}) as server:
            asked = request(server.port, ProbeMode.AUTHENTICATE, credentials=BearerToken(USERNAME, SHORT))
            assert (await probe(asked)).failure is None
            verb, mechanism, response = server.lines[1].split(" ")
            assert (verb, mechanism) == ("AUTH", "XOAUTH2")
            assert presented(mechanism, base64.b64decode(response)).token == SHORT

    async def test_a_long_token_follows_the_command(self) -> None:
        auth, lines = answers("334 ", "235 2.7.0 ok")
        async with scripted_server({"EHLO": offering("XOAUTH2"), "AUTH": auth}) as server:
            asked = request(server.port, ProbeMode.AUTHENTICATE, credentials=BearerToken(USERNAME, LONG))
            assert (await probe(asked)).failure is None
            assert server.lines[1:] == ["AUTH XOAUTH2", "QUIT"]
            (response,) = lines
            assert len(response) > 4096
            assert presented("XOAUTH2", base64.b64decode(response)).token == LONG

    @MECHANISM
    async def test_a_token_that_no_server_need_take_is_not_sent(self, mechanism: str) -> None:
        async with scripted_server({"EHLO": offering(mechanism)}) as server:
            found = await failure(request(server.port, credentials=BearerToken(USERNAME, "x" * 12288)))
            assert (found.stage, found.reason) == (Stage.AUTH, Reason.TOKEN_UNUSABLE)
            assert "12288 octets" in found.explained
            assert server.lines[1:] == ["QUIT"]

    @pytest.mark.parametrize("token", ["", "line\r\nQUIT", "two\x01fields", "tokén"])
    async def test_what_is_no_token_is_not_sent(self, token: str) -> None:
        async with scripted_server({"EHLO": offering("XOAUTH2")}) as server:
            found = await failure(request(server.port, credentials=BearerToken(USERNAME, token)))
            assert found.reason is Reason.TOKEN_UNUSABLE
            assert server.lines[1:] == ["QUIT"]

    @pytest.mark.parametrize("reply", ["500 5.5.2 AUTH response line too long", "500 5.5.6 no"])
    async def test_a_server_that_takes_less(self, reply: str) -> None:
        auth, _ = answers("334 ", reply)
        async with scripted_server({"EHLO": offering("XOAUTH2"), "AUTH": auth}) as server:
            found = await failure(request(server.port, credentials=BearerToken(USERNAME, LONG)))
            assert (found.reason, found.code) == (Reason.PROTOCOL_ERROR, 500)
            assert "set it to the mailbox" in found.remedy


class TestRefusals:
    """What servers do to a token that they do not take."""

    async def test_microsoft_gives_no_challenge(self) -> None:
        auth, lines = answers("334 ", "535 5.7.3 Authentication unsuccessful [AB1PR00CA0001.EURPRD00.PROD.OUTLOOK.COM]")
        async with scripted_server({"EHLO": offering("LOGIN", "XOAUTH2"), "AUTH": auth}) as server:
            asked = replace(request(server.port, credentials=BearerToken(USERNAME, LONG)), provider="Office365")
            found = await failure(asked)
            assert found.reason is Reason.WRONG_TOKEN_SCOPE_OR_AUDIENCE
            assert (found.code, found.enhanced_code) == (535, "5.7.3")
            assert "SMTP AUTH is enabled" in found.explained
            assert "challenge" not in found.explained
            assert len(lines) == 1
            assert server.lines[-1] == "QUIT"

    @pytest.mark.parametrize(
        ("reply", "reason"),
        [
            ("535 5.7.8 Username and Password not accepted", Reason.TOKEN_EXPIRED),
            ("535-5.7.8 Username and Password\n535 5.7.8 not accepted", Reason.TOKEN_EXPIRED),
            ("501 5.7.0 cancelled", Reason.TOKEN_EXPIRED),
            ("454 4.7.0 Temporary authentication failure", Reason.TOKEN_EXPIRED),
            ("421 4.7.0 bye", Reason.TOKEN_EXPIRED),
            ("334 and again", Reason.TOKEN_EXPIRED),
            ("no reply", Reason.PROTOCOL_ERROR),
        ],
    )
    async def test_replies_after_a_challenge(self, reply: str, reason: Reason) -> None:
        auth, lines = answers(REFUSAL, reply)
        async with scripted_server({"EHLO": offering("OAUTHBEARER"), "AUTH": auth}) as server:
            found = await failure(request(server.port, credentials=BearerToken(USERNAME, SHORT)))
            assert (found.stage, found.reason) == (Stage.AUTH, reason)
            assert ("invalid_token" in found.explained) == (found.code is not None)
            assert lines == ["AQ=="]

    @pytest.mark.parametrize("act", [close, reset, hang], ids=["close", "reset", "hang"])
    async def test_a_server_that_breaks_off_after_its_challenge(self, act: Act) -> None:
        auth, lines = answers(REFUSAL, act)
        async with scripted_server({"EHLO": offering("XOAUTH2"), "AUTH": auth}) as server:
            asked = request(server.port, credentials=BearerToken(USERNAME, SHORT), timeout=timedelta(milliseconds=400))
            found = await failure(asked)
            assert (found.reason, found.code) == (Reason.TOKEN_EXPIRED, 334)
            assert 'refused the access token with 334 after the challenge "status invalid_token' in found.explained
            assert lines == [""]
            async with asyncio.timeout(10):
                await server.left.wait()

    @pytest.mark.parametrize(
        ("reply", "reason"),
        [
            (say("235 2.7.0 what"), Reason.PROTOCOL_ERROR),
            (say("504 5.5.4 Unrecognized authentication type"), Reason.AUTH_MECHANISM_UNSUPPORTED),
            (say("535 5.7.8 no"), Reason.BAD_CREDENTIALS),
            (close, Reason.SERVER_TEMPORARY),
            (hang, Reason.CONNECTION_TIMEOUT),
        ],
        ids=["235", "504", "535", "close", "hang"],
    )
    async def test_a_server_that_does_not_ask_for_the_token(self, reply: Act, reason: Reason) -> None:
        async with scripted_server({"EHLO": offering("XOAUTH2"), "AUTH": reply}) as server:
            asked = request(server.port, credentials=BearerToken(USERNAME, LONG), timeout=timedelta(milliseconds=400))
            assert (await failure(asked)).reason is reason
            assert server.lines[1] == "AUTH XOAUTH2"
            assert {*server.lines[2:]} <= {"QUIT"}

    @pytest.mark.parametrize("challenge", ["334", "334 ", "334 !!!", "334-e30=\n334 e30=", "334 VXNlcm5hbWU6"])
    async def test_a_challenge_that_says_nothing(self, challenge: str) -> None:
        auth, lines = answers(challenge, "535 5.7.8 no")
        async with scripted_server({"EHLO": offering("XOAUTH2"), "AUTH": auth}) as server:
            found = await failure(request(server.port, credentials=BearerToken(USERNAME, SHORT)))
            assert (found.reason, found.code) == (Reason.BAD_CREDENTIALS, 535)
            assert "challenge" not in found.explained
            assert lines == [""]

    @pytest.mark.parametrize("token", [SHORT, LONG], ids=["short", "long"])
    @pytest.mark.parametrize("cut", [None, 200])
    async def test_a_server_that_repeats_the_login(self, token: str, cut: int | None) -> None:
        async def act(peer: Peer) -> None:
            await say("334 ")(peer)
            line = (await peer.reader.readline()).decode().strip()
            plain = base64.b64decode(line).decode().replace("\x01", " ")
            said = base64.b64encode(f'{{"status": "{plain[:cut]}"}}'.encode()).decode()
            await say(f"334 {said}")(peer)
            await peer.reader.readline()
            await say(f"535-5.7.8 AUTH XOAUTH2 {line[:cut]}\n535 5.7.8 {plain[:cut]}")(peer)

        async with scripted_server({"EHLO": offering("XOAUTH2"), "AUTH": act}) as server:
            # A user name so long that the response never fits into the command.
            found = await failure(request(server.port, credentials=BearerToken("u" * 500, token)))
            assert found.reason is Reason.BAD_CREDENTIALS
            without_secrets(found, token)
            without_secrets(found, base64.b64encode(f"user={'u' * 500}\x01auth=Bearer {token}".encode()).decode())
