"""What the kubelet is answered."""

import asyncio

import aiohttp
import pytest

from mailsettings.edges.health import Health
from tests.support.listening import LOOPBACK, free_port


async def status(url: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status


async def test_it_lives_before_it_is_ready() -> None:
    ready, origin = asyncio.Event(), f"http://{LOOPBACK}:{free_port()}"
    async with Health(f"{origin}/healthz", ready.is_set):
        assert await status(f"{origin}/healthz") == 200
        assert await status(f"{origin}/readyz") == 503
        ready.set()
        assert await status(f"{origin}/readyz") == 200
        assert await status(f"{origin}/other") == 404
    with pytest.raises(aiohttp.ClientConnectionError):
        await status(f"{origin}/healthz")


async def test_nothing_listens_unless_it_is_told_where() -> None:
    async with Health(None, lambda: True) as health:
        await health.close()
