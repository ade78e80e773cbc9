"""Connections to a mail server: opened, used for one message at a time, and kept for the next."""

import asyncio
import base64
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, cast

import aiosmtplib

from mailsettings.api.probe import ProbeMode
from mailsettings.core import sasl
from mailsettings.core.egress import EgressPolicy
from mailsettings.core.probe import ProbeRequest
from mailsettings.core.redact import redact
from mailsettings.core.relay.bundle import Bundle
from mailsettings.core.relay.fairness import FairQueue
from mailsettings.core.relay.faults import RelayFault, judged
from mailsettings.core.relay.message import END
from mailsettings.core.relay.replies import Repetition, Reply, ReplyError, ReplyReader, enhanced_code, without_rest
from mailsettings.core.server import BearerToken, Credentials, Login, Server
from mailsettings.core.slots import LOOK_S
from mailsettings.edges.relay.channel import Channel, PeerGoneError
from mailsettings.edges.relay.interfaces import Bundles, Sink, Slot, Slots, Tokens
from mailsettings.edges.smtp import OpenFailedError, open_client

OPEN_WITHIN: Final = timedelta(seconds=60)
"""A connection, from the look-up of the name to the end of the login."""

BLOCK_WITHIN_S: Final = 180.0
"""Of writing a piece of a message. Source: RFC 5321 §4.5.3.2.5."""

END_WITHIN_S: Final = 600.0
"""From the end of a message to its reply. Source: RFC 5321 §4.5.3.2.6: less makes messages double."""

IDLE_S: Final = 20.0
"""How long a connection is kept for the next message."""

WAIT_S: Final = 30.0
"""How long a message waits for a connection."""

HOLD_S: Final = {RelayFault.LOGIN: 30.0, RelayFault.UNREACHABLE: 2.0, RelayFault.TOKEN: 5.0}
"""After a failure nobody tries again for so long, unless the server or the login has changed: servers lock accounts."""


_START_INPUT: Final = 354
_UNAVAILABLE: Final = 421


class UpstreamError(Exception):
    """The mail server cannot be used, and has not judged the message."""

    def __init__(self, fault: RelayFault) -> None:
        super().__init__(fault)
        self.fault = fault


class RefusedEarlyError(Exception):
    """The mail server has refused a message before its end."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


class Connection:
    """One connection to a mail server, for one message at a time."""

    def __init__(self, client: aiosmtplib.SMTP, server: Server, login: Login | None) -> None:
        """One that is open.

        Args:
            client: Logged in. Its connection is taken from it: it reads replies for commands only, and drops what
                a server says by itself, such as the reason for ending the connection.
            server: For its timeout.
            login: Whose secrets no reply may repeat.

        Raises:
            UpstreamError: The server has ended the connection.
        """
        transport = client.protocol.transport if client.protocol is not None else None
        if transport is None:
            raise UpstreamError(RelayFault.UNREACHABLE)
        self._channel = Channel.over(cast("asyncio.Transport", transport))
        self._replies = ReplyReader()
        self._awaited = False  # whether the server owes a reply
        self._in_message = False  # from the server's 354 to the message's end
        self._time = asyncio.get_running_loop().time
        self._timeout_s = server.timeout.total_seconds()
        self._secrets = _secrets(login, server)
        self._tokens = self._secrets if isinstance(login, BearerToken) else []
        self._repetition = Repetition(self._secrets)
        self.extensions = frozenset(name.lower() for name in client.esmtp_extensions)
        self.used = False
        """Whether a message has gone through it."""
        self.begun = 0
        """How many messages have been begun in it."""
        self.when_early: Callable[[], None] = _nobody_listens
        """Is told that the server has said something to a message that has not ended, or has ended the connection."""
        self._channel.when_heard = self._heard

    @property
    def is_open(self) -> bool:
        """Whether it seems to stand, and the server has said nothing by itself: that says that it is to end."""
        quiet = not self._channel.has_arrived and self._replies.is_between
        return self._channel.is_open and quiet and not self._awaited

    async def command(self, line: bytes) -> Reply:
        """Says a command.

        Raises:
            UpstreamError: There is no sensible reply.
        """
        code, text = await self._said(line)
        if 200 <= code < 300:
            return Reply(code, "ok", enhanced_code(code, text.partition("\n")[0]))
        return self._judged(code, text)

    async def begin_data(self) -> Reply | None:
        """Begins a message; None: the server is ready for it.

        Raises:
            UpstreamError: There is no sensible reply.
        """
        code, text = await self._said(b"DATA")
        if code == _START_INPUT:
            self._in_message = True
            self.begun += 1
            return None
        refusal = self._judged(code, text)
        if refusal.is_positive:  # nothing has been taken
            self.abort()
            raise UpstreamError(RelayFault.GARBAGE)
        return refusal

    async def write(self, data: bytes) -> None:
        """Writes a piece of the message, dots and all, and waits while the server neither reads nor says anything.

        Raises:
            UpstreamError: The connection broke.
            RefusedEarlyError: The server has refused the message.
        """
        self.check_message()
        self._channel.write(data)
        by_s = self._time() + BLOCK_WITHIN_S
        try:
            while not await self._channel.drained_before_heard(by_s - self._time()):
                self.check_message()
        except PeerGoneError:
            self.abort()
            raise UpstreamError(RelayFault.UNREACHABLE) from None

    async def end_data(self, rest: bytes) -> Reply:
        """Ends the message.

        Args:
            rest: The last of it, dots and all.

        Raises:
            UpstreamError: `OUTCOME_UNKNOWN`: the server has all of it, and did not say whether it takes it. Another
                fault: the connection broke before.
            RefusedEarlyError: The server has refused the message.
        """
        self.check_message()
        self._in_message = False
        self._channel.write(rest + END)
        try:
            response = await self._reply(END_WITHIN_S)
        except UpstreamError:
            raise UpstreamError(RelayFault.OUTCOME_UNKNOWN) from None
        try:
            answer = self._judged(*response)
        except UpstreamError as error:
            unclear = error.fault is RelayFault.GARBAGE
            raise UpstreamError(RelayFault.OUTCOME_UNKNOWN if unclear else error.fault) from None
        self.used = True
        return answer

    def _heard(self) -> None:
        if self._in_message:
            self.when_early()

    def check_message(self) -> None:
        """Makes sure that the server still waits for the rest of the message.

        Raises:
            UpstreamError: The connection broke, or what the server has said makes no sense.
            RefusedEarlyError: The server has refused the message.
        """
        early = self._early()
        if early is None and self._in_message and self._channel.is_open:
            return
        self.abort()
        if early is None:
            raise UpstreamError(RelayFault.UNREACHABLE)
        answer = self._judged(*early)
        raise UpstreamError(RelayFault.GARBAGE) if answer.is_positive else RefusedEarlyError(answer)

    def _early(self) -> tuple[int, str] | None:
        """What the server has said to a message that has not ended."""
        self._replies.feed(self._channel.take())
        try:
            return self._replies.next_reply()
        except ReplyError:
            self.abort()
            raise UpstreamError(RelayFault.UNREACHABLE) from None

    async def reset(self) -> bool:
        """Has the server forget an unfinished transaction; False: the connection is of no use any more."""
        if self._in_message:  # within a message only the end of the connection does that
            return False
        try:
            return (await self.command(b"RSET")).is_positive
        except UpstreamError:
            return False

    async def quit(self) -> None:
        """Ends it politely, but at once."""
        if self.is_open and not self._in_message:
            self._channel.write(b"QUIT\r\n")
        self.abort()

    def abort(self) -> None:
        """Ends it at once. A message that has not been ended is none."""
        self._channel.abort()

    async def _said(self, line: bytes) -> tuple[int, str]:
        if not self.is_open or self._in_message:
            self.abort()
            raise UpstreamError(RelayFault.UNREACHABLE)
        if b"\r" in line or b"\n" in line:
            raise ValueError("a command is one line")
        self._channel.write(line + b"\r\n")
        return await self._reply(self._timeout_s)

    async def _reply(self, within_s: float) -> tuple[int, str]:
        """The next reply. Where it is not awaited to its end, the connection is of no use any more."""
        self._awaited = True
        by_s = self._time() + within_s
        try:
            while (found := self._replies.next_reply()) is None:
                self._replies.feed(await self._channel.read(by_s - self._time()))
        except ReplyError:
            self.abort()
            raise UpstreamError(RelayFault.GARBAGE) from None
        except (PeerGoneError, TimeoutError):
            self.abort()
            raise UpstreamError(RelayFault.UNREACHABLE) from None
        self._awaited = False
        return found

    def _judged(self, code: int, text: str) -> Reply:
        if code == _UNAVAILABLE:
            self.abort()
        text = without_rest(text)
        found = judged(code, redact(text, self._secrets, tokens=self._tokens) if code >= 400 else text)
        if isinstance(found, RelayFault):
            self.abort()
            raise UpstreamError(found)
        if self._repetition.within(found.text):
            return replace(found, text="ok" if found.is_positive else "the mail server's words are left out")
        return found


def _secrets(login: Login | None, server: Server) -> list[str]:
    proxy = server.proxy.secrets if server.proxy else []
    match login:
        case Credentials(username, password):
            # The user name alone is no secret: refusals name the sender.
            return [*proxy, password, base64.b64encode(f"\0{username}\0{password}".encode()).decode("ascii")]
        case BearerToken(_, token):
            return [*proxy, token, *(sasl.initial_response(each, login, server).decode() for each in sasl.Mechanism)]
        case None:
            return proxy


@dataclass(eq=False, slots=True)
class _Place:
    """Room for one connection."""

    slot: Slot | None
    """None: the provider states no limit."""
    connection: Connection | None = None
    made_for: Bundle | None = None
    """What the connection was made for."""
    begun_before: int = 0
    """How many messages had been begun in the connection when its present user got it."""
    busy: bool = False
    over: bool = False
    """Whether its slot is to be freed as soon as can be."""
    timer: asyncio.TimerHandle | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be begun in it."""
        return self.over or (self.slot is not None and not self.slot.is_held)


class Pool:
    """The connections to one login at a mail server."""

    def __init__(self, credential: str, services: "Services") -> None:
        """None yet.

        Args:
            credential: Names the login.
            services: What it needs.
        """
        self._credential = credential
        self._services = services
        self._time = asyncio.get_running_loop().time
        self._queue: FairQueue[asyncio.Future[_Place]] = FairQueue(per_tenant=64, total=1024)
        self._places: list[_Place] = []
        """Those that were used last come last."""
        self._of: dict[Connection, _Place] = {}
        self._renewed: Bundle | None = None
        self._held: tuple[float, RelayFault, tuple[object, ...]] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._look_at_s = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    async def acquire(self, tenant: str, *, fresh: bool = False) -> Connection:
        """A connection, to be given back by `release`.

        Args:
            tenant: For whom: those who have fewest come first.
            fresh: Not one that has been used.

        Raises:
            UpstreamError: There is none.
        """
        place = await self._await_turn(tenant)
        try:
            connection = self._reused(place, fresh=fresh) or await self._opened(place)
        except BaseException:
            self._end_turn(tenant, place)
            raise
        place.begun_before = connection.begun
        return connection

    def release(self, tenant: str, connection: Connection, *, clean: bool) -> None:
        """Gives a connection back.

        Args:
            tenant: Who had it.
            connection: Which.
            clean: Whether no transaction is under way in it.
        """
        place = self._of[connection]
        connection.when_early = _nobody_listens  # or the connection would keep a client that has long gone
        if place.slot is not None and connection.begun == place.begun_before:
            place.slot.budget.give_back()
        if not clean and connection.is_open:
            self._run(self._cleaned(tenant, place, connection))
            return
        if not connection.is_open:
            self._disconnect(place)
        self._used(tenant, place)

    async def close(self) -> None:
        """Ends all connections that nobody has."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        if self._alarm is not None:
            self._alarm.cancel()
        for place in [place for place in self._places if not place.busy]:
            self._leave(place)
        while self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._of)

    # Turns

    async def _await_turn(self, tenant: str) -> _Place:
        bundle = self._bundle()
        # Those who wait while there is room have their share: they wait for themselves alone.
        if self._queue.turns(tenant) < self._share(bundle) and not self._queue.waits(tenant):
            place = self._usable(bundle)
            if place is not None:
                self._begin_turn(tenant, place)
                return place
        turn: asyncio.Future[_Place] = asyncio.get_running_loop().create_future()
        if not self._queue.push(tenant, turn):
            raise UpstreamError(RelayFault.BUSY)
        self._look_for_more()
        try:
            async with asyncio.timeout(self._services.wait_s):
                return await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._end_turn(tenant, turn.result())
            self._queue.drop(tenant, turn)
            if isinstance(error, TimeoutError):
                raise UpstreamError(RelayFault.BUSY) from None
            raise

    def _share(self, bundle: Bundle) -> int:
        """How many connections one namespace may have at a time: where there are others, one is left to them."""
        there = len(self._places) if bundle.limits is not None else bundle.connections
        return max(1, there - 1) if self._services.bundles.is_shared(self._credential) else max(1, there)

    def _usable(self, bundle: Bundle) -> _Place | None:
        """A place in which a message may be begun now: better one with a connection, and that used last."""
        limited, now_s = bundle.limits is not None, self._time()
        there = [place for place in self._places if (place.slot is not None) == limited]
        free = [place for place in there if not (place.busy or place.is_over) and _pause_s(place, now_s) <= 0]
        for place in reversed(free):
            if place.connection is not None and place.connection.is_open:
                return place
        if free:
            return free[-1]
        return self._added(None) if not limited and len(there) < bundle.connections else None

    def _begin_turn(self, tenant: str, place: _Place) -> None:
        self._queue.begin(tenant)
        place.busy = True
        if place.timer is not None:
            place.timer.cancel()
        if place.slot is not None:
            place.slot.budget.begin(self._time())
            place.slot.user = tenant

    def _end_turn(self, tenant: str, place: _Place) -> None:
        """A turn ends that came to nothing."""
        if place.slot is not None:
            place.slot.budget.give_back()
        self._used(tenant, place)

    def _used(self, tenant: str, place: _Place) -> None:
        """A turn ends."""
        self._queue.end(tenant)
        place.busy = False
        if place.over or self._services.closing():
            self._leave(place)
        else:
            self._places.remove(place)
            self._places.append(place)
            self._rest(place)
        self._next_turns()

    def _next_turns(self) -> None:
        bundle = self._services.bundles.bundle(self._credential)
        if bundle is None:
            while (found := self._queue.pop(self._queue.running + 1)) is not None:
                if not found[1].done():
                    found[1].set_exception(UpstreamError(RelayFault.SETTINGS))
            return
        while self._queue.waiting and (place := self._usable(bundle)) is not None:
            found = self._queue.pop(self._share(bundle))
            if found is None:
                break
            waiting, turn = found
            if not turn.done():
                self._begin_turn(waiting, place)
                turn.set_result(place)
        if self._queue.waiting:
            self._look_for_more()
            self._wake_later()

    def _wake_later(self) -> None:
        """Looks again when a place's budget lets another message begin."""
        now_s = self._time()
        pauses = [_pause_s(place, now_s) for place in self._places if not place.busy]
        pause_s = min((pause for pause in pauses if pause > 0), default=None)
        if self._alarm is not None:
            self._alarm.cancel()
        if pause_s is not None:
            self._alarm = asyncio.get_running_loop().call_later(pause_s, self._next_turns)

    # Places

    def _added(self, slot: Slot | None) -> _Place:
        place = _Place(slot)
        self._places.append(place)
        self._rest(place)
        return place

    def _rest(self, place: _Place) -> None:
        """It goes, unless it is used before long."""
        place.timer = asyncio.get_running_loop().call_later(self._services.idle_s, self._leave, place)

    def _leave(self, place: _Place) -> None:
        if place.busy or place not in self._places:
            return
        if place.timer is not None:
            place.timer.cancel()
        self._places.remove(place)
        self._run(self._left(place))

    async def _left(self, place: _Place) -> None:
        if place.connection is not None:
            await place.connection.quit()
            self._forget(place)
        if place.slot is not None:
            place.slot.free()

    def _look_for_more(self) -> None:
        """Begins to look for another slot, if there may be one."""
        bundle = self._services.bundles.bundle(self._credential)
        if self._looking is None and bundle is not None and bundle.limits is not None:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        """Looks for slots while somebody waits, seldom enough that no server is flooded, however often that begins."""
        try:
            while self._queue.waiting and await self._may_look():
                bundle = self._services.bundles.bundle(self._credential)
                limits = bundle.mailbox_limits if bundle is not None else None
                if limits is None or len(self._places) >= limits.connections:
                    return
                slot = await self._services.slots.take(self._credential, limits, self._queue.without_turn())
                if slot is not None:
                    place = self._added(slot)
                    slot.when_over(lambda place=place: self._over(place))  # type: ignore[misc]
                    self._next_turns()
        finally:
            self._looking = None

    async def _may_look(self) -> bool:
        await asyncio.sleep(max(0.0, self._look_at_s - self._time()))
        self._look_at_s = self._time() + LOOK_S
        return bool(self._queue.waiting)

    def _over(self, place: _Place) -> None:
        place.over = True
        self._leave(place)

    # Connections

    def _bundle(self) -> Bundle:
        bundle = self._services.bundles.bundle(self._credential)
        if bundle is None:
            raise UpstreamError(RelayFault.SETTINGS)
        return bundle

    def _reused(self, place: _Place, *, fresh: bool) -> Connection | None:
        connection, wanted = place.connection, self._bundle()
        if connection is None:
            return None
        if connection.is_open and self._is_for(place, wanted) and not fresh:
            return connection
        self._run(connection.quit())
        self._forget(place)
        return None

    def _disconnect(self, place: _Place) -> None:
        """What it has is a connection no more."""
        if place.connection is not None:
            place.connection.abort()
            self._forget(place)

    def _forget(self, place: _Place) -> None:
        if place.connection is not None:
            del self._of[place.connection]
            place.connection = None

    async def _opened(self, place: _Place) -> Connection:
        bundle = self._bundle()
        now = self._time()
        if self._held is not None and self._held[0] > now and self._held[2] == _attempt(bundle):
            raise UpstreamError(self._held[1])
        try:
            connection = await self._connected(bundle)
        except UpstreamError as error:
            hold_s = HOLD_S.get(error.fault, 0.0)
            self._held = (self._time() + hold_s, error.fault, _attempt(bundle))
            raise
        self._held = None
        place.connection, place.made_for = connection, bundle
        self._of[connection] = place
        return connection

    async def _connected(self, bundle: Bundle) -> Connection:
        """A new connection; where the access token is refused, with another one, once."""
        newest = self._with_newest_token(bundle)
        if newest.lacks_login:
            raise UpstreamError(RelayFault.TOKEN)
        try:
            return await self._open(newest)
        except OpenFailedError as error:
            if not error.token_refused:
                raise self._failed(error) from None
            renewed = await self._services.tokens.renewed(newest)
            if renewed is None or renewed.upstream_login == newest.upstream_login:
                raise self._failed(error) from None
        self._renewed = renewed
        try:
            return await self._open(renewed)
        except OpenFailedError as error:
            raise self._failed(error) from None

    def _with_newest_token(self, bundle: Bundle) -> Bundle:
        """A renewed token holds until the bundle itself has changed."""
        renewed = self._renewed
        if renewed is None or _endpoint(renewed) != _endpoint(bundle) or _is_newer(bundle, renewed):
            self._renewed = None
            return bundle
        return renewed

    async def _open(self, bundle: Bundle) -> Connection:
        server, login = bundle.upstream_server, bundle.upstream_login
        request = ProbeRequest(server, ProbeMode.AUTHENTICATE, bundle.level, login)
        client = await open_client(request, policy=self._services.egress, deadline=OPEN_WITHIN)
        return Connection(client, server, login)

    def _failed(self, error: OpenFailedError) -> UpstreamError:
        self._services.sink.upstream_failed(self._credential, error.failure.reason)
        is_login = error.failure.stage == "auth" and (error.failure.code or 0) >= 400
        return UpstreamError(RelayFault.LOGIN if is_login else RelayFault.UNREACHABLE)

    @staticmethod
    def _is_for(place: _Place, bundle: Bundle) -> bool:
        """Whether a connection was made for the bundle's server and login."""
        made_for = place.made_for
        return made_for is bundle or (made_for is not None and _endpoint(made_for) == _endpoint(bundle))

    async def _cleaned(self, tenant: str, place: _Place, connection: Connection) -> None:
        if not await connection.reset():
            self._disconnect(place)
        self._used(tenant, place)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _pause_s(place: _Place, now_s: float) -> float:
    """After how many seconds a message may be begun in a place; 0: now."""
    return place.slot.budget.pause_s(now_s) if place.slot is not None else 0.0


def _endpoint(bundle: Bundle) -> tuple[object, ...]:
    """What a connection was made for: if it changes, the connection is of no use. Another token is no change."""
    login = bundle.login
    return (bundle.level, bundle.server, *((login.username, login.password) if login else ()))


def _nobody_listens() -> None:
    """No message is under way."""


def _attempt(bundle: Bundle) -> tuple[object, ...]:
    """What may make another attempt to connect end otherwise. Tenants come and go without it."""
    return (*_endpoint(bundle), bundle.login.access_token if bundle.login else None)


def _is_newer(bundle: Bundle, renewed: Bundle) -> bool:
    given, known = bundle.login, renewed.login
    if given is None or known is None or given.access_token == known.access_token:
        return True
    return given.expires_at is not None and known.expires_at is not None and given.expires_at > known.expires_at


@dataclass(frozen=True, slots=True)
class Services:
    """What pools need."""

    bundles: Bundles
    egress: EgressPolicy
    tokens: Tokens
    slots: Slots
    sink: Sink
    closing: Callable[[], bool]
    """Whether the relay is being stopped."""
    wait_s: float = WAIT_S
    idle_s: float = IDLE_S


class Pools:
    """One pool for each login at a mail server."""

    def __init__(self, services: Services) -> None:
        """None yet.

        Args:
            services: What they need.
        """
        self._services = services
        self._pools: dict[str, Pool] = {}

    def of(self, credential: str) -> Pool:
        """The pool of a login."""
        if credential not in self._pools:
            self._pools[credential] = Pool(credential, self._services)
        return self._pools[credential]

    @property
    def connections(self) -> int:
        """How many there are."""
        return sum(pool.connections for pool in self._pools.values())

    async def close(self) -> None:
        """Ends all connections that nobody has."""
        for pool in self._pools.values():
            await pool.close()
