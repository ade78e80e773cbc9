"""A new tenant with a server of its own: from the apply until it is ready, in the midst of fan-outs to many others."""

import asyncio
from typing import Final

from bench import objects
from bench.audit import to
from bench.benchmark import QUICK_TENANTS, Benchmark, Plan
from bench.newcomers import Arrivals, bare_sum_s, slowness
from bench.progress import say
from bench.result import Result, quantile
from bench.world import World, Worlds

NAME: Final = "apply-during-fan-out"
AT_MOST_S: Final = 1.0
"""The 99th percentile."""
NEWCOMERS_A_ROUND: Final = 40
PAUSE_S: Final = 0.05
"""Between one look whether a fan-out has ended and the next."""


async def run(plan: Plan, world: Worlds) -> list[Result]:
    """Changes the system's settings again and again while newcomers come."""
    ours: list[float] = []
    floor: list[float] = []
    async with world() as place:
        await place.add_tenants(plan.tenants)
        await place.add_system()
        names = await place.add_newcomers(NEWCOMERS_A_ROUND * plan.rounds)
        for first in range(0, len(names), NEWCOMERS_A_ROUND):
            batch = names[first : first + NEWCOMERS_A_ROUND]
            await place.start_and_settle()
            place.audit.forget()
            arrivals = Arrivals()
            async with arrivals.watching(place.admin):
                changing = asyncio.create_task(_change(place, plan.tenants))
                ours += [await arrivals.apply(place, name) for name in batch]
                changing.cancel()
                await asyncio.gather(changing, return_exceptions=True)
            writes = await place.audit.settled(bool, timeout_s=120)
            rss = place.rss_mb()
            place.stop()
            floor += [await bare_sum_s(place, name, writes) for name in batch]
            say(f"  ours p50 {quantile(ours, 0.5):.3f} s, p99 {quantile(ours, 0.99):.3f} s")
    return [
        Result(
            name=NAME,
            tenants=plan.tenants,
            ours_s=quantile(ours, 0.99),
            floor_s=quantile(floor, 0.99),
            rss_mb=rss,
            writes=len(writes),
            share=quantile(ours, 0.99) / AT_MOST_S,
            about="p99",
            slowness=slowness(floor),
        )
    ]


async def _change(place: World, tenants: int) -> None:
    """One fan-out after the other."""
    number = ended = 0
    while True:
        if ended == number * tenants:
            number += 1
            await place.change_system()
        await asyncio.sleep(PAUSE_S)
        ended = sum(write.namespace.startswith(objects.TENANT_PREFIX) for write in to(place.audit.writes, "secrets"))


BENCHMARK: Final = Benchmark(
    name=NAME,
    summary="a new tenant with a server of its own: from the apply until it is ready, during fan-outs to the others",
    run=run,
    full=(Plan(1000, rounds=3),),
    quick=Plan(QUICK_TENANTS, rounds=1),
)
