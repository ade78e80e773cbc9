"""No loop floods a mailbox: what is counted, and when there is room again."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from mailsettings.core import probe
from mailsettings.core.digest import Digester
from mailsettings.core.mails import (
    MAX_ACCOUNTS,
    WINDOW,
    Account,
    Bounds,
    Counts,
    accounts,
    corrected,
    counted,
    read_counts,
    written_counts,
)
from mailsettings.core.probe import Hold, Origin

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
DIGEST = Digester(b"k" * 32)
BOUNDS = Bounds(of_namespace=3, to_recipient=5)
OPERATORS = "mail-operator"
ACCOUNT = Account("a1", 4, "this namespace's")
MAIL = probe.TestMail("a@acme.example", "ops@acme.example", Origin("MailServerSettings shop/mail", "shop"))


def to(recipient: str, namespace: str = "shop") -> list[str]:
    mail = replace(MAIL, recipient=recipient, origin=replace(MAIL.origin, namespace=namespace))
    return [account.name for account in accounts(mail, DIGEST, BOUNDS, operator_namespace=OPERATORS)]


def after(counts: Counts, mails: int, account: Account = ACCOUNT, now: datetime = NOW) -> Counts:
    for _ in range(mails):
        found = counted(counts, account, now)
        assert not isinstance(found, Hold)
        counts = read_counts(written_counts(found))
    return counts


def held(counts: Counts, account: Account = ACCOUNT, now: datetime = NOW) -> datetime | None:
    found = counted(counts, account, now)
    assert isinstance(found, Hold)
    return found.until


def most_in_a_window(sent: Sequence[datetime]) -> int:
    return max(sum(moment <= other < moment + WINDOW for other in sent) for moment in sent)


def test_a_mail_is_counted_against_its_namespace_and_its_recipient() -> None:
    of_namespace, to_recipient = accounts(MAIL, DIGEST, BOUNDS, operator_namespace=OPERATORS)
    assert (of_namespace.limit, of_namespace.whose) == (3, "this namespace's")
    assert (to_recipient.limit, to_recipient.whose) == (5, "this recipient's")
    assert to("ops@acme.example", "other")[0] != of_namespace.name
    assert to("ops@acme.example", "other")[1] == to_recipient.name
    assert to("dev@acme.example") == [of_namespace.name, to("dev@acme.example", "other")[1]]
    assert to("x@acme.example", "x@acme.example")[0] != to("x@acme.example", "x@acme.example")[1]


@pytest.mark.parametrize("namespace", ["", OPERATORS])
def test_no_tenant_has_the_administrators_mails_wait(namespace: str) -> None:
    assert to("ops@acme.example", namespace) == to("dev@acme.example", namespace)
    assert to("ops@acme.example", namespace)[0] not in to("ops@acme.example")


@pytest.mark.parametrize(
    "spelling", ["OPS@acme.example", "ops@Acme.Example", "ops+1@acme.example", "Ops+a+b@acme.example"]
)
def test_a_mailbox_is_one_however_it_is_spelt(spelling: str) -> None:
    assert to(spelling) == to("ops@acme.example")


@pytest.mark.parametrize("other", ["ops@acme.example.org", "ops1@acme.example", "ops@sub.acme.example"])
def test_other_mailboxes_are_others(other: str) -> None:
    assert to(other)[1] != to("ops@acme.example")[1]


def test_the_ledger_names_nobody() -> None:
    """Nor can addresses be guessed by their digests, without the operator's key."""
    text = written_counts(after({}, 1, accounts(MAIL, DIGEST, BOUNDS, operator_namespace=OPERATORS)[1]))
    assert "ops" not in text
    assert "acme" not in text
    assert accounts(MAIL, Digester(b"x" * 32), BOUNDS, operator_namespace=OPERATORS)[1].name not in text


def test_accounts_are_spread_over_the_shards() -> None:
    names = [Account(to(f"{number}@acme.example")[1], 1, "") for number in range(300)]
    assert {account.shard for account in names} == set("0123456789abcdef")


def test_a_loop_sends_no_more_than_the_bound() -> None:
    counts: Counts = {}
    sent, now = [], NOW
    while now < NOW + timedelta(days=1):
        found = counted(counts, ACCOUNT, now)
        if not isinstance(found, Hold):
            counts = read_counts(written_counts(found))
            sent.append(now)
        now += timedelta(seconds=20)
    assert len(sent) == 24 * ACCOUNT.limit
    assert most_in_a_window(sent) <= 2 * ACCOUNT.limit - 1


def test_where_there_is_no_room_it_is_said_when_there_is() -> None:
    """Neither too early nor later than need be."""
    full = after({}, ACCOUNT.limit, now=NOW + timedelta(seconds=0.9))
    until = held(full, now=NOW + timedelta(minutes=10))
    assert until == NOW + WINDOW
    assert held(full, now=until - timedelta(seconds=1)) == until
    assert counted(full, ACCOUNT, until) == {ACCOUNT.name: (NOW_S + 3600, 1)}


def test_a_window_begins_with_its_first_mail() -> None:
    """Else a mail now and then would keep it open for ever."""
    counts = after(after({}, 1), 2, now=NOW + timedelta(minutes=59))
    assert counts == {ACCOUNT.name: (NOW_S, 3)}
    assert counted(counts, ACCOUNT, NOW + WINDOW) == {ACCOUNT.name: (NOW_S + 3600, 1)}


def test_accounts_do_not_share_their_counts() -> None:
    full = after({}, ACCOUNT.limit)
    other = replace(ACCOUNT, name="a2")
    assert after(full, 1, other) == {**full, "a2": (NOW_S, 1)}
    assert held(after(full, 1, other)) == NOW + WINDOW


def test_a_lower_bound_holds_at_once() -> None:
    assert held(after({}, 3), replace(ACCOUNT, limit=2)) == NOW + WINDOW


def test_old_windows_are_dropped_and_present_ones_are_not() -> None:
    later = NOW + timedelta(minutes=30)
    counts = after(after({}, 2), 1, replace(ACCOUNT, name="a2"), later)
    other = replace(ACCOUNT, name="a3")
    assert set(after(counts, 1, other, NOW + WINDOW - timedelta(seconds=1))) == {"a1", "a2", "a3"}
    assert set(after(counts, 1, other, NOW + WINDOW)) == {"a2", "a3"}


def test_its_size_is_bounded() -> None:
    full = {f"{number:032x}": (NOW_S + number % 60, 1000) for number in range(MAX_ACCOUNTS)}
    assert len(written_counts(full)) < 700_000, "in base64 it fits into a Secret"
    assert held(full) == NOW + WINDOW
    known = replace(ACCOUNT, name=next(iter(full)), limit=2000)
    assert len(after(full, 1, known)) == MAX_ACCOUNTS
    assert len(after(full, 1, now=NOW + WINDOW)) < MAX_ACCOUNTS


@pytest.mark.parametrize("since_s", [NOW_S + 1, NOW_S + 10**6, 10**18])
def test_what_a_wrong_clock_wrote_neither_frees_nor_blocks_for_long(since_s: int) -> None:
    right = corrected({ACCOUNT.name: (since_s, ACCOUNT.limit), "a2": (NOW_S - 1, 2)}, NOW)
    assert right == {ACCOUNT.name: (NOW_S, ACCOUNT.limit), "a2": (NOW_S - 1, 2)}
    assert held(right) == NOW + WINDOW
    assert not isinstance(counted(right, ACCOUNT, NOW + WINDOW), Hold)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "null",
        "[]",
        '{"a": 1}',
        '{"a": [1]}',
        '{"a": [1, -1]}',
        '{"a": [-1, 1]}',
        '{"a": [1, "1"]}',
        '{"a": [1, 1.0]}',
    ],
)
def test_what_cannot_be_read_is_not_taken_for_nothing(text: str) -> None:
    with pytest.raises(ValidationError):
        read_counts(text)
