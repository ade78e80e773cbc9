"""Probes of many settings against one server: the operator's, and bare logins, as many at once."""

import asyncio
import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from statistics import median
from typing import Final

from aiosmtplib import SMTP

from bench.benchmark import Benchmark, Plan
from bench.errors import BenchError
from bench.programs import program
from bench.progress import say
from bench.result import Result
from bench.world import Worlds
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import TlsMode
from mailsettings.controller.keys import Key, tenant_key
from mailsettings.controller.probes import ProbeRunner
from mailsettings.core.egress import EgressPolicy
from mailsettings.core.probe import ProbeRequest, freely
from mailsettings.core.probing import ProbeSubject
from mailsettings.core.server import Credentials, Server, Source
from mailsettings.edges.smtp import probe
from tests.support.smtp_server import PASSWORD, USERNAME

NAME: Final = "probes"
AT_LEAST: Final = 0.9
"""Of the bare logins a second."""
AT_ONCE: Final = 16
"""The operator's default."""
HOST: Final = "127.0.0.1"
LIMIT_S: Final = 300.0
POLICY: Final = EgressPolicy.parse(allow=f"{HOST}:*")


async def run(plan: Plan, _worlds: Worlds) -> list[Result]:
    """Has the settings of so many tenants probed, and logs in as often without any."""
    ours: list[float] = []
    floor: list[float] = []
    turns = [(_logins_s, floor), (_probes_s, ours)]
    async with program("bench.mail_server", says_within_s=30) as port:
        for _ in range(plan.rounds):
            for measure_s, measured in turns:
                measured.append(await measure_s(int(port), plan.tenants))
            turns.reverse()  # what the first leaves behind, in the server and the kernel, is the second's burden
            say(f"  ours {plan.tenants / ours[-1]:.0f} a second, bare logins {plan.tenants / floor[-1]:.0f}")
    share = median(ours) / median(floor) * AT_LEAST
    return [Result(NAME, plan.tenants, median(ours), median(floor), None, None, share)]


async def _probes_s(port: int, count: int) -> float:
    keys = [tenant_key(f"tenant-{number}", "mail") for number in range(count)]
    subjects = {key: _subject(port, str(key)) for key in keys}
    passed = 0
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def finished(key: Key) -> None:
        nonlocal passed
        if ended.done():
            return
        found = runner.finished(key, subjects[key])
        if found is None or found.result.failure is not None:
            ended.set_exception(BenchError(f"the probe of {key} has failed"))
            return
        runner.settle(key, found)  # as the operator does when it is in the status
        passed += 1
        if passed == count:
            ended.set_result(None)

    runner = ProbeRunner(
        partial(probe, permit=freely, policy=POLICY, deadline=timedelta(seconds=60)),
        limit=AT_ONCE,
        notify=finished,
        logger=logging.getLogger(NAME),
    )
    began = time.perf_counter()
    for key, subject in subjects.items():
        runner.start(key, subject)
    async with asyncio.timeout(LIMIT_S):
        await ended
    took = time.perf_counter() - began
    await runner.close()
    return took


def _subject(port: int, fingerprint: str) -> ProbeSubject:
    server = Server(HOST, port, TlsMode.DISABLED, timedelta(seconds=10))
    request = ProbeRequest(server, ProbeMode.AUTHENTICATE, Source.TENANT, Credentials(USERNAME, PASSWORD))
    return ProbeSubject("uid", 1, request, timedelta(hours=6), fingerprint, None)


async def _logins_s(port: int, count: int) -> float:
    waiting = iter(range(count))
    began = time.perf_counter()
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(_log_in(port, waiting))
    return time.perf_counter() - began


async def _log_in(port: int, waiting: Iterator[int]) -> None:
    for _ in waiting:
        client = SMTP(hostname=HOST, port=port, use_tls=False, start_tls=False)
        await client.connect()
        await client.login(USERNAME, PASSWORD)
        await client.quit()


BENCHMARK: Final = Benchmark(
    name=NAME,
    summary="probes of many settings against one server, beside bare logins, as many at once",
    run=run,
    full=(Plan(1000, rounds=10), Plan(5000, rounds=4)),
    quick=Plan(300, rounds=4),
)
