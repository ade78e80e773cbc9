"""`KubernetesApi` for a command that has no event loop."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

from mailsettings.edges.api_server import Json
from mailsettings.edges.kubernetes import KubernetesApi
from mailsettings.edges.kubernetes_light import REQUEST_TIMEOUT_S
from mailsettings.plugin.connection import Connection

T = TypeVar("T")


@contextmanager
def waiting(connecting: AbstractAsyncContextManager[Connection]) -> Iterator[tuple[Connection, "WaitingApi"]]:
    """A connection while the block runs, and its API as calls that wait.

    Raises:
        CommandError: What connecting raises.
    """
    with asyncio.Runner() as runner:
        connection = runner.run(connecting.__aenter__())
        try:
            yield connection, WaitingApi(connection.api, runner)
        finally:
            runner.run(_left(connecting))


async def _left(connecting: AbstractAsyncContextManager[Connection]) -> None:
    await connecting.__aexit__(None, None, None)


class WaitingApi:
    """An `ObjectApi`."""

    def __init__(self, api: KubernetesApi, runner: asyncio.Runner) -> None:
        self._api = api
        self._runner = runner

    def create(self, path: str, body: Json) -> Json:
        """As `KubernetesApi.create`."""
        return self._waited(lambda: self._api.create(path, body), REQUEST_TIMEOUT_S)

    def get(self, path: str, *, timeout_s: float = REQUEST_TIMEOUT_S) -> Json | None:
        """As `KubernetesApi.get`, with a bound in seconds."""
        return self._waited(lambda: self._api.get(path), timeout_s)

    def delete(self, path: str, *, uid: str, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        """As `KubernetesApi.delete`, with a bound in seconds."""
        self._waited(lambda: self._api.delete(path, uid=uid), timeout_s)

    def watch_object(
        self, collection: str, name: str, *, resource_version: str, timeout_s: float
    ) -> Iterator[tuple[str, Json]]:
        """As `LightApi.watch_object`."""
        until_s = time.monotonic() + timeout_s
        events = self._api.watch_object(
            collection, name, resource_version=resource_version, timeout_seconds=math.ceil(timeout_s)
        )
        while (event := self._waited(lambda: anext(events, None), until_s - time.monotonic())) is not None:
            yield event

    def _waited(self, call: Callable[[], Awaitable[T]], timeout_s: float) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(timeout_s):
                return await call()

        return self._runner.run(bounded())
