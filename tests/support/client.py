"""Requests to the API server that show what `dev.cluster.Api` hides: statuses, warnings, and other people's eyes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubernetes.client import ApiClient
from kubernetes.config import new_client_from_config

TIMEOUT_S: Final = 30.0
MERGE_PATCH: Final = "application/merge-patch+json"
DRY_RUN: Final = {"dryRun": "All"}

_new_client: Callable[..., ApiClient] = new_client_from_config  # the package has types, but not for this


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said."""

    status: int
    body: dict[str, Any]
    warnings: str
    """The `Warning` headers, joined."""

    @property
    def accepted(self) -> bool:
        return self.status < 300

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


class Client:
    """An administrator's client, which can also act as somebody else."""

    def __init__(self, kubeconfig: Path) -> None:
        self._client = _new_client(config_file=str(kubeconfig), persist_config=False)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        user: str | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Answer:
        """One request; `user` is whom the administrator impersonates."""
        headers = {"Accept": accept, "Content-Type": content_type}
        if user is not None:
            headers["Impersonate-User"] = user
        request = self._client.param_serialize(
            method, path, query_params=list((query or {}).items()), header_params=headers, body=body
        )
        response = self._client.call_api(*request, _request_timeout=TIMEOUT_S)
        return Answer(response.status, json.loads(response.response.data), response.headers.get("Warning", ""))
