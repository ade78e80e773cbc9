"""The optional parts of `manifests/`, put in for a while."""

import contextlib
from collections.abc import Iterator
from typing import Final

from dev.cluster import Cluster
from dev.operator_process import NAMESPACE, ROOT, SERVICE_ACCOUNT
from mailsettings.api import names
from tests.support.client import Client
from tests.support.waiting import eventually

REVOKE_TOKENS: Final = ROOT / "manifests" / "components" / "revoke-tokens"
_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"


@contextlib.contextmanager
def revoke_tokens(cluster: Cluster) -> Iterator[None]:
    """The operator may patch settings."""
    client = Client(cluster.kubeconfig)

    def may() -> bool:
        asked = {"verb": "patch", "group": names.GROUP, "resource": names.TENANT_PLURAL}
        user = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"
        body = {"spec": {"user": user, "resourceAttributes": asked}}
        answer = client.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
        return bool(answer.body["status"]["allowed"])

    cluster.apply(REVOKE_TOKENS / "operator-rbac.yaml")
    eventually(may)
    try:
        yield
    finally:
        for plural in ("clusterrolebindings", "clusterroles"):
            client.call("DELETE", f"{_RBAC}/{plural}/mailsettings-operator-revoke-tokens")
        eventually(lambda: not may())
