"""Proxies on the loopback: a real one, pproxy, and some that misbehave to order."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mailsettings.api.connection import ProxyProtocol
from mailsettings.core.server import Credentials, Proxy
from tests.support.smtp_server import LOOPBACK, Peer

PROXY_LOGIN: Final = Credentials("proxy-user", "proxy pass: word")


@dataclass(frozen=True, slots=True)
class RealProxy:
    """A proxy that works."""

    port: int
    _log: Path

    def spec(self, protocol: ProxyProtocol, login: Credentials | None = None) -> Proxy:
        return Proxy(protocol, LOOPBACK, self.port, login)

    @property
    def log(self) -> str:
        """Who was led where, a line for each connection."""
        return self._log.read_text()


@contextlib.asynccontextmanager
async def real_proxy(directory: Path, login: Credentials | None = None) -> AsyncIterator[RealProxy]:
    """A proxy on a free loopback port that speaks HTTP and SOCKS5.

    It runs in a process of its own: pproxy changes the classes of asyncio.

    Args:
        directory: For its log.
        login: What it demands; None: nothing.
    """
    with socket.create_server((LOOPBACK, 0)) as reserved:
        port = reserved.getsockname()[1]
    fragment = "" if login is None else f"#{login.username}:{login.password}"
    log = directory / f"proxy-{port}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-u", "-m", "pproxy", "-v", "--auth", "0"),
            *("-l", f"http+socks5://{LOOPBACK}:{port}/{fragment}"),
            stdout=output,
            stderr=output,
        )
    try:
        await _answers(port, process)
        yield RealProxy(port, log)
    finally:
        process.terminate()
        await process.wait()


async def _answers(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(30):
        while True:
            assert process.returncode is None, "the proxy has ended"
            try:
                _, writer = await asyncio.open_connection(LOOPBACK, port)
            except ConnectionError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return


Converse = Callable[[Peer], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted_proxy(converse: Converse) -> AsyncIterator[int]:
    """A proxy that does as it is told; its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await converse(Peer(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left: that is for the test to judge
        except asyncio.CancelledError:
            pass  # the test is over; asyncio's streams would log it
        finally:
            writer.transport.abort()

    listener = await asyncio.start_server(serve, LOOPBACK, 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
