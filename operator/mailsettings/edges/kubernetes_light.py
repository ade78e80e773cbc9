"""The Kubernetes API for a command that is over in a moment, by the standard library alone.

To import aiohttp and the official client takes longer than all that such a command asks (0.3 to 0.6 s, measured). It
asks one thing after the other, so each call has a thread.
"""

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self, TypeVar
from urllib.parse import urlencode, urlsplit

from mailsettings.api import names
from mailsettings.edges.api_server import ApiError, Json, refusal

REQUEST_TIMEOUT_S: Final = 30.0
WATCH_TIMEOUT_S: Final = 90.0
"""The API server sends a bookmark about every minute, so a silent connection is a dead one."""

MAX_LINE: Final = 8 * 1024 * 1024
"""Bytes of one event, which is more than etcd keeps of an object."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LightAccess:
    """Where the API server is, and with what one gets in."""

    server: str
    """Its URL."""
    context: ssl.SSLContext | None
    """Whom to trust, with the client's certificate if there is one; None: there is no TLS."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The credentials, where they are no certificate."""


class LightApi:
    """Some of what `KubernetesApi` does, in the same way. Use it with `async with`."""

    def __init__(self, access: LightAccess, *, field_manager: str = names.PLUGIN_FIELD_MANAGER) -> None:
        """Opens nothing yet.

        Args:
            access: where to and with what.
            field_manager: who is said to write.
        """
        self._access = access
        self._url = urlsplit(access.server)
        self._field_manager = field_manager
        self._idle: http.client.HTTPConnection | None = None

    async def __aenter__(self) -> Self:
        """Nothing to prepare."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the connection."""
        if self._idle is not None:
            self._idle.close()

    async def create(self, path: str, body: Json) -> Json:
        """Creates an object in the collection at a path.

        Raises:
            ApiError: the API server refused.
        """
        return await self._request("POST", path, body, {"fieldManager": self._field_manager})

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

    async def delete(self, path: str, *, uid: str) -> None:
        """Deletes an object if it is still the one with this uid; that it is gone already is no error.

        Raises:
            ApiError: the API server refused.
        """
        try:
            await self._request("DELETE", path, {"preconditions": {"uid": uid}})
        except ApiError as error:
            if not error.is_not_found:
                raise

    async def watch_object(
        self, collection: str, name: str, *, resource_version: str, timeout_seconds: int
    ) -> AsyncIterator[tuple[str, Json]]:
        """The changes of one object as `(type, object)`. Ends when the API server ends it.

        Raises:
            ApiError: the API server refused, or reports an error on the way (410 when the version is too old).
            OSError: the connection broke, or the API server fell silent.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
        }
        connection = self._connection()
        try:
            response = await _in_thread(connection, lambda: self._ask(connection, "GET", collection, None, query))
            if response.status >= 400:
                raise refusal(response.status, await _in_thread(connection, lambda: _text(response)))
            if connection.sock is not None:
                connection.sock.settimeout(WATCH_TIMEOUT_S)
            while line := await _in_thread(connection, lambda: response.readline(MAX_LINE)):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise refusal(event["object"].get("code", 500), json.dumps(event["object"]))
                if event["type"] != "BOOKMARK":
                    yield event["type"], event["object"]
        finally:
            _abort(connection)

    async def _request(
        self, method: str, path: str, body: Json | None = None, query: Mapping[str, str] | None = None
    ) -> Json:
        connection = self._connection()

        def call() -> tuple[int, str]:
            response = self._ask(connection, method, path, body, query or {})
            return response.status, _text(response)

        status, text = await _in_thread(connection, call)
        self._idle = connection
        if status >= 400:
            raise refusal(status, text)
        document: Json = json.loads(text)
        return document

    def _connection(self) -> http.client.HTTPConnection:
        """The one that is idle, or a new one."""
        connection, self._idle = self._idle, None
        if connection is not None:
            return connection
        host, port = self._url.hostname or "", self._url.port
        if self._access.context is None:
            return http.client.HTTPConnection(host, port, timeout=REQUEST_TIMEOUT_S)
        return http.client.HTTPSConnection(host, port, timeout=REQUEST_TIMEOUT_S, context=self._access.context)

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Json | None,
        query: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        address = f"{self._url.path.rstrip('/')}{path}{'?' + urlencode(query) if query else ''}"
        headers = {"Accept": "application/json", "Content-Type": "application/json", **self._access.headers}
        connection.request(method, address, None if body is None else json.dumps(body).encode(), headers)
        return connection.getresponse()


def _text(response: http.client.HTTPResponse) -> str:
    return response.read().decode("utf-8", "replace")


async def _in_thread(connection: http.client.HTTPConnection, call: Callable[[], T]) -> T:
    """What a call gives that uses the connection; whoever breaks it off breaks the connection.

    Raises:
        OSError: the connection broke.
    """
    try:
        return await asyncio.to_thread(call)
    except http.client.HTTPException as error:
        _abort(connection)
        raise ConnectionError(f"the connection broke: {type(error).__name__}") from None
    except BaseException:
        _abort(connection)
        raise


def _abort(connection: http.client.HTTPConnection) -> None:
    """Ends it at once, also for a thread that waits for an answer: closing alone would not wake that."""
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            # The base class's: that of TLS sockets takes away what the other thread reads with.
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
    connection.close()
