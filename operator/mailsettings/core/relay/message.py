"""The message's stream: where it ends, and its dots. Source: RFC 5321 §4.1.1.4 and §4.5.2.

A line ends by CRLF and by nothing else. What one server takes for the end of a message and another does not lets a
second message be smuggled in: so a CR or LF that stands alone is refused, whatever stands around it, and what goes on
is written anew from what was understood.
"""

from typing import Final

END: Final = b".\r\n"
"""The line that ends a message."""


class BareLineEndError(ValueError):
    """There is a CR or a LF that is no part of a CRLF."""


class MessageParser:
    """Reads what follows DATA, in pieces of any size."""

    def __init__(self) -> None:
        """Begins at the beginning of a line."""
        self._held = b""  # what may be the beginning of something: CR, or a dot at the beginning of a line and on
        self._at_line_start = True
        self.ended = False
        """Whether the line that ends the message has come."""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What a piece holds of the message, and what follows the message in it.

        Raises:
            BareLineEndError: There is one.
        """
        data = self._held + data
        self._held = b""
        kept: list[bytes] = []
        position = 0
        while position < len(data):
            if self._at_line_start and data[position] == 0x2E:
                head = data[position : position + len(END)]
                if head == END:
                    self.ended = True
                    rest = data[position + len(END) :]
                    return self._checked(kept), rest
                if END.startswith(head):
                    self._held = head
                    break
                position += 1  # the dot that was put before the line
            end = data.find(b"\n.", position)
            stop = len(data) if end < 0 else end + 1
            self._at_line_start = data[stop - 1] == 0x0A
            if data[stop - 1] == 0x0D:
                stop -= 1
                self._held = b"\r"
            kept.append(data[position:stop])
            if self._held:
                break
            position = stop
        return self._checked(kept), b""

    @staticmethod
    def _checked(kept: list[bytes]) -> bytes:
        """All pieces end behind a whole CRLF or within a line, so line ends are whole in what is checked."""
        text = b"".join(kept)
        pairs = text.count(b"\r\n")
        if text.count(b"\r") != pairs or text.count(b"\n") != pairs:
            raise BareLineEndError
        return text


class MessageWriter:
    """Writes a message for a mail server, in pieces of any size."""

    def __init__(self) -> None:
        """Begins at the beginning of a line."""
        self._at_line_start = True

    def write(self, text: bytes) -> bytes:
        """A piece of the message with dots before the lines that begin with one."""
        if not text:
            return b""
        stuffed = text.replace(b"\n.", b"\n..")
        if self._at_line_start and text[0] == 0x2E:
            stuffed = b"." + stuffed
        self._at_line_start = text[-1] == 0x0A
        return stuffed
