"""SMTP replies: the relay's own, and a mail server's that are passed on."""

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

MAX_LINES: Final = 16
"""Of a mail server's reply; what follows is left out."""

MAX_TEXT_OCTETS: Final = 480
"""Of a line, so that with code and line end it stays within 512. Source: RFC 5321 §4.5.3.1.5."""

MAX_SEEN_OCTETS: Final = 4 * MAX_TEXT_OCTETS
"""Of a line, is looked through for secrets: more than is passed on, so that none is cut that would be."""

_ENHANCED: Final = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?:[ ]|$)")
_UNSAFE: Final = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply to one command."""

    code: int
    text: str
    """Printable ASCII, lines separated by a line feed."""
    enhanced: str = ""
    """`5.7.1`; empty: this reply has none. Sources: RFC 2034, RFC 3463."""

    @property
    def is_positive(self) -> bool:
        """Whether what was asked for has been done."""
        return 200 <= self.code < 300

    def encode(self) -> bytes:
        """As it is sent. Source: RFC 5321 §4.2, RFC 2034 §4."""
        prefix = f"{self.enhanced} " if self.enhanced else ""
        *more, last = self.text.split("\n")
        lines = [f"{self.code}-{prefix}{line}\r\n" for line in more]
        return "".join([*lines, f"{self.code} {prefix}{last}\r\n"]).encode("ascii")


def passed_on(code: int, message: str) -> Reply:
    """A mail server's reply, fit to be passed on.

    Args:
        code: From 200 to 599.
        message: Its lines without the code, separated by a line feed; the enhanced code stands at the beginning of
            each. What is not printable ASCII becomes a question mark.
    """
    lines = message.split("\n")[:MAX_LINES]
    found = _ENHANCED.match(lines[0])
    enhanced = found[0].rstrip() if found and found[1] == str(code)[0] else ""
    if enhanced:
        lines = [line.removeprefix(enhanced).lstrip(" ") for line in lines]
    return Reply(code, "\n".join(_UNSAFE.sub("?", line)[:MAX_TEXT_OCTETS] for line in lines), enhanced)


MAX_REPLY_OCTETS: Final = 64 * 1024
"""Of all lines of a mail server's reply."""

_LINE: Final = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
"""Source: RFC 5321 §4.2, Reply-line."""


class ReplyError(ValueError):
    """A mail server said what is no reply. The text holds nothing of it."""


class ReplyReader:
    """Reads a mail server's replies, in pieces of any size."""

    def __init__(self) -> None:
        """Nothing has come."""
        self._buffer = bytearray()
        self._code = 0  # of the lines so far
        self._lines: list[bytes] = []
        self._octets = 0

    @property
    def is_between(self) -> bool:
        """Whether nothing of a reply has come that has not been taken."""
        return not self._buffer and not self._lines

    def feed(self, data: bytes) -> None:
        """Takes what has come."""
        self._buffer += data

    def next_reply(self) -> tuple[int, str] | None:
        """The code of the next reply, and its lines without it, separated by a line feed; None: more is needed.

        Raises:
            ReplyError: A line is none of a reply, or not of the same reply; or there is too much.
        """
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end]).removesuffix(b"\r")
            del self._buffer[: end + 1]
            if self._is_last(line):
                text = b"\n".join(self._lines).decode("utf-8", "surrogateescape")
                self._lines.clear()
                self._octets = 0
                return self._code, text
        if len(self._buffer) > MAX_REPLY_OCTETS:
            raise ReplyError("a line is too long")
        return None

    def _is_last(self, line: bytes) -> bool:
        """Takes a line; whether it is the reply's last."""
        found = _LINE.fullmatch(line)
        self._octets += len(line)
        if found is None or self._octets > MAX_REPLY_OCTETS:
            raise ReplyError("a line is no reply, or there are too many")
        code = int(found[1])
        if self._lines and code != self._code:
            raise ReplyError("the lines of a reply have several codes")
        self._code = code
        self._lines.append((found[3] or b"").strip(b" \t\r"))
        return found[2] != b"-"


def without_rest(message: str) -> str:
    """The lines of a mail server's reply that may be passed on, not much longer than they may be.

    Nothing else of it is worth looking at.
    """
    return "\n".join(line[:MAX_SEEN_OCTETS] for line in message.split("\n")[:MAX_LINES])


_PIECE: Final = 12
"""So many consecutive characters of a secret give it away."""


class Repetition:
    """Tells whether a text repeats a secret, quickly enough to be asked for each message."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """What is not to be repeated, and what of it in base64 could be.

        Args:
            secrets: Passwords, tokens, and the responses that carried them.
        """
        self._short: list[str] = []
        pieces: set[str] = set()
        for secret in filter(None, secrets):
            encoded = base64.b64encode(secret.encode("utf-8", "surrogatepass")).decode("ascii")
            for form in map(str.casefold, (secret, encoded)):
                if len(form) < _PIECE:
                    self._short.append(form)
                pieces.update(_pieces(form))
        self._pieces = frozenset(pieces)

    def within(self, text: str) -> bool:
        """Whether the text holds a secret, or a piece of a long one."""
        folded = text.casefold()
        if any(secret in folded for secret in self._short):
            return True
        return any(piece in self._pieces for piece in _pieces(folded))


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + _PIECE] for at in range(len(text) - _PIECE + 1))
