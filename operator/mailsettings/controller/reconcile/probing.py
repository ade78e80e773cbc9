"""Keeps probes running when they are due and brings their results into the status."""

from dataclasses import dataclass
from datetime import UTC, datetime

from mailsettings.api.status import ProbeStatus
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.store import SettingsRecord
from mailsettings.core.credentials import ResolvedSettings
from mailsettings.core.finding import Finding
from mailsettings.core.probing import FinishedProbe, confirmed, due_at, probe_subject, record, remembered, verdict


@dataclass(frozen=True, slots=True)
class Probing:
    """What is known of an object's probe."""

    status: ProbeStatus | None = None
    finding: Finding | None = None
    """None: probes are disabled, or there is nothing yet to probe."""
    finished: FinishedProbe | None = None
    """A result that `status` contains and that can be dropped once it is written."""


def probe(
    services: Services,
    settings_record: SettingsRecord,
    resolved: ResolvedSettings | None,
    before: ProbeStatus | None,
    *,
    suspend: bool,
) -> Probing:
    """Starts a probe if one is due, asks to be called again when the next one is, and tells what is known.

    Args:
        services: the shared ones.
        settings_record: the object.
        resolved: its settings; None: they cannot be probed as they are, so the last result is kept.
        before: the probe's status so far.
        suspend: start nothing.
    """
    key = settings_record.key
    if resolved is None:
        services.probes.forget(key)
        return Probing(status=before)
    subject = probe_subject(
        resolved,
        services.digest,
        described_as=str(key),
        uid=settings_record.uid,
        generation=settings_record.generation,
        requested_at=settings_record.requested_at,
        cluster=cluster_of(services),
    )
    if subject is None:
        services.probes.forget(key)
        return Probing()
    before = remembered(before)
    finished = services.probes.finished(key, subject)
    status = confirmed(record(finished, before) if finished else before, subject)
    if not suspend:
        wait = _seconds_until(due_at(subject, status))
        # A due time further away than the interval was not set by this clock.
        if 0 < wait <= subject.interval.total_seconds():
            services.enqueue_after(key, wait)
        else:
            services.probes.start(key, subject)
    return Probing(status, verdict(subject, status, suspend=suspend), finished)


def cluster_of(services: Services) -> str:
    """The cluster's name as it is configured; else what is usually taken for its identity, shortened."""
    system = services.store.namespaces.get("kube-system")
    return services.cluster_name or (system.uid.partition("-")[0] if system else "unnamed")


def _seconds_until(moment: datetime | None) -> float:
    return 0.0 if moment is None else (moment - datetime.now(UTC)).total_seconds()
