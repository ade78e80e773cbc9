"""The bound on test mails: whatever goes wrong elsewhere, no mailbox is flooded. Pure.

A mail is counted before it is sent, and the count is in the object's status: an operator that ends in between, again
and again, sends no more than this either.
"""

from datetime import datetime, timedelta
from typing import Final

from mailsettings.api.status import TestMailsStatus
from mailsettings.core.clock import format_time, parse_time

MAX_MAILS: Final = 12
"""In each `PERIOD`, for one settings object."""

PERIOD: Final = timedelta(hours=1)


def counted(before: TestMailsStatus | None, now: datetime) -> TestMailsStatus | datetime:
    """The count with one more mail in it, or from when on there is room for one."""
    since = _since(before, now)
    if before is None or since is None or now >= since + PERIOD:
        return TestMailsStatus(since=format_time(now), sent=1)
    if before.sent >= MAX_MAILS:
        return since + PERIOD
    return TestMailsStatus(since=format_time(since), sent=before.sent + 1)


def _since(before: TestMailsStatus | None, now: datetime) -> datetime | None:
    """When the period began. One that has not begun yet was written by a clock that was wrong: it begins now."""
    if before is None:
        return None
    try:
        return min(parse_time(before.since), now)
    except ValueError:
        return now
