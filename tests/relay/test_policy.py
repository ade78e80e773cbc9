"""What a tenant may send."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.api.sending import ForeignSender
from mailsettings.core.relay.addresses import parse_address
from mailsettings.core.relay.commands import Mail, Rcpt, parse_command
from mailsettings.core.relay.header import MAX_HEADER_OCTETS, HeaderError, authors, mailboxes
from mailsettings.core.relay.policy import (
    MessageGate,
    Policy,
    RefusedError,
    Rule,
    check_mail,
    check_rcpt,
)
from mailsettings.core.relay.rates import Buckets, RateLimit, parse_rate_limits

BODY = b"Subject: x\r\n\r\nhello\r\n"


def policy(**changes: Any) -> Policy:
    return Policy(**{"namespace": "acme", "mail_from": "Acme <no-reply@acme.example>", **changes})


def mail(line: str) -> Mail:
    command = parse_command(line.encode())
    assert isinstance(command, Mail)
    return command


def through(gate: MessageGate, *pieces: bytes) -> bytes:
    return b"".join(gate.feed(piece) for piece in pieces) + gate.end()


def refusal(rules: Policy, message: bytes, size: int = 1) -> RefusedError:
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    with pytest.raises(RefusedError) as error:
        through(MessageGate(rules, 1 << 20), *pieces)
    return error.value


class TestEnvelope:
    @pytest.mark.parametrize(
        ("patterns", "sender", "permitted"),
        [
            (None, "no-reply@acme.example", True),
            (None, "NO-REPLY@Acme.Example", True),
            (None, "ceo@acme.example", False),
            (None, "", False),
            (("*@{namespace}.example",), "ceo@acme.example", True),
            (("*@{namespace}.example",), "ceo@other.example", False),
            (("*@{namespace}.example",), "no-reply@acme.example.evil.example", False),
            (("{namespace}-*@mail.example",), "acme-1@mail.example", True),
            (("*",), "", False),
            (("*@*.example",), '"a@b"@acme.example', False),
            (("kim@acme.example",), "\u212aim@acme.example", False),
        ],
    )
    def test_the_sender(self, patterns: tuple[str, ...] | None, sender: str, *, permitted: bool) -> None:
        rules = policy(allowed_from=patterns)
        command = mail(f"MAIL FROM:<{sender}> SMTPUTF8")
        if permitted:
            assert check_mail(rules, command) == command
            return
        with pytest.raises(RefusedError) as error:
            check_mail(rules, command)
        assert error.value.rule is Rule.ALLOWED_FROM
        assert (error.value.reply.code, error.value.reply.enhanced) == (550, "5.7.1")
        assert "allowedFrom" in error.value.reply.text

    def test_a_foreign_sender_is_rewritten(self) -> None:
        rules = policy(foreign_sender=ForeignSender.REWRITE)
        found = check_mail(rules, mail("MAIL FROM:<ceo@acme.example> SIZE=5"))
        assert found == mail("MAIL FROM:<no-reply@acme.example> SIZE=5")

    def test_sending_is_blocked(self) -> None:
        with pytest.raises(RefusedError) as error:
            check_mail(policy(blocked=True), mail("MAIL FROM:<no-reply@acme.example>"))
        assert error.value.rule is Rule.SENDING

    def test_a_declared_size(self) -> None:
        command = mail("MAIL FROM:<no-reply@acme.example> SIZE=101")
        check_mail(policy(max_message_octets=101), command)
        with pytest.raises(RefusedError) as error:
            check_mail(policy(max_message_octets=100), command)
        assert (error.value.rule, error.value.reply.code) == (Rule.MAX_MESSAGE_SIZE, 552)

    @pytest.mark.parametrize(
        ("domains", "recipient", "permitted"),
        [
            (None, "a@anywhere.example", True),
            (("acme.example",), "a@ACME.example", True),
            (("acme.example",), "a@mail.acme.example", False),
            (("*.acme.example",), "a@mail.acme.example", True),
            (("*.acme.example",), "a@acme.example", False),
            (("acme.example",), "a@[192.0.2.1]", False),
            ((), "a@acme.example", False),
            (("acme.example",), "a%evil.example@acme.example", False),
            (("acme.example",), "evil.example!a@acme.example", False),
            (("acme.example",), '"a@evil.example"@acme.example', False),
            (("acme.example",), '"a\\@evil.example"@acme.example', False),
            (("acme.example",), '"a\\%evil.example"@acme.example', False),
            (("*",), "a%evil.example@acme.example", False),
            (("acme.example",), '"a b"@acme.example', True),
            (None, "a%evil.example@acme.example", True),
        ],
    )
    def test_recipients(self, domains: tuple[str, ...] | None, recipient: str, *, permitted: bool) -> None:
        rules = policy(recipient_domains=domains)
        if permitted:
            check_rcpt(rules, Rcpt(parse_address(recipient)))
            return
        with pytest.raises(RefusedError) as error:
            check_rcpt(rules, Rcpt(parse_address(recipient)))
        assert error.value.rule is Rule.RECIPIENT_DOMAINS


class TestHeader:
    @pytest.mark.parametrize(
        "header",
        [
            "From: no-reply@acme.example",
            "from:no-reply@acme.example",
            "FROM: Acme <NO-REPLY@acme.example>",
            'From: "Acme, Inc." <no-reply@acme.example>',
            "From: =?utf-8?q?=C3=84cme?= <no-reply@acme.example>",
            "From: Äcme Ünited <no-reply@acme.example>",
            "From: John Q. Public <no-reply@acme.example>",
            "From: no-reply@acme.example (Cron Daemon)",
            "From:\r\n Acme\r\n\t<no-reply@acme.example>",
            'From: "ceo@acme.example" <no-reply@acme.example>',
            "From: a <no-reply@acme.example>, no-reply@acme.example",
            "From: no-reply@acme.example\r\nSender: No Reply <no-reply@acme.example>",
            "Resent-From: no-reply@acme.example\r\nResent-From: no-reply@acme.example\r\nFrom: no-reply@acme.example",
        ],
    )
    @pytest.mark.parametrize("size", [1, 1000])
    def test_permitted(self, header: str, size: int) -> None:
        message = f"{header}\r\n".encode() + BODY
        pieces = [message[at : at + size] for at in range(0, len(message), size)]
        assert through(MessageGate(policy(), 1 << 20), *pieces) == message

    @pytest.mark.parametrize(
        "header",
        [
            "From: ceo@acme.example",
            "From: no-reply@acme.example <ceo@acme.example>",
            "From: no-reply@acme.example, ceo@acme.example",
            "From: no-reply@acme.example\r\nSender: ceo@acme.example",
            "From: no-reply@acme.example\r\nResent-From: ceo@acme.example",
            "From: no-reply@acme.example\r\nResent-Sender: ceo@acme.example",
            "Resent-From: no-reply@acme.example\r\nResent-From: a@b.example\r\nFrom: no-reply@acme.example",
            'From: "no-reply@acme.example" <ceo@acme.example>',
            "From: <no-reply@acme.example@evil.example>",
        ],
    )
    @pytest.mark.parametrize("size", [1, 1000])
    def test_foreign(self, header: str, size: int) -> None:
        found = refusal(policy(), f"{header}\r\n".encode() + BODY, size)
        assert found.rule in (Rule.ALLOWED_FROM, Rule.HEADER)

    @pytest.mark.parametrize(
        "header",
        [
            "To: a@b.example",
            "From: no-reply@acme.example\r\nFrom: ceo@acme.example",
            "From: no-reply@acme.example\r\nfROM: no-reply@acme.example",
            "From : no-reply@acme.example",
            "From: no-reply@acme.example\r\nno field\r\nX: y",
            " From: no-reply@acme.example",
            "From: no-reply@acme.example\r\nSender: no-reply@acme.example\r\nSender: a@b.example",
            "From: Team: no-reply@acme.example;",
            "From: no-reply@acme.example (<ceo@acme.example>)",
            "From: (a (b) c) no-reply@acme.example",
            "From:",
            "From: <>",
            "From: ,no-reply@acme.example",
            "From: no-reply@acme.example,",
            "From: no-reply@acme.example ceo@acme.example",
            "From: <no-reply@acme.example> <ceo@acme.example>",
            "From: no-reply@acme.example\0",
            "From: Acme <no-reply@acme.example",
            "From: a@b.example\udcff",
        ],
    )
    def test_what_cannot_be_told(self, header: str) -> None:
        found = refusal(policy(allowed_from=("*@*",)), header.encode("utf-8", "surrogateescape") + b"\r\n" + BODY)
        assert found.rule is Rule.HEADER
        assert (found.reply.code, found.reply.enhanced) == (554, "5.6.0")

    def test_a_message_that_is_all_header(self) -> None:
        message = b"From: no-reply@acme.example\r\n"
        assert through(MessageGate(policy(), 1000), message) == message
        assert refusal(policy(), b"").rule is Rule.HEADER
        assert refusal(policy(), b"\r\nFrom: no-reply@acme.example\r\n").rule is Rule.HEADER

    def test_a_header_is_bounded(self) -> None:
        start = b"From: no-reply@acme.example\r\nX: "
        fits = start + b"x" * (MAX_HEADER_OCTETS - len(start) - 4) + b"\r\n\r\n"
        assert through(MessageGate(policy(), 1 << 20), fits, b"body") == fits + b"body"
        assert refusal(policy(), b"X" + fits, 1000).rule is Rule.HEADER
        assert refusal(policy(), start + b"x" * (1 << 17), 1000).rule is Rule.HEADER

    def test_a_body_goes_on_as_it_comes(self) -> None:
        gate = MessageGate(policy(), 1 << 20)
        head = b"From: no-reply@acme.example\r\n\r\n"
        assert gate.feed(head[:-1]) == b""
        assert gate.feed(head[-1:]) == head
        assert gate.feed(b"\r\nFrom: ceo@acme.example\r\n") == b"\r\nFrom: ceo@acme.example\r\n"

    def test_a_foreign_author_is_rewritten(self) -> None:
        rules = policy(foreign_sender=ForeignSender.REWRITE)
        message = b"To: a@b.example\r\nFrom: The\r\n Boss <ceo@acme.example>\r\nSubject: x\r\n\r\nFrom: y\r\n"
        assert through(MessageGate(rules, 1000), message) == (
            b"To: a@b.example\r\nFrom: Acme <no-reply@acme.example>\r\nSubject: x\r\n\r\nFrom: y\r\n"
        )
        assert refusal(rules, b"From: a@b.example\r\nFrom: c@d.example\r\n\r\n").rule is Rule.HEADER

    @pytest.mark.parametrize("name", ["Sender", "Resent-From", "resent-sender"])
    @pytest.mark.parametrize("author", ["no-reply@acme.example", "ceo@acme.example"])
    def test_no_foreign_author_is_left(self, name: str, author: str) -> None:
        rules = policy(foreign_sender=ForeignSender.REWRITE)
        foreign = f"{name}: The\r\n Boss <ceo@bank.example>\r\n"
        message = f"{foreign}From: {author}\r\nTo: a@b.example\r\n{'' if name == 'Sender' else foreign}\r\nx\r\n"
        assert through(MessageGate(rules, 1000), message.encode()) == (
            b"From: Acme <no-reply@acme.example>\r\nTo: a@b.example\r\n\r\nx\r\n"
        )

    @pytest.mark.parametrize("rules", [policy(max_message_octets=100), policy()])
    def test_a_message_that_grows_too_large(self, rules: Policy) -> None:
        gate = MessageGate(rules, 200 if rules.max_message_octets is None else 1000)
        most = rules.max_message_octets or 200
        message = b"From: no-reply@acme.example\r\n\r\n"
        gate.feed(message)
        gate.feed(b"x" * (most - len(message)))
        with pytest.raises(RefusedError) as error:
            gate.feed(b"x")
        assert error.value.rule is Rule.MAX_MESSAGE_SIZE

    @given(st.text(st.sampled_from('a@b.<>",;:() \t\\[]ü'), max_size=20))
    def test_whatever_stands_there_has_addresses_or_is_refused(self, value: str) -> None:
        try:
            found = mailboxes(value.encode())
        except HeaderError:
            return
        assert found
        assert all(parse_address(each).text == each for each in found)

    @pytest.mark.parametrize("piece", ["a ", '"', "(", "a@", "a,", "()", "a.", '"" '])
    def test_no_header_takes_long(self, piece: str) -> None:
        """Within seconds on any machine; by a search that tries again it would be years."""
        begun = time.process_time()
        with pytest.raises(HeaderError):
            authors(f"From: {piece * 20_000}\r\n\r\n".encode())
        assert time.process_time() - begun < 5


class TestRates:
    def test_the_notation(self) -> None:
        assert parse_rate_limits("1000:60,10000:3600") == (RateLimit(1000, 60), RateLimit(10000, 3600))
        assert parse_rate_limits("") == ()

    @pytest.mark.parametrize("text", ["1000", "1000:", "0:60", "1:0", "1:60,", "a:b", "1:60 ,2:60", "-1:60"])
    def test_what_is_no_notation(self, text: str) -> None:
        with pytest.raises(ValueError, match="COUNT:SECONDS"):
            parse_rate_limits(text)

    def test_a_bucket_empties_and_fills_evenly(self) -> None:
        buckets = Buckets(parse_rate_limits("2:10"), 0)
        assert buckets.take(0) is None
        assert buckets.take(0) is None
        assert buckets.take(0) == RateLimit(2, 10)
        assert buckets.take(4.9) == RateLimit(2, 10)
        assert buckets.take(5) is None
        assert buckets.take(5) == RateLimit(2, 10)
        assert buckets.take(1000) is None

    def test_all_limits_hold_and_a_refusal_takes_nothing(self) -> None:
        buckets = Buckets(parse_rate_limits("1:1,3:100"), 0)
        taken = [buckets.take(second) for second in range(4)]
        assert taken == [None, None, None, RateLimit(3, 100)]
        assert buckets.take(35) is None

    @given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 3)), max_size=80), st.integers(1, 5), st.integers(1, 10))
    def test_replicas_together_have_a_bucket_or_one_message_each(
        self, steps: list[tuple[float, int]], capacity: int, period: int
    ) -> None:
        """What docs/relay.md says of the worst overshoot."""
        replicas = [Buckets([RateLimit(capacity, period)], 0) for _ in range(4)]
        now, passed = 0.0, 0
        for gap, number in steps:
            now += gap
            passed += replicas[number].take(now, replicas=4) is None
        assert passed <= max(capacity, 4) + now * capacity / period + 1e-6

    @given(st.lists(st.floats(0, 5), max_size=60), st.integers(1, 5), st.integers(1, 10))
    def test_never_more_than_the_bucket_and_what_flows_in(self, gaps: list[float], capacity: int, period: int) -> None:
        buckets, now, taken = Buckets([RateLimit(capacity, period)], 0), 0.0, 0
        for gap in gaps:
            now += gap
            taken += buckets.take(now) is None
        assert taken <= capacity + now * capacity / period + 1e-6
