"""The header of a message: who it says that it is from. Source: RFC 5322, RFC 6532.

What is judged here must be what the recipient sees, so that every form that programs read differently is refused
instead of understood: fields that occur twice, lines that are no field, names that a colon does not follow at once.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mailsettings.core.relay.addresses import parse_address

MAX_HEADER_OCTETS: Final = 64 * 1024
"""Of a whole header; it is kept in memory until it has been judged."""

MAX_ADDRESSES: Final = 20
"""In one field."""


class HeaderError(ValueError):
    """A header cannot be relied on; the text says why and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a header."""

    name: str
    """In lower case."""
    value: bytes
    """Unfolded, without blanks at the ends."""
    begin: int
    """Where in the header its first line begins."""
    end: int
    """Behind the CRLF of its last line."""


class HeaderCollector:
    """Gathers a header from a message's pieces."""

    def __init__(self) -> None:
        """Nothing has come."""
        self.data = bytearray()
        """All that has come: the header, and what of the body has come with it."""
        self._size: int | None = None

    @property
    def size(self) -> int | None:
        """Of the header with the empty line that ends it; None: it has not ended."""
        return self._size

    def feed(self, piece: bytes) -> None:
        """Takes a piece.

        Raises:
            HeaderError: The header is too long.
        """
        begin = max(0, len(self.data) - 3)
        self.data += piece
        if self.data.startswith(b"\r\n"):
            self._size = 2
        elif (found := self.data.find(b"\r\n\r\n", begin)) >= 0:
            self._size = found + 4
        if (len(self.data) if self._size is None else self._size) > MAX_HEADER_OCTETS:
            raise HeaderError(f"the header is longer than {MAX_HEADER_OCTETS} octets")

    def close(self) -> None:
        """The message has ended: if there is no empty line, it is all header."""
        if self._size is None:
            self._size = len(self.data)


_NAME: Final = re.compile(rb"[\x21-\x39\x3b-\x7e]+(?=:)")
"""Source: RFC 5322 §2.2. Blanks before the colon (§4.5.8) are read by some programs and not by others."""


def parse_fields(header: bytes) -> list[Field]:
    """The fields in their order.

    Args:
        header: Whole lines that end by CRLF; the empty line may be among them, as the last.

    Raises:
        HeaderError: A line is no part of a field.
    """
    return list(_fields(header))


def _fields(header: bytes) -> Iterator[Field]:
    if b"\0" in header:
        raise HeaderError("the header holds a NUL")
    position, size = 0, len(header)
    while position < size and not header.startswith(b"\r\n", position):
        name = _NAME.match(header, position)
        if name is None:
            raise HeaderError("a line of the header is no field")
        end = _field_end(header, position)
        lines = header[name.end() + 1 : end].replace(b"\r\n", b"")
        yield Field(name[0].decode("ascii").lower(), lines.strip(b" \t"), position, end)
        position = end


def _field_end(header: bytes, begin: int) -> int:
    """Behind the last line that belongs to the field: lines that begin with a blank go on with it."""
    end = begin
    while True:
        found = header.find(b"\r\n", end)
        if found < 0:
            return len(header)
        end = found + 2
        if header[end : end + 1] not in (b" ", b"\t"):
            return end


@dataclass(frozen=True, slots=True)
class Authors:
    """Who a message says that it is from."""

    addresses: tuple[str, ...]
    """Of From, Sender, Resent-From and Resent-Sender, at least one."""
    origin: Field
    """The From field."""
    others: tuple[Field, ...]
    """The other fields, in their order."""


_OTHER_AUTHORS: Final = frozenset({"sender", "resent-from", "resent-sender"})


def authors(header: bytes) -> Authors:
    """Who the header names in From and Sender, and in the same fields of those who have sent it on.

    Resent fields may occur several times, once for each time. Source: RFC 5322 §3.6.6.

    Raises:
        HeaderError: There is not exactly one From, or more than one Sender, or they cannot be read.
    """
    fields = parse_fields(header)
    origin = _only(fields, "from")
    if origin is None:
        raise HeaderError("there is no From field")
    _only(fields, "sender")
    others = tuple(field for field in fields if field.name in _OTHER_AUTHORS)
    addresses = [address for field in (origin, *others) for address in mailboxes(field.value)]
    return Authors(tuple(addresses), origin, others)


def _only(fields: Sequence[Field], name: str) -> Field | None:
    found = [field for field in fields if field.name == name]
    if len(found) > 1:
        raise HeaderError(f"there are several {name.capitalize()} fields")
    return found[0] if found else None


# A comment may hold nothing that looks like an address: not all programs know that it is a comment.
_COMMENT: Final = r"\([^()<>@\"\\\x00-\x1f\x7f]*\)"
# All repetitions are possessive: no header makes the search try again.
_BLANK: Final = rf"(?:[ \t]|{_COMMENT})*+"
# Words and quoted strings; dots are in names although RFC 5322 calls that obsolete (§4.1).
_WORD: Final = r"[^\x00-\x20\x7f()<>@,;:\\\"\[\]]++"
_QUOTED: Final = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\x20-\x7e])*+"'
_PHRASE: Final = rf"(?:(?:{_WORD}|{_QUOTED}){_BLANK})*+"
_ADDRESS: Final = rf"(?:{_WORD}|{_QUOTED})@(?:{_WORD}|\[[^\[\]\\\x00-\x20\x7f<>@]++\])"
_MAILBOX: Final = re.compile(rf"{_BLANK}(?:(?P<bare>{_ADDRESS})|{_PHRASE}<(?P<angled>{_ADDRESS})>){_BLANK}(?P<end>,|$)")


def mailboxes(value: bytes) -> list[str]:
    """The addresses of a field that names authors.

    Raises:
        HeaderError: It is no list of mailboxes, or a very long one.
    """
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise HeaderError("From, Sender or a Resent field is neither ASCII nor UTF-8") from None
    found: list[str] = []
    position = 0
    while True:
        mailbox = _MAILBOX.match(text, position)
        if mailbox is None or len(found) == MAX_ADDRESSES:
            raise HeaderError("From, Sender or a Resent field is no plain list of addresses")
        found.append(_checked(mailbox["bare"] or mailbox["angled"]))
        if not mailbox["end"]:
            return found
        position = mailbox.end()


def _checked(address: str) -> str:
    try:
        return parse_address(address).text
    except ValueError:
        raise HeaderError("From, Sender or a Resent field holds what is no address") from None


def with_author(header: bytes, found: Authors, mailbox: str) -> bytes:
    """The header with another From field, and without the other fields that name an author.

    Args:
        header: That `found` was found in.
        found: Where they are.
        mailbox: The new one, without line ends; what is not ASCII is written in UTF-8.
    """
    pieces, position = [], 0
    for field in sorted((found.origin, *found.others), key=lambda each: each.begin):
        pieces.append(header[position : field.begin])
        if field is found.origin:
            pieces.append(f"From: {mailbox}\r\n".encode())
        position = field.end
    return b"".join((*pieces, header[position:]))
