"""Follows every refresh from the claim to the delivered Secret, and kills whoever refreshes at a chosen step.

The provider, the gate before it and the watches run in one event loop; what is public is for the thread of the test.
"""

import asyncio
import contextlib
import logging
import os
import signal
import statistics
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from dev.operator_process import NAMESPACE
from mailsettings.api import names
from mailsettings.edges.kubeconfig import access_by_kubeconfig
from mailsettings.edges.kubernetes import ApiError, KubernetesApi, core_collection_path, core_path
from mailsettings.edges.metadata_watch import Changed, watch
from mailsettings.edges.token_store import Claim
from tests.support.identity_provider import IdentityProvider, RefusedError
from tests.support.listening import LOOPBACK, streams

LOGGER: Final = logging.getLogger("test")
GATHER_S: Final = 0.15
"""How long a trap that holds refreshes waits for more of them before it kills."""

GRACE_S: Final = 0.05
"""How long a provider may take to act on a request whose sender has gone."""


class Step(StrEnum):
    """Where a refresh is."""

    CLAIMED = "claimed"
    CONNECTED = "connected, nothing sent"
    ARRIVED = "the provider has the request"
    GRANTED = "the provider has acted, its answer is held back"
    ANSWERED = "the answer has been sent"
    STORED = "the token Secret has been written"
    DELIVERED = "the delivered Secret has been written"


class Trap:
    """Sends a signal to a process as soon as a refresh is at a step; the signal 0 does nothing.

    Refreshes that are caught where they can be held are held until the trap is taken away.
    """

    _HOLDING: Final = (Step.CONNECTED, Step.ARRIVED, Step.GRANTED)

    def __init__(self, step: Step, pid: int, number: int = signal.SIGKILL) -> None:
        self.step = step
        self.sprung = threading.Event()
        self.taken_away = asyncio.Event()
        self._pid = pid
        self._number = number
        self._is_set = True

    async def reach(self) -> None:
        """A refresh is at the step."""
        if self.sprung.is_set():  # whoever comes now is another process
            return
        if self._is_set:
            self._is_set = False
            if self.step in self._HOLDING:
                await asyncio.sleep(GATHER_S)
            os.kill(self._pid, self._number)
            self.sprung.set()
        if self.step in self._HOLDING:
            await self.taken_away.wait()


@dataclass
class Credential:
    """The consent of one settings object, and how it is used."""

    name: str
    uid: str
    provider: IdentityProvider
    seed: str
    """The refresh token of the latest consent."""
    newest: str
    """The refresh token that the provider gave last."""
    access_tokens: list[str] = field(default_factory=list)
    """In the order in which the provider gave them."""
    asking: int = 0
    refusals: int = 0
    moments: dict[Step, float] = field(default_factory=dict)
    """When the present refresh was at which step, in seconds of the monotonic clock."""


@dataclass
class Spans:
    """How long something took, again and again."""

    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.seconds:
            return "never measured"
        low, middle, high = min(self.seconds), statistics.median(self.seconds), max(self.seconds)
        return f"{low * 1e3:.1f} / {middle * 1e3:.1f} / {high * 1e3:.1f} ms (min/median/max of {len(self.seconds)})"


class Refreshes:
    """All credentials of one namespace."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._providers: list[IdentityProvider] = []
        self._by_refresh_token: dict[str, Credential] = {}
        self.credentials: dict[str, Credential] = {}
        self.trap: Trap | None = None
        self.delay: Callable[[], float] = lambda: 0.0
        """How long the provider takes for its answer, in seconds."""
        self.overlapping: list[str] = []
        """Whose credential was used while another use of it had not been answered."""
        self.outside: list[str] = []
        """Whose credential was used while nobody had claimed it."""
        self.replaced: list[str] = []
        """Whose refresh token was used although the provider had given a newer one."""
        self.granted = 0
        self.until_request = Spans()
        """From the claim, as a watch sees it, to the request's arrival at the provider."""
        self.until_stored = Spans()
        """From the end of the provider's answer to the stored token, as a watch sees it: the first window."""
        self.in_flight = 0

    def serve(self, provider: IdentityProvider) -> None:
        """Follows what a provider is asked."""

        async def answer(request: web.Request) -> web.StreamResponse:
            return await self._answer(provider, request)

        provider.standing = answer
        self._providers.append(provider)

    def leave(self) -> None:
        """Lets the providers answer by themselves, for operators that outlive the test."""
        for provider in self._providers:
            provider.standing = None

    def consent(self, name: str, uid: str, provider: IdentityProvider) -> str:
        """A consent for an object, its first or another one: the refresh token to bring."""
        token = provider.consent()
        credential = self.credentials.setdefault(name, Credential(name, uid, provider, token, token))
        credential.seed = credential.newest = token
        self._by_refresh_token[token] = credential
        return token

    async def reach(self, step: Step, credential: Credential | None = None) -> None:
        """A refresh is at a step."""
        if credential is not None:
            credential.moments[step] = time.monotonic()
        if self.trap is not None and self.trap.step is step:
            await self.trap.reach()

    async def connected(self) -> None:
        """Somebody has connected to a provider."""
        await self.reach(Step.CONNECTED)

    async def _answer(self, provider: IdentityProvider, request: web.Request) -> web.StreamResponse:
        form = {key: str(value) for key, value in (await request.post()).items()}
        credential = self._by_refresh_token[form["refresh_token"]]
        credential.moments.pop(Step.ANSWERED, None)
        if form["refresh_token"] != credential.newest:
            self.replaced.append(credential.name)
        self.in_flight += 1
        credential.asking += 1
        if credential.asking > 1:
            self.overlapping.append(credential.name)
        try:
            if Step.CLAIMED in credential.moments:
                self.until_request.seconds.append(time.monotonic() - credential.moments.pop(Step.CLAIMED))
            await self._check_claim(credential)
            await self.reach(Step.ARRIVED, credential)
            return await self._grant(provider, request, form, credential)
        finally:
            credential.asking -= 1
            self.in_flight -= 1

    async def _grant(
        self, provider: IdentityProvider, request: web.Request, form: dict[str, str], credential: Credential
    ) -> web.StreamResponse:
        delay = self.delay()
        await asyncio.sleep(delay / 2)
        try:
            content = provider._grant(request, form)
        except RefusedError as refused:
            credential.refusals += 1
            return web.json_response({"error": refused.error, "error_description": refused.description}, status=400)
        self.granted += 1
        credential.newest = content["refresh_token"]
        credential.access_tokens.append(content["access_token"])
        self._by_refresh_token[credential.newest] = credential
        await asyncio.sleep(delay / 2)
        await self.reach(Step.GRANTED, credential)
        response = web.json_response(content)
        with contextlib.suppress(ConnectionError):  # whoever asked has been killed
            await response.prepare(request)
            await response.write_eof()
            await self.reach(Step.ANSWERED, credential)
        return response

    async def _check_claim(self, credential: Credential) -> None:
        try:
            secret = await self._api.get(core_path("secrets", NAMESPACE, names.token_secret_name(credential.uid)))
        except (ApiError, aiohttp.ClientError):  # it is down, and the test has seen to that
            return
        claim = Claim.parse(((secret or {})["metadata"].get("annotations") or {}).get(names.ANNOTATION_CLAIM))
        if claim is None or claim.deadline <= datetime.now(UTC):
            self.outside.append(credential.name)

    async def follow_tokens(self) -> None:
        """Watches the token Secrets."""
        claims: dict[str, str | None] = {}
        async for event in watch(self._api, core_collection_path("secrets", NAMESPACE), LOGGER, record=dict):
            if not isinstance(event, Changed):
                continue
            annotations = event.item.get("annotations") or {}
            source = str(annotations.get(names.ANNOTATION_SOURCE, "")).split("/")
            credential = self.credentials.get(source[-1]) if self._namespace in source else None
            if credential is None:
                continue
            claim, before = annotations.get(names.ANNOTATION_CLAIM), claims.get(credential.uid)
            claims[credential.uid] = claim
            if claim and claim != before:
                await self.reach(Step.CLAIMED, credential)
            elif before and not claim:
                answered_at = credential.moments.pop(Step.ANSWERED, None)
                if answered_at is not None:
                    self.until_stored.seconds.append(max(0.0, time.monotonic() - answered_at))
                await self.reach(Step.STORED, credential)

    async def follow_deliveries(self) -> None:
        """Watches the delivered Secrets."""
        async for event in watch(self._api, core_collection_path("secrets", self._namespace), LOGGER, record=dict):
            if isinstance(event, Changed) and (event.item.get("labels") or {}).get(names.LABEL_MANAGED_BY):
                await self.reach(Step.DELIVERED)


@contextlib.asynccontextmanager
async def refreshes(kubeconfig: Path, namespace: str) -> AsyncIterator[Refreshes]:
    """Follows the refreshes of a namespace's objects."""
    async with KubernetesApi(await access_by_kubeconfig(str(kubeconfig))) as api:
        followed = Refreshes(api, namespace)
        tasks = [asyncio.create_task(each()) for each in (followed.follow_tokens, followed.follow_deliveries)]
        try:
            yield followed
        finally:
            followed.leave()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class Gate:
    """A port before a provider's. A connection goes on to the provider when what is told of it has returned."""

    def __init__(self, target: int, connected: Callable[[], Awaitable[None]]) -> None:
        self.port = 0
        self.connections = 0
        self._target = target
        self._connected = connected

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Passes one connection on."""
        self.connections += 1
        try:
            await self._connected()
            await self._pass_through(reader, writer)
        finally:
            self.connections -= 1

    async def _pass_through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        provider_reader, provider_writer = await asyncio.open_connection(LOOPBACK, self._target)
        answer = asyncio.create_task(_pass_on(provider_reader, writer))
        answer.add_done_callback(lambda _: writer.close())
        try:
            await _pass_on(reader, provider_writer)
            # A provider acts on what it has received although nobody waits for the answer; aiohttp would not.
            await asyncio.wait({answer}, timeout=GRACE_S)
        finally:
            provider_writer.transport.abort()
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def gate(target: int, connected: Callable[[], Awaitable[None]]) -> AsyncIterator[Gate]:
    """A gate on a free port."""
    made = Gate(target, connected)
    async with streams(made.serve) as made.port:
        yield made
