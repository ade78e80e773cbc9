"""Nothing changes and no probe is due: what the operator does then."""

import asyncio
from typing import Final

from bench.benchmark import QUICK_TENANTS, Benchmark, Plan
from bench.result import FORBIDDEN, Result
from bench.world import Worlds

NAME: Final = "steady"
CORE_SHARE_AT_MOST: Final = 0.01


async def run(plan: Plan, world: Worlds) -> list[Result]:
    """Waits, and looks at the operator's processor time; the floor is what it may use."""
    async with world() as place:
        await place.add_tenants(plan.tenants)
        await place.add_system()
        await place.start_and_settle()
        place.stop()
        await place.start_and_settle()
        place.audit.forget()
        before = place.cpu_s()
        await asyncio.sleep(plan.seconds)
        used, rss = place.cpu_s() - before, place.rss_mb()
        writes = [write for write in place.audit.writes if not write.is_of_lease]
    allowed = CORE_SHARE_AT_MOST * plan.seconds
    share = FORBIDDEN if writes else used / allowed
    return [Result(NAME, plan.tenants, used, allowed, rss, len(writes), share, f"CPU in {plan.seconds:.0f} s")]


BENCHMARK: Final = Benchmark(
    name=NAME,
    summary="nothing changes and no probe is due: the operator's processor time, and that it writes nothing",
    run=run,
    full=(Plan(5000, rounds=1, seconds=600),),
    quick=Plan(QUICK_TENANTS, rounds=1, seconds=10),
)
