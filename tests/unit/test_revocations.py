"""How attempts to revoke tokens run beside one another."""

import asyncio
import logging

import pytest

from mailsettings.controller.keys import Key, tenant_key
from mailsettings.controller.revocations import TokenRevoker
from mailsettings.core.oauth2.faults import Failure, FailureKind
from mailsettings.core.oauth2.request import RevocationRequest
from mailsettings.core.server import Source
from tests.unit.test_oauth2_revocation import subject

KEY = tenant_key("acme", "mail")
OTHER = tenant_key("acme", "other")
REFUSED = Failure(FailureKind.REFUSED)


class Provider:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.answer: Failure | Exception | None = REFUSED
        self.reached = asyncio.Event()
        self.let_through = asyncio.Event()

    async def __call__(self, request: RevocationRequest, _level: Source) -> Failure | None:
        self.asked.append(request.refresh_token)
        self.reached.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.let_through.wait()
        finally:
            self.at_once -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Running:
    """A revoker and what it tells."""

    def __init__(self, provider: Provider, *, limit: int = 8) -> None:
        self.told: asyncio.Queue[Key] = asyncio.Queue()
        self.revoker = TokenRevoker(
            provider, lambda _: "", limit=limit, finished=self.told.put_nowait, logger=logging.getLogger("test")
        )

    async def end(self) -> Key:
        async with asyncio.timeout(5):
            return await self.told.get()


async def test_attempts_of_one_object_follow_one_another_and_are_counted() -> None:
    provider = Provider()
    running = Running(provider)
    for token in ("one", "two"):
        running.revoker.start(KEY, "u", subject(), token)
    assert running.revoker.is_running(KEY)
    provider.let_through.set()
    assert await running.end() == KEY
    assert not running.revoker.is_running(KEY)
    assert provider.asked == ["one"]
    provider.answer = None
    running.revoker.start(KEY, "u", subject(), "two")
    await running.end()
    tried = running.revoker.tried(KEY, "u")
    assert tried is not None
    assert (tried.count, tried.failure) == (2, None)


async def test_what_is_known_belongs_to_one_object() -> None:
    provider = Provider()
    provider.let_through.set()
    running = Running(provider)
    running.revoker.start(KEY, "u", subject(), "one")
    await running.end()
    assert running.revoker.tried(KEY, "another of that name") is None
    assert running.revoker.tried(OTHER, "u") is None
    running.revoker.forget(KEY)
    assert running.revoker.tried(KEY, "u") is None


async def test_number_of_calls_is_limited() -> None:
    provider = Provider()
    running = Running(provider, limit=1)
    for key in (KEY, OTHER):
        running.revoker.start(key, "u", subject(), "token")
    provider.let_through.set()
    assert {await running.end(), await running.end()} == {KEY, OTHER}
    assert provider.most_at_once == 1


async def test_what_breaks_is_a_failed_attempt_and_its_text_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    provider = Provider()
    provider.answer = RuntimeError("the-token")
    provider.let_through.set()
    running = Running(provider)
    running.revoker.start(KEY, "u", subject(), "the-token")
    await running.end()
    tried = running.revoker.tried(KEY, "u")
    assert tried is not None
    assert tried.failure is not None
    assert "broke: RuntimeError" in caplog.text
    assert "the-token" not in caplog.text


async def test_end_of_the_operator_waits_for_nobody() -> None:
    provider = Provider()
    running = Running(provider)
    running.revoker.start(KEY, "u", subject(), "token")
    async with asyncio.timeout(5):
        await provider.reached.wait()
        await running.revoker.close()
    assert running.told.empty()
    assert not running.revoker.is_running(KEY)
