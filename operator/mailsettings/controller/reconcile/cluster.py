"""Reconciles a ClusterMailServerSettings: works out once what all its tenants then share."""

from collections.abc import Iterable
from typing import Final

from mailsettings.api import names
from mailsettings.api.conditions import ConditionType
from mailsettings.api.spec import ClusterMailServerSettingsSpec
from mailsettings.api.status import ClusterMailServerSettingsStatus, TenantFailure, TenantsStatus
from mailsettings.controller.keys import namespace_key
from mailsettings.controller.reconcile.authorization import authorize, token_ref
from mailsettings.controller.reconcile.consent import end_consents
from mailsettings.controller.reconcile.probing import probe
from mailsettings.controller.reconcile.references import read_references
from mailsettings.controller.reconcile.relaying import renew_upstream, tell_upstream
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.reconcile.settling import settle
from mailsettings.controller.reconcile.status import read_status, write_status
from mailsettings.controller.store import SettingsRecord
from mailsettings.core.acceptance import accept_cluster, parse_spec
from mailsettings.core.credentials import Resolution, references, resolution
from mailsettings.core.effective import EffectiveSettings
from mailsettings.core.finding import Finding
from mailsettings.core.report import effective_status
from mailsettings.core.system import SystemSettings
from mailsettings.edges.tls import is_usable_bundle

MAX_FAILURES: Final = 10


async def reconcile_cluster(services: Services, record: SettingsRecord) -> None:
    """Makes the status of the object true and tells its tenants what concerns them.

    Raises:
        ApiError: the API server is in trouble; try again.
    """
    before = read_status(ClusterMailServerSettingsStatus, record)
    spec = parse_spec(ClusterMailServerSettingsSpec, record.spec, custom_cloud=services.custom_cloud)
    if isinstance(spec, Finding):
        services.probes.forget(record.key)
        await end_consents(services, record)
        _publish(services, _unaccepted(record))
        findings = {ConditionType.ACCEPTED: spec}
        after = before.model_copy(update={"conditions": None})
        await write_status(services, record, before, after, findings)
        return

    accepted, effective = accept_cluster(
        spec, name=record.key.name, generation=record.generation, custom_cloud=services.custom_cloud
    )
    settings = await _resolve(services, record, effective)
    authorization = await authorize(services, record, settings, before.oauth2, before.probe)
    resolved = authorization.resolved
    probing = probe(services, record, resolved, before.probe, suspend=spec.suspend)
    system = SystemSettings(
        name=record.key.name,
        uid=record.uid,
        suspend=spec.suspend,
        tenants=spec.tenants,
        output=spec.output,
        effective=effective,
        resolved=resolved,
        renewing=authorization.renewing,
        authorized=authorization.finding,
        probe=probing.finding,
    )
    _tell_relay(services, record, system)
    _publish(services, system)
    findings = {ConditionType.ACCEPTED: accepted, ConditionType.CREDENTIALS_RESOLVED: settings.finding}
    if authorization.finding is not None:
        findings[ConditionType.AUTHORIZED] = authorization.finding
    if probing.finding is not None:
        findings[ConditionType.PROBE_SUCCEEDED] = probing.finding
    after = ClusterMailServerSettingsStatus(
        effective=effective_status(effective),
        oauth2=authorization.status,
        probe=probing.status,
        relay=services.reports.status(record, before.relay),
        tenants=_tenants(services, system) if services.store.settled else before.tenants,
    )
    await write_status(services, record, before, after, findings)
    settle(services, record, probing, authorization)


def _tell_relay(services: Services, record: SettingsRecord, system: SystemSettings) -> None:
    if system.resolved is None or system.suspend:
        renew_upstream(services, record.uid, system.renewing)
        return
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": names.CLUSTER_KIND,
        "name": record.key.name,
        "uid": record.uid,
    }
    tell_upstream(services, record.uid, owner, system.resolved, divided=True)


async def _resolve(services: Services, record: SettingsRecord, effective: EffectiveSettings) -> Resolution:
    refs = references(effective)
    services.store.set_uses(record.key, services.operator_namespace, [*refs, token_ref(record)])
    referenced = await read_references(services.api, services.operator_namespace, refs)
    return resolution(
        effective, referenced, is_usable_bundle=is_usable_bundle, require_label=services.require_secret_label
    )


def _unaccepted(record: SettingsRecord) -> SystemSettings:
    return SystemSettings(
        name=record.key.name,
        uid=record.uid,
        suspend=False,
        tenants=None,
        output=None,
        effective=None,
        resolved=None,
        renewing=None,
        authorized=None,
        probe=None,
    )


def _publish(services: Services, system: SystemSettings) -> None:
    """Tells the tenants, if anything has changed for them."""
    store = services.store
    current = store.clusters.get(system.name)
    if current is None or current.uid != system.uid:
        return  # it has been deleted while it was worked out
    before = store.systems.get(system.name)
    if before == system:
        return
    store.systems[system.name] = system
    services.enqueue_many(store.concerned_by(system.name))
    if system.name == names.DEFAULT_SETTINGS and (before is None or _always_differs(before, system)):
        services.enqueue_many(map(namespace_key, store.namespaces))


def _always_differs(before: SystemSettings, after: SystemSettings) -> bool:
    """Whether namespaces without an object of their own are concerned; a probe's verdict is none of theirs."""
    if not (before.provisions_always or after.provisions_always):
        return False
    return (before.tenants, before.output, before.resolved, before.renewing, before.suspend, before.uid) != (
        after.tenants,
        after.output,
        after.resolved,
        after.renewing,
        after.suspend,
        after.uid,
    )


def _tenants(services: Services, system: SystemSettings) -> TenantsStatus:
    """Who may use the settings and who does."""
    store = services.store
    admitted = {
        name
        for name, namespace in store.namespaces.items()
        if system.admits(namespace, operator_namespace=services.operator_namespace)
    }
    inheriting = {tenant.key.namespace for tenant in store.inheritors(system.name)} & admitted
    failures: Iterable[tuple[str, str]] = ()
    if system.name == names.DEFAULT_SETTINGS and system.provisions_always:
        inheriting |= store.served & admitted
        failures = sorted(store.provision_failures.items())[:MAX_FAILURES]
    return TenantsStatus(
        allowed=len(admitted),
        inheriting=len(inheriting),
        failures=[TenantFailure(namespace=name, reason=reason) for name, reason in failures] or None,
    )
