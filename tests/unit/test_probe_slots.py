"""Probes take a slot where the relay sends with the same login."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import MailboxLimits, TlsMode
from mailsettings.controller import probe_slots
from mailsettings.controller.probe_slots import with_slot
from mailsettings.core.probe import ProbeRequest, ProbeResult
from mailsettings.core.server import Credentials, Server, Source
from mailsettings.core.slots import Budget
from mailsettings.edges.slots import LeasedSlots

LIMITS = MailboxLimits(connections=3, messages_per_minute=30)
SERVER = Server("mail.acme.example", 587, TlsMode.START_TLS, timedelta(seconds=10))
REQUEST = ProbeRequest(SERVER, ProbeMode.AUTHENTICATE, Source.SYSTEM, Credentials("u", "p"), slots_of="uid")
PASSED = ProbeResult(timedelta(milliseconds=5))


class Slots:
    """Gives one at the given look."""

    def __init__(self, at: int, budget: Budget | None = None) -> None:
        self.at = at
        self.asked = 0
        self.freed = 0
        self.budget = budget or Budget(10)

    async def take(self, credential: str, limits: MailboxLimits) -> Any:
        assert (credential, limits) == ("uid", LIMITS)
        self.asked += 1
        return self if self.asked >= self.at else None

    def free(self) -> None:
        self.freed += 1


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_slots, "LOOK_S", 0.001)


async def probed(slots: Slots, request: ProbeRequest = REQUEST, *, known: bool = True, wait_s: float = 20) -> Any:
    held: list[int] = []

    async def probe() -> ProbeResult:
        held.append(slots.asked - slots.freed)
        return PASSED

    result = await with_slot(
        request,
        probe,
        slots=cast("LeasedSlots", slots),
        limits_of=lambda uid: LIMITS if known and uid == "uid" else None,
        wait_s=wait_s,
    )
    return result, held


async def test_a_slot_is_held_while_a_probe_runs() -> None:
    slots = Slots(1)
    assert await probed(slots) == (PASSED, [1])
    assert (slots.asked, slots.freed) == (1, 1)


async def test_it_waits_for_one() -> None:
    slots = Slots(3)
    result, _ = await probed(slots)
    assert (result, slots.asked, slots.freed) == (PASSED, 3, 1)


async def test_without_one_the_probe_fails_for_a_while() -> None:
    slots = Slots(10**9)
    result, held = await probed(slots, wait_s=0.02)
    assert (held, slots.freed) == ([], 0)
    assert result.failure is not None
    assert (result.failure.reason, result.failure.is_transient) == (Reason.TOO_MANY_CONNECTIONS, True)


@pytest.mark.parametrize("request_", [replace(REQUEST, slots_of=None), replace(REQUEST, slots_of="other")])
async def test_what_the_relay_does_not_send_with_needs_none(request_: ProbeRequest) -> None:
    slots = Slots(1)
    assert (await probed(slots, request_))[0] == PASSED
    assert (await probed(slots, known=False))[0] == PASSED
    assert slots.asked == 0


async def test_a_mail_counts_and_waits_for_the_budget() -> None:
    now_s = asyncio.get_running_loop().time()
    slots = Slots(1, Budget(1, spent=1, now_s=now_s - 59.95))
    result, _ = await probed(slots, replace(REQUEST, mode=ProbeMode.SEND))
    assert result == PASSED
    assert slots.budget.pause_s(asyncio.get_running_loop().time()) > 50
    result, held = await probed(slots, replace(REQUEST, mode=ProbeMode.SEND), wait_s=0.02)
    assert (held, slots.freed) == ([], 2)
    assert result.failure is not None


async def test_a_slot_is_freed_when_the_probe_is_cancelled_while_it_waits_for_the_budget() -> None:
    slots = Slots(1, Budget(1, spent=1, now_s=asyncio.get_running_loop().time()))
    probing = asyncio.create_task(probed(slots, replace(REQUEST, mode=ProbeMode.SEND)))
    async with asyncio.timeout(20):
        while slots.asked == 0:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    probing.cancel()
    await asyncio.wait([probing])
    assert probing.cancelled()
    assert slots.freed == 1
