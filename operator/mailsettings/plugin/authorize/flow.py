"""One attempt: asks the operator through a consent Secret, brings it the answer, and waits for the result."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from mailsettings.api.grants import Grant
from mailsettings.core.clock import parse_time
from mailsettings.core.oauth2.consent import KEPT, Consent, ConsentKey, ConsentResult
from mailsettings.edges.consents import ConsentStore, HeldConsent
from mailsettings.edges.kubernetes import UNREACHABLE, ApiError
from mailsettings.plugin.advice import INDENT, Known, filled
from mailsettings.plugin.authorize.answer import Answer, AnswerError, is_web_address, parse_pasted, state_of
from mailsettings.plugin.authorize.loopback import Listener, answers
from mailsettings.plugin.authorize.paste import Lines, unseen
from mailsettings.plugin.authorize.target import Target
from mailsettings.plugin.command import CommandError
from mailsettings.plugin.connection import told
from mailsettings.plugin.terminal import Style, Terminal

PASTE_TRIES: Final = 3
CLEAN_UP_S: Final = 5.0
"""How long the end of the command may take."""
_HAND_OVER_TRIES: Final = 5

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what."""

    total: timedelta = KEPT
    """For everything: by default as long as the operator keeps the Secret."""
    note: timedelta = timedelta(seconds=20)
    """For the operator's first answer, until the person is told that it is late."""
    silence: timedelta = timedelta(seconds=60)
    """For the operator's first answer, in all."""
    interval: timedelta = timedelta(milliseconds=300)
    """Between two looks at the Secret."""


@dataclass(frozen=True, slots=True)
class Means:
    """How the answer comes from the browser to here."""

    redirect_uri: str
    """Empty with grant DeviceCode, which has no redirect."""
    listener: Listener | None
    """Takes it; None: it is pasted, or there is none."""
    input_descriptor: int
    """Where it is pasted."""
    open_browser: Callable[[str], None] | None
    """None: the person opens the address."""


class Attempt:
    """One attempt at a consent."""

    def __init__(
        self,
        store: ConsentStore,
        namespace: str,
        target: Target,
        means: Means,
        terminal: Terminal,
        *,
        patience: Patience,
        operator_namespace: str,
        known: Known,
    ) -> None:
        """Nothing has happened yet.

        Args:
            store: The consent Secrets.
            namespace: Where this one goes.
            target: The settings.
            means: How the answer comes here.
            terminal: Where the person reads.
            patience: How long is waited for what.
            operator_namespace: Where the operator is said to run.
            known: For commands that the person is told.
        """
        self._store = store
        self._namespace = namespace
        self._target = target
        self._means = means
        self._terminal = terminal
        self._patience = patience
        self._operator_namespace = operator_namespace
        self._known = known

    async def run(self) -> ConsentResult:
        """Asks, waits and tidies up, also when it is cancelled.

        Raises:
            CommandError: There is no result.
        """
        creation = asyncio.ensure_future(self._ask())
        try:
            async with asyncio.timeout(self._patience.total.total_seconds()) as deadline:
                # Shielded: what may have been created has to be known, to be removed.
                held = await asyncio.shield(creation)
                return await self._go_on(held)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise CommandError("TimedOut", "Nobody consented in the time that was given; begin again.") from None
        finally:
            await self._tidy_up(creation)

    async def _ask(self) -> HeldConsent:
        with told(f"create Secrets in the namespace {self._namespace}"):
            return await self._store.ask(
                self._namespace,
                owner=self._target.owner,
                source=self._target.source,
                redirect_uri=self._means.redirect_uri,
            )

    async def _tidy_up(self, creation: "asyncio.Task[HeldConsent] | asyncio.Future[HeldConsent]") -> None:
        try:
            async with asyncio.timeout(CLEAN_UP_S):
                held = await creation
        except (CommandError, TimeoutError):
            return
        try:
            async with asyncio.timeout(CLEAN_UP_S):
                await self._store.remove(held)
        except (ApiError, *UNREACHABLE) as error:
            why = error.message if isinstance(error, ApiError) else "the API server does not answer"
            self._terminal.say(
                f"The Secret {held.namespace}/{held.name} could not be removed: {why}. The operator removes it within "
                f"{_minutes(KEPT)}.",
                Style.BAD,
            )

    async def _go_on(self, held: HeldConsent) -> ConsentResult:
        if self._target.grant is Grant.DEVICE_CODE:
            return await self._device(held)
        held = await self._operators_first(held, ConsentKey.AUTHORIZE_URL)
        if held.consent.result is not None:
            return held.consent.result
        url = held.consent[ConsentKey.AUTHORIZE_URL]
        state = state_of(url)
        async with self._answering(state) as answering:
            self._show(url, "Open this address in a browser, log in as the mail account, and consent:")
            self._explain_answer(held.consent)
            answer = await self._first(answering, held)
            if isinstance(answer, ConsentResult):
                return answer
            await self._hand_over(held, answer)
            self._terminal.say("The answer is with the operator, which fetches the tokens.")
            return await self._result(held)

    async def _device(self, held: HeldConsent) -> ConsentResult:
        held = await self._operators_first(held, ConsentKey.USER_CODE)
        if held.consent.result is not None:
            return held.consent.result
        consent = held.consent
        complete, plain_uri = consent[ConsentKey.VERIFICATION_URI_COMPLETE], consent[ConsentKey.VERIFICATION_URI]
        if not is_web_address(plain_uri) or (complete and not is_web_address(complete)):
            raise CommandError("ProviderAnswerInvalid", "The provider gave no https address to enter the code at.")
        self._show(plain_uri, "Open this address on any device, and log in as the mail account:", complete)
        self._terminal.say("Enter this code there:")
        self._terminal.show(f"    {consent[ConsentKey.USER_CODE]}")
        return await self._result(held, f"Waiting for the code to be entered{_until(consent)}")

    def _show(self, url: str, request: str, to_open: str = "") -> None:
        self._terminal.say(request)
        self._terminal.show(url)
        if self._means.open_browser is not None:
            self._means.open_browser(to_open or url)
            self._terminal.say("Your browser has been asked to open it.")

    def _explain_answer(self, consent: Consent) -> None:
        uri = self._means.redirect_uri
        self._terminal.say(f"The provider has to know the redirect URI {uri} of this client.")
        if self._means.listener is not None:
            self._terminal.say(f"Waiting for the answer{_until(consent)}; on another machine's screen use --paste.")
            return
        self._terminal.say(
            f"At the end the browser goes to an address that begins with {uri}, which it most likely cannot reach."
        )
        self._terminal.say("Paste that whole address here and press Enter; it is not shown.")

    @contextlib.asynccontextmanager
    async def _answering(self, state: str) -> "AsyncIterator[asyncio.Future[Answer]]":
        """The answer as it comes in, one way or the other."""
        if self._means.listener is not None:
            async with answers(self._means.listener, self._means.redirect_uri, state) as answer:
                yield answer
            return
        with unseen(self._means.input_descriptor):
            pasting = asyncio.create_task(self._pasted(state))
            try:
                yield pasting
            finally:
                pasting.cancel()
                await asyncio.wait([pasting])

    async def _pasted(self, state: str) -> Answer:
        lines = Lines(self._means.input_descriptor)
        for left in reversed(range(PASTE_TRIES)):
            line = await lines.next()
            if line is None:
                raise CommandError("NotPasted", "Nothing more can be read from the terminal; begin again.")
            try:
                return parse_pasted(line, self._means.redirect_uri, state)
            except AnswerError as error:
                self._terminal.say(f"That address cannot be used: {error}.", Style.BAD)
                if left:
                    self._terminal.say("Paste another one:")
        raise CommandError("NotPasted", f"{PASTE_TRIES} addresses could not be used; begin again.")

    async def _first(self, answering: "asyncio.Future[Answer]", held: HeldConsent) -> Answer | ConsentResult:
        """The person's answer, or the operator's end of it, whichever comes first."""
        ending = asyncio.create_task(self._result(held))
        both: tuple[asyncio.Future[Any], ...] = (answering, ending)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            return answering.result() if answering.done() else ending.result()
        finally:
            ending.cancel()
            await asyncio.wait([ending])

    async def _hand_over(self, held: HeldConsent, answer: Answer) -> None:
        """Writes the answer, once: a second code of the same consent would have the provider revoke the tokens."""
        for _ in range(_HAND_OVER_TRIES):
            with told(f"change Secrets in the namespace {self._namespace}"):
                if await self._patiently(partial(self._store.write, held, answer)) is not None:
                    return
                held = await self._patiently(partial(self._read, held))
            # A write that nobody has confirmed may have arrived; the state stays when the operator takes the code.
            if held.consent.result is not None or held.consent[ConsentKey.STATE] == answer[ConsentKey.STATE]:
                return
        raise CommandError("Conflict", "Somebody else keeps changing the consent Secret; begin again.")

    async def _operators_first(self, held: HeldConsent, key: ConsentKey) -> HeldConsent:
        """The Secret once the operator has written this, or a result."""
        self._terminal.tick("Asking the operator")
        try:
            async with asyncio.timeout(self._patience.note.total_seconds()):
                return await self._look(held, key)
        except TimeoutError:
            self._terminal.say(
                f"The operator has not answered for {self._patience.note.total_seconds():.0f} s; it does not seem to "
                "run, or its connection is broken. See:",
                Style.BAD,
            )
            for what in ("get pods", "logs deployment/mailsettings-operator"):
                command = filled(f"kubectl {what}", self._known)
                self._terminal.say_line(f"{INDENT}{command} -n {self._operator_namespace}")
        left = self._patience.silence - self._patience.note
        try:
            async with asyncio.timeout(left.total_seconds()):
                return await self._look(held, key)
        except TimeoutError:
            raise CommandError("OperatorSilent", "The operator has not answered; nothing was done.") from None

    async def _result(self, held: HeldConsent, doing: str = "") -> ConsentResult:
        held = await self._look(held, None, doing)
        if held.consent.result is None:
            raise CommandError("ProviderAnswerInvalid", "What the operator wrote as the result cannot be read.")
        return held.consent.result

    async def _look(self, held: HeldConsent, key: ConsentKey | None, doing: str = "") -> HeldConsent:
        """The Secret once it has this key, or a result; an API server that is away for a while is waited for."""
        while True:
            with told(f"read Secrets in the namespace {self._namespace}"):
                held = await self._patiently(partial(self._read, held), doing)
            if held.consent[ConsentKey.RESULT] or (key is not None and held.consent[key]):
                return held
            await self._pause(doing)

    async def _patiently(self, request: Callable[[], Awaitable[_T]], doing: str = "") -> _T:
        """What the API server answers; one that is away for a while is waited for."""
        while True:
            try:
                return await request()
            except ApiError as error:
                if not error.is_temporary:
                    raise
            except UNREACHABLE:
                pass
            await self._pause(doing)

    async def _pause(self, doing: str) -> None:
        if doing:
            self._terminal.tick(doing)
        await asyncio.sleep(self._patience.interval.total_seconds())

    async def _read(self, held: HeldConsent) -> HeldConsent:
        found = await self._store.read(held.namespace, held.name)
        if found is None or found.consent.uid != held.consent.uid:
            raise CommandError(
                "ConsentExpired", "The consent Secret is gone: its time is up, or somebody has removed it. Begin again."
            )
        return found


def _until(consent: Consent) -> str:
    """Until when there is time, for people; empty: nobody knows."""
    try:
        ends_at = parse_time(consent[ConsentKey.EXPIRES_AT])
    except ValueError:
        return ""
    minutes = max(1, round((ends_at - datetime.now(UTC)) / timedelta(minutes=1)))
    return f", for {minutes} minute{'s' if minutes > 1 else ''} at most"


def _minutes(span: timedelta) -> str:
    return f"{span // timedelta(minutes=1)} minutes"
