"""A client's session, without a socket."""

import base64
import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.core.relay.commands import MAX_AUTH_OCTETS, MAX_COMMAND_OCTETS
from mailsettings.core.relay.login import Presented
from mailsettings.core.relay.replies import Reply
from mailsettings.core.relay.session import (
    Body,
    Close,
    EndOfBody,
    Limits,
    LogIn,
    MailFrom,
    Phase,
    RcptTo,
    Reset,
    Say,
    Session,
    Upgrade,
)

LIMITS = Limits()
OK = Reply(250, "ok", "2.0.0")


def b64(text: str) -> bytes:
    return base64.b64encode(text.encode())


@dataclass
class Driver:
    """Answers what a session asks: yes, where nothing else is said."""

    session: Session
    answers: dict[type, Reply] = field(default_factory=dict)
    password: str = "secret"
    said: list[Reply] = field(default_factory=list)
    logins: list[Presented] = field(default_factory=list)
    senders: list[str] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    body: bytes = b""
    mails: list[bytes] = field(default_factory=list)
    resets: int = 0

    def send(self, data: bytes) -> list[int]:
        """The codes of the replies to it."""
        before = len(self.said)
        self.session.feed(data)
        while (event := self.session.next_event()) is not None:
            match event:
                case Say(reply) | Close(reply):
                    self.said.append(reply)
                case Upgrade(reply):
                    self.said.append(reply)
                    self.session.upgraded()
                case LogIn(presented):
                    self._log_in(presented)
                case MailFrom(mail):
                    self.senders.append(mail.sender.text)
                    self.session.answer(self.answers.get(MailFrom, OK))
                case RcptTo(rcpt):
                    self.recipients.append(rcpt.recipient.text)
                    self.session.answer(self.answers.get(RcptTo, OK))
                case Body(piece):
                    self.body += piece
                case EndOfBody():
                    self.mails.append(self.body)
                    self.body = b""
                    self.session.answer(self.answers.get(EndOfBody, OK))
                case Reset():
                    self.resets += 1
        return [reply.code for reply in self.said[before:]]

    def _log_in(self, presented: Presented) -> None:
        self.logins.append(presented)
        if LogIn in self.answers:
            self.session.answer(self.answers[LogIn])
        elif presented.secret == self.password:
            self.session.logged_in()
        else:
            self.session.login_refused()

    @property
    def closed(self) -> bool:
        return self.session.phase is Phase.CLOSED


def driver(*, encrypted: bool = True, logged_in: bool = True, limits: Limits = LIMITS) -> Driver:
    found = Driver(Session("relay.svc", encrypted=encrypted, limits=limits))
    if logged_in:
        assert found.send(b"EHLO app\r\n") == [250]
        assert found.send(b"AUTH PLAIN " + b64("\0acme.x\0secret") + b"\r\n") == [235]
    return found


class TestOrder:
    @pytest.mark.parametrize("line", [b"NOOP", b"VRFY x", b"RSET", b"RCPT TO:<c@d.example>"])
    def test_commands_that_lead_to_no_message_are_bounded(self, line: bytes) -> None:
        relay = driver(limits=Limits(commands_per_message=6))
        whole = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
        for _ in range(3):  # each message begins the count anew
            assert relay.send(b"NOOP\r\n" * 3 + whole)[-1] == 354
            assert relay.send(b".\r\n") == [250]
        assert relay.send(b"MAIL FROM:<a@b.example>\r\n") == [250]
        relay.answers[RcptTo] = Reply(550, "no", "5.1.1")
        codes = relay.send((line + b"\r\n") * 9)
        assert len(codes) == 6
        assert codes[-1] == 421
        assert relay.closed
        assert relay.resets == 1

    def test_a_mail(self) -> None:
        relay = driver()
        assert relay.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n") == [250, 250, 354]
        assert relay.send(b"From: a@b.example\r\n\r\n..\r\n.\r\nMAIL FROM:<e@b.example>\r\n") == [250, 250]
        assert relay.mails == [b"From: a@b.example\r\n\r\n.\r\n"]
        assert (relay.senders, relay.recipients) == (["a@b.example", "e@b.example"], ["c@d.example"])
        assert relay.send(b"QUIT\r\n") == [221]
        assert relay.closed
        assert relay.resets == 1

    def test_what_is_offered(self) -> None:
        relay = driver(encrypted=False, logged_in=False)
        assert relay.session.greeting.encode() == b"220 relay.svc ESMTP\r\n"
        relay.send(b"EHLO app\r\n")
        plain = relay.said[-1].text.split("\n")
        assert {"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "STARTTLS"} <= {*plain}
        assert "SIZE 36700160" in plain
        assert not any(word.startswith("AUTH") for word in plain)
        assert relay.send(b"STARTTLS\r\n") == [220]
        relay.send(b"EHLO app\r\n")
        encrypted = relay.said[-1].text.split("\n")
        assert "AUTH PLAIN LOGIN XOAUTH2 OAUTHBEARER" in encrypted
        assert "STARTTLS" not in encrypted

    @pytest.mark.parametrize("verb", [b"MAIL FROM:<a@b.example>", b"RCPT TO:<a@b.example>", b"DATA"])
    def test_nothing_is_sent_without_a_login(self, verb: bytes) -> None:
        for encrypted in (True, False):
            relay = driver(encrypted=encrypted, logged_in=False)
            assert relay.send(verb + b"\r\n") == [503]
            assert relay.send(b"EHLO app\r\n") == [250]
            assert relay.send(verb + b"\r\n") == [530]
        assert (relay.senders, relay.recipients, relay.mails) == ([], [], [])

    def test_no_login_without_tls(self) -> None:
        relay = driver(encrypted=False, logged_in=False)
        assert relay.send(b"EHLO app\r\n") == [250]
        assert relay.send(b"AUTH PLAIN " + b64("\0acme.x\0secret") + b"\r\n") == [538]
        assert relay.logins == []

    def test_tls_forgets_what_was_said_before(self) -> None:
        relay = driver(encrypted=False, logged_in=False)
        relay.send(b"EHLO app\r\n")
        assert relay.send(b"STARTTLS\r\n") == [220]
        assert relay.send(b"AUTH PLAIN " + b64("\0acme.x\0secret") + b"\r\n") == [503]
        assert relay.send(b"STARTTLS\r\n") == [503]
        relay.send(b"EHLO app\r\n")
        assert relay.send(b"STARTTLS\r\n") == [503]

    @pytest.mark.parametrize(
        ("lines", "codes"),
        [
            (b"RCPT TO:<a@b.example>\r\n", [503]),
            (b"DATA\r\n", [503]),
            (b"MAIL FROM:<a@b.example>\r\nMAIL FROM:<a@b.example>\r\n", [250, 503]),
            (b"MAIL FROM:<a@b.example>\r\nDATA\r\n", [250, 554]),
            (b"MAIL FROM:<a@b.example>\r\nRSET\r\nRCPT TO:<a@b.example>\r\n", [250, 250, 503]),
            (b"MAIL FROM:<a@b.example>\r\nEHLO app\r\n", [250, 250]),
            (b"MAIL FROM:<a@b.example>\r\nAUTH PLAIN\r\n", [250, 503]),
            (b"AUTH PLAIN\r\n", [503]),
            (b"MAIL FROM:<a@b.example> SIZE=99999999\r\n", [552]),
            ("MAIL FROM:<a@b.example>\r\nRCPT TO:<ü@b.example>\r\n".encode(), [250, 553]),
            ("MAIL FROM:<a@b.example> SMTPUTF8\r\nRCPT TO:<ü@b.example>\r\n".encode(), [250, 250]),
        ],
    )
    def test_orders(self, lines: bytes, codes: list[int]) -> None:
        assert driver().send(lines) == codes

    def test_helo_has_no_parameters(self) -> None:
        relay = driver()
        assert relay.send(b"HELO app\r\n") == [250]
        assert relay.said[-1] == Reply(250, "relay.svc")
        assert relay.send(b"MAIL FROM:<a@b.example> BODY=8BITMIME\r\n") == [555]
        assert relay.send(b"MAIL FROM:<a@b.example>\r\n") == [250]

    def test_recipients_that_are_refused_are_no_recipients(self) -> None:
        relay = driver()
        relay.answers[RcptTo] = Reply(550, "no such user", "5.1.1")
        assert relay.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n") == [250, 550, 554]

    def test_the_number_of_recipients_is_bounded(self) -> None:
        relay = driver(limits=Limits(recipients=2))
        relay.send(b"MAIL FROM:<a@b.example>\r\n")
        assert relay.send(b"RCPT TO:<c@d.example>\r\n" * 3) == [250, 250, 452]

    def test_an_answer_of_421_ends_the_session(self) -> None:
        relay = driver()
        relay.answers[MailFrom] = Reply(421, "bye", "4.3.2")
        assert relay.send(b"MAIL FROM:<a@b.example>\r\nNOOP\r\n") == [421]
        assert relay.closed


class TestSmuggling:
    @pytest.mark.parametrize("line", [b"NOOP\n", b"NO\rOP\r\n", b"\n", b"NOOP\r\r\n", b"NOOP\n\r\n"])
    def test_lines_end_by_crlf_alone(self, line: bytes) -> None:
        relay = driver()
        assert relay.send(line + b"NOOP\r\n") == [521]
        assert relay.closed

    @pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n", b"\r.\r"])
    def test_nothing_follows_a_message_that_has_another_end(self, end: bytes) -> None:
        relay = driver()
        relay.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
        codes = relay.send(b"hello" + end + b"MAIL FROM:<ceo@b.example>\r\n")
        assert codes == [521]
        assert relay.closed
        assert relay.senders == ["a@b.example"]
        assert relay.mails == []

    @pytest.mark.parametrize("group", [b"DATA\r\n.\r\n", b"AUTH PLAIN\r\nx", b"EHLO b\r\nNOOP\r\n"])
    def test_nobody_is_ahead_of_what_decides(self, group: bytes) -> None:
        relay = driver()
        relay.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n")
        assert relay.send(group) == [554]
        assert relay.closed

    def test_nothing_is_injected_before_tls(self) -> None:
        """Source: RFC 3207 §4.2, CVE-2011-0411."""
        relay = driver(encrypted=False, logged_in=False)
        relay.send(b"EHLO app\r\n")
        assert relay.send(b"STARTTLS\r\nEHLO evil\r\n") == [554]
        assert relay.closed

    def test_what_comes_while_tls_begins_is_forgotten(self) -> None:
        session = Session("relay.svc", encrypted=False, limits=LIMITS)
        session.feed(b"EHLO app\r\n")
        assert isinstance(session.next_event(), Say)
        session.feed(b"STARTTLS\r\n")
        assert isinstance(session.next_event(), Upgrade)
        session.feed(b"EHLO evil\r\n")
        session.upgraded()
        assert session.next_event() is None

    def test_lines_are_bounded(self) -> None:
        relay = driver()
        assert relay.send(b"NOOP " + b"x" * (MAX_COMMAND_OCTETS - 7) + b"\r\n") == [250]
        assert relay.send(b"NOOP " + b"x" * (MAX_COMMAND_OCTETS - 6) + b"\r\n") == [500]
        assert relay.closed
        endless = driver()
        assert endless.send(b"x" * (MAX_AUTH_OCTETS + 1)) == [500]
        assert endless.closed

    def test_a_browser_is_sent_away(self) -> None:
        relay = driver(logged_in=False)
        assert relay.send(b"POST / HTTP/1.1\r\nHost: relay\r\n\r\nEHLO x\r\n") == [500]
        assert relay.closed


class TestLogin:
    @pytest.mark.parametrize(
        "lines",
        [
            [b"AUTH PLAIN " + b64("\0acme.x\0secret")],
            [b"auth plain " + b64("acme.x\0acme.x\0secret")],
            [b"AUTH PLAIN", b64("\0acme.x\0secret")],
            [b"AUTH LOGIN", b64("acme.x"), b64("secret")],
            [b"AUTH login " + b64("acme.x"), b64("secret")],
            [b"AUTH XOAUTH2 " + b64("user=acme.x\x01auth=Bearer secret\x01\x01")],
            [b"AUTH xoauth2", b64("user=acme.x\x01auth=bearer secret\x01\x01")],
            [b"AUTH OAUTHBEARER " + b64("n,a=acme.x,\x01host=relay\x01port=587\x01auth=Bearer secret\x01\x01")],
            [b"AUTH OAUTHBEARER", b64("n,a=acme.x,\x01auth=Bearer secret\x01\x01")],
        ],
    )
    def test_mechanisms(self, lines: list[bytes]) -> None:
        relay = driver(logged_in=False)
        relay.send(b"EHLO app\r\n")
        codes = [code for line in lines for code in relay.send(line + b"\r\n")]
        assert codes == [334] * (len(lines) - 1) + [235]
        is_token = b"BEARER" in lines[0].upper() or b"XOAUTH2" in lines[0].upper()
        assert relay.logins == [Presented("acme.x", "secret", is_token)]
        assert relay.session.authenticated

    def test_the_challenges_of_login(self) -> None:
        relay = driver(logged_in=False)
        relay.send(b"EHLO app\r\n")
        relay.send(b"AUTH LOGIN\r\n")
        relay.send(b64("acme.x") + b"\r\n")
        assert [reply.text for reply in relay.said[-2:]] == ["VXNlcm5hbWU6", "UGFzc3dvcmQ6"]

    @pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "XOAUTH2"])
    @pytest.mark.parametrize("initial", [True, False])
    def test_long_secrets(self, mechanism: str, *, initial: bool) -> None:
        """A ServiceAccount's token has 1 KiB and more, and some have 8."""
        relay = driver(logged_in=False)
        relay.password = "t" * 8000
        relay.send(b"EHLO app\r\n")
        whole = {
            "PLAIN": [b64(f"\0acme.x\0{relay.password}")],
            "LOGIN": [b64("acme.x"), b64(relay.password)],
            "XOAUTH2": [b64(f"user=acme.x\x01auth=Bearer {relay.password}\x01\x01")],
        }[mechanism]
        lines = [b"AUTH " + mechanism.encode(), *whole]
        if initial:
            lines[:2] = [lines[0] + b" " + lines[1]]
        codes = [code for line in lines for code in relay.send(line + b"\r\n")]
        assert codes[-1] == 235

    def test_a_response_is_bounded(self) -> None:
        relay = driver(logged_in=False)
        relay.send(b"EHLO app\r\nAUTH PLAIN\r\n"[:10])
        relay.send(b"AUTH PLAIN\r\n")
        assert relay.send(b"A" * (MAX_AUTH_OCTETS - 1) + b"\r\n") == [500]
        assert relay.closed

    @pytest.mark.parametrize(
        "line",
        [
            b"AUTH PLAIN " + b64("acme.x\0secret"),
            b"AUTH PLAIN " + b64("root\0acme.x\0secret"),
            b"AUTH PLAIN " + b64("\0acme.x\0"),
            b"AUTH PLAIN " + b64("\0\0secret"),
            b"AUTH PLAIN " + b64("\0acme\r\n.x\0secret"),
            b"AUTH PLAIN =",
            b"AUTH PLAIN !!!!",
            b"AUTH PLAIN " + base64.b64encode(b"\0\xff\0x"),
            b"AUTH XOAUTH2 " + b64("user=acme.x\x01auth=Basic secret\x01\x01"),
            b"AUTH OAUTHBEARER " + b64("n,a=acme.x,\x01auth=Bearer a\x01auth=Bearer b\x01\x01"),
            b"AUTH OAUTHBEARER " + b64("p=tls,a=acme.x,\x01auth=Bearer a\x01\x01"),
        ],
    )
    def test_what_is_malformed(self, line: bytes) -> None:
        relay = driver(logged_in=False)
        relay.send(b"EHLO app\r\n")
        assert relay.send(line + b"\r\n") == [501]
        assert relay.logins == []
        assert not relay.session.authenticated

    def test_unknown_mechanisms_and_cancelled_logins(self) -> None:
        relay = driver(logged_in=False)
        relay.send(b"EHLO app\r\n")
        assert relay.send(b"AUTH CRAM-MD5\r\n") == [504]
        relay.send(b"AUTH LOGIN\r\n")
        assert relay.send(b"*\r\n") == [501]
        assert relay.send(b"NOOP\r\n") == [250]

    def test_wrong_passwords(self) -> None:
        relay = driver(logged_in=False, limits=Limits(logins=2))
        relay.send(b"EHLO app\r\n")
        wrong = b"AUTH PLAIN " + b64("\0acme.x\0wrong") + b"\r\n"
        assert relay.send(wrong) == [535]
        assert relay.send(b"MAIL FROM:<a@b.example>\r\n") == [530]
        assert relay.send(wrong) == [535]
        assert relay.closed

    @pytest.mark.parametrize("acknowledgement", [b"", b"AQ==", b"*"])
    def test_wrong_tokens_are_refused_by_a_challenge_first(self, acknowledgement: bytes) -> None:
        relay = driver(logged_in=False)
        relay.send(b"EHLO app\r\n")
        line = b"AUTH XOAUTH2 " + b64("user=acme.x\x01auth=Bearer wrong\x01\x01") + b"\r\n"
        assert relay.send(line) == [334]
        assert b"invalid_token" in base64.b64decode(relay.said[-1].text)
        assert relay.send(acknowledgement + b"\r\n") == [535]
        assert relay.send(b"NOOP\r\n") == [250]

    def test_a_login_that_cannot_be_judged(self) -> None:
        relay = driver(logged_in=False)
        relay.answers[LogIn] = Reply(454, "try again", "4.7.0")
        relay.send(b"EHLO app\r\n")
        assert relay.send(b"AUTH PLAIN " + b64("\0acme.x\0secret") + b"\r\n") == [454]
        assert not relay.session.authenticated

    def test_secrets_are_in_no_representation(self) -> None:
        relay = driver()
        assert "secret" not in repr(relay.logins)


class TestBounds:
    def test_errors(self) -> None:
        relay = driver(limits=Limits(errors=3))
        assert relay.send(b"FOO\r\n" * 5) == [500, 500, 421]
        assert relay.closed

    def test_commands_before_the_login(self) -> None:
        relay = driver(logged_in=False, limits=Limits(commands_before_login=3))
        assert relay.send(b"NOOP\r\n" * 6) == [250, 250, 250, 421]
        assert relay.closed
        assert 421 not in driver(limits=Limits(commands_before_login=3)).send(b"NOOP\r\n" * 9)


WORDS = [
    b"EHLO a\r\n",
    b"STARTTLS\r\n",
    b"AUTH PLAIN " + b64("\0acme.x\0secret") + b"\r\n",
    b"AUTH PLAIN " + b64("\0acme.x\0wrong") + b"\r\n",
    b"AUTH LOGIN\r\n",
    b64("acme.x") + b"\r\n",
    b64("secret") + b"\r\n",
    b"MAIL FROM:<a@b.example>\r\n",
    b"RCPT TO:<c@d.example>\r\n",
    b"DATA\r\n",
    b".\r\n",
    b"..\r\n",
    b"hello\r\n",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"QUIT\r\n",
    b"\n",
    b"\r",
    b".",
    b"\xff",
]


class TestAnySession:
    @given(st.lists(st.sampled_from(WORDS), max_size=30), st.booleans())
    def test_nothing_is_sent_unless_somebody_is_known(self, words: list[bytes], encrypted: bool) -> None:
        relay = driver(encrypted=encrypted, logged_in=False)
        for word in words:
            known = relay.session.authenticated
            before = (len(relay.senders), len(relay.mails))
            relay.send(word)
            if not known:
                assert (len(relay.senders), len(relay.mails)) == before

    @given(st.lists(st.sampled_from(WORDS), max_size=30), st.lists(st.integers(1, 9), min_size=1, max_size=5))
    def test_it_matters_not_in_which_pieces_it_comes(self, words: list[bytes], cuts: list[int]) -> None:
        """Except that one may be ahead of an answer: what is sent word by word is the same octet by octet."""
        whole, pieces = driver(), driver()
        for word in words:
            whole.send(word)
            position = 0
            for size in itertools.cycle(cuts):
                if position >= len(word):
                    break
                pieces.send(word[position : position + size])
                position += size
        assert [reply.code for reply in pieces.said] == [reply.code for reply in whole.said]
        assert pieces.mails == whole.mails
        assert pieces.senders == whole.senders

    @given(st.binary(max_size=300))
    def test_no_octets_break_it(self, data: bytes) -> None:
        for relay in (driver(), driver(logged_in=False)):
            relay.send(data)
            assert len(relay.session._buffer) <= len(data)
