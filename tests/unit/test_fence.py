"""Writes end where the Lease does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
from aiohttp import web

from mailsettings.edges.fence import Fence, FencedError
from mailsettings.edges.kubernetes import Access, KubernetesApi
from tests.support.listening import LOOPBACK

LIMIT_S = 30.0
PATH = "/api/v1/namespaces/shop/secrets"


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.asked = 0
        self.when_asked: Callable[[int], None] = lambda _: None

    def __call__(self) -> float:
        self.asked += 1
        self.when_asked(self.asked)
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def fence(clock: Clock) -> Fence:
    return Fence(write_limit_s=LIMIT_S, now_s=clock)


async def test_it_is_open_up_to_a_moment(fence: Fence, clock: Clock) -> None:
    assert not fence.is_open
    assert fence.open_until(110)
    assert fence.is_open
    assert fence.open_until(120)
    clock.now_s = 119
    assert fence.is_open
    clock.now_s = 120
    assert not fence.is_open


async def test_once_run_out_it_stays_so(fence: Fence, clock: Clock) -> None:
    fence.open_until(110)
    clock.now_s = 110
    assert not fence.open_until(120)
    assert not fence.is_open


async def test_once_it_has_refused_a_write_it_stays_so(fence: Fence, clock: Clock) -> None:
    """Also where the clock is read anew: what was refused has ended."""
    fence.open_until(110)
    clock.now_s = 110
    with pytest.raises(FencedError):
        fence.check()
    clock.now_s = 109
    assert not fence.open_until(120)


async def test_it_may_be_opened_after_it_has_refused_what_came_too_early(fence: Fence) -> None:
    with pytest.raises(FencedError):
        fence.check()
    assert fence.open_until(110)


async def test_once_shut_it_stays_so(fence: Fence) -> None:
    fence.open_until(110)
    fence.shut()
    fence.open_until(120)
    assert not fence.is_open


async def test_whoever_may_not_write_ends_and_does_not_try_again(fence: Fence) -> None:
    tried = 0

    async def write() -> None:
        nonlocal tried
        while True:
            tried += 1
            with contextlib.suppress(Exception):
                fence.check()

    task = asyncio.create_task(write())
    await asyncio.wait({task})
    assert task.cancelled()
    assert tried == 1


async def test_it_is_quiet_when_what_has_begun_has_ended(fence: Fence) -> None:
    fence.open_until(110)
    with fence.writing():
        fence.shut()
        waiting = asyncio.create_task(fence.wait_until_quiet())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def test_it_does_not_wait_for_longer_than_a_write_may_take(clock: Clock) -> None:
    fence = Fence(write_limit_s=0.01, now_s=clock)
    fence.open_until(110)
    with fence.writing():
        await fence.wait_until_quiet()


# --- in front of the API server ---


class Server:
    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        return web.json_response({"metadata": {}})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    serving, application = Server(), web.Application()
    application.router.add_route("*", "/{rest:.*}", serving.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    serving.port = runner.addresses[0][1]
    yield serving
    await runner.cleanup()


async def no_credentials() -> Mapping[str, str]:
    return {}


@pytest.fixture
async def api(server: Server, fence: Fence) -> AsyncIterator[KubernetesApi]:
    async with KubernetesApi(
        Access(f"http://{LOOPBACK}:{server.port}", None, no_credentials), fence=fence
    ) as connection:
        yield connection


async def test_no_kind_of_write_passes_a_closed_fence(api: KubernetesApi, server: Server) -> None:
    for write in (
        lambda: api.create(PATH, {}),
        lambda: api.apply(PATH, {}, force=True),
        lambda: api.merge(PATH, {}),
        lambda: api.remove(PATH, [], resource_version="1"),
        lambda: api.delete(PATH, uid="1"),
    ):
        with pytest.raises(FencedError):
            await write()
    assert server.requests == []
    await api.get(PATH)
    await api.merge(PATH, {}, fenced=False)
    await api.create(PATH, {}, fenced=False)
    assert [request.method for request in server.requests] == ["GET", "PATCH", "POST"]


async def test_api_server_is_told_how_long_a_write_may_take(api: KubernetesApi, server: Server, fence: Fence) -> None:
    fence.open_until(110)
    await api.merge(PATH, {})
    await api.get(PATH)
    assert [request.query.get("timeout") for request in server.requests] == ["30s", None]


@pytest.mark.parametrize("is_new", [True, False])
async def test_it_is_asked_again_right_before_anything_is_sent(
    api: KubernetesApi, server: Server, fence: Fence, clock: Clock, *, is_new: bool
) -> None:
    """It may have been waited for, or the process may have stood still meanwhile."""
    if not is_new:
        await api.get(PATH)
        server.requests.clear()
    fence.open_until(110)

    def stand_still(asked: int) -> None:
        clock.now_s = 100 if asked == 1 else 120

    clock.when_asked = stand_still
    with pytest.raises(FencedError):
        await api.merge(PATH, {})
    assert clock.asked >= 2
    assert server.requests == []
