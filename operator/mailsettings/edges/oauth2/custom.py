"""Any other identity provider, by the RFCs.

What is left to do is a form and a header: a library for that would bring more code than it spares.
"""

import base64
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

from mailsettings.api.oauth2 import SecretMethod
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
    RevocationRequest,
    TokenRequest,
)
from mailsettings.edges.oauth2.assertions import read_assertion
from mailsettings.edges.oauth2.http import ProviderClient
from mailsettings.edges.oauth2.keys import ASSERTION_TYPE, sign_assertion

_Form = dict[str, str]


def ask(request: TokenRequest, provider: ProviderClient) -> Mapping[str, Any]:
    """The token endpoint's answer.

    Raises:
        FailureError: There is no token.
    """
    if request.client is None:
        raise TypeError("a custom provider has no grant without a client")
    headers, client_form = _authentication(request.client, request.endpoint)
    form = {**_grant(request), **client_form}
    return provider.token(request.endpoint, headers, urlencode(form).encode("ascii"))


def ask_device(request: DeviceAuthorizationRequest, provider: ProviderClient) -> Mapping[str, Any]:
    """The device authorization endpoint's answer. Source: RFC 8628 §3.1.

    Raises:
        FailureError: There are no codes.
    """
    headers, client_form = _authentication(request.client, request.endpoint)
    form = {"client_id": request.client.id, **_scope(request.scopes_to_pass), **client_form}
    return provider.device_authorization(request.endpoint, headers, urlencode(form).encode("ascii"))


def revoke(request: RevocationRequest, provider: ProviderClient) -> None:
    """Ends a refresh token. Source: RFC 7009 §2.1.

    Raises:
        FailureError: It may be good still.
    """
    headers, client_form = _authentication(request.client, request.token_endpoint)
    form = {"token": request.refresh_token, "token_type_hint": "refresh_token", **client_form}
    provider.revocation(request.endpoint, headers, urlencode(form).encode("ascii"))


def _grant(request: TokenRequest) -> _Form:
    """The grant's fields. What a person consented to has its scopes already: none are sent with its code."""
    grant = request.grant
    match grant:
        case RefreshToken():  # RFC 6749 §6
            form = {"grant_type": "refresh_token", "refresh_token": grant.token}
            return {**form, **_scope(request.scopes_to_pass)}
        case ClientCredentials():  # RFC 6749 §4.4.2
            return {"grant_type": "client_credentials", **_scope(request.scopes_to_pass)}
        case AuthorizationCode():
            return code_form(grant)
        case DeviceCode():  # RFC 8628 §3.4
            return {"grant_type": DEVICE_GRANT, "device_code": grant.device_code}
        case _:
            raise TypeError(f"a custom provider has no {type(grant).__name__}")


DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"


def code_form(grant: AuthorizationCode) -> _Form:
    """The fields with which a code is redeemed. Source: RFC 6749 §4.1.3, RFC 7636 §4.5."""
    return {
        "grant_type": "authorization_code",
        "code": grant.code,
        "redirect_uri": grant.redirect_uri,
        "code_verifier": grant.verifier,
    }


def _scope(scopes: tuple[str, ...]) -> _Form:
    return {"scope": " ".join(scopes)} if scopes else {}


_NO_HEADERS: Final[dict[str, str]] = {}


def _authentication(client: Client, endpoint: str) -> tuple[dict[str, str], _Form]:
    """How a client says who it is: headers, and fields of the form. Source: RFC 6749 §2.3.1, RFC 7523 §2.2."""
    auth = client.auth
    if isinstance(auth, ClientSecret) and auth.method is SecretMethod.BASIC:
        login = f"{quote_plus(client.id)}:{quote_plus(auth.value)}"
        return {"Authorization": f"Basic {base64.b64encode(login.encode('ascii')).decode('ascii')}"}, {}
    if isinstance(auth, ClientSecret):
        return _NO_HEADERS, {"client_id": client.id, "client_secret": auth.value}
    if isinstance(auth, ClientCertificate):
        return _NO_HEADERS, _assertion_form(client, sign_assertion(auth, client_id=client.id, audience=endpoint))
    if isinstance(auth, ClientAssertion):
        return _NO_HEADERS, _assertion_form(client, read_assertion(auth))
    return _NO_HEADERS, {"client_id": client.id}


def _assertion_form(client: Client, assertion: str) -> _Form:
    return {"client_id": client.id, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
