"""Tenants are there and wait; the system's settings are created, and every tenant becomes ready."""

import time
from collections.abc import Sequence
from typing import Final

from bench import checks
from bench.audit import objects_of
from bench.benchmark import QUICK_TENANTS, Benchmark, Plan
from bench.result import Result
from bench.waves import WAVE_TIMEOUT_S, Waves
from bench.world import World, Worlds
from dev.audit import Write

NAME: Final = "first-sight"
AT_MOST: Final = 1.7


async def run(plan: Plan, world: Worlds) -> list[Result]:
    """Creates the system's settings, and takes them away again for the next round."""
    async with world() as place:
        await place.add_tenants(plan.tenants)
        waves = Waves(place)
        for _ in range(plan.rounds):
            await place.start_and_settle()
            if place.has_system:
                await _take_away(place)
            await _wave(place, waves, plan.tenants)
        return [waves.result(NAME, plan, at_most=AT_MOST)]


async def _wave(place: World, waves: Waves, tenants: int) -> None:
    async def begin() -> float:
        began = time.time()
        await place.add_system()
        return began

    def is_complete(writes: Sequence[Write]) -> bool:
        return objects_of(writes, "secrets") == objects_of(writes, "mailserversettings/status") == tenants

    async def check() -> None:
        await checks.delivered(place, place.sender, tenants)
        await checks.reported(place, place.sender, tenants)

    await waves.measure(begin, is_complete, check)


async def _take_away(place: World) -> None:
    place.audit.forget()
    await place.remove_system()
    await place.audit.settled(bool, timeout_s=WAVE_TIMEOUT_S)


BENCHMARK: Final = Benchmark(
    name=NAME,
    summary="tenants wait, the system's settings are created, and every tenant becomes ready",
    run=run,
    full=(Plan(1000, rounds=5),),
    quick=Plan(QUICK_TENANTS, rounds=2),
)
