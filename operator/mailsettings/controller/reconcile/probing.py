"""Keeps probes running when they are due and brings their results into the status."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mailsettings.api.probe import ProbeMode
from mailsettings.api.status import ProbeStatus, ServerStatus, TestMailsStatus
from mailsettings.controller.keys import Key
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.store import SettingsRecord
from mailsettings.core.credentials import ResolvedSettings
from mailsettings.core.finding import Finding
from mailsettings.core.mails import counted
from mailsettings.core.probing import (
    FinishedProbe,
    ProbeSubject,
    confirmed,
    due_at,
    is_asked_for,
    probe_subject,
    record,
    remembered,
    verdict,
)


@dataclass(frozen=True, slots=True)
class Probing:
    """What is known of an object's probe."""

    status: ProbeStatus | None = None
    finding: Finding | None = None
    """None: probes are disabled, or there is nothing yet to probe."""
    finished: FinishedProbe | None = None
    """A result that `status` contains and that can be dropped once it is written."""
    due: ProbeSubject | None = None
    """A probe that begins once the status is written, which counts its mail."""
    mails: TestMailsStatus | None = None
    """How many test mails were sent lately, that of `due` included."""


def probe(
    services: Services,
    settings_record: SettingsRecord,
    resolved: ResolvedSettings | None,
    status_before: ServerStatus,
    *,
    suspend: bool,
) -> Probing:
    """Finds out whether a probe is due, asks to be called again when the next one is, and tells what is known.

    Args:
        services: the shared ones.
        settings_record: the object.
        resolved: its settings; None: they cannot be probed as they are, so the last result is kept.
        status_before: the object's status so far.
        suspend: start nothing.
    """
    key, before, mails = settings_record.key, status_before.probe, status_before.test_mails
    if resolved is None:
        services.probes.forget(key)
        return Probing(status=before, mails=mails)
    subject = probe_subject(
        resolved,
        services.digest,
        described_as=str(key),
        uid=settings_record.uid,
        generation=settings_record.generation,
        requested_at=settings_record.requested_at,
        cluster=cluster_of(services),
        checks_sender=services.checks_sender,
    )
    if subject is None:
        services.probes.forget(key)
        return Probing(mails=mails)
    before = remembered(before)
    finished = services.probes.finished(key, subject)
    status = confirmed(record(finished, before) if finished else before, subject)
    due = None
    if not suspend:
        wait = _seconds_until(due_at(subject, status))
        # A due time further away than the interval was not set by this clock.
        if 0 < wait <= subject.interval.total_seconds():
            services.enqueue_after(key, wait)
        elif not services.probes.is_running(key, subject):
            wanted = replace(subject, asked_for=is_asked_for(subject, status))
            due, mails = _counted(services, key, wanted, mails)
    return Probing(status, verdict(subject, status, suspend=suspend), finished, due, mails)


def _counted(
    services: Services, key: Key, subject: ProbeSubject, mails: TestMailsStatus | None
) -> tuple[ProbeSubject | None, TestMailsStatus | None]:
    """What begins now, and the mails that were sent lately with its own; where there is no room for one it waits."""
    if subject.request.mode is not ProbeMode.SEND:
        return subject, mails
    now = datetime.now(UTC)
    count = counted(mails, now)
    if isinstance(count, datetime):
        services.probes.forget(key)  # what ran before tested something else
        services.enqueue_after(key, max(1.0, (count - now).total_seconds()))
        return None, mails
    return subject, count


def cluster_of(services: Services) -> str:
    """The cluster's name as it is configured; else what is usually taken for its identity, shortened."""
    system = services.store.namespaces.get("kube-system")
    return services.cluster_name or (system.uid.partition("-")[0] if system else "unnamed")


def _seconds_until(moment: datetime | None) -> float:
    return 0.0 if moment is None else (moment - datetime.now(UTC)).total_seconds()
