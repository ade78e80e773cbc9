"""What is checked after a consent: that the token is meant for this client, and whose mailbox it is."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from mailsettings.api.conditions import Reason
from mailsettings.api.identity import IDENTITY_SCOPES, Family
from mailsettings.api.scalars import lower_ascii
from mailsettings.core.oauth2.faults import TokenFault, legible
from mailsettings.core.oauth2.request import Token

_GOOGLE_ISSUERS: Final = frozenset({"https://accounts.google.com", "accounts.google.com"})
"""Source: Google Identity, OpenID Connect: Validating an ID token."""

_GUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_MICROSOFT_NAMES: Final = ("preferred_username", "upn", "email", "oid")


@dataclass(frozen=True, slots=True)
class ExpectedAccount:
    """Whose consent the settings need, and what its ID token must say."""

    family: Family
    username: str
    """`auth.oauth2.username`."""
    client_id: str
    issuers: frozenset[str]
    """Who may have issued the ID token: `issuers_of`."""
    nonce: str | None = None
    """The one that was asked with; None: none was (device code, or no `openid`)."""
    directory_id: str = ""
    """Microsoft's: `auth.oauth2.directoryID`."""
    claim: str | None = None
    """Family Custom: the claim of the ID token that must be the user name (`accountCheck.claim`); None: it is not
    checked (`accountCheck.skip`). Google's and Microsoft's are known."""
    scopes: tuple[str, ...] = ()
    """Those asked for."""


def issuers_of(family: Family, authorization_endpoint: str) -> frozenset[str]:
    """Who may issue ID tokens beside an authorization endpoint (for Microsoft the authority will do).

    One without a path, `https://idp.example`, stands for every issuer of that origin.
    """
    origin = _origin(authorization_endpoint)
    is_google = family is Family.GOOGLE and origin in _GOOGLE_ISSUERS
    return _GOOGLE_ISSUERS if is_google else frozenset(filter(None, [origin]))


def is_issuer(issuer: object, issuers: frozenset[str]) -> bool:
    """Whether an ID token's `iss`, or that of a redirect (RFC 9207 §2.4), is one of these."""
    return isinstance(issuer, str) and (issuer in issuers or _origin(issuer) in issuers)


def check_consent(token: Token, expected: ExpectedAccount) -> TokenFault | None:
    """Why a token that somebody consented to is not to be used; None: it is good.

    Messages name the account that consented and the one of the settings.
    """
    faults = (check(_Consented(token, expected)) for check in _CHECKS)
    return next((fault for fault in faults if fault is not None), None)


@dataclass(frozen=True, slots=True)
class _Consented:
    token: Token
    expected: ExpectedAccount

    @property
    def claims(self) -> Mapping[str, Any]:
        return self.token.claims

    @property
    def account(self) -> str:
        """Whoever consented, as far as the provider says, fit to be shown."""
        claims = (self.expected.claim, *_MICROSOFT_NAMES, "sub")
        named = (self.claims.get(claim) for claim in claims if claim)
        name = next((name for name in named if isinstance(name, str) and name), "an account without a name")
        return legible(name, secrets=[self.token.access_token, self.token.refresh_token or ""])

    def fault(self, reason: Reason, text: str) -> TokenFault:
        return TokenFault(reason, f"{self.account} consented (the settings are for {self.expected.username}): {text}")

    def is_username(self, name: object) -> bool:
        """Mail addresses regardless of the case of their letters, as mail servers take them; other names exactly."""
        username = self.expected.username
        if not isinstance(name, str) or "@" not in username:
            return name == username
        return lower_ascii(name) == lower_ascii(username)


def _check_id_token(consented: _Consented) -> TokenFault | None:
    expected = consented.expected
    is_needed = expected.family is not Family.CUSTOM or expected.claim is not None or expected.nonce is not None
    if consented.claims or not is_needed:
        return None
    return TokenFault(
        Reason.WRONG_ACCOUNT,
        f"Somebody consented, but the provider gave no readable ID token, so that nobody knows whether it was "
        f"{expected.username}. Add openid to auth.oauth2.scopes, or set auth.oauth2.accountCheck to skip.",
    )


def _check_audience(consented: _Consented) -> TokenFault | None:
    """Source: OpenID Connect Core 1.0 §3.1.3.7, items 3 to 5."""
    claims, client_id = consented.claims, consented.expected.client_id
    if not claims:
        return None
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    party = claims.get("azp", client_id if len(audiences) == 1 else None)
    if client_id in audiences and party == client_id:
        return None
    return consented.fault(
        Reason.PROVIDER_ANSWER_INVALID,
        "the provider's ID token is meant for another client. Authorize again; if it returns, check "
        "auth.oauth2.clientID.",
    )


def _check_issuer(consented: _Consented) -> TokenFault | None:
    claims, expected = consented.claims, consented.expected
    issuer = claims.get("iss")
    # Source: Microsoft identity platform, ID token claims: `iss` ends with the directory that `tid` names.
    is_own = expected.family is not Family.MICROSOFT or str(issuer).endswith(f"/{claims.get('tid')}/v2.0")
    if not claims or (is_own and is_issuer(issuer, expected.issuers)):
        return None
    return consented.fault(
        Reason.PROVIDER_ANSWER_INVALID,
        "another identity provider issued the ID token than the one that was asked. All URIs of auth.oauth2 must "
        "be of one provider.",
    )


def _check_nonce(consented: _Consented) -> TokenFault | None:
    nonce = consented.expected.nonce
    if nonce is None or consented.claims.get("nonce") == nonce:
        return None
    return consented.fault(
        Reason.PROVIDER_ANSWER_INVALID, "the provider's ID token belongs to another consent. Authorize again."
    )


def _check_directory(consented: _Consented) -> TokenFault | None:
    directory = lower_ascii(consented.expected.directory_id)
    if consented.expected.family is not Family.MICROSOFT or not _GUID.fullmatch(directory):
        return None
    if lower_ascii(str(consented.claims.get("tid"))) == directory:
        return None
    return consented.fault(
        Reason.WRONG_ACCOUNT,
        "the account is of another directory than auth.oauth2.directoryID names. Authorize again with an account of "
        "that directory.",
    )


def _check_account(consented: _Consented) -> TokenFault | None:
    if _ACCOUNT_RULES[consented.expected.family](consented):
        return None
    return consented.fault(
        Reason.WRONG_ACCOUNT,
        f"authorize again with {consented.expected.username}, or correct auth.oauth2.username. Log the other account "
        "out first where the provider does not ask.",
    )


def _is_microsoft_account(consented: _Consented) -> bool:
    return any(consented.is_username(consented.claims.get(claim)) for claim in _MICROSOFT_NAMES)


def _is_google_account(consented: _Consented) -> bool:
    # Google has sent the boolean as a string, too.
    is_verified = consented.claims.get("email_verified") in (True, "true")
    return is_verified and consented.is_username(consented.claims.get("email"))


def _is_custom_account(consented: _Consented) -> bool:
    claim, claims = consented.expected.claim, consented.claims
    if claim is None:
        return True
    # An address that anybody may have entered says nothing; that there is no word on it is the provider's choice.
    is_unverified = claim == "email" and claims.get("email_verified", True) not in (True, "true")
    return not is_unverified and consented.is_username(claims.get(claim))


_ACCOUNT_RULES: Final[dict[Family, Callable[[_Consented], bool]]] = {
    Family.MICROSOFT: _is_microsoft_account,
    Family.GOOGLE: _is_google_account,
    Family.CUSTOM: _is_custom_account,
}

_ABOUT_IDENTITY: Final = frozenset({"openid", "profile", "email", "offline_access"})
"""Scopes that providers name otherwise in their answers, or not at all; the other checks see to what they give."""


def _check_scopes(consented: _Consented) -> TokenFault | None:
    """A person may untick what is asked for at Google; others narrow silently (RFC 6749 §3.3)."""
    expected = consented.expected
    if expected.family is Family.MICROSOFT:  # which answers in other words, and refuses what it does not grant
        return None
    granted = {*consented.token.scopes, *_ABOUT_IDENTITY, *IDENTITY_SCOPES[expected.family]}
    missing = " ".join(scope for scope in expected.scopes if scope not in granted)
    if not missing:
        return None
    return consented.fault(
        Reason.SCOPE_INVALID,
        f"not all that was asked for was allowed; missing: {missing}. Authorize again and allow all of it; if it "
        "returns, let the client have these scopes at the provider, or check auth.oauth2.scopes.",
    )


def _check_refresh_token(consented: _Consented) -> TokenFault | None:
    if consented.token.refresh_token is not None:
        return None
    remedy = _REFRESH_TOKEN_REMEDIES[consented.expected.family]
    return consented.fault(Reason.REFRESH_TOKEN_MISSING, f"the provider gave no refresh token. {remedy}")


_REFRESH_TOKEN_REMEDIES: Final = {
    Family.MICROSOFT: "Check with the directory's administrator which policy forbids offline_access.",
    Family.GOOGLE: "Remove the application from the account's third-party connections, and authorize again.",
    Family.CUSTOM: "Add offline_access to auth.oauth2.scopes where the provider knows it, and allow the client the "
    "refresh token grant.",
}

_CHECKS: Final = (
    _check_id_token,
    _check_audience,
    _check_issuer,
    _check_nonce,
    _check_directory,
    _check_account,
    _check_scopes,
    _check_refresh_token,
)
"""The first fault counts: first whether the ID token is for this consent at all, and only then what it says."""


def _origin(url: str) -> str:
    """Empty: it is no https URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or 443
    except ValueError:
        return ""
    if parts.scheme != "https" or not parts.hostname:
        return ""
    return f"https://{parts.hostname}" if port == 443 else f"https://{parts.hostname}:{port}"
