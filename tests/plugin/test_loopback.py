"""The port of this machine that takes the provider's answer."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing

import aiohttp
import pytest

from mailsettings.core.oauth2.consent import ConsentKey
from mailsettings.plugin.authorize.answer import Answer
from mailsettings.plugin.authorize.loopback import MAX_LINE_BYTES, Listener, answers, listen
from mailsettings.plugin.command import CommandError

STATE = "the-state"
GOOD = f"code=the-code&state={STATE}"


@pytest.fixture
def listener() -> Iterator[Listener]:
    with closing(listen(None)) as listener:
        yield listener


@asynccontextmanager
async def serving(listener: Listener, path: str = "") -> AsyncIterator[tuple[str, "asyncio.Future[Answer]"]]:
    uri = f"http://127.0.0.1:{listener.port}{path}"
    async with answers(listener, uri, STATE) as answer:
        yield uri, answer


async def get(url: str, method: str = "GET") -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.request(method, url) as response:
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
        return response.status, await response.text()


async def raw(listener: Listener, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(request)
    with closing(writer):
        return await reader.read()


async def test_the_answer_arrives_and_the_page_says_what_to_do(listener: Listener) -> None:
    async with serving(listener) as (uri, answer):
        status, page = await get(f"{uri}/?{GOOD}")
        assert status == 200
        assert "You can close this window; go back to the terminal." in page
        assert "the-code" not in page
        assert STATE not in page
        assert await answer == {ConsentKey.CODE: "the-code", ConsentKey.STATE: STATE}


async def test_an_error_is_an_answer_too(listener: Listener) -> None:
    async with serving(listener) as (uri, answer):
        status, page = await get(f"{uri}/?error=access_denied&error_description=%3Cb%3E&state={STATE}")
        assert status == 200
        assert "No consent was given" in page
        assert "<b>" not in page
        assert (await answer)[ConsentKey.ERROR] == "access_denied"


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        (f"/other?{GOOD}", "GET", 404),
        ("/favicon.ico", "GET", 404),
        (f"/?{GOOD}", "POST", 405),
        (f"/?{GOOD}", "HEAD", 405),
        ("/", "GET", 400),
        ("/?code=the-code", "GET", 400),
        ("/?code=the-code&state=other", "GET", 400),
        (f"/?state={STATE}", "GET", 400),
        (f"/?{GOOD}&code=other", "GET", 400),
    ],
)
async def test_anything_else_does_not_end_the_attempt(listener: Listener, path: str, method: str, status: int) -> None:
    async with serving(listener) as (uri, answer):
        assert (await get(f"{uri}{path}", method))[0] == status
        assert not answer.done()
        assert (await get(f"{uri}/?{GOOD}"))[0] == 200
        assert answer.done()


async def test_only_the_path_of_the_redirect_uri_is_served(listener: Listener) -> None:
    async with serving(listener, "/some/call%20back") as (uri, answer):
        root = f"http://127.0.0.1:{listener.port}"
        assert (await get(f"{root}/?{GOOD}"))[0] == 404
        assert not answer.done()
        assert (await get(f"{uri}?{GOOD}"))[0] == 200
        assert answer.done()


async def test_the_first_answer_counts(listener: Listener) -> None:
    async with serving(listener) as (uri, answer):
        await get(f"{uri}/?{GOOD}")
        assert (await get(f"{uri}/?code=second&state={STATE}"))[0] == 200
        assert (await answer)[ConsentKey.CODE] == "the-code"


async def test_huge_and_broken_requests_are_refused_and_nothing_is_logged(
    listener: Listener, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(listener) as (uri, answer):
        huge = b"x" * (2 * MAX_LINE_BYTES)
        for request in (
            f"GET /?{GOOD}&x=".encode() + huge + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            f"GET /?{GOOD} HTTP/1.1\r\nHost: x\r\nA: ".encode() + huge + b"\r\n\r\n",
            b"GET /?code=the-code nonsense\r\n\r\n",
            b"\x16\x03\x01the-code\r\n\r\n",
        ):
            assert b" 400 " in (await raw(listener, request)).split(b"\r\n")[0]
        assert not answer.done()
        assert (await get(f"{uri}/?{GOOD}"))[0] == 200
    told = capfd.readouterr()
    assert "the-code" not in told.out + told.err + caplog.text


async def test_it_listens_on_this_machine_only_by_both_addresses(listener: Listener) -> None:
    hosts = [each.getsockname()[0] for each in listener.sockets]
    assert hosts in (["127.0.0.1", "::1"], ["127.0.0.1"])
    async with serving(listener) as (_, answer):
        host = hosts[-1] if ":" not in hosts[-1] else f"[{hosts[-1]}]"
        assert (await get(f"http://{host}:{listener.port}/?{GOOD}"))[0] == 200
        assert answer.done()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", listener.port), timeout=5)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_somebody_else_has_at_either_address_is_not_used(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        other = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip("there is no IPv6 here")
    with closing(other), pytest.raises(CommandError, match=r"The port \d+ of this machine cannot be used") as caught:
        listen(other.getsockname()[1])
    assert caught.value.reason == "PortUnavailable"
