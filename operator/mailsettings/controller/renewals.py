"""Renews OAuth2 tokens beside the reconcilers, which never wait for a provider."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from mailsettings.api.conditions import Reason
from mailsettings.controller.keys import Key
from mailsettings.core.oauth2 import lifecycle
from mailsettings.core.oauth2.faults import TokenFault
from mailsettings.core.oauth2.lifecycle import FailedRenewal
from mailsettings.core.oauth2.request import Token, TokenRequest
from mailsettings.core.oauth2.stored import StoredToken
from mailsettings.core.oauth2.subject import Federation, TokenSubject
from mailsettings.core.server import Source
from mailsettings.edges.errors import described
from mailsettings.edges.kubernetes import ApiError
from mailsettings.edges.oauth2.tokens import TokenError
from mailsettings.edges.token_store import ClaimError, HeldToken, TokenPlace, TokenStore

Obtain = Callable[[TokenRequest, Source, float], Awaitable[Token]]
"""Asks a provider, within the deadline that the `TokenRenewer` is told, since a moment of the monotonic clock."""

CLAIM_MARGIN: Final = timedelta(seconds=10)
"""How much longer a claim lasts than the call: for what comes before and after it."""

STORE_GRACE: Final = timedelta(seconds=5)
"""How long the operator's end waits, beyond the call's deadline, for a token to be stored."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """One renewal that is wanted."""

    place: TokenPlace
    subject: TokenSubject
    serial: str | None
    """The token that it is to replace; None: there is none."""
    request: str | None = None
    """The annotation by which a person asks for a renewal, as it is now."""


class TokenRenewer:
    """At most one renewal for each object, and a limited number in all. None is broken off once it has begun.

    A new token goes into the store, where the reconciler finds it; a failure waits here until it is in the status.
    """

    def __init__(
        self,
        store: TokenStore,
        obtain: Obtain,
        federation: Federation,
        *,
        deadline: timedelta,
        limit: int,
        finished: Callable[[Key], None],
        again: Callable[[Key, float], None],
        logger: logging.Logger,
    ) -> None:
        """Nothing is running yet.

        Args:
            store: Where tokens are kept.
            obtain: Asks a provider.
            federation: Gives the operator's own token.
            deadline: How long `obtain` takes at most.
            limit: How many calls may run at a time.
            finished: Is told when there is something new to know of an object.
            again: Is told when to look at an object again.
            logger: Is told what goes wrong.
        """
        self._store = store
        self._obtain = obtain
        self._federation = federation
        self._deadline = deadline
        self._slots = asyncio.Semaphore(limit)
        self._notify_finished = finished
        self._again = again
        self._logger = logger
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._failed: dict[Key, FailedRenewal] = {}
        self._refused: dict[Key, str] = {}
        self._closing = False

    def start(self, key: Key, renewal: Renewal) -> None:
        """Starts a renewal unless one is running, whatever that is for: its end leads to another look."""
        if key not in self._running and not self._closing:
            self._running[key] = asyncio.create_task(self._run(key, renewal), name=f"renewal of {key}")

    def is_running(self, key: Key) -> bool:
        """Whether a renewal is under way."""
        return key in self._running

    def failed(self, key: Key, subject: TokenSubject) -> FailedRenewal | None:
        """How a renewal for just this subject has failed, if one has and it is not in the status yet."""
        failure = self._failed.get(key)
        return failure if failure is not None and failure.subject == subject else None

    def report(self, key: Key, failure: FailedRenewal) -> None:
        """Takes note of a failure elsewhere: of a person's consent."""
        self._failed[key] = failure

    def refused(self, key: Key) -> str | None:
        """How the API server refuses to store the new token, which is kept here meanwhile; None: it does not."""
        return self._refused.get(key)

    def settle(self, key: Key, failure: FailedRenewal) -> None:
        """Drops a failure that is in the status now."""
        if self._failed.get(key) is failure:
            del self._failed[key]

    def forget(self, key: Key) -> None:
        """Drops what is known of an object that is gone, or has no OAuth2 any more."""
        self._failed.pop(key, None)

    async def close(self, *, grace: timedelta | None = None) -> None:
        """Lets what has begun come to its end and be stored, for a limited time.

        Args:
            grace: How long; None: as long as the operator's end may wait.
        """
        self._closing = True
        if self._running:
            limit = grace or self._deadline + STORE_GRACE
            _, unfinished = await asyncio.wait(self._running.values(), timeout=limit.total_seconds())
            for task in unfinished:
                task.cancel()

    async def _run(self, key: Key, renewal: Renewal) -> None:
        try:
            async with self._slots:
                if self._closing:
                    return
                answer = await self._ask(renewal)
            # Without a slot, since it may take as long as it takes to correct what refuses to store it.
            if isinstance(answer, _Answer):
                await self._keep(key, renewal.place, answer)
            fault = answer if isinstance(answer, TokenFault) else None
        except ClaimError as error:
            wait = (error.until - datetime.now(UTC)).total_seconds() if error.until else 0.0
            self._again(key, max(0.1, wait))
            return
        except ApiError as error:
            self._logger.warning("the renewal for %s: %s", key, described(error))
            fault = _not_claimed(renewal.subject, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            self._logger.error("the renewal for %s broke: %s", key, described(error))  # noqa: TRY400
            fault = _broken(renewal.subject)
        finally:
            self._running.pop(key, None)
        if fault is not None:
            self._failed[key] = FailedRenewal(
                renewal.subject, fault, datetime.now(UTC), token=renewal.serial, request=renewal.request
            )
        self._notify_finished(key)

    async def _ask(self, renewal: Renewal) -> "_Answer | TokenFault | None":
        """The new token, or why there is none; None: a new look has to be taken.

        Raises:
            ClaimError: Somebody else renews it.
            ApiError: The API server is in trouble.
        """
        place, subject = renewal.place, renewal.subject
        held = await self._store.claim(place, serial=renewal.serial, lasts=self._deadline + CLAIM_MARGIN)
        sent = subject.refresh_token(held.token)
        try:
            request = subject.request(sent, self._federation)
            # Before the look at the claim: a process that stands still after it must not have the whole deadline left.
            since_s = time.monotonic()
            if not await self._store.may_begin(place, held, takes=self._deadline):
                await self._store.release(place, held)
                return None
            token = await self._obtain(request, subject.level, since_s)
        except TokenError as error:
            await self._store.release(place, held)
            return error.fault
        except Exception:
            await self._store.release(place, held)
            raise
        return _Answer(held, StoredToken.of(token, subject, sent=sent, before=held.token, request=renewal.request))

    async def _keep(self, key: Key, place: TokenPlace, answer: "_Answer") -> None:
        def refused(error: ApiError) -> None:
            # Not the API server's text: it may repeat what it refuses.
            why = f"{error.status} {error.reason}".strip()
            if self._refused.get(key) != why:
                self._refused[key] = why
                self._notify_finished(key)

        try:
            is_stored = await self._store.store(place, answer.held, answer.token, refused=refused)
        finally:
            self._refused.pop(key, None)
        if is_stored:
            self._logger.debug("the token of %s %s/%s was renewed", place.kind, place.namespace, place.name)
        else:
            self._logger.info("a new token of %s %s/%s was no longer wanted", place.kind, place.namespace, place.name)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A new token that is still to be stored."""

    held: HeldToken
    """What the claim has made."""
    token: StoredToken


def _not_claimed(subject: TokenSubject, error: ApiError) -> TokenFault:
    message = (
        f"The API server does not have the operator claim the renewal of the token for {subject.oauth2.username}: "
        f"{error}. {lifecycle.REFUSED_REMEDY if error.is_refusal else 'It is tried again.'}"
    )
    reason = Reason.TOKEN_NOT_STORED if error.is_refusal else Reason.RENEWAL_BROKEN
    return TokenFault(reason, message, is_transient=True)


def _broken(subject: TokenSubject) -> TokenFault:
    message = (
        f"The operator itself failed while it renewed the token for {subject.oauth2.username}; its log says where. "
        "It is tried again."
    )
    return TokenFault(Reason.RENEWAL_BROKEN, message, is_transient=True)
