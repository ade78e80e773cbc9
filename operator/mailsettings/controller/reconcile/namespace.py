"""Reconciles a namespace: its Secret by `provision: Always`, where no MailServerSettings has delivered one."""

from mailsettings.api import names
from mailsettings.api.delivery import Delivery
from mailsettings.controller.deliveries import retry_if_refused
from mailsettings.controller.keys import COALESCE_SECONDS, cluster_key, namespace_key
from mailsettings.controller.reconcile.relaying import RelayDelivery, bound_login, deliver_login, release_login
from mailsettings.controller.reconcile.services import Services
from mailsettings.core.credentials import ResolvedSettings
from mailsettings.core.delivery import DeliveredSecret, Owner
from mailsettings.core.finding import Finding
from mailsettings.core.relaying import Asked, bundle_tenant
from mailsettings.core.system import SystemSettings
from mailsettings.core.tenancy import Namespace


async def reconcile_namespace(services: Services, namespace: Namespace) -> None:
    """Makes the Secret true that the system's settings provide without being asked.

    Raises:
        ApiError: the API server is in trouble; try again.
        DeliveryRefusedError: the API server refused the Secret; try again.
    """
    store = services.store
    if namespace.terminating:
        _note_served(services, namespace.name, is_served=False)
        _note_failure(services, namespace.name, None)
        return
    system = store.systems.get(names.DEFAULT_SETTINGS)
    if system is None and names.DEFAULT_SETTINGS in store.clusters:
        return  # not worked out yet: the cluster object's reconciliation will come back here
    held = _held(services, namespace)
    is_served = _is_served(services, system, namespace)
    _note_served(services, namespace.name, is_served=is_served)
    if not is_served:
        await _step_aside(services, namespace, system, held)
        return
    if system is None:
        return
    if system.suspend or system.resolved is None:
        bound_login(services, namespace.name, namespace_key(namespace.name), system.name)
        if held is not None and system.renewing is not None:
            refusal = await services.deliveries.renew_token(system.renewing, held)
            _note_failure(services, namespace.name, str(refusal.reason) if refusal else None)
            retry_if_refused(refusal)
        return
    finding = await _deliver(services, namespace, system, system.resolved)
    _note_failure(services, namespace.name, str(finding.reason) if finding.status is False else None)
    retry_if_refused(finding)


async def _deliver(
    services: Services, namespace: Namespace, system: SystemSettings, resolved: ResolvedSettings
) -> Finding:
    owner = Owner(names.CLUSTER_KIND, system.name, system.uid)
    if system.tenants is None or system.tenants.delivery is not Delivery.RELAY:
        finding = await services.deliveries.deliver(
            resolved, system.output, namespace=namespace.name, name=names.ALWAYS_SECRET_NAME, owner=owner
        )
        if finding.holds:
            release_login(services, namespace.name, system.name, system.uid)
        return finding
    tenant = bundle_tenant(
        resolved.effective.mail_from,
        system.tenants.policy,
        None,
        namespace=namespace.name,
        settings_name=system.name,
        audit_recipients=services.relay.audit_recipients,
    )
    wanted = RelayDelivery(
        key=namespace_key(namespace.name),
        settings=resolved,
        output=system.output,
        secret_name=names.ALWAYS_SECRET_NAME,
        owner=owner,
        credential=system.uid,
        tenant=tenant,
        asked=Asked(),
    )
    return await deliver_login(services, wanted)


def _held(services: Services, namespace: Namespace) -> DeliveredSecret | None:
    secret = services.store.secret(namespace.name, names.ALWAYS_SECRET_NAME)
    is_ours = secret is not None and secret.owner is not None and secret.owner.kind == names.CLUSTER_KIND
    return secret if is_ours else None


def _is_served(services: Services, system: SystemSettings | None, namespace: Namespace) -> bool:
    """Whether the namespace is to have the Secret: admitted, and without an object that has delivered its own."""
    if system is None or not system.provisions_always:
        return False
    if not system.admits(namespace, operator_namespace=services.operator_namespace):
        return False
    store = services.store
    return not any(store.secrets_of(tenant.uid) for tenant in store.tenants_in(namespace.name))


async def _step_aside(
    services: Services, namespace: Namespace, system: SystemSettings | None, held: DeliveredSecret | None
) -> None:
    """Removes the Secret, unless what the system's settings are is not known."""
    _note_failure(services, namespace.name, None)
    if system is not None and system.effective is None:
        return
    if held is not None:
        await services.deliveries.withdraw(held)
    if system is not None:
        release_login(services, namespace.name, system.name, system.uid)


def _note_served(services: Services, namespace: str, *, is_served: bool) -> None:
    served = services.store.served
    if (namespace in served) == is_served:
        return
    if is_served:
        served.add(namespace)
    else:
        served.remove(namespace)
    services.enqueue_after(cluster_key(names.DEFAULT_SETTINGS), COALESCE_SECONDS)


def _note_failure(services: Services, namespace: str, reason: str | None) -> None:
    failures = services.store.provision_failures
    if failures.get(namespace) == reason:
        return
    if reason is None:
        del failures[namespace]
    else:
        failures[namespace] = reason
    services.enqueue_after(cluster_key(names.DEFAULT_SETTINGS), COALESCE_SECONDS)
