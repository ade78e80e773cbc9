"""When the next probe is due."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.core.clock import format_time, parse_time
from mailsettings.core.schedule import FIRST_RETRY, FIRST_RETRY_AFTER_REFUSAL, JITTER, delay_until_next_probe

HOUR = timedelta(hours=1)


@given(st.integers(0, 200), st.booleans(), st.text(max_size=40))
def test_delay_is_never_longer_than_the_interval_nor_much_shorter_than_the_first_retry(
    failures: int, needs_person: bool, seed: str
) -> None:
    delay = delay_until_next_probe(6 * HOUR, consecutive_failures=failures, needs_person=needs_person, seed=seed)
    assert FIRST_RETRY * (1 - JITTER) <= delay <= 6 * HOUR


@given(st.text(max_size=40))
def test_same_object_same_delay(seed: str) -> None:
    delays = {delay_until_next_probe(HOUR, consecutive_failures=0, needs_person=False, seed=seed) for _ in range(2)}
    assert len(delays) == 1


def test_delays_of_many_objects_spread() -> None:
    delays = {
        delay_until_next_probe(HOUR, consecutive_failures=0, needs_person=False, seed=f"uid-{n}") for n in range(100)
    }
    assert len(delays) > 90
    assert max(delays) - min(delays) > HOUR * JITTER / 2


@pytest.mark.parametrize(
    ("failures", "needs_person", "base"),
    [
        (1, False, FIRST_RETRY),
        (2, False, 2 * FIRST_RETRY),
        (4, False, 8 * FIRST_RETRY),
        (1, True, FIRST_RETRY_AFTER_REFUSAL),
        (99, False, 6 * HOUR),
    ],
)
def test_failures_are_retried_with_growing_delays(failures: int, needs_person: bool, base: timedelta) -> None:
    delay = delay_until_next_probe(6 * HOUR, consecutive_failures=failures, needs_person=needs_person, seed="uid")
    assert base * (1 - JITTER) <= delay <= base


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001 - the zone is added below
def test_times_survive_writing_and_reading(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC, microsecond=0)
    assert parse_time(format_time(aware)) == aware
