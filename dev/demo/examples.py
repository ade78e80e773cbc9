"""The manifests of dev/examples, made to fit the demo's servers, and what else is applied."""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from dev.cluster import Cluster, load
from dev.demo.authority import HOST

ROOT: Final = Path(__file__).resolve().parent.parent.parent
EXAMPLES: Final = ROOT / "dev" / "examples"
CA_NAME: Final = "company-ca"
CA_KEY: Final = "ca.crt"

_SETTINGS: Final = ("ClusterMailServerSettings", "MailServerSettings")
_OPERATOR_NAMESPACE: Final = "mailsettings-system"
_PART_OF: Final = "app.kubernetes.io/part-of"

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The servers that there are in place of those that the examples name."""

    mail_port: int
    ca_certificate: str
    """Of the authority that signed the mail server's certificate, in PEM."""
    authorization_uri: str
    token_uri: str


def example_manifests() -> list[Manifest]:
    """The numbered examples as they are in the files; the others are for people to apply."""
    return [manifest for file in sorted(EXAMPLES.glob("[0-9]*.yaml")) for manifest in load(file)]


def fitted(manifests: list[Manifest], endpoints: Endpoints) -> list[Manifest]:
    """The manifests with the servers that there are in place of those that they name as examples.

    Where settings name a host, three things change and nothing else: `connection.host`, `connection.port`, and
    `connection.tls.caBundle`, which refers to the ConfigMap `company-ca` with the certificate of the demo's authority.
    With OAuth2 so do `authorizationURI` and `tokenURI`.
    """
    named = [manifest for manifest in manifests if _names_host(manifest)]
    places = {manifest["metadata"].get("namespace", _OPERATOR_NAMESPACE) for manifest in named}
    # The authorities come first: what settings refer to is there when the operator sees them.
    return [
        *(_ca(namespace, endpoints) for namespace in sorted(places)),
        *(
            _redirected(manifest, endpoints) if manifest in named else manifest
            for manifest in manifests
            if not _is_ca(manifest)
        ),
    ]


def _names_host(manifest: Manifest) -> bool:
    return manifest["kind"] in _SETTINGS and "host" in (manifest["spec"].get("connection") or {})


def _is_ca(manifest: Manifest) -> bool:
    return (manifest["kind"], manifest["metadata"]["name"]) == ("ConfigMap", CA_NAME)


def _ca(namespace: str, endpoints: Endpoints) -> Manifest:
    labels = {_PART_OF: "mailsettings-examples"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CA_NAME, "namespace": namespace, "labels": labels},
        "data": {CA_KEY: endpoints.ca_certificate},
    }


def _redirected(manifest: Manifest, endpoints: Endpoints) -> Manifest:
    manifest = deepcopy(manifest)
    connection = manifest["spec"]["connection"]
    connection |= {"host": HOST, "port": endpoints.mail_port}
    connection.setdefault("tls", {})["caBundle"] = {"configMapKeyRef": {"name": CA_NAME, "key": CA_KEY}}
    oauth2 = manifest["spec"].get("auth", {}).get("oauth2")
    if oauth2 is not None:
        oauth2 |= {"authorizationURI": endpoints.authorization_uri, "tokenURI": endpoints.token_uri}
    return manifest


def apply_operator_manifests(cluster: Cluster, folder: Path) -> int:
    """Applies `manifests/` without the Deployments, in whose place processes run here; how many objects."""
    manifests = [manifest for manifest in load(ROOT / "manifests") if manifest["kind"] != "Deployment"]
    return _apply(cluster, folder / "manifests.yaml", manifests)


def apply_examples(cluster: Cluster, folder: Path, endpoints: Endpoints) -> int:
    """Applies the numbered examples, fitted to the servers; how many objects."""
    return _apply(cluster, folder / "examples.yaml", fitted(example_manifests(), endpoints))


def _apply(cluster: Cluster, file: Path, manifests: list[Manifest]) -> int:
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump_all(manifests, sort_keys=False))
    return len(cluster.apply(file))
