"""Reports of the relay's replicas: each keeps two ConfigMaps in the relay's namespace, which the operator follows."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

import aiohttp

from mailsettings.api import names
from mailsettings.core.relay.audit import AuditRecord
from mailsettings.core.relay.report import (
    Counting,
    RefusedTokens,
    Report,
    ReportError,
    document,
    parse_refused_tokens,
    parse_report,
)
from mailsettings.edges.errors import described
from mailsettings.edges.kubernetes import ApiError, Json, KubernetesApi, core_collection_path, core_path
from mailsettings.edges.metadata_watch import Changed, Deleted, Listed, watch_objects, whole

COUNTS_KEY: Final = "counts.json"
TOKENS_KEY: Final = "refused-tokens.json"

EVERY_S: Final = 60.0
"""From one writing of the counts to the next, at least."""

SOON_S: Final = 1.0
"""The same where an access token was refused."""

MAX_TOKENS: Final = 1000
"""Of which it is said that they were refused."""

T = TypeVar("T")

_TROUBLE: Final = (ApiError, aiohttp.ClientError, TimeoutError, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class Replica:
    """Who reports."""

    name: str
    """Of the Pod, where there is one."""
    pod_uid: str
    """With this Pod the report goes; empty: with nothing."""


class Reporter:
    """A replica's own report: a sink that counts, and writes now and then what has changed."""

    def __init__(
        self, api: KubernetesApi, namespace: str, replica: Replica, logger: logging.Logger, *, every_s: float = EVERY_S
    ) -> None:
        """Nothing is written yet.

        Args:
            api: The connection, under the relay's field manager.
            namespace: The relay's.
            replica: Who reports.
            logger: Is told of trouble.
            every_s: From one writing of the counts to the next, in seconds.
        """
        self._api = api
        self._namespace = namespace
        self._replica = replica
        self._logger = logger
        self._every_s = every_s
        self._counting = Counting(datetime.now(UTC))
        self._tokens: dict[str, str] = {}
        self._counted = self._refused = False
        self._news = asyncio.Event()

    def message(self, record: AuditRecord) -> None:
        """A message has come to its end."""
        if self._counting.note(record, datetime.now(UTC)):
            self._counted = True
            self._news.set()

    def login(self, username: str, *, accepted: bool) -> None:
        """Of no interest to the operator."""

    def upstream_failed(self, credential: str, reason: str) -> None:
        """Likewise: its probes tell."""

    def token_refused(self, credential: str, digest: str) -> None:
        """A mail server has refused an access token: another one is wanted, soon."""
        if self._tokens.get(credential) == digest:
            return
        self._tokens.pop(credential, None)
        self._tokens[credential] = digest
        if len(self._tokens) > MAX_TOKENS:
            del self._tokens[next(iter(self._tokens))]
        self._refused = True
        self._news.set()

    async def keep_written(self) -> None:
        """Writes what is new, until it is cancelled."""
        loop = asyncio.get_running_loop()
        counts_at_s = 0.0
        while True:
            await self._news.wait()
            self._news.clear()
            if not self._refused:
                await self._sleep(counts_at_s - loop.time())
            counts_at_s = loop.time() + self._every_s
            await self._write()
            await asyncio.sleep(min(SOON_S, self._every_s))

    async def _sleep(self, seconds: float) -> None:
        """Until the counts may be written again, or a token is refused."""
        end_s = asyncio.get_running_loop().time() + seconds
        while not self._refused and (left_s := end_s - asyncio.get_running_loop().time()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    await self._news.wait()
            except TimeoutError:
                return
            self._news.clear()

    async def _write(self) -> None:
        counted, refused = self._counted, self._refused
        self._counted = self._refused = False
        tokens = RefusedTokens(tokens=self._tokens)
        if refused and not await self._applied(names.REFUSED_TOKENS_PREFIX, TOKENS_KEY, document(tokens)):
            self._refused = True
        if counted and not await self._applied(names.REPORT_PREFIX, COUNTS_KEY, document(self._counting.report)):
            self._counted = True
        if self._refused or self._counted:
            self._news.set()

    async def _applied(self, prefix: str, key: str, text: str) -> bool:
        """Each in a ConfigMap of its own, so that neither stands in the way of the other."""
        name = f"{prefix}{self._replica.name}"
        try:
            await self._api.apply(
                core_path("configmaps", self._namespace, name), self._body(name, key, text), force=True
            )
        except _TROUBLE as error:
            self._logger.warning("the report %s is not written: %s", name, described(error))
            return False
        return True

    def _body(self, name: str, key: str, text: str) -> Json:
        owner = {"apiVersion": "v1", "kind": "Pod", "name": self._replica.name, "uid": self._replica.pod_uid}
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "namespace": self._namespace,
                "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_REPORT: "true"},
                "ownerReferences": [owner] if self._replica.pod_uid else [],
            },
            "data": {key: text},
        }


@dataclass(frozen=True, slots=True)
class Reports:
    """What the replicas that there are report, by the names of their ConfigMaps."""

    counts: Mapping[str, Report]
    refused_tokens: Mapping[str, Mapping[str, str]]
    """By replica and credential: a digest of the access token."""


async def watch_reports(api: KubernetesApi, namespace: str, logger: logging.Logger) -> AsyncIterator[Reports]:
    """All reports, now and whenever one changes, for ever.

    Args:
        api: The connection.
        namespace: The relay's.
        logger: Is told of trouble.
    """
    path = core_collection_path("configmaps", namespace)
    counts: dict[str, Report] = {}
    tokens: dict[str, Mapping[str, str]] = {}

    def take(item: Json) -> None:
        name, data = item["metadata"]["name"], item.get("data") or {}
        if COUNTS_KEY in data:
            _read(counts, name, data[COUNTS_KEY], parse_report, logger)
        if TOKENS_KEY in data:
            _read(tokens, name, data[TOKENS_KEY], parse_refused_tokens, logger)

    selector = f"{names.LABEL_REPORT}=true"
    async for event in watch_objects(api, path, logger, record=whole, label_selector=selector):
        match event:
            case Listed(items):
                counts.clear()
                tokens.clear()
                for item in items:
                    take(item)
            case Changed(item):
                take(item)
            case Deleted(item):
                counts.pop(item["metadata"]["name"], None)
                tokens.pop(item["metadata"]["name"], None)
        yield Reports(dict(counts), dict(tokens))


def _read(into: dict[str, T], name: str, document: str, parse: Callable[[str], T], logger: logging.Logger) -> None:
    """What is no report leaves what was known before."""
    try:
        into[name] = parse(document)
    except ReportError as error:
        logger.warning("%s: %s", name, error)
