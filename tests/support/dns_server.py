"""A DNS server on the loopback that answers from a table, over UDP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from tests.support.listening import LOOPBACK

Zone = Mapping[tuple[str, str], Sequence[str]]
"""By name and type the records as zone files have them."""


@dataclass
class DnsServer:
    """What it knows, and what it was asked."""

    zone: Zone
    silent: bool = False
    failing: Sequence[tuple[str, str]] = ()
    """Questions that it answers with SERVFAIL."""
    mute: Sequence[tuple[str, str]] = ()
    """Questions that it does not answer."""
    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)

    def resolver(self) -> dns.asyncresolver.Resolver:
        """One that asks only this server."""
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [LOOPBACK]
        resolver.port = self.port
        return resolver

    def answer(self, data: bytes) -> bytes | None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        name, kind = question.name.to_text(omit_final_dot=True).lower(), question.rdtype.name
        self.asked.append((name, kind))
        if self.silent or (name, kind) in self.mute:
            return None
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        records = self.zone.get((name, kind), ())
        if (name, kind) in self.failing:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif records:
            reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *records))
        elif name not in {known for known, _ in self.zone}:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire()


class _Protocol(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.answer(data)
        if answer is not None:
            self._transport.sendto(answer, addr)


@contextlib.asynccontextmanager
async def dns_server(zone: Zone, *, silent: bool = False) -> AsyncIterator[DnsServer]:
    """A server on a free port.

    Args:
        zone: What it knows; any other name does not exist.
        silent: Answers nothing.
    """
    server = DnsServer(zone, silent)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Protocol(server), local_addr=(LOOPBACK, 0))
    server.port = transport.get_extra_info("sockname")[1]
    try:
        yield server
    finally:
        transport.close()
