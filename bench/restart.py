"""The operator is started anew where nothing has changed: until it has looked at every tenant, and wrote nothing."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from statistics import median
from typing import Final

from bench.benchmark import Benchmark, Plan
from bench.errors import BenchError
from bench.progress import say
from bench.result import Result
from bench.world import World, world
from dev.operator_process import ROOT

NAME: Final = "restart"
AT_MOST: Final = 1.5
FORBIDDEN: Final = 100.0
"""The share that a single write comes to."""
COUNT_TIMEOUT_S: Final = 120.0


async def run(plan: Plan) -> list[Result]:
    """Starts the operator and the bare kopf handler in turn."""
    async with world() as place:
        await place.add_tenants(plan.tenants)
        await place.add_system()
        await place.start_and_settle()
        ours, floor, rss, writes = [], [], [], 0
        for _ in range(plan.rounds):
            place.stop()
            floor.append(await counting_s(place, plan.tenants))
            place.audit.forget()
            began, ended = await place.start()
            writes = max(writes, len(await place.audit.settled(lambda _: True, timeout_s=60)))
            ours.append(ended - began)
            rss.append(place.rss_mb())
            say(f"  ours {ours[-1]:.2f} s, {writes} writes; counting handler {floor[-1]:.2f} s")
        share = FORBIDDEN if writes else median(ours) / median(floor) / AT_MOST
        return [Result(NAME, plan.tenants, median(ours), median(floor), max(rss), writes, share)]


async def counting_s(place: World, tenants: int) -> float:
    """How long a bare kopf handler takes from its start until it has seen every tenant, in seconds.

    Raises:
        BenchError: it does not see them all.
    """
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}",
        "KUBECONFIG": str(place.operator_kubeconfig),
    }
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.counting_handler", str(tenants)),
        env=environment,
        cwd=Path(ROOT),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(COUNT_TIMEOUT_S):
            line = await _first_line(process)
        took = time.perf_counter() - began
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()
    if line.strip() != b"seen":
        raise BenchError("the bare kopf handler has not seen every tenant")
    return took


async def _first_line(process: asyncio.subprocess.Process) -> bytes:
    return await process.stdout.readline() if process.stdout is not None else b""


BENCHMARK: Final = Benchmark(
    name=NAME,
    summary="the operator starts where nothing has changed: until it has looked at every tenant, writing nothing",
    run=run,
    full=(Plan(5000, rounds=3),),
    quick=Plan(500, rounds=2),
)
