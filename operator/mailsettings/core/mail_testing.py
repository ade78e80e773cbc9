"""What a MailServerTest tests, whether it may, and what its end means for its status. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Final

from mailsettings.api.conditions import ConditionType, Reason
from mailsettings.api.mailservertest import MailServerTestSpec, MailServerTestStatus
from mailsettings.api.probe import ProbeMode
from mailsettings.api.tenants import Tenants
from mailsettings.core.clock import format_time
from mailsettings.core.conditions import Findings
from mailsettings.core.credentials import ResolvedSettings
from mailsettings.core.finding import Finding, failed, passed, unknown
from mailsettings.core.probe import Origin, ProbeProgress, ProbeRequest, ProbeResult, TestMail, TokenWish
from mailsettings.core.probing import (
    PASSED,
    certificate_warning,
    dialogue_texts,
    failure_status,
    milliseconds,
    probed_server,
    progress_statuses,
    sender_of,
    stage_statuses,
    warned,
)
from mailsettings.core.tenancy import recipient_permitted


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the tests may do."""

    running: int
    """How many may run at a time, in all."""
    running_in_namespace: int
    """How many of one namespace may run at a time."""
    waiting_in_namespace: int
    """How many more of one namespace may wait for their turn."""


class Turn(Enum):
    """What a test is to do that has not begun."""

    BEGIN = auto()
    WAIT = auto()
    GIVE_UP = auto()
    """Too many are waiting before it."""


def turn(place: int, *, running: int, running_in_namespace: int, limits: Limits) -> Turn:
    """Whether it is a test's turn.

    Args:
        place: how many of its namespace came before it and have not begun.
        running: how many run now, in all.
        running_in_namespace: how many of its namespace do.
        limits: what is permitted.
    """
    free = min(limits.running - running, limits.running_in_namespace - running_in_namespace)
    if place < free:
        return Turn.BEGIN
    return Turn.WAIT if place < max(free, 0) + limits.waiting_in_namespace else Turn.GIVE_UP


def too_many(limits: Limits) -> Finding:
    """Of a test that is not let in."""
    return failed(
        Reason.TOO_MANY_TESTS,
        f"{limits.waiting_in_namespace} tests of this namespace were waiting already; create it again when they are "
        "done",
    )


def mode_of(spec: MailServerTestSpec, *, has_auth: bool) -> ProbeMode:
    """How far the test goes; without a login to try, Authenticate is no more than Connect."""
    wanted = spec.mode or (ProbeMode.SEND if spec.recipient is not None else ProbeMode.AUTHENTICATE)
    return ProbeMode.CONNECT if wanted is ProbeMode.AUTHENTICATE and not has_auth else wanted


def recipient_refusal(
    spec: MailServerTestSpec, settings: ResolvedSettings, tenants: Tenants | None, *, namespace: str
) -> Finding | None:
    """Why the mail of a tenant that inherits may not go to this recipient; None: it may.

    Args:
        spec: the test's.
        settings: what is tested.
        tenants: the system's word on it.
        namespace: the test's.
    """
    effective = settings.effective
    if spec.recipient is None:
        return None
    patterns = tenants.test_recipients if tenants is not None else None
    if recipient_permitted(spec.recipient, patterns=patterns, sender=effective.mail_from, namespace=namespace):
        return None
    return failed(
        Reason.RECIPIENT_NOT_ALLOWED,
        f"recipient: the system's settings {effective.settings_name!r} do not permit test mails to this address; "
        "send to the address of mailFrom, or ask for it in their tenants.testRecipients",
    )


def probe_request(
    spec: MailServerTestSpec,
    settings: ResolvedSettings,
    mode: ProbeMode,
    origin: Origin,
    *,
    wish: TokenWish | None = None,
    checks_sender: bool = False,
) -> ProbeRequest:
    """What the test asks of the server.

    Args:
        spec: the test's.
        settings: what is tested.
        mode: how far it goes.
        origin: of the test mail.
        wish: the token that is to be got first, where the settings are not saved.
        checks_sender: whether the sender's domain is looked at in DNS.
    """
    mail = None
    if mode is ProbeMode.SEND and spec.recipient is not None:
        mail = TestMail(settings.effective.mail_from, spec.recipient, origin)
    return ProbeRequest(
        server=settings.server,
        mode=mode,
        level=settings.effective.source,
        credentials=settings.credentials,
        mail=mail,
        provider=settings.effective.provider,
        sender=sender_of(settings) if checks_sender else None,
        wish=None if mode is ProbeMode.CONNECT else wish,
    )


def waiting(message: str) -> Finding:
    """Of a test that has not begun."""
    return unknown(Reason.TEST_WAITING, message)


QUEUED: Final = waiting("Other tests come first.")
RUNNING: Final = unknown(Reason.TEST_RUNNING, "The server is being tested.")
INTERRUPTED: Final = failed(
    Reason.INTERRUPTED,
    "The operator ended during the test; a mail may have been sent or not. Create the test again",
)


def verdict(mode: ProbeMode, result: ProbeResult, *, now: datetime) -> Finding:
    """What the end of the dialogue means."""
    if result.failure is not None:
        return failed(result.failure.reason, result.failure.explained, remedy=result.failure.remedy)
    warning = certificate_warning(probed_server(result.server), format_time(now))
    return passed(Reason.TEST_PASSED, f"{PASSED[mode]}{warning}{warned(result.warnings)}")


def under_way(before: MailServerTestStatus, progress: ProbeProgress) -> MailServerTestStatus:
    """The status with how far the dialogue has come."""
    return before.model_copy(update={"stage": str(progress.stage), "stages": progress_statuses(progress)})


def reported(before: MailServerTestStatus, result: ProbeResult, *, inherited: bool = False) -> MailServerTestStatus:
    """The status with what the dialogue has shown.

    Args:
        before: the status so far.
        result: of the dialogue.
        inherited: whether the server is the system's, whose dialogue and certificates are not for tenants.
    """
    return before.model_copy(
        update={
            "duration": milliseconds(result.duration),
            "failure": failure_status(result.failure) if result.failure is not None else None,
            "stage": None,
            "stages": stage_statuses(result),
            "server": None if inherited else probed_server(result.server),
            "message_id": result.message_id,
            "warnings": list(result.warnings) or None,
            "dialogue": None if inherited else dialogue_texts(result.dialogue),
        }
    )


ENDED: Final = "The test has ended; Succeeded says how."


def state_findings(finding: Finding) -> Findings:
    """The conditions of a test about which this is known; a finding that is not unknown is its end.

    `Complete` is for `kubectl wait`, which so ends in any case; `Reconciling` and `Stalled` are what GitOps tools read.
    """
    has_ended = finding.status is not None
    complete = passed if has_ended else failed
    findings = {
        ConditionType.COMPLETE: complete(finding.reason, ENDED if has_ended else finding.message),
        ConditionType.SUCCEEDED: finding,
    }
    if not has_ended:
        findings[ConditionType.RECONCILING] = passed(finding.reason, finding.message)
    elif not finding.holds:
        findings[ConditionType.STALLED] = passed(finding.reason, finding.advice)
    return findings
