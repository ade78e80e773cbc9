"""What is believed of a probe's status, and when the next probe is due by it."""

from datetime import timedelta
from typing import Any

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import TlsMode
from mailsettings.api.status import ProbeFailureStatus, ProbeStatus
from mailsettings.core.clock import parse_time
from mailsettings.core.probe import ProbeRequest
from mailsettings.core.probing import ProbeSubject, confirmed, due_at, remembered, verdict
from mailsettings.core.server import Server, Source

LAST, NEXT = "2026-01-01T12:00:00Z", "2026-01-01T17:40:00Z"


def subject(*, fingerprint: str = "f", generation: int = 1, hours: int = 6) -> ProbeSubject:
    server = Server("mail.acme.example", 587, TlsMode.START_TLS, timedelta(seconds=10))
    request = ProbeRequest(server, ProbeMode.CONNECT, Source.TENANT)
    return ProbeSubject("uid", generation, request, timedelta(hours=hours), fingerprint, None)


def status(**fields: Any) -> ProbeStatus:
    values: dict[str, Any] = {
        "mode": ProbeMode.CONNECT,
        "last_probe_time": LAST,
        "next_probe_time": NEXT,
        "duration": "5ms",
        "consecutive_failures": 0,
        "fingerprint": "f",
        "generation": 1,
    }
    return ProbeStatus(**values | fields)


def failure(cause: str) -> ProbeFailureStatus:
    return ProbeFailureStatus(stage="auth", cause=cause, message="refused")


@pytest.mark.parametrize("written", [None, status(), status(failure=failure("BadCredentials"), next_probe_time=None)])
def test_what_this_operator_writes_is_remembered(written: ProbeStatus | None) -> None:
    assert remembered(written) == written


@pytest.mark.parametrize(
    "forged",
    [
        {"last_probe_time": "2026-01-01T12:00:00+01:00"},
        {"next_probe_time": "2026-01-01T12:00:00.5Z"},
        {"next_probe_time": "soon"},
        {"failure": failure("NoSuchReason")},
        {"mode": ProbeMode.DISABLED},
    ],
)
def test_what_it_does_not_write_is_not_believed(forged: dict[str, Any]) -> None:
    assert remembered(status(**forged)) is None


def test_the_next_probe_is_due_as_it_says() -> None:
    assert due_at(subject(), status()) == parse_time(NEXT)


def test_a_shorter_interval_counts_from_the_last_probe() -> None:
    assert due_at(subject(hours=2), status()) == parse_time(LAST) + timedelta(hours=2)


def test_a_longer_interval_waits_for_the_next_probe() -> None:
    assert due_at(subject(hours=24), status()) == parse_time(NEXT)


def reason(tested: ProbeSubject, known: ProbeStatus | None) -> Reason:
    return verdict(tested, known).reason


def test_a_generation_that_changes_nothing_for_the_server_is_tested_already() -> None:
    known = confirmed(status(generation=1), subject(generation=2))
    assert known == status(generation=2)
    assert reason(subject(generation=2, fingerprint="rotated"), known) is Reason.PROBE_PASSED


def test_a_generation_with_another_server_is_not() -> None:
    known = confirmed(status(generation=1), subject(generation=2, fingerprint="other"))
    assert known == status(generation=1)
    assert reason(subject(generation=2, fingerprint="other"), known) is Reason.PROBE_PENDING
