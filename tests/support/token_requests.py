"""Requests for tokens."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from mailsettings.api.identity import Family
from mailsettings.core.egress import EgressPolicy
from mailsettings.core.oauth2.request import (
    AuthorizationCode,
    AuthorizationRequest,
    Client,
    ClientAssertion,
    ClientAuth,
    ClientCertificate,
    ClientCredentials,
    ClientSecret,
    DeviceAuthorizationRequest,
    DeviceCode,
    PublicClient,
    RefreshToken,
    RevocationRequest,
    ServiceAccount,
    TokenRequest,
)
from mailsettings.edges.oauth2.tokens import IdentityProviders
from tests.support.identity_provider import (
    ACCOUNT,
    CLIENT_ID,
    CLIENT_SECRET,
    REDIRECT_URI,
    SCOPE,
    key_pair,
    service_account_key,
)
from tests.support.smtp_probe import ALLOW_LOOPBACK, PATIENT

REFRESH_TOKEN: Final = "0.AXoAbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_refresh"
CODE: Final = "1.AXoAcode-of-a-consent_0123456789abcdefghij"
VERIFIER: Final = "verifier-of-a-consent.0123456789~abcdefghijklmnop"
DEVICE_CODE: Final = "device-code-of-a-consent_0123456789abcdefghij"
ASSERTION: Final = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJvcGVyYXRvciJ9.c2lnbmF0dXJlLW9mLXRoZS1vcGVyYXRvcg"
ENDPOINTS: Final = {
    Family.MICROSOFT: "https://login.microsoftonline.com/contoso.example",
    Family.GOOGLE: "https://oauth2.googleapis.com/token",
    Family.CUSTOM: "https://idp.acme.example/token",
}

SECRET: Final = ClientSecret(CLIENT_SECRET)
PUBLIC: Final = PublicClient()


def certificate_auth(kind: str = "RSA") -> ClientCertificate:
    pair = key_pair(kind)
    return ClientCertificate(pair.private_key, pair.certificate)


def federation(read: Callable[[], str] = lambda: ASSERTION) -> ClientAssertion:
    return ClientAssertion(read)


def client_credentials(
    family: Family, auth: ClientAuth = SECRET, *, endpoint: str | None = None, scopes: tuple[str, ...] = (SCOPE,)
) -> TokenRequest:
    return TokenRequest(family, endpoint or ENDPOINTS[family], ClientCredentials(Client(CLIENT_ID, auth)), scopes)


def refresh(
    family: Family,
    auth: ClientAuth = SECRET,
    *,
    endpoint: str | None = None,
    token: str = REFRESH_TOKEN,
    scopes: tuple[str, ...] = (SCOPE,),
) -> TokenRequest:
    return TokenRequest(family, endpoint or ENDPOINTS[family], RefreshToken(Client(CLIENT_ID, auth), token), scopes)


def service_account(*, endpoint: str | None = None, subject: str = ACCOUNT, key: str | None = None) -> TokenRequest:
    grant = ServiceAccount(key or service_account_key(), subject)
    return TokenRequest(Family.GOOGLE, endpoint or ENDPOINTS[Family.GOOGLE], grant, ("https://mail.google.com/",))


def redemption(
    family: Family,
    auth: ClientAuth = SECRET,
    *,
    endpoint: str | None = None,
    code: str = CODE,
    redirect_uri: str = REDIRECT_URI,
    verifier: str = VERIFIER,
    scopes: tuple[str, ...] = (SCOPE,),
) -> TokenRequest:
    grant = AuthorizationCode(Client(CLIENT_ID, auth), code, redirect_uri, verifier)
    return TokenRequest(family, endpoint or ENDPOINTS[family], grant, scopes)


def poll(
    family: Family,
    auth: ClientAuth = PUBLIC,
    *,
    endpoint: str | None = None,
    code: str = DEVICE_CODE,
    scopes: tuple[str, ...] = (SCOPE,),
) -> TokenRequest:
    return TokenRequest(family, endpoint or ENDPOINTS[family], DeviceCode(Client(CLIENT_ID, auth), code), scopes)


def device(
    family: Family, auth: ClientAuth = PUBLIC, *, endpoint: str | None = None, scopes: tuple[str, ...] = (SCOPE,)
) -> DeviceAuthorizationRequest:
    return DeviceAuthorizationRequest(family, endpoint or ENDPOINTS[family], Client(CLIENT_ID, auth), scopes)


def authorization(
    family: Family, *, endpoint: str | None = None, scopes: tuple[str, ...] = (SCOPE,), login_hint: str = ACCOUNT
) -> AuthorizationRequest:
    where = endpoint or f"{ENDPOINTS[family]}/authorize"
    return AuthorizationRequest(family, where, CLIENT_ID, REDIRECT_URI, scopes, login_hint)


def revocation(
    family: Family, auth: ClientAuth = SECRET, *, endpoint: str, token_endpoint: str, token: str = REFRESH_TOKEN
) -> RevocationRequest:
    return RevocationRequest(family, endpoint, token_endpoint, Client(CLIENT_ID, auth), token)


def trusting(
    ca_pem: str | None, *, policy: EgressPolicy = ALLOW_LOOPBACK, deadline: timedelta = PATIENT
) -> IdentityProviders:
    """Providers whose certificates these authorities sign; None: the public ones."""
    return IdentityProviders(policy, lambda: ca_pem, deadline)
