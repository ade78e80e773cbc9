"""The operator is started anew where nothing has changed: until it has looked at every tenant, and wrote nothing."""

import time
from statistics import median
from typing import Final

from bench.benchmark import QUICK_TENANTS, Benchmark, Plan
from bench.programs import program
from bench.progress import say
from bench.result import FORBIDDEN, Result
from bench.world import World, Worlds

NAME: Final = "restart"
AT_MOST: Final = 1.5
COUNT_TIMEOUT_S: Final = 120.0


async def run(plan: Plan, world: Worlds) -> list[Result]:
    """Starts the operator and the bare kopf handler in turn."""
    async with world() as place:
        await place.add_tenants(plan.tenants)
        await place.add_system()
        await place.start_and_settle()
        ours, floor, rss, writes = [], [], [], 0
        for _ in range(plan.rounds):
            place.stop()
            floor.append(await counting_s(place, place.settings))
            place.audit.forget()
            began, ended = await place.start()
            writes = max(writes, len(await place.audit.settled(lambda _: True, timeout_s=60)))
            ours.append(ended - began)
            rss.append(place.rss_mb())
            say(f"  ours {ours[-1]:.2f} s, {writes} writes; counting handler {floor[-1]:.2f} s")
        share = FORBIDDEN if writes else median(ours) / median(floor) / AT_MOST
        return [Result(NAME, plan.tenants, median(ours), median(floor), max(rss), writes, share)]


async def counting_s(place: World, settings: int) -> float:
    """How long a bare kopf handler takes from its start until it has seen all settings, in seconds.

    Raises:
        BenchError: it does not see them all.
    """
    environment = {"KUBECONFIG": str(place.operator_kubeconfig)}
    began = time.perf_counter()
    counting = program("bench.counting_handler", str(settings), says_within_s=COUNT_TIMEOUT_S, environment=environment)
    async with counting:
        return time.perf_counter() - began


BENCHMARK: Final = Benchmark(
    name=NAME,
    summary="the operator starts where nothing has changed: until it has looked at every tenant, writing nothing",
    run=run,
    full=(Plan(5000, rounds=3),),
    quick=Plan(QUICK_TENANTS, rounds=2),
)
