"""The start: nothing is decided before everything that exists has been seen once.

Half of the picture looks like deletions: a tenant whose system settings have not been listed yet would lose its
Secret. kopf's own way to wait for a full listing, an index, wakes every waiting object for each new one, which at 1,000
objects took nine seconds of CPU; so the uids are listed once beside it and crossed off as kopf's events arrive.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

RECHECK_SECONDS: Final = 2.0
"""How often to look whether what is still missing has been deleted in the meantime."""


class Barrier:
    """Opens when every object that existed at the start has been seen."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._missing: set[str] | None = None
        self._complete = asyncio.Event()

    def saw(self, uid: str) -> None:
        """An event of this object has arrived."""
        if self._complete.is_set():
            return
        if self._missing is None:
            self._seen.add(uid)
            return
        self._missing.discard(uid)
        self._open_if_complete()

    async def wait(self, list_uids: Callable[[], Awaitable[set[str]]]) -> None:
        """Returns when all has been seen.

        Args:
            list_uids: gives the uids of what exists now. It is called at once, and again while anything is missing.
        """
        self._missing = await list_uids() - self._seen
        self._seen.clear()
        self._open_if_complete()
        while not self._complete.is_set():
            try:
                async with asyncio.timeout(RECHECK_SECONDS):
                    await self._complete.wait()
            except TimeoutError:
                self._missing &= await list_uids()
                self._open_if_complete()

    def _open_if_complete(self) -> None:
        if not self._missing:
            self._complete.set()
