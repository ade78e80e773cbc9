"""What tokens are asked for: the configuration and its secrets, and the request that they make."""

from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass
from datetime import timedelta
from typing import Final, Protocol
from urllib.parse import urlsplit

from mailsettings.api.grants import Grant
from mailsettings.api.identity import Cloud, Family
from mailsettings.api.oauth2 import OAuth2, SecretMethod
from mailsettings.api.providers import PROVIDERS
from mailsettings.core.digest import Digester, checksum
from mailsettings.core.oauth2 import request as requests
from mailsettings.core.oauth2.clouds import cloud_of, endpoint_of, scopes_of
from mailsettings.core.oauth2.fingerprint import fingerprint
from mailsettings.core.oauth2.request import DeviceAuthorizationRequest, RevocationRequest, TokenRequest
from mailsettings.core.oauth2.secrets import OAuth2Secrets
from mailsettings.core.server import Proxy, Source

Federation = Callable[[str], str]
"""Gives the operator's own token for an audience. Its `OSError`s are expected."""


class KeptToken(Protocol):
    """What of a kept token decides which refresh token is sent."""

    @property
    def fingerprint(self) -> str:
        """Of the configuration that it belongs to."""

    @property
    def seed(self) -> str:
        """A digest of the refresh token that was brought for it."""

    @property
    def refresh_token(self) -> str | None:
        """The latest one."""


_GRANTS: Final[dict[Grant, type[requests.Grant]]] = {
    Grant.CLIENT_CREDENTIALS: requests.ClientCredentials,
    Grant.SERVICE_ACCOUNT: requests.ServiceAccount,
    Grant.REFRESH_TOKEN: requests.RefreshToken,
    Grant.AUTHORIZATION_CODE: requests.AuthorizationCode,
    Grant.DEVICE_CODE: requests.DeviceCode,
}


@dataclass(frozen=True, slots=True)
class TokenSubject:
    """What a token is asked for."""

    provider: str
    oauth2: OAuth2
    secrets: OAuth2Secrets
    level: Source
    """Whose egress rules hold."""
    fingerprint: str
    """Of the configuration: a token of another one is dropped."""
    client: str
    """A keyed digest of the client's authentication: when it changes the token is kept, and renewed at once."""
    seed: str
    """A digest of the refresh token that was brought; empty: none was."""
    cloud: Cloud
    """Where the provider's identity platform is, and which scopes mail needs there."""
    proxy: Proxy | None = None
    """What to connect through; None: nothing."""
    way: str = ""
    """A keyed digest of the proxy and its login; empty without one."""

    @property
    def family(self) -> Family:
        """Whose rules the provider follows."""
        identity = PROVIDERS[self.provider].identity
        if identity is None:
            raise ValueError(f"{self.provider} has no OAuth2")
        return identity.family

    @property
    def attempt(self) -> str:
        """Everything that decides what the provider answers: while it is the same, a refusal will be repeated."""
        return "/".join(filter(None, (self.fingerprint, self.client, f"{self.seed}/{self.cloud}", self.way)))

    def refresh_token(self, kept: KeptToken | None) -> str | None:
        """The refresh token to send: the kept one, unless another one has been brought since."""
        if self.oauth2.needs_consent:
            return kept.refresh_token if kept is not None and kept.fingerprint == self.fingerprint else None
        if self.oauth2.grant is not Grant.REFRESH_TOKEN:
            return None
        if kept is not None and kept.refresh_token and (kept.fingerprint, kept.seed) == (self.fingerprint, self.seed):
            return kept.refresh_token
        return self.secrets.refresh_token

    def can_renew(self, kept: KeptToken | None) -> bool:
        """Whether a token can be had without a person."""
        return not self.oauth2.needs_consent or self.refresh_token(kept) is not None

    def request(self, refresh_token: str | None, federation: Federation) -> TokenRequest:
        """The request that needs no person.

        Raises:
            ValueError: The settings say what the schema refuses, or there is no refresh token.
        """
        return self._token_request(self._grant(refresh_token, federation))

    def code_request(self, code: str, *, redirect_uri: str, verifier: str, federation: Federation) -> TokenRequest:
        """The request that redeems an authorization code."""
        return self._token_request(requests.AuthorizationCode(self._client(federation), code, redirect_uri, verifier))

    def device_request(self, device_code: str, *, interval: timedelta, federation: Federation) -> TokenRequest:
        """The request that asks whether a person has entered the code."""
        return self._token_request(requests.DeviceCode(self._client(federation), device_code, interval))

    def device_authorization_request(self, federation: Federation) -> DeviceAuthorizationRequest:
        """The request for a code that a person can enter."""
        return DeviceAuthorizationRequest(
            family=self.family,
            endpoint=self.oauth2.device_authorization_uri or self._endpoint(),
            client=self._client(federation),
            scopes=self._scopes(),
            proxy=self.proxy,
        )

    @property
    def revocation_endpoint(self) -> str | None:
        """Where refresh tokens are revoked (RFC 7009); None: nowhere, as far as is known.

        What an endpoint of the settings' own choice gave is not sent to the one that the provider's template names.
        """
        if self.oauth2.revocation_uri is not None:
            return self.oauth2.revocation_uri
        known = cloud_of(self.provider, self.oauth2.cloud).revocation_uri
        return known if known and _origin(known) == _origin(self._endpoint()) else None

    def revocation_request(self, refresh_token: str, federation: Federation) -> RevocationRequest:
        """The request that ends a refresh token, and what came of it.

        Raises:
            ValueError: The provider has no such endpoint.
        """
        return RevocationRequest(
            family=self.family,
            endpoint=_given(self.revocation_endpoint),
            token_endpoint=self._endpoint(),
            client=self._client(federation),
            refresh_token=refresh_token,
            proxy=self.proxy,
        )

    def _token_request(self, grant: requests.Grant) -> TokenRequest:
        # What somebody consented to goes on as it was: a refresh that asks for no scopes cannot ask for others
        # (RFC 6749 §6). Microsoft's library demands them.
        goes_on = self.oauth2.needs_consent and isinstance(grant, requests.RefreshToken)
        keeps_scopes = goes_on and self.family is not Family.MICROSOFT
        return TokenRequest(
            family=self.family,
            endpoint=self._endpoint(),
            grant=grant,
            scopes=() if keeps_scopes else self._scopes(),
            proxy=self.proxy,
        )

    def _endpoint(self) -> str:
        return self.oauth2.token_uri or endpoint_of(self.family, self.cloud, self.oauth2.directory_id or "")

    def _scopes(self) -> tuple[str, ...]:
        given = self.oauth2.scopes
        return scopes_of(self.cloud, _GRANTS[self.oauth2.grant]) if given is None else tuple(given)

    def _grant(self, refresh_token: str | None, federation: Federation) -> requests.Grant:
        match self.oauth2.grant:
            case Grant.SERVICE_ACCOUNT:
                return requests.ServiceAccount(_given(self.secrets.service_account_key), self.oauth2.username)
            case Grant.CLIENT_CREDENTIALS:
                return requests.ClientCredentials(self._client(federation))
            case Grant.REFRESH_TOKEN | Grant.AUTHORIZATION_CODE | Grant.DEVICE_CODE:
                return requests.RefreshToken(self._client(federation), _given(refresh_token))
            case Grant.PASSWORD:
                raise AssertionError("settings with grant Password are refused")

    def _client(self, federation: Federation) -> requests.Client:
        return requests.Client(_given(self.oauth2.client_id), self._client_auth(federation))

    def _client_auth(self, federation: Federation) -> requests.ClientAuth:
        client_auth, secrets = self.oauth2.client_auth, self.secrets
        if client_auth is None:
            return requests.PublicClient()
        if client_auth.federation is not None:
            audience = client_auth.federation.audience
            return requests.ClientAssertion(lambda: federation(audience))
        if client_auth.certificate_ref is not None:
            return requests.ClientCertificate(_given(secrets.private_key), _given(secrets.certificate))
        return requests.ClientSecret(_given(secrets.client_secret), client_auth.secret_method or SecretMethod.BASIC)


def token_subject(
    provider: str,
    oauth2: OAuth2,
    secrets: OAuth2Secrets,
    *,
    level: Source,
    digest: Digester,
    custom_cloud: Cloud | None = None,
    proxy: Proxy | None = None,
) -> TokenSubject:
    """What tokens are asked for by these settings.

    Args:
        provider: Whose server it is.
        oauth2: The settings.
        secrets: What they refer to.
        level: Whose egress rules hold.
        digest: Makes the fingerprint of the client's authentication.
        custom_cloud: The cloud that the administrator has defined.
        proxy: What the provider is connected to through; None: nothing.

    Raises:
        LookupError: They name that cloud, and it is not defined.
    """
    *client, seed = astuple(secrets)
    method = oauth2.client_auth.model_dump(mode="json") if oauth2.client_auth else None
    return TokenSubject(
        provider=provider,
        oauth2=oauth2,
        secrets=secrets,
        level=level,
        fingerprint=fingerprint(provider, oauth2),
        client=digest(["client", client, method and [method["federation"], method["secret_method"]]]),
        seed=checksum(["seed", seed]) if seed is not None else "",
        cloud=cloud_of(provider, oauth2.cloud, custom=custom_cloud),
        proxy=proxy,
        way=digest(["proxy", asdict(proxy)]) if proxy is not None else "",
    )


def grant_type(oauth2: OAuth2) -> type[requests.Grant]:
    """What a token is asked for with."""
    return _GRANTS[oauth2.grant]


def default_scopes(provider: str, oauth2: OAuth2, *, custom_cloud: Cloud | None = None) -> tuple[str, ...]:
    """What the token permits: what the settings say, or the provider's template.

    Raises:
        LookupError: They name the cloud that an administrator defines, and it is not defined.
    """
    if oauth2.scopes is not None:
        return tuple(oauth2.scopes)
    return scopes_of(cloud_of(provider, oauth2.cloud, custom=custom_cloud), _GRANTS[oauth2.grant])


def _origin(uri: str) -> tuple[str | None, int | None]:
    parts = urlsplit(uri)
    return parts.hostname, parts.port


def _given(value: str | None) -> str:
    """A value that the schema's rules and the resolution of references have seen to."""
    if value is None:
        raise ValueError("the settings lack what their grant needs")
    return value
