"""Whether to probe, and what a probe's result means for the status. Pure and level-based.

What was tested last is remembered in the status by a fingerprint of everything that a probe depends on, so a restart
probes nothing that has been probed, and any change of spec, Secret or ConfigMap leads to a new probe at once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from mailsettings.api import names
from mailsettings.api.conditions import Reason, waiting
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import PROVIDERS, MailboxLimits
from mailsettings.api.status import (
    MAX_DIALOGUE_LINES,
    MAX_LINE,
    CertificateStatus,
    ProbedServer,
    ProbeFailureStatus,
    ProbeStatus,
    StageStatus,
)
from mailsettings.core.clock import format_time, parse_time
from mailsettings.core.credentials import ResolvedSettings
from mailsettings.core.dialogue import bounded
from mailsettings.core.digest import Digester
from mailsettings.core.finding import Finding, failed, passed, unknown
from mailsettings.core.mailbox import parse_mailbox
from mailsettings.core.probe import (
    Certificate,
    Hold,
    Line,
    Origin,
    ProbeFailure,
    ProbeProgress,
    ProbeRequest,
    ProbeResult,
    ServerFacts,
    StageTime,
    TestMail,
)
from mailsettings.core.refusals import is_first_refusal
from mailsettings.core.schedule import delay_until_next_probe
from mailsettings.core.sender_dns import Sender
from mailsettings.core.server import Source


@dataclass(frozen=True, slots=True)
class ProbeSubject:
    """What is to be tested, for which object."""

    uid: str
    generation: int
    request: ProbeRequest
    interval: timedelta
    fingerprint: str
    """Of everything that the probe's outcome depends on."""
    requested_at: str | None
    """The annotation by which a person asks for a probe."""
    token: str | None = None
    """The name of the OAuth2 token that is presented; no part of the fingerprint: a renewed token is no change."""
    limits: MailboxLimits | None = None
    """What the provider permits the mailbox."""
    asked_for: bool = False
    """Whether a person is waiting for it."""
    followed: bool = False
    """Whether its progress is of interest, too."""
    uncounted: int = 0
    """How many probes just before it sent no mail since none could be counted."""

    @property
    def credential(self) -> tuple[str, str | None]:
        """The same for subjects of which one probe is enough; a token's fingerprint tells only what it is for."""
        return self.fingerprint, self.token

    def mailbox(self, namespace: str) -> str | None:
        """What is counted as the provider counts it; None: there is no login.

        Anybody can name any mailbox. So that a claim takes no turns from its owner, each namespace's claims are counted
        by themselves; the system's settings are the same ones for all who inherit them.
        """
        login = self.request.credentials or self.request.wish
        if login is None:
            return None
        whose = "" if self.request.level is Source.SYSTEM else namespace
        return f"{self.request.level}/{whose}/{login.username}@{self.request.server.host}".lower()

    def is_same_test(self, other: "ProbeSubject") -> bool:
        """Whether one result serves both."""
        return (self.fingerprint, self.requested_at) == (other.fingerprint, other.requested_at)


@dataclass(frozen=True, slots=True)
class FinishedProbe:
    """A probe that has ended and whose result is not yet in the status."""

    subject: ProbeSubject
    result: ProbeResult
    ended_at: datetime


def probe_subject(
    settings: ResolvedSettings,
    digest: Digester,
    origin: Origin,
    *,
    uid: str,
    generation: int,
    requested_at: str | None,
    checks_sender: bool = False,
) -> ProbeSubject | None:
    """What a probe of these settings tests; None: probes are disabled.

    Args:
        settings: the settings.
        digest: makes the fingerprint, which holds the password.
        origin: of the test mail.
        uid: of the object.
        generation: of the object.
        requested_at: the annotation by which a person asks for a probe.
        checks_sender: whether the sender's domain is looked at in DNS.
    """
    plan = settings.effective.probe
    if plan.mode is ProbeMode.DISABLED:
        return None
    mail = None
    if plan.mode is ProbeMode.SEND and plan.recipient is not None:
        mail = TestMail(settings.effective.mail_from, plan.recipient, origin)
    request = ProbeRequest(
        server=settings.server,
        mode=plan.mode,
        level=settings.effective.source,
        credentials=settings.credentials,
        mail=mail,
        provider=settings.effective.provider,
        sender=sender_of(settings) if checks_sender else None,
        slots_of=uid,
    )
    content = asdict(request)
    content["server"]["timeout"] = settings.server.timeout.total_seconds()
    if settings.server.proxy is None:
        del content["server"]["proxy"]  # so that settings without one are not all tested anew when the operator is
    del content["wish"], content["slots_of"]  # saved settings have no wish; and slots are no matter of the outcome
    if request.sender is None:
        del content["sender"]
    if mail is not None:
        # The rest of its origin makes no difference to the server.
        content["mail"] = {"sender": mail.sender, "recipient": mail.recipient, "settings": origin.settings}
    if settings.token is not None:
        content["credentials"] = settings.token.fingerprint
    token = settings.token.serial if settings.token is not None else None
    return ProbeSubject(
        uid=uid,
        generation=generation,
        request=request,
        interval=plan.interval,
        fingerprint=digest(content),
        requested_at=requested_at,
        token=token,
        limits=PROVIDERS[request.known_provider].limits,
    )


def sender_of(settings: ResolvedSettings) -> Sender:
    """Whose domain mail of these settings is from, and who sends it."""
    effective = settings.effective
    return Sender(parse_mailbox(effective.mail_from).domain, effective.provider)


def remembered(status: ProbeStatus | None) -> ProbeStatus | None:
    """The status, unless it holds what this operator does not write: then nothing is known."""
    if status is None:
        return None
    try:
        parse_time(status.last_probe_time)
        if status.next_probe_time is not None:
            parse_time(status.next_probe_time)
        if status.failure is not None:
            Reason(status.failure.cause)
        if status.server is not None and status.server.certificate is not None:
            parse_time(status.server.certificate.expires_at)
    except ValueError:
        return None
    return status if status.mode in PASSED else None


def due_at(subject: ProbeSubject, status: ProbeStatus | None) -> datetime | None:
    """When the next probe is due; None: at once."""
    if status is None or status.fingerprint != subject.fingerprint or status.next_probe_time is None:
        return None
    if is_asked_for(subject, status):
        return None
    if _deserves_retry(subject, status):
        return None
    # The interval may be shorter by now than it was then.
    return min(parse_time(status.next_probe_time), parse_time(status.last_probe_time) + subject.interval)


def is_asked_for(subject: ProbeSubject, status: ProbeStatus | None) -> bool:
    """Whether there is a request that has not been acted on."""
    handled = status.last_handled_request if status is not None else None
    return subject.requested_at is not None and subject.requested_at != handled


def _deserves_retry(subject: ProbeSubject, status: ProbeStatus) -> bool:
    """Whether a token was refused that should have been good, and another one has been got since: one more try."""
    return is_first_refusal(status) and status.token != subject.token


def record(finished: FinishedProbe, before: ProbeStatus | None) -> ProbeStatus:
    """The status after a probe."""
    failure = finished.result.failure
    subject = finished.subject
    failures = 0 if failure is None else 1 + (before.consecutive_failures if before else 0)
    ended_at = format_time(finished.ended_at)
    status = ProbeStatus(
        mode=subject.request.mode,
        last_probe_time=ended_at,
        last_success_time=ended_at if failure is None else (before.last_success_time if before else None),
        duration=milliseconds(finished.result.duration),
        consecutive_failures=failures,
        last_handled_request=subject.requested_at or (before.last_handled_request if before else None),
        fingerprint=subject.fingerprint,
        generation=subject.generation,
        token=subject.token,
        failure=failure_status(failure) if failure else None,
        message_id=finished.result.message_id,
        server=probed_server(finished.result.server),
        stages=stage_statuses(finished.result),
        warnings=list(finished.result.warnings) or None,
        dialogue=dialogue_texts(bounded(finished.result.dialogue, KEPT_DIALOGUE_BYTES)),
    )
    if status.failure is not None and is_first_refusal(status):
        lenient = status.failure.model_copy(update={"transient": True})
        status = status.model_copy(update={"failure": lenient})
    delay = delay_until_next_probe(
        subject.interval,
        consecutive_failures=failures,
        needs_person=status.failure is not None and not status.failure.transient,
        seed=subject.uid,
    )
    return status.model_copy(update={"next_probe_time": format_time(finished.ended_at + delay)})


KEPT_DIALOGUE_BYTES: Final = 4096
"""Of the dialogue of a settings' own probe: there may be thousands of them, and all are kept as long as they live."""


def dialogue_texts(lines: Sequence[Line]) -> list[str] | None:
    """The dialogue as every status has it; None: nothing was said."""
    return [str(line)[:MAX_LINE] for line in lines[:MAX_DIALOGUE_LINES]] or None


def stage_statuses(result: ProbeResult) -> list[StageStatus] | None:
    """The stages as every status has them; None: there were none."""
    return _stage_statuses(result.stages)


def progress_statuses(progress: ProbeProgress) -> list[StageStatus] | None:
    """The stages that a probe has behind it; None: it is at its first."""
    return _stage_statuses(progress.stages)


def _stage_statuses(stages: Iterable[StageTime]) -> list[StageStatus] | None:
    return [StageStatus(name=str(each.stage), duration=_ms(each.duration)) for each in stages] or None


def _ms(duration: timedelta) -> str:
    return f"{round(duration.total_seconds() * 1000)}ms"


def probed_server(facts: ServerFacts) -> ProbedServer | None:
    """What the server has shown as every status has it; None: nothing."""
    if facts == ServerFacts():
        return None
    first = min(facts.trusted or facts.chain, key=lambda certificate: certificate.expires_at, default=None)
    return ProbedServer(
        tls_version=facts.tls_version,
        cipher=facts.cipher,
        certificate=_certificate_status(first) if first else None,
        chain=[_certificate_status(each) for each in facts.chain] or None,
        mechanisms=list(facts.mechanisms) if facts.mechanisms is not None else None,
        size=facts.size,
    )


def _certificate_status(certificate: Certificate) -> CertificateStatus:
    return CertificateStatus(
        subject=certificate.subject, issuer=certificate.issuer, expires_at=format_time(certificate.expires_at)
    )


def milliseconds(duration: timedelta) -> str:
    """A length of time as every status has it: `182ms`, and never nothing."""
    return f"{max(1, round(duration.total_seconds() * 1000))}ms"


def confirmed(status: ProbeStatus | None, subject: ProbeSubject) -> ProbeStatus | None:
    """The status, under the present generation if what was tested is what that says too.

    Otherwise a Secret that changes afterwards would look like a change of the spec to `verdict`.
    """
    if status is None or status.fingerprint != subject.fingerprint:
        return status
    return status.model_copy(update={"generation": subject.generation})


def failure_status(failure: ProbeFailure) -> ProbeFailureStatus:
    """The failure as every status has it."""
    return ProbeFailureStatus(
        stage=str(failure.stage),
        cause=str(failure.reason),
        code=failure.code,
        enhanced_code=failure.enhanced_code,
        message=failure.message,
        remedy=failure.remedy or None,
        docs=failure.docs or None,
        transient=failure.is_transient,
    )


def verdict(subject: ProbeSubject, status: ProbeStatus | None, *, suspend: bool = False) -> Finding:
    """What is known about whether the settings work.

    While probes are suspended changes are held back too, so the last verdict speaks of what is in force.

    While a change of the spec is untested it is not known. While only a Secret's content has changed, the last
    verdict stands until the new one, so that a rotated password does not make the object flap.
    """
    if status is None:
        return _UNTESTED if suspend else _PENDING
    is_of_another_spec = status.fingerprint != subject.fingerprint and status.generation != subject.generation
    if is_of_another_spec and not suspend:
        return _PENDING
    if status.failure is not None:
        failure = status.failure
        remedy = f"{failure.remedy or failure.message} {TRIED_AGAIN}"
        return failed(Reason(failure.cause), failure.explained, is_transient=failure.transient, remedy=remedy)
    warning = certificate_warning(status.server, status.last_probe_time)
    return passed(Reason.PROBE_PASSED, f"{PASSED[status.mode]}{warning}{warned(status.warnings)}")


TRIED_AGAIN: Final = (
    "A change of the settings or of their Secrets is tried at once; after any other, give the settings that name the "
    f"server a new value of the annotation {names.ANNOTATION_PROBE_REQUESTED_AT}."
)
"""Of what only a person can mend, and not always in the cluster; without it the next probe may be hours away."""


def is_held_back(finished: FinishedProbe) -> bool:
    """Whether a probe sent no mail for the bound on them; the settings are neither better nor worse for that."""
    return finished.result.hold is not None


def held_until(finished: FinishedProbe) -> datetime | None:
    """Until when a probe waits that sent no mail; None: it does not.

    Where mails cannot be counted it is as after other faults that pass: each time longer, at most the interval.
    """
    hold, subject = finished.result.hold, finished.subject
    if hold is None:
        return None
    if hold.until is not None:
        return hold.until
    return finished.ended_at + delay_until_next_probe(
        subject.interval, consecutive_failures=subject.uncounted + 1, needs_person=False, seed=subject.uid
    )


def after_hold(subject: ProbeSubject, held: FinishedProbe | None) -> ProbeSubject:
    """What is to be tested when a probe that sent no mail has waited long enough; None: there was none."""
    if held is None or held.result.hold is None or held.result.hold.until is not None:
        return subject
    return replace(subject, uncounted=held.subject.uncounted + 1)


def held_back(finding: Finding, hold: Hold) -> Finding:
    """Why the next test mail waits, and until when, before the verdict so far."""
    is_counted = hold.until is not None
    waits = waiting(hold.text if is_counted else f"its mail could not be counted, since {hold.text}")
    if finding == _PENDING:
        return unknown(Reason.MAIL_LIMIT_REACHED if is_counted else Reason.MAIL_NOT_COUNTED, waits)
    return replace(finding, message=f"{waits} {finding.message}")


def warned(warnings: Iterable[str] | None) -> str:
    """The warnings as the end of a message."""
    return "".join(f" Warning: {each}." for each in warnings or ())


CERTIFICATE_WARNING: Final = timedelta(days=14)
"""How long before its end a certificate is warned of."""


def certificate_warning(server: ProbedServer | None, seen_at: str) -> str:
    """About a certificate that was close to its end when it was seen; the next probe looks again."""
    certificate = server.certificate if server else None
    if certificate is None:
        return ""
    if parse_time(certificate.expires_at) - parse_time(seen_at) >= CERTIFICATE_WARNING:
        return ""
    return (
        f" Warning: the certificate of {certificate.subject or 'the server'} ends at {certificate.expires_at}; have it "
        "renewed before that, or mail can no longer be sent."
    )


_UNTESTED = unknown(Reason.SUSPENDED, "The settings have never been tested, and suspend holds probes back.")
_PENDING = unknown(Reason.PROBE_PENDING, "The settings are being tested.")
PASSED = {
    ProbeMode.CONNECT: "The server was reached.",
    ProbeMode.AUTHENTICATE: "The server was reached and accepted the login.",
    ProbeMode.SEND: "The server accepted a test mail.",
}
"""What a probe or a test that passed says, by its mode."""
