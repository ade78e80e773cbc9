"""Bundles as Secrets in the relay's namespace: one for each login at a mail server, several for the system's.

The relay reads `bundle.json` and nothing else. What the operator needs to know again after a restart stands beside it.
"""

import base64
import binascii
import json
import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from mailsettings.api import names
from mailsettings.core.relay.bundle import Bundle, BundleError, BundleTenant, parse_bundle
from mailsettings.core.relaying import Asked, Passwords
from mailsettings.edges.kubernetes import Json, KubernetesApi, core_collection_path, core_path

BUNDLE_KEY: Final = "bundle.json"
LOGINS_KEY: Final = "logins.json"

SHARDS: Final = 16
"""Of the system's settings. A tenant's place among them never changes, so that no write takes it out for a moment."""

MAX_BYTES: Final = 700_000
"""Of a bundle: in base64 it has to fit into a Secret, which the API server takes up to 1 MiB. Source: Secrets."""

MAX_NAMESPACE_BYTES: Final = 140_000
"""Of that, how much the logins of one namespace take: its people make as many settings as they like."""


@dataclass(frozen=True, slots=True)
class RelayLogin:
    """A login at the relay."""

    tenant: BundleTenant
    """Without its passwords."""
    credential: str
    """The uid of the settings whose mail server it leads to."""
    owner: str
    """The uid of the settings whose Secret holds it."""
    passwords: Passwords
    asked: Asked | None = None
    """What its settings asked for; None: an older operator has written it, and nobody knows."""

    @property
    def entry(self) -> BundleTenant:
        """With its passwords."""
        return self.tenant.model_copy(update={"passwords": self.passwords.hashes, "until": self.passwords.until})


@dataclass(frozen=True, slots=True)
class KeptBundle:
    """A bundle that was found."""

    name: str
    uid: str
    bundle: Bundle
    """Without its tenants."""
    owner: Json
    """The reference to the object that the Secret is collected with."""
    logins: list[RelayLogin]


def shard(username: str) -> int:
    """In which of `SHARDS` a login is."""
    return sha256(username.encode()).digest()[0] % SHARDS


def bundle_name(credential: str, number: int | None) -> str:
    """The name of a bundle's Secret; None: it is not divided."""
    return f"{names.BUNDLE_PREFIX}{credential}" if number is None else f"{names.BUNDLE_PREFIX}{credential}-{number}"


def fitting(bundle: Bundle, logins: list[RelayLogin], told: Collection[str]) -> tuple[list[RelayLogin], Bundle]:
    """The logins that there is room for, in their order, and the bundle with them.

    Args:
        bundle: Without tenants.
        logins: All that should be in it.
        told: The user names that are in it already: nobody else's login takes their room.
    """
    room = MAX_BYTES - len(bundle.model_dump_json(by_alias=True, exclude_none=True).encode())
    shares: Counter[str] = Counter()
    kept = set()
    for login in sorted(logins, key=lambda each: each.tenant.username not in told):
        namespace, octets = login.tenant.namespace, _octets(login)
        if octets > room or shares[namespace] + octets > MAX_NAMESPACE_BYTES:
            continue
        room -= octets
        shares[namespace] += octets
        kept.add(login.tenant.username)
    fit = [login for login in logins if login.tenant.username in kept]
    return fit, _with(bundle, fit)


def _octets(login: RelayLogin) -> int:
    """Of all that a Secret holds of it."""
    entry, facts = login.entry.model_dump_json(by_alias=True, exclude_none=True), json.dumps(_facts(login))
    return len(entry.encode()) + len(facts) + len(login.tenant.username) + len('"": , ,')


def _with(bundle: Bundle, logins: list[RelayLogin]) -> Bundle:
    return bundle.model_copy(update={"tenants": tuple(login.entry for login in logins)})


def manifest(namespace: str, name: str, bundle: Bundle, logins: list[RelayLogin], owner: Json) -> Json:
    """The Secret of a bundle, whose tenants are those of the logins."""
    facts = {login.tenant.username: _facts(login) for login in logins}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_BUNDLE_OF: bundle.credential},
            "ownerReferences": [owner],
        },
        "type": names.BUNDLE_TYPE,
        "data": {
            BUNDLE_KEY: _encoded(bundle.model_dump_json(by_alias=True, exclude_none=True)),
            LOGINS_KEY: _encoded(json.dumps(facts, sort_keys=True)),
        },
    }


def _facts(login: RelayLogin) -> dict[str, str | None]:
    return {
        "owner": login.owner,
        "until": login.passwords.until.isoformat() if login.passwords.until else None,
        "rotation": login.passwords.rotation,
        "asked": login.asked.model_dump_json(by_alias=True, exclude_none=True) if login.asked else None,
    }


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


class BundleStore:
    """Reads, writes and removes bundles."""

    def __init__(self, api: KubernetesApi, namespace: str, logger: logging.Logger) -> None:
        """Nothing is read yet.

        Args:
            api: The connection.
            namespace: The relay's.
            logger: Is told of what cannot be read.
        """
        self._api = api
        self.namespace = namespace
        self._logger = logger

    async def load(self) -> list[KeptBundle]:
        """What there is.

        Raises:
            ApiError: The API server refused.
        """
        found = await self._api.list_objects(core_collection_path("secrets", self.namespace))
        kept = [self._kept(document) for document in found if document.get("type") == names.BUNDLE_TYPE]
        return [each for each in kept if each is not None]

    def _kept(self, document: Json) -> KeptBundle | None:
        metadata, data = document["metadata"], document.get("data") or {}
        owners = metadata.get("ownerReferences") or []
        try:
            bundle = parse_bundle(base64.b64decode(data.get(BUNDLE_KEY, ""), validate=True))
            facts = json.loads(base64.b64decode(data.get(LOGINS_KEY, ""), validate=True))
            logins = [_login(tenant, bundle.credential, facts[tenant.username]) for tenant in bundle.tenants]
            owner = {key: owners[0][key] for key in ("apiVersion", "kind", "name", "uid")}
        except (BundleError, binascii.Error, ValueError, KeyError, IndexError, TypeError) as error:
            self._logger.warning("the bundle %s cannot be read: %s", metadata["name"], type(error).__name__)
            return None
        bare = bundle.model_copy(update={"tenants": ()})
        return KeptBundle(metadata["name"], metadata["uid"], bare, owner, logins)

    async def write(self, body: Json) -> str:
        """Makes the Secret as it is to be; its version.

        Raises:
            ApiError: The API server refused.
        """
        path = core_path("secrets", self.namespace, body["metadata"]["name"])
        applied = await self._api.apply(path, body, force=True)
        version: str = applied["metadata"]["resourceVersion"]
        return version

    async def remove(self, name: str) -> None:
        """Removes the Secret of a bundle, if it is one.

        Raises:
            ApiError: The API server refused.
        """
        path = core_path("secrets", self.namespace, name)
        document = await self._api.get(path)
        if document is not None and document.get("type") == names.BUNDLE_TYPE:
            await self._api.delete(path, uid=document["metadata"]["uid"])


def _login(tenant: BundleTenant, credential: str, facts: Mapping[str, str | None]) -> RelayLogin:
    until, owner = facts["until"], facts["owner"]
    if owner is None:
        raise ValueError("a login has an owner")
    passwords = Passwords(
        hashes=tenant.passwords,
        until=datetime.fromisoformat(until).astimezone(UTC) if until else None,
        rotation=facts["rotation"],
    )
    asked = facts.get("asked")
    return RelayLogin(
        tenant.model_copy(update={"passwords": (), "until": None}),
        credential,
        owner,
        passwords,
        Asked.model_validate_json(asked) if asked else None,
    )
