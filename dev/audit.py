"""What the operator asked the API server to change, and when: from the audit log of a control plane.

So nobody has to watch the objects, and a write that the operator should not have made cannot be overlooked.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from dev.operator_process import NAMESPACE, SERVICE_ACCOUNT

_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {
            "level": "Metadata",
            "users": [f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"],
            "verbs": ["create", "update", "patch", "delete", "deletecollection"],
        },
        {"level": "None"},
    ],
}

_EPOCH: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Write:
    """A change that was asked for and that the API server has answered.

    Attributes:
        verb: `patch`, `create` and so on.
        resource: The plural, with the subresource behind a slash where there is one.
        namespace: Empty for objects of the cluster.
        name: Empty at a creation whose name is in the body only.
        code: The HTTP status.
        received_at: When the request arrived.
        answered_at: When it was done.
        agent: The user agent that it came from.
        credential: Which token it came with, by its `jti`.
    """

    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    received_at: datetime = _EPOCH
    answered_at: datetime = _EPOCH
    agent: str = ""
    credential: str = ""

    @property
    def is_done(self) -> bool:
        """Whether it was not refused."""
        return self.code < 400

    @property
    def is_of_lease(self) -> bool:
        """Whether it is about who acts, not about what is done."""
        return self.resource == "leases"

    @property
    def at(self) -> float:
        """When it was done, in seconds since 1970."""
        return self.answered_at.timestamp()


class AuditLog:
    """The log that a control plane keeps of all changes that are asked for with the operator's credentials."""

    def __init__(self, folder: Path) -> None:
        """Nothing is there yet.

        Args:
            folder: For the policy and the log.
        """
        self._path = folder / "audit.log"
        self._policy = folder / "audit-policy.yaml"

    def options(self) -> Sequence[str]:
        """The API server's, to be given before it starts: each change is in the log before it is answered."""
        self._policy.parent.mkdir(parents=True, exist_ok=True)
        self._policy.write_text(yaml.safe_dump(_POLICY))
        return (f"--audit-policy-file={self._policy}", f"--audit-log-path={self._path}", "--audit-log-mode=blocking")

    def position(self) -> int:
        """The end of what there is now."""
        return self._path.stat().st_size if self._path.exists() else 0

    def read(self, since: int = 0) -> tuple[list[Write], int]:
        """What was written since a position, in the order of the answers, and the position after that."""
        if not self._path.exists():
            return [], since
        with self._path.open("rb") as log:
            log.seek(since)
            whole, newline, _ = log.read().rpartition(b"\n")
        found = [write_of(line) for line in whole.splitlines()]
        return found, since + len(whole) + len(newline)


def write_of(line: str | bytes) -> Write:
    """The change that a line of the log tells of."""
    event: dict[str, Any] = json.loads(line)
    target = event.get("objectRef") or {}
    [credential] = event["user"].get("extra", {}).get("authentication.kubernetes.io/credential-id") or [""]
    return Write(
        verb=event["verb"],
        resource="/".join(filter(None, (target.get("resource"), target.get("subresource")))),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=event["responseStatus"]["code"],
        received_at=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        answered_at=datetime.fromisoformat(event["stageTimestamp"]),
        agent=event.get("userAgent", ""),
        credential=credential.removeprefix("JTI="),
    )


def credential_of(kubeconfig: Path) -> str:
    """The `jti` of the token in a kubeconfig."""
    [user] = yaml.safe_load(kubeconfig.read_text())["users"]
    payload = user["user"]["token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(claims["jti"])
