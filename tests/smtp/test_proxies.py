"""Probes through proxies: real ones, and some that misbehave."""

import base64
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.connection import ProxyProtocol
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import TlsMode
from mailsettings.core.egress import EgressPolicy
from mailsettings.core.probe import ProbeFailure, Stage
from mailsettings.core.server import Credentials, Proxy, Source
from tests.support.listening import LOOPBACK
from tests.support.proxies import PROXY_LOGIN, Converse, real_proxy, scripted_proxy
from tests.support.smtp_probe import ALLOW_LOOPBACK, failure, probe, request
from tests.support.smtp_server import Peer, certificate, mail_server

HTTP, SOCKS5 = ProxyProtocol.HTTP, ProxyProtocol.SOCKS5
WRONG: Final = Credentials("proxy-user", "wrong proxy password")
BRIEF: Final = timedelta(milliseconds=300)


def listing(*proxies: str) -> EgressPolicy:
    """Where the loopback is allowed, and these proxies."""
    return EgressPolicy.parse(allow="127.0.0.0/8:* [::1/128]:*", proxies=" ".join(proxies))


def listed(port: int) -> EgressPolicy:
    return listing(f"{LOOPBACK}:{port}")


@pytest.mark.parametrize("login", [None, PROXY_LOGIN], ids=["open", "login"])
@pytest.mark.parametrize("protocol", ProxyProtocol)
@pytest.mark.parametrize("mode", TlsMode)
async def test_a_mail_is_sent_through_a_proxy(
    mode: TlsMode, protocol: ProxyProtocol, login: Credentials | None, tmp_path: Path
) -> None:
    tls = certificate(LOOPBACK)
    option: dict[TlsMode, dict[str, Any]] = {
        TlsMode.DISABLED: {"auth_without_tls": True},
        TlsMode.START_TLS: {"start_tls": tls.context},
        TlsMode.IMPLICIT: {"implicit_tls": tls.context},
    }
    bundle: dict[str, Any] = {} if mode is TlsMode.DISABLED else {"ca_bundle": tls.ca_pem}
    async with mail_server(**option[mode]) as server, real_proxy(tmp_path, login) as proxy:
        asked = request(server.port, tls_mode=mode, proxy=proxy.spec(protocol, login), **bundle)
        result = await probe(asked, policy=listed(proxy.port))
        assert result.failure is None
        assert len(server.mails) == 1
        assert f"{LOOPBACK}:{server.port}" in proxy.log


@pytest.mark.parametrize(
    ("protocol", "given"),
    [(HTTP, None), (HTTP, WRONG), (SOCKS5, WRONG)],
    ids=["HTTP none", "HTTP wrong", "SOCKS5 wrong"],
)
async def test_a_proxy_that_wants_another_login_is_told_apart(
    protocol: ProxyProtocol, given: Credentials | None, tmp_path: Path
) -> None:
    async with mail_server() as server, real_proxy(tmp_path, PROXY_LOGIN) as proxy:
        spec = proxy.spec(protocol, given)
        found = await failure(request(server.port, proxy=spec), policy=listed(proxy.port))
        assert (found.stage, found.reason) == (Stage.PROXY, Reason.PROXY_AUTH_REQUIRED)
        assert spec.url in found.explained
        assert server.connections == 0
        assert_no_secret(found)


async def test_a_server_that_the_proxy_cannot_reach_is_the_proxys_failure(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as closed:
        port = closed.getsockname()[1]
    async with real_proxy(tmp_path) as proxy:
        found = await failure(request(port, proxy=proxy.spec(HTTP)), policy=listed(proxy.port))
    assert (found.stage, found.reason) == (Stage.PROXY, Reason.PROXY_FAILURE)


def assert_no_secret(found: ProbeFailure) -> None:
    encoded = base64.b64encode(f"{PROXY_LOGIN.username}:{PROXY_LOGIN.password}".encode()).decode()
    for secret in (PROXY_LOGIN.password, WRONG.password, encoded):
        assert secret not in found.explained


async def read_head(peer: Peer) -> bytes:
    return await peer.reader.readuntil(b"\r\n\r\n")


def http(answer: bytes) -> Converse:
    """Answers CONNECT with this."""

    async def converse(peer: Peer) -> None:
        await read_head(peer)
        await peer.say(answer)
        await peer.gone()

    return converse


def socks(*answers: bytes) -> Converse:
    """Answers each message of the client with the next one of these, then closes."""

    async def converse(peer: Peer) -> None:
        for answer in answers:
            await peer.reader.read(1024)
            await peer.say(answer)

    return converse


async def hang(peer: Peer) -> None:
    await peer.gone()


async def close(peer: Peer) -> None:
    await peer.close()


async def reset(peer: Peer) -> None:
    await peer.reader.read(1)
    await peer.reset()


FAULTS: Final[tuple[tuple[str, ProxyProtocol, Converse, Reason, str], ...]] = (
    ("407", HTTP, http(b"HTTP/1.1 407 Secret words\r\n\r\n"), Reason.PROXY_AUTH_REQUIRED, "did not accept"),
    ("403", HTTP, http(b"HTTP/1.1 403 Forbidden\r\nX: y\r\n\r\n<html>"), Reason.PROXY_FAILURE, "with 403"),
    ("502", HTTP, http(b"HTTP/1.0 502 Bad Gateway\r\n\r\n"), Reason.PROXY_FAILURE, "with 502"),
    ("redirect", HTTP, http(b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n"), Reason.PROXY_FAILURE, "with 302"),
    ("interim only", HTTP, http(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 x\r\n\r\n"), Reason.PROXY_FAILURE, "503"),
    ("garbage", HTTP, http(b"\x00\xff\x16\x03 what?\r\n\r\n"), Reason.PROXY_FAILURE, "not answer CONNECT with HTTP"),
    ("an SMTP server", HTTP, http(b"220 mail ESMTP\r\n"), Reason.PROXY_FAILURE, "not answer CONNECT with HTTP"),
    ("no status", HTTP, http(b"HTTP/1.1 OK\r\n\r\n"), Reason.PROXY_FAILURE, "not answer CONNECT with HTTP"),
    ("endless head", HTTP, http(b"HTTP/1.1 200 ok\r\n" + b"x" * 40000), Reason.PROXY_FAILURE, "not answer CONNECT"),
    ("hang", HTTP, hang, Reason.PROXY_FAILURE, "did not answer in time"),
    ("half a head", HTTP, http(b"HTTP/1.1 200 ok\r\n"), Reason.PROXY_FAILURE, "did not answer in time"),
    ("close", HTTP, close, Reason.PROXY_FAILURE, "closed the connection"),
    ("reset", HTTP, reset, Reason.PROXY_FAILURE, "closed the connection"),
    ("hang", SOCKS5, hang, Reason.PROXY_FAILURE, "did not answer in time"),
    ("close", SOCKS5, close, Reason.PROXY_FAILURE, "closed the connection"),
    ("reset", SOCKS5, reset, Reason.PROXY_FAILURE, "closed the connection"),
    ("SOCKS4", SOCKS5, socks(b"\x00\x5b"), Reason.PROXY_FAILURE, "does not answer with SOCKS5"),
    ("HTTP", SOCKS5, socks(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Reason.PROXY_FAILURE, "does not answer with SOCKS5"),
    ("no method", SOCKS5, socks(b"\x05\xff"), Reason.PROXY_AUTH_REQUIRED, "does not take a user name"),
    ("GSSAPI", SOCKS5, socks(b"\x05\x01"), Reason.PROXY_FAILURE, "was not offered"),
    ("wrong login", SOCKS5, socks(b"\x05\x02", b"\x01\x01"), Reason.PROXY_AUTH_REQUIRED, "did not accept"),
    ("closed at the login", SOCKS5, socks(b"\x05\x02", b""), Reason.PROXY_AUTH_REQUIRED, "did not accept"),
    ("odd login", SOCKS5, socks(b"\x05\x02", b"\x05\x00"), Reason.PROXY_FAILURE, "does not answer with SOCKS5"),
    *(
        (f"reply {code}", SOCKS5, socks(b"\x05\x00", bytes([5, code, 0, 1, *[0] * 6])), Reason.PROXY_FAILURE, text)
        for code, text in (
            (1, "does not name"),
            (2, "its rules forbid"),
            (3, "server's network"),
            (4, "cannot reach the server"),
            (5, "the server refused"),
            (6, "did not get as far"),
            (7, "does not make connections"),
            (8, "kind of address"),
            (99, "does not know"),
        )
    ),
    ("odd address", SOCKS5, socks(b"\x05\x00", b"\x05\x00\x00\x07"), Reason.PROXY_FAILURE, "not answer with SOCKS5"),
    ("half a reply", SOCKS5, socks(b"\x05\x00", b"\x05\x00"), Reason.PROXY_FAILURE, "closed the connection"),
)


@pytest.mark.parametrize(
    ("protocol", "converse", "reason", "text"),
    [row[1:] for row in FAULTS],
    ids=[f"{row[1]} {row[0]}" for row in FAULTS],
)
async def test_what_a_proxy_does_wrong_is_its_failure(
    protocol: ProxyProtocol, converse: Converse, reason: Reason, text: str
) -> None:
    async with scripted_proxy(converse) as port:
        asked = request(2525, timeout=BRIEF, proxy=Proxy(protocol, LOOPBACK, port, PROXY_LOGIN))
        found = await failure(asked, policy=listed(port))
    assert (found.stage, found.reason, text in found.explained) == (Stage.PROXY, reason, True), found
    assert "Secret words" not in found.explained
    assert_no_secret(found)


@pytest.mark.parametrize(
    ("protocol", "converse"), [(HTTP, http(b"HTTP/1.1 407 x\r\n\r\n")), (SOCKS5, socks(b"\x05\xff"))]
)
async def test_a_proxy_that_wants_a_login_when_there_is_none(protocol: ProxyProtocol, converse: Converse) -> None:
    async with scripted_proxy(converse) as port:
        found = await failure(request(2525, proxy=Proxy(protocol, LOOPBACK, port)), policy=listed(port))
    assert found.reason is Reason.PROXY_AUTH_REQUIRED
    assert "wants a user name" in found.explained


async def test_a_proxy_that_is_not_there() -> None:
    with socket.create_server((LOOPBACK, 0)) as closed:
        port = closed.getsockname()[1]
    found = await failure(request(2525, proxy=Proxy(HTTP, LOOPBACK, port)), policy=listed(port))
    assert (found.stage, found.reason) == (Stage.PROXY, Reason.PROXY_FAILURE)
    assert found.explained == (
        f"Proxy: The proxy http://{LOOPBACK}:{port} made no connection to {LOOPBACK}:2525: it refused the connection. "
        "Check connection.proxy, and that the proxy lets this server's addresses and port through. "
        "See docs/troubleshooting.md#proxyfailure or `kubectl mailsettings explain ProxyFailure`."
    )


async def test_a_proxy_whose_name_does_not_exist() -> None:
    spec = Proxy(HTTP, "no-such-proxy.invalid", 3128)
    found = await failure(request(2525, proxy=spec), policy=listing("no-such-proxy.invalid:3128"))
    assert (found.stage, found.reason) == (Stage.PROXY, Reason.PROXY_FAILURE)


def greeting_at_once(answer: bytes) -> Converse:
    """The proxy's answer and the server's greeting in one packet, and a server that wants nothing."""

    async def converse(peer: Peer) -> None:
        await read_head(peer)
        await peer.say(answer + b"220 mail.acme.example ESMTP\r\n")
        while line := await peer.reader.readline():
            await peer.say(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 mail.acme.example\r\n")

    return converse


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nProxy-Agent: x\r\nVia: y\r\n\r\n",
        b"HTTP/1.1 204 \r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 ok\n\n",
        b"HTTP/1.1 102 wait\r\n\r\nHTTP/1.1 200 ok\r\n\r\n",
    ],
)
async def test_a_greeting_right_behind_the_proxys_answer_is_not_lost(answer: bytes) -> None:
    async with scripted_proxy(greeting_at_once(answer)) as port:
        spec = Proxy(HTTP, LOOPBACK, port)
        result = await probe(request(2525, ProbeMode.CONNECT, credentials=None, proxy=spec), policy=listed(port))
    assert result.failure is None


async def test_an_answer_in_pieces_is_read() -> None:
    async def converse(peer: Peer) -> None:
        await read_head(peer)
        for byte in b"HTTP/1.1 200 ok\r\nA: b\r\n\r\n220 mail.acme.example ESMTP\r\n":
            await peer.say(bytes([byte]))
        while line := await peer.reader.readline():
            await peer.say(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 mail.acme.example\r\n")

    async with scripted_proxy(converse) as port:
        spec = Proxy(HTTP, LOOPBACK, port)
        result = await probe(request(2525, ProbeMode.CONNECT, credentials=None, proxy=spec), policy=listed(port))
    assert result.failure is None


@pytest.mark.parametrize("level", Source)
async def test_connect_names_the_address_that_was_checked(level: Source) -> None:
    """Given the name, the proxy would resolve it again, to whatever the name says then."""
    heads: list[bytes] = []

    async def converse(peer: Peer) -> None:
        heads.append(await read_head(peer))
        await peer.say(b"HTTP/1.1 403 no\r\n\r\n")

    async with scripted_proxy(converse) as port:
        asked = request(2525, host="localhost", level=level, proxy=Proxy(HTTP, LOOPBACK, port))
        await failure(asked, policy=listed(port))
    assert {head.split(b" ")[1] for head in heads} <= {b"127.0.0.1:2525", b"[::1]:2525"}
    assert heads
    assert not any(b"localhost" in head for head in heads)


@dataclass(frozen=True)
class Denied:
    """Settings with a proxy that the egress policy stands against."""

    name: str
    stage: Stage
    text: str
    policy: Callable[[int], EgressPolicy] = listed
    """By the proxy's port."""
    level: Source = Source.TENANT
    host: str = LOOPBACK


def listed_and_denied(port: int) -> EgressPolicy:
    proxy = f"{LOOPBACK}:{port}"
    return EgressPolicy.parse(deny=proxy, proxies=proxy, allow="127.0.0.0/8:2525")


DENIED: Final = (
    Denied("not listed", Stage.PROXY, "does not list it", policy=lambda _port: ALLOW_LOOPBACK),
    Denied("listed with another port", Stage.PROXY, "does not list it", policy=lambda port: listed(port - 1)),
    Denied("listed and denied", Stage.PROXY, "denies", policy=listed_and_denied),
    Denied(
        "the system's at the loopback",
        Stage.PROXY,
        "loopback",
        policy=lambda _port: EgressPolicy.parse(allow="127.0.0.0/8:2525"),
        level=Source.SYSTEM,
    ),
    Denied("metadata behind it", Stage.CONNECT, "metadata", host="169.254.169.254"),
    Denied("private behind it", Stage.CONNECT, "private", host="10.0.0.1"),
)


@pytest.mark.parametrize("case", DENIED, ids=[case.name for case in DENIED])
async def test_the_egress_policy_holds_for_the_proxy_and_for_what_is_behind_it(case: Denied) -> None:
    seen: list[Peer] = []

    async def converse(peer: Peer) -> None:
        seen.append(peer)

    async with scripted_proxy(converse) as port:
        asked = request(2525, host=case.host, level=case.level, proxy=Proxy(SOCKS5, LOOPBACK, port))
        found = await failure(asked, policy=case.policy(port))
    assert (found.stage, found.reason) == (case.stage, Reason.EGRESS_DENIED)
    assert case.text in found.explained
    assert not seen


async def test_the_system_may_name_a_proxy_that_nobody_lists(tmp_path: Path) -> None:
    async with mail_server(auth_without_tls=True) as server, real_proxy(tmp_path) as proxy:
        asked = request(server.port, level=Source.SYSTEM, proxy=proxy.spec(SOCKS5))
        assert (await probe(asked)).failure is None


async def test_a_second_address_is_tried_when_the_proxy_does_not_reach_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heads: list[bytes] = []

    async def converse(peer: Peer) -> None:
        heads.append(await read_head(peer))
        await peer.say(b"HTTP/1.1 502 no\r\n\r\n")

    answers = [
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 0))
        for address in ("127.0.0.8", "127.0.0.9")
    ]
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: answers if host == "mail.acme.example" else real(host, *a, **k)
    )
    async with scripted_proxy(converse) as port:
        await failure(
            request(2525, host="mail.acme.example", proxy=Proxy(HTTP, LOOPBACK, port)),
            policy=listed(port),
        )
    assert [head.split(b" ")[1] for head in heads] == [b"127.0.0.8:2525", b"127.0.0.9:2525"]


async def test_the_name_of_a_proxy_that_is_not_listed_is_not_even_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise tenants could have any name looked up, and tell somebody by it what they like."""
    looked_up: list[object] = []

    def look_up(host: str, *_rest: object, **_options: object) -> list[object]:
        looked_up.append(host)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    asked = request(2525, host="mail.acme.example", proxy=Proxy(HTTP, "proxy.acme.example", 3128))
    assert (await failure(asked)).reason is Reason.EGRESS_DENIED
    assert looked_up == []
