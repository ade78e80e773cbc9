"""A client's session: what it may say when, and what that comes to, without a socket and without waiting.

Octets go in by `feed`; `next_event` gives what to do. Some events ask something: nothing more comes out of the session
until the answer has been put in. Sources: RFC 5321, 6409, 4954, 3207, 2920.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from mailsettings.core.relay import login
from mailsettings.core.relay.commands import (
    MAX_AUTH_OCTETS,
    MAX_COMMAND_OCTETS,
    Auth,
    Command,
    CommandError,
    Data,
    Hello,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    parse_command,
)
from mailsettings.core.relay.message import BareLineEndError, MessageParser
from mailsettings.core.relay.replies import Reply


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session may cost."""

    message_octets: int = 36_700_160
    """Of a message, announced by SIZE: 35 MiB, which holds 25 MiB in base64."""
    recipients: int = 100
    """Of a message. Source: RFC 5321 §4.5.3.1.8."""
    errors: int = 10
    """So many commands that are refused for their form or their order, and the session ends."""
    commands_before_login: int = 20
    """So many commands, and the session ends."""
    commands_per_message: int = 500
    """So many commands after the login or a message without another message, and the session ends. It leaves room for
    twice the recipients of a message, and for a client that asks by NOOP whether it is still connected."""
    logins: int = 3
    """So many wrong logins, and the session ends."""


@dataclass(frozen=True, slots=True)
class Say:
    """The reply is to be sent."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Close:
    """The reply is to be sent, and the connection closed."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The reply is to be sent, then TLS begins. Asks for `upgraded`."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class LogIn:
    """Asks for `logged_in`, `login_refused` or `answer`: the login cannot be judged now."""

    presented: login.Presented


@dataclass(frozen=True, slots=True)
class MailFrom:
    """Asks for `answer`."""

    mail: Mail


@dataclass(frozen=True, slots=True)
class RcptTo:
    """Asks for `answer`."""

    rcpt: Rcpt


@dataclass(frozen=True, slots=True)
class Body:
    """A piece of the message."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class EndOfBody:
    """The message is complete. Asks for `answer`."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The transaction, if there is one, is given up."""


Event = Say | Close | Upgrade | LogIn | MailFrom | RcptTo | Body | EndOfBody | Reset


class Phase(StrEnum):
    """Where a session is."""

    HELLO = "hello"
    """Before EHLO."""
    READY = "ready"
    """No transaction is under way."""
    MAIL = "mail"
    """The sender is accepted."""
    RCPT = "rcpt"
    """At least one recipient is accepted."""
    BODY = "body"
    CLOSED = "closed"


_BARE: Final = Reply(521, "a line ended by CR or LF alone; lines end by CRLF", "5.5.2")
_LONG: Final = Reply(500, "line too long", "5.5.6")
_SYNCHRONIZE: Final = Reply(554, "more was sent before this command was answered", "5.5.0")
_TOO_MANY: Final = Reply(421, "too many errors", "4.7.0")
_TOO_MANY_COMMANDS: Final = Reply(421, "too many commands without a message", "4.7.0")
_TLS_FIRST: Final = Reply(530, "STARTTLS comes first", "5.7.0")
_LOGIN_FIRST: Final = Reply(530, "authentication required", "5.7.0")
_ORDER: Final = Reply(503, "bad sequence of commands", "5.5.1")
_GO_AHEAD: Final = Reply(354, "end the message with a line that holds only a dot")
LOGIN_REFUSED: Final = Reply(535, "authentication credentials invalid", "5.7.8")


class Session:
    """One client."""

    def __init__(self, name: str, *, encrypted: bool, limits: Limits) -> None:
        """A session at its beginning.

        Args:
            name: How the relay names itself.
            encrypted: Whether TLS stands already.
            limits: What it may cost.
        """
        self._name = name
        self._limits = limits
        self._buffer = bytearray()
        self._parser: MessageParser | None = None
        self._exchange: login.Exchange | None = None
        self._mechanism = ""
        self._refusal: Reply | None = None
        self._answered: Callable[[Reply], None] | None = None
        self._events: list[Event] = []
        self._errors = self._commands = self._logins = self._recipients = 0
        self.encrypted = encrypted
        self.authenticated = False
        self.phase = Phase.HELLO
        self.mail: Mail | None = None
        """Of the transaction."""
        self.extended = False
        """Whether the client said EHLO, and not HELO."""

    @property
    def greeting(self) -> Reply:
        """What the relay says first."""
        return Reply(220, f"{self._name} ESMTP")

    @property
    def in_transaction(self) -> bool:
        """Whether a message has been begun."""
        return self.phase in (Phase.MAIL, Phase.RCPT, Phase.BODY)

    @property
    def in_body(self) -> bool:
        """Whether it is the message itself that comes."""
        return self.phase is Phase.BODY

    def feed(self, data: bytes) -> None:
        """Takes what the client has sent."""
        self._buffer += data

    def next_event(self) -> Event | None:
        """What to do now; None: an answer is awaited, or more octets are needed."""
        while not self._events:
            if self.phase is Phase.CLOSED or self._answered is not None or not self._buffer:
                return None
            if not self._advance() and not self._events:
                return None
        return self._events.pop(0)

    def _advance(self) -> bool:
        """Looks at what is buffered; False: more is needed."""
        if self._parser is not None:
            self._read_body(self._parser)
            return True
        line = self._line()
        if line is None:
            return False
        if self._exchange is not None or self._refusal is not None:
            self._continue_login(line)
        else:
            self._command(line)
        return True

    # Lines

    def _line(self) -> bytes | None:
        """The next line without its CRLF; None: it is not complete, or the session ends because of it."""
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > MAX_AUTH_OCTETS or (b"\r" in self._buffer[:-1]):
                self._close(_LONG if len(self._buffer) > MAX_AUTH_OCTETS else _BARE)
            return None
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        if not line.endswith(b"\r\n") or line.find(b"\r") != len(line) - 2:
            self._close(_BARE)
            return None
        if len(line) > (MAX_AUTH_OCTETS if self._may_be_long(line) else MAX_COMMAND_OCTETS):
            self._close(_LONG)
            return None
        return line[:-2]

    def _may_be_long(self, line: bytes) -> bool:
        return self._exchange is not None or line[:5].upper() == b"AUTH "

    # Commands

    def _command(self, line: bytes) -> None:
        limits = self._limits
        self._commands += 1
        if self._commands > (limits.commands_per_message if self.authenticated else limits.commands_before_login):
            self._give_up()
            self._close(_TOO_MANY_COMMANDS if self.authenticated else _TOO_MANY)
            return
        try:
            command = parse_command(line)
        except CommandError as error:
            if error.hostile:
                self._close(error.reply)
            else:
                self._fail(error.reply)
            return
        self._take(command)

    def _take(self, command: Command) -> None:  # noqa: C901 - one case for each command
        match command:
            case Quit():
                self._give_up()
                self._close(Reply(221, "bye", "2.0.0"))
            case Noop(reply):
                self._say(reply)
            case Hello(extended):
                self._hello(extended=extended)
            case _ if self.phase is Phase.HELLO:
                self._fail(_ORDER)
            case StartTls():
                self._start_tls()
            case Rset():
                self._give_up()
                self._say(Reply(250, "ok", "2.0.0"))
            case Auth():
                self._begin_login(command)
            case _ if not self.authenticated:
                self._fail(_LOGIN_FIRST if self.encrypted else _TLS_FIRST)
            case Mail():
                self._begin_mail(command)
            case Rcpt():
                self._add_recipient(command)
            case Data():
                self._begin_body()

    def _hello(self, *, extended: bool) -> None:
        if self._is_ahead():
            return
        self._give_up()
        self.phase = Phase.READY
        self.extended = extended
        self._say(Reply(250, "\n".join([self._name, *self._extensions()] if extended else [self._name])))

    def _extensions(self) -> list[str]:
        extensions = [
            "PIPELINING",
            f"SIZE {self._limits.message_octets}",
            "8BITMIME",
            "SMTPUTF8",
            "DSN",
            "ENHANCEDSTATUSCODES",
        ]
        if not self.encrypted:
            return [*extensions, "STARTTLS"]
        return [*extensions, f"AUTH {' '.join(login.MECHANISMS)}"]

    def _start_tls(self) -> None:
        if self._is_ahead():
            return
        if self.encrypted:
            self._fail(_ORDER)
            return
        self._ask(Upgrade(Reply(220, "go ahead", "2.0.0")), lambda _reply: None)

    def upgraded(self) -> None:
        """TLS stands. What was said before is forgotten. Source: RFC 3207 §4.2."""
        self._answered = None
        self.encrypted = True
        self.phase = Phase.HELLO
        self._buffer.clear()

    # Logins

    def _begin_login(self, command: Auth) -> None:
        if self._is_ahead():
            return
        if not self.encrypted:
            self._fail(Reply(538, "STARTTLS comes first", "5.7.11"))
            return
        if self.authenticated or self.in_transaction:
            self._fail(_ORDER)
            return
        try:
            initial = self._initial(command.initial)
        except login.LoginError as error:
            self._fail(Reply(501, str(error), "5.5.2"))
            return
        exchange = login.begin(command.mechanism, initial)
        if exchange is None:
            self._fail(Reply(504, "authentication mechanism not offered", "5.5.4"))
            return
        self._exchange, self._mechanism = exchange, command.mechanism
        self._step_login(lambda: next(exchange))

    @staticmethod
    def _initial(initial: bytes | None) -> bytes | None:
        """An initial response that is empty is written as `=`. Source: RFC 4954 §4."""
        if initial is None:
            return None
        return b"" if initial == b"=" else login.from_base64(initial)

    def _continue_login(self, line: bytes) -> None:
        exchange = self._exchange
        if exchange is None:  # whatever is said to the challenge that refuses a token
            refusal, self._refusal = self._refusal or LOGIN_REFUSED, None
            self._finish_refusal(refusal)
        elif line == b"*":
            self._exchange = None
            self._fail(Reply(501, "authentication cancelled", "5.7.0"))
        else:
            self._step_login(lambda: exchange.send(login.from_base64(line)))

    def _step_login(self, step: Callable[[], bytes]) -> None:
        try:
            challenge = step()
        except StopIteration as end:
            self._exchange = None
            self._ask(LogIn(end.value), self._say)
        except login.LoginError as error:
            self._exchange = None
            self._fail(Reply(501, str(error), "5.5.2"))
        else:
            self._say(Reply(334, base64.b64encode(challenge).decode("ascii")))

    def logged_in(self) -> None:
        """The login is right."""
        self._answered = None
        self.authenticated = True
        self._commands = 0
        self._say(Reply(235, "authentication successful", "2.7.0"))

    def login_refused(self) -> None:
        """The login is wrong."""
        self._answered = None
        if self._mechanism in login.BEARER:
            self._refusal = LOGIN_REFUSED
            self._say(Reply(334, base64.b64encode(login.REFUSAL_CHALLENGE).decode("ascii")))
        else:
            self._finish_refusal(LOGIN_REFUSED)

    def _finish_refusal(self, reply: Reply) -> None:
        self._logins += 1
        if self._logins >= self._limits.logins:
            self._close(reply)
        else:
            self._say(reply)

    # Transactions

    def _begin_mail(self, command: Mail) -> None:
        if self.phase is not Phase.READY:
            self._fail(_ORDER)
            return
        if not self.extended and (command.size is not None or command.body_8bit or command.smtputf8 or command.dsn):
            self._fail(Reply(555, "these parameters need EHLO", "5.5.4"))
            return
        if command.size is not None and command.size > self._limits.message_octets:
            self._say(Reply(552, f"messages may have {self._limits.message_octets} octets here", "5.3.4"))
            return

        def answered(reply: Reply) -> None:
            if reply.is_positive:
                self.phase = Phase.MAIL
                self.mail = command
                self._recipients = 0
            self._say(reply)

        self._ask(MailFrom(command), answered)

    def _add_recipient(self, command: Rcpt) -> None:
        if self.mail is None:
            self._fail(_ORDER)
            return
        if not (command.recipient.is_ascii or self.mail.smtputf8):
            self._fail(Reply(553, "an address that is not ASCII needs SMTPUTF8", "5.6.7"))
            return
        if self._recipients >= self._limits.recipients:
            self._say(Reply(452, f"a message may have {self._limits.recipients} recipients", "4.5.3"))
            return

        def answered(reply: Reply) -> None:
            if reply.is_positive:
                self.phase = Phase.RCPT
                self._recipients += 1
            self._say(reply)

        self._ask(RcptTo(command), answered)

    def _begin_body(self) -> None:
        if self._is_ahead():
            return
        if self.phase is Phase.MAIL:
            self._fail(Reply(554, "there is no recipient", "5.5.1"))
            return
        if self.phase is not Phase.RCPT:
            self._fail(_ORDER)
            return
        self.phase = Phase.BODY
        self._parser = MessageParser()
        self._say(_GO_AHEAD)

    def _read_body(self, parser: MessageParser) -> None:
        data = bytes(self._buffer)
        self._buffer.clear()
        try:
            text, rest = parser.feed(data)
        except BareLineEndError:
            # Where this message ends is not to be told, so nothing that follows can be trusted to be a command.
            self._give_up()
            self._close(_BARE)
            return
        if text:
            self._events.append(Body(text))
        if parser.ended:
            self._buffer += rest
            self._parser = None
            self._ask(EndOfBody(), self._end_of_mail)

    def _end_of_mail(self, reply: Reply) -> None:
        self.phase = Phase.READY
        self.mail = None
        self._commands = 0
        self._say(reply)

    # What all have in common

    def answer(self, reply: Reply) -> None:
        """Puts in the answer that an event asks for."""
        if self._answered is None:
            raise RuntimeError("nothing was asked")
        answered, self._answered = self._answered, None
        if reply.code == 421:
            self._close(reply)
            return
        answered(reply)

    def end(self, reply: Reply) -> None:
        """Ends the session from the relay's side: nothing more is read."""
        self._answered = None
        self._close(reply)

    def _ask(self, event: Event, answered: Callable[[Reply], None]) -> None:
        self._answered = answered
        self._events.append(event)

    def _say(self, reply: Reply) -> None:
        self._events.append(Say(reply))

    def _close(self, reply: Reply) -> None:
        self.phase = Phase.CLOSED
        self._buffer.clear()
        self._parser = None
        self._events.append(Close(reply))

    def _fail(self, reply: Reply) -> None:
        """Refuses a command for its form or its order."""
        self._errors += 1
        if self._errors >= self._limits.errors:
            self._give_up()
            self._close(_TOO_MANY)
        else:
            self._say(reply)

    def _give_up(self) -> None:
        if self.in_transaction:
            self._events.append(Reset())
            self.phase = Phase.READY
            self.mail = None

    def _is_ahead(self) -> bool:
        """Ends a session whose client did not wait for the answer to a command that decides what follows.

        Source: RFC 2920 §3.1, and RFC 3207 §4.2: what was injected before TLS would be taken for said within it.
        """
        if not self._buffer:
            return False
        self._give_up()
        self._close(_SYNCHRONIZE)
        return True
