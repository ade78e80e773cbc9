"""How renewals run beside one another."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from mailsettings.controller.keys import Key, Kind
from mailsettings.controller.renewals import Renewal, TokenRenewer
from mailsettings.core.oauth2.request import Token
from mailsettings.core.oauth2.stored import StoredToken
from mailsettings.edges.kubernetes import ApiError
from mailsettings.edges.token_store import Claim, HeldToken, TokenPlace
from tests.unit.test_oauth2_fingerprint import subject

NOW = datetime(2026, 11, 22, 16, 40, tzinfo=UTC)


class RefusingStore:
    """Claims are given; what is to be stored is refused until it is let through."""

    def __init__(self) -> None:
        self.let_through = asyncio.Event()
        self.stored: list[str] = []

    async def claim(self, place: TokenPlace, **_: object) -> HeldToken:
        return HeldToken("1", place.uid, None, Claim("me", "one", NOW))

    async def may_begin(self, *_: object, **__: object) -> bool:
        return True

    async def store(
        self, place: TokenPlace, _held: HeldToken, _token: StoredToken, *, refused: Callable[[ApiError], None]
    ) -> bool:
        while not self.let_through.is_set():
            refused(ApiError(422, "Invalid", "what was refused: access"))
            await asyncio.sleep(0)
        self.stored.append(place.uid)
        return True


def renewal(name: str) -> tuple[Key, Renewal]:
    place = TokenPlace("MailServerSettings", "acme", name, name, {})
    return Key(Kind.TENANT, "acme", name), Renewal(place, subject(), None)


async def test_end_waits_until_what_has_begun_is_stored() -> None:
    store: Any = RefusingStore()
    store.let_through.set()
    asked, answering = asyncio.Event(), asyncio.Event()

    async def obtain(*_: object) -> Token:
        asked.set()
        await answering.wait()
        return Token("access", NOW, NOW + timedelta(hours=1))

    renewer = TokenRenewer(
        store,
        obtain,
        lambda _: "",
        deadline=timedelta(seconds=5),
        limit=1,
        finished=lambda _: None,
        again=lambda *_: None,
        logger=logging.getLogger("test"),
    )
    one, two = renewal("one"), renewal("two")
    renewer.start(*one)
    async with asyncio.timeout(5):
        await asked.wait()
        closing = asyncio.create_task(renewer.close())
        await asyncio.sleep(0)
        assert not closing.done()
        renewer.start(*two)
        assert not renewer.is_running(two[0]), "nothing begins any more"
        answering.set()
        await closing
    assert store.stored == ["one"]


async def test_token_that_cannot_be_stored_is_told_once_and_holds_nobody_up() -> None:
    store: Any = RefusingStore()
    told: list[str] = []
    all_told = asyncio.Event()

    def finished(key: Key) -> None:
        told.append(key.name)
        if len(told) in (2, 4):
            all_told.set()

    async def obtain(*_: object) -> Token:
        return Token("access", NOW, NOW + timedelta(hours=1))

    renewer = TokenRenewer(
        store,
        obtain,
        lambda _: "",
        deadline=timedelta(seconds=1),
        limit=1,
        finished=finished,
        again=lambda *_: None,
        logger=logging.getLogger("test"),
    )
    one, two = renewal("one"), renewal("two")
    for each in (one, two):
        renewer.start(*each)
    async with asyncio.timeout(5):
        await all_told.wait()
    assert sorted(told) == ["one", "two"]
    assert [renewer.refused(key) for key, _ in (one, two)] == ["422 Invalid"] * 2
    assert renewer.is_running(one[0])
    all_told.clear()
    store.let_through.set()
    async with asyncio.timeout(5):
        await all_told.wait()
    assert sorted(store.stored) == ["one", "two"]
    assert renewer.refused(one[0]) is None
