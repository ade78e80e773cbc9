"""What a test does with the cluster: put objects in, look at them, wait until they are as expected."""

import base64
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from dev.cluster import Api, ApiError

TIMEOUT_S: Final = 20.0
GROUP: Final = "/apis/mailsettings.dev/v1alpha1"
MERGE_PATCH: Final = "application/merge-patch+json"

Json = dict[str, Any]

_COLLECTIONS: Final = {
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "Namespace": "/api/v1/namespaces",
    "MailServerSettings": f"{GROUP}/namespaces/{{namespace}}/mailserversettings",
    "ClusterMailServerSettings": f"{GROUP}/clustermailserversettings",
    "MailServerTest": f"{GROUP}/namespaces/{{namespace}}/mailservertests",
}


def path(kind: str, name: str, namespace: str | None = None) -> str:
    return f"{_COLLECTIONS[kind].format(namespace=namespace)}/{quote(name)}"


class Kube:
    """An administrator at work. Every wait has a timeout and tells what it saw last."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def create(self, kind: str, name: str, namespace: str | None = None, **fields: Any) -> Json:
        metadata = {"name": name, **fields.pop("metadata", {})}
        version = "v1" if kind in ("Secret", "ConfigMap", "Namespace") else "mailsettings.dev/v1alpha1"
        body = {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}
        return self.api.request("POST", _COLLECTIONS[kind].format(namespace=namespace), body)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Json | None:
        try:
            return self.api.request("GET", path(kind, name, namespace))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def patch(self, kind: str, name: str, namespace: str | None = None, **fields: Any) -> Json:
        return self.api.request("PATCH", path(kind, name, namespace), fields, content_type=MERGE_PATCH)

    def delete(self, kind: str, name: str, namespace: str | None = None) -> None:
        try:
            self.api.request("DELETE", path(kind, name, namespace))
        except ApiError as error:
            if error.status != 404:
                raise

    def secret(self, name: str, namespace: str, **values: str | bytes) -> Json:
        """Creates an Opaque Secret."""
        data = {
            key: base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()
            for key, value in values.items()
        }
        return self.create("Secret", name, namespace, data=data)

    def secret_data(self, name: str, namespace: str) -> dict[str, str] | None:
        """The decoded values; None: there is no such Secret."""
        secret = self.get("Secret", name, namespace)
        if secret is None:
            return None
        return {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}

    def settings(self, name: str, namespace: str | None = None) -> Json | None:
        kind = "ClusterMailServerSettings" if namespace is None else "MailServerSettings"
        return self.get(kind, name, namespace)

    def wait(self, look: Callable[[], Any], what: str, *, timeout: float = TIMEOUT_S) -> Any:
        """The first true value that `look` gives.

        Raises:
            AssertionError: there was none in time; it tells `what` was awaited.
        """
        deadline = time.monotonic() + timeout
        while True:
            value = look()
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {timeout:g} s in vain for {what}")
            time.sleep(0.03)

    def wait_condition(
        self,
        name: str,
        namespace: str | None,
        condition_type: str,
        status: str | None,
        reason: str | None = None,
        *,
        timeout: float = TIMEOUT_S,
    ) -> Json:
        """The settings once the condition is so for their present generation; status None: it is absent."""
        seen: list[Any] = [None]

        def look() -> Json | None:
            settings = self.settings(name, namespace)
            seen[0] = settings and settings.get("status")
            if settings is None or not is_current(settings):
                return None
            found = condition(settings, condition_type)
            if found is None:
                return settings if status is None else None
            matches = found["status"] == status and reason in (None, found["reason"])
            return settings if matches else None

        try:
            settings: Json = self.wait(look, f"{condition_type}={status} {reason or ''}", timeout=timeout)
        except AssertionError as error:
            raise AssertionError(f"{error} of {namespace}/{name}; last seen: {seen[0]}") from None
        return settings

    def wait_ready(self, name: str, namespace: str | None = None) -> Json:
        return self.wait_condition(name, namespace, "Ready", "True")

    def wait_gone(self, kind: str, name: str, namespace: str | None = None, *, timeout: float = TIMEOUT_S) -> None:
        self.wait(lambda: self.get(kind, name, namespace) is None, f"{kind} {namespace}/{name} to go", timeout=timeout)

    def wait_values(self, name: str, namespace: str, **values: str) -> Json:
        """The Secret once it has these values among its own; `_` in a keyword stands for `-`."""
        wanted = {key.replace("_", "-"): value for key, value in values.items()}
        seen: list[dict[str, str] | None] = [None]

        def look() -> bool:
            seen[0] = self.secret_data(name, namespace)
            return seen[0] is not None and wanted.items() <= seen[0].items()

        try:
            self.wait(look, f"{wanted}")
        except AssertionError as error:
            raise AssertionError(f"{error} in the Secret {namespace}/{name}; last seen: {seen[0]}") from None
        secret = self.get("Secret", name, namespace)
        assert secret is not None
        return secret


def is_current(settings: Mapping[str, Any]) -> bool:
    """Whether the status speaks of the present generation."""
    observed = (settings.get("status") or {}).get("observedGeneration")
    return bool(observed == settings["metadata"]["generation"])


def condition(settings: Mapping[str, Any], condition_type: str) -> Json | None:
    for found in (settings.get("status") or {}).get("conditions") or ():
        if found["type"] == condition_type:
            return dict(found)
    return None


def reason_of(settings: Mapping[str, Any], condition_type: str) -> tuple[str, str] | None:
    """Status and reason of a condition; None: it is absent."""
    found = condition(settings, condition_type)
    return (found["status"], found["reason"]) if found else None


def resource_version(document: Mapping[str, Any] | None) -> str:
    assert document is not None
    return str(document["metadata"]["resourceVersion"])
