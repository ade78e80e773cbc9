"""Reads and writes the Secrets through which consents reach the operator."""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mailsettings.api import names
from mailsettings.core.clock import format_time, parse_time
from mailsettings.core.oauth2.consent import KEPT, Consent, ConsentKey, ConsentResult
from mailsettings.edges.kubernetes import ApiError, Json, KubernetesApi, core_collection_path, core_path

_ANSWER: Final = (ConsentKey.CODE, ConsentKey.SEALED, ConsentKey.AUTHORIZE_URL)
"""What is taken out before it is used, and what is worth nothing afterwards."""


@dataclass(frozen=True, slots=True)
class HeldConsent:
    """A consent Secret and where it is."""

    namespace: str
    name: str
    resource_version: str
    consent: Consent


class ConsentStore:
    """The consent Secrets of all namespaces."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        """Nothing is read yet.

        Args:
            api: The connection.
            namespace: The operator's.
        """
        self._api = api
        self._namespace = namespace

    async def read(self, namespace: str, name: str) -> HeldConsent | None:
        """A consent Secret; None: there is none of that name, or it is something else.

        Raises:
            ApiError: The API server refused.
        """
        document = await self._api.get(core_path("secrets", namespace, name))
        if document is None or document.get("type") != names.CONSENT_TYPE:
            return None
        return self._held(document)

    async def read_callback(self, flow: str) -> HeldConsent | None:
        """The answer to one attempt in a browser; None: there is none.

        Raises:
            ApiError: The API server refused.
        """
        return await self.read(self._namespace, names.consent_secret_name(flow))

    async def create_callback(
        self, flow: str, *, uid: str, source: str, values: Mapping[ConsentKey, str]
    ) -> HeldConsent | None:
        """Keeps the answer to one attempt in a browser; None: there is one already. Any replica may do it.

        Args:
            flow: The attempt.
            uid: Of the settings.
            source: Their kind, namespace and name.
            values: The answer.

        Raises:
            ApiError: The API server refused.
        """
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": names.consent_secret_name(flow),
                "namespace": self._namespace,
                "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_CONSENT_OF: uid},
                "annotations": {names.ANNOTATION_SOURCE: source},
            },
            "type": names.CONSENT_TYPE,
            "data": _encoded(values),
        }
        path = core_collection_path("secrets", self._namespace)
        try:
            return self._held(await self._api.create(path, body, fenced=False))
        except ApiError as error:
            if error.is_conflict:
                return None
            raise

    async def ask(self, namespace: str, *, owner: Json, source: str, redirect_uri: str) -> HeldConsent:
        """Asks the operator to begin a consent.

        Args:
            namespace: Of the settings; for a cluster object the operator's.
            owner: The reference to the settings, with which the Secret goes.
            source: Their kind, namespace and name.
            redirect_uri: Where the provider is to send the browser; empty: the grant sends it nowhere.

        Raises:
            ApiError: The API server refused.
        """
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "generateName": names.AUTHORIZE_PREFIX,
                "namespace": namespace,
                "labels": {names.LABEL_CONSENT_OF: owner["uid"]},
                "annotations": {names.ANNOTATION_SOURCE: source},
                "ownerReferences": [owner],
            },
            "type": names.CONSENT_TYPE,
            "data": _encoded({ConsentKey.REDIRECT_URI: redirect_uri}),
        }
        return self._held(await self._api.create(core_collection_path("secrets", namespace), body))

    async def write(self, held: HeldConsent, values: Mapping[ConsentKey, str]) -> HeldConsent | None:
        """Adds values; None: somebody else has written, or it is gone.

        Raises:
            ApiError: The API server refused.
        """
        return await self._merge(held, {**_encoded(values)})

    async def take(self, held: HeldConsent, *, now: datetime) -> HeldConsent | None:
        """Takes out what can be used only once, before it is used; None: somebody else was faster.

        Raises:
            ApiError: The API server refused.
        """
        taken = {str(key): None for key in _ANSWER}
        return await self._merge(held, {**taken, **_encoded({ConsentKey.REDEEMED_AT: format_time(now)})})

    async def finish(self, held: HeldConsent, result: ConsentResult, *, fenced: bool = True) -> None:
        """Writes what has become of it; nothing is done if it is gone.

        Args:
            held: The Secret.
            result: What has become of it.
            fenced: Whether only the replica that holds the Lease may do it. Not so after `take`: then no other knows.

        Raises:
            ApiError: The API server refused.
        """
        used = {str(key): None for key in _ANSWER}
        # Not guarded: whoever waits for the result may have written, and the result stands.
        patch = {"data": {**used, **_encoded({ConsentKey.RESULT: result.text()})}}
        try:
            await self._api.merge(core_path("secrets", held.namespace, held.name), patch, fenced=fenced)
        except ApiError as error:
            if not error.is_not_found:
                raise

    async def remove(self, held: HeldConsent) -> None:
        """Removes it.

        Raises:
            ApiError: The API server refused.
        """
        await self._api.delete(core_path("secrets", held.namespace, held.name), uid=held.consent.uid)

    async def sweep(self, is_known: Callable[[str], bool], *, now: datetime) -> None:
        """Removes, in the operator's namespace, what is past its time or belongs to settings that are gone.

        Args:
            is_known: Whether there are settings with a uid.
            now: The present time.

        Raises:
            ApiError: The API server refused.
        """
        path, of_type = core_collection_path("secrets", self._namespace), f"type={names.CONSENT_TYPE}"
        items, _ = await self._api.list_metadata(path, record=dict, field_selector=of_type)
        for metadata in items:
            uid = (metadata.get("labels") or {}).get(names.LABEL_CONSENT_OF)
            if uid is None:
                continue
            if not is_known(uid) or parse_time(metadata["creationTimestamp"]) + KEPT <= now:
                path = core_path("secrets", self._namespace, metadata["name"])
                await self._api.delete(path, uid=metadata["uid"])

    async def _merge(self, held: HeldConsent, data: Json) -> HeldConsent | None:
        patch = {"metadata": {"resourceVersion": held.resource_version}, "data": data}
        try:
            return self._held(await self._api.merge(core_path("secrets", held.namespace, held.name), patch))
        except ApiError as error:
            if error.is_conflict or error.is_not_found:
                return None
            raise

    def _held(self, document: Json) -> HeldConsent:
        metadata = document["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        is_callback = namespace == self._namespace and name.startswith(names.CONSENT_PREFIX)
        return HeldConsent(
            namespace=namespace,
            name=name,
            resource_version=metadata["resourceVersion"],
            consent=Consent(
                uid=metadata["uid"],
                callback_flow=name.removeprefix(names.CONSENT_PREFIX) if is_callback else "",
                created_at=parse_time(metadata["creationTimestamp"]),
                values=_decoded(document.get("data") or {}),
            ),
        )


def _encoded(values: Mapping[ConsentKey, str]) -> dict[str, str]:
    return {str(key): base64.b64encode(value.encode()).decode("ascii") for key, value in values.items() if value}


def _decoded(data: Mapping[str, str]) -> dict[ConsentKey, str]:
    """The values of the known keys; one that is no text counts as absent."""
    values = {}
    for key in ConsentKey:
        try:
            values[key] = base64.b64decode(data.get(key, ""), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return {key: value for key, value in values.items() if value}
