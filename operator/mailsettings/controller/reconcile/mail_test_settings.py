"""What a MailServerTest is to test: saved settings as they are in force, or a server that it brings.

Nothing is changed here: a test neither renews a held token nor takes part in what keeps settings true.
"""

from dataclasses import dataclass

from mailsettings.api.conditions import ConditionType, Reason
from mailsettings.api.mailservertest import MailServerTestSpec
from mailsettings.api.spec import MailServerSettingsSpec
from mailsettings.api.status import MailServerSettingsStatus
from mailsettings.api.tenants import Tenants
from mailsettings.controller.keys import Key, tenant_key
from mailsettings.controller.reconcile.authorization import subject_of, with_live_token
from mailsettings.controller.reconcile.references import read_references
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.reconcile.status import read_status
from mailsettings.controller.reconcile.tenant import inherited, is_premature, mirrored, system_suspended
from mailsettings.controller.store import SettingsRecord
from mailsettings.core.acceptance import accept_tenant, parse_spec
from mailsettings.core.credentials import ResolvedSettings, references, resolve
from mailsettings.core.effective import EffectiveSettings
from mailsettings.core.finding import Finding, failed
from mailsettings.core.mail_testing import waiting
from mailsettings.core.oauth2.trial import token_wish
from mailsettings.core.probe import TokenWish
from mailsettings.core.system import SystemSettings
from mailsettings.core.tenancy import Namespace
from mailsettings.edges.kubernetes import settings_path
from mailsettings.edges.tls import is_usable_bundle


@dataclass(frozen=True, slots=True)
class Testable:
    """Settings that can be tested."""

    resolved: ResolvedSettings
    described_as: str
    """For the test mail."""
    wish: TokenWish | None = None
    """The token that is to be got first, for the test alone."""
    tenants: Tenants | None = None
    """What the system says of its tenants, where the settings are the system's."""


async def testable(services: Services, key: Key, spec: MailServerTestSpec, namespace: Namespace) -> Testable | Finding:
    """What is to be tested; or why it cannot be, as a finding that failed, or not yet, as one that is unknown.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    if spec.settings_ref is not None:
        return await _saved(services, tenant_key(namespace.name, spec.settings_ref.name), namespace)
    return await _brought(services, key, spec, namespace)


async def _brought(services: Services, key: Key, spec: MailServerTestSpec, namespace: Namespace) -> Testable | Finding:
    """A server that the test itself names: a tenant's own."""
    if spec.settings is None:
        raise ValueError("a test has settings or a settingsRef")
    document = spec.settings.model_dump(by_alias=True, exclude_none=True, mode="json")
    brought = {**document, "useSystemSettings": False}
    parsed = parse_spec(MailServerSettingsSpec, brought, custom_cloud=services.custom_cloud)
    if isinstance(parsed, Finding):
        return parsed
    accepted, effective = accept_tenant(
        parsed,
        None,
        name=key.name,
        generation=1,
        namespace=namespace,
        operator_namespace=services.operator_namespace,
    )
    if effective is None:
        return accepted
    resolved = await _resolved(services, effective, namespace)
    if isinstance(resolved, Finding):
        return resolved
    subject = subject_of(services, resolved)
    wish = token_wish(subject) if subject is not None else None
    return Testable(resolved, str(key), wish)


async def _saved(services: Services, key: Key, namespace: Namespace) -> Testable | Finding:
    record = services.store.settings(key)
    if record is None:
        if await services.api.get(settings_path(key.kind, key.namespace, key.name)) is not None:
            return waiting(f"The operator has not seen the {key.kind} {key.name!r} yet.")
        return _not_found(key)
    spec = parse_spec(MailServerSettingsSpec, record.spec, custom_cloud=services.custom_cloud)
    if isinstance(spec, Finding):
        return spec
    return _not_found(key) if record.deleting else await _accepted(services, record, spec, namespace)


async def _accepted(
    services: Services, record: SettingsRecord, spec: MailServerSettingsSpec, namespace: Namespace
) -> Testable | Finding:
    key = record.key
    if await is_premature(services, spec):
        return waiting("The system's settings are being worked out.")
    if spec.suspend or system_suspended(services, spec):
        return failed(
            Reason.SUSPENDED, "The settings are suspended, here or in the system's settings: nothing is tested"
        )
    system = services.store.systems.get(spec.system_settings_name) if spec.inherits else None
    accepted, effective = accept_tenant(
        spec,
        system,
        name=key.name,
        generation=record.generation,
        namespace=namespace,
        operator_namespace=services.operator_namespace,
    )
    if effective is None:
        return accepted
    if system is None:
        return await _own(services, record, effective, namespace)
    return _inherited(key, system, effective)


def _inherited(key: Key, system: SystemSettings, effective: EffectiveSettings) -> Testable | Finding:
    credentials, resolved = inherited(system, effective)
    if resolved is not None:
        return Testable(resolved, str(key), tenants=system.tenants)
    return credentials if system.authorized is None else mirrored(system, system.authorized, "Authorized")


def _not_found(key: Key) -> Finding:
    return failed(
        Reason.SETTINGS_NOT_FOUND,
        f"There is no {key.kind} {key.name!r} in the namespace {key.namespace!r}; name another one, or create it",
    )


async def _own(
    services: Services, record: SettingsRecord, effective: EffectiveSettings, namespace: Namespace
) -> Testable | Finding:
    resolved = await _resolved(services, effective, namespace)
    if isinstance(resolved, Finding):
        return resolved
    ready = await with_live_token(services, record.uid, resolved)
    return Testable(ready, str(record.key)) if ready is not None else _unauthorized(record)


async def _resolved(
    services: Services, effective: EffectiveSettings, namespace: Namespace
) -> ResolvedSettings | Finding:
    referenced = await read_references(services.api, namespace.name, references(effective))
    finding, resolved = resolve(
        effective, referenced, is_usable_bundle=is_usable_bundle, require_label=services.require_secret_label
    )
    return resolved if resolved is not None else finding


def _unauthorized(record: SettingsRecord) -> Finding:
    """What the settings' own condition says; while that is not known, the test waits."""
    for condition in read_status(MailServerSettingsStatus, record).conditions or ():
        is_verdict = condition.type == ConditionType.AUTHORIZED and condition.status == "False"
        if is_verdict and condition.observed_generation == record.generation and condition.reason in [*Reason]:
            return failed(Reason(condition.reason), condition.message)
    return waiting("The operator holds no token yet.")
