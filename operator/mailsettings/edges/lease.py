"""The Lease at the API server."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

from mailsettings.core.lease import Lease
from mailsettings.edges.kubernetes import Access, Json, KubernetesApi

API_VERSION = "coordination.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A Lease as it is at one version."""

    uid: str
    resource_version: str
    lease: Lease


class LeaseStore:
    """Reads and writes one Lease. What it writes is never fenced: it is what the fence goes by.

    Its connections are its own, so that no renewal waits for whatever else is asked of the API server. Use it with
    `async with`.
    """

    def __init__(self, access: Access, namespace: str, name: str) -> None:
        """Opens nothing yet.

        Args:
            access: Where the API server is.
            namespace: Of the Lease.
            name: Of the Lease.
        """
        self._api = KubernetesApi(access)
        self._namespace = namespace
        self._name = name

    async def __aenter__(self) -> Self:
        """Nothing to prepare."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the connections."""
        await self._api.__aexit__()

    @property
    def place(self) -> dict[str, str]:
        """Which object it is, for events about it."""
        return {"apiVersion": API_VERSION, "kind": "Lease", "namespace": self._namespace, "name": self._name}

    async def read(self) -> HeldLease | None:
        """The Lease; None: there is none.

        Raises:
            ApiError: the API server refused.
        """
        document = await self._api.get(self._path)
        return None if document is None else _held(document)

    async def create(self, spec: dict[str, Any]) -> HeldLease:
        """Creates it.

        Raises:
            ApiError: the API server refused; somebody else was faster.
        """
        body = {
            "apiVersion": API_VERSION,
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": spec,
        }
        return _held(await self._api.create(self._collection, body, fenced=False))

    async def write(self, held: HeldLease, spec: dict[str, Any]) -> HeldLease:
        """Changes it, if nobody has changed it since.

        Raises:
            ApiError: the API server refused; somebody else was faster.
        """
        # The uid too: a Lease that was deleted and made anew is another one.
        patch = {"metadata": {"resourceVersion": held.resource_version, "uid": held.uid}, "spec": spec}
        return _held(await self._api.merge(self._path, patch, fenced=False))

    async def changes(self, held: HeldLease, *, timeout_seconds: int) -> AsyncIterator[HeldLease | None]:
        """What becomes of it; None: it was deleted. It ends and raises as `KubernetesApi.watch_metadata` does."""
        watching = self._api.watch_object(
            self._collection, self._name, resource_version=held.resource_version, timeout_seconds=timeout_seconds
        )
        async for kind, document in watching:
            yield None if kind == "DELETED" else _held(document)

    @property
    def _collection(self) -> str:
        return f"/apis/{API_VERSION}/namespaces/{quote(self._namespace)}/leases"

    @property
    def _path(self) -> str:
        return f"{self._collection}/{quote(self._name)}"


def _held(document: Json) -> HeldLease:
    metadata = document["metadata"]
    return HeldLease(metadata["uid"], metadata["resourceVersion"], Lease.of(document.get("spec") or {}))
