"""What becomes of settings whose test mail may not be sent just now."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.status import ProbeStatus
from mailsettings.controller.keys import Key, Kind
from mailsettings.controller.reconcile import probing
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.store import Store, settings_record
from mailsettings.core.diagnosis import withheld
from mailsettings.core.digest import Digester
from mailsettings.core.probe import Hold, ProbeResult
from mailsettings.core.probing import FinishedProbe, ProbeSubject
from tests.unit.builders import resolved

UNCOUNTED: Final = Hold("the API server says 403 Forbidden", None)
SETTINGS: Final = resolved(probe={"mode": "Send", "recipient": "ops@acme.example"})
BODY: Final = {"metadata": {"name": "mail", "namespace": "shop", "uid": "u", "generation": 1}}
WAITS: Final = "The next test waits: its mail could not be counted, since the API server says 403 Forbidden."


@dataclass
class Probes:
    """Ends when it is told to."""

    begun: list[ProbeSubject] = field(default_factory=list)
    result: FinishedProbe | None = None

    def finished(self, _key: Key, _subject: ProbeSubject) -> FinishedProbe | None:
        return self.result

    def is_running(self, _key: Key, _subject: ProbeSubject) -> bool:
        return self.result is None and bool(self.begun)

    def start(self, _key: Key, subject: ProbeSubject) -> None:
        self.begun.append(subject)
        self.result = None

    def end(self, hold: Hold | None, ago: timedelta = timedelta()) -> None:
        subject = self.begun[-1]
        result = withheld(subject.request, hold) if hold is not None else ProbeResult(timedelta(milliseconds=9))
        self.result = FinishedProbe(subject, result, datetime.now(UTC) - ago)


class FakeServices:
    """As much as is needed here."""

    def __init__(self) -> None:
        self.store = Store()
        self.probes = Probes()
        self.digest = Digester(b"k" * 32)
        self.cluster_name = "here"
        self.checks_sender = False
        self.waits: list[float] = []

    def enqueue_after(self, _key: Key, seconds: float) -> None:
        self.waits.append(seconds)


def look(services: FakeServices, before: ProbeStatus | None = None, requested_at: str | None = None) -> probing.Probing:
    body: dict[str, Any] = {"metadata": dict(BODY["metadata"])}
    if requested_at is not None:
        body["metadata"]["annotations"] = {"mailsettings.dev/probe-requested-at": requested_at}
    record = settings_record(Kind.TENANT, body)
    return probing.probe(cast("Services", services), record, SETTINGS, before, suspend=False)


def test_working_settings_stay_so_while_mails_cannot_be_counted() -> None:
    services = FakeServices()
    look(services)
    services.probes.end(None)
    passed = look(services).status
    services.probes.result = None
    services.probes.begun.clear()
    look(services, passed, "now")
    services.probes.end(UNCOUNTED)
    found = look(services, passed, "now")
    assert found.finding is not None
    assert (found.finding.status, found.finding.reason) == (True, Reason.PROBE_PASSED)
    assert found.finding.message == f"{WAITS} The server accepted a test mail."
    assert (found.status, found.finished) == (passed, None)


def test_settings_that_were_never_tested_are_not_failed_by_it() -> None:
    services = FakeServices()
    look(services)
    services.probes.end(UNCOUNTED)
    found = look(services)
    assert found.finding is not None
    assert (found.finding.status, found.finding.reason) == (None, Reason.MAIL_NOT_COUNTED)
    assert (found.finding.message, found.status) == (WAITS, None)


def test_it_is_tried_again_later_and_later() -> None:
    services = FakeServices()
    look(services)
    for number, minutes in enumerate((1, 2, 4), 1):
        services.probes.end(UNCOUNTED)
        look(services)
        assert len(services.probes.begun) == number
        assert 0.85 * minutes * 60 < services.waits[-1] <= minutes * 60
        services.probes.end(UNCOUNTED, timedelta(minutes=minutes))
        look(services)
        assert len(services.probes.begun) == number + 1


@pytest.mark.parametrize("away", [timedelta(minutes=20), timedelta()])
def test_a_bound_that_is_reached_does_not_count_as_such_a_failure(away: timedelta) -> None:
    services = FakeServices()
    look(services)
    services.probes.end(Hold("the bound is reached", datetime.now(UTC) + away))
    found = look(services)
    assert found.finding is not None
    assert found.finding.reason is (Reason.MAIL_LIMIT_REACHED if away else Reason.PROBE_PENDING)
    assert services.probes.begun[-1].uncounted == 0
