"""The objects that the benchmarks put into a cluster."""

import base64
from collections.abc import Mapping
from typing import Any, Final

from tests.support.identity_provider import ACCOUNT, CLIENT_ID
from tests.support.smtp_server import PASSWORD, USERNAME

Json = dict[str, Any]

FIELD_MANAGER: Final = "mailsettings"
NAMESPACES: Final = "/api/v1/namespaces"
SECRETS: Final = "/api/v1/secrets"
GROUP: Final = "/apis/mailsettings.dev/v1alpha1"
SETTINGS: Final = f"{GROUP}/mailserversettings"
SYSTEMS: Final = f"{GROUP}/clustermailserversettings"
SYSTEM: Final = f"{SYSTEMS}/default"
TENANT_LABEL: Final = {"bench.mailsettings.dev/tenant": "true"}
TENANT: Final = "mail"
"""The name of every tenant's MailServerSettings."""
TENANT_PREFIX: Final = "tenant-"
"""What the names of their namespaces begin with."""
LOGIN: Final = "smtp-login"
"""The name of the Secrets that settings refer to."""
OAUTH2_LOGIN: Final = "oauth2-login"
"""The same of those with OAuth2."""


def tenant_namespace(number: int) -> str:
    """The name of a tenant's namespace."""
    return f"{TENANT_PREFIX}{number:05d}"


def newcomer_namespace(number: int) -> str:
    """The name of a newcomer's namespace."""
    return f"newcomer-{number:05d}"


def namespace(name: str) -> Json:
    """A namespace that may use the system's settings."""
    return {"metadata": {"name": name, "labels": TENANT_LABEL}}


def settings_in(namespace: str) -> str:
    """The collection of a namespace's MailServerSettings."""
    return f"{GROUP}/namespaces/{namespace}/mailserversettings"


def secrets_in(namespace: str) -> str:
    """The collection of a namespace's Secrets."""
    return f"{NAMESPACES}/{namespace}/secrets"


def inheriting(name: str = TENANT) -> Json:
    """A tenant that has everything from the system."""
    return _settings("MailServerSettings", name, {})


def own_server(port: int, name: str = TENANT) -> Json:
    """A tenant with a server of its own."""
    return _settings("MailServerSettings", name, _server(port))


def system(port: int, *, provision: str, mail_from: str) -> Json:
    """The system's settings, for all namespaces with the tenants' label."""
    tenants = {
        "provision": provision,
        "delivery": "Credentials",
        "namespaceSelector": {"matchLabels": TENANT_LABEL},
    }
    return _settings(
        "ClusterMailServerSettings", "default", {**_server(port), "mailFrom": mail_from, "tenants": tenants}
    )


def login() -> Json:
    """The Secret with the password of the mail server."""
    data = {"password": base64.b64encode(PASSWORD.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": LOGIN}, "data": data}


def oauth2_login(client_secret: str, refresh_token: str) -> Json:
    """The Secret of settings with OAuth2."""
    values = {"secret": client_secret, "refresh-token": refresh_token}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": OAUTH2_LOGIN}, "stringData": values}


def with_oauth2(port: int, token_uri: str) -> Json:
    """A tenant with a server of its own that takes tokens, which nobody probes."""
    oauth2 = {
        "username": ACCOUNT,
        "grant": "RefreshToken",
        "clientID": CLIENT_ID,
        "tokenURI": token_uri,
        "clientAuth": {"secretRef": {"name": OAUTH2_LOGIN, "key": "secret"}},
        "refreshTokenSecretRef": {"name": OAUTH2_LOGIN, "key": "refresh-token"},
    }
    spec = {**_server(port), "provider": "Custom", "auth": {"oauth2": oauth2}, "probe": {"mode": "Disabled"}}
    return _settings("MailServerSettings", TENANT, spec)


def tested_by_hand(name: str, port: int) -> Json:
    """A tenant with a server of its own, that speaks TLS, and which nobody probes unasked."""
    tls = {"mode": "StartTLS", "caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}}
    spec = {
        "mailFrom": "a@acme.example",
        "connection": {"host": "127.0.0.1", "port": port, "tls": tls},
        "auth": {"basic": {"username": "mailer", "passwordSecretRef": {"name": "smtp", "key": "password"}}},
        "probe": {"mode": "Disabled"},
    }
    return _settings("MailServerSettings", name, spec)


def sender(number: int) -> str:
    """A sender that is unlike the others."""
    return f"Platform {number} <no-reply@platform.example>"


def ready(settings: Mapping[str, Any]) -> bool:
    """Whether settings are ready in their present generation."""
    status = settings.get("status") or {}
    conditions = {entry["type"]: entry["status"] for entry in status.get("conditions") or ()}
    return conditions.get("Ready") == "True" and status["observedGeneration"] == settings["metadata"]["generation"]


def _settings(kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": "mailsettings.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _server(port: int) -> Json:
    return {
        "mailFrom": "Acme <no-reply@acme.example>",
        "connection": {"host": "127.0.0.1", "port": port, "timeout": "3s", "tls": {"mode": "Disabled"}},
        "auth": {"basic": {"username": USERNAME, "passwordSecretRef": {"name": LOGIN, "key": "password"}}},
    }
