"""Connecting: every address is judged, and only what was judged is connected to."""

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import pytest

from mailsettings.core.egress import EgressPolicy
from mailsettings.core.server import Source
from mailsettings.edges import network
from tests.support.listening import LOOPBACK
from tests.support.smtp_probe import ALLOW_LOOPBACK

LONG = timedelta(seconds=20)
SHORT = timedelta(milliseconds=300)


def answers(addresses: Sequence[str]) -> list[tuple[Any, ...]]:
    """What `getaddrinfo` gives for these addresses."""
    return [
        (
            socket.AF_INET6 if ":" in address else socket.AF_INET,
            socket.SOCK_STREAM,
            socket.IPPROTO_TCP,
            "",
            (address, 0, 0, 0) if ":" in address else (address, 0),
        )
        for address in addresses
    ]


class Resolver:
    """Name servers that a test controls."""

    def __init__(self) -> None:
        self.answers: list[list[str] | Exception] = []
        """One for each look-up; the last repeats."""
        self.lookups: list[str] = []

    def __call__(self, host: str, _port: object, **_options: object) -> list[tuple[Any, ...]]:
        answer = self.answers[min(len(self.lookups), len(self.answers) - 1)]
        self.lookups.append(host)
        if isinstance(answer, Exception):
            raise answer
        return answers(answer)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return resolver


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """On 127.0.0.1 only: the same port of 127.0.0.2 refuses connections."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener


def port_of(listener: socket.socket) -> int:
    port = listener.getsockname()[1]
    assert isinstance(port, int)
    return port


@pytest.fixture
def swallowing(listener: socket.socket) -> Iterator[str]:
    """An address whose port of `listener` answers nothing: its queue of connections is full."""
    with ExitStack() as stack:
        address = "127.0.0.3"
        full = stack.enter_context(socket.create_server((address, port_of(listener)), backlog=0))
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        yield address


async def connect(
    host: str,
    port: int,
    *,
    policy: EgressPolicy = ALLOW_LOOPBACK,
    within: timedelta = LONG,
    level: Source = Source.TENANT,
) -> str:
    """The address that a connection was made to."""
    with await network.connect(host, port, level=level, policy=policy, within=within) as connection:
        assert connection.getblocking() is False
        return str(connection.getpeername()[0])


async def test_a_connection_is_made(listener: socket.socket) -> None:
    assert await connect(LOOPBACK, port_of(listener)) == LOOPBACK


@pytest.mark.parametrize(
    "addresses",
    [
        ["169.254.169.254"],
        [LOOPBACK, "169.254.169.254"],
        ["169.254.169.254", LOOPBACK],
        [LOOPBACK, "::ffff:169.254.169.254"],
        [*(f"127.0.0.{number}" for number in range(1, 9)), "10.0.0.1"],  # beyond those that would be tried
    ],
)
async def test_one_forbidden_address_forbids_the_name(
    addresses: list[str], resolver: Resolver, listener: socket.socket
) -> None:
    resolver.answers = [addresses]
    with pytest.raises(network.EgressDeniedError):
        await connect("mail.acme.example", port_of(listener))


async def test_the_denial_does_not_depend_on_the_order_of_answers(resolver: Resolver) -> None:
    resolver.answers = [["10.0.0.1", "127.0.0.1"], ["127.0.0.1", "10.0.0.1"]]
    texts = set()
    for _ in range(2):
        with pytest.raises(network.EgressDeniedError) as caught:
            await connect("mail.acme.example", 587, policy=EgressPolicy())
        texts.add(str(caught.value))
    assert texts == {"it has a loopback address"}


async def test_a_name_is_looked_up_once(resolver: Resolver, listener: socket.socket) -> None:
    """A name whose second answer leads elsewhere gains nothing (DNS rebinding)."""
    resolver.answers = [[LOOPBACK], ["169.254.169.254"]]
    assert await connect("mail.acme.example", port_of(listener)) == LOOPBACK
    assert resolver.lookups == ["mail.acme.example"]


async def test_levels_differ(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(address: object, _port: int, _share_s: float) -> None:
        raise network.ConnectionRefused(str(address))

    monkeypatch.setattr(network, "_connect_to", refuse)
    resolver.answers = [["10.1.2.3"]]
    with pytest.raises(network.EgressDeniedError, match="a private address"):
        await connect("mail.acme.example", 587, policy=EgressPolicy(), level=Source.TENANT)
    with pytest.raises(network.ConnectionRefused, match=r"10\.1\.2\.3"):
        await connect("mail.acme.example", 587, policy=EgressPolicy(), level=Source.SYSTEM)


async def test_the_next_address_is_tried_after_a_refusal(resolver: Resolver, listener: socket.socket) -> None:
    resolver.answers = [["127.0.0.2", LOOPBACK]]
    assert await connect("mail.acme.example", port_of(listener)) == LOOPBACK


async def test_an_address_that_swallows_packets_leaves_time_for_the_next(
    resolver: Resolver, listener: socket.socket, swallowing: str
) -> None:
    resolver.answers = [[swallowing, LOOPBACK]]
    assert await connect("mail.acme.example", port_of(listener), within=timedelta(seconds=1)) == LOOPBACK


async def test_only_so_many_addresses_are_tried(resolver: Resolver, listener: socket.socket) -> None:
    refusing = [f"127.0.0.{number}" for number in range(2, 2 + network.MAX_ADDRESSES)]
    resolver.answers = [[*refusing, LOOPBACK]]
    with pytest.raises(network.ConnectionRefused):
        await connect("mail.acme.example", port_of(listener))


async def test_refused(listener: socket.socket) -> None:
    with pytest.raises(network.ConnectionRefused):
        await connect("127.0.0.2", port_of(listener))


async def test_no_answer(listener: socket.socket, swallowing: str) -> None:
    with pytest.raises(network.ConnectionTimeout):
        await connect(swallowing, port_of(listener), within=SHORT)


async def test_unreachable() -> None:
    everywhere = EgressPolicy.parse(allow="0.0.0.0/0")
    with pytest.raises(network.ConnectionUnreachable):
        await connect("255.255.255.255", 587, policy=everywhere)


async def test_the_failure_that_tells_most_is_reported(
    resolver: Resolver, listener: socket.socket, swallowing: str
) -> None:
    everywhere = EgressPolicy.parse(allow="0.0.0.0/0:*")
    resolver.answers = [["127.0.0.2", swallowing, "255.255.255.255"], [swallowing, "255.255.255.255"]]
    with pytest.raises(network.ConnectionRefused):
        await connect("mail.acme.example", port_of(listener), policy=everywhere, within=SHORT)
    with pytest.raises(network.ConnectionTimeout):
        await connect("mail.acme.example", port_of(listener), policy=everywhere, within=SHORT)


@pytest.mark.parametrize(
    ("error", "temporary"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), False),
        (socket.gaierror(socket.EAI_NODATA, "No address associated with hostname"), False),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), True),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"), True),
        (socket.gaierror(socket.EAI_SYSTEM, "System error"), True),
        (UnicodeError("label empty or too long"), False),
    ],
)
async def test_names_without_an_address(error: Exception, temporary: bool, resolver: Resolver) -> None:
    resolver.answers = [error]
    with pytest.raises(network.ResolveError) as caught:
        await connect("mail.acme.example", 587)
    assert caught.value.temporary is temporary


async def test_a_name_that_cannot_be_written_in_dns() -> None:
    with pytest.raises(network.ResolveError) as caught:
        await connect(f"{'a' * 64}.example", 587)
    assert caught.value.temporary is False


@pytest.mark.parametrize("host", [LOOPBACK, "::1"])
async def test_an_address_is_looked_up_nowhere(resolver: Resolver, listener: socket.socket, host: str) -> None:
    resolver.answers = [OSError("nobody is to be asked")]
    with suppress(network.ConnectError):  # of ::1: nobody listens there, and the machine may have no IPv6
        assert await connect(host, port_of(listener)) == LOOPBACK
    assert resolver.lookups == []


@pytest.mark.parametrize("host", ["127.1", "0x7f.0.0.1", "::1%lo", "localhost"])
async def test_other_notations_are_left_to_the_resolver(resolver: Resolver, listener: socket.socket, host: str) -> None:
    resolver.answers = [[LOOPBACK]]
    assert await connect(host, port_of(listener)) == LOOPBACK
    assert resolver.lookups == [host]


async def test_name_servers_that_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def lookup(*_args: object, **_options: object) -> list[tuple[Any, ...]]:
        over.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    try:
        with pytest.raises(network.ResolveError) as caught:
            await connect("mail.acme.example", 587, within=SHORT)
        assert caught.value.temporary is True
    finally:
        over.set()


@pytest.mark.parametrize(
    ("resolved", "order"),
    [
        (["1.1.1.1", "1.1.1.2", "2000::1", "2000::2"], ["1.1.1.1", "2000::1", "1.1.1.2", "2000::2"]),
        (["2000::1", "2000::2", "2000::3", "1.1.1.1"], ["2000::1", "1.1.1.1", "2000::2", "2000::3"]),
        (["1.1.1.1", "1.1.1.2"], ["1.1.1.1", "1.1.1.2"]),
    ],
)
def test_address_families_take_turns(resolved: list[str], order: list[str]) -> None:
    assert network._interleaved(map(ip_address, resolved)) == list(map(ip_address, order))


async def test_cancelling_closes_the_socket(
    listener: socket.socket, swallowing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []
    begun = asyncio.Event()
    real = socket.socket

    def recorded(*args: Any) -> socket.socket:
        made.append(real(*args))
        begun.set()
        return made[-1]

    monkeypatch.setattr(socket, "socket", recorded)
    running = asyncio.create_task(connect(swallowing, port_of(listener)))
    async with asyncio.timeout(10):
        await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [each.fileno() for each in made] == [-1]
