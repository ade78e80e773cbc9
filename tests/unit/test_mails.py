"""No loop floods a mailbox."""

from datetime import UTC, datetime, timedelta

import pytest

from mailsettings.api.status import TestMailsStatus
from mailsettings.core.clock import format_time
from mailsettings.core.mails import MAX_MAILS, PERIOD, counted

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_a_loop_sends_no_more_than_the_bound() -> None:
    """Whatever else is lost between two mails: only the count has to be kept."""
    status, sent, now = None, [], NOW
    while now < NOW + timedelta(days=1):
        count = counted(status, now)
        if isinstance(count, TestMailsStatus):
            status = TestMailsStatus.model_validate(count.document())
            sent.append(now)
        now += timedelta(seconds=20)
    assert len(sent) == 24 * MAX_MAILS
    for moment in sent:
        assert sum(moment <= other < moment + PERIOD for other in sent) <= 2 * MAX_MAILS


def test_where_there_is_no_room_it_is_said_when_there_is() -> None:
    full = TestMailsStatus(since=format_time(NOW), sent=MAX_MAILS)
    later = NOW + timedelta(minutes=10)
    assert counted(full, later) == NOW + PERIOD
    assert counted(full, NOW + PERIOD) == TestMailsStatus(since=format_time(NOW + PERIOD), sent=1)


@pytest.mark.parametrize("since", ["2031-01-01T00:00:00Z", "soon", ""])
def test_what_a_wrong_clock_wrote_neither_frees_nor_blocks_for_long(since: str) -> None:
    full = TestMailsStatus(since=since, sent=MAX_MAILS)
    assert counted(full, NOW) == NOW + PERIOD
    assert counted(TestMailsStatus(since=since, sent=2), NOW) == TestMailsStatus(since=format_time(NOW), sent=3)
