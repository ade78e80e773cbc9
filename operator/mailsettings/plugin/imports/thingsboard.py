"""ThingsBoard's mail settings as objects of this API. Pure.

Source: ThingsBoard CE 4, the `mail` row of admin_settings; UI `settings.models.ts`, server `TbMailSender` and
`AdminController`. Numbers and truths may be texts there.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mailsettings.api import names
from mailsettings.api.providers import CUSTOM, GOOGLE, OFFICE365, SENDGRID

Json = dict[str, Any]

PASSWORD_KEY: Final = "password"
CLIENT_SECRET_KEY: Final = "client-secret"

_PROVIDERS: Final = {"CUSTOM": CUSTOM, "GOOGLE": GOOGLE, "OFFICE_365": OFFICE365, "SENDGRID": SENDGRID}
_KNOWN: Final = frozenset(
    (
        "mailFrom", "providerId", "smtpProtocol", "smtpHost", "smtpPort", "timeout", "enableTls", "tlsVersion",
        "enableProxy", "proxyHost", "proxyPort", "proxyUser", "proxyPassword", "username", "password",
        "changePassword", "showChangePassword", "enableOauth2", "clientId", "clientSecret", "providerTenantId",
        "authUri", "tokenUri", "scope", "redirectUri", "tokenGenerated", "refreshToken", "refreshTokenExpires",
    )
)  # fmt: skip
_TEMPLATE_SCOPES: Final = {
    GOOGLE: {"https://mail.google.com/"},
    OFFICE365: {
        "https://outlook.office365.com/SMTP.Send",
        "https://outlook.office.com/SMTP.Send",
        "offline_access",
        "openid",
    },
}
_TEMPLATE_URIS: Final = {
    GOOGLE: ("https://accounts.google.com/", "https://oauth2.googleapis.com/"),
    OFFICE365: ("https://login.microsoftonline.com/",),
}
MIN_TIMEOUT_MS: Final = 100
MAX_TIMEOUT_MS: Final = 120_000


class ForeignSettingsError(ValueError):
    """These are no mail settings of ThingsBoard; the text says why, without anything that is in them."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the objects are to be."""

    name: str
    namespace: str
    """Of the Secret, and of settings that have one; empty: none is said."""
    is_cluster: bool

    @property
    def secret(self) -> str:
        """The name of the Secret; another one than that which the operator delivers."""
        return f"{self.name}-login"


@dataclass(slots=True)
class Imported:
    """What came of it."""

    settings: Json
    secret: Json | None
    notes: list[str] = field(default_factory=list)
    """What could not be carried over, and what is left to do. They hold no secret."""


def parse(text: str) -> Json:
    """The mail settings in a document, bare or as the `jsonValue` of admin settings.

    Raises:
        ForeignSettingsError: They are none.
    """
    try:
        document = json.loads(text)
        if isinstance(document, dict) and "jsonValue" in document:
            document = document["jsonValue"]
        if isinstance(document, str):
            document = json.loads(document)
    except (ValueError, RecursionError):
        raise ForeignSettingsError("this is no JSON") from None
    if not isinstance(document, dict) or not {"smtpHost", "mailFrom", "providerId"} & document.keys():
        raise ForeignSettingsError("these are no mail settings of ThingsBoard: there is no smtpHost in them")
    return document


def convert(source: Json, wish: Wish) -> Imported:
    """The objects for these settings."""
    reading = _Reading(source, wish)
    spec = reading.spec()
    kind = names.CLUSTER_KIND if wish.is_cluster else names.TENANT_KIND
    namespace = {"namespace": wish.namespace} if wish.namespace else {}
    metadata = {"name": wish.name, **({} if wish.is_cluster else namespace)}
    settings = {"apiVersion": names.API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
    secret = None
    if reading.secrets:
        metadata = {"name": wish.secret, **namespace}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": reading.secrets}
    return Imported(settings, secret, reading.notes)


@dataclass(slots=True)
class _Reading:
    source: Mapping[str, Any]
    wish: Wish
    secrets: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def spec(self) -> Json:
        provider = self._provider()
        spec: Json = {"mailFrom": self._text("mailFrom"), "provider": provider, "connection": self._connection()}
        auth = self._oauth2(provider) if self._wants_oauth2(provider) else self._basic(provider)
        if auth is not None:
            spec["auth"] = auth
        self._note_the_rest()
        return spec

    def _provider(self) -> str:
        given = self._text("providerId") or "CUSTOM"
        if given not in _PROVIDERS:
            self.notes.append("providerId: this provider is not known; Custom is used in its place.")
        return _PROVIDERS.get(given, CUSTOM)

    def _connection(self) -> Json:
        connection: Json = {"host": self._text("smtpHost")}
        if (port := self._number("smtpPort")) is not None:
            connection["port"] = port
        if (timeout := self._number("timeout")) is not None:
            connection["timeout"] = self._duration(timeout)
        if self._text("smtpProtocol").lower() == "smtps":
            mode = "Implicit"
        else:
            mode = "StartTLS" if self._truth("enableTls") else "Disabled"
        connection["tls"] = {"mode": mode}
        version = self._text("tlsVersion")
        if mode != "Disabled" and version == "TLSv1.3":
            connection["tls"]["minVersion"] = version
        elif mode != "Disabled" and version not in ("", "TLSv1.2"):
            self.notes.append("tlsVersion: it is too old; TLSv1.2 is the least that is spoken.")
        return connection

    def _duration(self, milliseconds: int) -> str:
        bounded = min(max(milliseconds, MIN_TIMEOUT_MS), MAX_TIMEOUT_MS)
        if bounded != milliseconds:
            self.notes.append("timeout: it has to be from 100ms to 2m; the nearest is used.")
        return f"{bounded // 1000}s" if bounded % 1000 == 0 or bounded > 99_999 else f"{bounded}ms"

    def _wants_oauth2(self, provider: str) -> bool:
        wanted = self._truth("enableOauth2")
        if wanted and provider == SENDGRID:
            self.notes.append("enableOauth2: SendGrid has no OAuth2; it is left out.")
            return False
        return wanted

    def _basic(self, provider: str) -> Json | None:
        username = self._text("username")
        if not username:
            return None
        self._keep(PASSWORD_KEY, "password")
        basic: Json = {} if provider == SENDGRID and username == "apikey" else {"username": username}
        return {"basic": {**basic, "passwordSecretRef": {"name": self.wish.secret, "key": PASSWORD_KEY}}}

    def _oauth2(self, provider: str) -> Json:
        self._keep(CLIENT_SECRET_KEY, "clientSecret")
        oauth2: Json = {
            "username": self._text("username"),
            "grant": "AuthorizationCode",
            "clientID": self._text("clientId"),
            "clientAuth": {"secretRef": {"name": self.wish.secret, "key": CLIENT_SECRET_KEY}},
        }
        scopes = [str(scope) for scope in self.source.get("scope") or () if scope]
        if provider == CUSTOM:
            oauth2 |= self._endpoints(scopes)
        else:
            self._note_other_endpoints(provider)
            if provider == OFFICE365:
                oauth2["directoryID"] = self._text("providerTenantId")
            if set(scopes) - _TEMPLATE_SCOPES[provider]:
                oauth2["scopes"] = [scope for scope in scopes if scope not in ("offline_access", "openid")]
        where = "--cluster " if self.wish.is_cluster else ""
        self.notes.append(
            "tokens: they are not carried over. Register the redirect URI in status.oauth2.redirectURI at the "
            f"provider, and consent once: kubectl mailsettings authorize {where}{self.wish.name}"
        )
        return {"oauth2": oauth2}

    def _endpoints(self, scopes: list[str]) -> Json:
        has_id_token = "openid" in scopes
        if not has_id_token:
            self.notes.append(
                "scope: without openid nobody can tell which account has consented, so accountCheck is skipped; add "
                "openid to the scopes and a claim, if the provider has it."
            )
        return {
            "authorizationURI": self._text("authUri"),
            "tokenURI": self._text("tokenUri"),
            **({"scopes": scopes} if scopes else {}),
            "accountCheck": {"claim": "email"} if has_id_token else {"skip": True},
        }

    def _note_other_endpoints(self, provider: str) -> None:
        for name in ("authUri", "tokenUri"):
            given = self._text(name)
            if given and not given.startswith(_TEMPLATE_URIS[provider]):
                self.notes.append(f"{name}: it is not that of {provider}, and is not carried over.")

    def _keep(self, key: str, name: str) -> None:
        self.secrets[key] = self._text(name)
        if not self.secrets[key]:
            where = f"the Secret {self.wish.secret}, key {key}"
            self.notes.append(f"{name}: it is not in the file; put it into {where}, before you apply it.")

    def _note_the_rest(self) -> None:
        if self._truth("enableProxy"):
            self.notes.append("enableProxy: there are no proxies; the operator connects directly.")
        if self.wish.is_cluster:
            self.notes.append("tenants: nobody may use these settings yet; say in spec.tenants who may.")
        if unknown := sorted(self.source.keys() - _KNOWN):
            self.notes.append(f"{', '.join(unknown)}: not known, and not carried over.")

    def _text(self, name: str) -> str:
        value = self.source.get(name)
        return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""

    def _number(self, name: str) -> int | None:
        text = self._text(name)
        if text.isascii() and text.isdigit():
            return int(text)
        if text:
            self.notes.append(f"{name}: it is no whole number, and is not carried over.")
        return None

    def _truth(self, name: str) -> bool:
        return self.source.get(name) in (True, "true")
