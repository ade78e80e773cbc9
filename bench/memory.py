"""How much memory the operator holds, with tenants, and with large Secrets beside them that are none of its own."""

import base64
import os
import secrets
from typing import Final

from bench import objects
from bench.bare import Request, create
from bench.benchmark import QUICK_TENANTS, Benchmark, Plan
from bench.progress import say
from bench.result import Result
from bench.waves import WAVE_TIMEOUT_S
from bench.world import World, Worlds

NAME: Final = "memory"
AT_MOST_MB: Final = {1000: 126.0, 5000: 200.0}
"""By tenants."""
MORE_AT_MOST_MB: Final = 10.0
STRANGERS: Final = 300
"""With 600 tenants or more; with fewer half as many as tenants."""
STRANGER_BYTES: Final = 1000 * 1000
"""Of data in each, which is just below what the API server takes."""


async def run(plan: Plan, world: Worlds) -> list[Result]:
    """Looks after a start and a fan-out, and after the same beside large Secrets."""
    async with world() as place:
        await place.add_tenants(plan.tenants)
        await place.add_system()
        writes = len(await place.start_and_settle())
        place.stop()
        alone = await _restarted_mb(place)
        strangers = await _add_strangers(place, min(STRANGERS, plan.tenants // 2))
        beside = await _restarted_mb(place)
        say(f"  {alone:.1f} MB; with {len(strangers)} large Secrets {beside:.1f} MB")
        await place.admin.send_all([Request("DELETE", path) for path in strangers], at_once=4)
    at_most = AT_MOST_MB.get(plan.tenants, AT_MOST_MB[1000])
    return [
        Result(NAME, plan.tenants, None, None, alone, writes, alone / at_most),
        Result(
            NAME, plan.tenants, None, None, beside, writes, max(0.0, beside - alone) / MORE_AT_MOST_MB, "large Secrets"
        ),
    ]


async def _restarted_mb(place: World) -> float:
    """After a start that finds everything delivered, which takes more memory than the first one, and a fan-out."""
    await place.start_and_settle()
    place.audit.forget()
    await place.change_system()
    await place.audit.settled(bool, timeout_s=WAVE_TIMEOUT_S)
    used = place.rss_mb()
    place.stop()
    return used


async def _add_strangers(place: World, count: int) -> list[str]:
    """Their paths."""
    namespace = f"strangers-{secrets.token_hex(3)}"
    await place.create_namespaces([{"metadata": {"name": namespace}}])
    collection = objects.secrets_in(namespace)
    for number in range(count):
        data = {"blob": base64.b64encode(os.urandom(STRANGER_BYTES)).decode()}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"large-{number}"}, "data": data}
        await place.admin.send(create(collection, body))
    return [f"{collection}/large-{number}" for number in range(count)]


BENCHMARK: Final = Benchmark(
    name=NAME,
    summary="resident memory after a fan-out, and with 300 unrelated Secrets of 1 MB beside the tenants",
    run=run,
    full=(Plan(1000, rounds=1), Plan(5000, rounds=1)),
    quick=Plan(QUICK_TENANTS, rounds=1),
)
