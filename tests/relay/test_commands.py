"""The grammar of commands, and what goes on to mail servers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.core.relay.addresses import EnvelopeAddress
from mailsettings.core.relay.commands import (
    Auth,
    CommandError,
    Data,
    Hello,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    mail_line,
    parse_command,
    rcpt_line,
)

ALL = frozenset({"size", "8bitmime", "smtputf8", "dsn"})
SENDER = EnvelopeAddress("no-reply", "acme.example")


def refused(line: bytes) -> int:
    with pytest.raises(CommandError) as error:
        parse_command(line)
    return error.value.reply.code


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"EHLO app.acme.svc", Hello(extended=True)),
        (b"ehlo [127.0.0.1]", Hello(extended=True)),
        (b"EHLO [IPv6:::1]", Hello(extended=True)),
        (b"HELO localhost", Hello(extended=False)),
        (b"STARTTLS", StartTls()),
        (b"DATA", Data()),
        (b"data ", Data()),
        (b"RSET", Rset()),
        (b"QUIT", Quit()),
        (b"AUTH plain", Auth("PLAIN", None)),
        (b"AUTH LOGIN bm8=", Auth("LOGIN", b"bm8=")),
        (b"MAIL FROM:<no-reply@acme.example>", Mail(SENDER)),
        (b"mail from:<no-reply@acme.example>", Mail(SENDER)),
        (b"MAIL FROM:<>", Mail(EnvelopeAddress("", ""))),
        (b"MAIL FROM:<no-reply@acme.example> SIZE=12", Mail(SENDER, size=12)),
        (b"MAIL FROM:<no-reply@acme.example> body=8bitmime", Mail(SENDER, body_8bit=True)),
        (b"MAIL FROM:<no-reply@acme.example> BODY=7BIT AUTH=<>", Mail(SENDER)),
        (
            b"MAIL FROM:<no-reply@acme.example> RET=hdrs ENVID=QQ+2B1",
            Mail(SENDER, dsn=("RET=HDRS", "ENVID=QQ+2B1")),
        ),
        (
            "MAIL FROM:<jörg@acme.example> SMTPUTF8".encode(),
            Mail(EnvelopeAddress("jörg", "acme.example"), smtputf8=True),
        ),
        (b'RCPT TO:<"a b>"@acme.example>', Rcpt(EnvelopeAddress('"a b>"', "acme.example"))),
        (b"RCPT TO:<a@[192.0.2.1]>", Rcpt(EnvelopeAddress("a", "[192.0.2.1]"))),
        (b"RCPT TO:<a@[IPv6:2001:db8::1]>", Rcpt(EnvelopeAddress("a", "[IPv6:2001:db8::1]"))),
        (
            b"RCPT TO:<a@b.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@b.example",
            Rcpt(EnvelopeAddress("a", "b.example"), ("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;a+2Bb@b.example")),
        ),
    ],
)
def test_commands(line: bytes, command: object) -> None:
    assert parse_command(line) == command


@pytest.mark.parametrize("line", [b"NOOP", b"NOOP what ever", b"VRFY root", b"HELP", b"EXPN staff", b"BDAT 10 LAST"])
def test_commands_that_change_nothing(line: bytes) -> None:
    assert isinstance(parse_command(line), Noop)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", 500),
        (b"FOO", 500),
        (b" MAIL FROM:<a@b.example>", 500),
        (b"EHLO", 501),
        (b"EHLO a b", 501),
        (b"DATA now", 501),
        (b"AUTH", 501),
        (b"AUTH PLAIN a b", 501),
        (b"MAIL FROM:a@b.example", 501),
        (b"MAIL FROM: <a@b.example>", 501),
        (b"MAIL FROM:<a@b.example>SIZE=1", 501),
        (b"MAIL FROM:<a@b.example> SIZE=", 501),
        (b"MAIL FROM:<a@b.example> SIZE=-1", 501),
        (b"MAIL FROM:<a@b.example> SIZE=1 SIZE=2", 501),
        (b"MAIL FROM:<a@b.example> BODY=BINARYMIME", 501),
        (b"MAIL FROM:<a@b.example> XCLIENT=1", 555),
        (b"MAIL FROM:<a@b.example> RET=ALL", 501),
        (b"MAIL FROM:<a@b.example> ENVID=a=b", 501),
        ("MAIL FROM:<jörg@b.example>".encode(), 553),
        (b"MAIL FROM:<@hop.example:a@b.example>", 501),
        (b"MAIL FROM:<a@b.example", 501),
        (b"MAIL FROM:<a>", 501),
        (b"MAIL FROM:<a@b..example>", 501),
        (b"MAIL FROM:<.a@b.example>", 501),
        (b"MAIL FROM:<a@b.example><c@d.example>", 501),
        (b"RCPT TO:<>", 501),
        (b"RCPT TO:<a@-b.example>", 501),
        (b"RCPT TO:<a@[1.2.3]>", 501),
        (b"RCPT TO:<a@[IPv6:fe80::1%eth0]>", 501),
        (b"RCPT TO:<" + b"a" * 65 + b"@b.example>", 501),
        (b"RCPT TO:<a@" + b"b" * 64 + b".example>", 501),
        (b"RCPT TO:<a@b.example> NOTIFY=NEVER,SUCCESS", 501),
        (b"RCPT TO:<a@b.example> ORCPT=x", 501),
        (b"NOOP \x00", 500),
        (b"MAIL FROM:<a\x0b@b.example>", 500),
        (b"NOOP \xff", 500),
        ("RCPT TO:<a\u2028b@b.example>".encode(), 501),
        ("RCPT TO:<a\u0085b@b.example>".encode(), 501),
    ],
)
def test_what_is_no_command(line: bytes, code: int) -> None:
    assert refused(line) == code


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"connect a:25"])
def test_browsers_are_told_from_clients(line: bytes) -> None:
    with pytest.raises(CommandError) as error:
        parse_command(line)
    assert error.value.hostile


@given(st.binary(max_size=80))
def test_any_line_is_a_command_or_refused(line: bytes) -> None:
    try:
        parse_command(line)
    except CommandError as error:
        refusal = error.reply
    else:
        return
    assert 500 <= refusal.code <= 559


PATHS = st.text(st.sampled_from('ab.@"<>\\ \r\n\t=ü[]:,()\u2028'), max_size=14)


@given(PATHS, st.text(st.sampled_from("SIZE=1 BODY8MT\r\n<>"), max_size=12))
def test_nothing_can_be_injected_into_what_goes_on(path: str, parameters: str) -> None:
    """What was parsed is written anew: it is one line and gives the same command again."""
    for verb in ("MAIL FROM", "RCPT TO"):
        line = f"{verb}:<{path}> {parameters}".rstrip(" ").encode()
        try:
            command = parse_command(line)
        except CommandError:
            continue
        assert isinstance(command, Mail | Rcpt)
        again = mail_line(command, ALL) if isinstance(command, Mail) else rcpt_line(command, ALL)
        assert b"\r" not in again
        assert b"\n" not in again
        assert parse_command(again) == command


def test_a_server_is_told_only_what_it_knows() -> None:
    mail = Mail(SENDER, size=5, body_8bit=True, dsn=("RET=HDRS",))
    rcpt = Rcpt(SENDER, ("NOTIFY=NEVER",))
    assert mail_line(mail, ALL) == b"MAIL FROM:<no-reply@acme.example> SIZE=5 BODY=8BITMIME RET=HDRS"
    assert mail_line(mail, frozenset({"8bitmime"})) == b"MAIL FROM:<no-reply@acme.example> BODY=8BITMIME"
    assert rcpt_line(rcpt, ALL) == b"RCPT TO:<no-reply@acme.example> NOTIFY=NEVER"
    assert rcpt_line(rcpt, frozenset()) == b"RCPT TO:<no-reply@acme.example>"
