"""A connection's octets: how long is waited for them, and what is known of its end."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from mailsettings.edges.relay.channel import Channel, PeerGoneError
from tests.support.relay import eventually

LONG_S = 60.0


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[tuple[Channel, asyncio.StreamWriter]]:
    """A channel and the other side of its connection."""
    own, other = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=own)
    _, writer = await asyncio.open_connection(sock=other)
    try:
        yield Channel.over(transport), writer
    finally:
        transport.abort()
        writer.transport.abort()
        await asyncio.sleep(0)


async def test_an_alarm_of_a_former_wait_does_not_end_a_longer_one() -> None:
    async with asyncio.timeout(LONG_S), pair() as (channel, other):
        with pytest.raises(TimeoutError):
            await channel.read(0.01)
        for within_s in (0.05, LONG_S):
            other.write(b"x")
            assert await channel.read(within_s) == b"x"
        waiting = asyncio.ensure_future(channel.read(LONG_S))
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        other.write(b"y")
        assert await waiting == b"y"


async def test_a_wait_ends_although_the_former_was_to_be_longer_or_shorter() -> None:
    async with asyncio.timeout(LONG_S), pair() as (channel, other):
        for former_s in (LONG_S, 0.05):
            other.write(b"x")
            assert await channel.read(former_s) == b"x"
            with pytest.raises(TimeoutError):
                await channel.read(0.2)


@pytest.mark.parametrize("orderly", [True, False])
async def test_its_end_is_known_and_what_came_before_it_is_read(*, orderly: bool) -> None:
    async with asyncio.timeout(LONG_S), pair() as (channel, other):
        assert (channel.is_open, channel.has_arrived) == (True, False)
        other.write(b"bye")
        if orderly:
            other.close()
        else:
            other.transport.abort()
        await eventually(lambda: not channel.is_open)
        assert channel.has_arrived
        assert await channel.read(LONG_S) == b"bye"
        assert channel.take() == b""
        with pytest.raises(PeerGoneError):
            await channel.read(LONG_S)
