"""The Kubernetes API, as little of it as the operator needs: JSON in, JSON out.

The official client takes 30 MB to import, and processor time at each request. So requests are aiohttp's own; who finds
out where the API server is, and with which credentials, says so in an `Access`.
"""

import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Self, TypeVar
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from mailsettings.api import names
from mailsettings.edges.api_server import (
    ApiError,
    Json,
    cluster_settings_path,
    core_collection_path,
    core_path,
    endpoint_slices_path,
    events_path,
    mail_test_path,
    mail_tests_path,
    namespace_path,
    refusal,
    settings_collection_path,
    settings_path,
    settings_status_path,
)
from mailsettings.edges.fence import Fence

__all__ = [
    "APPLY",
    "MAX_CONNECTIONS",
    "METADATA",
    "METADATA_LIST",
    "REQUEST_TIMEOUT",
    "UNREACHABLE",
    "WATCH_TIMEOUT",
    "Access",
    "ApiError",
    "Json",
    "KubernetesApi",
    "cluster_settings_path",
    "core_collection_path",
    "core_path",
    "endpoint_slices_path",
    "events_path",
    "mail_test_path",
    "mail_tests_path",
    "namespace_path",
    "settings_collection_path",
    "settings_path",
    "settings_status_path",
]

T = TypeVar("T")

REQUEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=10)
WATCH_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=90)
"""The API server sends a bookmark about every minute, so a silent connection is a dead one."""

MAX_CONNECTIONS: Final = 64
READ_BUFFER: Final = 1 << 21
"""Bytes. The longest line of a watch is an object, which etcd holds to 1.5 MiB."""

APPLY: Final = "application/apply-patch+yaml; charset=utf-8"

_METADATA: Final = "application/json;as={};v=v1;g=meta.k8s.io"
METADATA_LIST: Final = _METADATA.format("PartialObjectMetadataList")
METADATA: Final = _METADATA.format("PartialObjectMetadata")


UNREACHABLE: Final = (aiohttp.ClientError, TimeoutError, OSError)
"""What it means that the API server has not answered at all."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the API server is, and with what one gets in."""

    server: str
    """Its URL, without a slash at the end."""
    context: ssl.SSLContext | None
    """Whom to trust, and the client's certificate if it has one; None: there is no TLS."""
    headers: Callable[[], Awaitable[Mapping[str, str]]]
    """The credentials of now, asked for before each request, since tokens are replaced."""
    server_name: str | None = None
    """The name in the server's certificate; None: that in the URL."""
    proxy: str | None = None
    """The URL of a proxy; None: the one that the environment names, if it does and is asked."""
    asks_environment: bool = True
    """Whether the environment may name the proxy."""


class KubernetesApi:
    """A connection to the API server. Close it, or use it with `async with`."""

    def __init__(self, access: Access, *, field_manager: str = names.FIELD_MANAGER, fence: Fence | None = None) -> None:
        """Opens nothing yet.

        Args:
            access: where to and with what.
            field_manager: who is said to write.
            fence: is asked right before each write; None: nobody is.
        """
        self._access = access
        self._field_manager = field_manager
        self._fence = fence
        self._proxy = access.proxy
        if self._proxy is None and access.asks_environment:
            self._proxy = _environment_proxy(access.server)
        self._session: aiohttp.ClientSession | None = None

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._access.server

    async def __aenter__(self) -> Self:
        """Nothing to prepare."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> Json | None:
        """The object at a path; None: there is none.

        Raises:
            ApiError: the API server refused.
        """
        try:
            return await self._request("GET", path)
        except ApiError as error:
            if error.is_not_found:
                return None
            raise

    async def get_metadata(self, path: str) -> Json | None:
        """The metadata of the object at a path, without its content; None: there is none.

        Raises:
            ApiError: the API server refused.
        """
        try:
            found: Json = (await self._request("GET", path, accept=METADATA))["metadata"]
        except ApiError as error:
            if error.is_not_found:
                return None
            raise
        return found

    async def create(self, path: str, body: Json, *, fenced: bool = True) -> Json:
        """Creates an object in the collection at a path.

        Args:
            path: the collection's.
            body: the object.
            fenced: whether only the replica that holds the Lease may do it.

        Raises:
            ApiError: the API server refused.
        """
        query = {"fieldManager": self._field_manager}
        return await self._request("POST", path, body=body, query=query, fenced=fenced)

    async def apply(self, path: str, body: Json, *, force: bool) -> Json:
        """Applies an object server-side under the connection's field manager.

        Args:
            path: the object's.
            body: the fields that the operator wants; a `metadata.resourceVersion` in it guards the write.
            force: take fields from other managers; without it they are a conflict.

        Raises:
            ApiError: the API server refused.
        """
        query = {"fieldManager": self._field_manager, "force": "true" if force else "false"}
        return await self._request("PATCH", path, body=_yaml(body), query=query, content=APPLY)

    async def merge(self, path: str, patch: Json, *, fenced: bool = True) -> Json:
        """Changes an object by a JSON merge patch, in which null removes a field.

        Args:
            path: the object's.
            patch: what is to change; a `metadata.resourceVersion` in it guards the write.
            fenced: whether only the replica that holds the Lease may do it.

        Raises:
            ApiError: the API server refused.
        """
        query, content = {"fieldManager": self._field_manager}, "application/merge-patch+json"
        return await self._request("PATCH", path, body=patch, query=query, content=content, fenced=fenced)

    async def remove(self, path: str, pointers: Iterable[str], *, resource_version: str) -> Json:
        """Removes fields of an object, whoever manages them, without coming to manage anything.

        Args:
            path: the object's.
            pointers: the fields, as JSON pointers, in an order in which each is still where it says.
            resource_version: the version to which the pointers apply; the API server refuses if there is a newer one.

        Raises:
            ApiError: the API server refused.
        """
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": resource_version},
            *({"op": "remove", "path": pointer} for pointer in pointers),
        ]
        query = {"fieldManager": self._field_manager}
        return await self._request("PATCH", path, body=patch, query=query, content="application/json-patch+json")

    async def delete(self, path: str, *, uid: str) -> None:
        """Deletes an object if it is still the one with this uid; that it is gone already is no error.

        Raises:
            ApiError: the API server refused.
        """
        try:
            await self._request("DELETE", path, body={"preconditions": {"uid": uid}})
        except ApiError as error:
            if not error.is_not_found:
                raise

    async def list_metadata(
        self, path: str, *, record: Callable[[Json], T], limit: int = 500, field_selector: str = ""
    ) -> tuple[list[T], str]:
        """The metadata of every object in a collection, and the resource version to watch from.

        Args:
            path: of the collection.
            record: what is kept of an object's metadata.
            limit: how many objects are asked for at a time.
            field_selector: which objects; empty: all.

        Raises:
            ApiError: the API server refused.
        """
        return await self._pages(
            path,
            accept=METADATA_LIST,
            limit=limit,
            field_selector=field_selector,
            record=lambda item: record(item["metadata"]),
        )

    async def list_objects(self, path: str, *, limit: int = 500) -> list[Json]:
        """Every object in a collection.

        Raises:
            ApiError: the API server refused.
        """
        items, _ = await self._pages(path, accept="application/json", limit=limit, record=lambda item: item)
        return items

    async def list_at(
        self, path: str, *, record: Callable[[Json], T], label_selector: str = "", limit: int = 500
    ) -> tuple[list[T], str]:
        """Every object in a collection, and the resource version to watch from.

        Args:
            path: of the collection.
            record: what is kept of an object.
            label_selector: which objects; empty: all.
            limit: how many objects are asked for at a time.

        Raises:
            ApiError: the API server refused.
        """
        return await self._pages(
            path, accept="application/json", limit=limit, record=record, label_selector=label_selector
        )

    async def _pages(
        self,
        path: str,
        *,
        accept: str,
        limit: int,
        record: Callable[[Json], T],
        field_selector: str = "",
        label_selector: str = "",
    ) -> tuple[list[T], str]:
        items: list[T] = []
        selectors = {"fieldSelector": field_selector, "labelSelector": label_selector}
        query = {"limit": str(limit), **{name: text for name, text in selectors.items() if text}}
        while True:
            page = await self._request("GET", path, query=query, accept=accept)
            items += map(record, page.get("items") or ())
            token = page["metadata"].get("continue")
            if not token:
                return items, page["metadata"]["resourceVersion"]
            query["continue"] = token

    async def watch_metadata(
        self, path: str, *, resource_version: str, timeout_seconds: int
    ) -> AsyncIterator[tuple[str, Json]]:
        """The changes of a collection's metadata as `(type, metadata)`, bookmarks included.

        Ends when the API server ends it.

        Raises:
            ApiError: the API server refused, or reports an error on the way (410 when the version is too old).
            aiohttp.ClientError: the connection broke.
            TimeoutError: the API server fell silent.
        """
        query = {"resourceVersion": resource_version, "timeoutSeconds": str(timeout_seconds)}
        async for kind, document in self._watch(path, query, accept=METADATA):
            yield kind, document["metadata"]

    async def watch_object(
        self, collection: str, name: str, *, resource_version: str, timeout_seconds: int
    ) -> AsyncIterator[tuple[str, Json]]:
        """The changes of one object as `(type, object)`. It ends and raises as `watch_metadata` does."""
        query = {
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
        }
        async for kind, document in self._watch(collection, query, accept="application/json"):
            if kind != "BOOKMARK":
                yield kind, document

    async def watch_collection(
        self, path: str, *, resource_version: str, timeout_seconds: int, label_selector: str = ""
    ) -> AsyncIterator[tuple[str, Json]]:
        """The changes of a collection as `(type, object)`, bookmarks included.

        It ends and raises as `watch_metadata` does.
        """
        query = {"resourceVersion": resource_version, "timeoutSeconds": str(timeout_seconds)}
        selected = {"labelSelector": label_selector} if label_selector else {}
        async for kind, document in self._watch(path, {**query, **selected}, accept="application/json"):
            yield kind, document

    async def _watch(self, path: str, query: Mapping[str, str], *, accept: str) -> AsyncIterator[tuple[str, Json]]:
        watching = {"watch": "true", "allowWatchBookmarks": "true", **query}
        response = await self._send("GET", path, query=watching, accept=accept, timeout=WATCH_TIMEOUT)
        try:
            await _raise_for_status(response)
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ApiError(status.get("code", 500), status.get("reason", ""), status.get("message", ""))
                yield event["type"], event["object"]
        finally:
            response.close()

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Json | list[Json] | bytes | None = None,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
        accept: str = "application/json",
        fenced: bool = True,
    ) -> Json:
        if self._fence is None or not fenced or method == "GET":
            response = await self._send(method, path, body=body, query=query, content=content, accept=accept)
            return await _document(response)
        limit_s = self._fence.write_limit_s
        # The API server itself gives up after so long, so that nothing that was begun in time is done too late.
        query = {**(query or {}), "timeout": f"{limit_s:g}s"}
        limits = aiohttp.ClientTimeout(total=limit_s)
        with self._fence.writing():
            asked = _WRITES_BEHIND.set(self._fence)
            try:
                response = await self._send(
                    method, path, body=body, query=query, content=content, accept=accept, timeout=limits
                )
                return await _document(response)
            except aiohttp.ClientError:
                self._fence.check()  # it may have been the last look that has ended the connection
                raise
            finally:
                _WRITES_BEHIND.reset(asked)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        body: Json | list[Json] | bytes | None = None,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
        accept: str = "application/json",
        timeout: aiohttp.ClientTimeout = REQUEST_TIMEOUT,  # noqa: ASYNC109 - passed on to aiohttp
    ) -> aiohttp.ClientResponse:
        return await self._opened().request(
            method,
            URL(f"{self._access.server}{path}{'?' + urlencode(query) if query else ''}", encoded=True),
            data=body if body is None or isinstance(body, bytes) else json.dumps(body).encode(),
            headers={"Accept": accept, "Content-Type": content, **await self._access.headers()},
            timeout=timeout,
            server_hostname=self._access.server_name,
            proxy=self._proxy,
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:  # it belongs to the event loop that it is made in
            connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, ssl=self._access.context or True)
            traces = [_last_looks()] if self._fence is not None else []
            self._session = aiohttp.ClientSession(connector=connector, read_bufsize=READ_BUFFER, trace_configs=traces)
        return self._session


def _environment_proxy(server: str) -> str | None:
    """The proxy that the environment names for the API server; aiohttp would look for it at each request."""
    parts = urlsplit(server)
    if proxy_bypass(parts.netloc):
        return None
    return getproxies().get(parts.scheme)


_WRITES_BEHIND: Final[ContextVar[Fence | None]] = ContextVar("writes_behind", default=None)
"""The fence of the write that the present task has begun."""


def _last_looks() -> aiohttp.TraceConfig:
    """Asks the fence once more right before aiohttp hands headers and body, which go together, to the system.

    Before that a write waits for its connection and, before Python 3.12, for a turn of the event loop.
    """

    async def look(*_: object) -> None:
        fence = _WRITES_BEHIND.get()
        if fence is not None:
            fence.check()

    trace = aiohttp.TraceConfig()
    trace.on_request_chunk_sent.append(look)
    return trace


async def _document(response: aiohttp.ClientResponse) -> Json:
    async with response:
        await _raise_for_status(response)
        document: Json = json.loads(await response.read())
        return document


_NOT_IN_YAML: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def _yaml(document: Json) -> bytes:
    r"""JSON that is YAML too, which is how the API server reads what is applied.

    JSON writes a character beyond U+FFFF as two escapes, which YAML refuses, so characters stand as they are; except
    those that YAML takes only as escapes.
    """
    text = json.dumps(document, ensure_ascii=False)
    return _NOT_IN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode("utf-8")


async def _raise_for_status(response: aiohttp.ClientResponse) -> None:
    if response.status >= 400:
        raise refusal(response.status, await response.text())
