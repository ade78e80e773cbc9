"""Bare requests: what the floor is made of, and what the benchmarks prepare clusters with."""

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import aiohttp
import yaml

from bench.audit import AGENT
from bench.errors import BenchError

Json = dict[str, Any]

APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
MAX_CONNECTIONS: Final = 128
PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is ready to be sent."""

    method: str
    path: str
    body: bytes | None = field(default=None, repr=False)
    content_type: str = "application/json"


def create(collection: str, body: Mapping[str, Any]) -> Request:
    """Creates an object in a collection."""
    return Request("POST", collection, json.dumps(body).encode())


def apply(path: str, body: Mapping[str, Any], *, manager: str) -> Request:
    """Applies an object server-side."""
    query = f"fieldManager={manager}&force=true"
    return Request("PATCH", f"{path}?{query}", json.dumps(body, ensure_ascii=False).encode(), APPLY)


def merge(path: str, patch: Mapping[str, Any]) -> Request:
    """Changes an object by a merge patch."""
    return Request("PATCH", path, json.dumps(patch).encode(), MERGE)


class Bare:
    """An API server, with somebody's credentials."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def send(self, request: Request) -> bytes:
        """The answer's body.

        Raises:
            BenchError: the API server refused.
        """
        headers = {"Content-Type": request.content_type}
        async with self._session.request(request.method, request.path, data=request.body, headers=headers) as answer:
            body = await answer.read()
            if answer.status >= 400:
                raise BenchError(f"{request.method} {request.path}: {answer.status} {body[:500]!r}")
            return body

    async def get(self, path: str) -> Json:
        """The object at a path."""
        document: Json = json.loads(await self.send(Request("GET", path)))
        return document

    async def items(self, collection: str) -> list[Json]:
        """Everything in a collection."""
        found: list[Json] = []
        token = ""
        while True:
            page = await self.get(f"{collection}?limit={PAGE}&continue={token}")
            found += page["items"]
            token = page["metadata"].get("continue", "")
            if not token:
                return found

    async def count(self, collection: str) -> int:
        """How many objects there are in a collection."""
        page = await self.get(f"{collection}?limit=1")
        return len(page["items"]) + int(page["metadata"].get("remainingItemCount", 0))

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        """The lines of an answer that has no end, such as a watch."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with self._session.get(path, timeout=timeout) as answer:
            async for line in answer.content:
                yield line

    async def send_all(self, requests: Sequence[Request], *, at_once: int) -> float:
        """Sends requests, begun in their order, so many at a time; the seconds that it took.

        Raises:
            BenchError: the API server refused one.
        """
        waiting = iter(requests)
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(self._work(waiting))
        return time.perf_counter() - began

    async def _work(self, waiting: Iterator[Request]) -> None:
        for request in waiting:
            await self.send(request)


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[Bare]:
    """The API server that a kubeconfig of `dev.cluster` names."""
    cluster, user = _credentials(kubeconfig)
    headers = {"User-Agent": AGENT}
    if "token" in user:
        headers["Authorization"] = f"Bearer {user['token']}"
    connector = aiohttp.TCPConnector(ssl=_context(cluster, user), limit=MAX_CONNECTIONS)
    async with aiohttp.ClientSession(
        cluster["server"], connector=connector, headers=headers, read_bufsize=1 << 20
    ) as session:
        yield Bare(session)


def _credentials(kubeconfig: Path) -> tuple[Mapping[str, str], Mapping[str, str]]:
    config = yaml.safe_load(kubeconfig.read_text())
    return config["clusters"][0]["cluster"], config["users"][0]["user"]


def _context(cluster: Mapping[str, str], user: Mapping[str, str]) -> ssl.SSLContext:
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    if "client-certificate-data" in user:
        with TemporaryDirectory() as folder:  # Python reads certificates from files only
            pem = Path(folder) / "client.pem"
            pem.touch(mode=0o600)
            pem.write_bytes(
                base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"])
            )
            context.load_cert_chain(pem)
    return context
