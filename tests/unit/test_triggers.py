"""What the watches tell, when it comes late or when the operator has been faster itself."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from mailsettings.api import names
from mailsettings.controller.echoes import Echoes
from mailsettings.controller.keys import Key, Kind, cluster_key, namespace_key, tenant_key
from mailsettings.controller.mail_tests import MailTests
from mailsettings.controller.store import Store, secret_record, settings_record
from mailsettings.controller.triggers import Triggers, Wake
from mailsettings.core.credentials import ObjectRef
from mailsettings.core.tenancy import Namespace
from mailsettings.edges.metadata_watch import Changed, Deleted, Listed
from tests.unit.builders import LIMITS

NAMESPACE = "shop"
MAIL = tenant_key(NAMESPACE, "mail")
WAITING = tenant_key(NAMESPACE, "waiting")


@dataclass
class World:
    """The triggers, what they know, and what they have woken."""

    store: Store = field(default_factory=Store)
    woken: list[Key] = field(default_factory=list)
    together: list[Key] = field(default_factory=list)
    """Those of the woken that came with others."""
    later: list[Key] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.triggers = Triggers(
            self.store,
            MailTests(LIMITS),
            Echoes(),
            Wake(self.woken.append, self._wake_together, lambda key, _: self.later.append(key)),
            operator_namespace="mailsettings-system",
        )

    def _wake_together(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.woken.append(key)
            self.together.append(key)


def secret(name: str = "mail-smtp", *, uid: str = "s1", owner: str | None = "u1") -> dict[str, Any]:
    """A Secret's metadata; `owner` is the uid of the settings `mail`."""
    metadata: dict[str, Any] = {"namespace": NAMESPACE, "name": name, "uid": uid, "resourceVersion": "1"}
    if owner is None:
        return metadata
    reference = {"apiVersion": names.API_VERSION, "kind": names.TENANT_KIND, "name": "mail", "uid": owner}
    return {
        **metadata,
        "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
        "ownerReferences": [{**reference, "controller": True}],
    }


def settings(name: str = "mail", *, uid: str = "u1", namespace: str | None = NAMESPACE) -> dict[str, Any]:
    metadata = {"name": name, "uid": uid, "generation": 1} | ({"namespace": namespace} if namespace else {})
    return {"metadata": metadata, "spec": {}}


def test_secret_that_the_operator_removed_itself_frees_its_name_for_others() -> None:
    world = World()
    world.triggers.secrets_seen(Changed(secret_record(secret())))
    world.store.set_uses(WAITING, NAMESPACE, [ObjectRef("Secret", "mail-smtp")])
    world.store.drop_secret(NAMESPACE, "mail-smtp")  # as the operator does at once when it deletes one
    world.woken.clear()

    world.triggers.secrets_seen(Deleted(secret_record(secret())))

    assert {*world.woken} == {WAITING, MAIL, namespace_key(NAMESPACE)}


def test_late_end_of_a_secret_does_not_hide_the_one_made_in_its_place() -> None:
    world = World()
    world.triggers.secrets_seen(Changed(secret_record(secret(uid="s2"))))
    world.triggers.secrets_seen(Deleted(secret_record(secret(uid="s1"))))
    known = world.store.secret(NAMESPACE, "mail-smtp")
    assert known is not None
    assert known.uid == "s2"


def test_foreign_secret_that_stood_in_the_way_of_provision_always_wakes_its_namespace() -> None:
    world = World()
    world.triggers.secrets_seen(Changed(secret_record(secret("default-smtp", owner=None))))
    world.triggers.secrets_seen(Changed(secret_record(secret("another", owner=None))))
    world.woken.clear()

    world.triggers.secrets_seen(Deleted(secret_record(secret("another", owner=None))))
    assert world.woken == []
    world.triggers.secrets_seen(Deleted(secret_record(secret("default-smtp", owner=None))))
    assert world.woken == [namespace_key(NAMESPACE)]


def test_late_end_of_settings_does_not_hide_those_that_replaced_them() -> None:
    world = World()
    for kind, namespace, key in ((Kind.TENANT, NAMESPACE, MAIL), (Kind.CLUSTER, None, cluster_key("mail"))):
        world.triggers.settings_changed(settings_record(kind, settings(uid="u2", namespace=namespace)))
        world.triggers.deleted(kind, settings(uid="u1", namespace=namespace))
        known = world.store.settings(key)
        assert known is not None
        assert known.uid == "u2"
        world.triggers.deleted(kind, settings(uid="u2", namespace=namespace))
        assert world.store.settings(key) is None


def test_end_of_settings_offers_their_secret_to_whoever_wants_its_name() -> None:
    world = World()
    world.triggers.settings_changed(settings_record(Kind.TENANT, settings()))
    world.triggers.secrets_seen(Changed(secret_record(secret())))
    world.store.set_uses(WAITING, NAMESPACE, [ObjectRef("Secret", "mail-smtp")])
    world.woken.clear()

    world.triggers.tenants_seen(Deleted(settings_record(Kind.TENANT, settings())))

    assert WAITING in world.woken
    assert namespace_key(NAMESPACE) in world.woken


def test_settings_that_a_new_listing_lacks_are_gone() -> None:
    world = World()
    other = settings("other", uid="u2")
    world.triggers.tenants_seen(Listed([settings_record(Kind.TENANT, each) for each in (settings(), other)]))
    world.woken.clear()

    world.triggers.tenants_seen(Listed([settings_record(Kind.TENANT, other)]))

    assert world.store.settings(MAIL) is None
    assert world.store.settings(tenant_key(NAMESPACE, "other")) is not None
    assert MAIL in world.woken
    assert tenant_key(NAMESPACE, "other") not in world.woken


def test_settings_that_were_replaced_unwatched_are_those_of_the_new_listing() -> None:
    world = World()
    world.triggers.tenants_seen(Listed([settings_record(Kind.TENANT, settings(uid="u1"))]))
    world.triggers.tenants_seen(Listed([settings_record(Kind.TENANT, settings(uid="u2"))]))
    known = world.store.settings(MAIL)
    assert known is not None
    assert known.uid == "u2"


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap", "relisted", "Namespace"])
@pytest.mark.parametrize("count", [1, 2])
def test_many_that_one_change_concerns_let_others_pass_and_one_does_not(kind: str, count: int) -> None:
    world = World()
    keys = [tenant_key(NAMESPACE, f"user-{number}") for number in range(count)]
    for key in keys:
        world.triggers.settings_changed(settings_record(Kind.TENANT, settings(key.name, uid=key.name)))
        world.store.set_uses(key, NAMESPACE, [ObjectRef("Secret", "shared"), ObjectRef("ConfigMap", "shared")])
    world.woken.clear()

    match kind:
        case "Secret":
            world.triggers.secrets_seen(Changed(secret_record(secret("shared", owner=None))))
        case "ConfigMap":
            world.triggers.config_maps_seen(Changed({"namespace": NAMESPACE, "name": "shared"}))
        case "relisted":
            world.triggers.config_maps_seen(Listed([]))
        case _:
            world.triggers.namespaces_seen(Changed(Namespace(NAMESPACE, {})))

    assert {*world.woken} - {namespace_key(NAMESPACE)} == {*keys}
    assert {*world.together} == ({*keys} if count > 1 else set())
