"""The operator's writes, told from those that the benchmarks make with its credentials."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from bench.errors import BenchError
from bench.progress import say
from dev.audit import AuditLog, Write

AGENT: Final = "mailsettings-bench"
"""The user agent of the benchmarks' own requests, which are made with the operator's credentials."""

POLL_S: Final = 0.05
QUIET_S: Final = 1.5
"""The operator delays what it coalesces by a second; what has not come after this does not come."""


class Audit:
    """The operator's, by the log of a running API server."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._position = 0
        self._writes: list[Write] = []

    def forget(self) -> None:
        """Begins anew: what has been written so far does not count."""
        self._look()
        self._writes = []

    @property
    def writes(self) -> list[Write]:
        """Those since the last `forget`, also those that were refused."""
        self._look()
        return self._writes

    async def settled(self, is_complete: Callable[[Sequence[Write]], bool], *, timeout_s: float) -> list[Write]:
        """All writes, once what was awaited has been written and nothing more has followed for `QUIET_S`.

        Raises:
            BenchError: It took longer than `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        told = time.monotonic()
        while True:
            writes = self.writes
            last = max((write.at for write in writes), default=0.0)
            if time.time() - last > QUIET_S and is_complete(writes):
                return [*writes]
            if time.monotonic() > deadline:
                raise BenchError(f"after {timeout_s:.0f} s there were {len(writes)} writes, and not all that should be")
            if time.monotonic() > told + 10:
                told = time.monotonic()
                say(f"  … {len(writes)} writes")
            await asyncio.sleep(POLL_S)

    def _look(self) -> None:
        found, self._position = self._log.read(self._position)
        self._writes += [write for write in found if not write.agent.startswith(AGENT)]


def to(writes: Sequence[Write], *resources: str) -> list[Write]:
    """Those of the writes that changed one of these resources."""
    return [write for write in writes if write.is_done and write.resource in resources]


def objects_of(writes: Sequence[Write], resource: str) -> int:
    """How many different objects of a resource were changed."""
    return len({(write.namespace, write.name) for write in to(writes, resource)})
