"""The store and what wakes whom."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.api import names
from mailsettings.api.spec import MailServerSettingsSpec
from mailsettings.controller.echoes import Echoes
from mailsettings.controller.keys import Key, Kind, cluster_key, namespace_key, tenant_key
from mailsettings.controller.mail_tests import MailTests
from mailsettings.controller.store import Store, namespace_record, secret_record, settings_record
from mailsettings.controller.triggers import Triggers, Wake
from mailsettings.core.credentials import ObjectRef
from mailsettings.core.tenancy import Namespace
from mailsettings.edges.metadata_watch import Changed, Deleted, Listed
from tests.unit.builders import LIMITS

MAIL = tenant_key("shop", "mail")


class Woken:
    """Triggers with a store, and what they woke since it was last asked."""

    def __init__(self) -> None:
        self.store = Store()
        self._keys: list[Key] = []
        self.later: set[Key] = set()
        self.triggers = Triggers(
            self.store,
            MailTests(LIMITS),
            Echoes(),
            Wake(self._keys.append, self._keys.extend, lambda key, _seconds: self.later.add(key)),
            operator_namespace="mailsettings-system",
        )

    def keys(self) -> set[Key]:
        woken = set(self._keys)
        self._keys.clear()
        return woken


@pytest.fixture
def woken() -> Woken:
    return Woken()


def settings(
    name: str = "mail", namespace: str | None = "shop", *, generation: int = 1, uid: str = "u1", **fields: Any
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "uid": uid, "generation": generation, **fields.pop("metadata", {})}
    if namespace:
        metadata["namespace"] = namespace
    return {"metadata": metadata, "spec": {}, **fields}


def secret(name: str = "smtp", *, version: str = "1", owner: str | None = None, kind: str = "") -> dict[str, Any]:
    metadata: dict[str, Any] = {"namespace": "shop", "name": name, "uid": f"uid-{name}", "resourceVersion": version}
    if owner:
        metadata["labels"] = {names.LABEL_MANAGED_BY: names.MANAGED_BY}
        metadata["ownerReferences"] = [
            {
                "apiVersion": names.API_VERSION,
                "kind": kind or names.TENANT_KIND,
                "name": "mail",
                "uid": owner,
                "controller": True,
            }
        ]
    return metadata


def namespace(name: str = "shop", **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "1", "labels": labels}}


def test_new_and_changed_settings_wake_themselves(woken: Woken) -> None:
    woken.triggers.settings_changed(settings_record(Kind.TENANT, settings()))
    assert woken.keys() == {MAIL}
    woken.triggers.settings_changed(settings_record(Kind.TENANT, settings(generation=2)))
    assert woken.keys() == {MAIL}
    asked = {"annotations": {names.ANNOTATION_PROBE_REQUESTED_AT: "now"}}
    woken.triggers.settings_changed(settings_record(Kind.TENANT, settings(generation=2, metadata=asked)))
    assert woken.keys() == {MAIL}


def test_echo_and_unrelated_changes_wake_nothing(woken: Woken) -> None:
    woken.triggers.settings_changed(settings_record(Kind.TENANT, settings()))
    woken.keys()
    woken.triggers.settings_changed(
        settings_record(Kind.TENANT, settings(metadata={"labels": {"a": "b"}, "resourceVersion": "9"}))
    )
    record = woken.store.settings(MAIL)
    assert record is not None
    record.set_status({"b": 1, "a": [1]})
    woken.triggers.settings_changed(settings_record(Kind.TENANT, settings(status={"a": [1], "b": 1})))
    assert woken.keys() == set()


def test_somebody_elses_status_wakes(woken: Woken) -> None:
    woken.triggers.settings_changed(settings_record(Kind.TENANT, settings()))
    woken.keys()
    woken.triggers.settings_changed(settings_record(Kind.TENANT, settings(status={"conditions": []})))
    assert woken.keys() == {MAIL}


def test_deleted_settings_wake_the_namespace_and_inheritors(woken: Woken) -> None:
    woken.triggers.namespaces_seen(Changed(namespace_record(namespace()["metadata"])))
    woken.triggers.settings_changed(settings_record(Kind.CLUSTER, settings("default", None)))
    woken.triggers.settings_changed(settings_record(Kind.TENANT, settings()))
    woken.keys()
    woken.triggers.deleted(Kind.CLUSTER, settings("default", None))
    assert woken.keys() == {cluster_key("default"), MAIL, namespace_key("shop")}
    woken.triggers.deleted(Kind.TENANT, settings())
    assert woken.keys() == {MAIL, namespace_key("shop")}
    assert woken.store.settings(MAIL) is None


def test_namespace_labels_wake_what_is_in_it_and_have_tenants_counted(woken: Woken) -> None:
    woken.triggers.settings_changed(settings_record(Kind.CLUSTER, settings("default", None)))
    woken.triggers.settings_changed(settings_record(Kind.TENANT, settings()))
    woken.triggers.namespaces_seen(Changed(namespace_record(namespace()["metadata"])))
    woken.keys()
    woken.later.clear()
    woken.triggers.namespaces_seen(Changed(namespace_record(namespace()["metadata"])))
    assert (woken.keys(), woken.later) == (set(), set())
    woken.triggers.namespaces_seen(Changed(namespace_record(namespace(team="a")["metadata"])))
    assert woken.keys() == {namespace_key("shop"), MAIL}
    assert woken.later == {cluster_key("default")}


def test_late_news_of_an_old_namespace_does_not_drop_the_new_one(woken: Woken) -> None:
    woken.triggers.namespaces_seen(Changed(namespace_record(namespace()["metadata"])))
    woken.triggers.namespaces_seen(Deleted(Namespace("shop", {}, uid="older")))
    assert "shop" in woken.store.namespaces
    woken.triggers.namespaces_seen(Deleted(namespace_record(namespace()["metadata"])))
    assert "shop" not in woken.store.namespaces


def test_referenced_objects_wake_their_users_only(woken: Woken) -> None:
    woken.store.set_uses(MAIL, "shop", [ObjectRef("Secret", "smtp"), ObjectRef("ConfigMap", "ca")])
    woken.triggers.secrets_seen(Changed(secret_record(secret("other"))))
    woken.triggers.config_maps_seen(Changed({"namespace": "mall", "name": "ca"}))
    assert woken.keys() == set()
    woken.triggers.secrets_seen(Changed(secret_record(secret())))
    assert woken.keys() == {MAIL}
    woken.triggers.secrets_seen(Changed(secret_record(secret())))
    assert woken.keys() == set()
    woken.triggers.secrets_seen(Deleted(secret_record(secret())))
    assert woken.keys() == {MAIL}
    woken.triggers.config_maps_seen(Changed({"namespace": "shop", "name": "ca"}))
    assert woken.keys() == {MAIL}
    woken.triggers.config_maps_seen(Listed([]))
    assert woken.keys() == {MAIL}


def test_uses_are_replaced_not_added_up(woken: Woken) -> None:
    woken.store.set_uses(MAIL, "shop", [ObjectRef("Secret", "old")])
    woken.store.set_uses(MAIL, "shop", [ObjectRef("Secret", "new")])
    assert woken.store.users("shop", ObjectRef("Secret", "old")) == []
    woken.store.set_uses(MAIL, "", ())
    assert woken.store.users("shop", ObjectRef("Secret", "new")) == []


def test_own_secrets_wake_their_owner(woken: Woken) -> None:
    woken.triggers.secrets_seen(Changed(secret_record(secret("mail-smtp", owner="u1"))))
    assert woken.keys() == {MAIL, namespace_key("shop")}
    woken.triggers.secrets_seen(Changed(secret_record(secret("default-smtp", owner="c1", kind=names.CLUSTER_KIND))))
    assert woken.keys() == {namespace_key("shop")}
    assert [held.name for held in woken.store.secrets_of("u1")] == ["mail-smtp"]


def test_a_label_alone_does_not_make_a_secret_ours() -> None:
    metadata = secret()
    metadata["labels"] = {names.LABEL_MANAGED_BY: names.MANAGED_BY}
    assert secret_record(metadata).owner is None


def test_a_new_listing_drops_what_is_gone(woken: Woken) -> None:
    woken.store.set_uses(MAIL, "shop", [ObjectRef("Secret", "gone"), ObjectRef("Secret", "kept")])
    woken.triggers.secrets_seen(
        Listed(
            [
                secret_record(each)
                for each in (
                    secret("gone"),
                    secret("kept"),
                )
            ]
        )
    )
    woken.keys()
    woken.triggers.secrets_seen(Listed([secret_record(each) for each in (secret("kept"),)]))
    assert woken.keys() == {MAIL}
    assert woken.store.secret("shop", "gone") is None
    assert woken.store.secret("shop", "kept") is not None


optional_block: st.SearchStrategy[dict[str, Any] | None] = st.sampled_from([None, {}])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "useSystemSettings": st.sampled_from([None, True, False]),
            "provider": st.sampled_from([None, "Custom"]),
            "connection": st.sampled_from([None, {}, {"host": "h.example"}]),
            "probe": optional_block,
            "mailFrom": st.sampled_from([None, "a@b.example"]),
            "systemSettingsRef": st.sampled_from([None, {"name": "other"}]),
        },
    )
)
def test_the_quick_look_at_a_spec_agrees_with_the_model(spec: dict[str, Any]) -> None:
    try:
        model = MailServerSettingsSpec.model_validate(spec)
    except ValueError:
        return
    record = settings_record(Kind.TENANT, settings(spec=spec))
    assert record.inherits_from == (model.system_settings_name if model.inherits else None)


# --- what other namespaces claim ---


def test_secret_elsewhere_that_names_the_object_as_its_owner_is_not_the_objects(woken: Woken) -> None:
    """Anybody can write such an owner reference; the garbage collector takes a while to see to it."""
    woken.triggers.settings_changed(settings_record(Kind.TENANT, settings(uid="u1")))
    own = secret("mail-smtp", owner="u1")
    foreign = {**own, "namespace": "thief", "uid": "foreign"}
    for metadata in (own, foreign):
        woken.triggers.secrets_seen(Changed(secret_record(metadata)))
    assert [held.namespace for held in woken.store.secrets_of("u1")] == ["shop"]


def test_consent_elsewhere_wakes_nobody(woken: Woken) -> None:
    woken.triggers.settings_changed(settings_record(Kind.TENANT, settings(uid="u1")))
    woken.keys()
    begun = {**secret("begun"), "labels": {names.LABEL_CONSENT_OF: "u1"}}
    woken.triggers.secrets_seen(Changed(secret_record({**begun, "namespace": "thief"})))
    assert woken.keys() & {tenant_key("shop", "mail")} == set()
    for namespace in ("shop", "mailsettings-system"):
        woken.triggers.secrets_seen(Changed(secret_record({**begun, "namespace": namespace})))
        assert woken.keys() & {tenant_key("shop", "mail")} != set()
