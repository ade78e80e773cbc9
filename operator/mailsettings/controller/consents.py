"""Turns people's consents into tokens, beside the reconcilers, which never wait for a provider."""

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp

from mailsettings.api.conditions import Reason
from mailsettings.controller.keys import Key
from mailsettings.controller.renewals import STORE_GRACE
from mailsettings.core.clock import format_time, parse_time
from mailsettings.core.oauth2.account import check_consent
from mailsettings.core.oauth2.consent import ConsentKey, ConsentResult, PollDevice, Redeem, lapsed
from mailsettings.core.oauth2.faults import TokenFault
from mailsettings.core.oauth2.lifecycle import FailedRenewal
from mailsettings.core.oauth2.request import Token, TokenRequest
from mailsettings.core.oauth2.state import LIFE, Flows
from mailsettings.core.oauth2.stored import StoredToken
from mailsettings.core.oauth2.subject import Federation, TokenSubject
from mailsettings.core.oauth2.terms import ConsentTerms
from mailsettings.edges.consents import ConsentStore, HeldConsent
from mailsettings.edges.errors import described
from mailsettings.edges.kubernetes import ApiError
from mailsettings.edges.oauth2.tokens import IdentityProviders, TokenError
from mailsettings.edges.sealing import Sealer, SealError
from mailsettings.edges.token_store import TokenPlace, TokenStore

MAX_POLL_INTERVAL: Final = timedelta(minutes=1)
"""However long a provider asks to be left alone, the person who has entered the code is waiting."""


RETRY: Final = timedelta(seconds=30)
"""After something that should not have happened."""

TELLING: Final = tuple(timedelta(seconds=pause) for pause in (0.5, 1, 2, 5, 10, 20))
"""Between the attempts to write that all went well."""

MAX_CALLS: Final = 8
"""How many calls of providers for consents run at a time. Nobody holds a place while a person is being waited for."""

MAX_RUNNING: Final = 4
"""How many consents of one object are dealt with at a time."""

MIN_BEGIN_INTERVAL: Final = timedelta(seconds=5)
"""Between two device codes for one object: each is a call of the provider that anybody who may consent can cause."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One consent of one object."""

    key: Key
    place: TokenPlace
    subject: TokenSubject
    terms: ConsentTerms
    held: HeldConsent
    rotation: str | None = None
    """The annotation by which a person asks for a renewal: a token that is new needs none for that."""
    stopped: asyncio.Event = field(default_factory=asyncio.Event, compare=False)
    """Set when the settings are gone, or are others by now."""


class ConsentRunner:
    """At most one task for each consent Secret, and a limited number in all.

    A new token goes into the token store, the result into the consent Secret; a failure is reported, so that the
    condition can say it.
    """

    def __init__(
        self,
        consents: ConsentStore,
        tokens: TokenStore,
        providers: IdentityProviders,
        federation: Federation,
        *,
        flows: Flows,
        sealer: Sealer,
        finished: Callable[[Key, FailedRenewal | None], None],
        logger: logging.Logger,
    ) -> None:
        """Nothing is running yet.

        Args:
            consents: Where consents are.
            tokens: Where tokens are kept.
            providers: Are asked for tokens and device codes.
            federation: Gives the operator's own token.
            flows: Knows the verifiers and nonces.
            sealer: Keeps device codes from everybody else.
            finished: Is told when there is something new to know of an object, and what has failed, if anything.
            logger: Is told what goes wrong.
        """
        self._consents = consents
        self._tokens = tokens
        self._providers = providers
        self._federation = federation
        self._flows = flows
        self._sealer = sealer
        self._grace = providers.deadline + STORE_GRACE
        """How long the operator's end waits for a code that is being redeemed."""
        self._notify_finished = finished
        self._logger = logger
        self._running: dict[str, _Running] = {}
        self._begun: dict[Key, float] = {}
        """When the last device code was asked for, by the monotonic clock."""
        self._calling = asyncio.Semaphore(MAX_CALLS)
        self._closing = asyncio.Event()

    def is_running(self, uid: str) -> bool:
        """Whether a consent Secret with this uid is being dealt with."""
        return uid in self._running

    def redeem(self, attempt: Attempt, step: Redeem) -> None:
        """Exchanges a code for tokens, once."""
        self._start(attempt, self._redeemed(attempt, step))

    def keep_only(self, key: Key, fingerprint: str | None) -> None:
        """Stops what is under way for other settings of an object than these; None: for any, since it is gone."""
        for running in self._running.values():
            if running.attempt.key == key and running.attempt.subject.fingerprint != fingerprint:
                running.attempt.stopped.set()
        if fingerprint is None:
            self._begun.pop(key, None)

    def begin_device(self, attempt: Attempt) -> None:
        """Gets a code that the person can enter."""
        self._start(attempt, self._device_begun(attempt))

    def poll_device(self, attempt: Attempt, step: PollDevice) -> None:
        """Asks until the person has entered the code, or the time for it is up."""
        self._start(attempt, self._device_polled(attempt, step))

    async def refuse(self, attempt: Attempt, fault: TokenFault) -> None:
        """Ends a consent that comes to nothing.

        Raises:
            ApiError: The API server is in trouble; try again.
        """
        self._report(attempt, fault)
        await self._consents.finish(attempt.held, ConsentResult.of(fault, attempt.subject.oauth2.username))

    def _report(self, attempt: Attempt, fault: TokenFault) -> None:
        """Has the condition say it."""
        failure = FailedRenewal(attempt.subject, fault, datetime.now(UTC), of_consent=True)
        self._notify_finished(attempt.key, failure)

    async def close(self, *, grace: timedelta | None = None) -> None:
        """Lets codes that are being redeemed come to their end, for a limited time.

        Args:
            grace: How long; None: as long as the operator's end may wait.
        """
        self._closing.set()
        if self._running:
            tasks = [running.task for running in self._running.values()]
            _, unfinished = await asyncio.wait(tasks, timeout=(grace or self._grace).total_seconds())
            for task in unfinished:
                task.cancel()

    def _start(self, attempt: Attempt, work: Coroutine[Any, Any, TokenFault | None]) -> None:
        uid = attempt.held.consent.uid
        others = sum(running.attempt.key == attempt.key for running in self._running.values())
        if uid in self._running or others >= MAX_RUNNING or self._closing.is_set():
            work.close()  # the end of one of the others leads to another look
            return
        task = asyncio.create_task(self._run(attempt, work), name=f"consent for {attempt.key}")
        self._running[uid] = _Running(attempt, task)

    async def _run(self, attempt: Attempt, work: Coroutine[Any, Any, TokenFault | None]) -> None:
        try:
            fault = await work
            if fault is not None:
                self._report(attempt, fault)
                await self._tell(attempt, fault)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            self._logger.error("a consent for %s broke: %s", attempt.key, described(error))  # noqa: TRY400
            await self._ends_within(attempt, RETRY)  # the provider is not asked again and again meanwhile
        finally:
            self._running.pop(attempt.held.consent.uid, None)
            self._notify_finished(attempt.key, None)

    async def _redeemed(self, attempt: Attempt, step: Redeem) -> TokenFault | None:
        if await self._consents.take(attempt.held, now=datetime.now(UTC)) is None:
            return None
        request = attempt.subject.code_request(
            step.code,
            redirect_uri=step.redirect_uri,
            verifier=self._flows.verifier(step.flow),
            federation=self._federation,
        )
        try:
            token = await self._obtained(request, attempt)
        except TokenError as error:
            return error.fault
        return await self._adopted(attempt, token, nonce=self._flows.nonce(step.flow))

    async def _obtained(self, request: TokenRequest, attempt: Attempt) -> Token:
        async with self._calling:
            return await self._providers.obtain(request, attempt.subject.level, time.monotonic())

    async def _adopted(self, attempt: Attempt, token: Token, *, nonce: str | None) -> TokenFault | None:
        """Why the token is not kept; None: it is."""
        fault = check_consent(token, attempt.terms.expected_account(nonce))
        if fault is not None:
            return fault
        if attempt.stopped.is_set():
            return lapsed("the settings were changed meanwhile")
        try:
            stored = StoredToken.of(token, attempt.subject, sent=None, request=attempt.rotation)
            await self._tokens.adopt(attempt.place, stored)
        except ApiError as error:
            # Not the API server's text: it may repeat what it refuses.
            why = f"{error.status} {error.reason}".strip()
            self._logger.error("a token for %s could not be stored: %s", attempt.key, why)  # noqa: TRY400
            return _unkept(attempt.subject)
        self._logger.info("somebody has consented for %s", attempt.key)
        await self._tell(attempt, None)
        return None

    async def _tell(self, attempt: Attempt, fault: TokenFault | None) -> None:
        """Tells the person what has become of it; that it cannot be told takes nothing from a token."""
        result = ConsentResult.of(fault, attempt.subject.oauth2.username)
        for pause in TELLING:
            try:
                await self._consents.finish(attempt.held, result, fenced=False)
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                self._logger.warning("a result for %s is not written yet: %s", attempt.key, described(error))
                await self._ends_within(attempt, pause)
            else:
                return

    async def _device_begun(self, attempt: Attempt) -> TokenFault | None:
        now = time.monotonic()
        begins_at = max(now, self._begun.get(attempt.key, -math.inf) + MIN_BEGIN_INTERVAL.total_seconds())
        self._begun[attempt.key] = begins_at
        if await self._ends_within(attempt, timedelta(seconds=begins_at - now)):
            return None
        if await self._consents.read(attempt.held.namespace, attempt.held.name) is None:
            return None  # whoever asked has given up
        request = attempt.subject.device_authorization_request(self._federation)
        try:
            async with self._calling:
                given = await self._providers.authorize_device(request, attempt.subject.level)
        except TokenError as error:
            return error.fault
        ends_at = min(given.expires_at, attempt.held.consent.created_at + LIFE)
        kept = json.dumps(
            {
                "device_code": given.device_code,
                "interval_s": given.interval.total_seconds(),
                "ends_at": format_time(ends_at),
            }
        )
        values = {
            ConsentKey.USER_CODE: given.user_code,
            ConsentKey.VERIFICATION_URI: given.verification_uri,
            ConsentKey.VERIFICATION_URI_COMPLETE: given.verification_uri_complete or "",
            ConsentKey.EXPIRES_AT: format_time(ends_at),
            ConsentKey.SEALED: self._sealer.seal(kept, about=_about(attempt)),
        }
        await self._consents.write(attempt.held, values)
        return None

    async def _device_polled(self, attempt: Attempt, step: PollDevice) -> TokenFault | None:
        try:
            kept = json.loads(self._sealer.open(step.sealed, about=_about(attempt)))
        except SealError:
            return lapsed("the settings were changed meanwhile")
        interval, ends_at = timedelta(seconds=kept["interval_s"]), parse_time(kept["ends_at"])
        while datetime.now(UTC) < ends_at:
            if await self._ends_within(attempt, interval):
                return None
            if await self._consents.read(attempt.held.namespace, attempt.held.name) is None:
                return None  # whoever asked has given up
            request = attempt.subject.device_request(
                kept["device_code"], interval=interval, federation=self._federation
            )
            try:
                token = await self._obtained(request, attempt)
            except TokenError as error:
                if not (error.fault.is_transient or error.fault.reason is Reason.CONSENT_REQUIRED):
                    return error.fault
                interval = min(MAX_POLL_INTERVAL, max(interval, error.fault.retry_after or interval))
            else:
                return await self._adopted(attempt, token, nonce=None)
        return lapsed("nobody entered the code in time")

    async def _ends_within(self, attempt: Attempt, interval: timedelta) -> bool:
        """Waits for so long, or until the operator ends or the settings are others."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._closing, attempt.stopped)]
        done, _ = await asyncio.wait(waits, timeout=interval.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return bool(done)


@dataclass(frozen=True, slots=True)
class _Running:
    attempt: Attempt
    task: asyncio.Task[None]


def _about(attempt: Attempt) -> str:
    """What a device code belongs to: in another Secret, or after a change of the settings, it is worth nothing."""
    return f"{attempt.held.consent.uid}/{attempt.subject.fingerprint}"


def _unkept(subject: TokenSubject) -> TokenFault:
    message = (
        f"The consent for {subject.oauth2.username} was given, but the API server refused to keep the token; the "
        "operator's log says why. Begin again when that is mended."
    )
    return TokenFault(Reason.RENEWAL_BROKEN, message, is_transient=True)
