"""Answers the kubelet: whether the process lives, and whether it is ready to serve; and Prometheus."""

import asyncio
from collections.abc import Callable
from typing import Final, Self
from urllib.parse import urlsplit

from aiohttp import web

READY_PATH: Final = "/readyz"
METRICS_PATH: Final = "/metrics"
LIVENESS_PORT: Final = 80
SHUTDOWN_S: Final = 0.5


class Health:
    """A server for health checks, from the process's start to its end; use it with `async with`."""

    def __init__(
        self, url: str | None, is_ready: Callable[[], bool], metrics: Callable[[], tuple[bytes, str]] | None = None
    ) -> None:
        """Nothing listens yet.

        Args:
            url: Where liveness is answered, such as `http://0.0.0.0:8080/healthz`; readiness is beside it, at
                `/readyz`. None: nothing is answered.
            is_ready: Whether requests may be sent to this replica.
            metrics: Gives metrics with their content type, answered at `/metrics`; None: there are none.
        """
        self._url = url
        self._is_ready = is_ready
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        """Listens.

        Raises:
            OSError: The address cannot be listened on.
        """
        if self._url is None:
            return self
        parts = urlsplit(self._url)
        application = web.Application()
        application.router.add_get(parts.path or "/", self._live)
        application.router.add_get(READY_PATH, self._ready)
        if self._metrics is not None:
            application.router.add_get(METRICS_PATH, self._measured)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        await web.TCPSite(self._runner, parts.hostname, parts.port or LIVENESS_PORT).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends what is still open."""
        await self.close()

    async def close(self) -> None:
        """Listens no more."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await asyncio.shield(runner.cleanup())

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        is_ready = self._is_ready()
        return web.Response(status=200 if is_ready else 503, text="ok\n" if is_ready else "not ready\n")

    async def _measured(self, _: web.Request) -> web.Response:
        body, content_type = self._metrics() if self._metrics is not None else (b"", "")
        return web.Response(body=body, headers={"Content-Type": content_type})
