"""One attempt, and what can go wrong on the way; the usual way is tested against a real operator.

The API server's part is played here, since faults are wanted at certain moments.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any, Final, cast

import aiohttp
import pytest

from mailsettings.api import names
from mailsettings.api.grants import Grant
from mailsettings.core.clock import format_time
from mailsettings.core.oauth2.consent import Consent, ConsentKey, ConsentResult
from mailsettings.edges.consents import ConsentStore, HeldConsent
from mailsettings.edges.kubernetes import ApiError
from mailsettings.plugin.authorize.flow import Attempt, Means, Patience
from mailsettings.plugin.authorize.loopback import listen
from mailsettings.plugin.authorize.target import Target
from mailsettings.plugin.command import CommandError
from mailsettings.plugin.terminal import Terminal

STATE: Final = "the-state"
URL: Final = f"https://id.example/authorize?state={STATE}"
DONE: Final = ConsentResult(authorized=True, reason="Authorized", message="It is.")
LATE: Final = ConsentResult(authorized=False, reason="ConsentExpired", message="Too late.")
UNAVAILABLE: Final = ApiError(503, "ServiceUnavailable", "later")
FORBIDDEN: Final = ApiError(403, "Forbidden", "no")
PATIENT: Final = Patience(total=timedelta(seconds=20), interval=timedelta(milliseconds=1))

Fault = BaseException | None


@dataclass
class Played:
    """A Secret that an operator writes to as it is told."""

    values: dict[ConsentKey, str] = field(default_factory=dict)
    reads: deque[Fault] = field(default_factory=deque)
    """What the next ones fail with; None: they do not."""
    writes: deque[Fault] = field(default_factory=deque)
    """What the next ones fail with; None: they do not."""
    loses_answers: int = 0
    """How many writes arrive without anybody being told."""
    conflicts: int = 0
    refuses_creation: Fault = None
    refuses_removal: Fault = None
    uid: str = "secret-uid"
    is_gone: bool = False
    removed: list[str] = field(default_factory=list)
    written: dict[ConsentKey, str] = field(default_factory=dict)
    arrived: int = 0
    redirect_uris: list[str] = field(default_factory=list)
    creating: asyncio.Event = field(default_factory=asyncio.Event)
    may_create: asyncio.Event | None = None

    def _held(self) -> HeldConsent:
        consent = Consent(self.uid, "", datetime.now(UTC), dict(self.values))
        return HeldConsent("shop", "mailsettings-authorize-x", "1", consent)

    async def ask(self, namespace: str, *, owner: Mapping[str, str], source: str, redirect_uri: str) -> HeldConsent:
        assert (namespace, owner["uid"], source) == ("shop", "u", "MailServerSettings/shop/mail")
        assert redirect_uri in ("", *self.redirect_uris)
        self.creating.set()
        if self.may_create is not None:
            await self.may_create.wait()
        if self.refuses_creation is not None:
            raise self.refuses_creation
        return HeldConsent("shop", "mailsettings-authorize-x", "1", Consent(self.uid, "", datetime.now(UTC), {}))

    async def read(self, namespace: str, name: str) -> HeldConsent | None:
        assert (namespace, name) == ("shop", "mailsettings-authorize-x")
        fault = self.reads.popleft() if self.reads else None
        if fault is not None:
            raise fault
        return None if self.is_gone else self._held()

    async def write(self, held: HeldConsent, values: Mapping[ConsentKey, str]) -> HeldConsent | None:
        assert held.consent.uid == self.uid
        fault = self.writes.popleft() if self.writes else None
        if fault is not None:
            raise fault
        if self.loses_answers:
            self.loses_answers -= 1
            self.arrived += 1
            self.values.update({ConsentKey.STATE: values[ConsentKey.STATE], ConsentKey.REDEEMED_AT: "now"})
            raise aiohttp.ServerDisconnectedError
        if self.arrived:
            asyncio.get_running_loop().call_later(0.02, self.values.__setitem__, ConsentKey.RESULT, DONE.text())
            return None
        if self.conflicts:
            self.conflicts -= 1
            return None
        self.written.update(values)
        self.values[ConsentKey.RESULT] = DONE.text()
        return self._held()

    async def remove(self, held: HeldConsent) -> None:
        self.removed.append(held.consent.uid)
        if self.refuses_removal is not None:
            raise self.refuses_removal


@dataclass
class Scene:
    played: Played
    opened: list[str] = field(default_factory=list)
    said: StringIO = field(default_factory=StringIO)

    async def run(
        self,
        grant: Grant = Grant.AUTHORIZATION_CODE,
        *,
        patience: Patience = PATIENT,
        act: Callable[[str], Any] | None = None,
    ) -> ConsentResult:
        target = Target(names.TENANT_KIND, "shop", "mail", "u", "Google", "a@acme.example", grant)
        with closing(listen(None)) as listener:
            uri = f"http://127.0.0.1:{listener.port}"
            self.played.redirect_uris.append(uri)
            visits: list[asyncio.Task[Any]] = []

            def open_(url: str) -> None:
                self.opened.append(url)
                if act is not None:
                    visits.append(asyncio.ensure_future(act(uri)))

            attempt = Attempt(
                cast(ConsentStore, self.played),
                "shop",
                target,
                Means("" if grant is Grant.DEVICE_CODE else uri, listener, -1, open_),
                Terminal(self.said, self.said, {}),
                patience=patience,
                operator_namespace="mailsettings-system",
                known={},
            )
            result = await attempt.run()
            await asyncio.gather(*visits)
            return result

    @property
    def text(self) -> str:
        return " ".join(self.said.getvalue().split())


async def consent(uri: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{uri}/?code=the-code&state={STATE}") as page:
        assert page.status == 200


def offered(**changes: Any) -> Scene:
    """The operator has written the address."""
    expires_at = format_time(datetime.now(UTC) + timedelta(minutes=10))
    values = {ConsentKey.AUTHORIZE_URL: URL, ConsentKey.EXPIRES_AT: expires_at}
    return Scene(Played(values=values, **changes))


async def failure(scene: Scene, **options: Any) -> CommandError:
    with pytest.raises(CommandError) as caught:
        await scene.run(**options)
    return caught.value


async def test_the_answer_is_handed_over_and_the_secret_removed() -> None:
    scene = offered()
    assert await scene.run(act=consent) == DONE
    assert scene.opened == [URL]
    assert scene.played.written == {ConsentKey.CODE: "the-code", ConsentKey.STATE: STATE}
    assert scene.played.removed == ["secret-uid"]
    assert "for 10 minutes at most" in scene.text


async def test_an_api_server_that_is_away_for_a_while_is_waited_for() -> None:
    away: list[Fault] = [UNAVAILABLE, aiohttp.ClientConnectionError("gone"), TimeoutError(), ConnectionResetError()]
    scene = offered(reads=deque([*away, None, *away]))
    assert await scene.run(act=consent) == DONE
    assert not scene.played.reads


async def test_the_answer_is_handed_over_to_an_api_server_that_was_away() -> None:
    scene = offered(writes=deque([UNAVAILABLE, aiohttp.ClientConnectionError("gone"), TimeoutError(), None]))
    assert await scene.run(act=consent) == DONE
    assert scene.played.written == {ConsentKey.CODE: "the-code", ConsentKey.STATE: STATE}


async def test_an_answer_that_arrived_unnoticed_is_not_handed_over_again() -> None:
    """The operator has taken the code out by then; to put it back would have it redeemed twice."""
    scene = offered(loses_answers=1)
    assert await scene.run(act=consent) == DONE
    assert (scene.played.arrived, scene.played.written) == (1, {})


async def test_an_api_server_that_stays_away_ends_with_the_time() -> None:
    scene = offered(writes=deque([UNAVAILABLE] * 100_000))
    patience = Patience(total=timedelta(milliseconds=300), interval=timedelta(milliseconds=1))
    assert (await failure(scene, act=consent, patience=patience)).reason == "TimedOut"


async def test_a_refused_answer_is_told() -> None:
    error = await failure(offered(writes=deque([FORBIDDEN])), act=consent)
    assert error.message == "You may not change Secrets in the namespace shop: no"


async def test_a_conflict_is_tried_again() -> None:
    scene = offered(conflicts=2)
    assert await scene.run(act=consent) == DONE


async def test_endless_conflicts_end() -> None:
    scene = offered(conflicts=1000)
    assert (await failure(scene, act=consent)).reason == "Conflict"
    assert scene.played.removed == ["secret-uid"]


async def test_an_end_by_the_operator_ends_the_waiting() -> None:
    scene = offered()

    async def expire(_: str) -> None:
        scene.played.values[ConsentKey.RESULT] = LATE.text()

    assert await scene.run(act=expire) == LATE
    assert scene.played.written == {}


async def test_a_result_in_place_of_an_address() -> None:
    scene = Scene(Played(values={ConsentKey.RESULT: LATE.text()}))
    assert await scene.run() == LATE
    assert scene.opened == []


async def test_a_result_that_cannot_be_read_ends_the_waiting() -> None:
    scene = offered()
    scene.played.values[ConsentKey.RESULT] = "nonsense"
    assert (await failure(scene)).reason == "ProviderAnswerInvalid"


@pytest.mark.parametrize("replaced", [True, False])
async def test_a_secret_that_goes_ends_the_waiting(*, replaced: bool) -> None:
    scene = offered()

    async def go(_: str) -> None:
        scene.played.is_gone, scene.played.uid = not replaced, "another"

    error = await failure(scene, act=go)
    assert error.reason == "ConsentExpired"
    assert scene.played.removed == ["secret-uid"], "by its uid, so that nobody else's is removed"


async def test_lost_rights_end_the_waiting() -> None:
    error = await failure(offered(reads=deque([FORBIDDEN])))
    assert (error.reason, error.message) == ("Forbidden", "You may not read Secrets in the namespace shop: no")


async def test_a_refused_creation_leaves_nothing_to_remove() -> None:
    scene = Scene(Played(refuses_creation=FORBIDDEN))
    assert (await failure(scene)).message == "You may not create Secrets in the namespace shop: no"
    assert scene.played.removed == []


async def test_ended_while_the_secret_is_being_created_it_is_removed() -> None:
    scene = Scene(Played(may_create=asyncio.Event()))
    running = asyncio.create_task(scene.run())
    await scene.played.creating.wait()
    running.cancel()
    await asyncio.sleep(0)
    assert scene.played.may_create is not None
    scene.played.may_create.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert scene.played.removed == ["secret-uid"]


@pytest.mark.parametrize("fault", [FORBIDDEN, aiohttp.ClientConnectionError("gone")])
async def test_a_secret_that_cannot_be_removed_is_told(fault: Exception) -> None:
    scene = offered(refuses_removal=fault)
    assert await scene.run(act=consent) == DONE
    assert "The Secret shop/mailsettings-authorize-x could not be removed: " in scene.text
    assert "The operator removes it within 12 minutes." in scene.text


async def test_an_operator_that_is_late_is_told_and_still_waited_for() -> None:
    scene = Scene(Played())
    patience = Patience(note=timedelta(milliseconds=20), interval=timedelta(milliseconds=1))
    running = asyncio.create_task(scene.run(patience=patience))
    while "does not seem to run" not in scene.text:
        assert not running.done()
        await asyncio.sleep(0.001)
    scene.played.values[ConsentKey.RESULT] = LATE.text()
    assert await running == LATE


async def test_time_that_is_up() -> None:
    scene = offered()
    patience = Patience(total=timedelta(milliseconds=30), interval=timedelta(milliseconds=1))
    assert (await failure(scene, patience=patience)).reason == "TimedOut"
    assert scene.played.removed == ["secret-uid"]


@pytest.mark.parametrize("url", [f"http://id.example/?state={STATE}", "file:///etc/passwd", "https://id.example/"])
async def test_an_address_that_is_none_is_neither_shown_nor_opened(url: str) -> None:
    """Whoever may write Secrets in the namespace could have put it there."""
    scene = offered()
    scene.played.values[ConsentKey.AUTHORIZE_URL] = url
    assert (await failure(scene)).reason == "ProviderAnswerInvalid"
    assert scene.opened == []
    assert url not in scene.text


def device(**changes: str) -> Scene:
    values = {
        ConsentKey.USER_CODE: "ABCD-EFGH",
        ConsentKey.VERIFICATION_URI: "https://id.example/device",
        ConsentKey.VERIFICATION_URI_COMPLETE: "https://id.example/device?user_code=ABCD-EFGH",
    }
    return Scene(Played(values={**values, **{ConsentKey(key): value for key, value in changes.items()}}))


async def test_the_code_of_a_device_is_shown_and_the_complete_address_opened() -> None:
    scene = device()

    async def finish(_: str) -> None:
        scene.played.values[ConsentKey.RESULT] = DONE.text()

    assert await scene.run(Grant.DEVICE_CODE, act=finish) == DONE
    assert scene.opened == ["https://id.example/device?user_code=ABCD-EFGH"]
    assert "\nhttps://id.example/device\n" in scene.said.getvalue()
    assert "\n    ABCD-EFGH\n" in scene.said.getvalue()


@pytest.mark.parametrize("key", ["verification-uri", "verification-uri-complete"])
async def test_an_address_for_devices_that_is_none_is_not_opened(key: str) -> None:
    scene = device(**{key: "file:///etc/passwd"})
    assert (await failure(scene, grant=Grant.DEVICE_CODE)).reason == "ProviderAnswerInvalid"
    assert scene.opened == []
