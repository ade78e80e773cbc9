"""Specs and settings for the tests of the core."""

from typing import Any

from mailsettings.api.spec import ClusterMailServerSettingsSpec, MailServerSettingsSpec
from mailsettings.core import credentials
from mailsettings.core.credentials import ObjectRef, Referenced, ReferencedObject, ResolvedSettings, references
from mailsettings.core.effective import EffectiveSettings, own_settings
from mailsettings.core.finding import Finding
from mailsettings.core.mail_testing import Limits
from mailsettings.core.server import Source
from mailsettings.edges.tls import is_usable_bundle

SYSTEM_SPEC: dict[str, Any] = {
    "mailFrom": "Acme <no-reply@acme.example>",
    "connection": {"host": "smtp.acme.example"},
    "auth": {"basic": {"username": "mailer", "passwordSecretRef": {"name": "smtp", "key": "password"}}},
    "tenants": {"delivery": "Credentials", "namespaceSelector": {}},
}


LIMITS = Limits(running=3, running_in_namespace=2, waiting_in_namespace=4)


def system_spec(**fields: Any) -> ClusterMailServerSettingsSpec:
    return ClusterMailServerSettingsSpec.model_validate({**SYSTEM_SPEC, **fields})


def tenant_spec(**fields: Any) -> MailServerSettingsSpec:
    return MailServerSettingsSpec.model_validate(fields)


def effective(**fields: Any) -> EffectiveSettings:
    """The settings in force of a tenant with a server of its own."""
    spec = MailServerSettingsSpec.model_validate(
        {key: value for key, value in {**SYSTEM_SPEC, "tenants": None, **fields}.items() if value is not None}
    )
    return own_settings(spec, source=Source.TENANT, name="mail", generation=3)


def resolve(
    settings: EffectiveSettings, referenced: Referenced, *, require_label: bool = False
) -> tuple[Finding, ResolvedSettings | None]:
    """As the operator does it, with OpenSSL for the CA bundle."""
    return credentials.resolve(settings, referenced, is_usable_bundle=is_usable_bundle, require_label=require_label)


def resolved(*, password: bytes = b"s3cret", ca: bytes | None = None, **fields: Any) -> ResolvedSettings:
    """The same, with what it refers to."""
    settings = effective(**fields)
    values = {"password": password, **({"ca.crt": ca} if ca else {})}
    referenced: dict[ObjectRef, ReferencedObject | None] = {
        ref: ReferencedObject(values) for ref in references(settings)
    }
    finding, result = resolve(settings, referenced)
    assert result is not None, finding
    return result
