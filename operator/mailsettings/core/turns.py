"""Whose probe is next: people first, no namespace beyond its share, no mailbox beyond its provider's limits. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol, TypeVar

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


class Waiting(Protocol):
    """Something that waits for its turn."""

    @property
    def turn(self) -> Turn:
        """What decides when it comes."""


T = TypeVar("T", bound=Waiting)


class Passed:
    """How often those that a person waits for have gone ahead of those that nobody waits for."""

    def __init__(self) -> None:
        """Nobody has."""
        self._in_all = 0
        self._of_mailbox: Counter[str | None] = Counter()

    def overdue(self, others: Iterable[T]) -> Iterator[T]:
        """Those of them that have been passed over so often that they go ahead of people now."""
        if self._in_all >= PATIENT_TURN - 1:
            yield from others
        elif any(count >= PATIENT_TURN - 1 for count in self._of_mailbox.values()):
            yield from (each for each in others if self._of_mailbox[each.turn.mailbox] >= PATIENT_TURN - 1)

    def begun(self, turn: Turn) -> None:
        """It begins now."""
        if turn.asked_for:
            self._in_all += 1
            self._of_mailbox[turn.mailbox] += 1
        else:
            self._in_all = 0
            del self._of_mailbox[turn.mailbox]

    def keep(self, others: Iterable[Waiting]) -> None:
        """Forgets the mailboxes that none of those wait for."""
        if not self._of_mailbox:
            return
        mailboxes = {each.turn.mailbox for each in others}
        self._of_mailbox = Counter({name: count for name, count in self._of_mailbox.items() if name in mailboxes})


def next_turn(
    people: Iterable[T],
    others: Iterable[T],
    running: Sequence[Turn],
    *,
    places: int,
    sent_s: Mapping[str, Sequence[float]],
    now_s: float,
    passed: Passed,
) -> T | None:
    """Which of those that wait begins now; None: none may. As a rule it looks at few of them, however many wait.

    Args:
        people: What a person waits for, in the order of their arrival.
        others: What nobody waits for, in the order of their arrival.
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

    for claims in (passed.overdue(others), people, others):
        best = None
        for each in claims:
            if not is_free(each.turn):
                continue
            if not active[each.turn.namespace]:
                return each  # none can have a better claim, however many wait
            if best is None or active[each.turn.namespace] < active[best.turn.namespace]:
                best = each
        if best is not None:
            return best
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
