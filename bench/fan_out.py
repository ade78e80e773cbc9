"""A change of the system's settings reaches the Secret and the status of every tenant that inherits."""

from collections.abc import Sequence
from typing import Final

from bench import checks
from bench.audit import objects_of
from bench.benchmark import QUICK_TENANTS, Benchmark, Plan
from bench.result import Result
from bench.waves import Waves
from bench.world import World, Worlds
from dev.audit import Write

NAME: Final = "fan-out"
AT_MOST: Final = 1.5


async def run(plan: Plan, world: Worlds) -> list[Result]:
    """Changes the sender and waits until everybody has it."""
    async with world() as place:
        await place.add_tenants(plan.tenants)
        await place.add_system()
        waves = Waves(place)
        for _ in range(plan.rounds):
            await place.start_and_settle()
            await _wave(place, waves, plan.tenants)
        return [waves.result(NAME, plan, at_most=AT_MOST)]


async def _wave(place: World, waves: Waves, tenants: int) -> None:
    def is_complete(writes: Sequence[Write]) -> bool:
        return objects_of(writes, "secrets") == objects_of(writes, "mailserversettings/status") == tenants

    async def check() -> None:
        await checks.delivered(place, place.sender, tenants)
        await checks.reported(place, place.sender, tenants)

    await waves.measure(place.change_system, is_complete, check)


BENCHMARK: Final = Benchmark(
    name=NAME,
    summary="a change of the system's settings reaches the Secrets and statuses of tenants that inherit",
    run=run,
    full=(Plan(1000, rounds=5), Plan(5000, rounds=3)),
    quick=Plan(QUICK_TENANTS, rounds=2),
)
