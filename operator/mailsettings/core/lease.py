"""A Lease: what is in it, and when somebody else may take it.

Source: the Kubernetes API, coordination.k8s.io/v1, and what the Kubernetes components do with it (client-go's
leaderelection): the holder renews it, and whoever has seen it unchanged for as long as it lasts may take it. Clocks are
never compared. A holder counts from before it asked for a renewal, everybody else from when they saw it; so however
their clocks are set, the holder knows first that its time is up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a Lease lasts; the rest in the proportions that the Kubernetes components use: 15, 10 and 2 seconds."""

    duration_s: int
    """How long nobody else may take it after it was renewed, in seconds."""

    @property
    def renew_deadline_s(self) -> float:
        """How long its holder acts after it was renewed, in seconds: less than it lasts."""
        return self.duration_s * 2 / 3

    @property
    def retry_s(self) -> float:
        """Seconds from one renewal to the next, and between attempts."""
        return self.duration_s * 2 / 15

    @property
    def margin_s(self) -> float:
        """How long everything that its holder has begun may take to end, in seconds, before anybody else begins."""
        return self.duration_s - self.renew_deadline_s


@dataclass(frozen=True, slots=True)
class Lease:
    """What is in a Lease."""

    holder: str
    """Empty: nobody's."""
    duration_s: int | None
    """How long it lasts by its holder's own terms; None: nobody says so."""
    acquired_at: str
    renewed_at: str
    transitions: int

    @classmethod
    def of(cls, spec: Json) -> "Lease":
        """What a spec says."""
        return cls(
            holder=spec.get("holderIdentity") or "",
            duration_s=spec.get("leaseDurationSeconds"),
            acquired_at=spec.get("acquireTime") or "",
            renewed_at=spec.get("renewTime") or "",
            transitions=spec.get("leaseTransitions") or 0,
        )


def taken(before: Lease | None, holder: str, terms: Terms, *, now: datetime) -> dict[str, Any]:
    """The spec by which somebody takes a Lease.

    Args:
        before: What is in it; None: it does not exist yet.
        holder: Who takes it.
        terms: Under which terms.
        now: The time, which is only for people to read.
    """
    return {
        "holderIdentity": holder,
        "leaseDurationSeconds": terms.duration_s,
        "acquireTime": _micro_time(now),
        "renewTime": _micro_time(now),
        "leaseTransitions": 0 if before is None else before.transitions + 1,
    }


def renewed(terms: Terms, *, now: datetime) -> dict[str, Any]:
    """What its holder writes when it renews a Lease."""
    return {"leaseDurationSeconds": terms.duration_s, "renewTime": _micro_time(now)}


def released(*, now: datetime) -> dict[str, Any]:
    """What its holder changes when it gives a Lease up, so that nobody has to wait."""
    return {"holderIdentity": None, "leaseDurationSeconds": 1, "renewTime": _micro_time(now)}


def _micro_time(moment: datetime) -> str:
    """As metav1.MicroTime has it: RFC 3339 with six digits of a second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Observer:
    """Says when a Lease may be taken, by what has been seen of it and by its own clock alone."""

    def __init__(self, holder: str, terms: Terms) -> None:
        """Nothing has been seen yet.

        Args:
            holder: Who would like to take it.
            terms: How long a Lease lasts that does not say so itself.
        """
        self._holder = holder
        self._terms = terms
        self._seen: Lease | None = None
        self._since_s = 0.0

    def wait_s(self, lease: Lease | None, *, now_s: float) -> float:
        """Notes what is in the Lease; for how many seconds it may not be taken yet, if it stays so. 0: it may now.

        Args:
            lease: What is in it; None: it does not exist. Its last holder may not know that yet.
            now_s: A moment of any clock that only goes forward.
        """
        if lease is not None and lease != self._seen:
            self._seen, self._since_s = lease, now_s
        lease = self._seen
        if lease is None:
            return 0.0
        if lease.holder in ("", self._holder):  # it is this process's own if only the answer to its taking was lost
            return 0.0
        lasts_s = lease.duration_s if lease.duration_s is not None else self._terms.duration_s
        return max(0.0, self._since_s + lasts_s - now_s)
