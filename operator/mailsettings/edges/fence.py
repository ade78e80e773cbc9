"""Whether the operator may write now: asked in one place, right before each write.

Of several replicas only the one that surely holds the Lease may write. That is so until a moment that each renewal of
the Lease moves on, so a process that cannot renew it, or that has stood still, stops by itself, without having to be
told, and before anybody else may begin.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class FencedError(asyncio.CancelledError):
    """A write was wanted that is not allowed any more.

    It is a cancellation: whoever wants it ends, rather than to take it for an error to be reported or tried again. The
    process will not be allowed to write again.
    """


def boottime_s() -> float:
    """Seconds of a clock that only goes forward, also while the machine is suspended, where the system has one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Fence:
    """Closed until it is opened; once it has been shut, has run out or has refused a write since, it stays so."""

    def __init__(self, *, write_limit_s: float, now_s: Callable[[], float] = boottime_s) -> None:
        """It is closed.

        Args:
            write_limit_s: How long one write may take, in seconds.
            now_s: The clock.
        """
        self.write_limit_s = write_limit_s
        self._now_s = now_s
        self._until_s = -math.inf
        self._is_shut = False
        self._writing = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def is_open(self) -> bool:
        """Whether a write is allowed now."""
        return not self._is_shut and self._now_s() < self._until_s

    def open_until(self, moment_s: float) -> bool:
        """Allows writes up to a moment of its clock; says whether it does.

        What it has refused once nobody tries again, so a process whose fence opened once more would lack its parts.
        """
        self._shut_if_over()
        self._until_s = moment_s
        return self.is_open

    def shut(self) -> None:
        """Allows no more writes."""
        self._is_shut = True

    def check(self) -> None:
        """Returns if a write is allowed now.

        Raises:
            FencedError: it is not.
        """
        self._shut_if_over()
        if not self.is_open:
            raise FencedError("this replica does not hold the Lease")

    def _shut_if_over(self) -> None:
        """Before it is opened for the first time nothing is over: others act, and this process may still follow."""
        if self._until_s > -math.inf and not self.is_open:
            self._is_shut = True

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One write.

        Raises:
            FencedError: it is not allowed.
        """
        self.check()
        self._writing += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._writing -= 1
            if not self._writing:
                self._quiet.set()

    async def wait_until_quiet(self) -> None:
        """Returns when the writes that were under way have ended, after `write_limit_s` at the latest."""
        try:
            await asyncio.wait_for(self._quiet.wait(), self.write_limit_s)
        except TimeoutError:
            return
