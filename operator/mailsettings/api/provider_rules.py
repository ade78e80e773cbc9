"""The rules that `PROVIDERS` implies for a spec with `provider` and `auth`."""

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from mailsettings.api.grants import CONSENT_GRANTS, Grant
from mailsettings.api.identity import CUSTOM_CLOUD, Family
from mailsettings.api.model import Rule
from mailsettings.api.providers import CUSTOM, PROVIDERS, Provider
from mailsettings.api.scalars import lower_ascii

if TYPE_CHECKING:
    from mailsettings.api.auth import BasicAuth
    from mailsettings.api.oauth2 import OAuth2


def _known_provider(name: str) -> str:
    if name not in PROVIDERS:
        raise PydanticCustomError("enum", "must be one of {names}", {"names": ", ".join(PROVIDERS)})
    return name


ProviderName = Annotated[str, AfterValidator(_known_provider), Field(json_schema_extra={"enum": [*PROVIDERS]})]


def _requires_auth() -> str:
    return "[" + ", ".join(f"'{name}'" for name, p in PROVIDERS.items() if p.requires_auth) + "]"


def _fixed_usernames() -> dict[str, str]:
    return {name: p.fixed_username for name, p in PROVIDERS.items() if p.fixed_username is not None}


_PROVIDER_CEL: Final = f"(has(self.provider) ? self.provider : '{CUSTOM}')"


def _members(does: Callable[[Provider], bool]) -> list[str]:
    """The providers of which something is true."""
    return [name for name, provider in PROVIDERS.items() if does(provider)]


def provider_rules() -> tuple[Rule, ...]:
    """The rules of `PROVIDERS` over a spec with `provider` and `auth`."""
    rules = [
        Rule(
            cel=f"!has(self.provider) || !(self.provider in {_requires_auth()}) || has(self.auth)",
            holds=lambda s: s.provider is None or not PROVIDERS[s.provider].requires_auth or s.auth is not None,
            message="auth: this provider needs a login; set auth.basic or auth.oauth2",
        ),
        _basic_rule(
            cel="has(self.auth.basic.username) || has(self.auth.basic.usernameSecretRef) || "
            f"(has(self.provider) && self.provider in {[*_fixed_usernames()]})",
            holds=lambda provider, basic: (
                basic.username is not None or basic.username_secret_ref is not None or provider in _fixed_usernames()
            ),
            message="auth.basic.username: set it, or usernameSecretRef",
        ),
    ]
    rules += [_fixed_username_rule(name, fixed) for name, fixed in _fixed_usernames().items()]
    for name, provider in PROVIDERS.items():
        if provider.refused_domains is not None:
            rules += _refused_domains_rules(name, provider.refused_domains, provider.refused_domains_remedy)
    return (*rules, *_oauth2_rules())


def _oauth2_rules() -> Iterator[Rule]:
    for name, provider in PROVIDERS.items():
        yield _grants_rule(name, provider)
    microsoft = _members(lambda p: p.identity is not None and p.identity.family is Family.MICROSOFT)
    google = _members(lambda p: p.identity is not None and p.identity.family is Family.GOOGLE)
    yield _oauth2_rule(
        cel=f"has(self.auth.oauth2.directoryID) == ({_PROVIDER_CEL} in {microsoft})",
        holds=lambda provider, oauth2: (oauth2.directory_id is not None) == (provider in microsoft),
        message=f"auth.oauth2.directoryID: {_listed(microsoft)} needs it, and no other provider takes it",
    )
    yield _oauth2_rule(
        cel=f"!has(self.auth.oauth2.cloud) || {_PROVIDER_CEL} in {microsoft}",
        holds=lambda provider, oauth2: oauth2.cloud is None or provider in microsoft,
        message=f"auth.oauth2.cloud: only {_listed(microsoft)} has several; remove it",
    )
    yield Rule(
        cel="!has(self.auth) || !has(self.auth.oauth2) || !has(self.auth.oauth2.cloud) || "
        f"self.auth.oauth2.cloud != '{CUSTOM_CLOUD}' || (has(self.connection) && has(self.connection.host))",
        holds=lambda s: (
            s.auth is None
            or s.auth.oauth2 is None
            or s.auth.oauth2.cloud != CUSTOM_CLOUD
            or (s.connection is not None and s.connection.host is not None)
        ),
        message=f"connection.host: with auth.oauth2.cloud {CUSTOM_CLOUD} there is no template for it; set it",
    )
    yield _oauth2_rule(
        cel=f"has(self.auth.oauth2.tokenURI) || {_PROVIDER_CEL} != '{CUSTOM}'",
        holds=lambda provider, oauth2: oauth2.token_uri is not None or provider != CUSTOM,
        message=f"auth.oauth2.tokenURI: provider {CUSTOM} has no template for it; set it",
    )
    yield _oauth2_rule(
        cel=f"!has(self.auth.oauth2.tokenURI) || !({_PROVIDER_CEL} in {microsoft})",
        holds=lambda provider, oauth2: oauth2.token_uri is None or provider not in microsoft,
        message=f"auth.oauth2.tokenURI: with {_listed(microsoft)} directoryID and cloud decide it; remove it",
    )
    yield _oauth2_rule(
        cel=f"!has(self.auth.oauth2.revocationURI) || {_PROVIDER_CEL} == '{CUSTOM}'",
        holds=lambda provider, oauth2: oauth2.revocation_uri is None or provider == CUSTOM,
        message=f"auth.oauth2.revocationURI: only {CUSTOM} takes it; remove it",
    )
    yield _oauth2_rule(
        cel=f"!has(self.auth.oauth2.clientAuth) || has(self.auth.oauth2.clientAuth.secretRef) || "
        f"!({_PROVIDER_CEL} in {google})",
        holds=lambda provider, oauth2: (
            oauth2.client_auth is None or oauth2.client_auth.secret_ref is not None or provider not in google
        ),
        message=f"auth.oauth2.clientAuth: {_listed(google)} takes a client secret only; set secretRef",
    )
    yield _oauth2_rule(
        cel=f"has(self.auth.oauth2.accountCheck) == ({_PROVIDER_CEL} == '{CUSTOM}' && "
        f"self.auth.oauth2.grant in {[str(grant) for grant in CONSENT_GRANTS]})",
        holds=lambda provider, oauth2: (
            (oauth2.account_check is not None) == (provider == CUSTOM and oauth2.needs_consent)
        ),
        message=f"auth.oauth2.accountCheck: {CUSTOM} needs it where a person consents, and nothing else takes it",
    )
    yield _oauth2_rule(
        cel=f"!has(self.auth.oauth2.clientAuth) || self.auth.oauth2.grant != '{Grant.DEVICE_CODE}' || "
        f"!({_PROVIDER_CEL} in {microsoft})",
        holds=lambda provider, oauth2: (
            oauth2.client_auth is None or oauth2.grant is not Grant.DEVICE_CODE or provider not in microsoft
        ),
        message=f"auth.oauth2.clientAuth: with {_listed(microsoft)} grant {Grant.DEVICE_CODE} is for public clients; "
        "remove it",
    )
    yield _oauth2_rule(
        cel=f"!has(self.auth.oauth2.clientAuth) || !has(self.auth.oauth2.clientAuth.secretMethod) || "
        f"{_PROVIDER_CEL} == '{CUSTOM}'",
        holds=lambda provider, oauth2: (
            oauth2.client_auth is None or oauth2.client_auth.secret_method is None or provider == CUSTOM
        ),
        message=f"auth.oauth2.clientAuth.secretMethod: only provider {CUSTOM} leaves the choice; remove it",
    )


def _listed(names: list[str]) -> str:
    return " and ".join(names)


def _grants_rule(name: str, provider: Provider) -> Rule:
    grants = [str(grant) for grant in provider.grants]
    remedy = f"with {name} one of {', '.join(grants)}"
    return _oauth2_rule(
        cel=f"{_PROVIDER_CEL} != '{name}' || self.auth.oauth2.grant in {grants}",
        holds=lambda used, oauth2: used != name or oauth2.grant in provider.grants,
        message=f"auth.oauth2.grant: {remedy}" if grants else f"auth.oauth2: {name} has no OAuth2; use auth.basic",
    )


def _basic_rule(*, cel: str, holds: Callable[[str, "BasicAuth"], bool], message: str) -> Rule:
    """A rule for specs with `auth.basic`; `holds` takes the provider and that."""
    return Rule(
        cel=f"!has(self.auth) || !has(self.auth.basic) || {cel}",
        holds=lambda s: s.auth is None or s.auth.basic is None or holds(s.provider or CUSTOM, s.auth.basic),
        message=message,
    )


def _oauth2_rule(*, cel: str, holds: Callable[[str, "OAuth2"], bool], message: str) -> Rule:
    """A rule for specs with `auth.oauth2`; `holds` takes the provider and that."""
    return Rule(
        cel=f"!has(self.auth) || !has(self.auth.oauth2) || {cel}",
        holds=lambda s: s.auth is None or s.auth.oauth2 is None or holds(s.provider or CUSTOM, s.auth.oauth2),
        message=message,
    )


def _fixed_username_rule(name: str, fixed: str) -> Rule:
    return _basic_rule(
        cel=f"{_PROVIDER_CEL} != '{name}' || (!has(self.auth.basic.usernameSecretRef) && "
        f"(!has(self.auth.basic.username) || self.auth.basic.username == '{fixed}'))",
        holds=lambda provider, basic: (
            provider != name or (basic.username_secret_ref is None and basic.username in (None, fixed))
        ),
        message=f"auth.basic.username: with {name} it is always '{fixed}'; leave it and usernameSecretRef out",
    )


def _refused_domains_rules(name: str, domains: str, remedy: str) -> Iterator[Rule]:
    def is_served(path: str) -> str:
        return f"!{path}.lowerAscii().matches('@({domains})$')"

    yield _basic_rule(
        cel=f"{_PROVIDER_CEL} != '{name}' || !has(self.auth.basic.username) || {is_served('self.auth.basic.username')}",
        holds=lambda provider, basic: provider != name or not refused_domain(name, basic.username),
        message=f"auth.basic.username: {remedy}",
    )
    yield _oauth2_rule(
        cel=f"{_PROVIDER_CEL} != '{name}' || {is_served('self.auth.oauth2.username')}",
        holds=lambda provider, oauth2: provider != name or not refused_domain(name, oauth2.username),
        message=f"auth.oauth2.username: {remedy}",
    )


def refused_domain(provider: str, username: str | None) -> bool:
    """Whether the provider's SMTP does not serve accounts of this user name's domain."""
    pattern = PROVIDERS[provider].refused_domains
    _, at, domain = lower_ascii(username or "").rpartition("@")
    return pattern is not None and at != "" and re.fullmatch(pattern, domain) is not None
