"""The consent endpoint on a free port, behind which nobody but the test sits."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mailsettings.core.oauth2.consent import ConsentKey, ConsentResult
from mailsettings.edges.consent_server.app import application
from mailsettings.edges.consent_server.pages import Settings
from mailsettings.edges.consent_server.server import serve
from tests.support.listening import LOOPBACK

UID: Final = "0b0e7a3c-5f57-4a6e-9f0e-6c1f6a3f3c11"
FLOW: Final = "0123456789abcdef0123456789abcdef"
FORM_TOKEN: Final = "token-of-the-form"
SETTINGS: Final = Settings(
    kind="MailServerSettings",
    namespace="acme",
    name="mail",
    account="no-reply@acme.example",
    provider="Microsoft 365",
    host="login.microsoftonline.com",
    client_id="11112222-bbbb-3333-cccc-4444dddd5555",
    scopes=("https://outlook.office.com/SMTP.Send", "offline_access"),
)


async def _nothing() -> None:
    """Nothing happens."""


@dataclass
class StubDesk:
    """Says what it is told to."""

    shown: Settings = SETTINGS
    outcome: ConsentResult | None = None
    faults: dict[str, Exception] = field(default_factory=dict)
    """By the name of the method that raises it."""
    before_result: Callable[[], Awaitable[None]] = _nothing
    accepted: list[Mapping[ConsentKey, str]] = field(default_factory=list)

    def settings(self, uid: str) -> Settings:  # noqa: ARG002
        self._raise("settings")
        return self.shown

    def form_token(self, uid: str, browser: str) -> str:  # noqa: ARG002
        return FORM_TOKEN

    def begin(self, uid: str, browser: str) -> str:  # noqa: ARG002
        self._raise("begin")
        return "https://login.microsoftonline.com/authorize"

    async def accept(self, host: str, answer: Mapping[ConsentKey, str], browser: str) -> str:  # noqa: ARG002
        self._raise("accept")
        self.accepted.append(answer)
        return FLOW

    async def result(self, flow: str) -> ConsentResult | None:  # noqa: ARG002
        await self.before_result()
        self._raise("result")
        return self.outcome

    def _raise(self, method: str) -> None:
        if method in self.faults:
            raise self.faults[method]


@contextlib.asynccontextmanager
async def consent_endpoint(desk: StubDesk, **options: Any) -> AsyncIterator[int]:
    """Its port, until the block ends."""
    with socket.socket() as holder:
        holder.bind((LOOPBACK, 0))
        port = int(holder.getsockname()[1])
    logger = logging.getLogger("mailsettings")
    started = asyncio.Event()
    serving = asyncio.create_task(
        serve(application(desk, logger), logger, host=LOOPBACK, port=port, started=started, **options)
    )
    starting = asyncio.create_task(started.wait())
    try:
        await asyncio.wait([serving, starting], return_when=asyncio.FIRST_COMPLETED)
        assert not serving.done(), serving.result()
        yield port
    finally:
        serving.cancel()
        starting.cancel()
        await asyncio.wait([serving, starting])
