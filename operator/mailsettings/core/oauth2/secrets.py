"""What the references of `auth.oauth2` hold, read and checked."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class OAuth2Secrets:
    """The values; None where the settings have no such reference."""

    client_secret: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    service_account_key: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    """The one that was brought: a seed, which the stored one replaces."""
