"""The bound on test mails: whatever goes wrong elsewhere, no mailbox is flooded. Pure.

A tenant's mail is counted twice before it is sent, against its namespace and against its recipient, in a ledger that
outlives the operator and the objects for which mails are sent. A window is an hour that begins with the first mail
counted in it: so in any hour at all fewer than twice as many mails begin as the bound says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from mailsettings.core.digest import Digester
from mailsettings.core.probe import Hold, TestMail

WINDOW: Final = timedelta(hours=1)

MAX_ACCOUNTS: Final = 8_000
"""In one shard: some 450 kB, which in base64 fit into a Secret of at most 1 MiB. Source: Secrets."""

Counts = Mapping[str, tuple[int, int]]
"""A shard of the ledger, by account: when its window began, in seconds since 1970, and the mails counted since."""

_Number = Annotated[int, Field(ge=0, strict=True)]
_COUNTS: Final = TypeAdapter(dict[str, tuple[_Number, _Number]])


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many test mails may begin in a `WINDOW`."""

    of_namespace: int
    """For the objects of one namespace; those of the cluster count as one."""
    to_recipient: int
    """To one address, from all namespaces of tenants together."""


@dataclass(frozen=True, slots=True)
class Account:
    """What mails are counted against."""

    name: str
    """A digest under the operator's key: nobody who reads the ledger learns an address from it."""
    limit: int
    whose: str
    """For people: `this namespace's`."""

    @property
    def shard(self) -> str:
        """Which part of the ledger has it: a hexadecimal digit, so that not every mail writes the same object."""
        return self.name[0]


def accounts(mail: TestMail, digest: Digester, bounds: Bounds, *, operator_namespace: str) -> tuple[Account, ...]:
    """What a mail is counted against.

    The administrators' own mails only against their namespace: whatever tenants send to an address, those still go.
    """
    whose = mail.origin.namespace
    of_namespace = Account(digest(["namespace", whose]), bounds.of_namespace, "this namespace's")
    if whose in ("", operator_namespace):
        return (of_namespace,)
    return (
        of_namespace,
        Account(digest(["recipient", _mailbox(mail.recipient)]), bounds.to_recipient, "this recipient's"),
    )


def _mailbox(address: str) -> str:
    """The same for all spellings of an address, and for its subaddresses (RFC 5233), which lead to one mailbox."""
    local, _, domain = address.lower().rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"


def corrected(counts: Counts, now: datetime) -> Counts:
    """The counts where no window begins later than now: one that does was written by a clock that was wrong.

    They have to be kept, also where there is no room: else such a window would never end.
    """
    now_s = int(now.timestamp())
    return {name: (min(since_s, now_s), sent) for name, (since_s, sent) in counts.items()}


def counted(counts: Counts, account: Account, now: datetime) -> Counts | Hold:
    """The counts with one more mail in them and without windows that are over; or from when on there is room for it.

    Args:
        counts: `corrected`.
        account: Whose.
        now: The present time.
    """
    now_s, lasts_s = int(now.timestamp()), int(WINDOW.total_seconds())
    live = {name: (since_s, sent) for name, (since_s, sent) in counts.items() if now_s < since_s + lasts_s}
    since_s, sent = live.get(account.name, (now_s, 0))
    if sent >= account.limit:
        return Hold(
            f"{account.whose} bound of {account.limit} test mails in an hour is reached",
            datetime.fromtimestamp(since_s + lasts_s, UTC),
        )
    if account.name not in live and len(live) >= MAX_ACCOUNTS:
        first_s = min(since_s for since_s, _ in live.values())
        return Hold("the ledger of test mails is full", datetime.fromtimestamp(first_s + lasts_s, UTC))
    return {**live, account.name: (since_s, sent + 1)}


def read_counts(text: str) -> Counts:
    """The counts that `written_counts` wrote.

    Raises:
        ValueError: it is not such a text.
    """
    return _COUNTS.validate_json(text)


def written_counts(counts: Counts) -> str:
    """The counts as a text."""
    return _COUNTS.dump_json(dict(counts)).decode()
