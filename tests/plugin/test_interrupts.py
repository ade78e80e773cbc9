"""How a command without an event loop is interrupted, and what it does with a connection of the official client's."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from mailsettings.edges.kubernetes import Json, KubernetesApi
from mailsettings.plugin.connection import Connection
from mailsettings.plugin.signals import interrupted_by_signals
from mailsettings.plugin.waiting import waiting

EVENT: tuple[str, Json] = ("MODIFIED", {"metadata": {"name": "a"}})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_first_signal_interrupts_and_those_that_follow_find_the_tidying_up(number: signal.Signals) -> None:
    before, tidied = signal.getsignal(number), False
    with interrupted_by_signals():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        tidied = True
    assert tidied
    assert signal.getsignal(number) is before


class Remote:
    """Sends one event and then none."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_open = True

    async def create(self, path: str, body: Json) -> Json:
        self.asked.append(f"create {path}")
        return body

    async def get(self, path: str) -> Json | None:
        self.asked.append(f"get {path}")
        await asyncio.Event().wait()
        return None

    async def delete(self, path: str, *, uid: str) -> None:
        self.asked.append(f"delete {path} {uid}")

    async def watch_object(self, *_: Any, **__: Any) -> AsyncIterator[tuple[str, Json]]:
        yield EVENT
        await asyncio.Event().wait()


@asynccontextmanager
async def connecting(remote: Remote) -> AsyncIterator[Connection]:
    yield Connection(cast("KubernetesApi", remote), "shop")
    remote.is_open = False


def test_official_client_is_waited_for_and_no_longer_than_is_wanted() -> None:
    remote = Remote()
    with waiting(connecting(remote)) as (connection, api):
        assert connection.namespace == "shop"
        assert api.create("/a", {"x": 1}) == {"x": 1}
        with pytest.raises(TimeoutError):
            api.get("/a", timeout_s=0.01)
        events = api.watch_object("/a", "a", resource_version="1", timeout_s=0.2)
        assert next(events) == EVENT
        with pytest.raises(TimeoutError):
            next(events)
        api.delete("/a", uid="u")
        assert remote.is_open
    assert not remote.is_open
    assert remote.asked == ["create /a", "get /a", "delete /a u"]


def test_signal_interrupts_the_official_client_which_can_still_tidy_up() -> None:
    remote = Remote()
    with interrupted_by_signals(), waiting(connecting(remote)) as (_, api):
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            api.get("/a", timeout_s=30)
        api.delete("/a", uid="u")
        timer.join()
    assert remote.asked == ["get /a", "delete /a u"]
    assert not remote.is_open
