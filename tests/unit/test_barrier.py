"""Nothing is decided before everything has been seen, as it is now."""

import asyncio

import pytest

from mailsettings.controller import barrier as module
from mailsettings.controller.barrier import Barrier, Versions


async def waiting(barrier: Barrier, versions: Versions) -> asyncio.Task[None]:
    async def list_versions() -> Versions:
        return dict(versions)

    task = asyncio.create_task(barrier.wait(list_versions))
    for _ in range(3):
        await asyncio.sleep(0)
    return task


async def test_it_opens_when_all_has_been_seen() -> None:
    barrier = Barrier()
    barrier.saw("a", 1)
    task = await waiting(barrier, {"a": 1, "b": 2})
    assert not task.done()
    barrier.saw("c", 3)
    assert not task.done()
    barrier.saw("b", 2)
    await task


async def test_nothing_has_to_be_seen_where_nothing_is() -> None:
    await (await waiting(Barrier(), {}))


async def test_old_version_is_not_enough() -> None:
    """As at a takeover: another replica has written it a moment ago."""
    barrier = Barrier()
    barrier.saw("a", 1)
    await (await waiting(barrier, {"a": 1}))
    task = await waiting(barrier, {"a": 5})
    barrier.saw("a", 4)
    await asyncio.sleep(0)
    assert not task.done()
    barrier.saw("a", 6)
    await task


async def test_what_is_gone_is_not_waited_for() -> None:
    barrier = Barrier()
    task = await waiting(barrier, {"a": 1, "b": 1})
    barrier.gone("a")
    barrier.saw("b", 1)
    await task


async def test_what_went_unnoticed_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECHECK_SECONDS", 0.01)
    versions = {"a": 1}
    task = await waiting(Barrier(), versions)
    await asyncio.sleep(0.03)
    assert not task.done()
    versions.clear()
    await task


async def test_it_keeps_nothing_when_nobody_waits_any_more() -> None:
    barrier = Barrier()
    barrier.saw("a", 1)
    barrier.forget()
    barrier.saw("b", 1)
    barrier.gone("a")
    assert barrier._seen is None
