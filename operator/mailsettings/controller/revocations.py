"""Revokes refresh tokens beside the reconcilers, which never wait for a provider."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

from mailsettings.controller.keys import Key
from mailsettings.core.oauth2 import revocation
from mailsettings.core.oauth2.faults import Failure, FailureKind
from mailsettings.core.oauth2.request import RevocationRequest
from mailsettings.core.oauth2.revocation import Tried
from mailsettings.core.oauth2.subject import Federation, TokenSubject
from mailsettings.core.server import Source
from mailsettings.edges.errors import described

Revoke = Callable[[RevocationRequest, Source], Awaitable[Failure | None]]
"""Asks a provider, once; why the token may be good still, or None."""


class TokenRevoker:
    """At most one attempt at a time for each object, and a limited number in all.

    How the attempts went waits here until the object is gone. A restart forgets it, and another attempt does no harm.
    """

    def __init__(
        self,
        revoke: Revoke,
        federation: Federation,
        *,
        limit: int,
        finished: Callable[[Key], None],
        logger: logging.Logger,
    ) -> None:
        """Nothing is running yet.

        Args:
            revoke: Asks a provider.
            federation: Gives the operator's own token.
            limit: How many calls may run at a time.
            finished: Is told when an attempt has ended.
            logger: Is told what goes wrong.
        """
        self._revoke = revoke
        self._federation = federation
        self._slots = asyncio.Semaphore(limit)
        self._notify_finished = finished
        self._logger = logger
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._tried: dict[Key, tuple[str, Tried]] = {}

    def is_running(self, key: Key) -> bool:
        """Whether an attempt is under way."""
        return key in self._running

    def tried(self, key: Key, uid: str) -> Tried | None:
        """How the attempts for just this object have gone; None: there were none."""
        of, tried = self._tried.get(key, ("", None))
        return tried if of == uid else None

    def start(self, key: Key, uid: str, subject: TokenSubject, refresh_token: str) -> None:
        """Starts an attempt unless one is running."""
        if key not in self._running:
            work = self._run(key, uid, subject, refresh_token)
            self._running[key] = asyncio.create_task(work, name=f"revocation for {key}")

    def forget(self, key: Key) -> None:
        """Drops what is known of an object that is gone, or is not being deleted."""
        self._tried.pop(key, None)

    async def close(self) -> None:
        """Breaks off what is running: the next start of the operator begins again."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _run(self, key: Key, uid: str, subject: TokenSubject, refresh_token: str) -> None:
        try:
            request = subject.revocation_request(refresh_token, self._federation)
            async with self._slots:
                failure = await self._revoke(request, subject.level)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            self._logger.error("the revocation for %s broke: %s", key, described(error))  # noqa: TRY400
            failure = Failure(FailureKind.UNREACHABLE, detail="the operator itself failed; its log says where")
        finally:
            self._running.pop(key, None)
        before = self.tried(key, uid)
        tried = Tried(1, datetime.now(UTC), failure)
        self._tried[key] = uid, tried if before is None else replace(tried, count=before.count + 1)
        if failure is None:
            self._logger.info("the refresh token of %s is revoked", key)
        else:
            self._logger.info("the refresh token of %s is not revoked: %s", key, revocation.described(failure))
        self._notify_finished(key)
