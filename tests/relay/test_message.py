"""The message's stream: where it ends, and that nothing else ends it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.core.relay.message import END, BareLineEndError, MessageParser, MessageWriter

LINES = st.lists(
    st.binary(max_size=12).map(lambda line: re.sub(rb"[\r\n]", b"", line)) | st.just(b".") | st.just(b"..")
)
CUTS = st.lists(st.integers(1, 7), min_size=1, max_size=8)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data in pieces of these sizes, again and again."""
    found: list[bytes] = []
    position = 0
    while position < len(data):
        size = cuts[len(found) % len(cuts)]
        found.append(data[position : position + size])
        position += size
    return found


def parse(data: bytes, cuts: list[int]) -> tuple[bytes, bytes, bool]:
    parser, text, rest = MessageParser(), b"", b""
    for piece in pieces(data, cuts):
        if parser.ended:
            rest += piece
            continue
        found, rest = parser.feed(piece)
        text += found
    return text, rest, parser.ended


def naive(data: bytes) -> tuple[bytes, bytes] | None:
    """What RFC 5321 says, with all of the data in hand; None: there is no end, or a bare CR or LF before it."""
    lines: list[bytes] = []
    rest = data
    while True:
        line, separator, rest = rest.partition(b"\r\n")
        if not separator or b"\r" in line or b"\n" in line:
            return None
        if line == b".":
            return b"".join(lines), rest
        lines.append(line.removeprefix(b".") + b"\r\n")


@given(LINES, CUTS, CUTS, st.binary(max_size=20))
def test_what_is_written_is_read_again(lines: list[bytes], cuts: list[int], cuts_read: list[int], after: bytes) -> None:
    message = b"".join(line + b"\r\n" for line in lines)
    writer = MessageWriter()
    wire = b"".join(writer.write(piece) for piece in pieces(message, cuts)) + END
    assert parse(wire + after, cuts_read) == (message, after, True)


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n", b"\r\n.\r\n"])).map(b"".join), CUTS)
def test_it_reads_what_the_rfc_says_or_nothing(data: bytes, cuts: list[int]) -> None:
    expected = naive(data)
    try:
        text, rest, ended = parse(data, cuts)
    except BareLineEndError:
        assert expected is None
        return
    if expected is None:
        assert not ended
    else:
        assert (text, rest, ended) == (*expected, True)


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n", b"\r\n.\r\n"])).map(b"".join), CUTS)
def test_what_goes_on_has_one_end_for_every_reader(data: bytes, cuts: list[int]) -> None:
    """However a mail server takes CR and LF: by the loosest reading too, the message ends where it was ended."""
    parser, writer, wire = MessageParser(), MessageWriter(), b""
    try:
        for piece in pieces(data, cuts):
            if not parser.ended:
                wire += writer.write(parser.feed(piece)[0])
    except BareLineEndError:
        pass
    ends = r"(?:^|\r\n|\r|\n)\.(?:\r\n|\r|\n)"
    assert re.search(ends.encode(), wire) is None


@pytest.mark.parametrize(
    "smuggled",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r\n.\r",
        b"\r\n.\n",
        b"\r\n\r.\r\n",
        b"\r\r\n.\r\n",
        b"\n\r.\n\r",
        b"\r\n.\r\r\n",
        b"\r\n.\n\r\n",
        b"\r\n.\rx\r\n",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_smuggling_is_refused(smuggled: bytes, size: int) -> None:
    """Source: SEC Consult, SMTP Smuggling, 2023."""
    wire = b"From: a@acme.example\r\n\r\nhello" + smuggled + b"MAIL FROM:<ceo@acme.example>\r\n" + b"\r\n" + END
    with pytest.raises(BareLineEndError):
        parse(wire, [size])


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b".x\r\n.\r\n", b"x\r\n"),
        (b"...\r\n..\r\n.\r\n", b"..\r\n.\r\n"),
        (b"a.\r\n.\r\n", b"a.\r\n"),
    ],
)
def test_dots(wire: bytes, message: bytes) -> None:
    assert parse(wire, [1]) == (message, b"", True)
    assert parse(wire, [100]) == (message, b"", True)


def test_it_holds_back_next_to_nothing() -> None:
    parser = MessageParser()
    fed = kept = 0
    for piece in (b"abc", b"d\r", b"\n", b".", b"\r"):
        fed += len(piece)
        kept += len(parser.feed(piece)[0])
        assert fed - kept <= 2
