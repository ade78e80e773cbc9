"""From findings to conditions with a history, and the summary that people and GitOps tools read.

kstatus, which Flux, Argo CD's health scripts and `kubectl wait` users rely on, reads `Reconciling=True` and
`Ready=False` as "in progress" and `Stalled=True` as "failed"; so `Stalled` says that only a person can mend it. `Ready`
repeats the whole message of what is wrong, since many look at nothing else; `Stalled` says only what to do, as
kstatus shows its message and `kubectl describe` shows them all.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from mailsettings.api.conditions import ConditionType, Reason
from mailsettings.api.status import Condition
from mailsettings.core.finding import Finding, failed, passed, unknown

_STATUS: Final = {True: "True", False: "False", None: "Unknown"}

Findings = Mapping[ConditionType, Finding]
"""The findings that apply, in the order in which they are to be mended."""


def summarize(findings: Findings) -> Findings:
    """The findings with `Ready` and, where they apply, `Stalled` and `Reconciling`."""
    summary = {**findings, ConditionType.READY: _ready(findings)}
    stalled = next(((k, f) for k, f in findings.items() if f.needs_person), None)
    if stalled is not None:
        kind, finding = stalled
        summary[ConditionType.STALLED] = passed(finding.reason, f"{kind}: {finding.advice}")
    elif any(f.status is None and f.reason is not Reason.SUSPENDED for f in findings.values()):
        summary[ConditionType.RECONCILING] = passed(Reason.PROGRESSING, summary[ConditionType.READY].message)
    return summary


def _ready(findings: Findings) -> Finding:
    """The first finding that failed, else the first that is unknown, else ready."""
    for status in (False, None):
        for kind, finding in findings.items():
            if finding.status is status:
                message = f"{kind}: {finding.message}"
                return failed(finding.reason, message) if status is False else unknown(finding.reason, message)
    probe = findings.get(ConditionType.PROBE_SUCCEEDED)
    return passed(Reason.READY, probe.message if probe else "Nothing has tested the settings: probes are disabled.")


def conditions(findings: Findings, previous: Iterable[Condition], *, generation: int, now: str) -> list[Condition]:
    """The conditions for these findings; `lastTransitionTime` moves only where the status changed.

    Args:
        findings: what holds now.
        previous: the conditions so far.
        generation: the `metadata.generation` that the findings speak of.
        now: the present time, as `Condition.last_transition_time` has it.
    """
    before = {condition.type: condition for condition in previous}
    return [_condition(kind, finding, before.get(kind), generation, now) for kind, finding in findings.items()]


def _condition(kind: ConditionType, finding: Finding, before: Condition | None, generation: int, now: str) -> Condition:
    status = _STATUS[finding.status]
    unchanged = before is not None and before.status == status
    return Condition(
        type=str(kind),
        status=status,
        reason=str(finding.reason),
        message=finding.message,
        last_transition_time=before.last_transition_time if before is not None and unchanged else now,
        observed_generation=generation,
    )


def transitions(before: Iterable[Condition], after: Iterable[Condition]) -> list[Condition]:
    """The conditions whose status changed to something that is worth an event: now False, or `Ready` and now True."""
    statuses = {condition.type: condition.status for condition in before}
    return [
        condition for condition in after if statuses.get(condition.type) != condition.status and _is_news(condition)
    ]


_REPETITIONS: Final = (Reason.NOT_DELIVERED, Reason.LAST_GOOD_KEPT)
"""Reasons that only say that another condition, which has an event of its own, is not true."""


def is_warning(condition: Condition) -> bool:
    """Whether the news of a condition is bad; that a consent is awaited is as it should be."""
    return condition.status != "True" and condition.reason != Reason.CONSENT_REQUIRED


def _is_news(condition: Condition) -> bool:
    if condition.type == ConditionType.READY:
        return condition.status == "True"
    return condition.status == "False" and condition.reason not in _REPETITIONS
