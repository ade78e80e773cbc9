"""What is asked of a token endpoint, everything resolved, and what it gives."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from mailsettings.api.identity import LIBRARY_SCOPES, Family


class SecretMethod(StrEnum):
    """How a client secret is sent. Source: the names are those of OpenID Connect Core 1.0 §9."""

    BASIC = "client_secret_basic"
    """In the Authorization header, which every provider must take (RFC 6749 §2.3.1)."""
    POST = "client_secret_post"
    """In the body, which some demand."""


@dataclass(frozen=True, slots=True)
class PublicClient:
    """No authentication: the client's ID is all that is sent."""


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """A password of the client's."""

    value: str = field(repr=False)
    method: SecretMethod = SecretMethod.BASIC
    """For the family Custom; the others have a way of their own."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A key whose certificate the provider knows: an assertion is signed with it (RFC 7523 §2.2)."""

    private_key: str = field(repr=False)
    """PEM, not encrypted."""
    certificate: str = field(repr=False)
    """PEM."""


@dataclass(frozen=True, slots=True)
class ClientAssertion:
    """Federation: an assertion that somebody else signed, such as a projected service-account token."""

    read: Callable[[], str] = field(repr=False)
    """Gives the JWT as it is now; called once for each request, in a thread. Its `OSError`s are expected."""


ClientAuth = PublicClient | ClientSecret | ClientCertificate | ClientAssertion


@dataclass(frozen=True, slots=True)
class Client:
    """The application as the provider knows it."""

    id: str
    auth: ClientAuth


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """The application itself is the account. Source: RFC 6749 §4.4."""

    client: Client


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """What somebody consented to earlier goes on. Source: RFC 6749 §6."""

    client: Client
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A Google service account that the domain lets act for a mailbox (domain-wide delegation)."""

    key: str = field(repr=False)
    """The key file's JSON."""
    subject: str
    """The mailbox."""


Grant = ClientCredentials | RefreshToken | ServiceAccount
"""What a token is asked for with."""

_SECRETS_ONLY: Final = frozenset({PublicClient, ClientSecret})
_ANY_CLIENT: Final = frozenset({PublicClient, ClientSecret, ClientCertificate, ClientAssertion})
_CONFIDENTIAL: Final = _ANY_CLIENT - {PublicClient}

SUPPORTED: Final[dict[tuple[Family, type[Grant]], frozenset[type[ClientAuth]]]] = {
    (Family.MICROSOFT, ClientCredentials): _CONFIDENTIAL,
    (Family.MICROSOFT, RefreshToken): _ANY_CLIENT,
    (Family.GOOGLE, ServiceAccount): frozenset(),
    (Family.GOOGLE, RefreshToken): _SECRETS_ONLY,
    (Family.CUSTOM, ClientCredentials): _CONFIDENTIAL,
    (Family.CUSTOM, RefreshToken): _ANY_CLIENT,
}
"""The grants of each family, and how the client may authenticate there; a service account has no client."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One call of a token endpoint.

    Raises:
        ValueError: The family has no such grant, or not with such a client; what the schema refuses.
    """

    family: Family
    endpoint: str
    """The token endpoint; for Microsoft the directory's authority, `https://login.microsoftonline.com/DIRECTORY`."""
    grant: Grant
    scopes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        auths = SUPPORTED.get((self.family, type(self.grant)))
        if auths is None or (self.client is not None and type(self.client.auth) not in auths):
            auth = "" if self.client is None else f" and {type(self.client.auth).__name__}"
            raise ValueError(f"{self.family} has no {type(self.grant).__name__}{auth}")

    @property
    def client(self) -> Client | None:
        """The client, where the grant has one."""
        return None if isinstance(self.grant, ServiceAccount) else self.grant.client

    @property
    def scopes_to_pass(self) -> tuple[str, ...]:
        """The scopes without those that the family's library adds itself."""
        return tuple(scope for scope in self.scopes if scope not in LIBRARY_SCOPES[self.family])

    def secrets(self) -> list[str]:
        """What no text may show, in whatever form."""
        grant, auth = self.grant, self.client.auth if self.client else None
        token = grant.token if isinstance(grant, RefreshToken) else ""
        secret = auth.value if isinstance(auth, ClientSecret) else ""
        return [value for value in (token, secret) if value]

    def private_keys(self) -> list[str]:
        """Texts of many lines, of which no piece may be shown."""
        if isinstance(self.grant, ServiceAccount):
            return [_private_key(self.grant.key)]
        auth = self.grant.client.auth
        return [auth.private_key] if isinstance(auth, ClientCertificate) else []


def _private_key(key_file: str) -> str:
    """The private key in a service account's key file; all of a file that cannot be read."""
    try:
        content = json.loads(key_file)
    except ValueError:
        return key_file
    key = content.get("private_key") if isinstance(content, dict) else None
    return key if isinstance(key, str) else key_file


@dataclass(frozen=True, slots=True)
class Token:
    """What a token endpoint gave."""

    access_token: str = field(repr=False)
    issued_at: datetime
    """Aware, UTC; when it was asked for, by the operator's clock."""
    expires_at: datetime
    """Aware, UTC."""
    refresh_token: str | None = field(default=None, repr=False)
    """A new one, which replaces the one that was sent; None: that one stays good."""
    scopes: tuple[str, ...] = ()
    """Those granted, where the provider says; else those asked for."""
    account: str | None = None
    """Whose token it is, where the answer says."""
    token_type: str = "Bearer"
    refresh_token_expires_at: datetime | None = None
    """Aware, UTC; when the refresh token ends that counts from now on, where the provider says."""

    @property
    def life(self) -> timedelta:
        """How long it lives from its issue."""
        return self.expires_at - self.issued_at
