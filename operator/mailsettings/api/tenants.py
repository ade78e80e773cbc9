"""`spec.tenants` of the cluster kind: which namespaces may use the system's settings, and how."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from mailsettings.api.delivery import Delivery
from mailsettings.api.model import UNIQUE, ApiModel, Lax, Rule
from mailsettings.api.scalars import FromPattern, LabelKey, LabelValue, NamespaceName
from mailsettings.api.sending import SendingPolicy


class SelectorOperator(StrEnum):
    """How a label's value is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class LabelSelectorRequirement(ApiModel):
    """One condition on a label."""

    key: LabelKey
    """The label's key."""
    operator: Annotated[SelectorOperator, Lax]
    """In and NotIn compare with values; Exists and DoesNotExist take none."""
    values: Annotated[list[LabelValue], Field(max_length=64)] | None = None
    """The values to compare with."""

    rules = (
        Rule(
            cel="(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            holds=lambda s: (s.operator in (SelectorOperator.IN, SelectorOperator.NOT_IN)) == bool(s.values),
            message="matchExpressions: In and NotIn need values; Exists and DoesNotExist take none",
        ),
    )


class LabelSelector(ApiModel):
    """Which namespaces, by their labels. An empty selector matches all."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] | None = None
    """Labels that must have exactly these values."""
    match_expressions: Annotated[list[LabelSelectorRequirement], Field(max_length=32)] | None = None
    """Conditions that must all hold."""


class Provision(StrEnum):
    """Who gets a Secret."""

    ALWAYS = "Always"
    ON_REQUEST = "OnRequest"


_NamespaceList = Annotated[list[NamespaceName], Field(max_length=1024), *UNIQUE]


class Tenants(ApiModel):
    """Which namespaces may use these settings, and how.

    Allowed are those that are selected or named, without those excluded. The operator's own namespace, kube-* and
    namespaces that are being deleted never are.
    """

    provision: Annotated[Provision, Lax] = Provision.ON_REQUEST
    """OnRequest serves namespaces that have a MailServerSettings. Always (on the object named default only) also puts
    a Secret default-smtp into every allowed namespace that has none."""
    delivery: Annotated[Delivery, Lax]
    """Credentials copies the effective login into the tenants' Secrets: every tenant can read and keep it. Relay gives
    each tenant a login of its own at the relay in the cluster, which sends for it: nobody sees the system's login."""
    namespace_selector: LabelSelector | None = None
    """Allows namespaces by their labels."""
    namespaces: _NamespaceList | None = None
    """Allows namespaces by name."""
    exclude: _NamespaceList | None = None
    """Takes namespaces out again."""
    allowed_from: Annotated[list[FromPattern], Field(max_length=64), *UNIQUE] | None = None
    """From and Reply-To addresses that an inheriting tenant may choose: * stands for any text without @, and
    {namespace} for the tenant's namespace. When absent only these settings' own mailFrom address."""
    test_recipients: Annotated[list[FromPattern], Field(max_length=64), *UNIQUE] | None = None
    """Where MailServerTests of an inheriting tenant may send mail: patterns as in allowedFrom. When absent only to the
    sender's own address."""
    policy: SendingPolicy | None = None
    """What the relay lets each tenant send; a tenant's own policy can only narrow it."""

    rules = (
        Rule(
            cel="!has(self.policy) || self.delivery == 'Relay'",
            holds=lambda s: s.policy is None or s.delivery is Delivery.RELAY,
            message="tenants.policy: only the relay enforces it; set tenants.delivery to Relay, or remove it",
        ),
    )
