"""Lets messages begin a few at a time, so that those that have been begun are finished first."""

import asyncio
from collections import deque
from typing import Final

AT_ONCE: Final = 4
"""Messages between their MAIL and their end; whatever waits for the mail server's word on the whole is not counted."""

HOLD_S: Final = 0.004
"""After so long a message no longer counts: slow clients and servers hold up nobody."""


class Admission:
    """Who may begin a message.

    A relay that works at all messages at once ends them all at once, and has nothing to do while the mail server thinks
    about them. It begins `AT_ONCE` / `HOLD_S` messages in a second at least, which is more than a core can do.
    """

    def __init__(self) -> None:
        """Nobody has begun."""
        self._loop = asyncio.get_running_loop()
        self._until_s: dict[object, float] = {}
        self._waiting: deque[tuple[object, asyncio.Future[None]]] = deque()
        self._alarm: asyncio.TimerHandle | None = None

    async def enter(self, who: object) -> None:
        """Waits until a message may begin.

        Args:
            who: Sends it, one at a time.
        """
        if not self._waiting and self._has_room():
            self._begin(who)
            return
        turn = self._loop.create_future()
        self._waiting.append((who, turn))
        self._wake_in_time()
        await turn

    def leave(self, who: object) -> None:
        """The message is no longer worked at. It may have left before."""
        if self._until_s.pop(who, None) is not None and self._waiting:
            self._next()

    def _has_room(self) -> bool:
        now_s = self._loop.time()
        while self._until_s and (oldest := next(iter(self._until_s.items())))[1] <= now_s:
            del self._until_s[oldest[0]]
        return len(self._until_s) < AT_ONCE

    def _begin(self, who: object) -> None:
        self._until_s.pop(who, None)
        self._until_s[who] = self._loop.time() + HOLD_S

    def _next(self) -> None:
        while self._waiting and self._has_room():
            who, turn = self._waiting.popleft()
            if not turn.done():
                self._begin(who)
                turn.set_result(None)
        self._wake_in_time()

    def _wake_in_time(self) -> None:
        if self._waiting and self._alarm is None:
            self._alarm = self._loop.call_at(next(iter(self._until_s.values())), self._alarmed)

    def _alarmed(self) -> None:
        self._alarm = None
        self._next()
