"""What a replica waits for before it acts, and what ends it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from aiohttp import web

from mailsettings.config import Config
from mailsettings.controller import barrier
from mailsettings.controller.queue import WorkerEndedError
from mailsettings.controller.run import _Operator
from mailsettings.core.digest import Digester
from mailsettings.core.lease import Lease
from mailsettings.edges.fence import Fence
from mailsettings.edges.kubernetes import MAX_CONNECTIONS, Access, KubernetesApi, core_collection_path
from mailsettings.edges.lease import HeldLease, LeaseStore
from tests.support.listening import LOOPBACK

HANG_S: Final = 60.0
NAMESPACES: Final = core_collection_path("namespaces")


def shop(version: int, plan: str) -> dict[str, Any]:
    return {"metadata": {"name": "shop", "uid": "u", "resourceVersion": str(version), "labels": {"plan": plan}}}


@dataclass
class Server:
    """Knows one namespace, whose changes its watches tell when they are let, and hangs on `/hang`."""

    namespace: dict[str, Any] = field(default_factory=lambda: shop(1, "old"))
    telling: asyncio.Event = field(default_factory=asyncio.Event)
    lists: int = 0
    hanging: int = 0
    port: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/hang":
            self.hanging += 1
            await self._notify()
            await asyncio.Event().wait()
        if request.query.get("watch") == "true":
            return await self._watch(request)
        if request.method == "PATCH":
            return web.json_response({"metadata": {"uid": "l", "resourceVersion": "2"}, "spec": {}})
        items = []
        if request.path == NAMESPACES:
            items = [self.namespace]
            self.lists += 1
            await self._notify()
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await self.telling.wait()
        await response.write(json.dumps({"type": "MODIFIED", "object": self.namespace}).encode() + b"\n")
        await asyncio.Event().wait()
        return response

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def until_listed(self, times: int) -> None:
        async with asyncio.timeout(HANG_S), self.changed:
            await self.changed.wait_for(lambda: self.lists >= times)

    async def until_hanging(self, number: int) -> None:
        async with asyncio.timeout(HANG_S), self.changed:
            await self.changed.wait_for(lambda: self.hanging >= number)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    serving, application = Server(), web.Application()
    application.router.add_route("*", "/{rest:.*}", serving.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    serving.port = runner.addresses[0][1]
    yield serving
    await runner.cleanup()


async def no_credentials() -> Mapping[str, str]:
    return {}


@pytest.fixture
def access(server: Server) -> Access:
    return Access(f"http://{LOOPBACK}:{server.port}", None, no_credentials)


@pytest.fixture
async def fence() -> Fence:
    return Fence(write_limit_s=1)


@pytest.fixture
async def operator(access: Access, fence: Fence) -> AsyncIterator[_Operator]:
    async with KubernetesApi(access, fence=fence) as api, LeaseStore(access, "system", "lease") as leases:
        yield _Operator(api, leases, Config(), Digester(b"k" * 32), fence, asyncio.Event())


@contextlib.asynccontextmanager
async def background(*tasks: asyncio.Task[Any]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_nothing_is_decided_by_labels_that_a_namespace_had_before(
    operator: _Operator, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its labels say whether it may have the system's settings."""
    monkeypatch.setattr(barrier, "RECHECK_SECONDS", 0.01)
    namespaces = operator._store.namespaces
    async with background(asyncio.create_task(operator._watch_namespaces())), asyncio.timeout(HANG_S):
        await operator._see_everything()
        assert namespaces["shop"].labels == {"plan": "old"}
        server.namespace = shop(2, "new")
        again = asyncio.create_task(operator._see_everything())
        async with background(again):
            await server.until_listed(server.lists + 3)
            assert not again.done()
            server.telling.set()
            await again
            assert namespaces["shop"].labels == {"plan": "new"}


async def test_worker_that_ends_by_itself_shuts_the_fence(
    operator: _Operator, fence: Fence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Lease is then not kept any more, and what is under way is still stored."""

    async def end() -> None:
        raise ExceptionGroup("work", [WorkerEndedError("over")])

    monkeypatch.setattr(operator, "_take_over", end)
    fence.open_until(float("inf"))
    await operator._act()
    assert not fence.is_open


async def test_renewal_waits_for_nothing_else_that_is_asked_of_the_api_server(access: Access, server: Server) -> None:
    held = HeldLease("l", "1", Lease.of({}))
    async with KubernetesApi(access) as api, LeaseStore(access, "system", "lease") as leases:
        asked = [asyncio.create_task(api.get("/hang")) for _ in range(MAX_CONNECTIONS)]
        async with background(*asked), asyncio.timeout(HANG_S):
            await server.until_hanging(MAX_CONNECTIONS)
            assert (await leases.write(held, {})).resource_version == "2"
