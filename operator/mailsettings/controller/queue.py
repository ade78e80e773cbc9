"""The work queue: every key at most once in it, never worked on twice at a time, retried with growing delays."""

import asyncio
import contextlib
import heapq
import itertools
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextvars import Context
from typing import Final

from mailsettings.controller.keys import Key, Kind
from mailsettings.edges.errors import described

FIRST_RETRY_SECONDS: Final = 0.1
LAST_RETRY_SECONDS: Final = 300.0
_SPARE_TIMERS: Final = 64
"""How many timers that have lost their meaning may be kept, beside as many as have one."""

PATIENT_TURN: Final = 8
"""Every so many keys, one of those that came with many others is taken, however many came alone in the meantime."""


YIELDING_SHARE: Final = 4
"""While somebody waits, keys that came with many others begin only in one of so many places: the fewer requests are
under way, the faster is each of them."""

LINGER_SECONDS: Final = 0.25
"""How long they still yield afterwards: whoever has done one thing may do another."""

_AWAITED: Final = frozenset({Kind.TENANT, Kind.TEST})
"""Of these somebody waits for those that come alone. The others are consequences, or come every second."""


class WorkerEndedError(Exception):
    """A worker has ended though nobody wanted it to: what it was to do would wait for ever."""


Reconcile = Callable[[Key], Awaitable[None]]


class WorkQueue:
    """Keys to reconcile, in the order in which they came; those that came alone before those that came with many.

    While one is worked on that came alone and that somebody may wait for, fewer of the many are.

    A key that comes while it is worked on is worked on again afterwards. A key that fails comes back after a delay
    that doubles with each failure, and jitters; a success, or any other trigger, does not wait for that.
    """

    def __init__(self, reconcile: Reconcile, *, workers: int, logger: logging.Logger) -> None:
        self._reconcile = reconcile
        self._workers = workers
        self._logger = logger
        self._ready: deque[Key] = deque()
        self._patient: deque[Key] = deque()
        self._queued: dict[Key, deque[Key]] = {}
        """Where each key is. An entry elsewhere is void: the key has been moved ahead, or been taken from there."""
        self._turns = itertools.count(1)
        self._active: dict[Key, deque[Key]] = {}
        """With where each was taken from."""
        self._lingering: asyncio.TimerHandle | None = None
        """Ends the time in which the many still yield; None: it has ended."""
        self._group: asyncio.TaskGroup | None = None
        """Of those that are worked on; None: nothing is to begin."""
        self._again: dict[Key, deque[Key]] = {}
        """What came while it was worked on, with where it goes."""
        self._failures: dict[Key, int] = {}
        self._due: dict[Key, float] = {}
        self._timers: list[tuple[float, int, Key]] = []
        self._order = itertools.count()
        self._wake_timer = asyncio.Event()
        self._idle = asyncio.Event()

    def add(self, key: Key) -> None:
        """Asks for a key to be reconciled as soon as possible."""
        self._due.pop(key, None)
        if key in self._active:
            self._again[key] = self._ready
        elif self._queued.get(key) is not self._ready:
            self._put(key, self._ready)

    def add_many(self, keys: Iterable[Key]) -> None:
        """Asks for keys to be reconciled that one change concerns together; others need not wait for all of them."""
        for key in keys:
            self._due.pop(key, None)
            if key in self._active:
                self._again.setdefault(key, self._patient)
            elif key not in self._queued:
                self._put(key, self._patient)

    def _put(self, key: Key, where: deque[Key]) -> None:
        self._queued[key] = where
        where.append(key)
        self._begin()

    def add_after(self, key: Key, seconds: float) -> None:
        """Asks for a key to be reconciled after a delay; of several delays for one key the shortest holds."""
        due = asyncio.get_running_loop().time() + max(0.0, seconds)
        if key in self._queued or self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        if len(self._timers) > 2 * len(self._due) + _SPARE_TIMERS:
            # Most belong to delays that something else has forestalled; some are for weeks ahead.
            self._timers = [timer for timer in self._timers if self._due.get(timer[2]) == timer[0]]
            heapq.heapify(self._timers)
        heapq.heappush(self._timers, (due, next(self._order), key))
        self._wake_timer.set()

    async def wait_until_idle(self) -> None:
        """Returns once nothing is waiting to be worked on or being worked on. Timers do not count."""
        if self._queued or self._active:
            self._idle.clear()
            await self._idle.wait()

    async def run(self) -> None:
        """Works until it is cancelled.

        Raises:
            ExceptionGroup: of WorkerEndedError: a reconciler has ended its worker, as one whose write is fenced does.
        """
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                self._begin()
                await self._run_timers()
            finally:
                self._group = None

    def _begin(self) -> None:
        """Has as many keys worked on as there are places."""
        while self._group is not None and len(self._active) < self._workers:
            key = self._take()
            if key is None:
                return
            # In a context of its own: not in that of whoever has asked for it.
            self._group.create_task(self._run(key), context=Context())

    async def _run(self, key: Key) -> None:
        try:
            await self._work(key)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._group = None
            raise WorkerEndedError(f"{key}: {error}") from error
        finally:
            where = self._active.pop(key)
        if where is self._ready and key.kind in _AWAITED:
            self._linger()
        again = self._again.pop(key, None)
        if again is not None:
            self._due.pop(key, None)
            self._put(key, again)
        if not self._queued and not self._active:
            self._idle.set()
        self._begin()

    def _linger(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
        self._lingering = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._linger_no_more)

    def _linger_no_more(self) -> None:
        self._lingering = None
        self._begin()

    def _take(self) -> Key | None:
        """The next key; None: none may begin."""
        for where in self._lanes():
            while where:
                key = where.popleft()
                if self._queued.get(key) is where:  # else its entry is void
                    del self._queued[key]
                    self._active[key] = where
                    return key
        return None

    def _lanes(self) -> Iterator[deque[Key]]:
        """Where the next key is taken from, the best place first."""
        may_be_patient = self._may_be_patient()
        if may_be_patient and self._ready and self._patient and next(self._turns) % PATIENT_TURN == 0:
            yield self._patient
        yield self._ready
        if may_be_patient:
            yield self._patient

    def _may_be_patient(self) -> bool:
        """Whether a key that came with many others may begin now."""
        patient = sum(where is self._patient for where in self._active.values())
        if patient < max(1, self._workers // YIELDING_SHARE):
            return True
        if self._lingering is not None:
            return False
        awaited = (key.kind in _AWAITED for key, where in self._active.items() if where is self._ready)
        return not any(awaited)

    async def _work(self, key: Key) -> None:
        try:
            await self._reconcile(key)
        except Exception as error:  # noqa: BLE001 - one object's trouble must not stop the others
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            delay = retry_delay(failures)
            self._logger.warning("%s: %s; again in %.1f s", key, described(error), delay)
            self.add_after(key, delay)
        else:
            self._failures.pop(key, None)

    async def _run_timers(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake_timer.clear()
            while self._timers and self._timers[0][0] <= loop.time():
                due, _, key = heapq.heappop(self._timers)
                if self._due.get(key) == due:
                    self.add(key)
            wait = self._timers[0][0] - loop.time() if self._timers else None
            # Not wait_for: until Python 3.12 it could lose the cancellation that ends this task.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake_timer.wait()


def retry_delay(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling from 0.1 s to 5 min, the last half of it random."""
    delay = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 30))
    return delay * random.uniform(0.5, 1)  # noqa: S311 - jitter
