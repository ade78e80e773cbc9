"""Slots while requests for them are under way."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import pytest

from mailsettings.api.providers import MailboxLimits
from mailsettings.core.slots import RENEW_S, RENEW_WITHIN_S, TERMS
from mailsettings.edges import slots as module
from mailsettings.edges.kubernetes import KubernetesApi
from mailsettings.edges.slots import HeldSlot, LeasedSlots
from tests.support import virtual_time

LIMITS: Final = MailboxLimits(connections=2, messages_per_minute=30)
LIMITS_OF_ONE: Final = MailboxLimits(connections=1, messages_per_minute=30)


class SlowApi:
    """Leases of one login; the answer to each write waits until it is let through, one by one."""

    def __init__(self) -> None:
        self.leases: dict[str, dict[str, Any]] = {}
        self.writes = asyncio.Queue[asyncio.Event]()

    async def list_at(self, *_: object, **__: object) -> tuple[list[dict[str, Any]], str]:
        return deepcopy([*self.leases.values()]), "1"

    async def create(self, _collection: str, body: dict[str, Any]) -> dict[str, Any]:
        name = body["metadata"]["name"]
        self.leases[name] = deepcopy(body)
        self.leases[name]["metadata"] |= {"uid": name, "resourceVersion": "1"}
        return await self._answer(name)

    async def merge(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        lease = self.leases[path.rpartition("/")[2]]
        lease["spec"] |= patch.get("spec", {})
        lease["metadata"]["resourceVersion"] += "1"
        return await self._answer(lease["metadata"]["name"])

    async def _answer(self, name: str) -> dict[str, Any]:
        answer = deepcopy(self.leases[name])
        written = asyncio.Event()
        await self.writes.put(written)
        await written.wait()
        return answer


@pytest.fixture
def api() -> SlowApi:
    return SlowApi()


@pytest.fixture
def slots(api: SlowApi) -> LeasedSlots:
    return LeasedSlots(cast("KubernetesApi", api), "relay", holder="me", logger=logging.getLogger("tests.slots"))


async def test_a_slot_that_is_being_taken_or_given_back_is_not_taken_once_more(
    api: SlowApi, slots: LeasedSlots
) -> None:
    async with asyncio.timeout(15), asyncio.TaskGroup() as tasks:
        takes = []
        answers = []
        for _ in range(2):
            takes.append(tasks.create_task(slots.take("login", LIMITS)))
            answers.append(await api.writes.get())
        assert await slots.take("login", LIMITS) is None
        for answer in answers:
            answer.set()
        held = [await take for take in takes]
        assert [slot.key[1] for slot in held if slot is not None] == [0, 1]

        assert held[0] is not None
        held[0].free()
        given_back = await api.writes.get()
        assert await slots.take("login", LIMITS) is None
        given_back.set()
        await asyncio.gather(*slots._releasing)
        again = tasks.create_task(slots.take("login", LIMITS))
        (await api.writes.get()).set()
        slot = await again
        assert slot is not None
        assert slot.key == held[0].key

        closing = tasks.create_task(slots.close())
        for _ in range(2):
            (await api.writes.get()).set()
        await closing
    assert slots.count() == 0


class Leases:
    """Leases of one login at an API server with a clock of its own, which answers at once unless it is told otherwise.

    Only what a real one cannot be made to do is tried on it: it does not answer, and time passes.
    """

    def __init__(self, answer_s: Callable[[], float] = lambda: 0.0) -> None:
        self.leases: dict[str, dict[str, Any]] = {}
        self.asked_s: list[float] = []
        self._answer_s = answer_s
        self._time = asyncio.get_running_loop().time

    def api(self) -> KubernetesApi:
        return cast("KubernetesApi", self)

    async def list_at(self, *_: object, **__: object) -> tuple[list[dict[str, Any]], str]:
        return deepcopy([*self.leases.values()]), "1"

    async def create(self, _collection: str, body: dict[str, Any]) -> dict[str, Any]:
        name = body["metadata"]["name"]
        self.leases[name] = deepcopy(body)
        self.leases[name]["metadata"] |= {"uid": name, "annotations": {}, "resourceVersion": "1"}
        return self._noted(name)

    async def merge(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        self.asked_s.append(self._time())
        await asyncio.sleep(self._answer_s())
        lease = self.leases[path.rpartition("/")[2]]
        lease["spec"] |= patch.get("spec", {})
        lease["metadata"]["annotations"] |= patch["metadata"]["annotations"]
        lease["metadata"]["resourceVersion"] += "1"
        return self._noted(lease["metadata"]["name"])

    def _noted(self, name: str) -> dict[str, Any]:
        changed = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self._time())
        self.leases[name]["metadata"]["managedFields"] = [{"time": changed.strftime("%Y-%m-%dT%H:%M:%SZ")}]
        return deepcopy(self.leases[name])


class Clocks:
    """What the machines of two processes show: both go as fast, and one is set wrong by hours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def of(self, hours: int) -> None:
        """What is done next is done on the machine whose clock is wrong by so much."""
        time = asyncio.get_running_loop().time

        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> "Clock":
                return cls.fromtimestamp(2e9 + time() + 3600 * hours, tz)

        self._monkeypatch.setattr(module, "datetime", Clock)
        self._monkeypatch.setattr(module, "boottime_s", time)


def process(api: Leases, holder: str, **options: Any) -> LeasedSlots:
    return LeasedSlots(api.api(), "relay", holder=holder, logger=logging.getLogger("tests.slots"), **options)


async def taken(slots: LeasedSlots) -> HeldSlot:
    slot = await slots.take("login", LIMITS_OF_ONE)
    assert slot is not None
    return slot


async def given_back(slots: LeasedSlots, slot: HeldSlot) -> None:
    slot.free()
    await asyncio.gather(*slots._releasing)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def in_time(clocks: Clocks, story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        clocks.of(0)
        await story()

    virtual_time.run(told())


def hangs() -> float:
    return 3600.0


def fails() -> float:
    raise ConnectionResetError


@pytest.mark.parametrize("answer_s", [hangs, fails])
def test_a_slot_is_lost_in_time_while_the_api_server_does_not_answer(
    clocks: Clocks, answer_s: Callable[[], float]
) -> None:
    async def story() -> None:
        loop, api = asyncio.get_running_loop(), Leases(answer_s)
        slot, over = await taken(process(api, "one")), asyncio.Event()
        slot.when_over(over.set)
        await over.wait()
        assert loop.time() == pytest.approx(TERMS.renew_deadline_s)
        assert not slot.is_held
        assert max(api.asked_s) < TERMS.renew_deadline_s
        assert len(api.asked_s) > 1  # each answer was waited for only so long that there was time for another
        assert (
            min(later - earlier for earlier, later in zip(api.asked_s, api.asked_s[1:], strict=False)) < TERMS.margin_s
        )

    in_time(clocks, story)


def test_how_long_a_slot_is_held_counts_from_when_its_renewal_was_asked_for(clocks: Clocks) -> None:
    async def story() -> None:
        answers = [RENEW_WITHIN_S - 0.5]
        loop, api = asyncio.get_running_loop(), Leases(lambda: answers.pop() if answers else 3600.0)
        slot, over = await taken(process(api, "one")), asyncio.Event()
        slot.when_over(over.set)
        await over.wait()
        assert loop.time() == pytest.approx(RENEW_S + TERMS.renew_deadline_s)

    in_time(clocks, story)


def test_a_slot_is_not_taken_for_held_after_its_holder_has_stood_still(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        slot = await taken(process(Leases(), "one"))
        assert slot.is_held
        monkeypatch.setattr(module, "boottime_s", lambda: TERMS.renew_deadline_s)
        assert not slot.is_held

    in_time(clocks, story)


@pytest.mark.parametrize("hours", [-2, 0, 2])
def test_what_was_sent_counts_however_the_clocks_are_set(clocks: Clocks, hours: int) -> None:
    async def story() -> None:
        loop, api = asyncio.get_running_loop(), Leases()
        one, other = process(api, "one"), process(api, "other")
        slot = await taken(one)
        for _ in range(4):
            slot.budget.begin(loop.time())
        clocks.of(hours)
        await given_back(one, slot)
        clocks.of(0)
        assert (await taken(other)).budget.spent(loop.time()) == 4

    in_time(clocks, story)


@pytest.mark.parametrize("hours", [-2, 0, 2])
@pytest.mark.parametrize("seen_before", [False, True])
def test_what_was_sent_counts_no_longer_than_a_minute(clocks: Clocks, hours: int, *, seen_before: bool) -> None:
    async def story() -> None:
        loop, api = asyncio.get_running_loop(), Leases()
        one, other = process(api, "one"), process(api, "other")
        slot = await taken(one)
        slot.budget.begin(loop.time())
        clocks.of(hours)
        await given_back(one, slot)
        clocks.of(0)
        if seen_before:  # then it need not be told by the API server
            await other._look("login")
            api._noted = lambda name: deepcopy(api.leases[name])  # type: ignore[method-assign]
        await asyncio.sleep(61.5)
        assert (await taken(other)).budget.spent(loop.time()) == 0

    in_time(clocks, story)


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_slot_is_taken_when_it_was_seen_unchanged_however_the_clocks_are_set(clocks: Clocks, hours: int) -> None:
    async def story() -> None:
        api = Leases()
        other = process(api, "other")
        clocks.of(hours)
        slot = await taken(process(api, "one", renew_s=3600.0))
        clocks.of(0)
        assert await other.take("login", LIMITS_OF_ONE) is None
        await asyncio.sleep(TERMS.duration_s - 0.5)
        assert not slot.is_held
        assert await other.take("login", LIMITS_OF_ONE) is None
        await asyncio.sleep(0.6)
        await taken(other)

    in_time(clocks, story)
