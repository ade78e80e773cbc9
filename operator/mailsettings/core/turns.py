"""Whose probe is next: people first, no namespace beyond its share, no mailbox beyond its provider's limits. Pure."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


_Waiting = dict[str, dict[Turn, dict[int, None]]]
"""Tickets by namespace and by what they may do, each in the order in which it is their turn."""


class Line:
    """Those that wait for their turn, each with a ticket.

    What equals another `Turn` may begin when that one may, so looking for the next costs no more where thousands of
    one namespace or one mailbox wait: whole namespaces and whole groups of equals are passed over. Of those that have
    the same claim it is the turn of the namespace, and in it of the group, that has waited longest for one.
    """

    def __init__(self) -> None:
        """Nobody waits."""
        self._tickets = itertools.count()
        self._turns: dict[int, Turn] = {}
        self._people: _Waiting = {}
        self._patient: _Waiting = {}
        self._patient_of: Counter[str | None] = Counter()
        """By mailbox: how many wait that no person waits for."""
        self._passed = 0
        """How often those that a person waits for have gone ahead of the others, since one of those began."""
        self._passed_of: Counter[str | None] = Counter()
        """The same by mailbox, where others wait."""
        self._senders: dict[str, Counter[MailboxLimits]] = {}
        """By mailbox: those that send a mail and are held to a rate."""

    def join(self, turn: Turn) -> int:
        """Waits from now on; the ticket."""
        ticket = next(self._tickets)
        self._turns[ticket] = turn
        self._of(turn).setdefault(turn.namespace, {}).setdefault(turn, {})[ticket] = None
        if not turn.asked_for:
            self._patient_of[turn.mailbox] += 1
        if turn.sends and turn.mailbox is not None and turn.limits is not None:
            self._senders.setdefault(turn.mailbox, Counter())[turn.limits] += 1
        return ticket

    def leave(self, ticket: int) -> Turn:
        """Waits no more."""
        turn = self._turns.pop(ticket)
        namespaces = self._of(turn)
        groups = namespaces[turn.namespace]
        tickets = groups[turn]
        del tickets[ticket]
        if not tickets:
            del groups[turn]
        if not groups:
            del namespaces[turn.namespace]
        if not turn.asked_for:
            self._patient_of[turn.mailbox] -= 1
            if not self._patient_of[turn.mailbox]:
                del self._patient_of[turn.mailbox]
                self._passed_of.pop(turn.mailbox, None)
        if turn.sends and turn.mailbox is not None and turn.limits is not None:
            senders = self._senders[turn.mailbox]
            senders[turn.limits] -= 1
            if not senders[turn.limits]:
                del senders[turn.limits]
            if not senders:
                del self._senders[turn.mailbox]
        return turn

    def begin(self, ticket: int) -> None:
        """It is its turn. Those like it have theirs after the others."""
        turn = self.leave(ticket)
        namespaces = self._of(turn)
        if (groups := namespaces.pop(turn.namespace, None)) is not None:
            if (tickets := groups.pop(turn, None)) is not None:
                groups[turn] = tickets
            namespaces[turn.namespace] = groups
        if not turn.asked_for:
            self._passed = 0
            self._passed_of.pop(turn.mailbox, None)
            return
        self._passed += 1
        if turn.mailbox in self._patient_of:
            self._passed_of[turn.mailbox] += 1

    def next(
        self, running: Sequence[Turn], *, places: int, sent_s: Mapping[str, Sequence[float]], now_s: float
    ) -> int | None:
        """The ticket of what begins now; None: nothing may.

        Args:
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
            return _may_connect(turn, connected) and _pause_s(turn, sent_s.get(turn.mailbox or "", ()), now_s) <= 0

        for waiting, is_meant in self._ranks():
            best: tuple[int, int] | None = None
            for namespace, groups in waiting.items():
                running_here = active[namespace]
                if running_here >= share or (best is not None and running_here >= best[0]):
                    continue
                ticket = _first(groups, is_meant, is_free)
                if ticket is None:
                    continue
                if not running_here:
                    return ticket  # none can have a better claim, however many wait
                best = (running_here, ticket)
            if best is not None:
                return best[1]
        return None

    def pause_s(self, *, sent_s: Mapping[str, Sequence[float]], now_s: float) -> float | None:
        """After how many seconds a rate lets the first of those begin that it holds back; None: it holds none back."""
        pauses = (
            _rate_pause_s(limits, moments, now_s)
            for mailbox, moments in sent_s.items()
            for limits in self._senders.get(mailbox, ())
        )
        return min((pause for pause in pauses if pause > 0), default=None)

    def _of(self, turn: Turn) -> _Waiting:
        return self._people if turn.asked_for else self._patient

    def _ranks(self) -> Iterator[tuple[_Waiting, Callable[[Turn], bool]]]:
        """Who goes ahead of whom: what has been passed over often enough, then people, then the others."""
        often = PATIENT_TURN - 1
        if self._passed >= often:
            yield self._patient, lambda _: True
        elif due := {mailbox for mailbox, count in self._passed_of.items() if count >= often}:
            yield self._patient, lambda turn: turn.mailbox in due
        yield self._people, lambda _: True
        yield self._patient, lambda _: True


def _first(
    groups: Mapping[Turn, Iterable[int]], is_meant: Callable[[Turn], bool], is_free: Callable[[Turn], bool]
) -> int | None:
    return next((next(iter(tickets)) for turn, tickets in groups.items() if is_meant(turn) and is_free(turn)), None)


def _may_connect(turn: Turn, connected: Mapping[str | None, int]) -> bool:
    if turn.limits is None or turn.mailbox is None:
        return True
    return connected[turn.mailbox] < turn.limits.probe_connections


def _pause_s(turn: Turn, sent_s: Sequence[float], now_s: float) -> float:
    if turn.limits is None or turn.mailbox is None or not turn.sends:
        return 0
    return _rate_pause_s(turn.limits, sent_s, now_s)


def _rate_pause_s(limits: MailboxLimits, sent_s: Sequence[float], now_s: float) -> float:
    recent = sorted(moment for moment in sent_s if now_s - moment < MINUTE_S)
    if len(recent) < limits.probe_messages_per_minute:
        return 0
    return recent[-limits.probe_messages_per_minute] + MINUTE_S - now_s
