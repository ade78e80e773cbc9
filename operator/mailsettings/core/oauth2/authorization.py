"""The address that a person opens to consent, and what binds the code that comes of it to whoever asked."""

import base64
import hashlib
from typing import Final
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from mailsettings.api.identity import IDENTITY_SCOPES, Family
from mailsettings.core.oauth2.request import AuthorizationRequest

OPENID: Final = "openid"
"""The scope that makes the provider say who consented. Source: OpenID Connect Core 1.0 §3.1.2.1."""


def authorization_url(request: AuthorizationRequest, *, state: str, verifier: str, nonce: str) -> str:
    """The URL of the authorization endpoint with everything that is asked for.

    Args:
        request: What is asked for.
        state: Comes back beside the code (RFC 6749 §10.12).
        verifier: Of PKCE; the URL holds its challenge only. It is sent with the code.
        nonce: Comes back in the ID token; it is sent only where there will be one (`has_id_token`).
    """
    asked = {
        "response_type": "code",
        "client_id": request.client_id,
        "redirect_uri": request.redirect_uri,
        "scope": " ".join(scopes_to_ask(request)),
        "state": state,
        "code_challenge": code_challenge(verifier),
        "code_challenge_method": "S256",
        "nonce": nonce if has_id_token(request) else "",
        "login_hint": request.login_hint,
        **_family_parameters(request),
    }
    return _with_query(request.endpoint, {name: value for name, value in asked.items() if value})


def code_challenge(verifier: str) -> str:
    """What the authorization endpoint is told of a verifier: `S256` of RFC 7636 §4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode("ascii")


def scopes_to_ask(request: AuthorizationRequest) -> tuple[str, ...]:
    """The scopes, each once: those for the mail, then those that say who consented."""
    return tuple(dict.fromkeys((*request.scopes, *IDENTITY_SCOPES[request.family])))


def has_id_token(request: AuthorizationRequest) -> bool:
    """Whether the answer is to hold an ID token, in which the nonce comes back."""
    return OPENID in scopes_to_ask(request)


def _family_parameters(request: AuthorizationRequest) -> dict[str, str]:
    match request.family:
        case Family.GOOGLE:
            # Only so does Google give a refresh token, and a new one each time (Using OAuth 2.0 for Web Server Apps).
            return {"access_type": "offline", "prompt": "consent"}
        case Family.MICROSOFT:
            # Whoever is logged in already is rarely the mailbox that mail is sent with.
            return {"prompt": "select_account"}
        case Family.CUSTOM:
            # Without it `offline_access` is ignored (OpenID Connect Core 1.0 §11).
            return {"prompt": "consent"} if has_id_token(request) else {}


def _with_query(endpoint: str, parameters: dict[str, str]) -> str:
    """The endpoint with more in its query; what is there stays (RFC 6749 §3.1)."""
    parts = urlsplit(endpoint)
    # %20 and not +, which some servers leave as it is: scopes are separated by spaces.
    added = urlencode(parameters, quote_via=quote)
    return urlunsplit(parts._replace(query=f"{parts.query}&{added}" if parts.query else added))
