"""Lets messages begin a few at a time, so that those that have been begun are finished first."""

import asyncio
from collections import deque
from typing import Final

AT_ONCE: Final = 4
"""Messages from MAIL to their end. Those that only wait for the mail server's word about the whole do not count."""

HOLD_S: Final = 0.004
"""After so long a message counts no more: slow clients and slow mail servers hold up nobody."""


class Admission:
    """Who may begin a message: whoever has waited longest.

    A relay that works at all messages at once ends them all at once, and has nothing to do while the mail server thinks
    about them. `AT_ONCE` messages in `HOLD_S` may always begin, 1000 in a second: about what a core can do.
    """

    def __init__(self, at_once: int = AT_ONCE, hold_s: float = HOLD_S) -> None:
        """Nobody has begun.

        Args:
            at_once: How many messages count, at least one.
            hold_s: For how many seconds each does at most.
        """
        self._loop = asyncio.get_running_loop()
        self._at_once = at_once
        self._hold_s = hold_s
        self._until_s: dict[object, float] = {}  # in the order in which they began
        self._waiting: deque[tuple[object, asyncio.Future[None]]] = deque()
        self._alarm: asyncio.TimerHandle | None = None

    async def enter(self, who: object) -> None:
        """Waits until a message may begin.

        Args:
            who: Sends it, and no other at the same time.
        """
        if not self._waiting and self._has_room():
            self._begin(who)
            return
        turn = self._loop.create_future()
        self._waiting.append((who, turn))
        self._wake_in_time()
        await turn

    def leave(self, who: object) -> None:
        """The message counts no more; it may be so already."""
        if self._until_s.pop(who, None) is not None:
            self._next()

    def _has_room(self) -> bool:
        now_s = self._loop.time()
        for who, until_s in list(self._until_s.items()):
            if until_s > now_s:
                break
            del self._until_s[who]
        return len(self._until_s) < self._at_once

    def _begin(self, who: object) -> None:
        self._until_s.pop(who, None)  # so that it is the last
        self._until_s[who] = self._loop.time() + self._hold_s

    def _next(self) -> None:
        while self._waiting and self._has_room():
            who, turn = self._waiting.popleft()
            if not turn.done():  # nobody waits for one that was cancelled
                self._begin(who)
                turn.set_result(None)
        self._wake_in_time()

    def _wake_in_time(self) -> None:
        if self._waiting and self._alarm is None:
            self._alarm = self._loop.call_at(next(iter(self._until_s.values())), self._alarmed)

    def _alarmed(self) -> None:
        self._alarm = None
        self._next()
