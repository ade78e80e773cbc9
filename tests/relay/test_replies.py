"""Replies of mail servers, however they come."""

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.core.relay.replies import MAX_REPLY_OCTETS, ReplyError, ReplyReader


class TestReplyReader:
    @staticmethod
    def read(*pieces: bytes) -> list[tuple[int, str]]:
        reader, found = ReplyReader(), []
        for piece in pieces:
            reader.feed(piece)
            while (reply := reader.next_reply()) is not None:
                found.append(reply)
        return found

    @pytest.mark.parametrize(
        ("data", "replies"),
        [
            (b"250 2.0.0 ok\r\n", [(250, "2.0.0 ok")]),
            (b"250-mail\r\n250-SIZE 5\r\n250 DSN\r\n354 go\r\n", [(250, "mail\nSIZE 5\nDSN"), (354, "go")]),
            (b"250\r\n", [(250, "")]),
            (b"250 \r\n", [(250, "")]),
            (b"220 only a line feed\n", [(220, "only a line feed")]),
            (b"250 gr\xc3\xbc\xff\r\n", [(250, "grü\udcff")]),
            (b"250 ok", []),
            (b"250-ok\r\n", []),
        ],
    )
    @given(cuts=st.sets(st.integers(0, 60)))
    def test_however_they_are_cut(self, data: bytes, replies: list[tuple[int, str]], cuts: set[int]) -> None:
        edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
        assert self.read(*(data[begin:end] for begin, end in pairwise(edges))) == replies

    @pytest.mark.parametrize(
        "data",
        [
            b"what?\r\n",
            b"\r\n",
            b"25 ok\r\n",
            b"2500 ok\r\n",
            b"150 ok\r\n",
            b"650 ok\r\n",
            b"250_ok\r\n",
            b"250-ok\r\n550 no\r\n",
            pytest.param(b"250 " + b"x" * MAX_REPLY_OCTETS, id="long"),
            pytest.param(b"250-x\r\n" * (MAX_REPLY_OCTETS // 5 + 1), id="many"),
        ],
    )
    def test_what_is_no_reply(self, data: bytes) -> None:
        with pytest.raises(ReplyError):
            self.read(data)

    @given(st.lists(st.binary(max_size=50)))
    def test_nothing_breaks_it(self, pieces: list[bytes]) -> None:
        with contextlib.suppress(ReplyError):
            for code, text in self.read(*pieces):
                assert 200 <= code < 600
                assert "\r\n" not in text
