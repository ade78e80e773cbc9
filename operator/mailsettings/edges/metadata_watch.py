"""Watches of the project's own: of metadata only, for collections whose objects are large or secret, and of objects.

The API server sends neither data nor types, so 300 unrelated Secrets of 1 MiB cost what 300 small ones do, and no
Secret's content passes through the operator unless settings refer to it.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import aiohttp

from mailsettings.edges.kubernetes import ApiError, Json, KubernetesApi

Metadata = dict[str, Any]
T = TypeVar("T")

FIRST_RETRY_SECONDS: Final = 0.2
LAST_RETRY_SECONDS: Final = 5.0
"""As kopf does: so long at most does a change wait after the API server has come back."""
GONE: Final = 410
"""The version to watch from is no longer kept: list again."""


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """Everything there is, at the start and whenever changes may have been missed."""

    items: list[T]


@dataclass(frozen=True, slots=True)
class Changed(Generic[T]):
    """One object was added or modified."""

    item: T


@dataclass(frozen=True, slots=True)
class Deleted(Generic[T]):
    """One object is gone."""

    item: T


Event = Listed[T] | Changed[T] | Deleted[T]


def watch(
    api: KubernetesApi, path: str, logger: logging.Logger, *, record: Callable[[Metadata], T]
) -> AsyncIterator[Event[T]]:
    """The state of a collection and its changes, for ever; trouble is logged and waited out.

    Args:
        api: the API server.
        path: of the collection.
        logger: is told of trouble.
        record: what is kept of an object. The rest goes at once, so that a long listing is never there as a whole.
    """

    def changes(version: str, seconds: int) -> AsyncIterator[tuple[str, Metadata]]:
        return api.watch_metadata(path, resource_version=version, timeout_seconds=seconds)

    feed = _Feed(lambda: api.list_metadata(path, record=record), changes, lambda metadata: metadata, record)
    return _watch(feed, f"watch of {path}", logger)


def watch_objects(
    api: KubernetesApi,
    path: str,
    logger: logging.Logger,
    *,
    record: Callable[[Json], T],
    label_selector: str = "",
) -> AsyncIterator[Event[T]]:
    """The same with whole objects, in the place of their metadata."""

    def changes(version: str, seconds: int) -> AsyncIterator[tuple[str, Metadata]]:
        return api.watch_collection(
            path, resource_version=version, timeout_seconds=seconds, label_selector=label_selector
        )

    feed = _Feed(
        lambda: api.list_at(path, record=record, label_selector=label_selector),
        changes,
        lambda item: item["metadata"],
        record,
    )
    return _watch(feed, f"watch of {path}", logger)


@dataclass(frozen=True, slots=True)
class _Feed(Generic[T]):
    """Where a collection comes from."""

    listed: Callable[[], Awaitable[tuple[list[T], str]]]
    changes: Callable[[str, int], AsyncIterator[tuple[str, Metadata]]]
    metadata_of: Callable[[Metadata], Metadata]
    record: Callable[[Metadata], T]


async def _watch(feed: _Feed[T], what: str, logger: logging.Logger) -> AsyncIterator[Event[T]]:
    retry = FIRST_RETRY_SECONDS
    version: str | None = None
    while True:
        try:
            if version is None:
                items, version = await feed.listed()
                yield Listed(items)
            seconds = random.randint(240, 300)  # noqa: S311 - so that watches do not all end at once
            async for kind, item in feed.changes(version, seconds):
                version = feed.metadata_of(item)["resourceVersion"]
                retry = FIRST_RETRY_SECONDS
                if kind == "DELETED":
                    yield Deleted(feed.record(item))
                elif kind != "BOOKMARK":
                    yield Changed(feed.record(item))
            retry = FIRST_RETRY_SECONDS
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            logger.warning("%s: %s: %s", what, type(error).__name__, error)
        except Exception as error:  # noqa: BLE001 - whatever the API server says, the watch must go on
            # Such as a version that the API server does not know, or does not know any more.
            version = None
            if not (isinstance(error, ApiError) and error.status == GONE):
                logger.warning("%s: %s: %s", what, type(error).__name__, error)
        # After an orderly end too: an API server that ends every watch at once must not be flooded.
        await asyncio.sleep(retry * random.uniform(0.5, 1))  # noqa: S311 - jitter
        retry = min(LAST_RETRY_SECONDS, retry * 2)


async def deletions(api: KubernetesApi, path: str, logger: logging.Logger) -> AsyncIterator[Metadata]:
    """The metadata, in short, of every object that goes, also of those that go while the watch is interrupted."""
    known: dict[str, Metadata] = {}
    async for event in watch(api, path, logger, record=in_short):
        match event:
            case Listed(items):
                present = {metadata["uid"]: metadata for metadata in items}
                gone = [metadata for uid, metadata in known.items() if uid not in present]
                known = present
                for metadata in gone:
                    yield metadata
            case Changed(metadata):
                known[metadata["uid"]] = metadata
            case Deleted(metadata):
                known.pop(metadata["uid"], None)
                yield metadata


def whole(item: Json) -> Json:
    """All of it."""
    return item


def in_short(metadata: Metadata) -> Metadata:
    """What tells an object from others."""
    return {name: metadata[name] for name in ("namespace", "name", "uid", "generation") if name in metadata}
