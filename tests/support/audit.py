"""What the API server was asked to change, by whom and when: from its audit log."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import yaml

_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "None", "verbs": ["get", "list", "watch"]}, {"level": "Metadata"}],
}


@dataclass(frozen=True)
class Write:
    """A change that was asked for."""

    credential: str
    """Which token it came with, by its `jti`."""
    verb: str
    resource: str
    """With its subresource: `mailserversettings/status`."""
    namespace: str
    name: str
    received_at: datetime
    answered_at: datetime
    code: int

    @property
    def is_of_lease(self) -> bool:
        return self.resource == "leases"

    @property
    def is_done(self) -> bool:
        return self.code < 300


class Audit:
    """The audit log of a control plane."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "audit.log"
        self._policy = folder / "audit-policy.yaml"

    def arguments(self) -> Sequence[str]:
        """What has kube-apiserver write it: each change before it is answered."""
        self._policy.write_text(yaml.safe_dump(_POLICY))
        return (f"--audit-policy-file={self._policy}", f"--audit-log-path={self._log}", "--audit-log-mode=blocking")

    def position(self) -> int:
        """The end of what there is now."""
        return self._log.stat().st_size

    def writes(self, kubeconfig: Path, *, since: int = 0) -> list[Write]:
        """All that whoever uses a kubeconfig has asked for, in the order of the answers."""
        text = self._log.read_bytes()[since:].decode()
        found = [_write(json.loads(line)) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        credential = _credential(kubeconfig)
        return [write for write in found if write.credential == credential]


def _credential(kubeconfig: Path) -> str:
    [user] = yaml.safe_load(kubeconfig.read_text())["users"]
    payload = user["user"]["token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(claims["jti"])


def _write(event: dict[str, Any]) -> Write:
    about = event.get("objectRef") or {}
    [credential] = event["user"].get("extra", {}).get("authentication.kubernetes.io/credential-id") or [""]
    return Write(
        credential=credential.removeprefix("JTI="),
        verb=event["verb"],
        resource="/".join(filter(None, (about.get("resource"), about.get("subresource")))),
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        received_at=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        answered_at=datetime.fromisoformat(event["stageTimestamp"]),
        code=event["responseStatus"]["code"],
    )
