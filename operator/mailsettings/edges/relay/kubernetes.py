"""The relay in a cluster: its bundles are Secrets of one namespace, and it has the API server check tokens."""

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Final

import aiohttp

from mailsettings.api import names
from mailsettings.core.digest import checksum
from mailsettings.core.relay.bundle import Bundle, BundleError, parse_bundle
from mailsettings.edges.kubernetes import ApiError, Json, KubernetesApi, core_collection_path
from mailsettings.edges.metadata_watch import Changed, Deleted, Listed, watch_objects, whole
from mailsettings.edges.relay.local import LOGGER, MemoryBundles
from mailsettings.edges.relay_bundles import BUNDLE_KEY
from mailsettings.edges.relay_endpoints import watch_replicas

RENEWED_WITHIN_S: Final = 20.0
"""How long a message waits for another access token."""

TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"

_ACCOUNT: Final = re.compile("system:serviceaccount:([a-z0-9]([a-z0-9-]*[a-z0-9])?):[a-z0-9.-]+")


class SecretBundles(MemoryBundles):
    """The bundles that the operator writes. Of a Secret that is none what it held before stays."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        """Nothing is read yet.

        Args:
            api: The connection.
            namespace: The relay's.
        """
        super().__init__()
        self._api = api
        self._namespace = namespace
        self._read: dict[str, Bundle] = {}
        self.listed = asyncio.Event()
        """Is set once all that there is has been read."""
        self.changed = asyncio.Event()
        """Is set with the next change, and then another one is put in its place."""

    async def keep_loaded(self) -> None:
        """Follows the changes, until it is cancelled."""
        path = core_collection_path("secrets", self._namespace)
        watching = watch_objects(self._api, path, LOGGER, record=whole, label_selector=names.LABEL_BUNDLE_OF)
        async for event in watching:
            match event:
                case Listed(items):
                    self._listed(items)
                case Changed(item):
                    self._take(item)
                case Deleted(item):
                    self._read.pop(item["metadata"]["name"], None)
            self.replace(self._read[name] for name in sorted(self._read))
            self.changed.set()
            self.changed = asyncio.Event()
            if isinstance(event, Listed):
                self.listed.set()

    def _listed(self, items: list[Json]) -> None:
        there = {item["metadata"]["name"] for item in items}
        self._read = {name: bundle for name, bundle in self._read.items() if name in there}
        for item in items:
            self._take(item)

    def _take(self, secret: Json) -> None:
        name = secret["metadata"]["name"]
        if secret.get("type") != names.BUNDLE_TYPE:
            return
        try:
            document = base64.b64decode((secret.get("data") or {}).get(BUNDLE_KEY, ""), validate=True)
            self._read[name] = parse_bundle(document)
        except binascii.Error:
            LOGGER.warning("%s: no base64", name)
        except BundleError as error:
            LOGGER.warning("%s: %s", name, error)


class Replicas:
    """How many replicas there are."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        """Nothing is known yet.

        Args:
            api: The connection.
            namespace: The relay's.
        """
        self._api = api
        self._namespace = namespace
        self.ready = 1
        """Those that take connections, as far as is known. None at all is no news of how many share the limits: each
        would take the whole of them."""
        self.counted = asyncio.Event()
        """Is set once they have been counted."""

    async def keep_counted(self) -> None:
        """Follows the changes, until it is cancelled."""
        async for count in watch_replicas(self._api, self._namespace, LOGGER):
            self.ready = count or self.ready
            self.counted.set()


class SecretTokens:
    """Access tokens come with the bundles: the operator renews them before they run out, and when they were refused."""

    def __init__(self, bundles: SecretBundles, refused: Callable[[str, str], None]) -> None:
        """Tokens of these.

        Args:
            bundles: Where they are.
            refused: Is told the credential and a digest of a token that was refused, and has the operator told.
        """
        self._bundles = bundles
        self._refused = refused

    async def renewed(self, bundle: Bundle, within_s: float = RENEWED_WITHIN_S) -> Bundle | None:
        """The bundle with another access token than the one that was refused, once there is one; None: in vain."""
        token = bundle.login.access_token if bundle.login is not None else None
        if token is None:
            return None
        try:
            async with asyncio.timeout(within_s):
                while True:
                    changed = self._bundles.changed
                    present = self._bundles.bundle(bundle.credential)
                    if present is None or present.login is None:
                        return None
                    if present.login.access_token not in (token, None):
                        return present
                    self._refused(bundle.credential, checksum(token))
                    await changed.wait()
        except TimeoutError:
            return None


class TokenReviewer:
    """Has the API server check the tokens of ServiceAccounts."""

    def __init__(self, api: KubernetesApi, audience: str = names.RELAY_AUDIENCE) -> None:
        """Nothing is asked yet.

        Args:
            api: The connection.
            audience: What a token has to be for.
        """
        self._api = api
        self._audience = audience

    async def namespace(self, token: str) -> str | None:
        """Whose namespace a token is of; None: it is not genuine, not for the relay, or of no ServiceAccount.

        The audience has to be in the answer: an API server that does not know audiences would take any token. Source:
        Kubernetes, TokenReview, `status.audiences`.

        Raises:
            OSError: It cannot be checked now.
        """
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        try:
            status = (await self._api.create(TOKEN_REVIEWS, body)).get("status") or {}
        except (ApiError, aiohttp.ClientError, json.JSONDecodeError) as error:
            LOGGER.warning("a token cannot be checked: %s", _in_short(error))
            raise OSError("a token cannot be checked") from None
        if status.get("authenticated") is not True or self._audience not in (status.get("audiences") or ()):
            return None
        found = _ACCOUNT.fullmatch((status.get("user") or {}).get("username", ""))
        return found[1] if found else None


def _in_short(error: Exception) -> str:
    """Without the API server's text, which may repeat what it was asked."""
    return f"{error.status} {error.reason}" if isinstance(error, ApiError) else type(error).__name__
