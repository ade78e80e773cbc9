"""From a key of the work queue to the reconciler of its kind."""

from datetime import UTC, datetime

from mailsettings.controller.keys import COALESCE_SECONDS, SWEEP, Key, Kind
from mailsettings.controller.reconcile.cluster import reconcile_cluster
from mailsettings.controller.reconcile.mailservertest import reconcile_mail_test
from mailsettings.controller.reconcile.namespace import reconcile_namespace
from mailsettings.controller.reconcile.revoking import finish, set_finalizer
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.reconcile.tenant import reconcile_tenant


async def reconcile(services: Services, key: Key) -> None:
    """Makes true what the key stands for; nothing is to be done for an object that is gone.

    Raises:
        ApiError: the API server is in trouble; try again.
        DeliveryRefusedError: the API server refused a Secret; try again.
    """
    if key.kind is Kind.NAMESPACE:
        namespace = services.store.namespaces.get(key.name)
        if namespace is not None:
            await reconcile_namespace(services, namespace)
        return
    if key.kind is Kind.TEST:
        await reconcile_mail_test(services, key)
        return
    if key.kind is Kind.TOKENS:
        await services.tokens.sweep()
        await services.consents.sweep(
            lambda uid: services.store.settings_by_uid(uid) is not None, now=datetime.now(UTC)
        )
        return
    record = services.store.settings(key)
    if record is None or record.deleting:
        services.probes.forget(key)
        services.store.set_uses(key, "", ())
        services.renewals.forget(key)
        services.consenting.keep_only(key, None)
        services.enqueue_after(SWEEP, COALESCE_SECONDS)
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
