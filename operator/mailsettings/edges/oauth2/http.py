"""The one HTTP client through which identity providers are asked, also from inside msal and google-auth.

It is made of `http.client` because that has nothing to be switched off: no proxies, certificates, cookies, passwords
or log lines that the environment brings in, no redirects, no retries, no connection pool, no compression.
"""

import errno
import http.client
import io
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import SplitResult, urlsplit

from mailsettings.core.oauth2.answers import (
    read_device_answer,
    read_discovery,
    read_revocation_answer,
    read_token_answer,
)
from mailsettings.core.oauth2.faults import Failure, FailureKind
from mailsettings.edges import network
from mailsettings.edges.tls import CaBundleError, tls_context

MAX_ANSWER_BYTES: Final = 1024 * 1024
"""Of a whole HTTP answer, its header included."""

_HEADERS: Final = {"Accept": "application/json", "Connection": "close", "User-Agent": "mailsettings-operator"}
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}

T = TypeVar("T")


class FailureError(Exception):
    """A call failed, and nobody has judged yet what that means."""

    def __init__(self, kind: FailureKind, detail: str = "") -> None:
        super().__init__(kind)
        self.failure = Failure(kind, detail=detail)

    @classmethod
    def of(cls, failure: Failure) -> "FailureError":
        """The error for a failure that has been read already."""
        error = cls(failure.kind)
        error.failure = failure
        return error


class _DeadlineError(TimeoutError):
    """The time for the whole call is up."""


class _TooLongError(Exception):
    """The answer is longer than any may be."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The end of a whole call, by the monotonic clock."""

    ends_at_s: float

    def remaining_s(self) -> float:
        """The time that is left.

        Raises:
            _DeadlineError: There is none.
        """
        left = self.ends_at_s - time.monotonic()
        if left <= 0:
            raise _DeadlineError
        return left


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, whatever its status."""

    status: int
    retry_after: str | None
    body: bytes = field(repr=False)


class ProviderClient:
    """Speaks to the one host of an identity provider.

    Every other host or port is refused, whatever a document of the provider says: msal follows a discovery document to
    any host and sends it the client secret.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        connect: Callable[[str, int, float], socket.socket],
        ca_bundle: str | None,
        deadline: Deadline,
    ) -> None:
        """A client.

        Args:
            endpoint: A URL of the host.
            connect: Gives a connected socket for a host, a port and a number of seconds, or raises what
                `network.connect` does.
            ca_bundle: PEM certificates to trust instead of the public authorities.
            deadline: When the last of the calls must have ended.
        """
        self._origin = _origin(_split(endpoint))
        self._connect = connect
        self._ca_bundle = ca_bundle
        self._deadline = deadline

    def token(self, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """The JSON with which a token endpoint answers a POST of a form.

        Raises:
            FailureError: It gives no token.
        """
        return _given(read_token_answer, self._send("POST", url, {**_FORM, **headers}, body))

    def device_authorization(self, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """The JSON with which a device authorization endpoint answers a POST of a form.

        Raises:
            FailureError: It gives no codes.
        """
        return _given(read_device_answer, self._send("POST", url, {**_FORM, **headers}, body))

    def revocation(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        """Has a revocation endpoint end a token by a POST of a form.

        Raises:
            FailureError: It does not.
        """
        _given(read_revocation_answer, self._send("POST", url, {**_FORM, **headers}, body))

    def discovery(self, url: str) -> dict[str, str]:
        """The endpoints that a discovery document names.

        Raises:
            FailureError: There is no such document.
        """
        return _given(read_discovery, self._send("GET", url, {}, None))

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        parts = _split(url)
        if parts.scheme != "https" or not parts.hostname or _origin(parts) != self._origin:
            raise FailureError(FailureKind.FOREIGN_HOST)
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        try:
            return self._exchange(method, target, {**_HEADERS, **headers}, body)
        except _EXPECTED as error:
            _raise_failure(error)

    def _exchange(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        host, port = self._origin
        context = tls_context("TLSv1.2", self._ca_bundle, verify=True)
        plain = self._connect(host, port, self._deadline.remaining_s())
        try:
            # Blocking from here on: with a timeout the handshake, too, has one bound as a whole.
            plain.settimeout(self._deadline.remaining_s())
            encrypted = context.wrap_socket(plain, server_hostname=host.removesuffix("."))
        except BaseException:
            plain.close()
            raise
        with encrypted:
            connection = http.client.HTTPConnection(host, port)
            connection.default_port = 443  # the Host header of an https URL names only other ports
            connection.sock = _Bounded(encrypted, self._deadline)
            connection.request(method, target, body=body, headers={**headers})
            with connection.getresponse() as response:
                return Answer(response.status, response.getheader("Retry-After"), response.read())


class _Bounded:
    """What `http.client` uses of a socket, bounded in time and length however slowly the other side drips."""

    def __init__(self, connection: ssl.SSLSocket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        """Sends all of it before the deadline."""
        view = memoryview(data)
        while view:
            self._connection.settimeout(self._deadline.remaining_s())
            view = view[self._connection.send(view) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What the other side sends."""
        return io.BufferedReader(_BoundedReader(self._connection, self._deadline))

    def close(self) -> None:
        """Closes the connection; while a file of it is open, that file can be read on from what it has buffered."""


class _BoundedReader(io.RawIOBase):
    def __init__(self, connection: ssl.SSLSocket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline
        self._left = MAX_ANSWER_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - anything with the buffer protocol
        self._connection.settimeout(self._deadline.remaining_s())
        count = self._connection.recv_into(buffer)
        self._left -= count
        if self._left < 0:
            raise _TooLongError
        return count


def _given(read: Callable[..., dict[str, T] | Failure], answer: Answer) -> dict[str, T]:
    found = read(answer.status, answer.body, answer.retry_after, now=datetime.now(UTC))
    if isinstance(found, Failure):
        raise FailureError.of(found)
    return found


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError as error:
        raise FailureError(FailureKind.FOREIGN_HOST) from error
    return parts


def _origin(parts: SplitResult) -> tuple[str, int]:
    return parts.hostname or "", parts.port or 443


_EXPECTED: Final = (network.NetworkError, CaBundleError, OSError, http.client.HTTPException, _TooLongError)


def _raise_failure(error: Exception) -> NoReturn:
    """Raises the failure that an error of `_EXPECTED` means: the first row of its type.

    Without the error as its cause: OpenSSL's and the HTTP client's texts may repeat what the provider sent.
    """
    kind, detail = next((kind, detail) for type_, kind, detail in _FAILURES if isinstance(error, type_))
    raise FailureError(kind(error) if callable(kind) else kind, detail(error)) from None


def _name_kind(error: Any) -> FailureKind:  # noqa: ANN401 - as the row's type says
    return FailureKind.NAME_TEMPORARY if error.temporary else FailureKind.NAME_NOT_FOUND


def _nothing(_error: Any) -> str:  # noqa: ANN401
    return ""


def _tls_words(error: Any) -> str:  # noqa: ANN401
    return (getattr(error, "reason", None) or "unknown").replace("_", " ").lower()


def _words(error: Any) -> str:  # noqa: ANN401
    return os.strerror(error.errno if error.errno is not None else errno.EIO).lower()


_FAILURES: Final[tuple[tuple[type[Exception], Any, Callable[[Any], str]], ...]] = (
    (network.ResolveError, _name_kind, _nothing),
    (network.EgressDeniedError, FailureKind.EGRESS_DENIED, lambda error: str(error.denial.text)),
    (network.ProxyDeniedError, FailureKind.PROXY_DENIED, lambda error: str(error.denial.text)),
    (network.ProxyLoginError, FailureKind.PROXY_LOGIN, str),
    (network.ProxyError, FailureKind.PROXY_FAILURE, str),
    (network.ConnectionRefused, FailureKind.REFUSED, _nothing),
    (network.ConnectionTimeout, FailureKind.TIMEOUT, _nothing),
    (network.NetworkError, FailureKind.UNREACHABLE, lambda error: str(error).lower()),
    (CaBundleError, FailureKind.CA_BUNDLE, _nothing),
    (ssl.SSLCertVerificationError, FailureKind.CERTIFICATE, lambda error: error.verify_message.rstrip(".")),
    (ssl.SSLEOFError, FailureKind.LOST, _nothing),
    (ssl.SSLError, FailureKind.TLS, _tls_words),
    (TimeoutError, FailureKind.DEADLINE, _nothing),
    (http.client.RemoteDisconnected, FailureKind.LOST, _nothing),  # an HTTPException too
    (ConnectionError, FailureKind.LOST, _nothing),
    (http.client.IncompleteRead, FailureKind.LOST, _nothing),
    (http.client.HTTPException, FailureKind.GARBAGE, _nothing),
    (_TooLongError, FailureKind.TOO_LONG, _nothing),
    (OSError, FailureKind.UNREACHABLE, _words),
)
