"""The dialogue as it may be shown: no secret in any form, in bounds."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.api.connection import ProxyProtocol
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import TlsMode
from mailsettings.core import sasl
from mailsettings.core.dialogue import (
    MAX_BYTES,
    MAX_LINE,
    MAX_LINES,
    MAX_REPLY,
    QUICK,
    Said,
    bounded,
    is_quickly_shown,
    shown,
)
from mailsettings.core.probe import ProbeRequest, Speaker
from mailsettings.core.redact import MARK
from mailsettings.core.sasl import Mechanism
from mailsettings.core.server import BearerToken, Credentials, Proxy, Server, Source

USER: Final = "no-reply@acme.example"
PASSWORD: Final = "correct horse battery staple"
TOKEN: Final = "".join(f"eyJ{number:04}aBc-_." for number in range(60))
SERVER: Final = Server("smtp.acme.example", 587, TlsMode.START_TLS, timedelta(seconds=10))
BY_PASSWORD: Final = ProbeRequest(SERVER, ProbeMode.SEND, Source.TENANT, Credentials(USER, PASSWORD))
BY_TOKEN: Final = replace(BY_PASSWORD, credentials=BearerToken(USER, TOKEN))


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


REFUSAL: Final = encoded('{"status":"401"}')
CHALLENGE: Final = "<1896.697170952@smtp.example.org>"
DIGEST: Final = hmac.new(PASSWORD.encode(), CHALLENGE.encode(), hashlib.md5).hexdigest()
PLAIN: Final = encoded(f"\0{USER}\0{PASSWORD}")
CRAM: Final = encoded(f"{USER} {DIGEST}")
XOAUTH2: Final = sasl.initial_response(Mechanism.XOAUTH2, BearerToken(USER, TOKEN), SERVER).decode()
OAUTHBEARER: Final = sasl.initial_response(Mechanism.OAUTHBEARER, BearerToken(USER, TOKEN), SERVER).decode()
SECRETS: Final = (PASSWORD, TOKEN, DIGEST, PLAIN, CRAM, XOAUTH2, OAUTHBEARER, encoded(USER), encoded(PASSWORD))


def client(text: str) -> Said:
    return Said(Speaker.CLIENT, text, timedelta())


def server(code: int, text: str = "") -> Said:
    return Said(Speaker.SERVER, text, timedelta(), code)


def texts(*said: Said, request: ProbeRequest = BY_PASSWORD) -> list[str]:
    return [str(line) for line in shown(said, request)]


EXCHANGES: Final[tuple[tuple[str, ProbeRequest, list[Said], list[str]], ...]] = (
    ("PLAIN", BY_PASSWORD, [client(f"AUTH PLAIN {PLAIN}")], [f"C: AUTH PLAIN {MARK}"]),
    (
        "PLAIN in two",
        BY_PASSWORD,
        [client("AUTH PLAIN"), server(334), client(PLAIN)],
        ["C: AUTH PLAIN", "S: 334 ", f"C: {MARK}"],
    ),
    (
        "LOGIN",
        BY_PASSWORD,
        [client(f"AUTH LOGIN {encoded(USER)}"), server(334, "UGFzc3dvcmQ6"), client(encoded(PASSWORD))],
        [f"C: AUTH LOGIN {MARK}", "S: 334 UGFzc3dvcmQ6", f"C: {MARK}"],
    ),
    (
        "LOGIN in three",
        BY_PASSWORD,
        [
            client("auth login"),
            server(334, "VXNlcm5hbWU6"),
            client(encoded(USER)),
            server(334, "UGFzc3dvcmQ6"),
            client(encoded(PASSWORD)),
        ],
        ["C: AUTH login", "S: 334 VXNlcm5hbWU6", f"C: {MARK}", "S: 334 UGFzc3dvcmQ6", f"C: {MARK}"],
    ),
    (
        "CRAM-MD5",
        BY_PASSWORD,
        [client("AUTH CRAM-MD5"), server(334, encoded(CHALLENGE)), client(CRAM)],
        ["C: AUTH CRAM-MD5", f"S: 334 {MARK}", f"C: {MARK}"],
    ),
    ("XOAUTH2", BY_TOKEN, [client(f"AUTH XOAUTH2 {XOAUTH2}")], [f"C: AUTH XOAUTH2 {MARK}"]),
    (
        "XOAUTH2 in two",
        BY_TOKEN,
        [client("AUTH XOAUTH2"), server(334), client(XOAUTH2)],
        ["C: AUTH XOAUTH2", "S: 334 ", f"C: {MARK}"],
    ),
    (
        "XOAUTH2 refused by a challenge",
        BY_TOKEN,
        [client(f"AUTH XOAUTH2 {XOAUTH2}"), server(334, REFUSAL), client("")],
        [f"C: AUTH XOAUTH2 {MARK}", f"S: 334 {MARK}", f"C: {MARK}"],
    ),
    ("OAUTHBEARER", BY_TOKEN, [client(f"AUTH OAUTHBEARER {OAUTHBEARER}")], [f"C: AUTH OAUTHBEARER {MARK}"]),
    (
        "OAUTHBEARER in two",
        BY_TOKEN,
        [client("AUTH OAUTHBEARER"), server(334), client(OAUTHBEARER)],
        ["C: AUTH OAUTHBEARER", "S: 334 ", f"C: {MARK}"],
    ),
    ("an odd mechanism", BY_PASSWORD, [client(f"AUTH {PLAIN} x")], [f"C: AUTH {MARK}"]),
)  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "said", "expected"), [row[1:] for row in EXCHANGES], ids=[row[0] for row in EXCHANGES]
)
def test_no_way_to_log_in_is_shown(request_: ProbeRequest, said: list[Said], expected: list[str]) -> None:
    refusal = server(535, "5.7.8 no")
    assert texts(*said, refusal, client("QUIT"), request=request_) == [*expected, "S: 535 5.7.8 no", "C: QUIT"]


ECHOES: Final[tuple[tuple[str, Callable[[str], str]], ...]] = (
    ("as it is", lambda secret: secret),
    ("in a sentence", lambda secret: f"5.7.8 you said: {secret}, which is wrong"),
    ("quoted", lambda secret: f'"{secret}"'),
    ("in base64", encoded),
    ("in base64 behind something", lambda secret: encoded(f"user=x:{secret};")),
    ("in URL-safe base64", lambda secret: base64.urlsafe_b64encode(f"??{secret}>>".encode()).decode()),
    ("percent-encoded", lambda secret: quote(secret, safe="")),
    ("in hexadecimal", lambda secret: secret.encode().hex()),
    ("in capitals", str.upper),
    ("wrapped into lines", lambda secret: "\n".join(secret[at : at + 7] for at in range(0, len(secret), 7))),
    (
        "wrapped into lines with codes",
        lambda secret: "\n".join(f"5.7.8 {secret[at : at + 7]}" for at in range(0, len(secret), 7)),
    ),
    ("in base64 and wrapped", lambda secret: "\n".join(encoded(secret)[at : at + 9] for at in range(0, 2000, 9))),
    ("with blanks lost", lambda secret: secret.replace(" ", "")),
    ("with an invisible character", lambda secret: f"{secret[:5]}\u200b{secret[5:]}"),
)


@pytest.mark.parametrize("echo", [row[1] for row in ECHOES], ids=[row[0] for row in ECHOES])
@pytest.mark.parametrize("name", ["password", "user and password", "token", "digest", "lines"])
def test_no_echo_of_the_server_is_shown(name: str, echo: Callable[[str], str]) -> None:
    """Whenever the server says it: during the login, after it, or in the goodbye."""
    secrets, request, login = {
        "password": ([PASSWORD], BY_PASSWORD, [client(f"AUTH PLAIN {PLAIN}")]),
        "user and password": ([f"{USER} {PASSWORD}"], BY_PASSWORD, [client(f"AUTH PLAIN {PLAIN}")]),
        "token": ([TOKEN], BY_TOKEN, [client("AUTH XOAUTH2"), server(334), client(XOAUTH2)]),
        "digest": ([DIGEST], BY_PASSWORD, [client("AUTH CRAM-MD5"), server(334, "x"), client(CRAM)]),
        "lines": ([PLAIN, CRAM, XOAUTH2, OAUTHBEARER], BY_TOKEN, [client(f"AUTH PLAIN {PLAIN}"), server(1), *(
            [client("AUTH CRAM-MD5"), server(334), client(CRAM), server(1)])]),
    }[name]  # fmt: skip
    for secret in secrets:
        said = server(535, echo(secret))
        found = "".join(texts(said, *login, said, client("QUIT"), said, request=request))
        flat = "".join(found.split()).casefold()
        for form in {secret, echo(secret), *echo(secret).splitlines()}:
            whole = "".join(form.split()).casefold()
            assert len(whole) < 5 or whole not in flat, form
        # Nor a long piece of it.
        for at in range(len(secret) - 16):
            assert secret[at : at + 16].casefold() not in found.casefold()


@pytest.mark.parametrize("between", ["\t", "\x01", "\u200b", "\t\n\t", "\udc80"])
def test_what_cannot_be_seen_does_not_hide_a_secret(between: str) -> None:
    """What is shown in its place would have a person read on."""
    request = replace(BY_PASSWORD, credentials=Credentials(USER, "hunter22"))
    assert texts(server(535, f"you said hunter{between}22"), request=request) == [f"S: 535 {MARK}"]
    (line,) = texts(server(535, f"you said{between}something"), request=request)[:1]
    assert "you said" in line


def test_the_proxys_login_is_not_shown() -> None:
    proxy = Proxy(ProxyProtocol.HTTP, "p.example", 3128, Credentials("proxy-user", "proxy-word"))
    request = replace(BY_PASSWORD, server=replace(SERVER, proxy=proxy))
    (line,) = texts(server(554, "proxy-word of proxy-user"), request=request)
    assert line == f"S: 554 {MARK} of {MARK}"


def test_what_is_no_secret_is_shown_as_it_was() -> None:
    assert texts(
        server(220, "mail.acme.example ESMTP"),
        client("EHLO [127.0.0.1]"),
        server(250, "mail.acme.example\nSIZE 10000000\nAUTH PLAIN LOGIN"),
        client(f"AUTH PLAIN {PLAIN}"),
        server(235, "2.7.0 ok"),
        client("MAIL FROM:<no-reply@acme.example>"),
        server(250),
        Said(Speaker.NOTE, "[the message, 612 bytes]", timedelta()),
    ) == [
        "S: 220 mail.acme.example ESMTP",
        "C: EHLO [127.0.0.1]",
        "S: 250-mail.acme.example",
        "S: 250-SIZE 10000000",
        "S: 250 AUTH PLAIN LOGIN",
        f"C: AUTH PLAIN {MARK}",
        "S: 235 2.7.0 ok",
        "C: MAIL FROM:<no-reply@acme.example>",
        "S: 250 ",
        "-: [the message, 612 bytes]",
    ]


def test_an_answer_after_the_login_is_a_command_again() -> None:
    assert texts(client("AUTH PLAIN"), server(535, "no"), client("RSET"))[-1] == "C: RSET"


def test_what_could_hide_or_reorder_text_is_taken_out() -> None:
    (line,) = texts(server(250, "a\x1b[2Kb\u202ec\x00\ud800"))
    assert line == "S: 250 a\ufffd[2Kb\ufffdc\ufffd\ufffd"


@given(st.lists(st.text(max_size=2000), max_size=40))
def test_it_is_bounded_whatever_the_server_says(said: list[str]) -> None:
    lines = shown([server(250, text) for text in said], BY_PASSWORD)
    assert len("\n".join(map(str, lines)).encode("utf-8", "replace")) <= MAX_BYTES
    assert all(len(line.text) <= MAX_LINE + 4 for line in lines)


def test_the_beginning_and_the_end_are_kept() -> None:
    said = [
        server(220, "the greeting"),
        *(server(250, f"{n} " + "é" * 390) for n in range(200)),
        server(554, "the end"),
    ]
    lines = texts(*said)
    assert (lines[0], lines[-1]) == ("S: 220 the greeting", "S: 554 the end")
    assert [line for line in lines if "lines are left out" in line]
    assert len("\n".join(lines).encode()) > MAX_BYTES * 0.8


def test_what_was_cut_before_counts_when_more_is_cut() -> None:
    said = [server(250, f"{n} " + "é" * 390) for n in range(200)]
    once = shown(said, BY_PASSWORD)
    twice = bounded(once, 4096)
    assert len("\n".join(map(str, twice)).encode()) <= 4096
    assert (twice[0], twice[-1]) == (once[0], once[-1])
    (gap,) = [line.text for line in twice if line.speaker is Speaker.NOTE]
    assert gap == f"[{200 - len(twice) + 1} lines are left out]"
    assert bounded(twice, 4096) == twice


MAIL: Final = """\
From: Acme <no-reply@acme.example>\r
Subject: Test mail of MailServerSettings shop/mail\r
\r
This is a test mail. It shows that these settings can send mail.\r
"""


@pytest.mark.parametrize(
    "echo",
    [
        "5.7.1 spam: Subject: Test mail of MailServerSettings shop/mail, and so on",
        "5.7.1 SUBJECT:  TEST MAIL OF MAILSERVERSETTINGS SHOP/MAIL",
        "5.7.1 test mail. It shows that these settings\n5.7.1 can",
        f"5.7.1 {MAIL}",
    ],
)
def test_neither_the_mail_nor_its_echo_is_shown(echo: str) -> None:
    shown_ = texts(client("DATA"), client(MAIL), server(554, echo), client("QUIT"), server(221, "2.0.0 bye"))
    assert shown_[:2] == ["C: DATA", f"-: [the message, {len(MAIL)} bytes]"]
    assert shown_[2] == f"S: 554{'-' if echo.count(chr(10)) else ' '}{MARK}"
    assert shown_[-2:] == ["C: QUIT", "S: 221 2.0.0 bye"]
    assert not [word for word in ("these settings", "Test mail", "TEST MAIL") if word in "".join(shown_)]


@pytest.mark.parametrize("reply", ["2.0.0 Ok: queued as 4XyZ", "5.1.1 <ops@acme.example>: User unknown"])
def test_a_reply_about_the_mail_is_no_echo(reply: str) -> None:
    assert texts(client("DATA"), client(MAIL), server(250, reply))[-1] == f"S: 250 {reply}"


def test_a_reply_of_many_lines_is_shortened() -> None:
    lines = texts(server(250, "\n".join(map(str, range(100)))))
    assert len(lines) == MAX_LINES + 1
    assert lines[-1] == f"S: 250 [{100 - MAX_LINES} more lines]"


@given(
    secret=st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=4, max_size=40),
    cut=st.integers(0, 500),
)
def test_no_secret_is_cut_in_two(secret: str, cut: int) -> None:
    request = replace(BY_PASSWORD, credentials=Credentials("u" * 8, secret))
    (line,) = texts(server(535, f"{'.' * cut}{secret}"), request=request)
    if not set(secret) <= {".", " "}:
        assert secret.strip() not in line.removeprefix("S: 535 ").replace(MARK, "")


@pytest.mark.parametrize("secret", [PASSWORD, PLAIN])
def test_of_a_reply_that_is_too_long_nothing_is_shown(secret: str) -> None:
    text = "x" * (MAX_REPLY - 8) + secret
    assert texts(server(250, text)) == [f"S: 250 [{len(text)} characters are left out]"]


@pytest.mark.parametrize("login", [Credentials("ab", PASSWORD), Credentials(USER, "ab")])
def test_a_login_with_a_short_part_is_found_as_a_whole(login: Credentials) -> None:
    told = f"\0{login.username}\0{login.password}".encode().hex()
    said = [Said(Speaker.SERVER, f"got {told}", timedelta(), 535)]
    (line,) = shown(said, replace(BY_PASSWORD, credentials=login))
    assert line.text == f"535 got {MARK}"


@pytest.mark.parametrize(
    ("text", "request_", "is_quick"),
    [
        ("ESMTP", BY_PASSWORD, True),
        ("gr\u00fcezi", BY_PASSWORD, False),
        ("x" * QUICK, BY_PASSWORD, False),
        ("ESMTP", replace(BY_PASSWORD, credentials=Credentials(USER, "x" * QUICK)), False),
        ("ESMTP", replace(BY_TOKEN, credentials=BearerToken(USER, "x" * QUICK)), False),
        ("ESMTP", replace(BY_PASSWORD, credentials=None), True),
        (
            "ESMTP",
            replace(BY_PASSWORD, server=replace(
                SERVER, proxy=Proxy(ProxyProtocol.HTTP, "proxy", 3128, Credentials("u", "x" * QUICK))
            )),
            False,
        ),
    ],
)  # fmt: skip
def test_what_takes_long_is_known_before(text: str, request_: ProbeRequest, *, is_quick: bool) -> None:
    assert is_quickly_shown([Said(Speaker.SERVER, text, timedelta(), 220)], request_) == is_quick
