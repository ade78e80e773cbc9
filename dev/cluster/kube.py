"""The little that this package asks of a Kubernetes API: requests, and kubeconfig files."""

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException, new_client_from_config

from dev.cluster.errors import ApiError, ClusterError

REQUEST_TIMEOUT_S = 30.0
TOKEN_LIFE_S = 24 * 3600
APPLY_PATCH = "application/apply-patch+yaml"

_new_client: Callable[..., ApiClient] = new_client_from_config  # the package has types, but not for this


class Api:
    """Sends requests to the API server that a kubeconfig names, with that kubeconfig's credentials.

    Args:
        kubeconfig: Any kubeconfig; its current context is used.

    Raises:
        ClusterError: The file is missing or unusable.
    """

    def __init__(self, kubeconfig: Path) -> None:
        try:
            self._client: ApiClient = _new_client(config_file=str(kubeconfig), persist_config=False)
        except (ConfigException, OSError) as error:
            raise ClusterError(f"The kubeconfig {kubeconfig} cannot be used: {error}") from error

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Sends one request and waits for the answer, at most `REQUEST_TIMEOUT_S`.

        Args:
            method: "GET", "POST" and so on.
            path: The URL's path, such as "/api/v1/namespaces".
            body: What to send, as JSON.
            content_type: What kind of JSON the body is; for a PATCH it says which kind of patch.
            query: The URL's query.

        Returns:
            The answer's JSON object; an empty one for a plain text such as that of /readyz.

        Raises:
            ApiError: The server refused it or could not be reached.
        """
        # The client encodes only what is called JSON by its type; a server-side apply is not.
        payload = json.dumps(body) if content_type == APPLY_PATCH else body
        try:
            request = self._client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": content_type},
                body=payload,
                auth_settings=["BearerToken"],
            )
            response: Any = self._client.call_api(*request, _request_timeout=REQUEST_TIMEOUT_S)
            text = response.read().decode()
        except (ApiException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise ApiError(f"{method} {path}: no answer from the API server: {error}", status=0) from error
        answer = _parse(text)
        if response.status >= 400:
            message = f"{method} {path}: {response.status} {answer.get('message', text)}"
            raise ApiError(message.strip(), status=response.status, reason=answer.get("reason", ""))
        return answer


def _parse(text: str) -> dict[str, Any]:
    """Reads an answer's JSON object; unknown paths are answered with plain text, which counts as an empty one."""
    try:
        answer = json.loads(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def write_kubeconfig(
    target: Path, *, server: str, ca: bytes, user: Mapping[str, str], namespace: str = "default"
) -> None:
    """Writes a kubeconfig that only its owner may read.

    Args:
        target: Where to write it.
        server: The API server's URL.
        ca: The certificate of the authority that signed the server's, in PEM.
        user: The kubeconfig's user entry: `token`, or `client-certificate-data` and `client-key-data`.
        namespace: The namespace of commands that name none.
    """
    name = "mailsettings"
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(ca).decode()}
    _write_private(
        target,
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": dict(user)}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
            "current-context": name,
        },
    )


def service_account_kubeconfig(kubeconfig: Path, *, namespace: str, name: str, target: Path) -> Path:
    """Writes a kubeconfig with which a program is a ServiceAccount, as it would be in a Pod.

    Args:
        kubeconfig: One that may create tokens for the account, such as the admin's.
        namespace: The account's namespace; it becomes the context's.
        name: The account's name; it has to exist.
        target: Where to write the file; only its owner may read it, since it holds a token of `TOKEN_LIFE_S`.

    Returns:
        The target.

    Raises:
        ApiError: The account does not exist or the token was refused.
    """
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": TOKEN_LIFE_S},
    }
    token = Api(kubeconfig).request("POST", path, request)["status"]["token"]
    config = yaml.safe_load(kubeconfig.read_text())
    contexts = {entry["name"]: entry["context"] for entry in config["contexts"]}
    context = contexts[config["current-context"]]
    context |= {"user": name, "namespace": namespace}
    config["contexts"] = [{"name": name, "context": context}]
    config["current-context"] = name
    config["users"] = [{"name": name, "user": {"token": token}}]
    for cluster in (entry["cluster"] for entry in config["clusters"]):
        if "certificate-authority" in cluster:  # relative to the file that it is in, and that is another one now
            cluster["certificate-authority"] = str(kubeconfig.absolute().parent / cluster["certificate-authority"])
    _write_private(target, config)
    return target


def _write_private(target: Path, config: Mapping[str, Any]) -> None:
    """Writes YAML that appears complete or not at all."""
    partial = target.with_name(f".{target.name}.part")
    partial.touch(mode=0o600)
    partial.write_text(yaml.safe_dump(config, sort_keys=False))
    partial.rename(target)
