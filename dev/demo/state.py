"""What is there: the settings of both kinds with their conditions, and the Secrets that the operator has delivered."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from dev.cluster import Api

_GROUP: Final = "/apis/mailsettings.dev/v1alpha1"
_DELIVERED: Final = {
    "labelSelector": "app.kubernetes.io/managed-by=mailsettings",
    "fieldSelector": "type=servicebinding.io/smtp",
}

Json = dict[str, Any]
Place = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """What the status says of OAuth2."""

    redirect_uri: str
    """What a person copies to the provider's console."""
    authorize_url: str
    """What a person opens who is to consent."""
    renewal: datetime | None
    """When the token is renewed next."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    namespace: str
    """Empty for the cluster kind."""
    name: str
    """Empty for a namespace that is served without an object of its own."""
    ready: str
    """True, False, Unknown, or nothing while the operator has not spoken of the present generation."""
    reason: str
    source: str
    secret: str
    message: str
    """Of the Ready condition."""
    token: str = ""
    """The state of the access token; empty without OAuth2."""
    authorization: Authorization | None = field(default=None, compare=False)

    @property
    def title(self) -> str:
        """Which settings, for people."""
        if not self.namespace:
            return f"{self.name} (cluster)"
        return f"{self.namespace}/{self.name}" if self.name else f"{self.namespace} (no settings)"


@dataclass(frozen=True, slots=True)
class State:
    """Everything at one moment."""

    rows: tuple[Row, ...]
    secrets: frozenset[Place]
    """Delivered Secrets."""

    def row(self, namespace: str, name: str) -> Row | None:
        """The row of these settings."""
        return next((row for row in self.rows if (row.namespace, row.name) == (namespace, name)), None)


@dataclass(frozen=True, slots=True)
class Sending:
    """What the application that sends with access tokens has come to."""

    title: str
    """With which settings."""
    mails: int
    """So many have arrived."""
    tokens: int
    """With so many different tokens."""
    refused: int
    """So many logins with a token were refused."""
    renewal_in: timedelta | None
    """How long until the token is renewed."""


def observe(api: Api) -> State:
    """The present state.

    Raises:
        ClusterError: The API server refused or did not answer.
    """
    delivered = api.request("GET", "/api/v1/secrets", query=_DELIVERED)["items"]
    secrets = frozenset(_place(secret) for secret in delivered)
    clusters = api.request("GET", f"{_GROUP}/clustermailserversettings")["items"]
    tenants = api.request("GET", f"{_GROUP}/mailserversettings")["items"]
    rows = [
        *(_row(settings, secrets) for settings in clusters),
        *sorted([*(_row(settings, secrets) for settings in tenants), *_provisioned(delivered)], key=_order),
    ]
    return State(tuple(rows), secrets)


def _order(row: Row) -> Place:
    return row.namespace, row.name


def _place(document: Json) -> Place:
    return document["metadata"].get("namespace", ""), document["metadata"]["name"]


def _row(settings: Json, secrets: frozenset[Place]) -> Row:
    namespace, name = _place(settings)
    status = settings.get("status") or {}
    is_current = status.get("observedGeneration") == settings["metadata"]["generation"]
    ready: Json = next((c for c in status.get("conditions") or () if is_current and c["type"] == "Ready"), {})
    secret = (status.get("binding") or {}).get("name", "")
    return Row(
        namespace=namespace,
        name=name,
        ready=ready.get("status", ""),
        reason=ready.get("reason", ""),
        source=(status.get("effective") or {}).get("source", ""),
        secret=secret if (namespace, secret) in secrets else "",
        message=ready.get("message", ""),
        token=(status.get("oauth2") or {}).get("tokenState", ""),
        authorization=_authorization(status.get("oauth2")),
    )


def _authorization(oauth2: Json | None) -> Authorization | None:
    if oauth2 is None:
        return None
    renewal = oauth2.get("nextRefreshTime")
    return Authorization(
        oauth2.get("redirectURI", ""),
        oauth2.get("authorizeURL", ""),
        datetime.fromisoformat(renewal) if renewal else None,
    )


def _provisioned(delivered: list[Json]) -> Iterator[Row]:
    """The namespaces that `provision: Always` serves: their Secrets belong to the cluster object."""
    for secret in delivered:
        owners = {owner["kind"] for owner in secret["metadata"].get("ownerReferences") or ()}
        if "ClusterMailServerSettings" in owners:
            namespace, name = _place(secret)
            yield Row(namespace, name="", ready="", reason="", source="System", secret=name, message="")
