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
from tests.support.listening import LOOPBACK, streams
from tests.support.smtp_server import Peer

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

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await converse(Peer(reader, writer))

    async with streams(serve) as port:
        yield port
