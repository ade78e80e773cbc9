"""What the provider data says of OAuth2: which identity platform a provider uses, and where that platform is."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Family(StrEnum):
    """Whose rules an identity platform follows; each has its own library."""

    MICROSOFT = "Microsoft"
    GOOGLE = "Google"
    CUSTOM = "Custom"
    """RFC 6749 and what builds on it, nothing else."""


CUSTOM_CLOUD: Final = "Custom"
"""The name of the cloud that an administrator defines in the operator's settings."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """One instance of an identity platform, and the scopes that SMTP needs there."""

    token_uri: str = ""
    """The token endpoint; for Microsoft the authority, to which the directory's name is added."""
    delegated_scopes: tuple[str, ...] = ()
    """For a person's mailbox, by that person's consent."""
    application_scopes: tuple[str, ...] = ()
    """For an application that acts on its own; empty where there is no such thing."""
    authorization_uri: str = ""
    """The authorization endpoint; Microsoft's is below the authority."""
    revocation_uri: str = ""
    """The revocation endpoint (RFC 7009); empty: there is none, or only the spec knows it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A provider's OAuth2."""

    family: Family
    clouds: dict[str, Cloud]
    """By name; the first is the default."""
    keeps_refresh_tokens: bool = False
    """Whether a refresh token that is used stays good, whatever the answer brings."""


LIBRARY_SCOPES: Final[dict[Family, frozenset[str]]] = {
    # Source: `ClientApplication._decorate_scope` of msal, which refuses them where it adds them itself.
    Family.MICROSOFT: frozenset({"openid", "profile", "offline_access"}),
    Family.GOOGLE: frozenset(),
    Family.CUSTOM: frozenset(),
}
"""The scopes that a family's library adds itself, so that they are not to be passed a second time."""

IDENTITY_SCOPES: Final[dict[Family, tuple[str, ...]]] = {
    Family.MICROSOFT: ("openid", "profile", "offline_access"),
    Family.GOOGLE: ("openid", "email"),
    Family.CUSTOM: (),
}
"""The scopes that a consent is asked for beside those for the mail: who consented, and that it lasts.

Source: OpenID Connect Core 1.0 §5.4 and §11. A custom provider is asked for what the settings say and nothing else.
"""
