"""The relay's server: listeners, clients, their bounds, and an orderly end."""

import asyncio
import contextlib
import logging
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, cast

from mailsettings.core.egress import EgressPolicy
from mailsettings.core.relay.commands import Mail
from mailsettings.core.relay.faults import REPLIES, RelayFault
from mailsettings.core.relay.login import Presented
from mailsettings.core.relay.replies import Reply
from mailsettings.core.relay.session import (
    Body,
    Close,
    EndOfBody,
    Event,
    Limits,
    LogIn,
    MailFrom,
    RcptTo,
    Reset,
    Say,
    Session,
    Upgrade,
)
from mailsettings.core.relay.strangers import Strangers
from mailsettings.edges.errors import described
from mailsettings.edges.relay.admission import Admission
from mailsettings.edges.relay.authentication import Authenticator, Judgement, Proof
from mailsettings.edges.relay.channel import Channel, Interrupted, PeerGoneError
from mailsettings.edges.relay.interfaces import Account, Bundles, Rates, Reviewer, Sink, Slots, Tokens
from mailsettings.edges.relay.transaction import Transaction, Ways
from mailsettings.edges.relay.upstream import IDLE_S, WAIT_S, Pools, Services

LOGGER: Final = logging.getLogger("mailsettings.relay")

_LATER: Final = Reply(454, "temporary authentication failure", "4.7.0")
_LOG_IN_AGAIN: Final = Reply(421, "log in again", "4.7.0")
_CROWDED: Final = Reply(421, "too many connections", "4.7.0")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the relay waits for its clients, in seconds."""

    login_s: float = 60.0
    """From the connection to the login."""
    session_s: float = 3600.0
    """From the login to the last message's beginning: whoever showed a token has to show one that holds by then."""
    idle_s: float = 300.0
    """For a command between messages. Source: RFC 5321 §4.5.3.2.7."""
    envelope_s: float = 20.0
    """For all commands of a message together, from MAIL on, which holds a connection to the mail server; only the time
    that the relay waits for the client counts."""
    body_s: float = 10.0
    """For a message, in addition to what its size takes at `body_octets_per_s`."""
    body_octets_per_s: float = 64 * 1024
    """The minimum rate of a message; only the time that the relay waits for the client counts."""
    write_s: float = 30.0
    """For the client to read replies."""
    close_s: float = 60.0
    """At the relay's end, for messages that have been begun."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections there may be."""

    logged_in: int = 1500
    per_namespace: int = 200
    """Of those, of all logins of one namespace: no tenant can take the others' place."""
    before_login: int = 500
    """Without a login, beside those with one: however many have logged in, others can. One more ends the oldest."""
    before_login_per_source: int = 50
    """Of those, from one address."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the relay works with."""

    bundles: Bundles
    egress: EgressPolicy
    tokens: Tokens
    reviewer: Reviewer
    slots: Slots
    rates: Rates
    sink: Sink


@dataclass(frozen=True, slots=True)
class Options:
    """How the relay is set up."""

    name: str = "mailsettings-relay"
    """How it names itself."""
    limits: Limits = field(default_factory=Limits)
    patience: Patience = field(default_factory=Patience)
    bounds: Bounds = field(default_factory=Bounds)
    upstream_wait_s: float = WAIT_S
    """How long a message waits for a connection to the mail server."""
    upstream_idle_s: float = IDLE_S
    """How long such a connection is kept for the next message."""


class Certificate:
    """The server's certificate, from two files that may change."""

    def __init__(self, chain: Path, key: Path) -> None:
        """Reads it.

        Args:
            chain: PEM, the server's own first.
            key: PEM.

        Raises:
            OSError: A file cannot be read, or the two do not belong together.
        """
        self._files = (chain, key)
        self._stamps = self._stamp()
        self.context = _server_context(*self._files)
        """With the certificate as it is at present. It is never changed, only replaced: a certificate and its key are
        loaded one after the other, and who connected between the two would get neither."""

    def reload(self) -> bool:
        """Takes the files as they are now, for connections to come; whether they have changed and can be used."""
        stamps = self._stamp()
        if stamps == self._stamps:
            return False
        try:
            self.context = _server_context(*self._files)
        except OSError as error:
            LOGGER.warning("the new certificate cannot be used: %s", described(error))
            return False
        self._stamps = stamps
        return True

    def _stamp(self) -> tuple[bytes, ...]:
        with contextlib.suppress(OSError):
            return tuple(path.read_bytes() for path in self._files)
        return ()

    async def keep_loaded(self, every_s: float = 5.0) -> None:
        """Looks again and again for changes, until it is cancelled."""
        while True:
            await asyncio.sleep(every_s)
            await asyncio.to_thread(self.reload)


def _server_context(chain: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(chain, key)
    return context


class Relay:
    """A running relay."""

    def __init__(self, parts: Parts, context: Callable[[], ssl.SSLContext], options: Options) -> None:
        """Nobody can connect yet.

        Args:
            parts: What it works with.
            context: With the server's certificate, as it is when a client begins TLS.
            options: How it is set up.
        """
        self._parts = parts
        self._context = context
        self._options = options
        self._authenticator = Authenticator(parts.bundles, parts.reviewer, parts.sink)
        services = Services(
            bundles=parts.bundles,
            egress=parts.egress,
            tokens=parts.tokens,
            slots=parts.slots,
            sink=parts.sink,
            closing=lambda: self._closing,
            wait_s=options.upstream_wait_s,
            idle_s=options.upstream_idle_s,
        )
        self.pools = Pools(services)
        self._ways = Ways(self.pools, parts.rates, parts.sink, options.limits.message_octets)
        self._listeners: list[asyncio.Server] = []
        self.admission = Admission()
        """Who begins a message."""
        self._clients: dict[asyncio.Task[None], _Client] = {}
        bounds = options.bounds
        self._strangers: Strangers[asyncio.Task[None]] = Strangers(
            total=bounds.before_login, per_source=bounds.before_login_per_source
        )
        self._logged_in: Counter[str] = Counter()
        self._closing = False

    async def listen(self, host: str, port: int, *, implicit_tls: bool) -> int:
        """Takes connections; the port, where 0 was given.

        Args:
            host: Where.
            port: Where; 0: a free one.
            implicit_tls: Whether TLS begins at once; otherwise by STARTTLS, without which nobody can log in.
        """
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(
            lambda: _Arrival(self._arrived, encrypted=implicit_tls),
            host,
            port,
        )
        self._listeners.append(listener)
        bound: int = listener.sockets[0].getsockname()[1]
        return bound

    @property
    def is_listening(self) -> bool:
        """Whether it takes connections."""
        return bool(self._listeners) and not self._closing

    @property
    def connections(self) -> int:
        """How many clients there are."""
        return len(self._clients)

    async def close(self) -> None:
        """Takes no more connections, finishes the messages that have been begun, and ends."""
        self._closing = True
        for listener in self._listeners:
            listener.close()
        for client in self._clients.values():
            client.channel.interrupt()
        if self._clients:
            await asyncio.wait(self._clients, timeout=self._options.patience.close_s)
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self.pools.close()

    def _arrived(self, channel: Channel, *, encrypted: bool) -> None:
        client = _Client(self, channel, encrypted=encrypted)
        task = asyncio.get_running_loop().create_task(self._served(client))
        self._clients[task] = client
        task.add_done_callback(self._clients.pop)

    async def _served(self, client: "_Client") -> None:
        # Of the session, not of the client: what the client is given must not lead back to it, or it would go, with its
        # buffers for TLS, only when the garbage collector comes.
        source, session = client.channel.source, cast("asyncio.Task[None]", asyncio.current_task())
        admitted = self._strangers.admit(source, session)
        if (oldest := self._strangers.one_too_many()) is not None:
            self._displace(oldest)
        try:
            if not admitted or self._closing:
                client.turn_away(REPLIES[RelayFault.CLOSING] if admitted else _CROWDED)
                return
            await client.serve(source, lambda: self._strangers.leave(source, session))
        except Exception as error:  # noqa: BLE001 - one client's mistake is no other's
            LOGGER.error("a client's session failed: %s", described(error))  # noqa: TRY400 - no text of the error's
        finally:
            try:
                client.leave()
                if not self._closing:
                    await client.channel.closed()  # until then it has its buffers, and counts
            finally:
                self._strangers.leave(source, session)
                if client.proof is not None:
                    self._leave(client.proof.namespace)

    def _displace(self, session: asyncio.Task[None]) -> None:
        """Ends the session of a client that has not logged in, whatever it waits for."""
        self._clients[session].displace()
        session.cancel()

    def admit(self, namespace: str) -> bool:
        """Counts a client that has logged in; False: there are as many as there may be."""
        bounds = self._options.bounds
        if self._logged_in[namespace] >= bounds.per_namespace or self._logged_in.total() >= bounds.logged_in:
            return False
        self._logged_in[namespace] += 1
        return True

    def _leave(self, namespace: str) -> None:
        self._logged_in[namespace] -= 1
        if self._logged_in[namespace] <= 0:
            del self._logged_in[namespace]

    # What clients need

    @property
    def is_closing(self) -> bool:
        """Whether no new messages are taken."""
        return self._closing

    @property
    def options(self) -> Options:
        """How it is set up."""
        return self._options

    @property
    def context(self) -> ssl.SSLContext:
        """For a client that begins TLS now."""
        return self._context()

    async def judge(self, presented: Presented, source: str) -> Judgement:
        """Judges a login."""
        return await self._authenticator.judge(presented, source)

    def holds(self, proof: Proof, account: Account) -> bool:
        """Whether what a client has logged in by would be taken again now."""
        return self._authenticator.holds(proof, account)

    def account(self, username: str) -> Account | None:
        """The account of a user name, as it is at present."""
        return self._parts.bundles.find(username)

    def transaction(self, account: Account, mail: Mail, channel: Channel) -> Transaction:
        """A new message that comes through a channel."""
        return Transaction(account, mail, self._ways, lambda: channel.is_open, channel.interrupt)


class _Announce(Protocol):
    def __call__(self, channel: Channel, *, encrypted: bool) -> None: ...


class _Arrival(Channel):
    """A channel that is announced once it stands."""

    def __init__(self, arrived: "_Announce", *, encrypted: bool) -> None:
        super().__init__()
        self._announce = arrived
        self._encrypted = encrypted
        self._announced = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._announced:
            self._announced = True
            if self._encrypted:
                # TLS begins once the client has been counted: handshakes that never end are clients too.
                cast("asyncio.Transport", transport).pause_reading()
            self._announce(self, encrypted=self._encrypted)


class _Client:
    """One client's session, with its waiting."""

    def __init__(self, relay: Relay, channel: Channel, *, encrypted: bool) -> None:
        self._relay = relay
        self.channel = channel
        self._patience = relay.options.patience
        self._session = Session(relay.options.name, encrypted=encrypted, limits=relay.options.limits)
        self._transaction: Transaction | None = None
        self._username = ""
        self.proof: Proof | None = None
        """Of the login; None: there was none."""
        self._source = ""
        self._time = asyncio.get_running_loop().time
        self._login_by_s = self._time() + self._patience.login_s
        self._session_by_s = 0.0
        self._envelope_waited_s = self._body_waited_s = 0.0
        self._octets = 0
        self.known = False
        """Whether it has logged in."""
        self._when_known: Callable[[], None] = lambda: None

    async def serve(self, source: str, when_known: Callable[[], None]) -> None:
        """The whole session."""
        self._source, self._when_known = source, when_known
        try:
            if self._session.encrypted:
                await self.channel.start_tls(self._relay.context, self._patience.login_s)
            self.channel.write(self._session.greeting.encode())
            while await self._step():
                pass
        except PeerGoneError:
            self._abandon(RelayFault.CLIENT_GONE)
        except asyncio.CancelledError:
            self._abandon(RelayFault.CLOSING)
            raise
        except TimeoutError:
            self._abandon(RelayFault.SLOW)
            self.channel.write(REPLIES[RelayFault.SLOW].encode())

    def turn_away(self, reply: Reply) -> None:
        """Says why, where it can be said without TLS."""
        if not self._session.encrypted:
            self.channel.write(reply.encode())

    def displace(self) -> None:
        """Ends the connection, without waiting for a client that may never end its side of TLS."""
        if self._session.encrypted:
            self.channel.abort()
        self.turn_away(_CROWDED)

    def leave(self) -> None:
        """Ends the connection, whatever happened."""
        self._abandon(RelayFault.INTERNAL)
        self.channel.close()

    async def _step(self) -> bool:
        """What there is to do, and waiting for octets; False: it is over."""
        while (event := self._session.next_event()) is not None:
            if isinstance(event, Say):
                self.channel.write(event.reply.encode())
            elif not await self._handle(event):
                return False
        began_s = self._time()
        await self.channel.drain(self._patience.write_s)
        if self._relay.is_closing and not self._session.in_transaction:
            self._session.end(REPLIES[RelayFault.CLOSING])
            return True
        within_s = self._within_s()
        if within_s <= 0:  # octets that are there already do not make it longer
            raise TimeoutError
        try:
            self._session.feed(await self.channel.read(within_s))
        except Interrupted:
            if self._session.in_body:
                await self._piece(b"")
        waited_s = self._time() - began_s
        if self._session.in_body:
            self._body_waited_s += waited_s
        elif self._session.in_transaction:
            self._envelope_waited_s += waited_s
        return True

    def _within_s(self) -> float:
        """How long the client may take from now on, in seconds; not positive: it has taken too long."""
        patience = self._patience
        if not self.known:
            return self._login_by_s - self._time()
        if self._transaction is None:
            return min(patience.idle_s, self._session_by_s - self._time())
        if not self._session.in_body:
            return patience.envelope_s - self._envelope_waited_s
        return patience.body_s + self._octets / patience.body_octets_per_s - self._body_waited_s

    async def _handle(self, event: Event) -> bool:
        match event:
            case Body(data):
                await self._piece(data)
            case EndOfBody():
                await self._finish()
            case RcptTo(rcpt) if self._transaction is not None:
                self._session.answer(await self._transaction.recipient(rcpt))
            case MailFrom(mail):
                await self._begin(mail)
            case LogIn(presented):
                await self._log_in(presented)
            case Upgrade(reply):
                self.channel.write(reply.encode())
                await self.channel.start_tls(self._relay.context, max(0.001, self._login_by_s - self._time()))
                self._session.upgraded()
            case Reset():
                self._abandon(None)
            case Close(reply):
                self._abandon(None)
                self.channel.write(reply.encode())
                return False
        return True

    async def _log_in(self, presented: Presented) -> None:
        judgement = await self._relay.judge(presented, self._source)
        account = self._relay.account(presented.username)
        if judgement is Judgement.LATER:
            self._session.answer(_LATER)
        elif judgement is Judgement.REFUSED or account is None:
            self._session.login_refused()
        elif not self._relay.admit(account.tenant.namespace):
            self._session.answer(_CROWDED)
        else:
            self._username = presented.username
            self.proof = Proof.of(account, presented)
            self._session_by_s = self._time() + self._patience.session_s
            self.known = True
            self._when_known()
            self._session.logged_in()

    async def _begin(self, mail: Mail) -> None:
        await self._relay.admission.enter(self)
        reply = await self._begun(mail)
        if not reply.is_positive:
            self._transaction = None
            self._relay.admission.leave(self)
        self._session.answer(reply)

    async def _begun(self, mail: Mail) -> Reply:
        if self._relay.is_closing:
            return REPLIES[RelayFault.CLOSING]
        account = self._relay.account(self._username)
        if account is None:
            return REPLIES[RelayFault.SETTINGS]
        if self.proof is None or not self._relay.holds(self.proof, account) or self._time() > self._session_by_s:
            return _LOG_IN_AGAIN
        self._envelope_waited_s = self._body_waited_s = 0.0
        self._octets = 0
        self._transaction = self._relay.transaction(account, mail, self.channel)
        return await self._transaction.begin()

    async def _piece(self, data: bytes) -> None:
        self._octets += len(data)
        if self._octets > 2 * self._relay.options.limits.message_octets:
            raise PeerGoneError  # it has been refused long ago, and goes on
        if self._transaction is not None:
            await self._transaction.piece(data)

    async def _finish(self) -> None:
        transaction = self._transaction
        self._relay.admission.leave(self)
        reply = await transaction.finish() if transaction else REPLIES[RelayFault.INTERNAL]
        self._transaction = None  # not before: whatever goes wrong in between, it is abandoned
        self._session.answer(reply)

    def _abandon(self, fault: RelayFault | None) -> None:
        transaction, self._transaction = self._transaction, None
        self._relay.admission.leave(self)
        reply = transaction.abandon(fault) if transaction is not None else None
        if reply is not None:
            self.channel.write(reply.encode())
