"""The relay in a cluster: its bundles are Secrets of one namespace, and it has the API server check tokens."""

import asyncio
import base64
import binascii
import json
import re
from typing import Final

import aiohttp

from mailsettings.api import names
from mailsettings.core.relay.bundle import Bundle, BundleError, parse_bundle
from mailsettings.edges.kubernetes import ApiError, Json, KubernetesApi, core_collection_path
from mailsettings.edges.metadata_watch import Changed, Deleted, Listed, watch_objects, whole
from mailsettings.edges.relay.local import LOGGER, MemoryBundles
from mailsettings.edges.relay_bundles import BUNDLE_KEY

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


class SecretTokens:
    """Access tokens come with the bundles: the operator renews them before they run out."""

    def __init__(self, bundles: SecretBundles) -> None:
        """Tokens of these.

        Args:
            bundles: Where they are.
        """
        self._bundles = bundles

    async def renewed(self, bundle: Bundle) -> Bundle | None:
        """The bundle as it is by now, if it has another access token than the one that was refused."""
        present = self._bundles.bundle(bundle.credential)
        return present if present is not None and present.login != bundle.login else None


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
