"""The Kubernetes API for a command that is over in a moment, by the standard library alone.

To import aiohttp and the official client takes longer than all that such a command asks (0.3 to 0.6 s, measured), and
asyncio a sixth of what is left. It asks one thing after the other, so each call simply waits.
"""

import contextlib
import http.client
import json
import math
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import urlencode, urlsplit

from mailsettings.api import names
from mailsettings.edges.api_server import ApiError, Json, refusal

REQUEST_TIMEOUT_S: Final = 30.0
"""How long the API server may be silent."""

MAX_LINE: Final = 8 * 1024 * 1024
"""Bytes of one event, which is more than etcd keeps of an object."""


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
    """Some of what `KubernetesApi` does, without an event loop. Use it with `with`."""

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

    def __enter__(self) -> Self:
        """Nothing to prepare."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the connection."""
        if self._idle is not None:
            self._idle.close()

    def create(self, path: str, body: Json) -> Json:
        """Creates an object in the collection at a path.

        Raises:
            ApiError: the API server refused.
            OSError: it does not answer.
        """
        return self._request("POST", path, body, {"fieldManager": self._field_manager})

    def get(self, path: str, *, timeout_s: float = REQUEST_TIMEOUT_S) -> Json | None:
        """The object at a path; None: there is none.

        Raises:
            ApiError: the API server refused.
            OSError: it does not answer.
        """
        try:
            return self._request("GET", path, timeout_s=timeout_s)
        except ApiError as error:
            if error.is_not_found:
                return None
            raise

    def delete(self, path: str, *, uid: str, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        """Deletes an object if it is still the one with this uid; that it is gone already is no error.

        Raises:
            ApiError: the API server refused.
            OSError: it does not answer.
        """
        try:
            self._request("DELETE", path, {"preconditions": {"uid": uid}}, timeout_s=timeout_s)
        except ApiError as error:
            if not error.is_not_found:
                raise

    def watch_object(
        self, collection: str, name: str, *, resource_version: str, timeout_s: float
    ) -> Iterator[tuple[str, Json]]:
        """The changes of one object as `(type, object)`. Ends when the API server ends it.

        Args:
            collection: where the object is.
            name: its name.
            resource_version: from which on.
            timeout_s: how long it may last, in seconds.

        Raises:
            ApiError: the API server refused, or reports an error on the way (410 when the version is too old).
            OSError: the connection broke, or the time is over (TimeoutError).
        """
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(math.ceil(timeout_s)),
        }
        until_s = time.monotonic() + timeout_s
        connection = self._connection(timeout_s)
        try:
            with _broken_is_an_os_error():
                response = self._ask(connection, "GET", collection, None, query)
                if response.status >= 400:
                    raise refusal(response.status, _text(response))
            while line := _line(connection, response, until_s):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise refusal(event["object"].get("code", 500), json.dumps(event["object"]))
                yield event["type"], event["object"]
        finally:
            connection.close()

    def _request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        query: Mapping[str, str] | None = None,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Json:
        connection = self._connection(timeout_s)
        try:
            with _broken_is_an_os_error():
                response = self._ask(connection, method, path, body, query or {})
                status, text = response.status, _text(response)
        except BaseException:
            connection.close()
            raise
        self._idle = connection
        if status >= 400:
            raise refusal(status, text)
        document: Json = json.loads(text)
        return document

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """The one that is idle, or a new one."""
        connection, self._idle = self._idle, None
        if connection is None:
            return self._new_connection(timeout_s)
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        return connection

    def _new_connection(self, timeout_s: float) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._access.context is None:
            return http.client.HTTPConnection(host, port, timeout=timeout_s)
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._access.context)

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


def _line(connection: http.client.HTTPConnection, response: http.client.HTTPResponse, until_s: float) -> bytes:
    """The next line of a watch; empty: it has ended.

    Raises:
        OSError: the connection broke, or the time is over (TimeoutError).
    """
    left_s = until_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the time of the watch is over")
    if connection.sock is not None:
        connection.sock.settimeout(left_s)
    with _broken_is_an_os_error():
        return response.readline(MAX_LINE)


def _text(response: http.client.HTTPResponse) -> str:
    return response.read().decode("utf-8", "replace")


@contextlib.contextmanager
def _broken_is_an_os_error() -> Iterator[None]:
    """Raises: OSError: the connection broke."""
    try:
        yield
    except http.client.HTTPException as error:
        raise ConnectionError(f"the connection broke: {type(error).__name__}") from None
