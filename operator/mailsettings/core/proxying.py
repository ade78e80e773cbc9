"""How a proxy is asked for a connection: what to send and what to read, without doing either.

Mail servers speak first, so a greeting may arrive together with the proxy's answer. Not one byte beyond that answer
may be read; HTTP clients usually read as much as there is.
"""

import base64
import re
from collections.abc import Generator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from mailsettings.api.connection import ProxyProtocol
from mailsettings.core.egress import Address
from mailsettings.core.server import Credentials, Proxy

MAX_HEAD_BYTES: Final = 16 * 1024
"""Of a proxy's answer to CONNECT, its header included."""


@dataclass(frozen=True, slots=True)
class Send:
    """To be sent; what is read then is empty."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReadExactly:
    """So many bytes are to be read."""

    size: int


@dataclass(frozen=True, slots=True)
class ReadHead:
    """An HTTP answer up to and including its empty line is to be read, `MAX_HEAD_BYTES` at most."""


Step = Send | ReadExactly | ReadHead
Conversation = Generator[Step, bytes, None]
"""Ends when the connection is made. Where the proxy closes the connection, `EOFError` is thrown into it."""


class RefusalKind(StrEnum):
    """Why a proxy makes no connection."""

    TARGET = "target"
    """To this address: another one may do."""
    LOGIN = "login"
    PROTOCOL = "protocol"
    """What it says is not its protocol."""


class ProxyRefusalError(Exception):
    """The proxy makes no connection. The text is a clause about it, `it …`, and never the proxy's own words."""

    def __init__(self, kind: RefusalKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def conversation(proxy: Proxy, address: Address, port: int) -> Conversation:
    """What to do, step by step, with a connection to the proxy, so that it leads to the address.

    Raises:
        ProxyRefusalError: From the generator: the proxy makes no connection.
        EOFError: From the generator: the proxy has closed the connection, and that says no more.
    """
    return _CONVERSATIONS[proxy.protocol](proxy.login, address, port)


_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[0-9] (?P<status>[0-9]{3})[ \r\n]")


def _http(login: Credentials | None, address: Address, port: int) -> Conversation:
    """Source: RFC 9110 §9.3.6 and §11.7, RFC 7617 §2."""
    target = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if login is not None:
        encoded = base64.b64encode(f"{login.username}:{login.password}".encode()).decode("ascii")
        lines.append(f"Proxy-Authorization: Basic {encoded}")
    yield Send("".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii"))
    status = 100
    while status < 200:  # interim answers
        match = _STATUS_LINE.match((yield ReadHead()))
        if match is None:
            raise ProxyRefusalError(RefusalKind.PROTOCOL, "it did not answer CONNECT with HTTP")
        status = int(match["status"])
    if status == 407:
        raise ProxyRefusalError(RefusalKind.LOGIN, _REFUSED_LOGIN if login else _WANTS_LOGIN)
    if status >= 300:
        raise ProxyRefusalError(RefusalKind.TARGET, f"it answered CONNECT with {status}")


_REFUSED_LOGIN: Final = "it did not accept the user name and the password"
_WANTS_LOGIN: Final = "it wants a user name and a password"

_VERSION: Final = 5
_NO_LOGIN, _LOGIN, _NO_METHOD = 0, 2, 0xFF
_REPLIES: Final = {
    1: "it failed for a cause that it does not name",
    2: "its rules forbid the connection",
    3: "it has no way to the server's network",
    4: "it cannot reach the server",
    5: "the server refused its connection",
    6: "its packets did not get as far as the server",
    7: "it does not make connections",
    8: "it does not know this kind of address",
}
"""Source: RFC 1928 §6."""
_ADDRESS_BYTES: Final = {1: 4, 4: 16}
_NAME: Final = 3


def _socks5(login: Credentials | None, address: Address, port: int) -> Conversation:
    """Source: RFC 1928, RFC 1929."""
    methods = bytes([_NO_LOGIN]) if login is None else bytes([_NO_LOGIN, _LOGIN])
    yield Send(bytes([_VERSION, len(methods)]) + methods)
    version, method = yield ReadExactly(2)
    _check_version(version, _VERSION)
    if method == _LOGIN and login is not None:
        username, password = login.username.encode(), login.password.encode()
        yield Send(bytes([1, len(username)]) + username + bytes([len(password)]) + password)
        try:
            version, status = yield ReadExactly(2)
        except EOFError:  # some close at once; RFC 1929 §2 wants an answer first
            version, status = 1, 0xFF
        _check_version(version, 1)
        if status != 0:
            raise ProxyRefusalError(RefusalKind.LOGIN, _REFUSED_LOGIN)
    elif method == _NO_METHOD:
        text = "it does not take a user name and a password" if login else _WANTS_LOGIN
        raise ProxyRefusalError(RefusalKind.LOGIN, text)
    elif method != _NO_LOGIN:
        raise ProxyRefusalError(RefusalKind.PROTOCOL, "it chose a way to log in that was not offered")
    kind = 4 if address.version == 6 else 1
    yield Send(bytes([_VERSION, 1, 0, kind]) + address.packed + port.to_bytes(2, "big"))
    version, reply, _, kind = yield ReadExactly(4)
    _check_version(version, _VERSION)
    if reply != 0:
        raise ProxyRefusalError(RefusalKind.TARGET, _REPLIES.get(reply, "it gave a reply that SOCKS does not know"))
    if kind not in (*_ADDRESS_BYTES, _NAME):
        raise ProxyRefusalError(RefusalKind.PROTOCOL, _NO_SOCKS)
    size = _ADDRESS_BYTES[kind] if kind in _ADDRESS_BYTES else (yield ReadExactly(1))[0]
    yield ReadExactly(size + 2)


_NO_SOCKS: Final = "it does not answer with SOCKS5"


def _check_version(version: int, expected: int) -> None:
    if version != expected:
        raise ProxyRefusalError(RefusalKind.PROTOCOL, _NO_SOCKS)


_CONVERSATIONS: Final = {ProxyProtocol.HTTP: _http, ProxyProtocol.SOCKS5: _socks5}
