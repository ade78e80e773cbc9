"""What runs probes beside the reconcilers."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from mailsettings.api.conditions import Reason
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import TlsMode
from mailsettings.controller.keys import Key, tenant_key
from mailsettings.controller.probes import ProbeRunner
from mailsettings.core.probe import ProbeRequest, ProbeResult
from mailsettings.core.probing import ProbeSubject
from mailsettings.core.server import Server, Source

LOGGER = logging.getLogger("test")
A, B = tenant_key("shop", "a"), tenant_key("shop", "b")
PASSED = ProbeResult(timedelta(milliseconds=5))


def subject(fingerprint: str = "f", requested_at: str | None = None) -> ProbeSubject:
    server = Server("mail.acme.example", 587, TlsMode.START_TLS, timedelta(seconds=10))
    request = ProbeRequest(server, ProbeMode.CONNECT, Source.TENANT)
    return ProbeSubject("uid", 1, request, timedelta(hours=6), fingerprint, requested_at)


class Prober:
    """Probes that end when they are let go."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.started = 0
        self.active = 0
        self.most_active = 0
        self.error: Exception | None = None

    async def __call__(self, _request: ProbeRequest) -> ProbeResult:
        self.started += 1
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            await self.gate.wait()
            if self.error is not None:
                raise self.error
            return PASSED
        finally:
            self.active -= 1


@contextlib.asynccontextmanager
async def runner(prober: Prober, *, limit: int = 4) -> AsyncIterator[tuple[ProbeRunner, "asyncio.Queue[Key]"]]:
    finished: asyncio.Queue[Key] = asyncio.Queue()
    running = ProbeRunner(prober, limit=limit, finished=finished.put_nowait, logger=LOGGER)
    try:
        yield running, finished
    finally:
        await running.close()


async def soon(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, 5)


async def test_a_result_waits_until_it_is_settled() -> None:
    prober = Prober()
    async with runner(prober) as (probes, finished):
        probes.start(A, subject())
        assert probes.finished(A, subject()) is None
        prober.gate.set()
        assert await soon(finished.get()) == A
        result = probes.finished(A, subject())
        assert result is not None
        assert result.result is PASSED
        assert probes.finished(A, subject("another")) is None
        assert probes.finished(A, subject(requested_at="now")) is None
        assert probes.finished(B, subject()) is None
        probes.settle(A, result)
        assert probes.finished(A, subject()) is None


async def test_the_same_test_is_not_started_twice() -> None:
    prober = Prober()
    async with runner(prober) as (probes, finished):
        for _ in range(3):
            probes.start(A, subject())
            await asyncio.sleep(0)
        prober.gate.set()
        await soon(finished.get())
    assert prober.started == 1
    assert finished.empty()


async def test_another_test_of_the_same_object_takes_over() -> None:
    prober = Prober()
    async with runner(prober) as (probes, finished):
        probes.start(A, subject("old"))
        await asyncio.sleep(0)
        probes.start(A, subject("new"))
        await asyncio.sleep(0)
        prober.gate.set()
        assert await soon(finished.get()) == A
        assert probes.finished(A, subject("old")) is None
        assert probes.finished(A, subject("new")) is not None
        assert finished.empty()
    assert (prober.started, prober.active) == (2, 0)


async def test_no_more_run_than_are_allowed() -> None:
    prober = Prober()
    async with runner(prober, limit=3) as (probes, finished):
        for number in range(20):
            probes.start(tenant_key("shop", str(number)), subject())
        await asyncio.sleep(0)
        prober.gate.set()
        for _ in range(20):
            await soon(finished.get())
    assert prober.most_active == 3


async def test_what_is_forgotten_is_broken_off_and_tells_nobody() -> None:
    prober = Prober()
    async with runner(prober) as (probes, finished):
        probes.start(A, subject())
        await asyncio.sleep(0)
        probes.forget(A)
        probes.forget(A)
        await asyncio.sleep(0)
        assert prober.active == 0
        prober.gate.set()
        await asyncio.sleep(0)
        assert finished.empty()
        probes.start(A, subject())
        assert await soon(finished.get()) == A


async def test_a_fault_of_the_operators_own_counts_as_a_failed_probe() -> None:
    """Otherwise the next reconciliation would start the next probe at once, and so on for ever."""
    prober = Prober()
    prober.error = RuntimeError("what the server said: swordfish")
    prober.gate.set()
    async with runner(prober) as (probes, finished):
        probes.start(A, subject())
        await soon(finished.get())
        result = probes.finished(A, subject())
        assert result is not None
        failure = result.result.failure
        assert failure is not None
        assert failure.reason is Reason.PROBE_BROKEN
        assert not failure.reason.needs_person
        assert "mail.acme.example:587" in failure.message
        assert "swordfish" not in failure.message
        prober.error = None
        probes.start(A, subject("next"))
        await soon(finished.get())
        assert probes.finished(A, subject("next")) is not None


async def test_closing_breaks_off_all() -> None:
    prober = Prober()
    async with runner(prober) as (probes, finished):
        probes.start(A, subject())
        probes.start(B, subject())
        await asyncio.sleep(0)
        await soon(probes.close())
        assert prober.active == 0
        assert finished.empty()
