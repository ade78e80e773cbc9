"""What a MailServerTest may do, how far it goes, and what its end means."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.mailservertest import MailServerTestSpec, MailServerTestStatus
from mailsettings.api.probe import ProbeMode
from mailsettings.api.status import MAX_DIALOGUE_LINES, MAX_LINE
from mailsettings.core import probe
from mailsettings.core.finding import failed, passed
from mailsettings.core.mail_testing import (
    INTERRUPTED,
    QUEUED,
    RUNNING,
    Turn,
    mode_of,
    probe_request,
    recipient_refusal,
    reported,
    state_findings,
    turn,
    under_way,
    verdict,
)
from mailsettings.core.probe import (
    Line,
    ProbeFailure,
    ProbeProgress,
    ProbeResult,
    ServerFacts,
    Speaker,
    Stage,
    StageTime,
)
from mailsettings.core.server import Source
from tests.unit.builders import LIMITS, resolved, system_spec

ORIGIN: Final = probe.Origin("MailServerSettings shop/mail", "shop", "here")
NOW: Final = datetime(2026, 11, 22, 16, 40, tzinfo=UTC)


def spec(**fields: Any) -> MailServerTestSpec:
    return MailServerTestSpec.model_validate({"settingsRef": {"name": "mail"}, **fields})


@pytest.mark.parametrize(
    ("place", "running", "in_namespace", "wanted"),
    [
        (0, 0, 0, Turn.BEGIN),
        (1, 0, 0, Turn.BEGIN),
        (2, 0, 0, Turn.WAIT),
        (0, 1, 1, Turn.BEGIN),
        (1, 1, 1, Turn.WAIT),
        (0, 2, 2, Turn.WAIT),
        (3, 2, 2, Turn.WAIT),
        (4, 2, 2, Turn.GIVE_UP),
        (5, 0, 0, Turn.WAIT),
        (6, 0, 0, Turn.GIVE_UP),
        (0, 3, 0, Turn.WAIT),
        (0, 9, 5, Turn.WAIT),
    ],
)
def test_turn_is_by_place_and_by_what_runs(place: int, running: int, in_namespace: int, wanted: Turn) -> None:
    """Three run in all, two of a namespace, and four more of it wait."""
    assert turn(place, running=running, running_in_namespace=in_namespace, limits=LIMITS) is wanted


@pytest.mark.parametrize(
    ("fields", "has_auth", "mode"),
    [
        ({}, True, ProbeMode.AUTHENTICATE),
        ({}, False, ProbeMode.CONNECT),
        ({"mode": "Authenticate"}, False, ProbeMode.CONNECT),
        ({"mode": "Connect"}, True, ProbeMode.CONNECT),
        ({"recipient": "a@b"}, True, ProbeMode.SEND),
        ({"recipient": "a@b"}, False, ProbeMode.SEND),
        ({"recipient": "a@b", "mode": "Send"}, True, ProbeMode.SEND),
    ],
)
def test_mode(fields: dict[str, Any], has_auth: bool, mode: ProbeMode) -> None:
    assert mode_of(spec(**fields), has_auth=has_auth) is mode


@pytest.mark.parametrize(
    ("patterns", "recipient", "permitted"),
    [
        (None, "no-reply@acme.example", True),
        (None, "NO-REPLY@ACME.example", True),
        (None, "ops@acme.example", False),
        ([], "no-reply@acme.example", False),
        (["*@acme.example"], "ops@acme.example", True),
        (["*@acme.example"], "ops@sub.acme.example", False),
        (["{namespace}@acme.example"], "shop@acme.example", True),
        (["{namespace}@acme.example"], "other@acme.example", False),
        (["*@acme.example"], "ops%other.example@acme.example", False),
        (["*@acme.example"], "other.example!ops@acme.example", False),
    ],
)
def test_recipients_are_bounded_for_what_is_the_systems(
    patterns: list[str] | None, recipient: str, permitted: bool
) -> None:
    settings = resolved()
    settings = replace(settings, effective=replace(settings.effective, source=Source.SYSTEM))
    tenants = system_spec(tenants={"delivery": "Credentials", "testRecipients": patterns}).tenants
    refusal = recipient_refusal(spec(recipient=recipient), settings, tenants, namespace="shop")
    assert (refusal is None) is permitted
    assert refusal is None or refusal.reason is Reason.RECIPIENT_NOT_ALLOWED
    assert recipient_refusal(spec(), settings, tenants, namespace="shop") is None


def test_mail_goes_to_the_recipient_in_mode_send_only() -> None:
    settings = resolved()
    asked = spec(recipient="ops@acme.example")
    request = probe_request(asked, settings, ProbeMode.SEND, ORIGIN)
    assert request.mail == probe.TestMail(settings.effective.mail_from, "ops@acme.example", ORIGIN)
    assert (request.server, request.credentials, request.level) == (
        settings.server,
        settings.credentials,
        Source.TENANT,
    )
    assert probe_request(asked, settings, ProbeMode.CONNECT, ORIGIN).mail is None
    office = resolved(connection={"host": "smtp.acme.example"}, provider="Office365")
    of_office = probe_request(asked, office, ProbeMode.SEND, ORIGIN)
    assert (request.provider, of_office.provider) == ("Custom", "Office365")


def states(finding: Any) -> dict[str, bool | None]:
    return {str(kind): found.status for kind, found in state_findings(finding).items()}


@pytest.mark.parametrize("finding", [QUEUED, RUNNING])
def test_conditions_before_the_end(finding: Any) -> None:
    assert states(finding) == {"Complete": False, "Succeeded": None, "Reconciling": True}


def test_conditions_at_the_end() -> None:
    """`kubectl wait --for=condition=Complete` ends in either case."""
    assert states(passed(Reason.TEST_PASSED, "x")) == {"Complete": True, "Succeeded": True}
    assert states(INTERRUPTED) == {"Complete": True, "Succeeded": False, "Stalled": True}
    assert states(failed(Reason.SERVER_TEMPORARY, "x"))["Stalled"], "a test is not repeated"


def test_what_happened_is_said_once() -> None:
    found = state_findings(failed(Reason.BAD_CREDENTIALS, "No. Do.", remedy="Do."))
    assert {kind: finding.message for kind, finding in found.items()} == {
        "Complete": "The test has ended; Succeeded says how.",
        "Succeeded": "No. Do.",
        "Stalled": "Do.",
    }


def test_end_is_reported_within_the_bounds_of_the_schema() -> None:
    failure = ProbeFailure(Stage.AUTH, Reason.BAD_CREDENTIALS, "No.", 535, "5.7.8", "Do.", "docs/a.md#b")
    result = ProbeResult(
        timedelta(milliseconds=41.4),
        failure,
        stages=(StageTime(Stage.AUTH, timedelta(milliseconds=29)),),
        server=ServerFacts(mechanisms=("PLAIN",)),
        message_id="<1@acme.example>",
        dialogue=tuple(Line(Speaker.SERVER, "x" * 999, timedelta()) for _ in range(999)),
    )
    before = MailServerTestStatus(mode=ProbeMode.SEND, start_time="2026-11-22T16:40:00Z")

    status = reported(before, result).document()

    assert status["startTime"] == "2026-11-22T16:40:00Z"
    assert status["duration"] == "41ms"
    assert status["failure"] == {
        "stage": "auth",
        "cause": "BadCredentials",
        "code": 535,
        "enhancedCode": "5.7.8",
        "message": "No.",
        "remedy": "Do.",
        "docs": "docs/a.md#b",
        "transient": False,
    }
    assert status["stages"] == [{"name": "auth", "duration": "29ms"}]
    assert status["server"] == {"mechanisms": ["PLAIN"]}
    assert status["messageID"] == "<1@acme.example>"
    assert len(status["dialogue"]) == MAX_DIALOGUE_LINES
    assert {len(line) for line in status["dialogue"]} == {MAX_LINE}
    kept = reported(before, result, inherited=True).document()
    assert kept == {name: value for name, value in status.items() if name not in ("server", "dialogue")}
    said = "No. Do. See docs/a.md#b or `kubectl mailsettings explain BadCredentials`."
    assert verdict(ProbeMode.SEND, result, now=NOW) == failed(Reason.BAD_CREDENTIALS, said, remedy="Do.")


def test_passing_test_warns_of_a_certificate_that_ends_soon() -> None:
    soon = probe.Certificate("CN=smtp", "CN=ca", NOW + timedelta(days=3))
    result = ProbeResult(timedelta(milliseconds=1), server=ServerFacts(chain=(soon,)))
    finding = verdict(ProbeMode.CONNECT, result, now=NOW)
    assert (finding.status, finding.reason) == (True, Reason.TEST_PASSED)
    assert finding.message.startswith("The server was reached. Warning: the certificate of CN=smtp ends at 2026-11-25")
    assert verdict(ProbeMode.CONNECT, result, now=NOW - timedelta(days=60)).message == "The server was reached."


def test_what_is_under_way_says_its_stage_and_those_behind_it() -> None:
    behind = (StageTime(Stage.RESOLVE, timedelta(milliseconds=3)),)
    began = MailServerTestStatus(mode=ProbeMode.CONNECT, attempt="a")
    status = under_way(began, ProbeProgress(Stage.CONNECT, behind))
    assert status.document()["stages"] == [{"name": "resolve", "duration": "3ms"}]
    assert (status.stage, status.attempt) == ("connect", "a")
    assert under_way(began, ProbeProgress(Stage.RESOLVE)).stages is None
    ended = reported(status, ProbeResult(timedelta(milliseconds=9), stages=behind))
    assert ended.stage is None
