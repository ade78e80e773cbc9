"""Slots: the connections that a provider permits a login at a time, each a Lease that one process holds. Pure."""

from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from mailsettings.core.lease import Terms

TERMS: Final = Terms(20)
"""So long after its holder's end a slot is free again."""

RENEW_S: Final = 5.0
"""From one renewal of a slot to the next. By it its holder learns, too, that somebody else waits for it."""

RENEW_WITHIN_S: Final = 3.0
"""For one request to renew a slot, well below `TERMS.margin_s`: there is time for another before the slot is lost."""

LOOK_S: Final = 1.0
"""From one look for a slot to the next, at least."""

RESERVED_S: Final = 3 * LOOK_S
"""So long a slot that was given up for somebody is left to that one, who may have got another one meanwhile."""

MINUTE_S: Final = 60.0


class Budget:
    """How many messages may still be begun on a slot: in any minute no more than its share of the provider's limit."""

    def __init__(self, share: int, *, spent: int = 0, now_s: float = 0.0) -> None:
        """What is left of it.

        Args:
            share: How many messages a minute.
            spent: How many of them former holders have begun in the last minute; they count from now on.
            now_s: The present time, by any clock that only goes forward.
        """
        self._share = share
        self._begun_s = deque([now_s] * min(spent, share))

    def pause_s(self, now_s: float) -> float:
        """After how many seconds a message may be begun; 0: now."""
        self._forget(now_s)
        if len(self._begun_s) < self._share:
            return 0.0
        return self._begun_s[0] + MINUTE_S - now_s

    def begin(self, now_s: float) -> None:
        """A message is begun."""
        self._begun_s.append(now_s)

    def give_back(self) -> None:
        """The last one was not begun after all."""
        if self._begun_s:
            self._begun_s.pop()

    def spent(self, now_s: float) -> int:
        """How many were begun in the last minute."""
        self._forget(now_s)
        return len(self._begun_s)

    def _forget(self, now_s: float) -> None:
        while self._begun_s and now_s - self._begun_s[0] >= MINUTE_S:
            self._begun_s.popleft()


@dataclass(frozen=True, slots=True)
class SeenSlot:
    """A slot as somebody sees it who has not got it."""

    number: int
    holder: str = ""
    """Empty: nobody's."""
    wait_s: float = 0.0
    """For how long its Lease still lasts; 0: it may be taken."""
    wanted_by: str = ""
    """Who has asked for it; empty: nobody."""
    user: str = ""
    """Whose messages go through it; empty: nobody says so."""
    unchanged_s: float = 0.0
    """For how long it has been seen to be so."""


@dataclass(frozen=True, slots=True)
class Take:
    """The slot of this number is to be taken."""

    number: int


@dataclass(frozen=True, slots=True)
class Ask:
    """The holder of the slot of this number is to be asked for it."""

    number: int


def next_step(
    slots: Sequence[SeenSlot], me: str, *, held: Sequence[str] = (), waiting: Collection[str] = ()
) -> Take | Ask | None:
    """What somebody does who wants a slot; None: to wait.

    Whoever has none may ask for any; others only somebody who has two more than they have. So nobody keeps all of them
    from the others, and where they are as evenly spread as can be they are not passed around. The same holds for those
    who use them: for a user that has none, everything is asked for that somebody with two or more uses, one by one,
    since nobody knows which comes free first.

    Args:
        slots: All of them but those that it has.
        me: Who wants it.
        held: Who uses those that it has.
        waiting: The users that wait for one and have none of those.
    """
    free = [slot for slot in slots if slot.wait_s <= 0 and not _is_reserved(slot, me)]
    if free:
        return Take(min(free, key=lambda slot: (slot.wanted_by != me, slot.number)).number)
    asked = _asked_for_users(slots, me, held, waiting)
    if asked is not None or any(slot.wanted_by == me for slot in slots):
        return asked
    return _asked(slots, me, len(held))


def _is_reserved(slot: SeenSlot, me: str) -> bool:
    return slot.wanted_by not in ("", me) and slot.holder == "" and slot.unchanged_s < RESERVED_S


def _asked_for_users(slots: Sequence[SeenSlot], me: str, held: Sequence[str], waiting: Collection[str]) -> Ask | None:
    by_user = Counter(filter(None, (*held, *(slot.user for slot in slots if slot.holder))))
    if all(by_user[user] for user in waiting):
        return None
    candidates = (slot for slot in slots if slot.holder not in ("", me) and not slot.wanted_by)
    return next((Ask(slot.number) for slot in candidates if by_user[slot.user] > 1), None)


def _asked(slots: Sequence[SeenSlot], me: str, held: int) -> Ask | None:
    by_holder = Counter(slot.holder for slot in slots)
    candidates = [
        slot
        for slot in slots
        if slot.holder not in ("", me) and not slot.wanted_by and (not held or by_holder[slot.holder] >= held + 2)
    ]
    if not candidates:
        return None
    return Ask(max(candidates, key=lambda slot: (by_holder[slot.holder], -slot.number)).number)
