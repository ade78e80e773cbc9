"""One message: from the client's MAIL to the mail server's word about it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mailsettings.core.relay.audit import AuditRecord, Outcome, without_addresses
from mailsettings.core.relay.commands import Mail, Rcpt, mail_line, rcpt_line
from mailsettings.core.relay.faults import REPLIES, RelayFault
from mailsettings.core.relay.message import MessageWriter
from mailsettings.core.relay.policy import MessageGate, RefusedError, check_mail, check_rcpt, rate_refusal
from mailsettings.core.relay.replies import Reply
from mailsettings.edges.relay.channel import PeerGoneError
from mailsettings.edges.relay.interfaces import Account, Rates, Sink
from mailsettings.edges.relay.upstream import Connection, Pool, Pools, RefusedEarlyError, UpstreamError

PIECE_OCTETS: Final = 64 * 1024
"""Of what is written at once."""


@dataclass(frozen=True, slots=True)
class Ways:
    """What a message needs on its way."""

    pools: Pools
    rates: Rates
    sink: Sink
    max_octets: int
    """Of any message."""


class Transaction:
    """One message of one client.

    The mail server's connection is held from MAIL on. It is given back as soon as it is clear that the message does
    not go through it, and never with a message in it that the client has not ended.
    """

    def __init__(
        self, account: Account, mail: Mail, ways: Ways, client_there: Callable[[], bool], when_early: Callable[[], None]
    ) -> None:
        """Nothing is done yet.

        Args:
            account: Whose message it is.
            mail: What the client said.
            ways: What it needs.
            client_there: Whether the client seems to wait for what becomes of it.
            when_early: Is told that the mail server has said something before the message's end: an empty piece has
                it looked at.
        """
        self._account = account
        self._mail = mail
        self._ways = ways
        self._client_there = client_there
        self._when_early = when_early
        self._gate = MessageGate(account.policy, ways.max_octets)
        self._writer: MessageWriter | None = None  # while the message goes to the mail server
        self._held = b""
        self._pool: Pool | None = None
        self._connection: Connection | None = None
        self._verdict: Reply | None = None
        self._rule = self._fault = ""
        self._recipients: list[str] = []
        self._recipient_refusal: tuple[Reply, str] | None = None
        self._time = asyncio.get_running_loop().time
        self._began_s = self._time()
        self._upstream_s = 0.0
        self._recorded = False
        self._ended = False  # whether the mail server was sent the message's end

    async def begin(self) -> Reply:
        """Judges the sender and asks the mail server."""
        try:
            mail = check_mail(self._account.policy, self._mail)
            if (limit := await self._ways.rates.take(self._account)) is not None:
                raise rate_refusal(limit)
            reply = await self._say_mail(mail)
        except RefusedError as error:
            return self._end(self._denied(error))
        except UpstreamError as error:
            return self._end(self._failed(error.fault))
        return reply if reply.is_positive else self._end(reply)

    async def _say_mail(self, mail: Mail) -> Reply:
        """Says MAIL; where a used connection turns out to be dead, through another one: nothing was begun yet."""
        self._pool = self._ways.pools.of(self._account.bundle.credential)
        connection = await self._connected(fresh=False)
        try:
            reply = await self._mail_through(connection, mail)
            if reply.is_positive or connection.is_open or not connection.used:
                return reply
        except UpstreamError as error:
            if not connection.used or error.fault is not RelayFault.UNREACHABLE:
                raise
        self._give_back(clean=False)
        return await self._mail_through(await self._connected(fresh=True), mail)

    async def _connected(self, *, fresh: bool) -> Connection:
        pool = self._pool
        if pool is None:
            raise UpstreamError(RelayFault.INTERNAL)
        self._connection = await pool.acquire(self._account.tenant.namespace, fresh=fresh)
        return self._connection

    async def _mail_through(self, connection: Connection, mail: Mail) -> Reply:
        offered = connection.extensions
        if (mail.body_8bit and "8bitmime" not in offered) or (mail.smtputf8 and "smtputf8" not in offered):
            raise UpstreamError(RelayFault.NOT_CONVERTIBLE)
        return await connection.command(mail_line(mail, offered))

    async def recipient(self, rcpt: Rcpt) -> Reply:
        """Judges a recipient and asks the mail server."""
        connection = self._connection
        if connection is None:  # given up by a former recipient's fault
            return self._verdict or REPLIES[RelayFault.UNREACHABLE]
        try:
            check_rcpt(self._account.policy, rcpt)
            reply = await connection.command(rcpt_line(rcpt, connection.extensions))
        except RefusedError as error:
            self._recipient_refusal = (error.reply, error.rule)
            return error.reply
        except UpstreamError as error:
            self._verdict = self._failed(error.fault)
            self._give_back(clean=False)
            return self._verdict
        if reply.is_positive:
            self._recipients.append(rcpt.recipient.text)
        else:
            self._recipient_refusal = (reply, "")
        return reply

    async def piece(self, data: bytes) -> None:
        """Takes a piece of the message. What is wrong with it is said at its end."""
        if self._verdict is None:
            await self._guarded(self._gate.feed, data)

    async def finish(self) -> Reply:
        """The client has ended the message: what became of it.

        Raises:
            PeerGoneError: The client has vanished, and the message is not ended.
        """
        if self._verdict is None:
            await self._guarded(lambda _nothing: self._gate.end(), b"")
        if self._verdict is None:
            await self._end_upstream()
        return self._end(self._verdict or REPLIES[RelayFault.INTERNAL])

    async def _guarded(self, judge: Callable[[bytes], bytes], data: bytes) -> None:
        try:
            await self._forward(judge(data))
        except RefusedError as error:
            self._verdict = self._denied(error)
        except UpstreamError as error:
            self._verdict = self._failed(error.fault)
        except RefusedEarlyError as error:
            self._verdict = error.reply
        if self._verdict is not None:
            self._give_back(clean=False)

    async def _forward(self, text: bytes) -> None:
        connection = self._connection
        if not text and self._writer is None:
            return
        if connection is None:
            raise UpstreamError(RelayFault.UNREACHABLE)
        if self._writer is None:
            refusal = await connection.begin_data()
            if refusal is not None:
                raise RefusedEarlyError(refusal)
            self._writer = MessageWriter()
            connection.when_early = self._when_early
        if not text:
            connection.check_message()
        for at in range(0, len(text), PIECE_OCTETS):
            # The last piece waits for the next or the end: most messages go out at once then, with their end.
            if self._held:
                await connection.write(self._held)
            self._held = self._writer.write(text[at : at + PIECE_OCTETS])

    async def _end_upstream(self) -> None:
        connection = self._connection
        if connection is None:
            self._verdict = self._failed(RelayFault.UNREACHABLE)
            return
        if not self._client_there():  # while the mail server was slow: it would send the message once more
            raise PeerGoneError
        began_s = self._time()
        self._ended = True
        try:
            self._verdict = await connection.end_data(self._held)
        except UpstreamError as error:
            self._verdict = self._failed(error.fault)
            self._give_back(clean=False)
        except RefusedEarlyError as error:
            self._verdict = error.reply
            self._give_back(clean=False)
        self._upstream_s = self._time() - began_s
        self._give_back(clean=True)

    def abandon(self, fault: RelayFault | None) -> Reply | None:
        """Nobody goes on with the message. What is in the mail server's connection is never ended.

        Args:
            fault: Why; None: the client said so.

        Returns:
            What the client is to be told of a message whose end was sent, and nobody knows what became of it.
        """
        self._give_back(clean=False)
        if self._ended and self._verdict is None:
            return self._end(self._failed(RelayFault.OUTCOME_UNKNOWN))
        if self._verdict is not None:
            self._record(self._outcome(self._verdict), self._verdict)
        elif self._recipient_refusal is not None and not self._recipients:
            reply, self._rule = self._recipient_refusal
            self._record(self._outcome(reply), reply)
        else:
            self._fault = fault or ""
            self._record(Outcome.ABANDONED, Reply(0, ""))
        return None

    def _give_back(self, *, clean: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is None or self._pool is None:
            return
        self._pool.release(self._account.tenant.namespace, connection, clean=clean)

    def _denied(self, error: RefusedError) -> Reply:
        self._rule = error.rule
        return error.reply

    def _failed(self, fault: RelayFault) -> Reply:
        self._fault = fault
        return REPLIES[fault]

    def _end(self, reply: Reply) -> Reply:
        self._give_back(clean=False)
        self._record(self._outcome(reply), reply)
        return reply

    def _outcome(self, reply: Reply) -> Outcome:
        if self._fault == RelayFault.OUTCOME_UNKNOWN:
            return Outcome.UNKNOWN
        if self._fault:
            return Outcome.FAILED
        if self._rule and not reply.is_positive:
            return Outcome.DENIED
        return Outcome.ACCEPTED if reply.is_positive else Outcome.REFUSED

    def _record(self, outcome: Outcome, reply: Reply) -> None:
        if self._recorded:
            return
        self._recorded = True
        tenant = self._account.tenant
        self._ways.sink.message(
            AuditRecord(
                namespace=tenant.namespace,
                settings=tenant.settings,
                sender=self._mail.sender.text,
                recipients=len(self._recipients),
                octets=self._gate.octets,
                outcome=outcome,
                code=reply.code,
                enhanced=reply.enhanced,
                text=reply.text if tenant.audit_recipients else without_addresses(reply.text),
                rule=self._rule if outcome is Outcome.DENIED else "",
                fault=self._fault,
                duration_s=self._time() - self._began_s,
                upstream_s=self._upstream_s,
                addresses=tuple(self._recipients) if tenant.audit_recipients else (),
            )
        )
