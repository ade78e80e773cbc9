"""Whose probe is next: people first, no namespace beyond its share, no mailbox beyond its provider's limits. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mailsettings.api.providers import MailboxLimits

SHARE: Final = 4
"""A namespace has at most one in so many of the places, so that servers that hang delay their own namespace only."""

MINUTE_S: Final = timedelta(minutes=1).total_seconds()


@dataclass(frozen=True, slots=True)
class Turn:
    """A probe that waits or runs."""

    namespace: str
    """Whose; empty: the system's."""
    mailbox: str | None = None
    """What the provider counts by; None: there is no login."""
    limits: MailboxLimits | None = None
    """None: none are known."""
    asked_for: bool = False
    """Whether a person is waiting."""
    sends: bool = False
    """Whether it sends a mail."""


def next_turn(
    waiting: Sequence[Turn],
    running: Sequence[Turn],
    *,
    places: int,
    sent_s: Mapping[str, Sequence[float]],
    now_s: float,
) -> int | None:
    """Which of those that wait, in the order of their arrival, begins now; None: none may.

    Args:
        waiting: In the order of their arrival.
        running: In any order.
        places: How many may run at a time.
        sent_s: By mailbox, when test mails were begun, by the clock of `now_s`.
        now_s: The present time, in seconds.
    """
    if len(running) >= places:
        return None
    active = Counter(turn.namespace for turn in running)
    connected = Counter(turn.mailbox for turn in running)
    share = max(1, places // SHARE)

    def is_free(turn: Turn) -> bool:
        return (
            active[turn.namespace] < share
            and _may_connect(turn, connected)
            and _pause_s(turn, sent_s.get(turn.mailbox or "", ()), now_s) <= 0
        )

    for asked_for in (True, False):
        first = None
        for index, turn in enumerate(waiting):
            if turn.asked_for is not asked_for or not is_free(turn):
                continue
            if not active[turn.namespace]:
                return index  # none can have a better claim, however many wait
            if first is None or active[turn.namespace] < active[waiting[first].namespace]:
                first = index
        if first is not None:
            return first
    return None


def pause_s(waiting: Iterable[Turn], *, sent_s: Mapping[str, Sequence[float]], now_s: float) -> float | None:
    """After how many seconds a rate lets the first of those begin that it holds back; None: it holds none back."""
    pauses = [_pause_s(turn, sent_s.get(turn.mailbox or "", ()), now_s) for turn in waiting]
    return min((pause for pause in pauses if pause > 0), default=None)


def _may_connect(turn: Turn, connected: Mapping[str | None, int]) -> bool:
    if turn.limits is None or turn.mailbox is None:
        return True
    return connected[turn.mailbox] < turn.limits.probe_connections


def _pause_s(turn: Turn, sent_s: Sequence[float], now_s: float) -> float:
    if turn.limits is None or turn.mailbox is None or not turn.sends:
        return 0
    recent = sorted(moment for moment in sent_s if now_s - moment < MINUTE_S)
    if len(recent) < turn.limits.probe_messages_per_minute:
        return 0
    return recent[-turn.limits.probe_messages_per_minute] + MINUTE_S - now_s
