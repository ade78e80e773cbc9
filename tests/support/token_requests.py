"""Requests for tokens."""

from collections.abc import Callable
from typing import Final

from mailsettings.api.identity import Family
from mailsettings.core.oauth2.request import (
    Client,
    ClientAssertion,
    ClientAuth,
    ClientCertificate,
    ClientCredentials,
    ClientSecret,
    PublicClient,
    RefreshToken,
    ServiceAccount,
    TokenRequest,
)
from tests.support.identity_provider import ACCOUNT, CLIENT_ID, CLIENT_SECRET, SCOPE, key_pair, service_account_key

REFRESH_TOKEN: Final = "0.AXoAbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_refresh"
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
