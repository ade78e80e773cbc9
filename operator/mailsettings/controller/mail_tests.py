"""What the operator knows of MailServerTests: which wait, and which run.

Of a test that has ended only what its deletion needs is kept.
"""

import json
from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mailsettings.api.mailservertest import DEFAULT_TTL_SECONDS
from mailsettings.controller.keys import Key, mail_test_key
from mailsettings.core.clock import parse_time
from mailsettings.core.mail_testing import Limits, Turn, turn
from mailsettings.core.probing import ProbeSubject

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MailTestRecord:
    """A MailServerTest."""

    key: Key
    uid: str
    deleting: bool
    started_at: datetime | None
    """When it began; None: it has not."""
    ended_at: datetime | None
    """When it ended; None: it has not."""
    ttl_seconds: int
    """How long it is kept after its end."""
    pending: "PendingMailTest | None"
    """The rest; None once it has ended."""


@dataclass(frozen=True, slots=True)
class PendingMailTest:
    """What of a test is needed until it has ended."""

    created_at: str
    resource_version: str
    generation: int
    _spec: bytes
    _status: bytes

    @property
    def spec(self) -> Any:  # noqa: ANN401 - JSON
        """As the API server has it."""
        return json.loads(self._spec)

    @property
    def status(self) -> dict[str, Any]:
        """As the API server has it."""
        status: dict[str, Any] = json.loads(self._status)
        return status


def mail_test_record(body: Json) -> MailTestRecord:
    """The record of a test as a watch, or the answer to a write, delivers it."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    ended_at = _moment(status.get("completionTime"))
    return MailTestRecord(
        key=mail_test_key(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        deleting="deletionTimestamp" in metadata,
        started_at=_moment(status.get("startTime")),
        ended_at=ended_at,
        ttl_seconds=spec.get("ttlSecondsAfterFinished") or DEFAULT_TTL_SECONDS,
        pending=None if ended_at is not None else _pending(metadata, spec, status),
    )


def _pending(metadata: Json, spec: Json, status: Json) -> PendingMailTest:
    return PendingMailTest(
        created_at=metadata["creationTimestamp"],
        resource_version=metadata["resourceVersion"],
        generation=metadata["generation"],
        _spec=_text(spec),
        _status=_text(status),
    )


def _text(document: Json) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _moment(text: str | None) -> datetime | None:
    """A time that somebody else has written in another form counts as none."""
    try:
        return parse_time(text) if text else None
    except ValueError:
        return None


@dataclass(slots=True)
class MailTests:
    """All MailServerTests, and whose turn it is."""

    limits: Limits
    _records: dict[str, dict[str, MailTestRecord]] = field(default_factory=dict)
    _begun: dict[Key, ProbeSubject] = field(default_factory=dict)
    """What this process has begun and not ended."""
    _waiting: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """By namespace: when and under what name those were created that have not begun, in order."""
    _running: dict[str, set[str]] = field(default_factory=dict)
    """By namespace: the names of those that somebody has begun."""

    def get(self, key: Key) -> MailTestRecord | None:
        """A test."""
        return self._records.get(key.namespace, {}).get(key.name)

    def keys(self) -> list[Key]:
        """All tests."""
        return [record.key for records in self._records.values() for record in records.values()]

    def put(self, record: MailTestRecord) -> bool:
        """Stores a test; whether it differs from what was stored."""
        before = self.get(record.key)
        if before == record:
            return False
        if before is not None:
            self._unlist(before)
        self._records.setdefault(record.key.namespace, {})[record.key.name] = record
        self._list(record)
        return True

    def drop(self, key: Key) -> None:
        """Forgets a test that is gone."""
        gone = self.get(key)
        if gone is None:
            return
        self._unlist(gone)
        del self._records[key.namespace][key.name]
        if not self._records[key.namespace]:
            del self._records[key.namespace]

    def begin(self, key: Key, subject: ProbeSubject) -> None:
        """Notes that this process runs a test."""
        self._begun[key] = subject
        self._relist(key)

    def begun(self, key: Key) -> ProbeSubject | None:
        """What this process tests for the object; None: nothing."""
        return self._begun.get(key)

    def end(self, key: Key) -> None:
        """Notes that this process runs the test no more."""
        self._begun.pop(key, None)
        self._relist(key)

    def turn(self, key: Key) -> Turn:
        """What a test is to do that has not begun."""
        record, waiting = self.get(key), self._waiting.get(key.namespace, [])
        place = bisect_left(waiting, _place(record)) if record is not None else len(waiting)
        return turn(
            place,
            running=sum(map(len, self._running.values())),
            running_in_namespace=len(self._running.get(key.namespace, ())),
            limits=self.limits,
        )

    def next_ones(self) -> list[Key]:
        """The tests that may find it is their turn when another has ended: of each namespace the first that wait."""
        return [
            mail_test_key(namespace, name)
            for namespace, waiting in self._waiting.items()
            for _, name in waiting[: self.limits.running_in_namespace]
        ]

    def _relist(self, key: Key) -> None:
        record = self.get(key)
        if record is not None:
            self._unlist(record)
            self._list(record)

    def _list(self, record: MailTestRecord) -> None:
        if record.pending is None or record.deleting:
            return
        key = record.key
        if record.started_at is not None or key in self._begun:
            self._running.setdefault(key.namespace, set()).add(key.name)
        else:
            insort(self._waiting.setdefault(key.namespace, []), _place(record))

    def _unlist(self, record: MailTestRecord) -> None:
        key = record.key
        running, waiting = self._running.get(key.namespace, set()), self._waiting.get(key.namespace, [])
        running.discard(key.name)
        index = bisect_left(waiting, _place(record))
        if waiting[index : index + 1] == [_place(record)]:
            del waiting[index]
        if not running:
            self._running.pop(key.namespace, None)
        if not waiting:
            self._waiting.pop(key.namespace, None)


def _place(record: MailTestRecord) -> tuple[str, str]:
    """Where it stands among those that wait: by the time of its creation, then by its name."""
    return (record.pending.created_at if record.pending else "", record.key.name)
