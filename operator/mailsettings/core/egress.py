"""The egress policy: which addresses and ports the operator may connect to on somebody's behalf.

A tenant names hosts, so without a policy the operator would be a port scanner inside the cluster's network. What is
judged is always the resolved address, never the text of the name: `127.1`, `0x7f.1` and a public name that points at
127.0.0.1 are all the same loopback address.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, Self

from mailsettings.core.server import Source

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Purpose:
    """What connections are for, which decides the ports they may use."""

    port_kind: str
    """What such a port is called, with its article: `an SMTP port`."""
    ports: frozenset[int]


SMTP: Final = Purpose("an SMTP port", frozenset({25, 465, 587, 2525}))
"""Sending mail. Source: RFC 5321 §4.5.4.2, RFC 8314 §3.3, RFC 6409 §3.1; 2525 is what providers offer beside them."""

OAUTH2: Final = Purpose("the https port", frozenset({443}))
"""Asking an identity provider for tokens. Source: RFC 6749 §3.2, RFC 9110 §4.2.2."""


PROXY: Final = Purpose("a TCP port", frozenset(range(1, 65536)))
"""Asking a proxy, which has no usual port. Tenants may use only proxies that are listed."""


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a connection is not made."""

    text: str
    """A clause about the host, `it has a loopback address`, that does not tell which address it has."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the operator's configuration: addresses, and perhaps ports."""

    network: Network
    ports: range | None = None
    """None: none were given."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """An entry from its notation.

        Args:
            text: `10.20.0.0/16`, `10.20.0.7:2525`, `10.20.0.0/16:2000-2999`, `10.20.0.0/16:*`, `fd00::/8`,
                `[fd00::/8]:587`. An IPv6 range needs brackets where a port follows.

        Raises:
            ValueError: It is none of these; the message repeats the entry and says what is wrong.
        """
        match = _ENTRY.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text!r} is not an egress entry: write ADDRESS[/LENGTH][:PORT|:FIRST-LAST|:*], "
                "with an IPv6 address in brackets where a port follows"
            )
        try:
            network = ip_network(match["bracketed"] or match["ipv4"] or match["ipv6"])
        except ValueError as error:
            raise ValueError(f"{text!r} is not an egress entry: {error}") from error
        return cls(network, _parse_ports(match["ports"]))

    def covers(self, address: Address, port: int, *, default_ports: frozenset[int] | range) -> bool:
        """Whether the entry speaks of this address and port.

        Args:
            address: The address that would be connected to.
            port: The port that would be connected to.
            default_ports: What an entry without ports means.
        """
        ports = default_ports if self.ports is None else self.ports
        return address in self.network and port in ports


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Who may connect where.

    An entry of `deny` wins over all else, then an entry of `allow` admits; what neither covers must have one of the
    purpose's ports and an address that the level may use by default.
    """

    allow: tuple[Entry, ...] = ()
    """Admitted for both levels; without ports an entry means the purpose's."""
    deny: tuple[Entry, ...] = ()
    """Refused for both levels; without ports an entry means every port."""
    proxies: frozenset[tuple[str, int]] = frozenset()
    """The proxies that tenants may name: host and port as `_proxy_key` has them."""
    purpose: Purpose = SMTP
    """What the connections are for; `dataclasses.replace` makes the same policy for another purpose."""

    @classmethod
    def parse(cls, *, allow: str = "", deny: str = "", smtp_ports: str = "", proxies: str = "") -> Self:
        """A policy for SMTP from the operator's configuration.

        Args:
            allow: Entries in the notation of `Entry.parse`, separated by commas or blanks.
            deny: The same.
            smtp_ports: Ports to treat as SMTP ports too, separated by commas or blanks.
            proxies: `HOST:PORT` of each proxy that tenants may name, separated by commas or blanks; an IPv6 address in
                brackets.

        Raises:
            ValueError: An entry or a port cannot be read; the message repeats it.
        """
        extra = frozenset(_parse_port(text) for text in _split(smtp_ports))
        return cls(
            allow=tuple(map(Entry.parse, _split(allow))),
            deny=tuple(map(Entry.parse, _split(deny))),
            proxies=frozenset(map(_parse_proxy, _split(proxies))),
            purpose=Purpose(SMTP.port_kind, SMTP.ports | extra),
        )

    @classmethod
    def of_a_person(cls) -> Self:
        """Of somebody's own machine, where the network is that person's: anywhere but a cloud's metadata service."""
        metadata = next(networks for title, _, networks in _KINDS if title == _METADATA_SERVICE)
        return cls(
            allow=(Entry(ip_network("0.0.0.0/0"), _EVERY_PORT), Entry(ip_network("::/0"), _EVERY_PORT)),
            deny=tuple(Entry(ip_network(network)) for network in metadata),
        )

    def check_proxy_name(self, host: str, port: int, level: Source) -> Denial | None:
        """Why a proxy must not be asked for at all, or None where it may.

        Args:
            host: The proxy's name or address as the settings write it.
            port: The proxy's TCP port.
            level: Whose settings name the proxy.
        """
        is_listed = _proxy_key(host, port) in self.proxies
        return None if is_listed or level is Source.SYSTEM else Denial(_UNLISTED)

    def check_proxy(self, host: str, address: Address, port: int, level: Source) -> Denial | None:
        """Why a proxy must not be connected to at this address, or None where it may.

        A listed one may have any address that `deny` does not cover: whoever listed it vouches for it, and proxies
        usually have private addresses. Of the others the system's are judged like any host; tenants may have none.

        Args:
            host: The proxy's name or address as the settings write it.
            address: What it was resolved to.
            port: The proxy's TCP port.
            level: Whose settings name the proxy.
        """
        if _proxy_key(host, port) in self.proxies:
            denied = any(_any_covers(self.deny, each, port, _EVERY_PORT) for each in _meanings(address))
            return Denial(_DENIED) if denied else None
        return self.check_proxy_name(host, port, level) or replace(self, purpose=PROXY).check(address, port, level)

    def check(self, address: Address, port: int, level: Source) -> Denial | None:
        """Why this connection must not be made, or None where it may.

        Args:
            address: The resolved address that would be connected to.
            port: The TCP port.
            level: Whose settings name the host.
        """
        denials = (self._check_one(each, port, level) for each in _meanings(address))
        return next((denial for denial in denials if denial is not None), None)

    def _check_one(self, address: Address, port: int, level: Source) -> Denial | None:
        if _any_covers(self.deny, address, port, _EVERY_PORT):
            return Denial(_DENIED)
        if _any_covers(self.allow, address, port, self.purpose.ports):
            return None
        if port not in self.purpose.ports:
            return Denial(f"port {port} is not {self.purpose.port_kind}")
        special = next(row for row in _RANGES[address.version] if address in row.network)
        return Denial(f"it has {special.title}") if level in special.denied_to else None


_DENIED: Final = "it has an address or port that the operator's configuration denies"
_UNLISTED: Final = "the operator's configuration does not list it among the proxies that tenants may use"
_EVERY_PORT: Final = range(65536)
_PROXY: Final = re.compile(r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")
_PORTS: Final = r"(?::(?P<ports>\*|[0-9]{1,5}(?:-[0-9]{1,5})?))?"
_ENTRY: Final = re.compile(
    rf"(?:\[(?P<bracketed>[0-9A-Fa-f:./]+)\]|(?P<ipv4>[0-9./]+)){_PORTS}|(?P<ipv6>[0-9A-Fa-f:./]+)"
)


def _split(text: str) -> list[str]:
    return [part for part in re.split(r"[,\s]+", text) if part]


def _parse_port(text: str) -> int:
    if re.fullmatch("[0-9]{1,5}", text) is None or not 1 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is not a port: write a number from 1 to 65535")
    return int(text)


def _proxy_key(host: str, port: int) -> tuple[str, int]:
    """A proxy as it is looked up in the list: names without regard to case and to the final dot."""
    return host.removesuffix(".").lower(), port


def _parse_proxy(text: str) -> tuple[str, int]:
    match = _PROXY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a proxy: write HOST:PORT, with an IPv6 address in brackets")
    return _proxy_key(match["bracketed"] or match["host"], _parse_port(match["port"]))


def _parse_ports(text: str | None) -> range | None:
    if text is None:
        return None
    if text == "*":
        return _EVERY_PORT
    first, _, last = text.partition("-")
    ports = range(_parse_port(first), _parse_port(last or first) + 1)
    if not ports:
        raise ValueError(f"{text!r} is not a range of ports: the first is greater than the last")
    return ports


def _any_covers(entries: Iterable[Entry], address: Address, port: int, default_ports: frozenset[int] | range) -> bool:
    return any(entry.covers(address, port, default_ports=default_ports) for entry in entries)


def _meanings(address: Address) -> Iterator[Address]:
    """The addresses that a packet to this one may end at: all of them must be permitted."""
    if isinstance(address, IPv4Address):
        yield address
        return
    if address.ipv4_mapped is not None:
        # Only a notation: the kernel makes an IPv4 connection of it (RFC 4291 §2.5.5.2).
        yield address.ipv4_mapped
        return
    yield address
    yield from _embedded(address)


def _embedded(address: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses to which translators and tunnels on the way would take it."""
    if any(address in network for network in _EMBEDS_IN_LOW_BITS) and address not in (_UNSPECIFIED, _LOOPBACK):
        yield IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo


_UNSPECIFIED: Final = IPv6Address("::")
_LOOPBACK: Final = IPv6Address("::1")
_EMBEDS_IN_LOW_BITS: Final = (
    IPv6Network("::/96"),  # IPv4-compatible, except the two above; RFC 4291 §2.5.5.1
    IPv6Network("64:ff9b::/96"),  # NAT64, RFC 6052 §2.1
    IPv6Network("64:ff9b:1::/48"),  # NAT64 for local use, RFC 8215; in its usual /96 layout
)


@dataclass(frozen=True, slots=True)
class _Range:
    """Addresses of one kind, and the levels that may not use them unless `allow` admits them."""

    network: Network
    title: str
    denied_to: frozenset[Source]


_METADATA_SERVICE: Final = "the address of a cloud's metadata service"
_ALL: Final = frozenset(Source)
_TENANTS: Final = frozenset({Source.TENANT})
_NOBODY: Final[frozenset[Source]] = frozenset()

# Kept here rather than asked of `ipaddress`, whose answers differ between patch releases of Python.
# Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890) and the providers' documentation of
# their metadata services.
_KINDS: Final[tuple[tuple[str, frozenset[Source], tuple[str, ...]], ...]] = (
    (
        _METADATA_SERVICE,
        _ALL,
        (
            "169.254.169.254/32",  # most clouds
            "169.254.170.2/32",  # Amazon ECS task roles
            "169.254.170.23/32",  # Amazon EKS Pod identities
            "100.100.100.200/32",  # Alibaba
            "168.63.129.16/32",  # Azure
            "192.0.0.192/32",  # Oracle
            "fd00:ec2::254/128",  # Amazon
            "fd00:ec2::23/128",  # Amazon EKS Pod identities
            "fd20:ce::254/128",  # Google
            "fd00:42::42/128",  # Scaleway
        ),
    ),
    ("a loopback address", _ALL, ("127.0.0.0/8", "::1/128")),
    # Linux connects 0.0.0.0 and :: to the machine itself.
    ("an unspecified address", _ALL, ("0.0.0.0/8", "::/128")),
    ("a link-local address", _ALL, ("169.254.0.0/16", "fe80::/10")),
    ("a multicast address", _ALL, ("224.0.0.0/4", "ff00::/8")),
    ("a broadcast address", _ALL, ("255.255.255.255/32",)),
    ("a reserved address", _ALL, ("240.0.0.0/4",)),
    (
        "a private address",
        _TENANTS,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
    ),
    ("a shared address of carrier-grade NAT", _TENANTS, ("100.64.0.0/10",)),
    (
        "an address that is not public",
        _TENANTS,
        (
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays, deprecated
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "64:ff9b:1::/48",  # NAT64 for local use
            "100::/64",  # discard
            "2001:2::/48",  # benchmarks
            "2001:10::/28",  # ORCHID
            "2001:20::/28",  # ORCHIDv2
            "2001:db8::/32",  # documentation
            "3fff::/20",  # documentation
            "5f00::/16",  # segment routing
        ),
    ),
    ("a public address", _NOBODY, ("0.0.0.0/0", "2000::/3", "64:ff9b::/96")),
    # Whatever IPv6 has not assigned for use on the internet.
    ("a reserved address", _ALL, ("::/0",)),
)


def _ranges(version: int) -> tuple[_Range, ...]:
    """The rows of one IP version; the first that holds an address decides, and there always is one."""
    return tuple(
        _Range(network, title, denied_to)
        for title, denied_to, texts in _KINDS
        for network in map(ip_network, texts)
        if network.version == version
    )


_RANGES: Final = {4: _ranges(4), 6: _ranges(6)}
