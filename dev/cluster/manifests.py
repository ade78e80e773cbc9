"""Reads Kubernetes manifests and applies them, without kubectl."""

import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dev.cluster.errors import ApiError, ClusterError
from dev.cluster.kube import APPLY_PATCH, Api

FIELD_MANAGER = "mailsettings-dev"
ESTABLISH_TIMEOUT_S = 30.0
POLL_INTERVAL_S = 0.1
FIRST = ("Namespace", "CustomResourceDefinition")
"""The kinds that others need: they are applied before everything else, in this order."""

KUSTOMIZATION_FIELDS = {"apiVersion", "kind", "resources"}

Manifest = dict[str, Any]


def load(path: Path) -> list[Manifest]:
    """Reads the manifests of a file, of a folder's YAML files in the order of their names, or of a kustomization.

    Raises:
        ClusterError: A file is missing, is not YAML or holds something that is no manifest, or a kustomization uses
            more than `resources`.
    """
    if path.is_dir():
        kustomization = path / "kustomization.yaml"
        parts = _resources(kustomization) if kustomization.exists() else sorted(path.glob("*.yaml"))
        return [manifest for part in parts for manifest in load(part)]
    return list(_documents(path))


def apply(kubeconfig: Path, *paths: Path) -> list[str]:
    """Applies manifests by server-side apply; what is there already stays as it is.

    Namespaces and custom resource definitions go first, and the rest waits until the definitions are served.

    Args:
        kubeconfig: Who applies them, and where.
        paths: Files, folders and folders with a kustomization.

    Returns:
        What was applied, each as "Kind name" or "Kind namespace/name".

    Raises:
        ClusterError: A manifest cannot be read, or the API server refused it.
    """
    manifests = [manifest for path in paths for manifest in load(path)]
    manifests.sort(key=lambda manifest: FIRST.index(manifest["kind"]) if manifest["kind"] in FIRST else len(FIRST))
    applier = _Applier(Api(kubeconfig))
    first = [manifest for manifest in manifests if manifest["kind"] in FIRST]
    applied = [applier.apply(manifest) for manifest in first]
    for manifest in first:
        if manifest["kind"] == "CustomResourceDefinition":
            applier.wait_established(manifest["metadata"]["name"])
    return applied + [applier.apply(manifest) for manifest in manifests[len(first) :]]


class _Applier:
    """Applies one manifest after another to one API server, whose list of resources it remembers."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._resources = cache(self._discover)

    def apply(self, manifest: Manifest) -> str:
        metadata = manifest["metadata"]
        resource = self._resources(manifest["apiVersion"], manifest["kind"])
        space = f"{metadata.setdefault('namespace', 'default')}/" if resource["namespaced"] else ""
        title = f"{manifest['kind']} {space}{metadata['name']}"
        within = f"/namespaces/{metadata['namespace']}" if resource["namespaced"] else ""
        path = f"{_base(manifest['apiVersion'])}{within}/{resource['name']}/{metadata['name']}"
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        try:
            self._api.request("PATCH", path, manifest, content_type=APPLY_PATCH, query=query)
        except ApiError as error:
            raise ApiError(f"{title}: {error}", status=error.status, reason=error.reason) from error
        return title

    def wait_established(self, name: str) -> None:
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
        deadline = time.monotonic() + ESTABLISH_TIMEOUT_S
        while True:
            conditions = self._api.request("GET", path)["status"].get("conditions") or []
            if any(condition["type"] == "Established" and condition["status"] == "True" for condition in conditions):
                return
            if time.monotonic() > deadline:
                told = "; ".join(f"{c['type']}={c['status']} {c.get('message', '')}".strip() for c in conditions)
                raise ClusterError(f"{name} was not established after {ESTABLISH_TIMEOUT_S:.0f} s: {told}")
            time.sleep(POLL_INTERVAL_S)

    def _discover(self, api_version: str, kind: str) -> dict[str, Any]:
        """Finds a kind's plural and scope; an established definition may take a moment longer to be listed."""
        deadline = time.monotonic() + ESTABLISH_TIMEOUT_S
        while True:
            resource = self._listed(api_version, kind)
            if resource is not None:
                return resource
            if time.monotonic() > deadline or not self._is_custom(api_version):
                raise ClusterError(f"The cluster serves no {kind} of {api_version}; correct the manifest.")
            time.sleep(POLL_INTERVAL_S)

    def _listed(self, api_version: str, kind: str) -> dict[str, Any] | None:
        try:
            resources = self._api.request("GET", _base(api_version))["resources"]
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return next((entry for entry in resources if entry["kind"] == kind and "/" not in entry["name"]), None)

    def _is_custom(self, api_version: str) -> bool:
        """Says whether some definition, perhaps an instant old, is of the group."""
        group = api_version.partition("/")[0]
        definitions = self._api.request("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]
        return any(definition["spec"]["group"] == group for definition in definitions)


def _base(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _resources(kustomization: Path) -> list[Path]:
    content = _parse(kustomization)[0]
    unknown = sorted(set(content) - KUSTOMIZATION_FIELDS)
    if unknown:
        raise ClusterError(f"{kustomization}: only `resources` is understood, not {', '.join(unknown)}.")
    return [kustomization.parent / entry for entry in content.get("resources", [])]


def _documents(path: Path) -> Iterator[Manifest]:
    for document in _parse(path):
        if document is None:
            continue
        if not isinstance(document, dict) or not {"apiVersion", "kind", "metadata"} <= document.keys():
            raise ClusterError(f"{path}: a document without apiVersion, kind and metadata is no manifest.")
        yield document


def _parse(path: Path) -> list[Any]:
    try:
        return list(yaml.safe_load_all(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise ClusterError(f"{path} cannot be read: {error}") from error
