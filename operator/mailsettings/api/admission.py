"""The admission policies that follow from the provider table."""

from typing import Any

from mailsettings.api import names
from mailsettings.api.crd import SETTINGS_KINDS
from mailsettings.api.providers import PROVIDERS

BASIC_WARNING_POLICY = f"basic-auth-warning.{names.GROUP}"


def basic_warning_documents() -> list[dict[str, Any]]:
    """A policy, and its binding, that warns whoever applies `auth.basic` for a provider that is retiring it."""
    return [
        {
            **_header("ValidatingAdmissionPolicy"),
            "spec": {
                # A warning is not worth an outage.
                "failurePolicy": "Ignore",
                "matchConstraints": {
                    "resourceRules": [
                        {
                            "apiGroups": [names.GROUP],
                            "apiVersions": ["*"],
                            "resources": [kind.plural for kind in SETTINGS_KINDS],
                            "operations": ["CREATE", "UPDATE"],
                        }
                    ]
                },
                "validations": [
                    {"expression": _does_not_use_basic(name), "message": provider.basic_warning}
                    for name, provider in PROVIDERS.items()
                    if provider.basic_warning is not None
                ],
            },
        },
        {
            **_header("ValidatingAdmissionPolicyBinding"),
            "spec": {"policyName": BASIC_WARNING_POLICY, "validationActions": ["Warn"]},
        },
    ]


def _header(kind: str) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": BASIC_WARNING_POLICY, "labels": {"app.kubernetes.io/name": "mailsettings"}},
    }


def _does_not_use_basic(provider: str) -> str:
    return (
        f"!(has(object.spec.provider) && object.spec.provider == '{provider}' "
        "&& has(object.spec.auth) && has(object.spec.auth.basic))"
    )
