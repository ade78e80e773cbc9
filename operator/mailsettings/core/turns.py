"""Whose probe is next: people first, no namespace beyond its share, no mailbox beyond its provider's limits. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mailsettings.api.providers import MailboxLimits

SHARE: Final = 4
"""A namespace has at most one in so many of the places, so that servers that hang delay their own namespace only."""

PATIENT_TURN: Final = 8
"""Every so many probes, in all and of one mailbox, one that nobody waits for begins, however many people wait."""

MINUTE_S: Final = timedelta(minutes=1).total_seconds()


@dataclass(frozen=True, slots=True)
class Turn:
    """A probe that waits or runs."""

    namespace: str
    """Whose; empty: the system's."""
    mailbox: str | None = None
    """What is counted as the provider counts it; None: there is no login."""
    limits: MailboxLimits | None = None
    """None: none are known."""
    asked_for: bool = False
    """Whether a person is waiting."""
    sends: bool = False
    """Whether it sends a mail."""


class Passed:
    """How often those that a person waits for have gone ahead of those that nobody waits for."""

    def __init__(self) -> None:
        """Nobody has."""
        self._in_all = 0
        self._of_mailbox: Counter[str | None] = Counter()

    def rank(self, turn: Turn) -> int:
        """0 goes first: what has been passed over so often that it goes ahead of people now."""
        if turn.asked_for:
            return 1
        most = max(self._in_all, self._of_mailbox[turn.mailbox])
        return 0 if most >= PATIENT_TURN - 1 else 2

    def begun(self, turn: Turn) -> None:
        """It begins now."""
        if turn.asked_for:
            self._in_all += 1
            self._of_mailbox[turn.mailbox] += 1
        else:
            self._in_all = 0
            del self._of_mailbox[turn.mailbox]

    def keep(self, waiting: Iterable[Turn]) -> None:
        """Forgets the mailboxes that none of those wait for."""
        mailboxes = {turn.mailbox for turn in waiting if not turn.asked_for}
        self._of_mailbox = Counter({name: count for name, count in self._of_mailbox.items() if name in mailboxes})


def next_turn(
    waiting: Sequence[Turn],
    running: Sequence[Turn],
    *,
    places: int,
    sent_s: Mapping[str, Sequence[float]],
    now_s: float,
    passed: Passed,
) -> int | None:
    """Which of those that wait, in the order of their arrival, begins now; None: none may.

    Args:
        waiting: In the order of their arrival.
        running: In any order.
        places: How many may run at a time.
        sent_s: By mailbox, when test mails were begun, by the clock of `now_s`.
        now_s: The present time, in seconds.
        passed: Who has been passed over.
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

    for wanted in range(3):
        first = None
        for index, turn in enumerate(waiting):
            if passed.rank(turn) != wanted or not is_free(turn):
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
