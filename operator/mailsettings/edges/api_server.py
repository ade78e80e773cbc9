"""What is known of the API server without a connection to it: where objects are, and what its refusals say."""

import json
import sys
from typing import Any
from urllib.parse import quote

from mailsettings.api import names

Json = dict[str, Any]


def unreachable() -> tuple[type[Exception], ...]:
    """What it means that the API server has not answered at all; aiohttp's only where that is in use."""
    aiohttp = sys.modules.get("aiohttp")
    return (TimeoutError, OSError) if aiohttp is None else (TimeoutError, OSError, aiohttp.ClientError)


class ApiError(Exception):
    """The API server refused a request.

    Attributes:
        status: the HTTP status.
        reason: the reason of the `Status` object, such as `Conflict`; may be empty.
        message: the API server's text.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def is_not_found(self) -> bool:
        """Whether the object does not exist."""
        return self.status == 404

    @property
    def is_conflict(self) -> bool:
        """Whether somebody else was faster, or owns what was to be written."""
        return self.status == 409

    @property
    def is_temporary(self) -> bool:
        """Whether the API server may answer otherwise in a while."""
        return self.status == 429 or self.status >= 500

    @property
    def is_refusal(self) -> bool:
        """Whether the same request would be refused again."""
        return self.status in (400, 403, 413, 422)


def refusal(status: int, text: str) -> ApiError:
    """The error that an answer means.

    Args:
        status: the HTTP status.
        text: what came with it, usually a `Status` object.
    """
    try:
        said = json.loads(text)
    except ValueError:
        said = {}
    if not isinstance(said, dict):
        said = {}
    return ApiError(status, said.get("reason") or "", said.get("message") or text[:200])


def namespace_path(name: str) -> str:
    """Of a namespace."""
    return f"/api/v1/namespaces/{quote(name)}"


def core_path(plural: str, namespace: str, name: str) -> str:
    """Of a namespaced object of the core group, such as a Secret."""
    return f"{namespace_path(namespace)}/{plural}/{quote(name)}"


def core_collection_path(plural: str, namespace: str | None = None) -> str:
    """Of a collection of the core group, in one namespace or in all."""
    return f"/api/v1/{plural}" if namespace is None else f"{namespace_path(namespace)}/{plural}"


def events_path(namespace: str) -> str:
    """Of a namespace's events."""
    return f"/apis/events.k8s.io/v1/namespaces/{quote(namespace)}/events"


def endpoint_slices_path(namespace: str) -> str:
    """Of a namespace's EndpointSlices."""
    return f"/apis/discovery.k8s.io/v1/namespaces/{quote(namespace)}/endpointslices"


def settings_path(kind: str, namespace: str, name: str) -> str:
    """Of a settings object; cluster objects have no namespace."""
    if kind == names.CLUSTER_KIND:
        return cluster_settings_path(name)
    return f"/apis/{names.API_VERSION}/namespaces/{quote(namespace)}/{names.TENANT_PLURAL}/{quote(name)}"


def settings_collection_path(kind: str, namespace: str | None = None) -> str:
    """Of the settings of a kind, in one namespace or in all."""
    if kind == names.CLUSTER_KIND:
        return f"/apis/{names.API_VERSION}/{names.CLUSTER_PLURAL}"
    where = f"namespaces/{quote(namespace)}/" if namespace is not None else ""
    return f"/apis/{names.API_VERSION}/{where}{names.TENANT_PLURAL}"


def mail_tests_path(namespace: str) -> str:
    """Of a namespace's MailServerTests."""
    return f"/apis/{names.API_VERSION}/namespaces/{quote(namespace)}/{names.TEST_PLURAL}"


def mail_test_path(namespace: str, name: str) -> str:
    """Of a MailServerTest."""
    return f"{mail_tests_path(namespace)}/{quote(name)}"


def cluster_settings_path(name: str) -> str:
    """Of a cluster object."""
    return f"/apis/{names.API_VERSION}/{names.CLUSTER_PLURAL}/{quote(name)}"


def settings_status_path(kind: str, namespace: str, name: str) -> str:
    """Of the status of a settings object."""
    return f"{settings_path(kind, namespace, name)}/status"
