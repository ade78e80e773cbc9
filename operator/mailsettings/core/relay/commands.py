"""The commands of a client: their grammar, strictly. Sources: RFC 5321, 1870, 3461, 4954, 6152, 6531."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NoReturn

from mailsettings.core.relay.addresses import NULL_SENDER, EnvelopeAddress, parse_address
from mailsettings.core.relay.replies import Reply

MAX_COMMAND_OCTETS: Final = 2048
"""Of a command with its line end: 512, and what the extensions add. Sources: RFC 5321 §4.5.3.1.4, RFC 3461 §4."""

MAX_AUTH_OCTETS: Final = 12288
"""Of a line that carries a login, be it a response or the AUTH command itself: clients put tokens into both.

Source: RFC 4954 §4, which asks for it in responses.
"""


@dataclass(frozen=True, slots=True)
class Hello:
    """EHLO or HELO."""

    extended: bool


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS."""


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH."""

    mechanism: str
    """In capitals."""
    initial: bytes | None = field(repr=False)
    """The initial response in base64; None: there is none."""


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL."""

    sender: EnvelopeAddress
    size: int | None = None
    """The declared size in octets; None: none is. Source: RFC 1870."""
    body_8bit: bool = False
    """Source: RFC 6152."""
    smtputf8: bool = False
    """Source: RFC 6531."""
    dsn: tuple[str, ...] = ()
    """RET and ENVID as they came, keyword in capitals. Source: RFC 3461."""


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT."""

    recipient: EnvelopeAddress
    dsn: tuple[str, ...] = ()
    """NOTIFY and ORCPT as they came, keyword in capitals. Source: RFC 3461."""


@dataclass(frozen=True, slots=True)
class Data:
    """DATA."""


@dataclass(frozen=True, slots=True)
class Rset:
    """RSET."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP, or another command that changes nothing."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT."""


Command = Hello | StartTls | Auth | Mail | Rcpt | Data | Rset | Noop | Quit


class CommandError(ValueError):
    """A line is no command that the relay takes."""

    def __init__(self, reply: Reply, *, hostile: bool = False) -> None:
        super().__init__(reply.text)
        self.reply = reply
        self.hostile = hostile
        """Whether nothing that speaks SMTP says this: the connection is to end."""


SYNTAX: Final = Reply(501, "syntax error in parameters", "5.5.4")
_UNKNOWN: Final = Reply(500, "command not recognized", "5.5.1")
_NO_SENDER: Final = Reply(501, "the sender is no mailbox in angle brackets", "5.1.7")
_NO_RECIPIENT: Final = Reply(501, "the recipient is no mailbox in angle brackets", "5.1.3")
_UNKNOWN_PARAMETER: Final = Reply(555, "parameter not recognized or not implemented", "5.5.4")
_NOT_ASCII: Final = Reply(553, "an address that is not ASCII needs SMTPUTF8", "5.6.7")


def parse_command(line: bytes) -> Command:
    """The command of a line.

    Args:
        line: Without its CRLF.

    Raises:
        CommandError: There is none.
    """
    text = _text(line)
    verb, _, rest = text.rstrip(" ").partition(" ")
    parse = _PARSERS.get(verb.upper())
    if parse is None:
        raise CommandError(_UNKNOWN, hostile=verb.upper() in _HTTP)
    return parse(rest)


_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")


def _text(line: bytes) -> str:
    if _CONTROL.search(line):
        raise CommandError(Reply(500, "control characters are not allowed", "5.5.2"))
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise CommandError(Reply(500, "this is neither ASCII nor UTF-8", "5.5.2")) from None


def _refuse(reply: Reply) -> NoReturn:
    raise CommandError(reply)


_HOST: Final = re.compile(r"[A-Za-z0-9._\[\]:-]{1,255}")


def _hello(*, extended: bool) -> Callable[[str], Command]:
    def parse(rest: str) -> Command:
        # Clients name themselves in many ways that RFC 5321 §4.1.1.1 does not know; nothing depends on it.
        return Hello(extended) if _HOST.fullmatch(rest) else _refuse(SYNTAX)

    return parse


def _alone(command: Command) -> Callable[[str], Command]:
    def parse(rest: str) -> Command:
        return command if not rest else _refuse(Reply(501, "this command takes no parameter", "5.5.4"))

    return parse


def _answered(reply: Reply) -> Callable[[str], Command]:
    return lambda _rest: Noop(reply)


_MECHANISM: Final = re.compile("[A-Za-z0-9_-]{1,20}")
"""Source: RFC 4422 §3.1."""


def _auth(rest: str) -> Command:
    mechanism, separator, initial = rest.partition(" ")
    if (
        _MECHANISM.fullmatch(mechanism) is None
        or " " in initial
        or not initial.isascii()
        or (separator and not initial)
    ):
        _refuse(SYNTAX)
    return Auth(mechanism.upper(), initial.encode("ascii") if separator else None)


_MAIL: Final = re.compile(r"FROM:<(?P<path>[^<>]*|\"[^\"]*\"@[^<>]*)>(?: (?P<parameters>.*))?", re.IGNORECASE)
_RCPT: Final = re.compile(r"TO:<(?P<path>[^<>]+|\"[^\"]*\"@[^<>]*)>(?: (?P<parameters>.*))?", re.IGNORECASE)


def _mail(rest: str) -> Command:
    found = _MAIL.fullmatch(rest) or _refuse(_NO_SENDER)
    sender = _address(found["path"], _NO_SENDER) if found["path"] else NULL_SENDER
    mail = Mail(sender)
    for keyword, value in _parameters(found["parameters"]).items():
        read = _MAIL_PARAMETERS.get(keyword) or _refuse(_UNKNOWN_PARAMETER)
        mail = read(mail, value)
    if not (mail.smtputf8 or sender.is_ascii):
        _refuse(_NOT_ASCII)
    return mail


def _rcpt(rest: str) -> Command:
    found = _RCPT.fullmatch(rest) or _refuse(_NO_RECIPIENT)
    recipient = _address(found["path"], _NO_RECIPIENT)
    dsn = []
    for keyword, value in _parameters(found["parameters"]).items():
        pattern = _RCPT_PARAMETERS.get(keyword) or _refuse(_UNKNOWN_PARAMETER)
        if value is None or pattern.fullmatch(value) is None:
            _refuse(SYNTAX)
        dsn.append(f"{keyword}={value}")
    return Rcpt(recipient, tuple(dsn))


def _address(path: str, fault: Reply) -> EnvelopeAddress:
    try:
        return parse_address(path)
    except ValueError:
        raise CommandError(fault) from None


_PARAMETER: Final = re.compile(r"(?P<keyword>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[\x21-\x3c\x3e-\x7e]+))?")
"""Source: RFC 5321 §4.1.2, esmtp-param."""


def _parameters(text: str | None) -> Mapping[str, str | None]:
    found: dict[str, str | None] = {}
    for word in text.split(" ") if text else ():
        parameter = _PARAMETER.fullmatch(word) or _refuse(SYNTAX)
        keyword = parameter["keyword"].upper()
        if keyword in found:
            _refuse(SYNTAX)
        found[keyword] = parameter["value"]
    return found


_XTEXT: Final = r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})"
"""Source: RFC 3461 §4."""
_ENVID: Final = re.compile(f"{_XTEXT}{{1,100}}")
_MAILBOX_PARAMETER: Final = re.compile(f"<>|{_XTEXT}{{1,500}}")
_RCPT_PARAMETERS: Final[Mapping[str, re.Pattern[str]]] = {
    "NOTIFY": re.compile("NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}", re.IGNORECASE),
    "ORCPT": re.compile(f"[A-Za-z0-9-]{{1,30}};{_XTEXT}{{1,460}}"),
}


def _size(mail: Mail, value: str | None) -> Mail:
    return replace(mail, size=int(value)) if value and re.fullmatch("[0-9]{1,20}", value) else _refuse(SYNTAX)


def _body(mail: Mail, value: str | None) -> Mail:
    kinds = {"7BIT": False, "8BITMIME": True}
    kind = (value or "").upper()
    return replace(mail, body_8bit=kinds[kind]) if kind in kinds else _refuse(SYNTAX)


def _smtputf8(mail: Mail, value: str | None) -> Mail:
    return replace(mail, smtputf8=True) if value is None else _refuse(SYNTAX)


def _ret(mail: Mail, value: str | None) -> Mail:
    kind = (value or "").upper()
    return replace(mail, dsn=(*mail.dsn, f"RET={kind}")) if kind in ("FULL", "HDRS") else _refuse(SYNTAX)


def _envid(mail: Mail, value: str | None) -> Mail:
    return replace(mail, dsn=(*mail.dsn, f"ENVID={value}")) if value and _ENVID.fullmatch(value) else _refuse(SYNTAX)


def _submitter(mail: Mail, value: str | None) -> Mail:
    """AUTH names who submitted the message; a server that does not trust it may ignore it. Source: RFC 4954 §5."""
    return mail if value and _MAILBOX_PARAMETER.fullmatch(value) else _refuse(SYNTAX)


_MAIL_PARAMETERS: Final[Mapping[str, Callable[[Mail, str | None], Mail]]] = {
    "SIZE": _size,
    "BODY": _body,
    "SMTPUTF8": _smtputf8,
    "RET": _ret,
    "ENVID": _envid,
    "AUTH": _submitter,
}

_NOT_IMPLEMENTED: Final = Reply(502, "command not implemented", "5.5.1")
_PARSERS: Final[Mapping[str, Callable[[str], Command]]] = {
    "EHLO": _hello(extended=True),
    "HELO": _hello(extended=False),
    "STARTTLS": _alone(StartTls()),
    "AUTH": _auth,
    "MAIL": _mail,
    "RCPT": _rcpt,
    "DATA": _alone(Data()),
    "RSET": _alone(Rset()),
    "QUIT": _alone(Quit()),
    "NOOP": _answered(Reply(250, "ok", "2.0.0")),
    "VRFY": _answered(Reply(252, "send some mail, and its delivery will be tried", "2.5.0")),
    "EXPN": _answered(_NOT_IMPLEMENTED),
    "HELP": _answered(_NOT_IMPLEMENTED),
    "BDAT": _answered(_NOT_IMPLEMENTED),
    "TURN": _answered(_NOT_IMPLEMENTED),
}
_HTTP: Final = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "PATCH", "DELETE"})
"""A browser can be made to send these to any port, with commands in the body."""


def mail_line(mail: Mail, extensions: frozenset[str]) -> bytes:
    """The MAIL command for a mail server, without CRLF.

    Args:
        mail: What to say.
        extensions: What the server offers, in lower case. SIZE and DSN parameters that it does not know are left out.
    """
    words = [f"MAIL FROM:<{mail.sender.text}>"]
    if mail.size is not None and "size" in extensions:
        words.append(f"SIZE={mail.size}")
    if mail.body_8bit:
        words.append("BODY=8BITMIME")
    if mail.smtputf8:
        words.append("SMTPUTF8")
    if "dsn" in extensions:
        words += mail.dsn
    return " ".join(words).encode()


def rcpt_line(rcpt: Rcpt, extensions: frozenset[str]) -> bytes:
    """The RCPT command for a mail server, without CRLF; see `mail_line`."""
    return " ".join([f"RCPT TO:<{rcpt.recipient.text}>", *(rcpt.dsn if "dsn" in extensions else ())]).encode()
