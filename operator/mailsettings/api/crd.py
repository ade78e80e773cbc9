"""The CustomResourceDefinitions, made from the models."""

from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel

from mailsettings.api import names
from mailsettings.api.mailservertest import MailServerTestSpec, MailServerTestStatus
from mailsettings.api.model import Rule
from mailsettings.api.schema import Schema, structural
from mailsettings.api.spec import ClusterMailServerSettingsSpec, MailServerSettingsSpec
from mailsettings.api.status import ClusterMailServerSettingsStatus, MailServerSettingsStatus
from mailsettings.api.tenants import Provision

Column = tuple[str, str, str, int]
"""Name, JSON path, description, priority. Priority 1 shows with `-o wide` only."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource kind."""

    kind: str
    plural: str
    short: str
    namespaced: bool
    spec: type[BaseModel]
    status: type[BaseModel]
    description: str
    columns: tuple[Column, ...]
    root_rules: tuple[Rule, ...]
    """Rules over the whole object, where a spec's rule cannot see its name. `holds` takes `(name, spec)`."""
    categories: tuple[str, ...] = ()


def _condition(kind: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


_NAME_RULE = Rule(
    cel=f"size(self.metadata.name) <= {names.MAX_NAME_LENGTH}",
    holds=lambda named: len(named[0]) <= names.MAX_NAME_LENGTH,
    message=f"metadata.name: at most {names.MAX_NAME_LENGTH} characters, since it becomes a label value",
)
_ALWAYS_RULE = Rule(
    cel=f"self.metadata.name == '{names.DEFAULT_SETTINGS}' || !has(self.spec.tenants) || "
    f"self.spec.tenants.provision != '{Provision.ALWAYS}'",
    holds=lambda named: (
        named[0] == names.DEFAULT_SETTINGS
        or named[1].tenants is None
        or named[1].tenants.provision is not Provision.ALWAYS
    ),
    message=f"tenants.provision: only the object named {names.DEFAULT_SETTINGS} may provision Always; use OnRequest",
)

_READY_COLUMNS: tuple[Column, ...] = (
    ("Ready", _condition("Ready", "status"), "Whether an application can send mail.", 0),
    ("Reason", _condition("Ready", "reason"), "Why.", 0),
)
_MESSAGE_COLUMN: Column = ("Message", _condition("Ready", "message"), "What to do.", 1)

CLUSTER = Kind(
    kind=names.CLUSTER_KIND,
    plural=names.CLUSTER_PLURAL,
    short="cmss",
    namespaced=False,
    spec=ClusterMailServerSettingsSpec,
    status=ClusterMailServerSettingsStatus,
    description="A mail server of the system, which tenant namespaces may inherit. The one named default is what "
    "they inherit when they name none.",
    columns=(
        *_READY_COLUMNS,
        ("Provider", ".status.effective.provider", "Whose server it is.", 0),
        ("Host", ".status.effective.host", "The server's host.", 0),
        ("Tenants", ".status.tenants.inheriting", "How many namespaces use these settings.", 0),
        ("From", ".status.effective.mailFrom", "The sender.", 1),
        _MESSAGE_COLUMN,
    ),
    root_rules=(_NAME_RULE, _ALWAYS_RULE),
)
TENANT = Kind(
    kind=names.TENANT_KIND,
    plural=names.TENANT_PLURAL,
    short="mss",
    namespaced=True,
    spec=MailServerSettingsSpec,
    status=MailServerSettingsStatus,
    description="The mail server of a tenant: its own, or the system's. What an application needs to send mail is "
    "delivered into a Secret beside it.",
    columns=(
        *_READY_COLUMNS,
        ("Source", ".status.effective.source", "System or Tenant.", 0),
        ("Host", ".status.effective.host", "The server's host.", 0),
        ("Secret", ".status.binding.name", "The Secret to mount.", 0),
        ("From", ".status.effective.mailFrom", "The sender.", 1),
        _MESSAGE_COLUMN,
    ),
    root_rules=(_NAME_RULE,),
    categories=("mailsettings",),
)
TEST = Kind(
    kind=names.TEST_KIND,
    plural=names.TEST_PLURAL,
    short="mst",
    namespaced=True,
    spec=MailServerTestSpec,
    status=MailServerTestStatus,
    description="A test of a mail server that somebody asks for. It runs once, and is deleted a while after its end.",
    columns=(
        ("Settings", ".spec.settingsRef.name", "The settings that are tested; empty where they are in the test.", 0),
        ("Mode", ".status.mode", "How far the test goes.", 0),
        ("Succeeded", _condition("Succeeded", "status"), "How it ended; Unknown before.", 0),
        ("Reason", _condition("Succeeded", "reason"), "Why.", 0),
        ("Recipient", ".spec.recipient", "Who gets the test mail.", 1),
        ("Message", _condition("Succeeded", "message"), "What happened, and what to do.", 1),
    ),
    root_rules=(),
    categories=("mailsettings",),
)
SETTINGS_KINDS = (CLUSTER, TENANT)
KINDS = (*SETTINGS_KINDS, TEST)


def manifest(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                **({"categories": [*kind.categories]} if kind.categories else {}),
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _root(kind)},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [*map(_column, kind.columns), _AGE],
                }
            ],
        },
    }


_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _column(column: Column) -> dict[str, Any]:
    name, path, description, priority = column
    return {
        "name": name,
        "type": "integer" if name == "Tenants" else "string",
        "jsonPath": path,
        "description": description,
        **({"priority": priority} if priority else {}),
    }


def _root(kind: Kind) -> Schema:
    return {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of the API: see the Kubernetes docs."},
            "kind": {"type": "string", "description": "The kind of object: see the Kubernetes docs."},
            "metadata": {"type": "object"},
            "spec": structural(kind.spec),
            "status": {**structural(kind.status), "default": {"observedGeneration": -1}},
        },
        "x-kubernetes-validations": [{"rule": rule.cel, "message": rule.message} for rule in kind.root_rules],
    }


class _PlainDumper(yaml.SafeDumper):
    """YAML without anchors, which the models' shared parts would otherwise become."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the base class's signature
        return True


def to_yaml(*documents: dict[str, Any]) -> str:
    """Documents as YAML text."""
    return yaml.dump_all(documents, Dumper=_PlainDumper, sort_keys=False, width=110, allow_unicode=True)


def render(kind: Kind) -> str:
    """The manifest as YAML text."""
    return to_yaml(manifest(kind))


def file_name(kind: Kind) -> str:
    """The manifest's file name in `crds/`."""
    return f"{names.GROUP}_{kind.plural}.yaml"
