"""Any other identity provider, by the RFCs.

What is left to do is a form and a header: a library for that would bring more code than it spares.
"""

import base64
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

from mailsettings.core.oauth2.request import (
    Client,
    ClientAssertion,
    ClientCertificate,
    ClientCredentials,
    ClientSecret,
    RefreshToken,
    SecretMethod,
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
    scopes = {"scope": " ".join(request.scopes_to_pass)} if request.scopes_to_pass else {}
    form = {**_grant(request), **scopes, **client_form}
    return provider.token(request.endpoint, headers, urlencode(form).encode("ascii"))


def _grant(request: TokenRequest) -> _Form:
    """Source: RFC 6749 §4.4.2 and §6."""
    if isinstance(request.grant, RefreshToken):
        return {"grant_type": "refresh_token", "refresh_token": request.grant.token}
    if isinstance(request.grant, ClientCredentials):
        return {"grant_type": "client_credentials"}
    raise TypeError(f"a custom provider has no {type(request.grant).__name__}")


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
