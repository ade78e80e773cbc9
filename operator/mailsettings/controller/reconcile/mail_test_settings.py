"""What a MailServerTest is to test: saved settings as they are in force, or a server that it brings.

Nothing is changed here: a test neither renews a held token nor takes part in what keeps settings true.
"""

from dataclasses import dataclass
from typing import Final

from mailsettings.api import names
from mailsettings.api.conditions import ConditionType, Reason
from mailsettings.api.mailservertest import MailServerTestSpec, SettingsKind
from mailsettings.api.spec import ClusterMailServerSettingsSpec, MailServerSettingsSpec
from mailsettings.api.status import ServerStatus
from mailsettings.api.tenants import Tenants
from mailsettings.controller.keys import Key, cluster_key, tenant_key
from mailsettings.controller.reconcile.authorization import subject_of, with_live_token
from mailsettings.controller.reconcile.references import read_references
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.reconcile.status import read_status
from mailsettings.controller.reconcile.tenant import inherited, is_premature, mirrored, system_suspended
from mailsettings.controller.store import SettingsRecord
from mailsettings.core.acceptance import accept_cluster, accept_tenant, parse_spec
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
    uid: str | None = None
    """Of the settings whose login it is; None: the test brings its own."""
    wish: TokenWish | None = None
    """The token that is to be got first, for the test alone."""
    inherited: bool = False
    """Whether they are the system's, for one of its tenants."""
    tenants: Tenants | None = None
    """What the system says of its tenants, where the settings are the system's."""


async def testable(services: Services, key: Key, spec: MailServerTestSpec, namespace: Namespace) -> Testable | Finding:
    """What is to be tested; or why it cannot be, as a finding that failed, or not yet, as one that is unknown.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    named = spec.settings_ref
    if named is not None and named.kind is SettingsKind.CLUSTER:
        return await _system(services, cluster_key(named.name), namespace)
    if named is not None:
        return await _saved(services, tenant_key(namespace.name, named.name), namespace)
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
    return Testable(resolved, str(key), wish=wish)


async def _system(services: Services, key: Key, namespace: Namespace) -> Testable | Finding:
    """The system's own settings, where the operator runs: only their administrators have rights there."""
    if namespace.name != services.operator_namespace:
        return failed(
            Reason.NOT_ALLOWED,
            f"A {key.kind} is tested in the operator's namespace only; create the test there, or test a "
            f"{names.TENANT_KIND} that uses it",
        )
    record = await _record(services, key)
    if isinstance(record, Finding):
        return record
    spec = parse_spec(ClusterMailServerSettingsSpec, record.spec, custom_cloud=services.custom_cloud)
    if isinstance(spec, Finding):
        return spec
    if spec.suspend:
        return _SUSPENDED
    _, effective = accept_cluster(spec, name=key.name, generation=record.generation, custom_cloud=services.custom_cloud)
    return await _own(services, record, effective, namespace)


async def _saved(services: Services, key: Key, namespace: Namespace) -> Testable | Finding:
    record = await _record(services, key)
    if isinstance(record, Finding):
        return record
    spec = parse_spec(MailServerSettingsSpec, record.spec, custom_cloud=services.custom_cloud)
    return spec if isinstance(spec, Finding) else await _accepted(services, record, spec, namespace)


async def _record(services: Services, key: Key) -> SettingsRecord | Finding:
    record = services.store.settings(key)
    if record is not None:
        return _not_found(key) if record.deleting else record
    if await services.api.get(settings_path(key.kind, key.namespace, key.name)) is not None:
        return waiting(f"The operator has not seen the {key.kind} {key.name!r} yet.")
    return _not_found(key)


async def _accepted(
    services: Services, record: SettingsRecord, spec: MailServerSettingsSpec, namespace: Namespace
) -> Testable | Finding:
    key = record.key
    if await is_premature(services, spec):
        return waiting("The system's settings are being worked out.")
    if spec.suspend or system_suspended(services, spec):
        return _SUSPENDED
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
        return Testable(resolved, str(key), system.uid, inherited=True, tenants=system.tenants)
    return credentials if system.authorized is None else mirrored(system, system.authorized, "Authorized")


_SUSPENDED: Final = failed(
    Reason.SUSPENDED, "The settings are suspended, here or in the system's settings: nothing is tested"
)


def _not_found(key: Key) -> Finding:
    where = f" in the namespace {key.namespace!r}" if key.namespace else ""
    return failed(
        Reason.SETTINGS_NOT_FOUND, f"There is no {key.kind} {key.name!r}{where}; name another one, or create it"
    )


async def _own(
    services: Services, record: SettingsRecord, effective: EffectiveSettings, namespace: Namespace
) -> Testable | Finding:
    resolved = await _resolved(services, effective, namespace)
    if isinstance(resolved, Finding):
        return resolved
    ready = await with_live_token(services, record.uid, resolved)
    return Testable(ready, str(record.key), record.uid) if ready is not None else _unauthorized(record)


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
    for condition in read_status(ServerStatus, record).conditions or ():
        is_verdict = condition.type == ConditionType.AUTHORIZED and condition.status == "False"
        if is_verdict and condition.observed_generation == record.generation and condition.reason in [*Reason]:
            return failed(Reason(condition.reason), condition.message)
    return waiting("The operator holds no token yet.")
