"""The watch of metadata, against a real HTTP server that behaves as API servers do on bad days."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
import pytest
from aiohttp import web

from mailsettings.edges import kubernetes
from mailsettings.edges import metadata_watch as module
from mailsettings.edges.kubernetes import Access, KubernetesApi
from mailsettings.edges.metadata_watch import Changed, Deleted, Event, Listed, Metadata, deletions, watch

LOGGER = logging.getLogger("test")
PATH = "/api/v1/secrets"

T = TypeVar("T")
Serve = Callable[[web.StreamResponse], Awaitable[None]]


def metadata(name: str, version: int) -> dict[str, Any]:
    return {"name": name, "namespace": "shop", "uid": name, "resourceVersion": str(version)}


def line(kind: str, name: str, version: int) -> bytes:
    return json.dumps({"type": kind, "object": {"metadata": metadata(name, version)}}).encode() + b"\n"


def error(code: int, reason: str) -> bytes:
    return json.dumps({"type": "ERROR", "object": {"code": code, "reason": reason, "message": "x"}}).encode() + b"\n"


def send(*lines: bytes) -> Serve:
    """Sends this and ends the watch in order."""

    async def serve(response: web.StreamResponse) -> None:
        for each in lines:
            await response.write(each)

    return serve


def send_and_break(*lines: bytes) -> Serve:
    """Sends this and breaks the connection."""

    async def serve(response: web.StreamResponse) -> None:
        await send(*lines)(response)
        assert response._req is not None
        assert response._req.transport is not None
        response._req.transport.abort()

    return serve


def send_and_hang(*lines: bytes) -> Serve:
    """Sends this and then nothing more."""

    async def serve(response: web.StreamResponse) -> None:
        await send(*lines)(response)
        await asyncio.sleep(3600)

    return serve


@dataclass(frozen=True)
class Refuse:
    """Answers the request with an error instead of a watch."""

    status: int
    body: str = "{}"


@dataclass
class Server:
    """Answers lists with `items`, and one watch after the other as the script says; the last one hangs."""

    script: list[Serve | Refuse]
    items: list[dict[str, Any]] = field(default_factory=list)
    version: int = 10
    lists: int = 0
    pages: list[str] = field(default_factory=list)
    watched_from: list[str] = field(default_factory=list)
    list_failures: list[tuple[int, str]] = field(default_factory=list)
    accepts: set[str] = field(default_factory=set)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.accepts.add(request.headers["Accept"])
        if request.query.get("watch") != "true":
            return self._list(request)
        self.watched_from.append(request.query["resourceVersion"])
        step = len(self.watched_from) - 1
        serve = self.script[step] if step < len(self.script) else send_and_hang()
        if isinstance(serve, Refuse):
            return web.Response(status=serve.status, text=serve.body)
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await serve(response)
        return response

    def _list(self, request: web.Request) -> web.Response:
        self.lists += 1
        if self.list_failures:
            status, text = self.list_failures.pop(0)
            return web.Response(status=status, text=text)
        limit, begin = int(request.query["limit"]), int(request.query.get("continue", "0"))
        self.pages.append(request.query.get("continue", ""))
        page = self.items[begin : begin + limit]
        token = str(begin + limit) if begin + limit < len(self.items) else ""
        document = {
            "metadata": {"resourceVersion": str(self.version), "continue": token},
            "items": [{"metadata": item} for item in page],
        }
        return web.json_response(document)


def whole(metadata: Metadata) -> Metadata:
    return metadata


async def no_credentials() -> Mapping[str, str]:
    return {}


@contextlib.asynccontextmanager
async def connected(server: Server) -> AsyncIterator[KubernetesApi]:
    application = web.Application()
    application.router.add_get(PATH, server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    access = Access(f"http://127.0.0.1:{runner.addresses[0][1]}", None, no_credentials)
    try:
        async with KubernetesApi(access) as api:
            yield api
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def watching(server: Server) -> AsyncIterator[AsyncIterator[Event[Metadata]]]:
    """The events of a watch of the server."""
    async with connected(server) as api, aclosing(watch(api, PATH, LOGGER, record=whole)) as events:
        yield events


@contextlib.asynccontextmanager
async def aclosing(iterator: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """`contextlib.aclosing` for what is a generator without saying so."""
    assert isinstance(iterator, AsyncGenerator)
    async with contextlib.aclosing(iterator):
        yield iterator


async def take(events: AsyncIterator[T], number: int) -> list[T]:
    async with asyncio.timeout(10):
        return [await anext(events) for _ in range(number)]


A10, A11, A12, B11 = metadata("a", 10), metadata("a", 11), metadata("a", 12), metadata("b", 11)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.01)


async def test_everything_there_is_and_then_every_change() -> None:
    lines = line("ADDED", "b", 11), line("BOOKMARK", "", 15), line("MODIFIED", "a", 12), line("DELETED", "a", 13)
    server = Server([send_and_hang(*lines)], items=[A10])
    async with watching(server) as events:
        assert await take(events, 4) == [Listed([A10]), Changed(B11), Changed(A12), Deleted(metadata("a", 13))]
    assert server.watched_from == ["10"]
    assert all("PartialObjectMetadata" in accept for accept in server.accepts)


async def test_long_lists_come_in_pages() -> None:
    items = [metadata(f"s{number}", number) for number in range(1201)]
    server = Server([], items=items)
    async with watching(server) as events:
        assert await take(events, 1) == [Listed(items)]
    assert server.pages == ["", "500", "1000"]


async def test_a_list_that_expires_between_two_pages_begins_anew() -> None:
    server = Server([], items=[A10], list_failures=[(410, '{"reason": "Expired"}')])
    async with watching(server) as events:
        assert await take(events, 1) == [Listed([A10])]


ENDS = {
    "in order": send(line("MODIFIED", "a", 11)),
    "with a reset": send_and_break(line("MODIFIED", "a", 11)),
    "in the middle of a line": send_and_break(line("MODIFIED", "a", 11), b'{"type": "MODI'),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_a_watch_that_ends_goes_on_from_where_it_was(end: Serve) -> None:
    server = Server([end, send_and_hang(line("MODIFIED", "a", 12))], items=[A10])
    async with watching(server) as events:
        assert await take(events, 3) == [Listed([A10]), Changed(A11), Changed(A12)]
    assert (server.lists, server.watched_from) == (1, ["10", "11"])


async def test_a_bookmark_moves_on_where_it_goes_on() -> None:
    server = Server([send(line("BOOKMARK", "", 20)), send_and_hang(line("ADDED", "b", 21))])
    async with watching(server) as events:
        await take(events, 2)
    assert server.watched_from == ["10", "20"]


LOST = {
    "the version is too old": send(error(410, "Expired")),
    "the version is too old at once": Refuse(410, '{"reason": "Expired"}'),
    "the version is not known yet": Refuse(504, '{"reason": "Timeout", "message": "Too large resource version"}'),
    "another error": send(error(500, "InternalError")),
    "garbage": send_and_hang(b"<html>502 Bad Gateway</html>\n"),
    "half a line": send(b'{"type": "MODIFIED", "object": {"meta'),
    "not an event": send_and_hang(b"[1, 2]\n"),
    "no metadata": send_and_hang(b'{"type": "ADDED", "object": {}}\n'),
    "binary garbage": send_and_hang(b"\xff\xfe\0\n"),
    "not JSON": Refuse(502, "<html>"),
    "an endless line": send(b"x" * (1 << 23)),
}


@pytest.mark.parametrize("serve", LOST.values(), ids=LOST)
async def test_when_changes_may_have_been_missed_everything_is_listed_anew(serve: Serve | Refuse) -> None:
    server = Server([serve, send_and_hang(line("MODIFIED", "a", 12))], items=[A10])
    async with watching(server) as events:
        assert await take(events, 1) == [Listed([A10])]
        server.items, server.version = [B11], 11
        assert await take(events, 2) == [Listed([B11]), Changed(A12)]
    assert server.watched_from == ["10", "11"]


async def test_trouble_with_the_list_is_waited_out() -> None:
    failures = [(500, "{}"), (200, "<html>"), (200, "[]"), (200, '{"metadata": {}}'), (429, '{"reason": "x"}')]
    server = Server([], items=[A10], list_failures=failures)
    async with watching(server) as events:
        assert await take(events, 1) == [Listed([A10])]
    assert server.lists == 6


async def test_a_server_that_falls_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "WATCH_TIMEOUT", aiohttp.ClientTimeout(total=None, sock_read=0.2))
    server = Server([send_and_hang(line("MODIFIED", "a", 11)), send_and_hang(line("MODIFIED", "a", 12))], items=[A10])
    async with watching(server) as events:
        assert await take(events, 3) == [Listed([A10]), Changed(A11), Changed(A12)]
    assert server.watched_from[:2] == ["10", "11"]


@pytest.mark.parametrize("serve", [send(), send(error(410, "Expired")), send_and_break(), Refuse(500)])
async def test_a_server_that_ends_every_watch_at_once_is_not_flooded(
    serve: Serve | Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.2)
    server = Server([serve] * 10_000, items=[A10])
    async with watching(server) as events:

        async def consume() -> None:
            async for _ in events:
                pass

        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(consume(), 1)
    assert 1 < len(server.watched_from) <= 11  # the first pauses are of 0.1 s at least


async def test_pauses_grow_while_it_fails_and_are_short_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def record(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    broken = [send_and_break()] * 12
    server = Server([*broken, send(line("MODIFIED", "a", 11)), send_and_hang(line("MODIFIED", "a", 12))], items=[A10])
    monkeypatch.setattr("mailsettings.edges.metadata_watch.asyncio.sleep", record)
    async with watching(server) as events:
        await take(events, 3)
    first, last = module.FIRST_RETRY_SECONDS, module.LAST_RETRY_SECONDS
    pauses = [pause for pause in pauses if pause < 100]
    for number, pause in enumerate(pauses[:12]):
        full = min(last, first * 2**number)
        assert full / 2 <= pause <= full
    assert pauses[12] <= first


async def test_deletions_are_told_also_when_they_were_not_watched() -> None:
    lines = line("ADDED", "b", 11), line("MODIFIED", "c", 12), line("DELETED", "c", 13)
    server = Server([send(*lines, error(410, "Expired")), send_and_hang()], items=[A10, metadata("c", 9)])

    def uids(gone: list[Metadata]) -> list[str]:
        return [each["uid"] for each in gone]

    async with connected(server) as api, aclosing(deletions(api, PATH, LOGGER)) as gone:
        assert uids(await take(gone, 1)) == ["c"]
        server.items = [metadata("a", 14)]
        assert await take(gone, 1) == [{"namespace": "shop", "name": "b", "uid": "b"}]


async def test_an_object_that_was_replaced_unwatched_was_deleted() -> None:
    server = Server([], items=[A10])

    async def expire(response: web.StreamResponse) -> None:
        server.items = [{**A11, "uid": "another"}]
        await response.write(error(410, "Expired"))

    server.script = [expire]
    async with connected(server) as api, aclosing(deletions(api, PATH, LOGGER)) as gone:
        assert [each["uid"] for each in await take(gone, 1)] == ["a"]
