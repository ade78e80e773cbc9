"""Which of several replicas acts: the one that holds the Lease.

The official client's `kubernetes.aio.leaderelection` (37.0.2) is not used. It bounds no request, so a holder whose API
server hangs goes on acting; it compares wall clocks, which may be set; it tries until its renew deadline although
somebody else holds the Lease already; it neither waits for the work that it cancels nor releases the Lease at its end;
and what aiohttp raises ends it while the work goes on.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import aiohttp

from mailsettings.core.lease import Observer, Terms, released, renewed, taken
from mailsettings.edges.errors import described
from mailsettings.edges.fence import Fence, boottime_s
from mailsettings.edges.kubernetes import ApiError
from mailsettings.edges.lease import HeldLease, LeaseStore

WATCH_SECONDS: Final = 300
"""After which the API server is to end a watch, so that it is begun anew."""

LATE: Final = "it was not renewed in time"

_TROUBLE: Final = (ApiError, aiohttp.ClientError, TimeoutError, OSError, ValueError)
"""The API server refused, could not be asked, or its answer was cut off."""


class LeaseLostError(Exception):
    """Another replica may act now. This process has to end: nothing that it knows is to be used again."""


class Leadership:
    """Waits for the Lease, keeps it, and has the fence open for as long as it surely is this process's."""

    def __init__(
        self,
        leases: LeaseStore,
        terms: Terms,
        fence: Fence,
        *,
        identity: str,
        logger: logging.Logger,
        now_s: Callable[[], float] = boottime_s,
    ) -> None:
        """The Lease is not held.

        Args:
            leases: Where it is.
            terms: How long it lasts.
            fence: Is opened while it is held.
            identity: Of this process, and of no other one ever.
            logger: Is told who holds it, and what goes wrong.
            now_s: The clock of the fence.
        """
        self._leases = leases
        self._terms = terms
        self._fence = fence
        self._identity = identity
        self._logger = logger
        self._now_s = now_s
        self._held: HeldLease | None = None
        self._ends_s = 0.0
        """When this process stops to act unless it renews."""
        self._said = ""

    @property
    def held(self) -> HeldLease | None:
        """As this process has written it last; None: it never has."""
        return self._held

    async def acquire(self) -> None:
        """Returns once the Lease is this process's. Trouble of the API server is logged and waited out."""
        observer = Observer(self._identity, self._terms)
        while True:
            try:
                found = await self._takeable(observer)
                if await self._take(found):
                    return
            except _TROUBLE as error:
                self._say(f"the Lease: {described(error)}")
            await asyncio.sleep(self._terms.retry_s)

    async def _takeable(self, observer: Observer) -> HeldLease | None:
        """The Lease once it may be taken; None: there is none."""
        while True:
            async with asyncio.timeout(self._terms.renew_deadline_s):
                found = await self._leases.read()
            wait_s = observer.wait_s(found.lease if found is not None else None, now_s=self._now_s())
            if not wait_s:
                return found
            if found is None:
                await asyncio.sleep(min(wait_s, self._terms.retry_s))
                continue
            self._say(f"the Lease is held by {found.lease.holder}")
            await self._watch(found, observer, wait_s)

    async def _watch(self, held: HeldLease, observer: Observer, wait_s: float) -> None:
        """Returns when there is a reason to read the Lease again: it may be taken now, or the watch has ended."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(wait_s) as limit:
                async for changed in self._leases.changes(held, timeout_seconds=WATCH_SECONDS):
                    if changed is None:
                        return
                    wait_s = observer.wait_s(changed.lease, now_s=self._now_s())
                    if not wait_s:
                        return
                    limit.reschedule(loop.time() + wait_s)
                await asyncio.sleep(self._terms.retry_s)  # an API server that ends every watch must not be flooded
        except TimeoutError:
            return

    async def _take(self, found: HeldLease | None) -> bool:
        """Whether nobody else was faster."""
        asked_s, before = self._now_s(), found.lease if found is not None else None
        spec = taken(before, self._identity, self._terms, now=datetime.now(UTC))
        try:
            async with asyncio.timeout(self._terms.margin_s):
                if found is None:
                    self._held = await self._leases.create(spec)
                else:
                    self._held = await self._leases.write(found, spec)
        except ApiError as error:
            if error.is_conflict or error.is_not_found:
                return False
            raise
        self._holds_since(asked_s)
        return True

    def _holds_since(self, asked_s: float) -> bool:
        """Whether this process may act; not if it had to stop meanwhile."""
        self._ends_s = asked_s + self._terms.renew_deadline_s
        return self._fence.open_until(self._ends_s)

    async def keep(self) -> str:
        """Renews the Lease until it is lost; says why it is."""
        while True:
            await asyncio.sleep(min(self._terms.retry_s, max(0.0, self._ends_s - self._now_s())))
            left_s = self._ends_s - self._now_s()
            if left_s <= 0:
                return LATE
            try:
                # So short that there is time for another attempt, on another connection.
                async with asyncio.timeout(min(left_s, self._terms.margin_s)):
                    why = await self._renew()
            except _TROUBLE as error:
                self._logger.warning("the Lease is not renewed yet: %s", described(error))
            else:
                if why is not None:
                    return why

    async def _renew(self) -> str | None:
        """Why the Lease is lost; None: it is not."""
        if self._held is None:
            raise RuntimeError("a Lease is kept that was never taken")
        asked_s = self._now_s()
        try:
            self._held = await self._leases.write(self._held, renewed(self._terms, now=datetime.now(UTC)))
        except ApiError as error:
            if not (error.is_conflict or error.is_not_found):
                raise
            return await self._look_again()
        return None if self._holds_since(asked_s) else LATE

    async def _look_again(self) -> str | None:
        """After a conflict: why the Lease is lost; None: somebody else has changed something else of it."""
        found = await self._leases.read()
        if found is None:
            return "it was deleted"
        if found.lease.holder != self._identity:
            return f"{found.lease.holder} holds it" if found.lease.holder else "it was released by somebody else"
        self._held = found
        return None

    async def release(self) -> None:
        """Gives the Lease up, if it is held, so that another replica can take it at once.

        Nothing may be written any more. If it cannot be given up, the others wait until it has run out.
        """
        self._fence.shut()
        try:
            async with asyncio.timeout(self._terms.margin_s):
                found = await self._leases.read()
                if found is None or found.lease.holder != self._identity:
                    return
                await self._leases.write(found, released(now=datetime.now(UTC)))
        except _TROUBLE as error:
            self._logger.warning("the Lease was not released: %s", described(error))
        else:
            self._logger.info("the Lease is released")

    def _say(self, what: str) -> None:
        """Logs it, unless that was the last thing that was logged."""
        if what != self._said:
            self._said = what
            self._logger.info("%s", what)
