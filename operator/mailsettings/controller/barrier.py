"""The start, and a takeover: nothing is decided before everything that exists has been seen, as it is now.

Half of the picture looks like deletions: a tenant whose system settings have not been listed yet would lose its
Secret. An old picture brings back what another replica has just changed. kopf's own way to wait for a full listing, an
index, wakes every waiting object for each new one, which at 1,000 objects took nine seconds of CPU; so the versions are
listed once beside it and crossed off as kopf's events arrive.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

RECHECK_SECONDS: Final = 2.0
"""How often to look whether what is still missing has been deleted in the meantime."""

Versions = dict[str, int]
"""Resource versions by uid. Those of one object are numbers that grow (Kubernetes, API Concepts, Resource versions)."""


class Barrier:
    """Opens when every object that exists has been seen in its present version, or in a later one."""

    def __init__(self) -> None:
        self._seen: Versions | None = {}
        """None: nobody will wait any more."""
        self._missing: Versions = {}
        self._complete = asyncio.Event()

    def saw(self, uid: str, version: int) -> None:
        """This object has arrived in this version."""
        if self._seen is None:
            return
        self._seen[uid] = version
        if self._missing.get(uid, version) <= version:
            self._found(uid)

    def gone(self, uid: str) -> None:
        """This object exists no more."""
        if self._seen is not None:
            self._seen.pop(uid, None)
            self._found(uid)

    async def wait(self, list_versions: Callable[[], Awaitable[Versions]]) -> None:
        """Returns when everything has been seen that exists when this is called.

        Args:
            list_versions: gives what exists now. It is called at once, and again while anything is missing.
        """
        listed, seen = await list_versions(), self._seen or {}
        self._missing = {uid: version for uid, version in listed.items() if seen.get(uid, -1) < version}
        self._complete.clear()
        while self._missing:
            try:
                async with asyncio.timeout(RECHECK_SECONDS):
                    await self._complete.wait()
            except TimeoutError:
                there = await list_versions()
                self._missing = {uid: version for uid, version in self._missing.items() if uid in there}

    def forget(self) -> None:
        """Keeps no versions any more: nobody will wait again."""
        self._seen = None

    def _found(self, uid: str) -> None:
        self._missing.pop(uid, None)
        if not self._missing:
            self._complete.set()
