"""The relay beside the same clients without it, and beside email-oauth2-proxy, which does the same for one person.

8 clients send mails of 2 KB by STARTTLS with a login, to a mail server that answers each after 5 ms; every tenant has
every policy. The mail server is a process of its own; the clients are this one.
"""

from collections.abc import Sequence
from statistics import median
from typing import Final

from bench.benchmark import Benchmark, Plan
from bench.progress import say
from bench.relay_clients import Endpoint, rate, send_many, times_at
from bench.relay_place import OTHER, Place, place
from bench.result import Result, quantile
from bench.world import Worlds

CLIENTS: Final = 8
OF_DIRECT: Final = 0.6
OF_OTHER: Final = 0.9
"""Where connections are used again."""
OF_OTHER_CONNECTING: Final = 2.0
"""Where each mail has a connection of its own."""
ADDED_P99_S: Final = 0.010
"""At half of what the relay can do."""
QUIET_P99_S: Final = 0.011
"""Of a mail without the relay, on two cores that do nothing else."""
WARM_UP_S: Final = 0.5
MORE_AT_MOST_MB: Final = 2.0
"""After the first of the batches that memory is looked at between."""
BATCH: Final = 1000
PER_CONNECTION: Final = 50


async def run(plan: Plan, _worlds: Worlds) -> list[Result]:
    """Mails a second over connections that are used again."""
    async with place(plan.tenants) as here:
        rates = await _rates(here, plan, reuse=True)
        rss = here.rss_mb()
    return [
        _result("relay", plan, rates, "direct", rss, OF_DIRECT),
        *(_result("relay", plan, rates, OTHER, rss, OF_OTHER) for _ in rates.get(OTHER, [])[:1]),
    ]


async def run_connections(plan: Plan, _worlds: Worlds) -> list[Result]:
    """Mails a second, each over a connection of its own."""
    async with place(plan.tenants) as here:
        rates = await _rates(here, plan, reuse=False)
        rss = here.rss_mb()
    if OTHER not in rates:
        return []
    return [_result("relay-connections", plan, rates, OTHER, rss, OF_OTHER_CONNECTING)]


async def _rates(here: Place, plan: Plan, *, reuse: bool) -> dict[str, list[float]]:
    """By endpoint, in each round."""
    endpoints = [each for each in (here.direct, here.other, here.relay) if each is not None]
    if here.other is None:
        say(f"  {OTHER} is not installed, so nothing is set against it")
    rates: dict[str, list[float]] = {each.name: [] for each in endpoints}
    for each in endpoints:
        await rate(each, CLIENTS, WARM_UP_S, reuse=reuse)
    for _ in range(plan.rounds):
        for each in endpoints:
            used_s = here.cpu_s()
            found = await rate(each, CLIENTS, plan.seconds, reuse=reuse)
            rates[each.name].append(found)
            used = f", {(here.cpu_s() - used_s) / plan.seconds / found * 1000:.2f} ms of its processor each"
            say(f"  {each.name} {found:.0f} a second{used if each is here.relay else ''}")
    return rates


def _result(name: str, plan: Plan, rates: dict[str, list[float]], beside: str, rss: float, at_least: float) -> Result:
    """The relay's rate beside another; the share is the median of the rounds', which have the machine in common."""
    ours, floor = rates["relay"], rates[beside]
    share = median(at_least * other / own for own, other in zip(ours, floor, strict=True))
    return Result(name, plan.tenants, 1 / median(ours), 1 / median(floor), rss, None, share, f"a mail, beside {beside}")


async def run_latency(plan: Plan, _worlds: Worlds) -> list[Result]:
    """What the relay adds to the time of a mail at half of what it can do."""
    async with place(plan.tenants) as here:
        capacity = await rate(here.relay, CLIENTS, plan.seconds, reuse=True)
        ours, floor = [], []
        for _ in range(plan.rounds):
            floor.append(await _p99_s(here.direct, plan, capacity / 2))
            ours.append(await _p99_s(here.relay, plan, capacity / 2))
        rss = here.rss_mb()
    added = median(own - other for own, other in zip(ours, floor, strict=True))
    share = added / ADDED_P99_S
    about = f"p99 at {capacity / 2:.0f} mails a second"
    slowness = max(1.0, median(floor) / QUIET_P99_S)
    return [Result("relay-latency", plan.tenants, median(ours), median(floor), rss, None, share, about, slowness)]


async def _p99_s(to: Endpoint, plan: Plan, at: float) -> float:
    took = await times_at(to, 2 * CLIENTS, plan.seconds, at)
    say(f"  {to.name}: p50 {_ms(took, 0.5)}, p99 {_ms(took, 0.99)} ms")
    return quantile(took, 0.99)


def _ms(took: Sequence[float], share: float) -> str:
    return f"{quantile(took, share) * 1000:.1f}"


async def run_memory(plan: Plan, _worlds: Worlds) -> list[Result]:
    """The relay's memory over `rounds` batches of mails."""
    async with place(plan.tenants) as here:
        held = []
        for _ in range(plan.rounds):
            await send_many(here.relay, CLIENTS, BATCH, PER_CONNECTION)
            held.append(here.rss_mb())
    say(f"  {held[0]:.1f} MB after {BATCH} mails, {held[-1]:.1f} MB after {BATCH * plan.rounds}")
    more = max(0.0, held[-1] - held[0])
    about = f"{BATCH * plan.rounds} mails"
    return [Result("relay-memory", plan.tenants, None, None, held[-1], None, more / MORE_AT_MOST_MB, about)]


BENCHMARK: Final = Benchmark(
    name="relay",
    summary="mails through the relay, beside the same without it and beside email-oauth2-proxy",
    run=run,
    full=(Plan(200, rounds=15, seconds=5),),
    quick=Plan(200, rounds=5, seconds=0.7),
)
CONNECTIONS: Final = Benchmark(
    name="relay-connections",
    summary="the same with a connection for each mail, beside email-oauth2-proxy",
    run=run_connections,
    full=(Plan(200, rounds=5, seconds=10),),
    quick=Plan(200, rounds=1, seconds=2),
)
LATENCY: Final = Benchmark(
    name="relay-latency",
    summary="what the relay adds to the time of a mail, at half of what it can do",
    run=run_latency,
    full=(Plan(200, rounds=5, seconds=20),),
    quick=Plan(200, rounds=3, seconds=2),
)
MEMORY: Final = Benchmark(
    name="relay-memory",
    summary="the relay's memory over many mails, a thousand in each round",
    run=run_memory,
    full=(Plan(200, rounds=100),),
    quick=Plan(200, rounds=4),
)
