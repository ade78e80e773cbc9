"""The work queue."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsettings.controller import queue as module
from mailsettings.controller.keys import Key, cluster_key, mail_test_key, namespace_key, tenant_key
from mailsettings.controller.queue import (
    FIRST_RETRY_SECONDS,
    LAST_RETRY_SECONDS,
    WorkerEndedError,
    WorkQueue,
    retry_delay,
)
from mailsettings.edges.fence import FencedError

LOGGER = logging.getLogger("test")
A, B, C = (tenant_key("shop", name) for name in "abc")
HANG_S = 60.0
"""After this long a test hangs. Nothing is asserted of how fast anything is."""


class Work:
    """A reconciler that records, waits on order, and fails on order."""

    def __init__(self) -> None:
        self.done: list[Key] = []
        self.active: set[Key] = set()
        self.overlaps = 0
        self.most_active = 0
        self.failing: set[Key] = set()
        self.gates: dict[Key, asyncio.Event] = {}
        self.times: list[float] = []
        self.changed = asyncio.Event()

    async def __call__(self, key: Key) -> None:
        self.overlaps += key in self.active
        self.active.add(key)
        self.most_active = max(self.most_active, len(self.active))
        self.times.append(asyncio.get_running_loop().time())
        self.changed.set()
        try:
            await asyncio.sleep(0)
            if key in self.gates:
                await self.gates[key].wait()
            if key in self.failing:
                raise RuntimeError("on order")
        finally:
            self.active.discard(key)
            self.done.append(key)
            self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(HANG_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


async def test_what_comes_alone_goes_ahead_of_what_comes_with_many_but_not_for_ever() -> None:
    work, patient = Work(), [tenant_key("many", str(number)) for number in range(5)]
    alone = [tenant_key("alone", str(number)) for number in range(3 * module.PATIENT_TURN)]
    queue = WorkQueue(work, workers=1, logger=LOGGER)
    queue.add_many(patient)
    queue.add_many(patient)
    for key in [*alone, patient[4], alone[0]]:
        queue.add(key)
    task = asyncio.create_task(queue.run())
    await queue.wait_until_idle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert sorted(work.done) == sorted([*alone, *patient])
    assert [key for key in work.done if key in alone] == alone
    assert [key for key in work.done[: 3 * module.PATIENT_TURN] if key in patient] == patient[:3]
    assert work.done.index(patient[4]) == work.done.index(alone[-1]) + 1 != len(work.done) - 1


async def test_many_keys_come_again_when_they_were_being_worked_on() -> None:
    work = Work()
    async with running(work) as queue:
        work.gates[A] = asyncio.Event()
        queue.add_many([A])
        await work.until(lambda: A in work.active)
        queue.add_many([A, A])
        work.gates[A].set()
        await work.until(lambda: len(work.done) == 2)
    assert work.done == [A, A]


async def test_what_comes_again_with_many_waits_as_they_do() -> None:
    work = Work()
    work.gates[A] = asyncio.Event()
    async with running(work, workers=1) as queue:
        queue.add_many([A])
        await work.until(lambda: A in work.active)
        queue.add_many([A, B])
        queue.add(C)
        work.gates[A].set()
        await queue.wait_until_idle()
    assert work.done == [A, C, B, A]


MANY = [tenant_key("many", str(number)) for number in range(20)]


def busy_with_many(work: Work) -> int:
    return len({*MANY} & work.active)


@pytest.mark.parametrize("awaited", [A, mail_test_key("shop", "test")])
async def test_while_somebody_waits_few_of_the_many_begin(awaited: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.0)
    work, most = Work(), 0
    work.gates |= {key: asyncio.Event() for key in (awaited, *MANY)}
    async with running(work, workers=8) as queue:
        queue.add(awaited)
        queue.add_many(MANY)
        for done in range(1, 6):
            await work.until(lambda: busy_with_many(work) == 8 // module.YIELDING_SHARE)
            most = max(most, busy_with_many(work))
            work.gates[next(key for key in MANY if key in work.active)].set()
            await work.until(lambda done=done: len(work.done) == done)  # type: ignore[misc]
        assert most == 8 // module.YIELDING_SHARE, "and they do not stand still"
        work.gates[awaited].set()
        await work.until(lambda: busy_with_many(work) == 8)
        for gate in work.gates.values():
            gate.set()
        await queue.wait_until_idle()


async def test_they_yield_a_little_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 3600.0)
    work = Work()
    work.gates |= {key: asyncio.Event() for key in MANY}
    async with running(work, workers=8) as queue:
        queue.add(A)
        await queue.wait_until_idle()
        queue.add_many(MANY)
        for gate in work.gates.values():
            await work.until(lambda: busy_with_many(work))
            gate.set()
        await queue.wait_until_idle()
    assert work.most_active == 8 // module.YIELDING_SHARE


async def test_they_do_not_yield_for_longer_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.01)
    work = Work()
    work.gates |= {key: asyncio.Event() for key in MANY}
    async with running(work, workers=8) as queue:
        queue.add_many(MANY[:1])
        queue.add(A)
        queue.add_many(MANY)
        await work.until(lambda: busy_with_many(work) == 8)
        for gate in work.gates.values():
            gate.set()
        await queue.wait_until_idle()


@pytest.mark.parametrize("key", [cluster_key("default"), namespace_key("shop")])
async def test_for_what_nobody_waits_the_many_do_not_yield(key: Key) -> None:
    work = Work()
    work.gates |= {each: asyncio.Event() for each in (key, *MANY)}
    async with running(work, workers=8) as queue:
        queue.add(key)
        queue.add_many(MANY)
        await work.until(lambda: busy_with_many(work) == 7)
        for gate in work.gates.values():
            gate.set()
        await queue.wait_until_idle()


@contextlib.asynccontextmanager
async def running(work: Work, *, workers: int = 4) -> AsyncIterator[WorkQueue]:
    queue = WorkQueue(work, workers=workers, logger=LOGGER)
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_keys_are_worked_on_in_the_order_in_which_they_came() -> None:
    work = Work()
    async with running(work, workers=1) as queue:
        for key in (B, A, C):
            queue.add(key)
        await queue.wait_until_idle()
    assert work.done == [B, A, C]


async def test_a_waiting_key_is_worked_on_once_however_often_it_is_added() -> None:
    work = Work()
    async with running(work) as queue:
        for _ in range(100):
            queue.add(A)
        await queue.wait_until_idle()
    assert work.done == [A]


async def test_a_key_that_comes_while_it_is_worked_on_is_worked_on_once_more_afterwards() -> None:
    work = Work()
    work.gates[A] = asyncio.Event()
    async with running(work) as queue:
        queue.add(A)
        await work.until(lambda: A in work.active)
        for _ in range(100):
            queue.add(A)
        await asyncio.sleep(0)
        assert len(work.times) == 1
        work.gates[A].set()
        await queue.wait_until_idle()
    assert work.done == [A, A]
    assert work.overlaps == 0


async def test_a_slow_key_does_not_hold_the_others_up() -> None:
    work = Work()
    work.gates[A] = asyncio.Event()
    async with running(work, workers=2) as queue:
        for key in (A, B, C):
            queue.add(key)
        await work.until(lambda: {B, C} <= {*work.done})
        assert A in work.active
        work.gates[A].set()


async def test_no_more_are_worked_on_than_there_are_workers() -> None:
    work = Work()
    async with running(work, workers=3) as queue:
        for number in range(50):
            queue.add(cluster_key(f"c{number}"))
        await queue.wait_until_idle()
    assert work.most_active == 3
    assert len(work.done) == 50


async def test_a_failing_key_comes_back_and_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "retry_delay", lambda _failures: 0.001)
    work = Work()
    work.failing = {A}
    async with running(work, workers=1) as queue:
        queue.add(A)
        queue.add(B)
        await work.until(lambda: work.done.count(A) >= 5)
        assert B in work.done
        work.failing = set()
        tries = work.done.count(A)
        await work.until(lambda: work.done.count(A) > tries)
        queue.add(C)
        await work.until(lambda: C in work.done)
        await queue.wait_until_idle()
        assert A not in queue._due, "it comes back though it has succeeded"


async def test_worker_that_ends_by_itself_does_not_end_in_silence() -> None:
    """As one does whose write is refused because the Lease is over."""

    async def end(_: Key) -> None:
        raise FencedError("over")

    queue = WorkQueue(end, workers=2, logger=LOGGER)
    queue.add(A)
    async with asyncio.timeout(HANG_S):
        with pytest.raises(ExceptionGroup) as raised:
            await queue.run()
    assert raised.value.subgroup(WorkerEndedError) is not None
    assert "over" in str(raised.value.exceptions[0])


async def test_delays_grow_with_the_failures_and_begin_anew_after_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def delay(failures: int) -> float:
        asked.append(failures)
        return 0.001

    monkeypatch.setattr(module, "retry_delay", delay)
    work = Work()
    work.failing = {A}
    async with running(work) as queue:
        queue.add(A)
        await work.until(lambda: len(asked) >= 3)
        work.failing = set()
        tries = len(work.done)
        await work.until(lambda: len(work.done) > tries)
        await queue.wait_until_idle()
        failed = len(asked)
        work.failing = {A}
        queue.add(A)
        await work.until(lambda: len(asked) > failed)
    assert asked[:failed] == [*range(1, failed + 1)]
    assert asked[failed] == 1


async def test_a_trigger_does_not_wait_for_the_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "retry_delay", lambda _failures: 24 * 3600)
    work = Work()
    work.failing = {A}
    async with running(work) as queue:
        for failures in range(1, 8):
            queue.add(A)
            await queue.wait_until_idle()
            assert len(work.done) == failures
        work.failing = set()
        queue.add(A)
        await work.until(lambda: len(work.done) == 8)


async def test_of_several_delays_the_shortest_holds() -> None:
    work = Work()
    async with running(work) as queue:
        queue.add_after(A, 3600)
        queue.add_after(A, 0.02)
        queue.add_after(A, 0.01)
        queue.add_after(A, 0.03)
        queue.add_after(B, 0.04)  # by then all that A was asked for has passed
        await work.until(lambda: B in work.done)
    assert work.done == [A, B]


async def test_a_delay_is_kept() -> None:
    work = Work()
    loop = asyncio.get_running_loop()
    async with running(work) as queue:
        begin = loop.time()
        queue.add_after(B, 0.1)
        queue.add_after(A, 0.05)
        await work.until(lambda: len(work.done) == 2)
        assert work.done == [A, B]
        assert [moment - begin >= least for moment, least in zip(work.times, (0.05, 0.1), strict=True)] == [True, True]


async def test_no_delay_is_at_once() -> None:
    work = Work()
    async with running(work) as queue:
        queue.add_after(A, -5)
        await work.until(lambda: work.done)
    assert work.done == [A]


async def test_adding_a_key_spares_its_delay() -> None:
    work = Work()
    async with running(work) as queue:
        queue.add_after(A, 0.05)
        queue.add(A)
        queue.add_after(A, 0.05)  # it is about to be worked on anyway
        await queue.wait_until_idle()
        queue.add_after(B, 0.06)  # by then the delay has passed
        await work.until(lambda: B in work.done)
    assert work.done == [A, B]


async def test_a_delay_that_ends_while_the_key_is_worked_on_is_not_lost() -> None:
    work = Work()
    work.gates[A] = asyncio.Event()
    async with running(work) as queue:
        queue.add(A)
        await work.until(lambda: A in work.active)
        queue.add_after(A, 0.01)
        queue.add_after(B, 0.02)
        await work.until(lambda: B in work.done)
        assert A not in queue._due, "the delay has not ended"
        work.gates[A].set()
        await work.until(lambda: work.done.count(A) == 2)
    assert work.overlaps == 0


async def test_delays_that_were_forestalled_do_not_pile_up() -> None:
    """Each reconciliation asks for the next probe, perhaps weeks ahead."""
    work = Work()
    async with running(work) as queue:
        for _ in range(2000):
            queue.add_after(A, 700 * 3600)
            queue.add(A)
            await queue.wait_until_idle()
        assert len(queue._timers) < 200
        queue.add_after(B, 0.01)
        await work.until(lambda: B in work.done)


async def test_forestalled_delays_are_cleared_without_losing_the_others() -> None:
    work = Work()
    keys = [cluster_key(f"c{number}") for number in range(300)]
    async with running(work) as queue:
        for number, key in enumerate(keys):
            queue.add_after(key, 0.2 + number / 10_000)
        for _ in range(1000):
            queue.add_after(A, 3600)
            queue.add(A)
        await work.until(lambda: {*keys} <= {*work.done})
    assert [key for key in work.done if key != A] == keys


async def test_idle_means_that_nothing_waits_and_nothing_is_worked_on() -> None:
    work = Work()
    work.gates[A] = asyncio.Event()
    async with running(work, workers=1) as queue:
        await asyncio.wait_for(queue.wait_until_idle(), HANG_S)  # at the start
        queue.add(A)
        queue.add(B)
        queue.add_after(C, 3600)  # does not count
        idle = asyncio.create_task(queue.wait_until_idle())
        await work.until(lambda: A in work.active)
        queue.add(A)
        work.gates[A].set()
        await asyncio.wait_for(idle, HANG_S)
        assert sorted(work.done) == sorted([A, A, B])


async def test_idle_is_reached_though_a_key_fails() -> None:
    work = Work()
    work.failing = {A}
    async with running(work) as queue:
        queue.add(A)
        await asyncio.wait_for(queue.wait_until_idle(), HANG_S)
    assert work.done == [A]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 3)), max_size=60), st.integers(1, 4))
async def test_whatever_comes_when_no_key_overlaps_and_the_last_trigger_is_acted_on(
    steps: list[tuple[Key, int]], workers: int
) -> None:
    work = Work()
    begun_after: dict[Key, int] = {}
    async with running(work, workers=workers) as queue:
        for key, pauses in steps:
            queue.add(key)
            begun_after[key] = work.done.count(key) + (key in work.active)
            for _ in range(pauses):
                await asyncio.sleep(0)
        await asyncio.wait_for(queue.wait_until_idle(), HANG_S)
    assert work.overlaps == 0
    assert all(work.done.count(key) > earlier for key, earlier in begun_after.items())


@given(st.integers(1, 10_000))
def test_retry_delays_are_bounded_and_jittered(failures: int) -> None:
    full = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 40))
    delays = [retry_delay(failures) for _ in range(20)]
    assert all(full / 2 <= delay <= full for delay in delays)
    assert len({*delays}) > 1
