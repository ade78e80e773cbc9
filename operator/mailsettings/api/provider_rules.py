"""The rules that `PROVIDERS` implies for a spec with `provider` and `auth`."""

import re
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from mailsettings.api.model import Rule
from mailsettings.api.providers import PROVIDERS

if TYPE_CHECKING:
    from mailsettings.api.spec import ServerSpec


def _known_provider(name: str) -> str:
    if name not in PROVIDERS:
        raise PydanticCustomError("enum", "must be one of {names}", {"names": ", ".join(PROVIDERS)})
    return name


ProviderName = Annotated[str, AfterValidator(_known_provider), Field(json_schema_extra={"enum": [*PROVIDERS]})]


def _requires_auth() -> str:
    return "[" + ", ".join(f"'{name}'" for name, p in PROVIDERS.items() if p.requires_auth) + "]"


def _fixed_usernames() -> dict[str, str]:
    return {name: p.fixed_username for name, p in PROVIDERS.items() if p.fixed_username is not None}


def provider_rules() -> tuple[Rule, ...]:
    """The rules of `PROVIDERS` over a spec with `provider` and `auth`."""
    rules = [
        Rule(
            cel=f"!has(self.provider) || !(self.provider in {_requires_auth()}) || has(self.auth)",
            holds=lambda s: s.provider is None or not PROVIDERS[s.provider].requires_auth or s.auth is not None,
            message="auth: this provider needs a login; set auth.basic",
        ),
        Rule(
            cel="!has(self.auth) || has(self.auth.basic.username) || has(self.auth.basic.usernameSecretRef) || "
            f"(has(self.provider) && self.provider in {[*_fixed_usernames()]})",
            holds=lambda s: (
                s.auth is None
                or s.auth.basic.username is not None
                or s.auth.basic.username_secret_ref is not None
                or s.provider in _fixed_usernames()
            ),
            message="auth.basic.username: set it, or usernameSecretRef",
        ),
    ]
    rules += [_fixed_username_rule(name, fixed) for name, fixed in _fixed_usernames().items()]
    for name, provider in PROVIDERS.items():
        if provider.refused_domains is not None:
            rules.append(_refused_domains_rule(name, provider.refused_domains, provider.refused_domains_remedy))
    return tuple(rules)


def _fixed_username_rule(name: str, fixed: str) -> Rule:
    def holds(spec: "ServerSpec") -> bool:
        if spec.provider != name or spec.auth is None:
            return True
        basic = spec.auth.basic
        return basic.username_secret_ref is None and basic.username in (None, fixed)

    return Rule(
        cel=f"!has(self.provider) || self.provider != '{name}' || !has(self.auth) || "
        "(!has(self.auth.basic.usernameSecretRef) && (!has(self.auth.basic.username) || "
        f"self.auth.basic.username == '{fixed}'))",
        holds=holds,
        message=f"auth.basic.username: with {name} it is always '{fixed}'; leave it and usernameSecretRef out",
    )


def _refused_domains_rule(name: str, domains: str, remedy: str) -> Rule:
    return Rule(
        cel=f"!has(self.provider) || self.provider != '{name}' || !has(self.auth) || "
        f"!has(self.auth.basic.username) || !self.auth.basic.username.lowerAscii().matches('@({domains})$')",
        holds=lambda s: s.provider != name or s.auth is None or not refused_domain(name, s.auth.basic.username),
        message=f"auth.basic.username: {remedy}",
    )


def refused_domain(provider: str, username: str | None) -> bool:
    """Whether the provider's SMTP does not serve accounts of this user name's domain."""
    pattern = PROVIDERS[provider].refused_domains
    _, at, domain = _lower_ascii(username or "").rpartition("@")
    return pattern is not None and at != "" and re.fullmatch(pattern, domain) is not None


def _lower_ascii(text: str) -> str:
    """What CEL's `lowerAscii` does: it leaves other letters alone, where `str.lower` may change even the length."""
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)
