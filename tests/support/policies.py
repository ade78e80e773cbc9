"""Admission policies, as a cluster has them of its own, that stand in the operator's way."""

import contextlib
import secrets
from collections.abc import Callable, Iterator
from typing import Final

from tests.support.kube import Kube

POLICIES: Final = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
BINDINGS: Final = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
POLICY_MESSAGE: Final = "not here"


@contextlib.contextmanager
def secrets_policy(
    kube: Kube,
    namespace: str,
    expression: str,
    *,
    in_force: Callable[[], bool],
    operations: tuple[str, ...] = ("CREATE", "UPDATE"),
) -> Iterator[None]:
    """Refuses what is done to Secrets of a namespace of which the CEL expression is not true."""
    name = f"test-{secrets.token_hex(4)}"
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": [*operations],
        "resources": ["secrets"],
    }
    spec = {
        "matchConstraints": {"namespaceSelector": selector, "resourceRules": [rule]},
        "validations": [{"expression": expression, "message": POLICY_MESSAGE}],
    }
    kube.api.request("POST", POLICIES, {"metadata": {"name": name}, "spec": spec})
    try:
        binding = {"policyName": name, "validationActions": ["Deny"]}
        kube.api.request("POST", BINDINGS, {"metadata": {"name": name}, "spec": binding})
        kube.wait(in_force, "the policy to be in force")
        yield
    finally:
        kube.api.request("DELETE", f"{BINDINGS}/{name}")
        kube.api.request("DELETE", f"{POLICIES}/{name}")
