"""Where OAuth2 tokens are kept: one Secret for each settings object, in the operator's namespace, named by its uid.

So nobody in a tenant's namespace can read refresh tokens. The Secret goes with the tenant's Namespace, or with the
cluster object, even if the operator is gone; what becomes an orphan otherwise is swept.

Two refreshes of one token at once may end with none: some providers take the use of a replaced refresh token for a
theft. So a refresh begins with a claim on the Secret, and its result is stored on the version that the claim has made.
The claim is what counts for that, not the Lease: what was begun under a claim is brought to its end also by a replica
that has lost the Lease meanwhile, since only it has the new refresh token.
"""

import asyncio
import base64
import binascii
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

import aiohttp

from mailsettings.api import names
from mailsettings.core.oauth2.stored import StoredToken
from mailsettings.edges.kubernetes import ApiError, Json, KubernetesApi, core_collection_path, core_path, settings_path

DATA_KEY: Final = "token.json"
FIRST_RETRY_SECONDS: Final = 0.2
LAST_RETRY_SECONDS: Final = 5.0

CLOCK_SKEW: Final = timedelta(seconds=5)
"""How far the clocks of two replicas may differ: only so long after its deadline is another's claim taken for ended."""

TAKEOVER: Final = timedelta(seconds=10)
"""For how long after a takeover another's claim is respected although it has ended: twice `LAST_RETRY_SECONDS`.

That replica may have an answer which it could not store while the API server was away.
"""

_TROUBLE: Final = (aiohttp.ClientError, TimeoutError, OSError, ValueError)
"""The API server could not be asked, or its answer was cut off."""

_WRITE_TROUBLE: Final = (aiohttp.ClientError, TimeoutError, OSError, json.JSONDecodeError)
"""The same of a write. Any other ValueError is of what is to be written, which waiting does not mend."""


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """Whose token it is."""

    kind: str
    namespace: str
    """Empty for cluster objects."""
    name: str
    uid: str
    owner: Json
    """The reference to the object that the Secret is collected with: the tenant's Namespace, or the cluster object."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who is renewing a token."""

    holder: str
    attempt: str
    deadline: datetime

    def text(self) -> str:
        """For the annotation."""
        return json.dumps(
            {"holder": self.holder, "attempt": self.attempt, "deadline": self.deadline.isoformat()}, sort_keys=True
        )

    @classmethod
    def parse(cls, text: str | None) -> "Claim | None":
        """What an annotation says; None: there is no claim, or none that can be read."""
        try:
            content = json.loads(text or "null")
            deadline = datetime.fromisoformat(content["deadline"]).astimezone(UTC)
            return cls(content["holder"], content["attempt"], deadline)
        except (ValueError, TypeError, KeyError, OverflowError):
            return None


@dataclass(frozen=True, slots=True)
class HeldToken:
    """A Secret with a token as it is at one version."""

    resource_version: str
    uid: str
    token: StoredToken | None
    """None: the first one is still to be got, or what is there cannot be read."""
    claim: Claim | None
    dropped: bool = False
    """Whether it is empty because its token belonged to other settings."""

    @property
    def serial(self) -> str | None:
        """The name of the token that is held."""
        return self.token.serial if self.token else None


class ClaimError(Exception):
    """The token may not be renewed now; look again at `until`."""

    def __init__(self, until: datetime | None = None) -> None:
        super().__init__("somebody else is renewing the token, or has just done so")
        self.until = until
        """None: at once."""


class TokenStore:
    """Reads, claims, stores and removes tokens."""

    def __init__(
        self,
        api: KubernetesApi,
        namespace: str,
        *,
        holder: str,
        logger: logging.Logger,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Nothing is read yet.

        Args:
            api: The connection.
            namespace: The operator's.
            holder: This process, in claims.
            logger: Is told what goes wrong.
            now: The clock. Those of several replicas may differ by `CLOCK_SKEW`.
        """
        self._api = api
        self._namespace = namespace
        self._holder = holder
        self._logger = logger
        self._now = now
        self._taken_over_at: datetime | None = None

    def taken_over(self) -> None:
        """Another replica may have acted until a moment ago."""
        self._taken_over_at = self._now()

    async def read(self, uid: str) -> HeldToken | None:
        """What is held for an object.

        Raises:
            ApiError: The API server refused.
        """
        document = await self._api.get(self._path(uid))
        return None if document is None else _held(document)

    async def claim(self, place: TokenPlace, *, serial: str | None, lasts: timedelta) -> HeldToken:
        """Claims the renewal of a token.

        Args:
            place: Whose.
            serial: The token that is to be replaced; None: there is none.
            lasts: How long nobody else may renew it.

        Raises:
            ClaimError: Somebody else has a claim, or has replaced the token already.
            ApiError: The API server refused.
        """
        claim = Claim(self._holder, uuid4().hex, self._now() + lasts)
        held = await self.read(place.uid)
        try:
            if held is None:
                if serial is not None:
                    raise ClaimError
                return _held(await self._api.create(self._collection, self._manifest(place, claim)))
            if held.claim is not None and (ends_at := self._end(held.claim, lasts)) is not None:
                raise ClaimError(ends_at)
            if held.serial != serial:
                raise ClaimError
            return await self._patch(place.uid, held.resource_version, claim)
        except ApiError as error:
            raise (ClaimError() if error.is_conflict or error.is_not_found else error) from None

    def _end(self, claim: Claim, lasts: timedelta) -> datetime | None:
        """Until when a claim is to be respected, by this process's clock; None: it has ended.

        One that lasts longer than any does was made by a clock that was wrong.
        """
        now = self._now()
        if claim.deadline - now > lasts + CLOCK_SKEW:
            return None
        ends_at = claim.deadline
        if claim.holder != self._holder:
            ends_at += CLOCK_SKEW
            if self._taken_over_at is not None:
                ends_at = max(ends_at, self._taken_over_at + TAKEOVER)
        return ends_at if ends_at > now else None

    async def may_begin(self, place: TokenPlace, held: HeldToken, *, takes: timedelta) -> bool:
        """Whether the claim still holds, and for long enough for a call that `takes` so long.

        To be asked right before the call: the process may have stood still since it made the claim.

        Raises:
            ApiError: The API server refused.
        """
        found = await self.read(place.uid)
        if found is None or found.claim is None or held.claim is None or found.claim.attempt != held.claim.attempt:
            return False
        return self._now() + takes < found.claim.deadline

    async def store(
        self,
        place: TokenPlace,
        held: HeldToken,
        token: StoredToken,
        *,
        refused: Callable[[ApiError], None] = lambda _: None,
    ) -> bool:
        """Stores the new token in place of the old one and lets go of the claim; whether it could be.

        It goes on until the API server answers: the provider may have replaced the refresh token, so that the one
        that is stored is worth nothing. Only a newer token, or one for other settings, makes this one superfluous.

        Args:
            place: Whose.
            held: What the claim has made.
            token: The new token.
            refused: Is told each time the API server refuses what waiting alone does not mend.

        Raises:
            ValueError: The token cannot be written.
        """
        data = _data(token)
        delay = FIRST_RETRY_SECONDS
        base = held
        while True:
            try:
                await self._patch(place.uid, base.resource_version, None, data=data, fenced=False)
            except ApiError as error:
                if not (error.is_conflict or error.is_not_found):
                    self._logger.warning("a renewed token is not stored yet: %s %s", error.status, error.reason)
                    if error.is_refusal:
                        refused(error)
                else:
                    found = await self._again(place, held, token)
                    if found is None or found.serial == token.serial:
                        return found is not None
                    if found.resource_version != base.resource_version:
                        base = found
                        continue
            except _WRITE_TROUBLE as error:
                self._logger.warning("a renewed token is not stored yet: %s", type(error).__name__)
            else:
                return True
            await asyncio.sleep(delay)
            delay = min(LAST_RETRY_SECONDS, delay * 2)

    async def adopt(self, place: TokenPlace, token: StoredToken) -> None:
        """Stores a token that a person has just consented to, in place of whatever is there.

        A renewal of the old token that is under way finds this one and gives way. It goes on until the API server
        answers: the person's consent can be redeemed only once.

        Raises:
            ApiError: The API server refused for good.
            ValueError: The token cannot be written.
        """
        data = _data(token)
        delay = FIRST_RETRY_SECONDS
        while True:
            try:
                await self._put(place, token.serial, data)
            except ApiError as error:
                if error.is_refusal:
                    raise
            except _WRITE_TROUBLE as error:
                self._logger.warning("a token is not stored yet: %s", type(error).__name__)
            else:
                return
            await asyncio.sleep(delay)
            delay = min(LAST_RETRY_SECONDS, delay * 2)

    async def _put(self, place: TokenPlace, serial: str, data: dict[str, str]) -> None:
        held = await self.read(place.uid)
        if held is None:
            await self._api.create(self._collection, {**self._manifest(place, None), "data": data}, fenced=False)
        elif held.serial != serial:
            await self._patch(place.uid, held.resource_version, None, data=data, fenced=False)

    async def _again(self, place: TokenPlace, held: HeldToken, token: StoredToken) -> HeldToken | None:
        """What there is after a conflict, to store upon; None: the new token is not wanted any more."""
        try:
            found = await self.read(place.uid)
        except (ApiError, *_TROUBLE):
            return held
        # Another claim may stand there by now: it was made with a refresh token that this one has replaced. And the
        # new token itself may, if only the answer to its storing was lost.
        return found if found is not None and found.serial in (held.serial, token.serial) else None

    async def release(self, place: TokenPlace, held: HeldToken) -> None:
        """Lets go of a claim without a new token; if that fails it ends by its deadline."""
        try:
            await self._patch(place.uid, held.resource_version, None, fenced=False)
        except (ApiError, *_TROUBLE) as error:
            self._logger.debug("a claim was not released: %s", type(error).__name__)

    async def drop(self, place: TokenPlace, held: HeldToken) -> HeldToken:
        """Takes the token out; a claim stays, so that whoever has it is waited for.

        Raises:
            ApiError: The API server refused, or somebody else has written.
        """
        metadata = {"resourceVersion": held.resource_version, "annotations": {names.ANNOTATION_DROPPED: "true"}}
        patch = {"metadata": metadata, "data": {DATA_KEY: None}}
        return _held(await self._api.merge(self._path(place.uid), patch))

    async def remove(self, uid: str, held: HeldToken) -> None:
        """Removes the Secret of an object.

        Raises:
            ApiError: The API server refused.
        """
        await self._api.delete(self._path(uid), uid=held.uid)

    async def sweep(self) -> None:
        """Removes what belongs to objects that are gone.

        Raises:
            ApiError: The API server refused.
        """
        items, _ = await self._api.list_metadata(self._collection, record=dict)
        for metadata in items:
            if _owner_uid(metadata) is not None and await self._is_orphan(metadata):
                self._logger.info("removing the Secret %s: its settings are gone", metadata["name"])
                path = core_path("secrets", self._namespace, metadata["name"])
                await self._api.delete(path, uid=metadata["uid"])

    async def _is_orphan(self, metadata: Json) -> bool:
        """Asked of the API server itself: another replica may know of objects that this one has yet to hear of."""
        source = (metadata.get("annotations") or {}).get(names.ANNOTATION_SOURCE, "")
        kind, *place = source.split("/")
        namespace, name = ("", *place)[-2:] if place else ("", "")
        found = await self._api.get(settings_path(kind, namespace, name)) if name else None
        return found is None or found["metadata"]["uid"] != _owner_uid(metadata)

    async def _patch(
        self,
        uid: str,
        resource_version: str,
        claim: Claim | None,
        *,
        data: dict[str, str] | None = None,
        fenced: bool = True,
    ) -> HeldToken:
        annotations = {names.ANNOTATION_CLAIM: claim.text() if claim else None}
        patch: Json = {"metadata": {"resourceVersion": resource_version, "annotations": annotations}}
        if data is not None:
            annotations[names.ANNOTATION_DROPPED] = None
            patch["data"] = data
        return _held(await self._api.merge(self._path(uid), patch, fenced=fenced))

    def _manifest(self, place: TokenPlace, claim: Claim | None) -> Json:
        source = "/".join(filter(None, (place.kind, place.namespace, place.name)))
        claimed = {names.ANNOTATION_CLAIM: claim.text()} if claim else {}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": names.token_secret_name(place.uid),
                "namespace": self._namespace,
                "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_TOKEN_OF: place.uid},
                "annotations": {names.ANNOTATION_SOURCE: source, **claimed},
                "ownerReferences": [place.owner],
            },
            "type": names.TOKEN_TYPE,
        }

    @property
    def _collection(self) -> str:
        return core_collection_path("secrets", self._namespace)

    def _path(self, uid: str) -> str:
        return core_path("secrets", self._namespace, names.token_secret_name(uid))


def _owner_uid(metadata: Json) -> str | None:
    """Whose token a Secret holds; None: it is another kind of Secret."""
    labels = metadata.get("labels") or {}
    uid: str = labels.get(names.LABEL_TOKEN_OF) or ""
    is_ours = labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY
    return uid if uid and is_ours and metadata["name"] == names.token_secret_name(uid) else None


def _held(document: Json) -> HeldToken:
    metadata = document["metadata"]
    annotations = metadata.get("annotations") or {}
    return HeldToken(
        resource_version=metadata["resourceVersion"],
        uid=metadata["uid"],
        token=_token(document),
        claim=Claim.parse(annotations.get(names.ANNOTATION_CLAIM)),
        dropped=names.ANNOTATION_DROPPED in annotations,
    )


def _data(token: StoredToken) -> dict[str, str]:
    """What is written of a token.

    Raises:
        ValueError: It cannot be written: pydantic's PydanticSerializationError is one.
    """
    return {DATA_KEY: base64.b64encode(token.model_dump_json().encode()).decode("ascii")}


def _token(document: Json) -> StoredToken | None:
    try:
        return StoredToken.parse(base64.b64decode((document.get("data") or {}).get(DATA_KEY, ""), validate=True))
    except binascii.Error:
        return None
