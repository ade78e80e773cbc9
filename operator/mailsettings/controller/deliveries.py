"""Writes and removes the applications' Secrets."""

import asyncio
import logging
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from mailsettings.api import names
from mailsettings.api.conditions import Reason
from mailsettings.api.output import ClusterOutput
from mailsettings.controller.echoes import Echoes
from mailsettings.controller.store import Store, secret_record
from mailsettings.core.credentials import ResolvedSettings
from mailsettings.core.delivery import (
    DeliveredSecret,
    DesiredSecret,
    OversizeError,
    Owner,
    applied_fields,
    can_follow,
    desired_secret,
    exchanged,
    token_name,
    undeliverable,
)
from mailsettings.core.digest import Digester
from mailsettings.core.finding import Finding, failed, passed
from mailsettings.edges.kubernetes import ApiError, KubernetesApi, core_path


class DeliveryRefusedError(Exception):
    """A Secret was refused, and the status says so; it may be accepted later, when a quota or a policy has changed."""


def retry_if_refused(finding: Finding | None) -> None:
    """Has the reconciliation repeated with growing delays where nothing else would lead to another attempt.

    Raises:
        DeliveryRefusedError: the API server refused the Secret.
    """
    if finding is not None and finding.reason is Reason.DELIVERY_REFUSED:
        raise DeliveryRefusedError


class Deliveries:
    """Keeps Secrets as they are desired, without reading or writing those that are so already."""

    def __init__(
        self, api: KubernetesApi, store: Store, echoes: Echoes, digest: Digester, logger: logging.Logger
    ) -> None:
        self._api = api
        self._store = store
        self._echoes = echoes
        self._digest = digest
        self._logger = logger
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def deliver(
        self,
        settings: ResolvedSettings,
        output: ClusterOutput | None,
        *,
        namespace: str,
        name: str,
        owner: Owner,
        told_by: ResolvedSettings | None = None,
    ) -> Finding:
        """Makes the Secret that the settings ask for, unless it would be useless, too large or is somebody else's.

        Args:
            settings: What it is to hold.
            output: What it is to look like.
            namespace: Where it is.
            name: Its name.
            owner: Whose it is.
            told_by: What its digest is of, where the settings' password is not known whenever it is compared.

        Raises:
            ApiError: somebody else was faster, or the API server is in trouble; try again.
        """
        useless = undeliverable(settings, output)
        if useless is not None:
            return useless
        try:
            desired = _desired(settings, output, namespace=namespace, name=name, owner=owner, told_by=told_by)
        except OversizeError as error:
            return failed(Reason.DELIVERY_REFUSED, str(error))
        place = (namespace, name)
        # Two objects may want one name: what the second decides depends on what the first has done.
        async with self._locks.setdefault(place, asyncio.Lock()):
            return await self._deliver(desired)

    def is_delivered(
        self, settings: ResolvedSettings, output: ClusterOutput | None, *, namespace: str, name: str, owner: Owner
    ) -> bool:
        """Whether there is the Secret that `deliver` would make, where its digest is of these settings."""
        existing = self._store.secret(namespace, name)
        if existing is None or not self._may_write(existing, owner):
            return False
        try:
            desired = desired_secret(settings, output, namespace=namespace, name=name, owner=owner)
        except OversizeError:
            return False
        return _is_current(existing, desired.manifest(self._digest))

    async def _deliver(self, desired: DesiredSecret) -> Finding:
        existing = self._store.secret(desired.namespace, desired.name)
        if existing is not None and not self._may_write(existing, desired.owner):
            return _not_owned(desired, existing)
        manifest = desired.manifest(self._digest)
        if existing is None or not _is_current(existing, manifest):
            try:
                await self._apply(desired, existing, manifest)
            except ApiError as error:
                if error.is_conflict and existing is None:
                    return _not_owned(desired, None)
                if error.is_refusal:
                    return failed(Reason.DELIVERY_REFUSED, f"The Secret {desired.name!r}: {error}")
                raise
        return passed(Reason.DELIVERED, f"The Secret {desired.name!r} holds the effective settings.")

    async def renew_token(self, settings: ResolvedSettings, secret: DeliveredSecret) -> Finding | None:
        """Puts the present access token into a Secret that otherwise stays as it was delivered.

        None: the Secret holds it now, or is not to hold it because it belongs to other settings than those that the
        Secret was delivered for.

        Raises:
            ApiError: somebody else was faster, or the API server is in trouble; try again.
        """
        if not _is_behind(secret, settings):
            return None
        async with self._locks.setdefault((secret.namespace, secret.name), asyncio.Lock()):
            return await self._renew_token(settings, secret)

    async def _renew_token(self, settings: ResolvedSettings, secret: DeliveredSecret) -> Finding | None:
        path = core_path("secrets", secret.namespace, secret.name)
        document = await self._api.get(path)
        if document is None:
            return None
        found = secret_record(document["metadata"])
        if found.uid != secret.uid or not _is_behind(found, settings):
            return None
        try:
            await self._write((secret.namespace, secret.name), exchanged(document, settings), force=True)
        except ApiError as error:
            if error.is_refusal:
                return failed(Reason.DELIVERY_REFUSED, f"The access token in the Secret {secret.name!r}: {error}")
            raise
        return None

    async def _write(self, place: tuple[str, str], manifest: dict[str, Any], *, force: bool) -> None:
        """Applies a Secret and keeps what is to be known of it, so that nobody waits for its echo.

        Raises:
            ApiError: the API server refused.
        """
        with self._echoes.writing(place):
            applied = await self._api.apply(core_path("secrets", *place), manifest, force=force)
            self._echoes.wrote(applied["metadata"])
            self._store.put_secret(secret_record(applied["metadata"]))

    async def withdraw(self, secret: DeliveredSecret) -> None:
        """Removes a Secret of the operator's.

        Raises:
            ApiError: the API server refused.
        """
        self._logger.info("removing the Secret %s/%s", secret.namespace, secret.name)
        await self._api.delete(core_path("secrets", secret.namespace, secret.name), uid=secret.uid)
        known = self._store.secret(secret.namespace, secret.name)
        if known is not None and known.uid == secret.uid:  # else it has been made anew
            self._store.drop_secret(secret.namespace, secret.name)

    def _may_write(self, existing: DeliveredSecret, owner: Owner) -> bool:
        """Whether a Secret is this owner's, or was that of one that gives way.

        What `provision: Always` delivered gives way to the tenant's own object; what belongs to an object that is
        gone is about to be collected and may be taken over.
        """
        if existing.owner is None:
            return False
        if existing.owner.uid == owner.uid or existing.owner.kind == names.CLUSTER_KIND:
            return True
        alive = {tenant.uid for tenant in self._store.tenants_in(existing.namespace)}
        return existing.owner.uid not in alive

    async def _apply(self, desired: DesiredSecret, existing: DeliveredSecret | None, manifest: dict[str, Any]) -> None:
        place = (desired.namespace, desired.name)
        if existing is not None:
            metadata = {**manifest["metadata"], "resourceVersion": existing.resource_version}
            try:
                await self._write(place, {**manifest, "metadata": metadata}, force=True)
            except ApiError as error:
                if error.status != 422 or not await self._must_be_made_anew(core_path("secrets", *place)):
                    raise
                await self.withdraw(existing)
            else:
                return
        # Without force, a Secret that somebody else has just made is a conflict and stays as it is.
        await self._write(place, manifest, force=False)

    async def _must_be_made_anew(self, path: str) -> bool:
        """Whether a Secret of the operator's cannot become what it should: its type never changes.

        Other refusals, such as a policy's, leave the Secret as it is.
        """
        secret = await self._api.get(path)
        return secret is not None and (secret.get("type") != names.SECRET_TYPE or bool(secret.get("immutable")))


def _desired(
    settings: ResolvedSettings,
    output: ClusterOutput | None,
    *,
    namespace: str,
    name: str,
    owner: Owner,
    told_by: ResolvedSettings | None,
) -> DesiredSecret:
    desired = desired_secret(settings, output, namespace=namespace, name=name, owner=owner)
    if told_by is None:
        return desired
    standing = desired_secret(told_by, output, namespace=namespace, name=name, owner=owner)
    return replace(desired, told_by=standing.data)


def _is_current(existing: DeliveredSecret, manifest: dict[str, Any]) -> bool:
    annotations = manifest["metadata"]["annotations"]
    return (
        existing.content == annotations[names.ANNOTATION_CONTENT]
        and existing.token == annotations.get(names.ANNOTATION_TOKEN, "")
        and existing.applied == applied_fields(manifest)
    )


def _is_behind(secret: DeliveredSecret, settings: ResolvedSettings) -> bool:
    """Whether a Secret holds an access token before the settings' present one."""
    return can_follow(secret, settings) and secret.token != token_name(settings)


def _not_owned(desired: DesiredSecret, existing: DeliveredSecret | None) -> Finding:
    whose = "is not the operator's"
    if existing is not None and existing.owner is not None:
        whose = f"belongs to the {existing.owner.kind} {existing.owner.name!r}"
    return failed(
        Reason.SECRET_NOT_OWNED,
        f"The Secret {desired.name!r} exists and {whose}; delete it, or choose another output.secretName",
    )
