"""The one module through which anything ever connects: resolve, check every address, connect to what was checked."""

import asyncio
import errno
import os
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import Final

from mailsettings.core.egress import Address, Denial, EgressPolicy
from mailsettings.core.server import Source


class NetworkError(Exception):
    """A connection could not be made.

    NetworkError
    ├── ResolveError
    ├── EgressDeniedError
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


async def connect(host: str, port: int, *, level: Source, policy: EgressPolicy, within: timedelta) -> socket.socket:
    """A connected, non-blocking TCP socket.

    Args:
        host: A DNS name or an IP address in any notation that the C library reads.
        port: The TCP port.
        level: Whose settings name the host.
        policy: Every address of the host must pass it, not only the one that is connected to: a name that leads to a
            forbidden address too is not to be trusted with which one it gives next time.
        within: How long the look-up may take, and how long the connect may.

    Raises:
        ResolveError: The name has no address.
        EgressDeniedError: The policy forbids one of its addresses.
        ConnectError: No address accepted the connection.
    """
    addresses = await _resolve(host, port, within)
    denials = {denial.text: denial for each in addresses if (denial := policy.check(each, port, level))}
    if denials:
        # Name servers shuffle their answers; the same name must give the same message each time.
        raise EgressDeniedError(denials[min(denials)])
    return await _connect_to_any(_interleaved(addresses)[:MAX_ADDRESSES], port, within)


async def peek(connection: socket.socket, size: int) -> bytes:
    """The first bytes that have arrived, left in place for the next reader; empty at the end of the stream.

    Waits until there are some: callers set the timeout.

    Raises:
        OSError: The connection broke.
    """
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
    return connection.recv(size, socket.MSG_PEEK)


async def _resolve(host: str, port: int, within: timedelta) -> Sequence[Address]:
    loop = asyncio.get_running_loop()
    lookup = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    try:
        async with asyncio.timeout(within.total_seconds()):
            answers = await loop.run_in_executor(_RESOLVERS, lookup)
    except TimeoutError as error:
        raise ResolveError(temporary=True) from error
    except socket.gaierror as error:
        raise ResolveError(temporary=error.errno not in _NO_SUCH_NAME) from error
    except UnicodeError as error:  # from the encoding of names as IDNA: a label is empty or too long
        raise ResolveError(temporary=False) from error
    return list(dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in answers))


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
