"""What tenants are told of a cluster object, and when not."""

from typing import Any, cast

from mailsettings.controller.keys import Key, Kind, tenant_key
from mailsettings.controller.reconcile.cluster import _publish
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.store import Store, settings_record
from mailsettings.core.delivery import DeliveredSecret, Owner, system_source
from mailsettings.core.system import SystemSettings


class FakeServices:
    """As much as is needed here."""

    def __init__(self) -> None:
        self.store = Store()
        self.woken: set[Key] = set()
        self.enqueue = self.woken.add
        self.enqueue_many = self.woken.update


def system(uid: str = "u1") -> SystemSettings:
    return SystemSettings(
        name="default",
        uid=uid,
        suspend=False,
        tenants=None,
        output=None,
        effective=None,
        resolved=None,
        renewing=None,
        authorized=None,
        probe=None,
    )


def body(name: str, uid: str, namespace: str | None = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "uid": uid, "generation": 1}
    return {"metadata": metadata | ({"namespace": namespace} if namespace else {}), "spec": spec}


def test_an_object_that_was_deleted_meanwhile_is_not_published() -> None:
    services = FakeServices()
    _publish(cast("Services", services), system())
    assert services.store.systems == {}
    services.store.put_settings(settings_record(Kind.CLUSTER, body("default", "u2")))
    _publish(cast("Services", services), system("u1"))
    assert services.store.systems == {}


def test_whoever_inherits_or_still_holds_its_values_is_told() -> None:
    services = FakeServices()
    services.store.put_settings(settings_record(Kind.CLUSTER, body("default", "u1")))
    services.store.put_settings(settings_record(Kind.TENANT, body("inherits", "t1", "shop")))
    services.store.put_settings(settings_record(Kind.TENANT, body("own", "t2", "mall", provider="Custom")))
    services.store.put_settings(settings_record(Kind.TENANT, body("other", "t3", "lab", provider="Custom")))
    for uid, namespace, name, source in (
        ("t2", "mall", "own", system_source("default")),
        ("t3", "lab", "other", "MailServerSettings/lab/other"),
    ):
        owner = Owner("MailServerSettings", name, uid)
        services.store.put_secret(DeliveredSecret(namespace, f"{name}-smtp", "s", "1", owner, source=source))

    _publish(cast("Services", services), system())

    assert services.woken == {tenant_key("shop", "inherits"), tenant_key("mall", "own")}
