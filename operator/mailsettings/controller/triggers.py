"""From what the watches see to what is reconciled: keeps the store and wakes whatever depends on a change.

An echo of the operator's own writing changes nothing in the store and wakes nothing.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mailsettings.api import names
from mailsettings.controller.echoes import Echoes
from mailsettings.controller.keys import (
    COALESCE_SECONDS,
    Key,
    Kind,
    cluster_key,
    mail_test_key,
    namespace_key,
    tenant_key,
)
from mailsettings.controller.mail_tests import MailTests, mail_test_record
from mailsettings.controller.store import SettingsRecord, Store, settings_record
from mailsettings.core.credentials import ObjectKind, ObjectRef
from mailsettings.core.delivery import DeliveredSecret
from mailsettings.core.tenancy import Namespace
from mailsettings.edges.metadata_watch import Changed, Deleted, Event, Listed, Metadata


@dataclass(frozen=True, slots=True)
class Wake:
    """Who is told what to reconcile."""

    now: Callable[[Key], None]
    together: Callable[[Iterable[Key]], None]
    """Of what one change concerns together."""
    later: Callable[[Key, float], None]
    """After so many seconds."""


class Triggers:
    """The watches' way into the store and the queue."""

    def __init__(
        self,
        store: Store,
        mail_tests: MailTests,
        echoes: Echoes,
        wake: Wake,
        *,
        operator_namespace: str,
        relay_namespace: str = "",
        relay_secret_seen: Callable[[str, str], None] = lambda _name, _version: None,
    ) -> None:
        self._store = store
        self._mail_tests = mail_tests
        self._echoes = echoes
        self._enqueue = wake.now
        self._enqueue_many = wake.together
        self._enqueue_after = wake.later
        self._operator_namespace = operator_namespace
        self._relay_namespace = relay_namespace
        self._relay_secret_seen = relay_secret_seen

    def tenants_seen(self, event: Event[SettingsRecord]) -> None:
        """The watch of MailServerSettings reports."""
        match event:
            case Listed(items):
                listed = {record.uid for record in items}
                for known in self._store.tenants():
                    if known.uid not in listed:
                        self._settings_deleted(known)
                for record in items:
                    self.settings_changed(record)
            case Changed(record):
                self.settings_changed(record)
            case Deleted(record):
                self._settings_deleted(record)

    def settings_changed(self, record: SettingsRecord) -> None:
        """A settings object was listed, added or modified."""
        if self._echoes.holds(record.key, record.uid, partial(self.settings_changed, record)):
            return
        if self._echoes.is_outdated(record.uid, record.version):
            return
        before = self._store.settings(record.key)
        if not self._store.put_settings(record):
            return
        self._enqueue(record.key)
        if record.key.kind is Kind.TENANT and (before is None or before.inherits_from != record.inherits_from):
            self._recount()

    def deleted(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """An object that kopf watches is gone."""
        if kind is Kind.TEST:
            self._mail_test_deleted(body)
        else:
            self._settings_deleted(settings_record(kind, body))

    def _settings_deleted(self, gone: SettingsRecord) -> None:
        """A settings object is gone. Its Secrets are collected through their owner references."""
        key = gone.key
        self._echoes.forget(key, gone.uid)
        known = self._store.settings(key)
        if known is not None and known.uid != gone.uid:
            return  # it has been replaced, and the news of that was faster
        # Its Secrets may be taken over, by whoever wants their names.
        for secret in self._store.secrets_of(gone.uid):
            self._wake_users("Secret", secret.namespace, secret.name)
        concerned = self._store.concerned_by(key.name) if key.kind is Kind.CLUSTER else set()
        self._store.drop_settings(key)
        self._enqueue(key)
        self._enqueue_many(concerned)
        if key.kind is Kind.TENANT:
            self._enqueue(namespace_key(key.namespace))
            self._recount()
        elif key.name == names.DEFAULT_SETTINGS:
            self._enqueue_many(map(namespace_key, self._store.namespaces))

    def mail_test_changed(self, body: Mapping[str, Any]) -> None:
        """A MailServerTest was listed, added or modified."""
        metadata = body["metadata"]
        if self._echoes.is_outdated(metadata["uid"], int(metadata["resourceVersion"])):
            return
        record = mail_test_record(body)
        if self._mail_tests.put(record):
            self._enqueue(record.key)

    def _mail_test_deleted(self, body: Mapping[str, Any]) -> None:
        key = mail_test_key(body["metadata"]["namespace"], body["metadata"]["name"])
        self._echoes.forget(key, body["metadata"]["uid"])
        known = self._mail_tests.get(key)
        if known is not None and known.uid != body["metadata"]["uid"]:
            return  # it has been made anew, and the news of that was faster
        self._mail_tests.drop(key)
        self._enqueue(key)

    def namespaces_seen(self, event: Event[Namespace]) -> None:
        """The watch of namespaces' metadata reports."""
        match event:
            case Listed(items):
                listed = {namespace.name for namespace in items}
                for namespace in [*self._store.namespaces.values()]:
                    if namespace.name not in listed:
                        self._namespace_deleted(namespace.name, namespace.uid)
                for namespace in items:
                    self._namespace_changed(namespace)
            case Changed(namespace):
                self._namespace_changed(namespace)
            case Deleted(namespace):
                self._namespace_deleted(namespace.name, namespace.uid)

    def _namespace_changed(self, namespace: Namespace) -> None:
        if self._store.namespaces.get(namespace.name) == namespace:
            return
        self._store.namespaces[namespace.name] = namespace
        self._enqueue(namespace_key(namespace.name))
        self._enqueue_all([tenant.key for tenant in self._store.tenants_in(namespace.name)])
        self._recount()

    def _namespace_deleted(self, name: str, uid: str) -> None:
        """A namespace is gone, and all that was in it."""
        known = self._store.namespaces.get(name)
        if known is None or known.uid != uid:
            return  # it has been made anew, and the news of that was faster
        self._store.namespaces.pop(name, None)
        self._store.served.discard(name)
        self._store.provision_failures.pop(name, None)
        self._recount()

    def secrets_seen(self, event: Event[DeliveredSecret]) -> None:
        """The watch of Secrets' metadata reports."""
        match event:
            case Listed(items):
                self._secrets_listed(items)
            case Changed(record):
                self._secret_changed(record)
            case Deleted(record):
                self._secret_gone(record)

    def _secret_changed(self, record: DeliveredSecret) -> None:
        if self._echoes.holds((record.namespace, record.name), record.uid, partial(self._secret_changed, record)):
            return
        if self._echoes.is_outdated(record.uid, int(record.resource_version)):
            return
        before = self._store.put_secret(record)
        if record.namespace == self._relay_namespace:
            self._relay_secret_seen(record.name, record.resource_version)
        if before is None or before.resource_version != record.resource_version:
            self._wake_around_secret(before, record)

    def _secrets_listed(self, items: list[DeliveredSecret]) -> None:
        listed = {(record.namespace, record.name) for record in items}
        for namespace, name in self._store.secret_places():
            gone = self._store.secret(namespace, name)
            if gone is not None and (namespace, name) not in listed:
                self._secret_gone(gone)
        for record in items:
            self._secret_changed(record)

    def _secret_gone(self, gone: DeliveredSecret) -> None:
        """Wakes even if the operator removed it itself: others may have waited for its name to be free."""
        place = (gone.namespace, gone.name)
        if self._echoes.holds(place, gone.uid, partial(self._secret_gone, gone)):
            return  # the answer to the write may come after the end, and would bring it back
        self._echoes.forget(place, gone.uid)
        known = self._store.secret(gone.namespace, gone.name)
        if known is not None and known.uid == gone.uid:  # else it has been made anew
            self._store.drop_secret(gone.namespace, gone.name)
            if gone.namespace == self._relay_namespace:
                self._relay_secret_seen(gone.name, "")
        self._wake_around_secret(gone, gone)

    def config_maps_seen(self, event: Event[Metadata]) -> None:
        """The watch of ConfigMaps' metadata reports. After a new listing anything may have changed."""
        if isinstance(event, Listed):
            self._enqueue_all(self._store.users_of_kind("ConfigMap"))
        else:
            self._wake_users("ConfigMap", event.item["namespace"], event.item["name"])

    def _wake_around_secret(self, before: DeliveredSecret | None, after: DeliveredSecret) -> None:
        self._wake_users("Secret", after.namespace, after.name)
        if after.name == names.ALWAYS_SECRET_NAME:
            self._enqueue(namespace_key(after.namespace))
        consenting = self._store.settings_by_uid(after.consent_of) if after.consent_of else None
        if consenting is not None and after.namespace in (consenting.key.namespace, self._operator_namespace):
            self._enqueue(consenting.key)
        for record in (before, after):
            if record is None or record.owner is None:
                continue
            if record.owner.kind == names.TENANT_KIND:
                self._enqueue(tenant_key(record.namespace, record.owner.name))
            self._enqueue(namespace_key(record.namespace))

    def _wake_users(self, kind: ObjectKind, namespace: str, name: str) -> None:
        self._enqueue_all(self._store.users(namespace, ObjectRef(kind, name)))

    def _enqueue_all(self, keys: Collection[Key]) -> None:
        """Wakes what one change concerns. Somebody may wait for one; of many the others need not wait for all."""
        if len(keys) > 1:
            self._enqueue_many(keys)
            return
        for key in keys:
            self._enqueue(key)

    def _recount(self) -> None:
        """Has the cluster objects count their tenants again, soon."""
        for name in self._store.clusters:
            self._enqueue_after(cluster_key(name), COALESCE_SECONDS)
