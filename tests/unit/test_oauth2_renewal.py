"""When tokens are renewed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.api.conditions import Reason
from mailsettings.core.oauth2.faults import TokenFault
from mailsettings.core.oauth2.renewal import (
    FIRST_RETRY,
    JITTER,
    MAX_RETRY,
    MAX_RETRY_AFTER_REFUSAL,
    is_fresh,
    renew_at,
    retry_delay,
)
from mailsettings.core.oauth2.request import Token

ISSUED = datetime(2026, 11, 22, 12, tzinfo=UTC)
LIVES = st.integers(1, 7 * 24 * 3600).map(lambda seconds: timedelta(seconds=seconds))
SEEDS = st.text(max_size=8)

OUTAGE = TokenFault(Reason.PROVIDER_UNREACHABLE, "no answer", is_transient=True)
REFUSAL = TokenFault(Reason.CLIENT_AUTH_INVALID, "wrong secret")


def token(life: timedelta) -> Token:
    return Token("token", ISSUED, ISSUED + life)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


@pytest.mark.parametrize(
    ("life", "latest"),
    [
        (minutes(24 * 60), minutes(12 * 60)),  # half
        (minutes(60), minutes(30)),
        (minutes(30), minutes(15)),
        (minutes(25), minutes(10)),  # 15 minutes left
        (minutes(22.5), minutes(7.5)),
        (minutes(20), minutes(20) / 3),  # a third
        (minutes(2), timedelta(seconds=40)),
    ],
)
def test_renewal_is_at_half_of_the_life_or_with_fifteen_minutes_left(life: timedelta, latest: timedelta) -> None:
    for seed in ("one", "two", "three"):
        used = renew_at(token(life), seed=seed) - ISSUED
        assert latest * (1 - JITTER) <= used <= latest


def test_refresh_token_that_lives_shorter_than_the_access_token_is_used_in_time() -> None:
    for life, latest in ((minutes(20), minutes(10)), (minutes(120), minutes(30)), (minutes(0), minutes(0))):
        short = replace(token(minutes(60)), refresh_token_expires_at=ISSUED + life)
        assert latest * (1 - JITTER) <= renew_at(short, seed="one") - ISSUED <= latest


@given(LIVES, SEEDS)
def test_a_token_is_still_fresh_when_it_is_due(life: timedelta, seed: str) -> None:
    """So that the application's Secret never holds one that is not, while the provider answers."""
    due = renew_at(token(life), seed=seed)
    assert ISSUED < due < ISSUED + life
    assert is_fresh(token(life), due)


@given(LIVES, SEEDS)
def test_there_is_time_for_a_second_attempt(life: timedelta, seed: str) -> None:
    assert is_fresh(token(life), renew_at(token(life), seed=seed) + min(minutes(4), life / 7))


@pytest.mark.parametrize(
    ("life", "left", "fresh"),
    [
        (minutes(60), minutes(10), True),
        (minutes(60), minutes(9.99), False),
        (minutes(20), minutes(10), True),
        (minutes(20), minutes(9.99), False),
        (minutes(10), minutes(5), True),
        (minutes(10), minutes(4.99), False),
        (minutes(60), minutes(-1), False),
    ],
)
def test_freshness(life: timedelta, left: timedelta, fresh: bool) -> None:
    assert is_fresh(token(life), ISSUED + life - left) is fresh


def test_a_restart_does_not_move_the_due_time() -> None:
    assert renew_at(token(minutes(60)), seed="uid") == renew_at(token(minutes(60)), seed="uid")
    assert renew_at(token(minutes(60)), seed="uid") != renew_at(token(minutes(60)), seed="another")


def test_an_outage_is_asked_about_soon_and_then_less_often() -> None:
    delays = [retry_delay(OUTAGE, consecutive_failures=n, seed="uid") for n in range(1, 12)]
    assert FIRST_RETRY <= delays[0] <= FIRST_RETRY * (1 + JITTER)
    assert delays[2] > delays[1] > delays[0]
    assert MAX_RETRY <= delays[-1] <= MAX_RETRY * (1 + JITTER)


def test_a_refusal_is_not_hammered() -> None:
    delays = [retry_delay(REFUSAL, consecutive_failures=n, seed="uid") for n in range(1, 12)]
    assert delays[0] >= minutes(10)
    assert MAX_RETRY_AFTER_REFUSAL <= delays[-1] <= MAX_RETRY_AFTER_REFUSAL * (1 + JITTER)


@given(st.integers(1, 10_000), st.integers(0, 3600), SEEDS, st.sampled_from([OUTAGE, REFUSAL]))
def test_no_retry_comes_sooner_than_the_provider_asks_for(
    failures: int, seconds: int, seed: str, fault: TokenFault
) -> None:
    asked = timedelta(seconds=seconds)
    patient = TokenFault(fault.reason, fault.message, asked, is_transient=fault.is_transient)
    delay = retry_delay(patient, consecutive_failures=failures, seed=seed)
    assert delay >= asked
    assert delay >= retry_delay(fault, consecutive_failures=failures, seed=seed)
