"""The consent endpoint and clients that are slow, many, odd or hostile, over real sockets."""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from mailsettings.edges.consent_server.app import COOKIE, MAX_BODY_BYTES, MAX_HEADER_BYTES
from tests.support.consent_desk import FLOW, UID, StubDesk, consent_endpoint
from tests.support.listening import LOOPBACK

SECRET: Final = "the-code-that-nobody-may-see"
LIMIT_S: Final = 20.0
START: Final = f"/oauth2/start/{UID}"
CALLBACK: Final = f"/oauth2/callback/login.example?code={SECRET}&state={SECRET}"


@pytest.fixture
def desk() -> StubDesk:
    return StubDesk()


@pytest.fixture
async def port(desk: StubDesk) -> AsyncIterator[int]:
    async with consent_endpoint(desk) as port:
        yield port


@contextlib.asynccontextmanager
async def connection(port: int, **options: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(LOOPBACK, port, **options)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(port: int, data: bytes) -> bytes:
    """Everything that is answered until the endpoint closes the connection."""
    async with connection(port) as (reader, writer):
        writer.write(data)
        return await asyncio.wait_for(_rest(reader), LIMIT_S)


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


def request(method: str = "GET", target: str = START, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {LOOPBACK}", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# --- slow and many ---

SLOW: Final = {
    "nothing": b"",
    "half a line": b"GET /oauth2/st",
    "no end of the headers": request()[:-2],
    "no body": request("POST", START, "Content-Length: 100", "Content-Type: application/x-www-form-urlencoded"),
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW.keys())
async def test_client_that_does_not_go_on_is_left(desk: StubDesk, sent: bytes) -> None:
    async with consent_endpoint(desk, connection_s=0.3) as port:
        assert await exchange(port, sent) == b""


async def test_client_that_sends_a_little_all_the_time_is_left(desk: StubDesk) -> None:
    async with consent_endpoint(desk, connection_s=0.3) as port, connection(port) as (reader, writer):
        writer.write(request()[:-2])
        reading = asyncio.create_task(_rest(reader))
        async with asyncio.timeout(LIMIT_S):
            while not reading.done():
                writer.write(b"X-A: b\r\n")
                await asyncio.wait([reading], timeout=0.05)
        assert reading.result() == b""


async def test_client_that_does_not_read_is_left(desk: StubDesk) -> None:
    """The answer fits into no buffer."""
    desk.shown = dataclasses.replace(desk.shown, scopes=("s" * 20_000_000,))
    async with consent_endpoint(desk, connection_s=0.5) as port, connection(port, limit=1024) as (_, writer):
        writer.write(request())
        async with asyncio.timeout(LIMIT_S):
            while not writer.is_closing():  # it is when the other side resets the connection
                writer.write(b"x")
                await asyncio.sleep(0.02)


async def test_connection_serves_one_request(port: int) -> None:
    answer = await exchange(port, request() * 20)
    assert answer.count(b"HTTP/1.1") == 1
    assert b"Connection: close" in answer


async def test_oldest_connection_makes_room(desk: StubDesk) -> None:
    async with consent_endpoint(desk, max_connections=4) as port, contextlib.AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(connection(port)) for _ in range(4)]
        assert status_of(await exchange(port, request())) == 200
        assert await asyncio.wait_for(_rest(idle[0][0]), LIMIT_S) == b""
        assert not idle[3][0].at_eof()


async def test_connections_that_ended_take_no_place(desk: StubDesk) -> None:
    async with consent_endpoint(desk, max_connections=2) as port, connection(port) as (reader, writer):
        for _ in range(5):
            assert status_of(await exchange(port, request())) == 200
        writer.write(request())
        assert status_of(await asyncio.wait_for(_rest(reader), LIMIT_S)) == 200


# --- odd ---

ODD: Final = {
    "another method": (request("PUT"), 405),
    "HEAD of what does something": (request("HEAD", CALLBACK), 405),
    "POST of the callback": (request("POST", CALLBACK), 405),
    "OPTIONS": (request("OPTIONS", "*"), 404),
    "TRACE": (request("TRACE"), 405),
    "no such page": (request("GET", "/"), 404),
    "no such flow": (request("GET", "/oauth2/result/../../x"), 404),
    "dots": (request("GET", "/oauth2/start/..%2f..%2fx/y"), 404),
    "a whole address": (request("GET", f"http://evil.example/{SECRET}"), 404),
    "long line": (request("GET", CALLBACK + "x" * MAX_HEADER_BYTES), 400),
    "long header": (request("GET", START, "X-A: " + "x" * (MAX_HEADER_BYTES + 1)), 400),
    "many headers": (request("GET", START, *(f"X-{number}: {SECRET}" for number in range(200))), 400),
    "no HTTP": (f"{SECRET}\r\n\r\n".encode(), 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SECRET.encode(), 400),
    "bad header": (request("GET", CALLBACK, f"{SECRET} no colon"), 400),
    "bad length": (request("POST", START, f"Content-Length: {SECRET}"), 400),
    "two lengths": (request("POST", START, "Content-Length: 3", "Transfer-Encoding: chunked"), 400),
    "bad host": (request("GET", f"http://[::{SECRET}/"), 400),
    "bad escape": (request("GET", f"/oauth2/result/%ff%00{SECRET}"), 404),
    "large form": (
        request("POST", START, "Content-Type: application/x-www-form-urlencoded", body=b"x" * (MAX_BODY_BYTES + 1)),
        413,
    ),
}


@pytest.mark.parametrize(("sent", "status"), ODD.values(), ids=ODD.keys())
async def test_odd_requests_get_plain_answers(
    port: int, desk: StubDesk, caplog: pytest.LogCaptureFixture, sent: bytes, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = await exchange(port, sent)
    assert status_of(answer) == status, answer
    assert SECRET.encode() not in answer
    assert b"Traceback" not in answer
    assert b"\r\nContent-Security-Policy: default-src 'none'" in answer
    assert b"\r\nCache-Control: no-store" in answer
    assert b"<h1>" in answer or sent.startswith(b"HEAD")
    assert SECRET not in caplog.text
    assert desk.accepted == []


URLENCODED: Final = "Content-Type: application/x-www-form-urlencoded"
MULTIPART: Final = "Content-Type: multipart/form-data"
PART: Final = b'--x\r\nContent-Disposition: form-data; name="token"\r\n'

UNREADABLE: Final = {
    "no such charset": ([f"{URLENCODED}; charset=klingon"], b"token=x"),
    "a charset that is no text's": ([f"{URLENCODED}; charset=hex"], b"token=x"),
    "not what its charset says": ([f"{URLENCODED}; charset=utf-16"], b"token=x"),
    "surrogates": ([f"{URLENCODED}; charset=utf-7"], b"token=+2AA-"),
    "no UTF-8": ([URLENCODED], b"token=\xff\xfe%ff"),
    "no gzip": ([URLENCODED, "Content-Encoding: gzip"], b"token=x"),
    "no boundary": ([MULTIPART], b"token=x"),
    "another boundary": ([f"{MULTIPART}; boundary=x"], b"token=x"),
    "a file": ([f"{MULTIPART}; boundary=x"], PART[:-2] + b'; filename="a"\r\n\r\nx\r\n--x--\r\n'),
    "a part without a charset": (
        [f"{MULTIPART}; boundary=x"],
        PART + b"Content-Type: text/plain; charset=klingon\r\n\r\nx\r\n--x--\r\n",
    ),
}


@pytest.mark.parametrize(("headers", "body"), UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_form_that_cannot_be_read_is_none(
    port: int, caplog: pytest.LogCaptureFixture, headers: list[str], body: bytes
) -> None:
    cookie = f"Cookie: {COOKIE}={'a' * 43}"
    assert status_of(await exchange(port, request("POST", START, *headers, cookie, body=body))) == 403
    assert caplog.records == [], "it is nothing that an administrator could mend"


async def test_other_methods_are_told_the_right_one(port: int) -> None:
    assert b"\r\nAllow: GET,HEAD,POST" in await exchange(port, request("PUT"))


async def test_head(port: int) -> None:
    answer = await exchange(port, request("HEAD"))
    assert status_of(answer) == 200
    assert answer.endswith(b"\r\n\r\n")


# --- broken ---


@pytest.mark.parametrize(
    ("method", "target"), [("settings", START), ("accept", CALLBACK), ("result", f"/oauth2/result/{FLOW}?{SECRET}")]
)
async def test_what_nobody_has_thought_of_shows_and_logs_nothing(
    port: int, desk: StubDesk, caplog: pytest.LogCaptureFixture, method: str, target: str
) -> None:
    caplog.set_level(logging.DEBUG)
    desk.faults[method] = ValueError(SECRET)
    answer = await exchange(port, request("GET", target))
    assert status_of(answer) == 500
    assert b"Something broke" in answer
    assert SECRET.encode() not in answer
    assert SECRET not in caplog.text
    assert "a consent page broke: ValueError at consent_desk.py:" in caplog.text
