"""When a Lease may be taken."""

from dataclasses import replace
from datetime import UTC, datetime

from mailsettings.core.lease import Lease, Observer, Terms, released, renewed, taken

TERMS = Terms(15)
NOW = datetime(2026, 11, 22, 16, 40, tzinfo=UTC)
HELD = Lease("other", 15, "a", "b", 3)


def test_holder_stops_before_anybody_else_begins() -> None:
    assert (TERMS.renew_deadline_s, TERMS.retry_s, TERMS.margin_s) == (10, 2, 5)
    for seconds in range(3, 301):
        terms = Terms(seconds)
        assert 3 * terms.retry_s < terms.renew_deadline_s < terms.duration_s
        assert terms.renew_deadline_s + terms.margin_s == seconds


def test_lease_is_free_when_it_was_seen_unchanged_for_as_long_as_it_lasts() -> None:
    observer = Observer("me", TERMS)
    assert observer.wait_s(HELD, now_s=100) == 15
    assert observer.wait_s(HELD, now_s=114.5) == 0.5
    assert observer.wait_s(HELD, now_s=115) == 0


def test_every_renewal_begins_it_anew() -> None:
    observer = Observer("me", TERMS)
    observer.wait_s(HELD, now_s=100)
    assert observer.wait_s(replace(HELD, renewed_at="c"), now_s=114) == 15
    assert observer.wait_s(replace(HELD, renewed_at="c"), now_s=116) == 13


def test_times_in_it_count_for_nothing() -> None:
    """Clocks of several machines differ."""
    long_ago = replace(HELD, renewed_at="1970-01-01T00:00:00.000000Z")
    assert Observer("me", TERMS).wait_s(long_ago, now_s=100) == 15


def test_it_lasts_as_long_as_its_holder_says() -> None:
    assert Observer("me", TERMS).wait_s(replace(HELD, duration_s=60), now_s=0) == 60
    assert Observer("me", TERMS).wait_s(replace(HELD, duration_s=None), now_s=0) == 15


def test_lease_of_nobody_or_of_oneself_is_free() -> None:
    for holder in ("", "me"):
        assert Observer("me", TERMS).wait_s(replace(HELD, holder=holder), now_s=0) == 0


def test_what_is_written() -> None:
    time = "2026-11-22T16:40:00.000000Z"
    assert taken(HELD, "me", TERMS, now=NOW) == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": time,
        "renewTime": time,
        "leaseTransitions": 4,
    }
    assert taken(None, "me", TERMS, now=NOW)["leaseTransitions"] == 0
    assert renewed(TERMS, now=NOW) == {"leaseDurationSeconds": 15, "renewTime": time}
    assert Lease.of({**taken(HELD, "me", TERMS, now=NOW), **released(now=NOW)}).holder == ""


def test_lease_that_was_deleted_may_be_held_still() -> None:
    """Its holder learns of it at its next renewal."""
    observer = Observer("me", TERMS)
    assert observer.wait_s(None, now_s=90) == 0
    observer.wait_s(HELD, now_s=100)
    assert observer.wait_s(None, now_s=101) == 14
    assert observer.wait_s(None, now_s=115) == 0


def test_lease_with_nothing_in_it() -> None:
    assert Lease.of({}) == Lease("", None, "", "", 0)
