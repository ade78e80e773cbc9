"""How many replicas a replica knows of, which its part of the rate limits depends on."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from mailsettings.edges.kubernetes import KubernetesApi
from mailsettings.edges.relay import kubernetes
from mailsettings.edges.relay.kubernetes import Replicas
from mailsettings.edges.relay.run import all_before


async def counted(monkeypatch: pytest.MonkeyPatch, *counts: int) -> Replicas:
    async def watch_replicas(*_: Any) -> AsyncIterator[int]:
        for count in counts:
            yield count

    monkeypatch.setattr(kubernetes, "watch_replicas", watch_replicas)
    replicas = Replicas(cast("KubernetesApi", None), "mailsettings-relay")
    await replicas.keep_counted()
    return replicas


@pytest.mark.parametrize(("counts", "ready"), [((3,), 3), ((3, 0), 3), ((3, 0, 2), 2), ((0,), 1), ((), 1)])
async def test_none_at_all_is_no_news(monkeypatch: pytest.MonkeyPatch, counts: tuple[int, ...], ready: int) -> None:
    replicas = await counted(monkeypatch, *counts)
    assert replicas.ready == ready
    assert replicas.counted.is_set() is bool(counts)


async def test_nothing_begins_before_all_is_known() -> None:
    listed, known, stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()
    beginning = asyncio.create_task(all_before([listed, known], stopped))
    listed.set()
    done, _ = await asyncio.wait([beginning], timeout=0.05)
    assert not done
    known.set()
    assert await beginning
    stopped.set()
    assert not await all_before([asyncio.Event()], stopped)
    assert not await all_before([], stopped)
