"""What the operator knows of the cluster: filled by the watches, read by the reconcilers.

Objects are kept as the JSON text that they came in, not as trees of Python objects, which take several times the
memory; of a Secret only what its metadata tells is kept.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mailsettings.api import names
from mailsettings.api.spec import MailServerSettingsSpec
from mailsettings.controller.keys import Key, Kind, tenant_key
from mailsettings.core.credentials import ObjectKind, ObjectRef
from mailsettings.core.delivery import DeliveredSecret, Owner, owned_fields, withdrawn_by
from mailsettings.core.system import SystemSettings
from mailsettings.core.tenancy import Namespace

Json = Mapping[str, Any]

MAX_REQUEST_LENGTH: Final = 64


@dataclass(slots=True)
class SettingsRecord:
    """A settings object of either kind."""

    key: Key
    uid: str
    generation: int
    requested_at: str | None
    """The annotation by which a person asks for a probe."""
    rotation: str | None
    """The annotation by which a person asks for a renewal of the token."""
    inherits_from: str | None
    """The cluster object that a tenant's settings inherit from."""
    deleted_at: str | None
    """When its deletion began; None: it has not."""
    finalized: bool
    """Whether the operator's finalizer is on it."""
    version: int = field(compare=False)
    """The resource version that a watch has delivered."""
    _spec: bytes
    _status: bytes

    @property
    def deleting(self) -> bool:
        """Whether its deletion has begun."""
        return self.deleted_at is not None

    @property
    def spec(self) -> Any:  # noqa: ANN401 - JSON
        """As the API server has it."""
        return json.loads(self._spec)

    @property
    def status(self) -> dict[str, Any]:
        """As the API server has it, or as the operator has just written it."""
        status: dict[str, Any] = json.loads(self._status)
        return status

    def set_status(self, status: Json) -> None:
        """Notes what the operator has written, so that it need not wait for its own echo."""
        self._status = _text(status)


def settings_record(kind: Kind, body: Json) -> SettingsRecord:
    """The record of an object as a watch delivers it."""
    metadata = body["metadata"]
    spec = body.get("spec") or {}
    return SettingsRecord(
        key=Key(kind, metadata.get("namespace") or "", metadata["name"]),
        uid=metadata["uid"],
        generation=metadata["generation"],
        requested_at=(metadata.get("annotations") or {}).get(names.ANNOTATION_PROBE_REQUESTED_AT),
        rotation=_bounded((metadata.get("annotations") or {}).get(names.ANNOTATION_ROTATE_REQUESTED_AT)),
        inherits_from=MailServerSettingsSpec.inherits_from(spec) if kind is Kind.TENANT else None,
        deleted_at=metadata.get("deletionTimestamp"),
        finalized=names.FINALIZER in (metadata.get("finalizers") or ()),
        version=int(metadata.get("resourceVersion", 0)),
        _spec=_text(spec),
        _status=_text(body.get("status") or {}),
    )


def _bounded(request: str | None) -> str | None:
    """It goes into the status and to the token."""
    return request[:MAX_REQUEST_LENGTH] if request else None


def _text(document: Json) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def secret_record(metadata: Json) -> DeliveredSecret:
    """What a Secret's metadata tells."""
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    owner = _owner(metadata) if labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY else None
    return DeliveredSecret(
        namespace=sys.intern(metadata["namespace"]),
        name=sys.intern(metadata["name"]),
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        owner=owner,
        content=sys.intern(annotations.get(names.ANNOTATION_CONTENT, "")) if owner else "",
        token=annotations.get(names.ANNOTATION_TOKEN, "") if owner else "",
        applied=sys.intern(owned_fields(metadata.get("managedFields") or [])) if owner else "",
        source=sys.intern(annotations.get(names.ANNOTATION_SOURCE, "")) if owner else "",
        consent_of=labels.get(names.LABEL_CONSENT_OF, ""),
    )


def _owner(metadata: Json) -> Owner | None:
    for reference in metadata.get("ownerReferences") or ():
        if reference.get("controller") and reference["apiVersion"].startswith(f"{names.GROUP}/"):
            return Owner(sys.intern(reference["kind"]), sys.intern(reference["name"]), reference["uid"])
    return None


def namespace_record(metadata: Json) -> Namespace:
    """What matters of a namespace."""
    return Namespace(
        name=metadata["name"],
        labels=dict(metadata.get("labels") or {}),
        terminating="deletionTimestamp" in metadata,
        uid=metadata["uid"],
        version=int(metadata["resourceVersion"]),
    )


@dataclass(slots=True)
class Store:
    """The state of the cluster as far as the watches have told it."""

    clusters: dict[str, SettingsRecord] = field(default_factory=dict)
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    systems: dict[str, SystemSettings] = field(default_factory=dict)
    """By name: what tenants see of a cluster object, once it has been worked out."""
    served: set[str] = field(default_factory=set)
    """The namespaces that live on `provision: Always`."""
    provision_failures: dict[str, str] = field(default_factory=dict)
    """By namespace: why `provision: Always` could not serve it."""
    settled: bool = False
    """Whether everything there was at the start has been reconciled once, so that counts of it mean something."""
    _tenants: dict[str, dict[str, SettingsRecord]] = field(default_factory=lambda: defaultdict(dict))
    _secrets: dict[tuple[str, str], DeliveredSecret] = field(default_factory=dict)
    _keys: dict[str, Key] = field(default_factory=dict)
    """By uid."""
    _consents: dict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    """By the uid of the settings: where consents for them are."""
    _owned: dict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    _users: dict[tuple[str, ObjectRef], set[Key]] = field(default_factory=lambda: defaultdict(set))
    _uses: dict[Key, frozenset[tuple[str, ObjectRef]]] = field(default_factory=dict)

    def settings(self, key: Key) -> SettingsRecord | None:
        """A settings object of either kind."""
        if key.kind is Kind.CLUSTER:
            return self.clusters.get(key.name)
        return self._tenants.get(key.namespace, {}).get(key.name)

    def settings_by_uid(self, uid: str) -> SettingsRecord | None:
        """The settings object with this uid."""
        key = self._keys.get(uid)
        record = self.settings(key) if key is not None else None
        return record if record is not None and record.uid == uid else None

    def settings_keys(self) -> list[Key]:
        """All settings objects, those of the cluster first: what tenants get depends on them."""
        return sorted(self._keys.values(), key=lambda key: key.kind is not Kind.CLUSTER)

    def put_settings(self, record: SettingsRecord) -> bool:
        """Stores an object; whether it differs from what was stored."""
        before = self.settings(record.key)
        if before is not None and before.uid != record.uid:
            self._keys.pop(before.uid, None)
        self._keys[record.uid] = record.key
        if record.key.kind is Kind.CLUSTER:
            self.clusters[record.key.name] = record
        else:
            self._tenants[record.key.namespace][record.key.name] = record
        return record != before

    def drop_settings(self, key: Key) -> None:
        """Forgets an object that is gone, with all that was derived from it."""
        gone = self.settings(key)
        if gone is not None:
            self._keys.pop(gone.uid, None)
        if key.kind is Kind.CLUSTER:
            self.clusters.pop(key.name, None)
            self.systems.pop(key.name, None)
        else:
            self._tenants[key.namespace].pop(key.name, None)
            if not self._tenants[key.namespace]:
                del self._tenants[key.namespace]
        self.set_uses(key, "", ())

    def tenants(self) -> list[SettingsRecord]:
        """Every MailServerSettings."""
        return [record for records in self._tenants.values() for record in records.values()]

    def tenants_in(self, namespace: str) -> list[SettingsRecord]:
        """The MailServerSettings of a namespace."""
        return [*self._tenants.get(namespace, {}).values()]

    def inheritors(self, cluster: str) -> Iterator[SettingsRecord]:
        """Every MailServerSettings that inherits from a cluster object, or would like to."""
        for records in self._tenants.values():
            for record in records.values():
                if record.inherits_from == cluster:
                    yield record

    def secret(self, namespace: str, name: str) -> DeliveredSecret | None:
        """What is known of a Secret."""
        return self._secrets.get((namespace, name))

    def secrets_of(self, owner_uid: str) -> list[DeliveredSecret]:
        """The Secrets that a settings object owns."""
        key = self._keys.get(owner_uid)
        secrets = [self._secrets[place] for place in self._owned.get(owner_uid, ())]
        # Anybody can write an owner reference to an object of another namespace; the garbage collector takes a while.
        return [secret for secret in secrets if key is None or key.namespace in ("", secret.namespace)]

    def holders(self, cluster: str) -> set[Key]:
        """What owns a Secret with the values of a cluster object, whatever its spec says by now."""
        held = (self._secrets[place] for places in self._owned.values() for place in places)
        return {
            tenant_key(secret.namespace, secret.owner.name)
            for secret in held
            if secret.owner is not None and secret.owner.kind == Kind.TENANT and withdrawn_by(secret) == cluster
        }

    def concerned_by(self, cluster: str) -> set[Key]:
        """The tenants' settings that a change of a cluster object may matter to."""
        return {tenant.key for tenant in self.inheritors(cluster)} | self.holders(cluster)

    def put_secret(self, record: DeliveredSecret) -> DeliveredSecret | None:
        """Stores what is known of a Secret; what was known before."""
        place = (record.namespace, record.name)
        before = self._remove_secret(place)
        self._secrets[place] = record
        if record.owner is not None:
            self._owned[record.owner.uid].add(place)
        if record.consent_of:
            self._consents[record.consent_of].add(place)
        return before

    def drop_secret(self, namespace: str, name: str) -> DeliveredSecret | None:
        """Forgets a Secret that is gone; what was known of it."""
        return self._remove_secret((namespace, name))

    def _remove_secret(self, place: tuple[str, str]) -> DeliveredSecret | None:
        before = self._secrets.pop(place, None)
        if before is not None and before.owner is not None:
            self._owned[before.owner.uid].discard(place)
            if not self._owned[before.owner.uid]:
                del self._owned[before.owner.uid]
        if before is not None and before.consent_of:
            self._consents[before.consent_of].discard(place)
            if not self._consents[before.consent_of]:
                del self._consents[before.consent_of]
        return before

    def consents_of(self, uid: str) -> list[DeliveredSecret]:
        """The Secrets with consents for the settings of this uid."""
        return [self._secrets[place] for place in self._consents.get(uid, ())]

    def secret_places(self) -> list[tuple[str, str]]:
        """Namespace and name of every known Secret."""
        return [*self._secrets]

    def set_uses(
        self, key: Key, namespace: str, objects: Iterable[ObjectRef], *, also: Iterable[tuple[str, ObjectRef]] = ()
    ) -> None:
        """Notes which objects in a namespace a reconciliation depended on, in place of what was noted before.

        Args:
            key: What depends on them.
            namespace: Where the objects are.
            objects: The objects.
            also: Objects in other namespaces.
        """
        uses = frozenset((namespace, ref) for ref in objects) | frozenset(also)
        for use in self._uses.pop(key, frozenset()) - uses:
            self._users[use].discard(key)
            if not self._users[use]:
                del self._users[use]
        for use in uses:
            self._users[use].add(key)
        if uses:
            self._uses[key] = uses

    def users(self, namespace: str, ref: ObjectRef) -> list[Key]:
        """What depends on an object."""
        return [*self._users.get((namespace, ref), ())]

    def users_of_kind(self, kind: ObjectKind) -> set[Key]:
        """What depends on any object of a kind."""
        return {key for (_, ref), keys in self._users.items() if ref.kind == kind for key in keys}
