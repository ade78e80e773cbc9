"""What the API server's audit log tells of the operator's writes: every one of them, and when it was done.

So nobody has to watch the objects while the time runs, which would cost the API server more than it costs the operator
to write them; and a write that the operator should not have made cannot be overlooked.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bench.errors import BenchError
from bench.progress import say

USER: Final = "system:serviceaccount:mailsettings-system:mailsettings-operator"
AGENT: Final = "mailsettings-bench"
"""The user agent of the benchmarks' own requests, which are made with the operator's credentials."""

POLICY: Final = f"""
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    users: ["{USER}"]
    verbs: [create, update, patch, delete, deletecollection]
  - level: None
"""
POLL_S: Final = 0.05
QUIET_S: Final = 1.5
"""The operator delays what it coalesces by a second; what has not come after this does not come."""


@dataclass(frozen=True, slots=True)
class Write:
    """A write that the API server has answered.

    Attributes:
        verb: `patch`, `create` and so on.
        resource: The plural, with the subresource behind a slash where there is one.
        namespace: Empty for objects of the cluster.
        name: Empty at a creation whose name is in the body only.
        code: The HTTP status.
        at: When it was done, in seconds since 1970.
    """

    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    at: float

    @property
    def done(self) -> bool:
        """Whether it was not refused."""
        return self.code < 400


def write_of(line: str) -> Write | None:
    """The operator's write that a line of the log tells of; None: a benchmark's own."""
    event: dict[str, Any] = json.loads(line)
    if event.get("userAgent", "").startswith(AGENT):
        return None
    target = event.get("objectRef") or {}
    resource = "/".join(part for part in (target.get("resource"), target.get("subresource")) if part)
    return Write(
        verb=event["verb"],
        resource=resource,
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=event["responseStatus"]["code"],
        at=datetime.fromisoformat(event["stageTimestamp"]).timestamp(),
    )


class AuditLog:
    """The log of a running API server."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "audit.log"
        self._policy = directory / "audit-policy.yaml"
        self._read = 0
        self._rest = ""
        self._writes: list[Write] = []

    def options(self) -> list[str]:
        """The API server's, to be given before it starts; writes the policy."""
        self._policy.parent.mkdir(parents=True, exist_ok=True)
        self._policy.write_text(POLICY)
        return [f"--audit-policy-file={self._policy}", f"--audit-log-path={self._path}"]

    def forget(self) -> None:
        """Begins anew: what has been written so far does not count."""
        self._look()
        self._writes = []

    @property
    def writes(self) -> list[Write]:
        """The operator's, since the last `forget`, also those that were refused."""
        self._look()
        return self._writes

    async def settled(self, is_complete: Callable[[Sequence[Write]], bool], *, timeout_s: float) -> list[Write]:
        """All writes, once what was awaited has been written and nothing more has followed for `QUIET_S`.

        Raises:
            BenchError: It took longer than `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        told = time.monotonic()
        while True:
            writes = self.writes
            last = max((write.at for write in writes), default=0.0)
            if time.time() - last > QUIET_S and is_complete(writes):
                return [*writes]
            if time.monotonic() > deadline:
                raise BenchError(f"after {timeout_s:.0f} s there were {len(writes)} writes, and not all that should be")
            if time.monotonic() > told + 10:
                told = time.monotonic()
                say(f"  … {len(writes)} writes")
            await asyncio.sleep(POLL_S)

    def _look(self) -> None:
        if not self._path.exists():
            return
        with self._path.open(encoding="utf-8") as log:
            log.seek(self._read)
            text = self._rest + log.read()
            self._read = log.tell()
        *lines, self._rest = text.split("\n")
        self._writes += [write for line in lines if (write := write_of(line)) is not None]


def to(writes: Sequence[Write], *resources: str) -> list[Write]:
    """Those of the writes that changed one of these resources."""
    return [write for write in writes if write.done and write.resource in resources]


def objects_of(writes: Sequence[Write], resource: str) -> int:
    """How many different objects of a resource were changed."""
    return len({(write.namespace, write.name) for write in to(writes, resource)})
