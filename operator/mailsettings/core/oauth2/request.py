"""What is asked of a token endpoint, everything resolved, and what it gives."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from mailsettings.api.identity import LIBRARY_SCOPES, Family
from mailsettings.api.oauth2 import SecretMethod
from mailsettings.core.server import Proxy


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


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """What a person's consent gave. It can be redeemed once. Source: RFC 6749 §4.1.3, RFC 7636 §4.5."""

    client: Client
    code: str = field(repr=False)
    redirect_uri: str
    """The one that the code was sent to."""
    verifier: str = field(repr=False)
    """Of PKCE."""


DEVICE_INTERVAL: Final = timedelta(seconds=5)
"""Between two requests, where the provider says nothing; and what `slow_down` adds. Source: RFC 8628 §3.2, §3.5."""


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """What a person consents to on another device: asked for again and again until that has happened.

    Source: RFC 8628 §3.4.
    """

    client: Client
    device_code: str = field(repr=False)
    interval: timedelta = DEVICE_INTERVAL
    """The time that is left between two requests at present; `TokenFault.retry_after` says when it becomes longer."""


Grant = ClientCredentials | RefreshToken | ServiceAccount | AuthorizationCode | DeviceCode
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
    (Family.MICROSOFT, AuthorizationCode): _ANY_CLIENT,
    (Family.GOOGLE, AuthorizationCode): _SECRETS_ONLY,
    (Family.CUSTOM, AuthorizationCode): _ANY_CLIENT,
    (Family.MICROSOFT, DeviceCode): frozenset({PublicClient}),
    (Family.CUSTOM, DeviceCode): _ANY_CLIENT,
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
    proxy: Proxy | None = None
    """What to connect through; None: nothing."""

    def __post_init__(self) -> None:
        _check_supported(self.family, type(self.grant), self.client)

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
        found = (*_grant_secrets(self.grant), *_client_secrets(self.client), *_proxy_secrets(self.proxy))
        return [value for value in found if value]

    def private_keys(self) -> list[str]:
        """Texts of many lines, of which no piece may be shown."""
        if isinstance(self.grant, ServiceAccount):
            return [_private_key(self.grant.key)]
        return _client_keys(self.grant.client)


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """What a person is sent to the authorization endpoint with. Source: RFC 6749 §4.1.1.

    Its URL is made by `authorization.authorization_url`.
    """

    family: Family
    endpoint: str
    """The authorization endpoint itself; a query in it is kept."""
    client_id: str
    redirect_uri: str
    scopes: tuple[str, ...] = ()
    """For the mail; those that say who consented are added."""
    login_hint: str = ""
    """The account that is to consent."""


@dataclass(frozen=True, slots=True)
class DeviceAuthorizationRequest:
    """One call of a device authorization endpoint. Source: RFC 8628 §3.1.

    Raises:
        ValueError: The family has no such grant, or not with such a client; what the schema refuses.
    """

    family: Family
    endpoint: str
    """The device authorization endpoint; for Microsoft the directory's authority, as in `TokenRequest`."""
    client: Client
    scopes: tuple[str, ...] = ()
    proxy: Proxy | None = None
    """What to connect through; None: nothing."""

    def __post_init__(self) -> None:
        _check_supported(self.family, DeviceCode, self.client)

    @property
    def scopes_to_pass(self) -> tuple[str, ...]:
        """The scopes without those that the family's library adds itself."""
        return tuple(scope for scope in self.scopes if scope not in LIBRARY_SCOPES[self.family])

    def secrets(self) -> list[str]:
        """What no text may show, in whatever form."""
        return [*_client_secrets(self.client), *_proxy_secrets(self.proxy)]

    def private_keys(self) -> list[str]:
        """Texts of many lines, of which no piece may be shown."""
        return _client_keys(self.client)


@dataclass(frozen=True, slots=True)
class RevocationRequest:
    """One call of a revocation endpoint. Source: RFC 7009 §2.1."""

    family: Family
    endpoint: str
    token_endpoint: str
    """Whom a client's signed assertion is meant for: the provider as a whole goes by it (RFC 7523 §3)."""
    client: Client
    refresh_token: str = field(repr=False)
    proxy: Proxy | None = None
    """What the provider is connected to through; None: nothing."""


@dataclass(frozen=True, slots=True)
class DeviceAuthorization:
    """What a device authorization endpoint gave. Source: RFC 8628 §3.2."""

    device_code: str = field(repr=False)
    """With which the token is asked for: a secret."""
    user_code: str
    """What the person enters."""
    verification_uri: str
    """Where the person enters it; https."""
    verification_uri_complete: str | None
    """The same with the code in it, where the provider has such a thing; https."""
    expires_at: datetime
    """Aware, UTC: until when the person has time."""
    interval: timedelta
    """To leave between two requests for the token."""


def _check_supported(family: Family, grant: type[Grant], client: Client | None) -> None:
    auths = SUPPORTED.get((family, grant))
    if auths is None or (client is not None and type(client.auth) not in auths):
        auth = "" if client is None else f" and {type(client.auth).__name__}"
        raise ValueError(f"{family} has no {grant.__name__}{auth}")


def _grant_secrets(grant: Grant) -> list[str]:
    match grant:
        case RefreshToken():
            return [grant.token]
        case AuthorizationCode():
            return [grant.code, grant.verifier]
        case DeviceCode():
            return [grant.device_code]
        case ClientCredentials() | ServiceAccount():
            return []


def _client_secrets(client: Client | None) -> list[str]:
    return [client.auth.value] if client and isinstance(client.auth, ClientSecret) and client.auth.value else []


def _proxy_secrets(proxy: Proxy | None) -> list[str]:
    return [] if proxy is None else proxy.secrets


def _client_keys(client: Client) -> list[str]:
    return [client.auth.private_key] if isinstance(client.auth, ClientCertificate) else []


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
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The ID token's; empty without one. Its signature is not checked: it came over TLS from the token endpoint
    (OpenID Connect Core 1.0 §3.1.3.7)."""

    @property
    def life(self) -> timedelta:
        """How long it lives from its issue."""
        return self.expires_at - self.issued_at
