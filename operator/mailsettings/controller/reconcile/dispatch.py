"""From a key of the work queue to the reconciler of its kind."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from mailsettings.controller.keys import COALESCE_SECONDS, RELAY_SWEEP, SWEEP, Key, Kind
from mailsettings.controller.reconcile.cluster import reconcile_cluster
from mailsettings.controller.reconcile.mailservertest import reconcile_mail_test
from mailsettings.controller.reconcile.namespace import reconcile_namespace
from mailsettings.controller.reconcile.relay_certificate import reconcile_certificate
from mailsettings.controller.reconcile.relaying import sweep_logins, sweep_slots
from mailsettings.controller.reconcile.revoking import finish, set_finalizer
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.reconcile.tenant import reconcile_tenant


async def reconcile(services: Services, key: Key) -> None:
    """Makes true what the key stands for; nothing is to be done for an object that is gone.

    Raises:
        ApiError: the API server is in trouble; try again.
        DeliveryRefusedError: the API server refused a Secret; try again.
    """
    other = _OTHERS.get(key.kind)
    if other is not None:
        await other(services, key)
    else:
        await _reconcile_settings(services, key)


async def _reconcile_namespace(services: Services, key: Key) -> None:
    namespace = services.store.namespaces.get(key.name)
    if namespace is not None:
        await reconcile_namespace(services, namespace)


async def _sweep(services: Services, _: Key) -> None:
    await services.tokens.sweep()
    await services.consents.sweep(lambda uid: services.store.settings_by_uid(uid) is not None, now=datetime.now(UTC))


async def _reconcile_bundle(services: Services, key: Key) -> None:
    if key == RELAY_SWEEP:
        sweep_logins(services)
        await sweep_slots(services)
    else:
        await services.relay.write(key.name)


async def _reconcile_certificate(services: Services, _: Key) -> None:
    await reconcile_certificate(services)


_OTHERS: Final[dict[Kind, Callable[[Services, Key], Awaitable[None]]]] = {
    Kind.NAMESPACE: _reconcile_namespace,
    Kind.TEST: reconcile_mail_test,
    Kind.TOKENS: _sweep,
    Kind.BUNDLE: _reconcile_bundle,
    Kind.CERTIFICATE: _reconcile_certificate,
}


async def _reconcile_settings(services: Services, key: Key) -> None:
    record = services.store.settings(key)
    if record is None or record.deleting:
        services.probes.forget(key)
        services.store.set_uses(key, "", ())
        services.renewals.forget(key)
        services.consenting.keep_only(key, None)
        services.enqueue_after(SWEEP, COALESCE_SECONDS)
        services.relay.sweep_soon()
        if record is not None and record.finalized:
            await finish(services, record)
        else:
            services.revocations.forget(key)
        return
    if not services.revokes_tokens:
        await set_finalizer(services, record, wanted=False)  # from when the option was on
    if key.kind is Kind.CLUSTER:
        await reconcile_cluster(services, record)
    else:
        await reconcile_tenant(services, record)
