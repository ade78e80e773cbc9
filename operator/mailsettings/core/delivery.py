"""The application's Secret: what it holds, and who may write it."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from mailsettings.api import names
from mailsettings.api.conditions import Reason
from mailsettings.api.output import ClusterOutput, OutputTemplate
from mailsettings.core.clock import format_time
from mailsettings.core.credentials import ResolvedSettings
from mailsettings.core.digest import Digester
from mailsettings.core.finding import Finding, failed
from mailsettings.core.mailbox import parse_mailbox
from mailsettings.core.presets import preset_keys, server_uri
from mailsettings.core.server import BearerToken, Credentials, Source

MAX_SECRET_CHARACTERS: Final = 256 * 1024
"""The API server takes 1 MiB of data, and a character is up to 4 bytes. Source: Kubernetes, Secrets, Size limit."""


TOKEN_KEYS: Final = ("access-token", "expires-at")
"""The keys whose values follow the access token. Neither a template nor a preset has it in another."""


class OversizeError(ValueError):
    """A Secret would be too large; the message names the field."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The settings object that a Secret goes with when it is deleted."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class DeliveredSecret:
    """What is known, from its metadata alone, of a Secret that exists."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    owner: Owner | None
    """The settings object that controls it; None: it is not the operator's."""
    content: str = ""
    """The digest that the operator wrote on it."""
    token: str = ""
    """Which access token it holds, as `token_name` has it."""
    applied: str = ""
    """Which fields the operator still owns, as `applied_fields` has them; another manager's edit takes some away."""
    source: str = ""
    """Where the values come from, as `source_of` has it."""
    consent_of: str = ""
    """The uid of the settings that it holds a person's consent for."""


@dataclass(frozen=True, slots=True)
class DesiredSecret:
    """A Secret as it should be."""

    namespace: str
    name: str
    owner: Owner
    settings_name: str
    data: Mapping[str, str] = field(repr=False)
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    token: str = ""
    """Which access token it holds, as `token_name` has it; empty: it has a login of another kind, or none."""
    told_by: Mapping[str, str] | None = field(default=None, repr=False)
    """What stands for `data` in the digest, where whoever compares does not know the password; None: `data` itself."""

    def manifest(self, digest: Digester) -> dict[str, Any]:
        """The Secret as it is applied, its digest among its annotations."""
        told_by = self.data if self.told_by is None else self.told_by
        lasting = {key: value for key, value in told_by.items() if key not in TOKEN_KEYS}
        content = {"data": lasting, "labels": self._labels(), "annotations": dict(self.annotations)}
        owner = {
            "apiVersion": names.API_VERSION,
            "kind": self.owner.kind,
            "name": self.owner.name,
            "uid": self.owner.uid,
            "controller": True,
        }
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "namespace": self.namespace,
                "name": self.name,
                "labels": self._labels(),
                "annotations": {
                    **self.annotations,
                    names.ANNOTATION_CONTENT: digest([content, owner, names.SECRET_TYPE]),
                    **({names.ANNOTATION_TOKEN: self.token} if self.token else {}),
                },
                "ownerReferences": [owner],
            },
            "type": names.SECRET_TYPE,
            "data": {key: _encoded(value) for key, value in self.data.items()},
        }

    def _labels(self) -> dict[str, str]:
        return {
            **self.labels,
            names.LABEL_MANAGED_BY: names.MANAGED_BY,
            names.LABEL_SETTINGS: self.settings_name,
        }


def _encoded(value: str) -> str:
    return base64.b64encode(value.encode("utf-8")).decode("ascii")


def source_of(settings: ResolvedSettings, namespace: str) -> str:
    """Which object the values come from, for the Secret's annotation: `Kind/name` or `Kind/namespace/name`."""
    if settings.effective.source is Source.SYSTEM:
        return system_source(settings.effective.settings_name)
    return f"{names.TENANT_KIND}/{namespace}/{settings.effective.settings_name}"


def system_source(name: str) -> str:
    """The annotation's value for a cluster object."""
    return f"{names.CLUSTER_KIND}/{name}"


def withdrawn_by(secret: DeliveredSecret) -> str | None:
    """The name of the cluster object whose values a Secret holds, and which may withdraw them; None: the tenant's."""
    kind, _, name = secret.source.partition("/")
    return name if kind == names.CLUSTER_KIND else None


def desired_secret(
    settings: ResolvedSettings, output: ClusterOutput | None, *, namespace: str, name: str, owner: Owner
) -> DesiredSecret:
    """The Secret that the settings ask for.

    Raises:
        OversizeError: its template asks for more than a Secret can hold.
    """
    output = output or ClusterOutput()
    metadata = output.metadata
    return DesiredSecret(
        namespace=namespace,
        name=name,
        owner=owner,
        settings_name=owner.name,
        data=secret_data(settings, output.template),
        labels=dict((metadata.labels if metadata else None) or {}),
        annotations={
            **((metadata.annotations if metadata else None) or {}),
            names.ANNOTATION_SOURCE: source_of(settings, namespace),
            names.ANNOTATION_SOURCE_GENERATION: str(settings.effective.settings_generation),
        },
        token=token_name(settings),
    )


def token_name(settings: ResolvedSettings) -> str:
    """Which access token the settings have, for the Secret's annotation; empty: none."""
    return f"{settings.token.fingerprint}/{settings.token.serial}" if settings.token else ""


def can_follow(secret: DeliveredSecret, settings: ResolvedSettings) -> bool:
    """Whether the settings' access token belongs where the one does that a Secret holds.

    Only then may it take its place while everything else in the Secret stays: a token of another account, client or
    provider, or of the other level, has no business at a server that was delivered before it.
    """
    if settings.token is None or secret.source != source_of(settings, secret.namespace):
        return False
    return secret.token.startswith(f"{settings.token.fingerprint}/")


def exchanged(secret: Mapping[str, Any], settings: ResolvedSettings) -> dict[str, Any]:
    """A Secret as it was applied, with nothing but its access token exchanged, to be applied again.

    What others have changed in it or added stays theirs.

    Args:
        secret: The Secret as the API server has it.
        settings: Whose access token it is to hold.
    """
    metadata = secret["metadata"]
    data, labels, annotations = _owned_names(metadata.get("managedFields") or [])
    login = _login_data(settings)
    token = {key: _encoded(login[key]) for key in TOKEN_KEYS}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "resourceVersion": metadata["resourceVersion"],
            "labels": _chosen(metadata.get("labels"), labels),
            "annotations": {
                **_chosen(metadata.get("annotations"), annotations),
                names.ANNOTATION_TOKEN: token_name(settings),
            },
            "ownerReferences": [owner for owner in metadata["ownerReferences"] if owner.get("controller")],
        },
        "type": secret["type"],
        "data": {**_chosen(secret.get("data"), data), **token},
    }


def _chosen(values: Mapping[str, str] | None, keys: list[str]) -> dict[str, str]:
    return {key: value for key, value in (values or {}).items() if key in keys}


def undeliverable(settings: ResolvedSettings, output: ClusterOutput | None) -> Finding | None:
    """Why a Secret would be of no use: what is read once, or asks for a password, breaks when the token runs out."""
    template = output.template if output else None
    if template is None or not isinstance(settings.credentials, BearerToken):
        return None
    wanting = [
        *(f"presets: {preset}" for preset in template.presets or ()),
        *(f"data: {key}" for key, text in (template.data or {}).items() if _PASSWORD.search(text.replace("$$", ""))),
    ]
    if not wanting:
        return None
    return failed(
        Reason.RELAY_NEEDED,
        f"output.template.{wanting[0]} wants a password, and OAuth2 has none, only access tokens that are replaced "
        "again and again. Remove it and have the application read the key access-token from the mounted Secret at each "
        "connection (XOAUTH2 or OAUTHBEARER), or set output.delivery to Relay, which gives it a password at the relay",
    )


_PASSWORD: Final = re.compile(r"\$\{password(:url)?\}")


def secret_data(settings: ResolvedSettings, template: OutputTemplate | None) -> dict[str, str]:
    """The Secret's keys and values, not yet base64.

    Raises:
        OversizeError: the template asks for more than a Secret can hold.
    """
    data = _built_in(settings)
    if template is None:
        return data
    for preset in template.presets or ():
        data |= preset_keys(preset, settings)
    placeholders = _placeholders(settings)
    size = sum(map(len, data.values()))
    for key, text in (template.data or {}).items():
        data[key] = _fill(text, placeholders)
        size += len(data[key])
        if size > MAX_SECRET_CHARACTERS:
            raise OversizeError(
                f"output.template.data: with the key {key!r} the Secret is larger than {MAX_SECRET_CHARACTERS} "
                "characters; use fewer or shorter values"
            )
    return data


def _built_in(settings: ResolvedSettings) -> dict[str, str]:
    effective, server = settings.effective, settings.server
    data = {
        "type": "smtp",
        "provider": effective.provider.lower(),
        "host": server.host,
        "port": str(server.port),
        "protocol": server.protocol,
        "tls": str(server.tls_mode),
        "from": effective.mail_from,
        "uri": server_uri(settings),
    }
    if effective.reply_to:
        data["reply-to"] = effective.reply_to
    data |= _login_data(settings)
    if server.ca_bundle:
        data["ca.crt"] = server.ca_bundle
    if server.tls_server_name:
        data["tls-server-name"] = server.tls_server_name
    if server.tls_insecure_skip_verify:
        data["tls-insecure-skip-verify"] = "true"
    return data


def _login_data(settings: ResolvedSettings) -> dict[str, str]:
    ends = {"expires-at": format_time(settings.token.expires_at)} if settings.token else {}
    match settings.credentials:
        case Credentials(username, password):
            return {"username": username, "password": password}
        case BearerToken(username, access_token):
            return {"username": username, "access-token": access_token, **ends}
        case None:
            return {}


def _placeholders(settings: ResolvedSettings) -> dict[str, str]:
    effective, server, login = settings.effective, settings.server, settings.credentials
    sender = parse_mailbox(effective.mail_from)
    return {
        "host": server.host,
        "port": str(server.port),
        "protocol": server.protocol,
        "tls": str(server.tls_mode),
        "from": effective.mail_from,
        "from-address": sender.addr_spec,
        "from-name": sender.display_name,
        "reply-to": effective.reply_to or "",
        "username": login.username if login else "",
        "username:url": quote(login.username, safe="") if login else "",
        "password": login.password if isinstance(login, Credentials) else "",
        "password:url": quote(login.password, safe="") if isinstance(login, Credentials) else "",
        "uri": server_uri(settings),
    }


def _fill(text: str, values: Mapping[str, str]) -> str:
    """One pass, so that a value that looks like a placeholder stays what it is."""
    return re.sub(r"\$(?:\$|\{([a-z:-]+)\})", lambda match: values[match[1]] if match[1] else "$", text)


def applied_fields(manifest: Mapping[str, Any]) -> str:
    """Which fields of a Secret its manifest applies, as one comparable text."""
    metadata = manifest["metadata"]
    return _fields(manifest.get("data", {}), metadata.get("labels", {}), metadata.get("annotations", {}))


def owned_fields(managed_fields: list[Mapping[str, Any]]) -> str:
    """Which fields of a Secret the operator owns, comparable with `applied_fields`.

    When somebody edits a field or removes it, server-side apply takes it out of the operator's entry, so the texts
    differ until the operator applies again. Source: Kubernetes, Server-Side Apply, Field management.
    """
    owned = _owned_names(managed_fields)
    return _fields(*owned) if any(owned) else ""


def _owned_names(managed_fields: list[Mapping[str, Any]]) -> tuple[list[str], list[str], list[str]]:
    """The keys of data, labels and annotations that the operator owns."""
    for entry in managed_fields:
        if entry.get("manager") == names.FIELD_MANAGER and entry.get("operation") == "Apply":
            fields = entry.get("fieldsV1", {})
            metadata = fields.get("f:metadata", {})
            return (
                _names(fields.get("f:data", {})),
                _names(metadata.get("f:labels", {})),
                _names(metadata.get("f:annotations", {})),
            )
    return [], [], []


def _names(fields: Mapping[str, Any]) -> list[str]:
    return [name.removeprefix("f:") for name in fields if name.startswith("f:")]


def _fields(*groups: Any) -> str:  # noqa: ANN401 - anything iterable over names
    return "|".join(",".join(sorted(group)) for group in groups)
