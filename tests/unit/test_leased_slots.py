"""Slots while requests for them are under way."""

import asyncio
import logging
from copy import deepcopy
from typing import Any, Final, cast

import pytest

from mailsettings.api.providers import MailboxLimits
from mailsettings.edges.kubernetes import KubernetesApi
from mailsettings.edges.slots import LeasedSlots

LIMITS: Final = MailboxLimits(connections=2, messages_per_minute=30)


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
