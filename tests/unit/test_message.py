"""The test mail."""

from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.core import probe
from mailsettings.core.mailbox import parse_mailbox
from mailsettings.core.message import compose

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def sent(sender: str, recipient: str = "ops@acme.example", settings: str = "MailServerSettings acme/smtp") -> bytes:
    mail = probe.TestMail(sender, recipient, probe.Origin(settings, "acme", "prod-1"))
    return compose(mail, now=NOW, token="abc123").as_bytes()


def read(data: bytes) -> EmailMessage:
    message = message_from_bytes(data, policy=SMTP)
    assert isinstance(message, EmailMessage)
    return message


def part(data: bytes, kind: str) -> str:
    body = read(data).get_body((kind,))
    assert body is not None
    text = body.get_content()
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize(
    ("mailbox", "name", "address"),
    [
        ("no-reply@acme.example", "", "no-reply@acme.example"),
        ("Acme <no-reply@acme.example>", "Acme", "no-reply@acme.example"),
        ('"Acme, Inc. <x@y>" <no-reply@acme.example>', "Acme, Inc. <x@y>", "no-reply@acme.example"),
        ("Acme Inc. <no-reply@acme.example>", "Acme Inc.", "no-reply@acme.example"),
        ("Ünïcode Ltd <a.b+c@acme.example>", "Ünïcode Ltd", "a.b+c@acme.example"),
        ('"" <a@acme.example>', "", "a@acme.example"),
    ],
)
def test_mailboxes_are_taken_apart(mailbox: str, name: str, address: str) -> None:
    parsed = parse_mailbox(mailbox)
    assert (parsed.display_name, parsed.addr_spec) == (name, address)


@pytest.mark.parametrize(
    "mailbox",
    ["", "nobody", "Acme <>", "Acme <nobody\r\nBcc: x@y.example>", "Ac\nme <a@acme.example>", "a@b@c", "<@>"],
)
def test_mailboxes_that_are_none_are_refused(mailbox: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the library's words, by case
        parse_mailbox(mailbox)


def test_headers_and_text() -> None:
    message = read(sent("Acme <no-reply@acme.example>"))
    kind, _, boundary = message["Content-Type"].partition(";")
    assert (kind, "boundary=" in boundary) == ("multipart/alternative", True)
    assert {name: value for name, value in message.items() if name != "Content-Type"} == {
        "From": "Acme <no-reply@acme.example>",
        "To": "ops@acme.example",
        "Subject": "Test mail of MailServerSettings acme/smtp",
        "Date": "Sun, 01 Mar 2026 12:30:00 +0000",
        "Message-ID": "<abc123@acme.example>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "DR, RN, NRN, OOF, AutoReply",
        "MIME-Version": "1.0",
    }


@pytest.mark.parametrize("kind", ["plain", "html"])
def test_both_parts_say_what_when_where_and_by_what_to_find_it(kind: str) -> None:
    text = part(sent("Acme <no-reply@acme.example>"), kind)
    for said in ("MailServerSettings acme/smtp", "prod-1", "2026-03-01T12:30:00Z", "abc123@acme.example"):
        assert said in text


def test_html_takes_nothing_for_markup() -> None:
    assert "<b>" not in part(sent("a@b.example", settings="<b>&amp;"), "html")
    assert "&lt;b&gt;&amp;amp;" in part(sent("a@b.example", settings="<b>&amp;"), "html")
    assert "<b>&amp;" in part(sent("a@b.example", settings="<b>&amp;"), "plain")


def test_texts_outside_ascii_pass_servers_that_know_only_seven_bits() -> None:
    data = sent("no-reply@acme.example", settings="Prüfung ✓")
    assert data.isascii()
    assert read(data)["Subject"] == "Test mail of Prüfung ✓"
    assert "Prüfung ✓" in part(data, "plain")
    assert "Prüfung ✓" in part(data, "html")


@pytest.mark.parametrize(
    ("recipient", "settings"),
    [("ops@acme.example\r\nBcc: x@y.example", "s"), ("ops@acme.example", "s\r\nBcc: x@y.example"), ("a b@c", "s")],
)
def test_line_breaks_cannot_get_into_headers(recipient: str, settings: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        sent("no-reply@acme.example", recipient, settings)


@given(
    name=st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters='"\\') | st.just(" "), max_size=80),
    settings=st.from_regex(r"\A(ClusterMailServerSettings|MailServerSettings [a-z0-9-]{1,63})/[a-z0-9.-]{1,63}\Z"),
)
def test_any_name_of_a_valid_mailbox_gives_seven_bit_lines_that_read_back(name: str, settings: str) -> None:
    mailbox = f'"{name}" <no-reply@acme.example>'
    data = sent(mailbox, settings=settings)
    assert data.isascii()
    assert all(len(line) <= 998 for line in data.split(b"\r\n"))
    assert b"\n" not in data.replace(b"\r\n", b"")
    message = message_from_bytes(data, policy=SMTP)
    (sender,) = message["From"].addresses
    assert sender.addr_spec == "no-reply@acme.example"
    # Without blanks: the standard library reads one between encoded words that it put on two lines itself.
    assert "".join(sender.display_name.split()) == "".join(name.split())
    assert set(message.keys()) == {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress", "Content-Type",
        "MIME-Version",
    }  # fmt: skip
