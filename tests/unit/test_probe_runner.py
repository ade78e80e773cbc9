"""What runs probes beside the reconcilers."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import MailboxLimits, TlsMode
from mailsettings.controller import probes as controller_probes
from mailsettings.controller.keys import Key, cluster_key, tenant_key
from mailsettings.controller.probes import ProbeRunner
from mailsettings.core.probe import ProbeProgress, ProbeRequest, ProbeResult, Progress, Stage, StageTime, untold
from mailsettings.core.probing import ProbeSubject
from mailsettings.core.server import Credentials, Server, Source
from mailsettings.core.turns import PATIENT_TURN

LOGGER = logging.getLogger("test")
A, B = tenant_key("shop", "a"), tenant_key("shop", "b")
PASSED = ProbeResult(timedelta(milliseconds=5))


def subject(
    fingerprint: str = "f",
    requested_at: str | None = None,
    *,
    mode: ProbeMode = ProbeMode.CONNECT,
    level: Source = Source.TENANT,
    **fields: Any,
) -> ProbeSubject:
    server = Server("mail.acme.example", 587, TlsMode.START_TLS, timedelta(seconds=10))
    request = ProbeRequest(server, mode, level, Credentials("u", "p"))
    return ProbeSubject("uid", 1, request, timedelta(hours=6), fingerprint, requested_at, **fields)


class Prober:
    """Probes that end when they are let go."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.started = 0
        self.active = 0
        self.most_active = 0
        self.error: Exception | None = None
        self.progress: Progress = untold

    async def __call__(self, _request: ProbeRequest, progress: Progress) -> ProbeResult:
        self.progress = progress
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
    running = ProbeRunner(prober, limit=limit, notify=finished.put_nowait, logger=LOGGER)
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
            probes.start(tenant_key(f"shop-{number % 5}", str(number)), subject(str(number)))
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


def key(namespace: str, number: int = 0) -> Key:
    return tenant_key(namespace, str(number))


async def test_one_probe_of_a_credential_is_enough_for_all_of_its_objects() -> None:
    prober = Prober()
    async with runner(prober) as (probes, finished):
        probes.start(A, subject())
        await asyncio.sleep(0)
        probes.start(B, subject())
        probes.start(key("other"), subject())
        prober.gate.set()
        assert {await soon(finished.get()) for _ in range(3)} == {A, B, key("other")}
        assert all(probes.finished(each, subject()) for each in (A, B, key("other")))
    assert prober.started == 1


async def test_those_who_wait_share_the_next_one() -> None:
    prober = Prober()
    async with runner(prober, limit=1) as (probes, finished):
        probes.start(key("first"), subject("another"))
        for number in range(5):
            probes.start(key(f"shop-{number}"), subject(asked_for=True))
        prober.gate.set()
        for _ in range(6):
            await soon(finished.get())
    assert prober.started == 2


async def test_what_a_person_asks_for_begins_afterwards() -> None:
    prober = Prober()
    async with runner(prober) as (probes, finished):
        probes.start(A, subject())
        await asyncio.sleep(0)
        probes.start(B, subject(asked_for=True))
        prober.gate.set()
        await soon(finished.get())
        await soon(finished.get())
    assert prober.started == 2


async def test_mails_and_tokens_are_not_shared() -> None:
    prober = Prober()
    async with runner(prober) as (probes, finished):
        probes.start(A, subject(mode=ProbeMode.SEND))
        probes.start(B, subject(mode=ProbeMode.SEND))
        probes.start(key("c"), subject("o", token="1"))
        probes.start(key("d"), subject("o", token="2"))
        prober.gate.set()
        for _ in range(4):
            await soon(finished.get())
    assert prober.started == 4


async def test_who_is_forgotten_takes_nothing_from_the_others() -> None:
    prober = Prober()
    async with runner(prober) as (probes, finished):
        probes.start(A, subject())
        probes.start(B, subject())
        await asyncio.sleep(0)
        probes.forget(A)
        await asyncio.sleep(0)
        assert prober.active == 1
        prober.gate.set()
        assert await soon(finished.get()) == B
        assert finished.empty()


async def test_one_that_is_forgotten_before_it_has_begun_leaves_its_place() -> None:
    prober = Prober()
    async with runner(prober, limit=1) as (probes, finished):
        probes.start(A, subject())
        probes.forget(A)
        probes.start(key("other"), subject("next"))
        prober.gate.set()
        assert await soon(finished.get()) == key("other")
    assert prober.active == 0


async def test_a_tenant_whose_servers_hang_delays_nobody_else() -> None:
    started: asyncio.Queue[str] = asyncio.Queue()

    async def prober(request: ProbeRequest, _progress: Progress) -> ProbeResult:
        if request.server.host == "hangs.example":
            await asyncio.Event().wait()
        started.put_nowait(request.server.host)
        return PASSED

    finished: asyncio.Queue[Key] = asyncio.Queue()
    probes = ProbeRunner(prober, limit=16, notify=finished.put_nowait, logger=LOGGER)
    hanging = replace(subject().request, server=replace(subject().request.server, host="hangs.example"))
    for number in range(16):
        probes.start(key("mallory", number), replace(subject(str(number)), request=hanging, asked_for=True))
    others = [key(f"shop-{number}") for number in range(30)]
    for each in others:
        probes.start(each, subject(str(each)))
    assert {await soon(finished.get()) for _ in others} == {*others}
    await soon(probes.close())


async def test_a_person_goes_before_the_schedule() -> None:
    prober = Prober()
    async with runner(prober, limit=1) as (probes, finished):
        for number in range(5):
            probes.start(key(f"shop-{number}"), subject(str(number)))
        probes.start(B, subject("asked", asked_for=True))
        prober.gate.set()
        assert [await soon(finished.get()) for _ in range(2)][1] == B


@pytest.mark.parametrize(("minute_s", "ended"), [(1e6, 2), (0.1, 5)])
async def test_a_mailbox_is_connected_to_and_sent_through_as_its_provider_permits(
    monkeypatch: pytest.MonkeyPatch, minute_s: float, ended: int
) -> None:
    """A third of six in a minute; the others follow by themselves."""
    monkeypatch.setattr("mailsettings.core.turns.MINUTE_S", minute_s)
    monkeypatch.setattr("mailsettings.controller.probes.MINUTE_S", minute_s)
    prober = Prober()
    prober.gate.set()
    limits = MailboxLimits(connections=3, messages_per_minute=6)
    async with runner(prober, limit=16) as (probes, finished):
        for number in range(5):
            sent = subject(str(number), mode=ProbeMode.SEND, limits=limits, level=Source.SYSTEM)
            probes.start(key(f"shop-{number}"), sent)
        for _ in range(ended):
            await soon(finished.get())
        # Another mailbox, after which whatever else could have begun has.
        probes.start(B, subject("other"))
        await soon(finished.get())
    assert prober.started == ended + 1
    assert prober.most_active == 1


LIMITS = MailboxLimits(connections=3, messages_per_minute=3)
SYSTEM = cluster_key("default")


async def test_tenant_that_names_the_systems_mailbox_takes_nothing_from_it() -> None:
    prober = Prober()
    async with runner(prober, limit=16) as (probes, finished):
        claim = subject("claim", mode=ProbeMode.SEND, limits=LIMITS, asked_for=True)
        probes.start(tenant_key("evil", "a"), claim)
        probes.start(SYSTEM, subject("own", mode=ProbeMode.SEND, limits=LIMITS, level=Source.SYSTEM))
        prober.gate.set()
        assert SYSTEM in [await soon(finished.get()) for _ in range(2)]


async def test_namespace_counts_what_it_does_to_a_mailbox() -> None:
    prober = Prober()
    async with runner(prober, limit=16) as (probes, _):
        for each in "ab":
            probes.start(tenant_key("evil", each), subject(each, limits=LIMITS))
        await asyncio.sleep(0)
        assert prober.started == 1


async def test_people_who_test_a_mailbox_again_and_again_do_not_hold_its_probe_up() -> None:
    prober = Prober()
    async with runner(prober, limit=16) as (probes, finished):
        probes.start(SYSTEM, subject("own", limits=LIMITS, level=Source.SYSTEM))
        for number in range(2 * PATIENT_TURN):
            asked = subject(f"asked {number}", limits=LIMITS, level=Source.SYSTEM, asked_for=True)
            probes.start(key(f"shop-{number}"), asked)
        probes.start(SYSTEM, subject("changed", limits=LIMITS, level=Source.SYSTEM))
        prober.gate.set()
        assert SYSTEM in [await soon(finished.get()) for _ in range(PATIENT_TURN)]


async def test_whoever_comes_when_a_probe_has_just_ended_gets_one_of_its_own() -> None:
    prober = Prober()
    prober.gate.set()
    ended: asyncio.Queue[Key] = asyncio.Queue()

    def finished(told: Key) -> None:
        ended.put_nowait(told)
        if told == A:
            probes.start(B, subject())

    probes = ProbeRunner(prober, limit=4, notify=finished, logger=LOGGER)
    probes.start(A, subject())
    assert [await soon(ended.get()) for _ in range(2)] == [A, B]
    assert prober.started == 2
    await probes.close()


CONNECT = ProbeProgress(Stage.CONNECT, (StageTime(Stage.RESOLVE, timedelta(milliseconds=1)),))
AUTH = ProbeProgress(Stage.AUTH, (*CONNECT.stages, StageTime(Stage.CONNECT, timedelta(milliseconds=2))))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_probes, "PROGRESS_PAUSE_S", 0.0)


@pytest.mark.usefixtures("at_once")
async def test_progress_is_told_to_who_follows_it_and_the_latest_of_it_only() -> None:
    prober = Prober()
    async with runner(prober) as (probes, finished):
        followed = subject(followed=True)
        probes.start(A, followed)
        await asyncio.sleep(0)
        assert probes.progress(A, followed) is None
        prober.progress(CONNECT)
        prober.progress(AUTH)
        assert probes.progress(A, followed) is None  # nobody has been told
        assert await soon(finished.get()) == A
        assert probes.progress(A, followed) == AUTH
        assert probes.progress(A, subject("another", followed=True)) is None
        assert finished.empty()
        prober.gate.set()
        assert await soon(finished.get()) == A
        assert probes.progress(A, followed) is None
        assert probes.finished(A, followed) is not None


@pytest.mark.usefixtures("at_once")
async def test_progress_wakes_nobody_who_does_not_follow_it() -> None:
    prober = Prober()
    async with runner(prober, limit=16) as (probes, finished):
        probes.start(A, subject("a"))
        await asyncio.sleep(0)
        unfollowed = prober.progress
        probes.start(B, subject("b", followed=True))
        await asyncio.sleep(0)
        unfollowed(AUTH)
        prober.progress(AUTH)
        assert await soon(finished.get()) == B
        assert finished.empty()


async def test_probe_that_ends_soon_is_told_by_its_result_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_probes, "PROGRESS_PAUSE_S", 3600.0)
    prober = Prober()
    async with runner(prober) as (probes, finished):
        probes.start(A, subject(followed=True))
        await asyncio.sleep(0)
        prober.progress(AUTH)
        prober.gate.set()
        assert await soon(finished.get()) == A
        assert probes.finished(A, subject(followed=True)) is not None
        assert finished.empty()
