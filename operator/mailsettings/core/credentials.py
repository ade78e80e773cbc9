"""From references to values: what the Secrets and ConfigMaps must hold, and what is said when they do not."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from mailsettings.api import names
from mailsettings.api.conditions import Reason
from mailsettings.api.connection import CaBundle
from mailsettings.api.provider_rules import refused_domain
from mailsettings.api.providers import PROVIDERS
from mailsettings.core.effective import EffectiveSettings
from mailsettings.core.finding import Finding, failed, passed
from mailsettings.core.server import Credentials, Server

MAX_VALUE_BYTES: Final = 4096
"""Of a user name or password: longer ones do not fit into an SMTP AUTH exchange. Source: RFC 4954 §4 (12288 octets)."""

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


Referenced = Mapping[ObjectRef, ReferencedObject | None]
"""Every object that the settings refer to; None: it does not exist."""


@dataclass(frozen=True, slots=True)
class ResolvedSettings:
    """Settings that can be delivered and probed."""

    effective: EffectiveSettings
    server: Server
    credentials: Credentials | None


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
    auth = effective.auth
    if auth is not None:
        if auth.username_secret_ref is not None:
            ref = auth.username_secret_ref
            yield _Value("auth.basic.usernameSecretRef", ObjectRef("Secret", ref.name), ref.key)
        ref = auth.password_secret_ref
        yield _Value("auth.basic.passwordSecretRef", ObjectRef("Secret", ref.name), ref.key)
    if effective.ca_bundle is not None:
        yield _ca_bundle_value(effective.ca_bundle)


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
        bundle = _bundle(values, is_usable_bundle)
    except _UnusableError as error:
        return failed(error.reason, str(error)), None
    server = replace(effective.server, ca_bundle=bundle)
    finding = (
        passed(Reason.RESOLVED, "Every Secret and ConfigMap that the settings refer to was read.")
        if values
        else passed(Reason.NOTHING_TO_RESOLVE, "The settings refer to no Secret or ConfigMap.")
    )
    return finding, ResolvedSettings(effective, server, credentials)


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
    if auth is None:
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


def _line(values: Mapping[str, bytes], path: str) -> str:
    """One line of text. A line break, even at the end, would end the AUTH command early or be part of the password."""
    raw = values[path]
    if len(raw) > MAX_VALUE_BYTES:
        raise _invalid(path, f"is longer than {MAX_VALUE_BYTES} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _invalid(path, "is not UTF-8 text") from None
    if not text.strip():
        raise _invalid(path, "is empty")
    if text.rstrip("\r\n") != text:
        raise _invalid(path, "ends with a line break (printf and --from-literal add none, echo does)")
    if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text):
        raise _invalid(path, "holds a line break or another control character")
    return text


def _invalid(path: str, what: str) -> _UnusableError:
    return _UnusableError(Reason.SECRET_VALUE_INVALID, f"{path}: the value {what}; store the plain text itself")


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
_CERTIFICATE: Final = re.compile(f"{_BEGIN}[A-Za-z0-9+/=\r\n]+-----END CERTIFICATE-----", re.ASCII)


def _bundle(values: Mapping[str, bytes], is_usable: Callable[[str], bool]) -> str | None:
    """The certificates of the bundle, without the comments and keys that may stand between them."""
    for path, raw in values.items():
        if not path.startswith("connection.tls.caBundle"):
            continue
        if len(raw) > MAX_BUNDLE_BYTES:
            raise _UnusableError(Reason.CA_BUNDLE_INVALID, f"{path}: the value is longer than 1 MiB")
        text = raw.decode("utf-8", errors="replace")
        certificates = _CERTIFICATE.findall(text)
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
