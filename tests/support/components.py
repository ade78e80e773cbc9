"""The optional parts of `manifests/`, put in for a while."""

import contextlib
from collections.abc import Iterator
from typing import Final

from dev.cluster import Cluster
from dev.operator_process import NAMESPACE, SERVICE_ACCOUNT
from dev.role_process import ROOT
from mailsettings.api import names
from tests.support.client import Client
from tests.support.waiting import eventually

REVOKE_TOKENS: Final = ROOT / "manifests" / "components" / "revoke-tokens"
_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"


@contextlib.contextmanager
def revoke_tokens(cluster: Cluster) -> Iterator[None]:
    """The operator may patch settings."""
    _give(cluster)
    try:
        yield
    finally:
        _take(cluster)


@contextlib.contextmanager
def without_revoke_tokens(cluster: Cluster) -> Iterator[None]:
    """The right of `revoke_tokens` is missing for a while."""
    _take(cluster)
    try:
        yield
    finally:
        _give(cluster)


def _give(cluster: Cluster) -> None:
    cluster.apply(REVOKE_TOKENS / "operator-rbac.yaml")
    client = Client(cluster.kubeconfig)
    eventually(lambda: _may_patch(client))


def _take(cluster: Cluster) -> None:
    client = Client(cluster.kubeconfig)
    for plural in ("clusterrolebindings", "clusterroles"):
        client.call("DELETE", f"{_RBAC}/{plural}/mailsettings-operator-revoke-tokens")
    eventually(lambda: not _may_patch(client))


def _may_patch(client: Client) -> bool:
    asked = {"verb": "patch", "group": names.GROUP, "resource": names.TENANT_PLURAL}
    user = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"
    body = {"spec": {"user": user, "resourceAttributes": asked}}
    answer = client.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    return bool(answer.body["status"]["allowed"])
