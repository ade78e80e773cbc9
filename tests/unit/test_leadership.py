"""How the Lease is taken, kept and lost."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from mailsettings.controller.leadership import Leadership
from mailsettings.core.lease import Lease, Terms
from mailsettings.edges.fence import Fence, FencedError
from mailsettings.edges.kubernetes import ApiError
from mailsettings.edges.lease import HeldLease

TERMS = Terms(1)
LOGGER = logging.getLogger("test")
HANG_S = 30.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Leases:
    """A Lease, with versions as the API server has them."""

    def __init__(self) -> None:
        self.spec: dict[str, Any] | None = None
        self.version = 0
        self.writes = 0
        self.before_write: Callable[[], None] = lambda: None
        self._changed = asyncio.Condition()

    def put(self, spec: dict[str, Any] | None) -> None:
        self.spec, self.version = spec, self.version + 1

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(HANG_S), self._changed:
            await self._changed.wait_for(condition)

    async def notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    @property
    def held(self) -> HeldLease:
        assert self.spec is not None
        return HeldLease("uid", str(self.version), Lease.of(self.spec))

    async def read(self) -> HeldLease | None:
        return None if self.spec is None else self.held

    async def create(self, spec: dict[str, Any]) -> HeldLease:
        self.writes += 1
        self.before_write()
        await self.notify()
        if self.spec is not None:
            raise ApiError(409, "AlreadyExists", "")
        self.put(spec)
        return self.held

    async def write(self, held: HeldLease, spec: dict[str, Any]) -> HeldLease:
        self.writes += 1
        self.before_write()
        await self.notify()
        if self.spec is None:
            raise ApiError(404, "NotFound", "")
        if held.resource_version != str(self.version):
            raise ApiError(409, "Conflict", "")
        self.put({**self.spec, **spec})
        return self.held

    async def changes(self, held: HeldLease, **_: object) -> AsyncIterator[HeldLease | None]:
        while True:
            seen = int(held.resource_version)
            await self.until(lambda seen=seen: self.version != seen)  # type: ignore[misc]
            if self.spec is None:
                yield None
                return
            held = self.held
            yield held


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def fence(clock: Clock) -> Fence:
    return Fence(write_limit_s=0.01, now_s=clock)


@pytest.fixture
async def leadership(leases: Any, clock: Clock, fence: Fence) -> Leadership:
    return Leadership(leases, TERMS, fence, identity="me", logger=LOGGER, now_s=clock)


OTHERS = {"holderIdentity": "other", "leaseDurationSeconds": 1, "renewTime": "a"}


async def acquired(leadership: Leadership) -> None:
    async with asyncio.timeout(HANG_S):
        await leadership.acquire()


async def lost(leadership: Leadership) -> str:
    async with asyncio.timeout(HANG_S):
        return await leadership.keep()


async def test_free_lease_opens_the_fence_from_when_it_was_asked_for(
    leadership: Leadership, leases: Leases, fence: Fence, clock: Clock
) -> None:
    def take_time() -> None:
        clock.now_s += 0.5

    leases.before_write = take_time
    await acquired(leadership)
    assert leases.held.lease.holder == "me"
    assert fence.is_open
    clock.now_s = 100 + TERMS.renew_deadline_s
    assert not fence.is_open


async def test_held_lease_is_waited_for(leadership: Leadership, leases: Leases, fence: Fence, clock: Clock) -> None:
    leases.put(OTHERS)
    waiting = asyncio.create_task(acquired(leadership))
    await asyncio.sleep(0.05)
    assert leases.writes == 0
    assert not fence.is_open
    clock.now_s += 1
    await waiting
    assert leases.held.lease.holder == "me"


async def test_released_lease_is_taken_at_once(leadership: Leadership, leases: Leases) -> None:
    leases.put({**OTHERS, "leaseDurationSeconds": 300})
    waiting = asyncio.create_task(acquired(leadership))
    await asyncio.sleep(0.05)
    leases.put({"leaseDurationSeconds": 1, "renewTime": "b"})
    await leases.notify()
    await waiting
    assert leases.held.lease.holder == "me"


async def test_deleted_lease_is_taken_when_its_holder_has_stopped(
    leadership: Leadership, leases: Leases, clock: Clock
) -> None:
    leases.put(OTHERS)
    waiting = asyncio.create_task(acquired(leadership))
    await asyncio.sleep(0.05)
    leases.put(None)
    await leases.notify()
    await asyncio.sleep(0.3)
    assert leases.writes == 0
    clock.now_s += 1
    await waiting
    assert leases.held.lease.holder == "me"


async def test_somebody_faster_is_waited_for(leadership: Leadership, leases: Leases) -> None:
    def be_faster() -> None:
        leases.before_write = lambda: None
        leases.put({**OTHERS, "leaseDurationSeconds": 300})

    leases.before_write = be_faster
    waiting = asyncio.create_task(acquired(leadership))
    await leases.until(lambda: leases.writes > 0)
    await asyncio.sleep(0.3)
    assert leases.writes == 1
    assert leases.held.lease.holder == "other"
    waiting.cancel()


async def test_trouble_on_the_way_to_it_is_waited_out(leadership: Leadership, leases: Leases) -> None:
    def break_once() -> None:
        leases.before_write = lambda: None
        raise aiohttp.ClientConnectionError

    leases.before_write = break_once
    await acquired(leadership)
    assert leases.held.lease.holder == "me"


async def test_renewals_keep_the_fence_open(leadership: Leadership, leases: Leases, fence: Fence, clock: Clock) -> None:
    await acquired(leadership)
    keeping = asyncio.create_task(lost(leadership))
    for _ in range(3):
        before, clock.now_s = leases.writes, clock.now_s + 0.5
        await leases.until(lambda before=before: leases.writes > before)  # type: ignore[misc]
        await asyncio.sleep(0)
        assert fence.is_open
    assert clock.now_s > 101
    keeping.cancel()


async def test_renewal_that_comes_too_late_opens_nothing_again(
    leadership: Leadership, leases: Leases, fence: Fence, clock: Clock
) -> None:
    await acquired(leadership)

    def stand_still() -> None:
        clock.now_s += TERMS.renew_deadline_s
        with pytest.raises(FencedError):
            fence.check()
        clock.now_s -= TERMS.renew_deadline_s / 2

    leases.before_write = stand_still
    assert await lost(leadership) == "it was not renewed in time"
    assert not fence.is_open


async def test_process_that_stood_still_asks_for_nothing_more(
    leadership: Leadership, leases: Leases, clock: Clock
) -> None:
    await acquired(leadership)
    clock.now_s += TERMS.renew_deadline_s
    assert await lost(leadership) == "it was not renewed in time"
    assert leases.writes == 1


async def test_it_is_lost_when_it_cannot_be_renewed(leadership: Leadership, leases: Leases, clock: Clock) -> None:
    await acquired(leadership)

    def fail() -> None:
        clock.now_s += 0.2
        raise aiohttp.ClientConnectionError

    leases.before_write = fail
    assert await lost(leadership) == "it was not renewed in time"
    assert leases.writes > 2


async def test_it_is_lost_when_nobody_answers(leadership: Leadership, leases: Any, clock: Clock) -> None:
    await acquired(leadership)

    async def hang(*_: object) -> None:
        clock.now_s += 0.4
        await asyncio.Event().wait()

    leases.write = hang
    assert await lost(leadership) == "it was not renewed in time"


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (OTHERS, "other holds it"),
        ({}, "it was released by somebody else"),
        (None, "it was deleted"),
    ],
)
async def test_it_is_lost_when_somebody_has_changed_its_holder(
    leadership: Leadership, leases: Leases, spec: dict[str, Any] | None, why: str
) -> None:
    await acquired(leadership)
    leases.put(spec)
    assert await lost(leadership) == why


async def test_it_is_kept_when_somebody_has_changed_anything_else(leadership: Leadership, leases: Leases) -> None:
    await acquired(leadership)
    leases.put({**(leases.spec or {}), "leaseTransitions": 7})
    keeping = asyncio.create_task(lost(leadership))
    await leases.until(lambda: leases.writes >= 4)
    assert not keeping.done()
    keeping.cancel()


async def test_release_frees_it_and_shuts_the_fence(leadership: Leadership, leases: Leases, fence: Fence) -> None:
    await acquired(leadership)
    await leadership.release()
    assert leases.held.lease.holder == ""
    assert not fence.is_open


async def test_what_somebody_else_holds_is_not_released(leadership: Leadership, leases: Leases) -> None:
    await acquired(leadership)
    leases.put(OTHERS)
    await leadership.release()
    assert leases.held.lease.holder == "other"


async def test_lease_that_cannot_be_released_does_not_hold_the_end_up(leadership: Leadership, leases: Leases) -> None:
    await acquired(leadership)

    def fail() -> None:
        raise ApiError(503, "ServiceUnavailable", "")

    leases.before_write = fail
    await leadership.release()
    assert leases.held.lease.holder == "me"
