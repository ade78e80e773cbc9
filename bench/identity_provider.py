"""An identity provider as a program of its own, which counts how much it is asked at once.

    python -m bench.identity_provider FOLDER COUNT

It puts its certificate and as many refresh tokens into the folder, says its port, and runs until it is killed. A
refresh token that comes a second time ends its consent.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from aiohttp import web

from tests.support.identity_provider import CLIENT_SECRET, IdentityProvider, RegisteredClient
from tests.support.listening import LOOPBACK
from tests.support.smtp_server import certificate

CA_FILE: Final = "identity-provider.pem"
CONSENTS_FILE: Final = "consents.json"
LATENCY_S: Final = 0.1
"""How long each answer takes at least, as that of a provider that is not on the same machine."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Counted:
    """What a provider is asked, and how much of it at once."""

    def __init__(self, provider: IdentityProvider) -> None:
        self._provider = provider
        self._at_once = 0
        self._most_at_once = 0
        self._refused = 0

    def application(self) -> web.Application:
        """The provider's, with a page that tells what was counted, and one that sets how long tokens live."""
        application = self._provider.application()
        application.middlewares.append(self._count)
        application.router.add_get("/statistics", self._tell)
        application.router.add_put("/access-life/{seconds}", self._set_life)
        return application

    @web.middleware
    async def _count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != "/token":
            return await handler(request)
        self._at_once += 1
        self._most_at_once = max(self._most_at_once, self._at_once)
        try:
            await asyncio.sleep(LATENCY_S)
            answer = await handler(request)
        finally:
            self._at_once -= 1
        self._refused += answer.status >= 400
        return answer

    async def _tell(self, _request: web.Request) -> web.Response:
        return web.json_response({"mostAtOnce": self._most_at_once, "refused": self._refused})

    async def _set_life(self, request: web.Request) -> web.Response:
        self._provider.access_life = timedelta(seconds=float(request.match_info["seconds"]))
        return web.Response()


async def _serve(folder: Path, count: int) -> None:
    issued = certificate(LOOPBACK)
    provider = IdentityProvider(ca_pem=issued.ca_pem, detects_reuse=True)
    provider.register(RegisteredClient(secret=CLIENT_SECRET))
    (folder / CA_FILE).write_text(issued.ca_pem)
    (folder / CONSENTS_FILE).write_text(json.dumps([provider.consent() for _ in range(count)]))
    runner = web.AppRunner(Counted(provider).application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0, ssl_context=issued.context).start()
    provider.port = runner.addresses[0][1]
    print(provider.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
