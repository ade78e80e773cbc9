"""Nothing is decided before everything that exists has been seen once."""

import asyncio

from mailsettings.controller.barrier import Barrier
from mailsettings.controller.keys import Kind

KINDS = (Kind.CLUSTER, Kind.TENANT)


async def is_open(barrier: Barrier) -> bool:
    waiting = asyncio.create_task(barrier.wait())
    await asyncio.sleep(0)
    opened = waiting.done()
    waiting.cancel()
    return opened


async def test_it_opens_when_all_kinds_are_listed_and_seen_in_whatever_order() -> None:
    barrier = Barrier(KINDS)
    barrier.saw(Kind.TENANT, "early")
    barrier.listed(Kind.TENANT, ["early", "late"])
    barrier.saw(Kind.TENANT, "late")
    assert not await is_open(barrier)
    barrier.listed(Kind.CLUSTER, ["system"])
    assert not await is_open(barrier)
    barrier.saw(Kind.CLUSTER, "system")
    assert await is_open(barrier)


async def test_an_empty_cluster_is_seen_at_once() -> None:
    barrier = Barrier(KINDS)
    for kind in KINDS:
        barrier.listed(kind, [])
    assert await is_open(barrier)


async def test_what_has_gone_in_the_meantime_is_not_awaited() -> None:
    barrier = Barrier([Kind.TENANT])
    barrier.listed(Kind.TENANT, ["gone", "unlisted", "seen"])
    barrier.saw(Kind.TENANT, "seen")
    barrier.saw(Kind.TENANT, "gone")
    assert not await is_open(barrier)
    barrier.listed(Kind.TENANT, ["seen"])
    assert await is_open(barrier)
    barrier.listed(Kind.TENANT, ["new"])
    assert await is_open(barrier)
