"""What each further tenant costs: of a fan-out, of a start, and while nothing changes; and that it stays the same."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.audit import objects_of, to
from bench.bare import Request
from bench.benchmark import Benchmark, Plan
from bench.progress import say
from bench.result import Result
from bench.waves import TO_TENANTS, WAVE_TIMEOUT_S
from bench.world import World, Worlds
from dev.audit import Write

NAME: Final = "growth"
AT_MOST: Final = 1.1
"""How many times the cost of a tenant among fewer that of one among more may be."""
STEPS: Final = (250, 1000)
"""Numbers of tenants before the plan's own."""
_REQUESTS: Final = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_RESOURCES: Final = (
    *("secrets", "configmaps", "namespaces", "events"),
    *("clustermailserversettings", "mailserversettings", "mailservertests"),
)
_STORED: Final = re.compile(r"^apiserver_storage_size_bytes\{.*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cost:
    """What so many tenants cost.

    Attributes:
        tenants: How many there are.
        fan_out_s: How long a change of the system's settings takes to reach them, in seconds.
        fan_out_cpu_s: The operator's processor time for that, in seconds.
        fan_out_writes: What it writes.
        fan_out_requests: What it asks of the API server, the writes included.
        start_requests: The same of a start where nothing has changed.
        steady_cpu_s: Processor time while nothing changes, in seconds.
        steady_requests: Requests while nothing changes.
        rss_mb: The operator's resident memory, in units of 10^6 bytes.
        stored_mb: The size of etcd's database, in the same units.
    """

    tenants: int
    fan_out_s: float
    fan_out_cpu_s: float
    fan_out_writes: int
    fan_out_requests: int
    start_requests: int
    steady_cpu_s: float
    steady_requests: int
    rss_mb: float
    stored_mb: float

    def told(self, seconds: float) -> str:
        """In a line; `seconds` is how long nothing changed."""
        return (
            f"  {self.tenants} tenants: fan-out {self.fan_out_s:.2f} s, {self.fan_out_cpu_s:.2f} s of CPU, "
            f"{self.fan_out_writes} writes, {self.fan_out_requests} requests; start {self.start_requests} requests; "
            f"steady {self.steady_cpu_s:.2f} s of CPU, {self.steady_requests} requests in {seconds:.0f} s; "
            f"{self.rss_mb:.1f} MB; etcd {self.stored_mb:.0f} MB"
        )


async def run(plan: Plan, worlds: Worlds) -> list[Result]:
    """Measures, adds tenants, and measures again."""
    async with worlds() as place:
        costs = []
        for tenants in (*[step for step in STEPS if step < plan.tenants], plan.tenants):
            await place.add_tenants(tenants)
            await place.add_system()
            await place.start_and_settle()
            place.stop()
            costs.append(await _cost(place, tenants, plan))
            say(costs[-1].told(plan.seconds))
    return [_result(cost, costs) for cost in costs]


async def _cost(place: World, tenants: int, plan: Plan) -> Cost:
    before = await _requests(place)
    await place.start_and_settle()
    started = await _requests(place)
    cpu_s = place.cpu_s()
    await asyncio.sleep(plan.seconds)
    steady_cpu_s, rested = place.cpu_s() - cpu_s, await _requests(place)
    times, cpu = [], []
    for _ in range(plan.rounds):
        cpu_s = place.cpu_s()
        took_s, writes = await _fan_out(place, tenants)
        times.append(took_s)
        cpu.append(place.cpu_s() - cpu_s)
    cost = Cost(
        tenants=tenants,
        fan_out_s=median(times),
        fan_out_cpu_s=median(cpu),
        fan_out_writes=writes,
        fan_out_requests=round((await _requests(place) - rested) / plan.rounds),
        start_requests=started - before,
        steady_cpu_s=steady_cpu_s,
        steady_requests=rested - started,
        rss_mb=place.rss_mb(),
        stored_mb=float(_STORED.findall(await _metrics(place))[0]) / 1e6,
    )
    place.stop()
    return cost


async def _fan_out(place: World, tenants: int) -> tuple[float, int]:
    """How long it takes, in seconds, and how many writes."""

    def is_complete(writes: Sequence[Write]) -> bool:
        return objects_of(writes, "secrets") == objects_of(writes, "mailserversettings/status") == tenants

    place.audit.forget()
    began = await place.change_system()
    writes = await place.audit.settled(is_complete, timeout_s=WAVE_TIMEOUT_S)
    return max(write.at for write in to(writes, *TO_TENANTS)) - began, sum(write.is_done for write in writes)


async def _requests(place: World) -> int:
    """How many requests for what concerns the operator the API server has answered, watches aside."""
    counted = _REQUESTS.findall(await _metrics(place))
    return sum(round(float(count)) for labels, count in counted if _concerns(labels))


def _concerns(labels: str) -> bool:
    return 'verb="WATCH"' not in labels and any(f'resource="{resource}"' in labels for resource in _RESOURCES)


async def _metrics(place: World) -> str:
    return (await place.admin.send(Request("GET", "/metrics"))).decode()


def _result(cost: Cost, costs: Sequence[Cost]) -> Result:
    """Set against the step before."""
    fewer = next((each for each in reversed(costs) if each.tenants < cost.tenants), cost)
    grows = (cost.fan_out_s / cost.tenants) / (fewer.fan_out_s / fewer.tenants)
    return Result(
        name=NAME,
        tenants=cost.tenants,
        ours_s=cost.fan_out_s,
        floor_s=None,
        rss_mb=cost.rss_mb,
        writes=cost.fan_out_writes,
        share=grows / AT_MOST,
    )


BENCHMARK: Final = Benchmark(
    name=NAME,
    summary="what a tenant costs among 250, 1,000 and the plan's number: fan-out, start, rest, memory",
    run=run,
    full=(Plan(5000, rounds=3, seconds=60),),
    quick=None,
)
