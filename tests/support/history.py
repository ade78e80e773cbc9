"""What has happened to objects: every change since a moment, not only what is left at the end."""

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.support.kube import GROUP, Json, Kube

LIMIT_S = 30


class Change(NamedTuple):
    """One event of a watch."""

    type: str
    """ADDED, MODIFIED or DELETED."""
    document: Json

    @property
    def name(self) -> str:
        return str(self.document["metadata"]["name"])


def secret_changes(kube: Kube, namespace: str, since: str) -> list[Change]:
    """Every change of a namespace's Secrets after a resource version and until now, in order.

    The API server has kept them, so nothing is missed between two looks.
    """
    marker = f"marker-{secrets.token_hex(4)}"
    kube.secret(marker, namespace)
    found: list[Change] = []
    path = f"/api/v1/namespaces/{namespace}/secrets"
    for change in _watch(kube, path, {"watch": "1", "resourceVersion": since, "timeoutSeconds": str(LIMIT_S)}):
        if change.name == marker:
            return found
        found.append(change)
    raise AssertionError(f"the watch of {path} ended before it came to the present")


def settings_changes(kube: Kube, namespace: str, name: str, since: str) -> list[Json]:
    """Every state of a MailServerSettings after a resource version and until now, in order."""
    marker = f"marker-{secrets.token_hex(4)}"
    kube.create("MailServerSettings", marker, namespace, spec={"systemSettingsRef": {"name": marker}})
    found: list[Json] = []
    path = f"{GROUP}/namespaces/{namespace}/mailserversettings"
    for change in _watch(kube, path, {"watch": "1", "resourceVersion": since, "timeoutSeconds": str(LIMIT_S)}):
        if change.name == marker:
            kube.delete("MailServerSettings", marker, namespace)
            return found
        if change.name == name:
            found.append(change.document)
    raise AssertionError(f"the watch of {path} ended before it came to the present")


def _watch(kube: Kube, path: str, query: Mapping[str, str]) -> Iterator[Change]:
    client: Any = kube.api._client
    request = client.param_serialize(
        "GET",
        path,
        query_params=[*query.items()],
        header_params={"Accept": "application/json"},
        auth_settings=["BearerToken"],
    )
    response = client.call_api(*request, _request_timeout=LIMIT_S).response
    try:
        for line in response:
            event = json.loads(line)
            assert event["type"] != "ERROR", event
            yield Change(event["type"], event["object"])
    finally:
        response.close()


def events_about(kube: Kube, namespace: str, name: str) -> list[Json]:
    """The Kubernetes events about a settings object in a namespace."""
    listed = kube.api.request("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")
    return [event for event in listed["items"] if event["regarding"]["name"] == name]
