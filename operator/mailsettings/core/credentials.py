"""From references to values: what the Secrets and ConfigMaps must hold, and what is said when they do not."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal

from mailsettings.api import names
from mailsettings.api.auth import BasicAuth
from mailsettings.api.conditions import Reason
from mailsettings.api.connection import CaBundle, ProxyBasic, ProxyProtocol, is_proxy_login
from mailsettings.api.oauth2 import OAuth2
from mailsettings.api.provider_rules import refused_domain
from mailsettings.api.providers import PROVIDERS
from mailsettings.api.references import SecretKeyRef
from mailsettings.core.effective import EffectiveSettings
from mailsettings.core.finding import Finding, failed, passed
from mailsettings.core.oauth2.secrets import OAuth2Secrets
from mailsettings.core.oauth2.stored import StoredToken
from mailsettings.core.server import BearerToken, Credentials, Login, Proxy, Server

MAX_VALUE_BYTES: Final = 4096
"""Of a user name or password: longer ones do not fit into an SMTP AUTH exchange. Source: RFC 4954 §4 (12288 octets)."""

MAX_OAUTH2_BYTES: Final = 64 * 1024
"""Of a client secret, refresh token or key: no provider's is nearly as long."""

MAX_BUNDLE_BYTES: Final = 1024 * 1024

ObjectKind = Literal["Secret", "ConfigMap"]


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """A Secret or ConfigMap in the settings' namespace."""

    kind: ObjectKind
    name: str


@dataclass(frozen=True, slots=True)
class ReferencedObject:
    """What was read of it."""

    data: Mapping[str, bytes] = field(repr=False)
    referable: bool = True
    """Whether it bears the opt-in label."""
    delivered: bool = False
    """Whether it is one that the operator delivers."""
    expires_at: str | None = None
    """What its annotation of that name says of the value's end."""


Referenced = Mapping[ObjectRef, ReferencedObject | None]
"""Every object that the settings refer to; None: it does not exist."""


@dataclass(frozen=True, slots=True)
class ResolvedSettings:
    """Settings that can be delivered and probed."""

    effective: EffectiveSettings
    server: Server
    credentials: Login | None
    """With OAuth2 none until a token has been put in its place by `authorized`."""
    oauth2: OAuth2Secrets | None = None
    """What tokens are got with. Whoever gets a token has no business with it, so `authorized` takes it out."""
    token: "TokenFacts | None" = None
    """Of the access token in `credentials`."""
    client_expires_at: str | None = None
    """What is written on the Secret with the client secret or the service account's key; with `oauth2` only."""

    def authorized(self, stored: StoredToken) -> "ResolvedSettings":
        """The settings with the access token as their login."""
        auth = self.effective.auth
        if not isinstance(auth, OAuth2):
            raise TypeError("only settings with OAuth2 have tokens")
        return replace(
            self,
            credentials=BearerToken(auth.username, stored.access_token),
            oauth2=None,
            client_expires_at=None,
            token=TokenFacts(stored.serial, stored.fingerprint, stored.expires_at),
        )


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What of a token is no secret."""

    serial: str
    fingerprint: str
    """Of the configuration that it belongs to; the same for the tokens that follow one another."""
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class _Value:
    """One reference and the field it stands in."""

    field: str
    ref: ObjectRef
    key: str


class _UnusableError(Exception):
    """A referenced value cannot be used."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def references(effective: EffectiveSettings) -> list[ObjectRef]:
    """The objects that the settings refer to, each once."""
    return list(dict.fromkeys(value.ref for value in _values(effective)))


def _values(effective: EffectiveSettings) -> Iterator[_Value]:
    if isinstance(effective.auth, BasicAuth):
        yield from _basic_values(effective.auth)
    if isinstance(effective.auth, OAuth2):
        yield from _oauth2_values(effective.auth)
    if effective.ca_bundle is not None:
        yield _ca_bundle_value(effective.ca_bundle)
    if effective.proxy_login is not None:
        yield from _proxy_values(effective.proxy_login)


def _secret_value(path: str, ref: SecretKeyRef | None) -> Iterator[_Value]:
    if ref is not None:
        yield _Value(path, ObjectRef("Secret", ref.name), ref.key)


def _basic_values(auth: BasicAuth) -> Iterator[_Value]:
    yield from _secret_value("auth.basic.usernameSecretRef", auth.username_secret_ref)
    yield from _secret_value("auth.basic.passwordSecretRef", auth.password_secret_ref)


_PROXY_USERNAME: Final = "connection.proxy.basic.usernameSecretRef"
_PROXY_PASSWORD: Final = "connection.proxy.basic.passwordSecretRef"


def _proxy_values(login: ProxyBasic) -> Iterator[_Value]:
    yield from _secret_value(_PROXY_USERNAME, login.username_secret_ref)
    yield from _secret_value(_PROXY_PASSWORD, login.password_secret_ref)


_CLIENT_SECRET: Final = "auth.oauth2.clientAuth.secretRef"
_CERTIFICATE: Final = "auth.oauth2.clientAuth.certificateRef (tls.crt)"
_PRIVATE_KEY: Final = "auth.oauth2.clientAuth.certificateRef (tls.key)"
_SERVICE_ACCOUNT_KEY: Final = "auth.oauth2.serviceAccountKeyRef"
_REFRESH_TOKEN: Final = "auth.oauth2.refreshTokenSecretRef"
_ANNOTATED: Final = (_CLIENT_SECRET, _SERVICE_ACCOUNT_KEY)
"""The values whose end is in no other place than an annotation."""


def _oauth2_values(auth: OAuth2) -> Iterator[_Value]:
    if auth.client_auth is not None:
        yield from _secret_value(_CLIENT_SECRET, auth.client_auth.secret_ref)
        if auth.client_auth.certificate_ref is not None:
            pair = ObjectRef("Secret", auth.client_auth.certificate_ref.name)
            yield _Value(_CERTIFICATE, pair, "tls.crt")
            yield _Value(_PRIVATE_KEY, pair, "tls.key")
    yield from _secret_value(_SERVICE_ACCOUNT_KEY, auth.service_account_key_ref)
    yield from _secret_value(_REFRESH_TOKEN, auth.refresh_token_secret_ref)


def _ca_bundle_value(bundle: CaBundle) -> _Value:
    path = "connection.tls.caBundle"
    if bundle.config_map_key_ref is not None:
        ref = bundle.config_map_key_ref
        return _Value(f"{path}.configMapKeyRef", ObjectRef("ConfigMap", ref.name), ref.key)
    if bundle.secret_key_ref is not None:
        secret = bundle.secret_key_ref
        return _Value(f"{path}.secretKeyRef", ObjectRef("Secret", secret.name), secret.key)
    raise ValueError("a caBundle refers to a ConfigMap or a Secret")


def resolve(
    effective: EffectiveSettings,
    referenced: Referenced,
    *,
    is_usable_bundle: Callable[[str], bool],
    require_label: bool = False,
) -> tuple[Finding, ResolvedSettings | None]:
    """The settings with the referenced values in place, or the first reason why not.

    Args:
        effective: the settings.
        referenced: every object that `references` names.
        is_usable_bundle: whether TLS can work with these PEM certificates, every one of them.
        require_label: refuse Secrets without the opt-in label.
    """
    try:
        values = {value.field: _read(value, referenced, require_label) for value in _values(effective)}
        credentials = _credentials(effective, values)
        oauth2 = _oauth2_secrets(values) if isinstance(effective.auth, OAuth2) else None
        bundle = _bundle(values, is_usable_bundle)
        proxy = _proxy(effective, values)
    except _UnusableError as error:
        return failed(error.reason, str(error)), None
    server = replace(effective.server, ca_bundle=bundle, proxy=proxy)
    finding = (
        passed(Reason.RESOLVED, "Every Secret and ConfigMap that the settings refer to was read.")
        if values
        else passed(Reason.NOTHING_TO_RESOLVE, "The settings refer to no Secret or ConfigMap.")
    )
    expires_at = _client_expires_at(effective, referenced)
    return finding, ResolvedSettings(effective, server, credentials, oauth2, client_expires_at=expires_at)


def _client_expires_at(effective: EffectiveSettings, referenced: Referenced) -> str | None:
    secrets = (referenced[value.ref] for value in _values(effective) if value.field in _ANNOTATED)
    return next((secret.expires_at for secret in secrets if secret is not None), None)


def client_references(auth: OAuth2) -> list[ObjectRef]:
    """What has to be read to know how an OAuth2 client authenticates."""
    return [value.ref for value in _client_values(auth)]


def resolve_client(auth: OAuth2, referenced: Referenced, *, require_label: bool) -> OAuth2Secrets | None:
    """How an OAuth2 client authenticates, and nothing else; None: what that refers to is gone, or cannot be used.

    Args:
        auth: the settings.
        referenced: every object that `client_references` names.
        require_label: refuse Secrets without the opt-in label.
    """
    try:
        return _oauth2_secrets({value.field: _read(value, referenced, require_label) for value in _client_values(auth)})
    except _UnusableError:
        return None


def _client_values(auth: OAuth2) -> list[_Value]:
    return [value for value in _oauth2_values(auth) if value.field in (_CLIENT_SECRET, _CERTIFICATE, _PRIVATE_KEY)]


_MISSING: Final[Mapping[ObjectKind, tuple[Reason, Reason]]] = {
    "Secret": (Reason.SECRET_NOT_FOUND, Reason.SECRET_KEY_MISSING),
    "ConfigMap": (Reason.CONFIG_MAP_NOT_FOUND, Reason.CONFIG_MAP_KEY_MISSING),
}


def _read(value: _Value, referenced: Referenced, require_label: bool) -> bytes:
    ref, found = value.ref, referenced[value.ref]
    not_found, key_missing = _MISSING[ref.kind]
    if found is None:
        raise _UnusableError(not_found, f"{value.field}: there is no {ref.kind} {ref.name!r}; create it")
    if found.delivered:
        raise _UnusableError(
            Reason.SECRET_NOT_REFERABLE,
            f"{value.field}: the Secret {ref.name!r} is one that this operator delivers; refer to one of your own",
        )
    if require_label and ref.kind == "Secret" and not found.referable:
        raise _UnusableError(
            Reason.SECRET_NOT_REFERABLE,
            f'{value.field}: label the Secret {ref.name!r} with {names.LABEL_REFERABLE}="true"; '
            "the operator uses only Secrets that opt in",
        )
    if value.key not in found.data:
        raise _UnusableError(
            key_missing, f"{value.field}: the {ref.kind} {ref.name!r} has no key {value.key!r}; add it"
        )
    return found.data[value.key]


def _credentials(effective: EffectiveSettings, values: Mapping[str, bytes]) -> Credentials | None:
    auth = effective.auth
    if not isinstance(auth, BasicAuth):
        return None
    password = _line(values, "auth.basic.passwordSecretRef")
    if auth.username_secret_ref is not None:
        username = _line(values, "auth.basic.usernameSecretRef")
    else:
        username = auth.username or PROVIDERS[effective.provider].fixed_username or ""
    if refused_domain(effective.provider, username):
        raise _UnusableError(
            Reason.SECRET_VALUE_INVALID,
            f"auth.basic.usernameSecretRef: {PROVIDERS[effective.provider].refused_domains_remedy}",
        )
    return Credentials(username, _provider_password(effective.provider, password))


def _proxy(effective: EffectiveSettings, values: Mapping[str, bytes]) -> Proxy | None:
    proxy, login = effective.server.proxy, effective.proxy_login
    if proxy is None or login is None:
        return proxy
    username = login.username or _proxy_line(values, _PROXY_USERNAME)
    if proxy.protocol is ProxyProtocol.HTTP and ":" in username:  # RFC 7617 §2
        raise _invalid(_PROXY_USERNAME, "holds a colon, which HTTP has no way to send", remedy="use another user")
    return replace(proxy, login=Credentials(username, _proxy_line(values, _PROXY_PASSWORD)))


def _proxy_line(values: Mapping[str, bytes], path: str) -> str:
    line = _line(values, path)
    if not is_proxy_login(line):
        raise _invalid(path, "is longer than 255 bytes, which no proxy takes", remedy="use a shorter one")
    return line


def _oauth2_secrets(values: Mapping[str, bytes]) -> OAuth2Secrets:
    """The values that there are; which there have to be the schema says."""
    return OAuth2Secrets(
        client_secret=_line(values, _CLIENT_SECRET, MAX_OAUTH2_BYTES) if _CLIENT_SECRET in values else None,
        certificate=_pem(values, _CERTIFICATE, "CERTIFICATE") if _CERTIFICATE in values else None,
        private_key=_pem(values, _PRIVATE_KEY, "PRIVATE KEY") if _PRIVATE_KEY in values else None,
        service_account_key=_key_file(values) if _SERVICE_ACCOUNT_KEY in values else None,
        refresh_token=_line(values, _REFRESH_TOKEN, MAX_OAUTH2_BYTES) if _REFRESH_TOKEN in values else None,
    )


def _pem(values: Mapping[str, bytes], path: str, what: str) -> str:
    text = _text(values, path, MAX_OAUTH2_BYTES)
    if re.search(f"-----BEGIN ([A-Z]+ )?{what}-----", text) is None:
        raise _invalid(path, f"holds no PEM block {what}", remedy="store an unencrypted PEM file")
    return text


def _key_file(values: Mapping[str, bytes]) -> str:
    """A service account's key file, as Google gives it."""
    text = _text(values, _SERVICE_ACCOUNT_KEY, MAX_OAUTH2_BYTES)
    remedy = "store the JSON file that Google gave when the key was made"
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise _invalid(_SERVICE_ACCOUNT_KEY, "is not JSON", remedy=remedy) from None
    if not isinstance(content, dict) or content.get("type") != "service_account":
        raise _invalid(_SERVICE_ACCOUNT_KEY, "is no service account's key file", remedy=remedy)
    missing = [name for name in ("client_email", "private_key") if not isinstance(content.get(name), str)]
    if missing:
        raise _invalid(_SERVICE_ACCOUNT_KEY, f"lacks {' and '.join(missing)}", remedy=remedy)
    return text


def _text(values: Mapping[str, bytes], path: str, limit: int) -> str:
    raw = values[path]
    if len(raw) > limit:
        raise _invalid(path, f"is longer than {limit} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _invalid(path, "is not UTF-8 text") from None
    if not text.strip():
        raise _invalid(path, "is empty")
    return text


def _line(values: Mapping[str, bytes], path: str, limit: int = MAX_VALUE_BYTES) -> str:
    """One line of text. A line break, even at the end, would end the AUTH command early or be part of the password."""
    text = _text(values, path, limit)
    if text.rstrip("\r\n") != text:
        raise _invalid(path, "ends with a line break (printf and --from-literal add none, echo does)")
    if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text):
        raise _invalid(path, "holds a line break or another control character")
    return text


def _invalid(path: str, what: str, *, remedy: str = "store the plain text itself") -> _UnusableError:
    return _UnusableError(Reason.SECRET_VALUE_INVALID, f"{path}: the value {what}; {remedy}")


def _provider_password(provider: str, password: str) -> str:
    rule = PROVIDERS[provider].password
    if rule is None:
        return password
    stripped = password.translate({ord(character): None for character in rule.strip})
    if re.fullmatch(rule.pattern, stripped) is None:
        raise _UnusableError(
            Reason.SECRET_VALUE_INVALID,
            f"auth.basic.passwordSecretRef: the value has not the form that {provider} wants; {rule.remedy}",
        )
    return stripped


_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_BUNDLED: Final = re.compile(f"{_BEGIN}[A-Za-z0-9+/=\r\n]+-----END CERTIFICATE-----", re.ASCII)


def _bundle(values: Mapping[str, bytes], is_usable: Callable[[str], bool]) -> str | None:
    """The certificates of the bundle, without the comments and keys that may stand between them."""
    for path, raw in values.items():
        if not path.startswith("connection.tls.caBundle"):
            continue
        if len(raw) > MAX_BUNDLE_BYTES:
            raise _UnusableError(Reason.CA_BUNDLE_INVALID, f"{path}: the value is longer than 1 MiB")
        text = raw.decode("utf-8", errors="replace")
        certificates = _BUNDLED.findall(text)
        bundle = "".join(f"{certificate}\n" for certificate in certificates)
        if _BEGIN not in text:
            raise _UnusableError(Reason.CA_BUNDLE_INVALID, f"{path}: the value holds no PEM certificate ({_BEGIN})")
        # One that is broken is not passed over: a bundle must not trust less than whoever wrote it believes.
        if len(certificates) != text.count(_BEGIN) or not is_usable(bundle):
            raise _UnusableError(
                Reason.CA_BUNDLE_INVALID, f"{path}: the value holds a PEM certificate that is broken or cut off"
            )
        return bundle
    return None
