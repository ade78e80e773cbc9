"""Google's identity platform, by google-auth."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from google.auth import transport
from google.oauth2 import credentials, service_account

from mailsettings.core.oauth2.faults import FailureKind
from mailsettings.core.oauth2.request import (
    AuthorizationCode,
    Client,
    ClientSecret,
    RefreshToken,
    RevocationRequest,
    ServiceAccount,
    TokenRequest,
)
from mailsettings.edges.oauth2.custom import code_form
from mailsettings.edges.oauth2.http import FailureError, ProviderClient


def ask(request: TokenRequest, provider: ProviderClient) -> Mapping[str, Any]:
    """The token endpoint's answer.

    Raises:
        FailureError: There is no token.
    """
    if isinstance(request.grant, AuthorizationCode):
        return _redeem(request.grant, request.endpoint, provider)
    http = _Transport(provider)
    _credentials(request).refresh(http)  # type: ignore[no-untyped-call]
    return http.answer


def _redeem(grant: AuthorizationCode, endpoint: str, provider: ProviderClient) -> Mapping[str, Any]:
    """google-auth cannot redeem a code.

    Source: Using OAuth 2.0 for Web Server Applications: the client's ID and secret stand in the form.
    """
    form = {**code_form(grant), "client_id": grant.client.id, "client_secret": _secret(grant.client)}
    return provider.token(endpoint, {}, urlencode(form).encode("ascii"))


def revoke(request: RevocationRequest, provider: ProviderClient) -> None:
    """Ends a refresh token, and the whole consent of its account to its client.

    Source: Using OAuth 2.0 for Web Server Applications, "Revoking a token": the token is all that is sent.

    Raises:
        FailureError: It may be good still.
    """
    provider.revocation(request.endpoint, {}, urlencode({"token": request.refresh_token}).encode("ascii"))


def _credentials(request: TokenRequest) -> credentials.Credentials | service_account.Credentials:
    grant, scopes = request.grant, list(request.scopes_to_pass)
    if isinstance(grant, RefreshToken):
        return credentials.Credentials(  # type: ignore[no-untyped-call]
            None,
            refresh_token=grant.token,
            token_uri=request.endpoint,
            client_id=grant.client.id,
            client_secret=_secret(grant.client),
            scopes=scopes or None,
        )
    if isinstance(grant, ServiceAccount):
        return _service_account(grant, request.endpoint, scopes)
    raise TypeError(f"Google has no {type(grant).__name__}")


def _secret(client: Client) -> str:
    """The library demands one; an empty one counts as none (RFC 6749 §3.2), as public clients send it."""
    return client.auth.value if isinstance(client.auth, ClientSecret) else ""


_KEY_FIELDS: Final = ("client_email", "private_key", "private_key_id")


def _service_account(grant: ServiceAccount, endpoint: str, scopes: list[str]) -> service_account.Credentials:
    """The account of a key file.

    Only what says who it is is taken from the file: another `token_uri` or `universe_domain` in it would lead the
    signed assertion elsewhere.
    """
    try:
        content = json.loads(grant.key)
        info = {name: content[name] for name in _KEY_FIELDS if isinstance(content[name], str)}
        return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call,no-any-return]
            {**info, "token_uri": endpoint}, scopes=scopes, subject=grant.subject
        )
    except (ValueError, TypeError, KeyError):  # google.auth's MalformedError is a ValueError
        raise FailureError(FailureKind.KEY, "the value is not the JSON key file of a Google service account") from None


@dataclass(frozen=True, slots=True)
class _Response(transport.Response):
    """What google-auth reads of an HTTP answer. It sees good ones only, so it never repeats a call by itself."""

    data: bytes = field(repr=False)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class _Transport(transport.Request):
    """google-auth's way to the network."""

    def __init__(self, provider: ProviderClient) -> None:
        self._provider = provider
        self.answer: Mapping[str, Any] = {}
        """What the token endpoint answered."""

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the provider client has a deadline of its own
        **_options: object,
    ) -> _Response:
        """Sends a request of the library's."""
        if method != "POST" or body is None:
            raise FailureError(FailureKind.FOREIGN_HOST)
        self.answer = self._provider.token(url, headers or {}, body)
        return _Response(json.dumps({name: self.answer[name] for name in _FOR_GOOGLE if name in self.answer}).encode())


_FOR_GOOGLE: Final = ("access_token", "token_type", "refresh_token")
"""What the library cannot fail over: not `expires_in`, which may be no number, nor an ID token."""
