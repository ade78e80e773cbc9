"""Keeps probes running when they are due and brings their results into the status."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mailsettings.api.status import ProbeStatus
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.store import SettingsRecord
from mailsettings.core.credentials import ResolvedSettings
from mailsettings.core.finding import Finding
from mailsettings.core.probe import Origin
from mailsettings.core.probing import (
    FinishedProbe,
    after_hold,
    confirmed,
    due_at,
    held_back,
    held_until,
    is_asked_for,
    is_held_back,
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


def probe(
    services: Services,
    settings_record: SettingsRecord,
    resolved: ResolvedSettings | None,
    before: ProbeStatus | None,
    *,
    suspend: bool,
) -> Probing:
    """Keeps a probe running when one is due, asks to be called again when the next one is, and tells what is known.

    Args:
        services: the shared ones.
        settings_record: the object.
        resolved: its settings; None: they cannot be probed as they are, so the last result is kept.
        before: what its status says of its probe so far.
        suspend: start nothing.
    """
    key = settings_record.key
    if resolved is None:
        services.probes.forget(key)
        return Probing(status=before)
    subject = probe_subject(
        resolved,
        services.digest,
        Origin(str(key), key.namespace, cluster_of(services)),
        uid=settings_record.uid,
        generation=settings_record.generation,
        requested_at=settings_record.requested_at,
        checks_sender=services.checks_sender,
    )
    if subject is None:
        services.probes.forget(key)
        return Probing()
    before = remembered(before)
    finished = services.probes.finished(key, subject)
    held = None
    if finished is not None and is_held_back(finished):
        # It has tested nothing, so nothing of it is kept; it stays with the runner until it is tried again.
        held, finished = finished, None
    status = confirmed(record(finished, before) if finished else before, subject)
    finding = verdict(subject, status, suspend=suspend)
    if suspend:
        return Probing(status, finding, finished)
    wait = _seconds_until(due_at(subject, status))
    # A due time further away than the interval was not set by this clock.
    if 0 < wait <= subject.interval.total_seconds():
        services.enqueue_after(key, wait)
    elif held is not None and held.result.hold is not None and (again_in := _seconds_until(held_until(held))) > 0:
        services.enqueue_after(key, again_in)
        finding = held_back(finding, held.result.hold)
    elif not services.probes.is_running(key, subject):
        again = after_hold(subject, held)
        services.probes.start(key, replace(again, asked_for=is_asked_for(subject, status)))
    return Probing(status, finding, finished)


def cluster_of(services: Services) -> str:
    """The cluster's name as it is configured; else what is usually taken for its identity, shortened."""
    system = services.store.namespaces.get("kube-system")
    return services.cluster_name or (system.uid.partition("-")[0] if system else "unnamed")


def _seconds_until(moment: datetime | None) -> float:
    return 0.0 if moment is None else (moment - datetime.now(UTC)).total_seconds()
