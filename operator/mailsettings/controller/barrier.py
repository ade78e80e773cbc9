"""The start: nothing is decided before everything that exists has been seen once.

Half of the picture looks like deletions: a tenant whose system settings have not been listed yet would lose its
Secret. kopf's own way to wait for a full listing, an index, wakes every waiting object for each new one, which at 1,000
objects took nine seconds of CPU; so the uids are taken from the listings of the watches beside it, and crossed off as
kopf's events arrive.
"""

import asyncio
from collections.abc import Iterable

from mailsettings.controller.keys import Kind


class Barrier:
    """Opens when every object that existed at the start has been seen."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        """Closed.

        Args:
            kinds: what is to be seen.
        """
        self._unlisted = set(kinds)
        self._missing: dict[Kind, set[str]] = {}
        self._seen: set[str] = set()
        self._complete = asyncio.Event()

    def listed(self, kind: Kind, uids: Iterable[str]) -> None:
        """All objects of a kind that exist now. What was missing and is not among them any more is not awaited."""
        if self._complete.is_set():
            return
        self._unlisted.discard(kind)
        self._missing[kind] = {*uids} - self._seen
        self._open_if_complete()

    def saw(self, kind: Kind, uid: str) -> None:
        """An event of this object has arrived, or it has been deleted."""
        if self._complete.is_set():
            return
        self._seen.add(uid)
        self._missing.get(kind, set()).discard(uid)
        self._open_if_complete()

    async def wait(self) -> None:
        """Returns when all has been seen."""
        await self._complete.wait()

    def _open_if_complete(self) -> None:
        if not self._unlisted and not any(self._missing.values()):
            self._complete.set()
            self._seen.clear()
            self._missing.clear()
