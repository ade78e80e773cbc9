"""New tenants with a server of their own: from the apply to Ready, and the bare sum of the calls that it takes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiosmtplib import SMTP

from bench import objects
from bench.audit import to
from bench.bare import Bare, Request, create
from bench.errors import BenchError
from bench.replay import Replay
from bench.result import quantile
from bench.world import World
from dev.audit import Write
from tests.support.smtp_server import PASSWORD, USERNAME

READY_TIMEOUT_S: Final = 30.0
QUIET_BARE_SUM_S: Final = 0.031
"""The median of `bare_sum_s` on the two quiet cores that docs/performance.md has figures of."""

Json = dict[str, Any]


class Arrivals:
    """Tells when settings become ready, from a watch."""

    def __init__(self) -> None:
        self._ready: dict[str, asyncio.Future[float]] = {}

    @asynccontextmanager
    async def watching(self, admin: Bare) -> AsyncIterator[None]:
        """Watches while the block runs."""
        page = await admin.get(f"{objects.SETTINGS}?limit=1")
        version = page["metadata"]["resourceVersion"]
        task = asyncio.create_task(self._watch(admin, version))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self, admin: Bare, version: str) -> None:
        async for line in admin.lines(f"{objects.SETTINGS}?watch=true&resourceVersion={version}"):
            now = time.perf_counter()
            settings = json.loads(line)["object"]
            awaited = self._ready.get(settings["metadata"]["namespace"])
            if awaited is not None and not awaited.done() and objects.ready(settings):
                awaited.set_result(now)

    async def apply(self, place: World, namespace: str) -> float:
        """Creates settings in a namespace; the seconds until they were seen to be ready.

        Raises:
            BenchError: they are not, in `READY_TIMEOUT_S`.
        """
        awaited = self._ready[namespace] = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        await place.create_settings({namespace: objects.own_server(place.mail_port)})
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                arrived: float = await awaited
        except TimeoutError:
            raise BenchError(f"the settings in {namespace} are not ready") from None
        else:
            return arrived - began
        finally:
            del self._ready[namespace]


async def bare_sum_s(place: World, namespace: str, writes: Sequence[Write]) -> float:
    """The seconds that the calls for one newcomer take, one after the other and nothing else.

    Args:
        place: The cluster, in which the operator is stopped and the newcomer is known.
        namespace: The newcomer's.
        writes: The operator's, that were made for it.
    """
    replay = Replay(place.admin, place.as_operator)
    requests = await replay.requests(to([write for write in writes if write.namespace == namespace], *_RESOURCES))
    body = objects.own_server(place.mail_port, name="floor")
    began = time.perf_counter()
    await place.admin.send(create(objects.settings_in(namespace), body))
    await place.as_operator.send(Request("GET", f"{objects.secrets_in(namespace)}/{objects.LOGIN}"))
    await _log_in(place.mail_port)
    for request in requests:
        await place.as_operator.send(request)
    return time.perf_counter() - began


def slowness(bare_sums_s: Sequence[float]) -> float:
    """How many times slower than a quiet one the machine has just been; never below 1."""
    return max(1.0, quantile(bare_sums_s, 0.5) / QUIET_BARE_SUM_S)


_RESOURCES: Final = ("secrets", "mailserversettings/status", "events")


async def _log_in(port: int) -> None:
    client = SMTP(hostname="127.0.0.1", port=port, use_tls=False, start_tls=False)
    await client.connect()
    await client.login(USERNAME, PASSWORD)
    await client.quit()
