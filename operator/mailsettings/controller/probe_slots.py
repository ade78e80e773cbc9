"""Has probes take a slot, where the relay sends with the same login and the provider counts its connections."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from mailsettings.api.conditions import Reason
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import MailboxLimits
from mailsettings.core.probe import ProbeFailure, ProbeRequest, ProbeResult, Stage
from mailsettings.core.slots import LOOK_S
from mailsettings.edges.slots import HeldSlot, LeasedSlots

WAIT_S: Final = 60.0
"""How long a probe waits for a slot. A replica that has two gives one up with its next renewal and message."""

_REFUSED: Final = ProbeFailure(
    Stage.CONNECT,
    Reason.TOO_MANY_CONNECTIONS,
    "The relay is using all connections and messages that the provider permits this login.",
    remedy="It is tried again.",
    is_transient=True,
)


async def with_slot(
    request: ProbeRequest,
    probe: Callable[[], Awaitable[ProbeResult]],
    *,
    slots: LeasedSlots,
    limits_of: Callable[[str], MailboxLimits | None],
    wait_s: float = WAIT_S,
) -> ProbeResult:
    """What a probe results in, once it has a slot; without one for too long it fails as the provider would have it.

    Args:
        request: The probe's.
        probe: Begins it.
        slots: Where slots are.
        limits_of: The limits of the login of the settings of this uid; None: it is not the relay's, or has none.
        wait_s: For how long it waits, in seconds.
    """
    credential = request.slots_of
    limits = limits_of(credential) if credential is not None else None
    if credential is None or limits is None:
        return await probe()
    time = asyncio.get_running_loop().time
    began_s, slot = time(), None
    try:
        try:
            async with asyncio.timeout(wait_s):
                slot = await _taken(slots, credential, limits)
                if request.mode is ProbeMode.SEND:
                    await asyncio.sleep(slot.budget.pause_s(time()))
                    slot.budget.begin(time())
        except TimeoutError:
            return ProbeResult(timedelta(seconds=time() - began_s), _REFUSED)
        return await probe()
    finally:
        if slot is not None:
            slot.free()


async def _taken(slots: LeasedSlots, credential: str, limits: MailboxLimits) -> HeldSlot:
    while True:
        slot = await slots.take(credential, limits)
        if slot is not None:
            return slot
        await asyncio.sleep(LOOK_S)
