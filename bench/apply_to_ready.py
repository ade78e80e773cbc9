"""A new tenant with a server of its own: from the apply until it is ready, while nothing else goes on."""

from typing import Final

from bench.benchmark import Benchmark, Plan
from bench.newcomers import Arrivals, bare_sum_s, slowness
from bench.progress import say
from bench.result import Result, quantile
from bench.world import Worlds

NAME: Final = "apply-to-ready"
AT_MOST_S: Final = {0.5: 0.100, 0.99: 0.300}
"""By quantile: what it may take beyond the bare sum of its calls."""


async def run(plan: Plan, world: Worlds) -> list[Result]:
    """Applies the settings of one tenant after another, in as many rounds; the calls alone in between."""
    ours: list[float] = []
    floor: list[float] = []
    async with world() as place:
        names = await place.add_newcomers(plan.tenants)
        share = -(-len(names) // plan.rounds)
        for first in range(0, len(names), share):
            batch = names[first : first + share]
            await place.start_and_settle()
            place.audit.forget()
            arrivals = Arrivals()
            async with arrivals.watching(place.admin):
                ours += [await arrivals.apply(place, name) for name in batch]
            writes = await place.audit.settled(bool, timeout_s=60)
            rss = place.rss_mb()
            place.stop()
            floor += [await bare_sum_s(place, name, writes) for name in batch]
            say(f"  ours p50 {quantile(ours, 0.5):.4f} s; bare calls p50 {quantile(floor, 0.5):.4f} s")
        per_tenant = round(len(writes) / len(batch))
    return [
        Result(
            name=NAME,
            tenants=plan.tenants,
            ours_s=quantile(ours, at),
            floor_s=quantile(floor, at),
            rss_mb=rss,
            writes=per_tenant * plan.tenants,
            share=max(0.0, quantile(ours, at) - quantile(floor, at)) / at_most_s,
            about=f"p{at * 100:.0f}",
            slowness=slowness(floor),
        )
        for at, at_most_s in AT_MOST_S.items()
    ]


BENCHMARK: Final = Benchmark(
    name=NAME,
    summary="a new tenant with a server of its own: from the apply until it is ready, nothing else going on",
    run=run,
    full=(Plan(200, rounds=4),),
    quick=Plan(40, rounds=2),
)
