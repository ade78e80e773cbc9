"""Microsoft's identity platform, by msal."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

import msal
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from mailsettings.api.identity import LIBRARY_SCOPES, Family
from mailsettings.core.oauth2.faults import FailureKind
from mailsettings.core.oauth2.request import (
    AuthorizationCode,
    Client,
    ClientAssertion,
    ClientCertificate,
    ClientCredentials,
    ClientSecret,
    DeviceAuthorizationRequest,
    DeviceCode,
    RefreshToken,
    TokenRequest,
)
from mailsettings.edges.oauth2.assertions import read_assertion
from mailsettings.edges.oauth2.http import FailureError, ProviderClient
from mailsettings.edges.oauth2.keys import load_pair


def ask(request: TokenRequest, provider: ProviderClient) -> Mapping[str, Any]:
    """The token endpoint's answer.

    Raises:
        FailureError: There is no token.
    """
    if request.client is None:
        raise TypeError("Microsoft has no grant without a client")
    transport = _Transport(provider.discovery, provider.token)
    # A new application for each call: an old one answers from what it remembers, errors for a minute too.
    application = _application(request.client, request.endpoint, transport)
    scopes = list(request.scopes_to_pass)
    grant = request.grant
    match grant:
        case RefreshToken():
            application.acquire_token_by_refresh_token(grant.token, scopes)
        case ClientCredentials():
            application.acquire_token_for_client(scopes)
        case AuthorizationCode():
            application.acquire_token_by_auth_code_flow(_code_flow(grant, scopes), {**_STATE, "code": grant.code})
        case DeviceCode():
            # One request only: an answer without a token leaves msal's loop as an error of the transport.
            application.acquire_token_by_device_flow({"device_code": grant.device_code})
        case _:
            raise TypeError(f"Microsoft has no {type(grant).__name__}")
    return transport.answer


_STATE: Final = {"state": "checked"}
"""The callback has compared the real one; msal wants one that equals itself."""


def _code_flow(grant: AuthorizationCode, scopes: list[str]) -> dict[str, Any]:
    """What msal would have kept, had it made the authorization URL itself."""
    return {
        **_STATE,
        "redirect_uri": grant.redirect_uri,
        "code_verifier": grant.verifier,
        "scope": [*scopes, *sorted(LIBRARY_SCOPES[Family.MICROSOFT])],
    }


def ask_device(request: DeviceAuthorizationRequest, provider: ProviderClient) -> Mapping[str, Any]:
    """The device authorization endpoint's answer.

    Raises:
        FailureError: There are no codes.
    """
    transport = _Transport(provider.discovery, provider.device_authorization)
    _application(request.client, request.endpoint, transport).initiate_device_flow(list(request.scopes_to_pass))
    return transport.answer


def _application(client: Client, authority: str, transport: "_Transport") -> Any:  # noqa: ANN401 - msal has no types
    options: dict[str, Any] = {
        "authority": authority,
        "http_client": transport,
        "token_cache": _NoCache(),
        "instance_discovery": False,  # it would ask login.microsoftonline.com whether the authority exists
        "azure_region": False,  # None would let the environment (MSAL_FORCE_REGION) choose another host
    }
    credential = _credential(client)
    if credential is None:
        return msal.PublicClientApplication(client.id, **options)
    return msal.ConfidentialClientApplication(client.id, client_credential=credential, **options)


def _credential(client: Client) -> str | dict[str, str | Callable[[], str]] | None:
    """What msal calls a client credential; None: a public client."""
    auth = client.auth
    if isinstance(auth, ClientSecret):
        return auth.value
    if isinstance(auth, ClientAssertion):
        return {"client_assertion": lambda: read_assertion(auth)}
    if isinstance(auth, ClientCertificate):
        key, _ = load_pair(auth)
        if not isinstance(key, RSAPrivateKey):
            raise FailureError(FailureKind.KEY, "the private key is not RSA, which Microsoft demands")
        return {"private_key": auth.private_key, "public_certificate": auth.certificate}
    return None


class _NoCache(msal.TokenCache):  # type: ignore[misc]  # msal has no types
    """Keeps nothing, and so logs nothing: msal's own cache writes codes and verifiers into the log at DEBUG."""

    def add(self, event: object, now: object = None) -> None:
        """What msal would remember."""


@dataclass(frozen=True, slots=True)
class _Response:
    """What msal reads of an HTTP answer. It sees good ones only."""

    text: str = field(repr=False)
    status_code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class _Transport:
    """`http_client` of msal: `get` is for discovery documents, `post` for the one endpoint that is asked."""

    def __init__(
        self,
        discover: Callable[[str], Mapping[str, str]],
        ask: Callable[[str, Mapping[str, str], bytes], Mapping[str, Any]],
    ) -> None:
        self._discover = discover
        self._ask = ask
        self.answer: Mapping[str, Any] = {}
        """What the endpoint answered."""

    def get(self, url: str, **_options: object) -> _Response:
        return _Response(json.dumps(self._discover(url)))

    def post(
        self, url: str, *, data: Mapping[str, Any], headers: Mapping[str, str] | None = None, **_options: object
    ) -> _Response:
        given = {name: value for name, value in data.items() if value is not None}
        self.answer = self._ask(url, headers or {}, urlencode(given).encode("ascii"))
        return _Response(json.dumps({name: self.answer[name] for name in _FOR_MSAL if name in self.answer}))

    def close(self) -> None:
        """There is nothing to close: each call has a connection of its own."""


_FOR_MSAL: Final = ("access_token", "token_type", "refresh_token")
"""What msal cannot fail over, as it does over a scope that is a list, a `client_info` that is no JSON, and an ID token
where clocks differ: the refresh token that has just replaced the old one would be lost with the rest."""
