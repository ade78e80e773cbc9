"""SMTP replies: the relay's own, and a mail server's that are passed on."""

import re
from dataclasses import dataclass
from typing import Final

MAX_LINES: Final = 16
"""Of a mail server's reply; what follows is left out."""

MAX_TEXT_OCTETS: Final = 480
"""Of a line, so that with code and line end it stays within 512. Source: RFC 5321 §4.5.3.1.5."""

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
