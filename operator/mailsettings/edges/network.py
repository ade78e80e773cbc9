"""The one module through which anything ever connects: resolve, check every address, connect to what was checked."""

import asyncio
import contextlib
import errno
import os
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import Final

from mailsettings.core.egress import Address, Denial, EgressPolicy
from mailsettings.core.probe import Stage
from mailsettings.core.proxying import (
    MAX_HEAD_BYTES,
    Conversation,
    ProxyRefusalError,
    ReadExactly,
    ReadHead,
    RefusalKind,
    Send,
    Step,
    conversation,
)
from mailsettings.core.server import Proxy, Source


class NetworkError(Exception):
    """A connection could not be made.

    NetworkError
    ├── ResolveError
    ├── EgressDeniedError
    ├── ProxyDeniedError
    ├── ProxyError
    │   └── ProxyLoginError
    └── ConnectError
        ├── ConnectionRefused
        ├── ConnectionTimeout
        └── ConnectionUnreachable
    """


class ResolveError(NetworkError):
    """The host name has no address."""

    def __init__(self, *, temporary: bool) -> None:
        super().__init__("the name servers gave no answer" if temporary else "there is no such name")
        self.temporary = temporary
        """Whether the name may exist: the name servers did not say."""


class EgressDeniedError(NetworkError):
    """The egress policy forbids the connection."""

    def __init__(self, denial: Denial) -> None:
        super().__init__(denial.text)
        self.denial = denial


class ProxyDeniedError(NetworkError):
    """The egress policy forbids the proxy."""

    def __init__(self, denial: Denial) -> None:
        super().__init__(denial.text)
        self.denial = denial


class ProxyError(NetworkError):
    """The proxy made no connection; the text is a clause about it, `it …`."""


class ProxyLoginError(ProxyError):
    """The proxy wants a login, or another one."""


class ConnectError(NetworkError):
    """None of the addresses could be connected to."""


class ConnectionRefused(ConnectError):  # noqa: N818 - reads as the fact it is
    """A host answered that nothing listens on the port."""


class ConnectionTimeout(ConnectError):  # noqa: N818
    """No host answered in time."""


class ConnectionUnreachable(ConnectError):  # noqa: N818
    """The operating system has no way to the host, or forbids it; the text is its word for it."""


MAX_ADDRESSES: Final = 4
"""How many of a name's addresses are tried. All of them are checked."""

MAX_RESOLVERS: Final = 16
"""How many names are looked up at once."""

# A look-up in a thread cannot be cancelled: it lasts as long as the C library's own timeouts. In threads of their own
# they cannot starve the default ones, which other work needs.
_RESOLVERS: Final = ThreadPoolExecutor(MAX_RESOLVERS, thread_name_prefix="resolve")

_NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY, socket.EAI_FAMILY})
"""Of `getaddrinfo`: the answer is known, and there is none. Source: getaddrinfo(3)."""

# When several addresses fail differently, what was learnt from the one that got furthest is what helps.
_LEAST_TELLING_FIRST: Final = (ConnectionUnreachable, ConnectionTimeout, ConnectionRefused)


async def connect(
    host: str,
    port: int,
    *,
    level: Source,
    policy: EgressPolicy,
    within: timedelta,
    proxy: Proxy | None = None,
    entered: Callable[[Stage], None] = lambda _stage: None,
) -> socket.socket:
    """A connected, non-blocking TCP socket.

    Through a proxy too the name is resolved here, and the proxy is given the address that was checked: otherwise it
    would resolve the name again and might come to another one.

    Args:
        host: A DNS name or an IP address in any notation that the C library reads.
        port: The TCP port.
        level: Whose settings name the host.
        policy: Every address of the host must pass it, not only the one that is connected to: a name that leads to a
            forbidden address too is not to be trusted with which one it gives next time.
        within: How long the look-up may take, and how long the connect may; likewise at the proxy.
        proxy: What to connect through; None: nothing.
        entered: Is told when a stage begins: resolve, proxy, connect.

    Raises:
        ResolveError: The name has no address.
        EgressDeniedError: The policy forbids one of its addresses.
        ProxyDeniedError: The policy forbids the proxy.
        ProxyError: The proxy made no connection.
        ConnectError: No address accepted the connection.
    """
    if proxy is not None and (denial := policy.check_proxy_name(proxy.host, proxy.port, level)):
        raise ProxyDeniedError(denial)
    entered(Stage.RESOLVE)
    addresses = await _resolve(host, port, within)
    if denial := _first(policy.check(each, port, level) for each in addresses):
        raise EgressDeniedError(denial)
    candidates = _interleaved(addresses)[:MAX_ADDRESSES]
    if proxy is not None:
        hop = _Hop(proxy, level, policy, entered)
        return await _through_proxy(hop, candidates, port, within)
    entered(Stage.CONNECT)
    return await _connect_to_any(candidates, port, within)


def _first(found: Iterable[Denial | None]) -> Denial | None:
    """One of the denials. Name servers shuffle their answers; the same name must give the same message each time."""
    denials = {denial.text: denial for denial in found if denial is not None}
    return denials[min(denials)] if denials else None


@dataclass(frozen=True, slots=True)
class _Hop:
    """The proxy on the way."""

    proxy: Proxy
    level: Source
    policy: EgressPolicy
    entered: Callable[[Stage], None]


async def _through_proxy(hop: _Hop, addresses: Sequence[Address], port: int, within: timedelta) -> socket.socket:
    """A connection that the proxy makes to one of the addresses.

    Raises:
        ProxyDeniedError: The policy forbids one of the proxy's addresses.
        ProxyError: It makes none.
    """
    hop.entered(Stage.PROXY)
    hops = await _proxy_addresses(hop, within)
    end = asyncio.get_running_loop().time() + within.total_seconds()
    for tried, address in enumerate(addresses):
        left = end - asyncio.get_running_loop().time()
        share = timedelta(seconds=max(0.0, left) / (len(addresses) - tried))
        try:
            return await _ask_proxy(hop, hops, address, port, share)
        except ProxyRefusalError as error:
            if error.kind is RefusalKind.LOGIN:
                raise ProxyLoginError(str(error)) from None
            if error.kind is RefusalKind.PROTOCOL or tried == len(addresses) - 1:
                raise ProxyError(str(error)) from None
        except TimeoutError:
            if tried == len(addresses) - 1:
                raise ProxyError("it did not answer in time") from None
    raise ProxyError("there is no address to ask it for")


async def _proxy_addresses(hop: _Hop, within: timedelta) -> Sequence[Address]:
    proxy = hop.proxy
    try:
        found = await _resolve(proxy.host, proxy.port, within)
    except ResolveError as error:
        text = "the name servers gave no answer for its name" if error.temporary else "there is no address for its name"
        raise ProxyError(text) from None
    checks = (hop.policy.check_proxy(proxy.host, each, proxy.port, hop.level) for each in found)
    if denial := _first(checks):
        raise ProxyDeniedError(denial)
    return _interleaved(found)[:MAX_ADDRESSES]


async def _ask_proxy(
    hop: _Hop, hops: Sequence[Address], address: Address, port: int, within: timedelta
) -> socket.socket:
    """A connection through the proxy to just this address.

    Raises:
        ProxyRefusalError: The proxy does not make it.
        ProxyError: The proxy cannot be reached, or closes the connection.
        TimeoutError: It takes too long.
    """
    hop.entered(Stage.PROXY)
    try:
        connection = await _connect_to_any(hops, hop.proxy.port, within)
    except ConnectError as error:
        raise ProxyError(_UNREACHED[type(error)](error)) from None
    hop.entered(Stage.CONNECT)
    try:
        async with asyncio.timeout(within.total_seconds()):
            await _converse(connection, conversation(hop.proxy, address, port))
    except TimeoutError:
        connection.close()
        raise
    except (OSError, EOFError):
        connection.close()
        raise ProxyError("it closed the connection instead of answering") from None
    except BaseException:
        connection.close()
        raise
    return connection


_UNREACHED: Final[dict[type[ConnectError], Callable[[ConnectError], str]]] = {
    ConnectionRefused: lambda _error: "it refused the connection",
    ConnectionTimeout: lambda _error: "it did not answer the connect in time",
    ConnectionUnreachable: lambda error: f"it cannot be reached, {str(error).lower()}",
}


async def _converse(connection: socket.socket, steps: Conversation) -> None:
    """Takes the steps.

    Raises:
        ProxyRefusalError: The proxy makes no connection.
        EOFError: The proxy closed the connection.
        OSError: The connection broke.
    """
    with contextlib.suppress(StopIteration):
        step = next(steps)
        while True:
            try:
                said = await _take(connection, step)
            except EOFError as error:
                step = steps.throw(error)
            else:
                step = steps.send(said)


async def _take(connection: socket.socket, step: Step) -> bytes:
    match step:
        case Send(data):
            await asyncio.get_running_loop().sock_sendall(connection, data)
            return b""
        case ReadExactly(size):
            return await _read_exactly(connection, size)
        case ReadHead():
            return await _read_head(connection)


async def _read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = await asyncio.get_running_loop().sock_recv(connection, size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data


async def _read_head(connection: socket.socket) -> bytes:
    """An HTTP head, and nothing of what follows it."""
    data = b""
    while not _HEAD_END.search(data):
        seen = await peek(connection, MAX_HEAD_BYTES)
        if not seen:
            raise EOFError
        together = data + seen
        end = _HEAD_END.search(together)
        size = end.end() - len(data) if end else len(seen)
        data += await _read_exactly(connection, size)
        if len(data) > MAX_HEAD_BYTES or (len(data) >= 5 and not data.startswith(b"HTTP/")):
            return b""  # no answer of HTTP, whatever follows
    return data


_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")


async def peek(connection: socket.socket, size: int) -> bytes:
    """The first bytes that have arrived, left in place for the next reader; empty at the end of the stream.

    Waits until there are some: callers set the timeout.

    Raises:
        OSError: The connection broke.
    """
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    # By its number: asyncio would write down the whole socket, with both its addresses, for an error that nobody sees.
    number = connection.fileno()
    loop.add_reader(number, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(number)
    return connection.recv(size, socket.MSG_PEEK)


async def _resolve(host: str, port: int, within: timedelta) -> Sequence[Address]:
    literal = _literal(host)
    if literal is not None:
        return [literal]  # nobody has to be asked, and a thread is dearer than all the rest of a connect
    lookup = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    try:
        async with asyncio.timeout(within.total_seconds()):
            answers = await asyncio.get_running_loop().run_in_executor(_RESOLVERS, lookup)
    except TimeoutError as error:
        raise ResolveError(temporary=True) from error
    except socket.gaierror as error:
        raise ResolveError(temporary=error.errno not in _NO_SUCH_NAME) from error
    except UnicodeError as error:  # from the encoding of names as IDNA: a label is empty or too long
        raise ResolveError(temporary=False) from error
    return list(dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in answers))


def _literal(host: str) -> Address | None:
    """The address that the text is, in its usual notation. All others are left to the C library."""
    if "%" in host:  # what follows is the name of one of this machine's interfaces
        return None
    try:
        return ip_address(host)
    except ValueError:
        return None


def _interleaved(addresses: Iterable[Address]) -> list[Address]:
    """IPv6 and IPv4 in turn, each in the resolver's order, beginning with the resolver's first (RFC 8305 §4)."""
    addresses = list(addresses)
    first = [each for each in addresses if each.version == addresses[0].version]
    second = [each for each in addresses if each.version != addresses[0].version]
    return [each for each in chain.from_iterable(zip_longest(first, second)) if each is not None]


async def _connect_to_any(addresses: Sequence[Address], port: int, within: timedelta) -> socket.socket:
    loop = asyncio.get_running_loop()
    end = loop.time() + within.total_seconds()
    failures: list[ConnectError] = []
    for tried, address in enumerate(addresses):
        # A fair share of what is left, so that one address that swallows packets does not use up the others' time.
        share = (end - loop.time()) / (len(addresses) - tried)
        try:
            return await _connect_to(address, port, share)
        except ConnectError as error:
            failures.append(error)
    raise max(failures, key=lambda error: _LEAST_TELLING_FIRST.index(type(error)))


async def _connect_to(address: Address, port: int, share_s: float) -> socket.socket:
    try:
        connection = socket.socket(_family(address), socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:  # such as a machine without IPv6
        raise ConnectionUnreachable(_words(error)) from error
    try:
        connection.setblocking(False)
        async with asyncio.timeout(share_s):
            await asyncio.get_running_loop().sock_connect(connection, (str(address), port))
    except OSError as error:
        connection.close()
        raise _connect_error(error) from error
    except BaseException:  # cancelled
        connection.close()
        raise
    return connection


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _connect_error(error: OSError) -> ConnectError:
    if isinstance(error, TimeoutError):
        return ConnectionTimeout("no answer in time")
    if isinstance(error, ConnectionRefusedError):
        return ConnectionRefused("refused")
    return ConnectionUnreachable(_words(error))


def _words(error: OSError) -> str:
    """The operating system's words for an error, without the address that Python may add to them."""
    return os.strerror(error.errno if error.errno is not None else errno.EIO)
