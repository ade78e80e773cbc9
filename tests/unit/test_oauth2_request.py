"""What a token request is made of, and the data of the providers."""

from urllib.parse import urlsplit

import pytest

from mailsettings.api.identity import Cloud, Family
from mailsettings.api.providers import GOOGLE, OFFICE365, PROVIDERS, SENDGRID
from mailsettings.core.egress import OAUTH2
from mailsettings.core.oauth2.clouds import cloud_of, endpoint_of, scopes_of
from mailsettings.core.oauth2.request import (
    SUPPORTED,
    AuthorizationCode,
    Client,
    ClientAuth,
    ClientCredentials,
    ClientSecret,
    DeviceCode,
    Grant,
    RefreshToken,
    ServiceAccount,
    TokenRequest,
)
from tests.support.identity_provider import CLIENT_SECRET, key_pair
from tests.support.token_requests import (
    CODE,
    DEVICE_CODE,
    ENDPOINTS,
    PUBLIC,
    REFRESH_TOKEN,
    SECRET,
    VERIFIER,
    certificate_auth,
    client_credentials,
    device,
    federation,
    poll,
    redemption,
    refresh,
    service_account,
)

GRANTS = (ClientCredentials, RefreshToken, ServiceAccount, AuthorizationCode, DeviceCode)


def grant_of(kind: type[Grant], client: Client) -> Grant:
    if kind is RefreshToken:
        return RefreshToken(client, "token")
    if kind is AuthorizationCode:
        return AuthorizationCode(client, "code", "https://mail.acme.example/callback", "verifier")
    return DeviceCode(client, "code") if kind is DeviceCode else ClientCredentials(client)


@pytest.mark.parametrize("auth", [PUBLIC, ClientSecret("s"), certificate_auth(), federation()], ids=type)
@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("kind", [ClientCredentials, RefreshToken, AuthorizationCode, DeviceCode])
def test_only_grants_that_a_family_has_make_a_request(family: Family, kind: type[Grant], auth: ClientAuth) -> None:
    client = Client("id", auth)
    grant = grant_of(kind, client)
    if type(auth) in SUPPORTED.get((family, kind), ()):
        assert TokenRequest(family, ENDPOINTS[family], grant).client == client
    else:
        with pytest.raises(ValueError, match=f"{family} has no"):
            TokenRequest(family, ENDPOINTS[family], grant)


def test_who_may_ask_for_a_device() -> None:
    """Microsoft's confidential clients have no such grant, and Google's devices get no scope for mail."""
    assert device(Family.MICROSOFT, PUBLIC).client.auth == PUBLIC
    assert device(Family.CUSTOM, SECRET).client.auth == SECRET
    for family, auth in ((Family.MICROSOFT, SECRET), (Family.GOOGLE, SECRET), (Family.GOOGLE, PUBLIC)):
        with pytest.raises(ValueError, match=f"{family} has no DeviceCode"):
            device(family, auth)
        with pytest.raises(ValueError, match=f"{family} has no DeviceCode"):
            poll(family, auth)


def test_only_google_has_service_accounts() -> None:
    for family in (Family.MICROSOFT, Family.CUSTOM):
        with pytest.raises(ValueError, match="has no ServiceAccount"):
            TokenRequest(family, ENDPOINTS[family], ServiceAccount("{}", "a@acme.example"))


def test_scopes_that_a_library_adds_are_not_passed_twice() -> None:
    scopes = ("offline_access", "openid", "https://outlook.office.com/SMTP.Send", "profile")
    assert refresh(Family.MICROSOFT, scopes=scopes).scopes_to_pass == ("https://outlook.office.com/SMTP.Send",)
    assert refresh(Family.CUSTOM, scopes=scopes).scopes_to_pass == scopes
    assert refresh(Family.GOOGLE, scopes=scopes).scopes_to_pass == scopes


def test_secrets_and_keys_of_a_request() -> None:
    private_key = key_pair().private_key
    assert set(refresh(Family.CUSTOM).secrets()) == {CLIENT_SECRET, REFRESH_TOKEN}
    assert set(redemption(Family.CUSTOM).secrets()) == {CLIENT_SECRET, CODE, VERIFIER}
    assert poll(Family.CUSTOM).secrets() == [DEVICE_CODE]
    assert device(Family.CUSTOM, SECRET).secrets() == [CLIENT_SECRET]
    assert device(Family.CUSTOM, certificate_auth()).private_keys() == [private_key]
    assert refresh(Family.CUSTOM).private_keys() == []
    for request in (client_credentials(Family.MICROSOFT, certificate_auth()), service_account()):
        assert request.private_keys() == [private_key]
        assert request.secrets() == []
    for unreadable in ("no JSON", "[]", '{"private_key": 7}'):
        assert service_account(key=unreadable).private_keys() == [unreadable]


@pytest.mark.parametrize(
    ("cloud", "endpoint", "delegated", "application"),
    [
        (None, "https://login.microsoftonline.com/acme.example", "outlook.office.com", "outlook.office365.com"),
        ("USGov", "https://login.microsoftonline.us/acme.example", "outlook.office365.us", "outlook.office365.us"),
        ("China", "https://login.partner.microsoftonline.cn/acme.example", "partner.outlook.cn", "partner.outlook.cn"),
    ],
)
def test_clouds_of_microsoft(cloud: str | None, endpoint: str, delegated: str, application: str) -> None:
    found = cloud_of(OFFICE365, cloud)
    assert endpoint_of(Family.MICROSOFT, found, "acme.example") == endpoint
    assert scopes_of(found, RefreshToken) == (f"https://{delegated}/SMTP.Send",)
    assert scopes_of(found, ClientCredentials) == (f"https://{application}/.default",)


def test_a_directory_stays_one_segment_of_the_path() -> None:
    assert endpoint_of(Family.MICROSOFT, cloud_of(OFFICE365), "a/../b?c#d").endswith("/a%2F..%2Fb%3Fc%23d")


def test_google_wants_the_same_scope_of_everybody() -> None:
    cloud = cloud_of(GOOGLE)
    assert endpoint_of(Family.GOOGLE, cloud) == "https://oauth2.googleapis.com/token"
    assert {scopes_of(cloud, grant) for grant in GRANTS} == {("https://mail.google.com/",)}


def test_a_cloud_that_the_administrator_defines() -> None:
    own = Cloud("https://login.acme.example", ("a",), ("b",))
    assert cloud_of(OFFICE365, "Custom", custom=own) is own
    with pytest.raises(LookupError):
        cloud_of(OFFICE365, "Custom")
    with pytest.raises(LookupError):
        cloud_of(SENDGRID)


def test_what_the_provider_data_promises() -> None:
    """Each endpoint is https on the port that the egress policy lets out, without what a URL should not have."""
    clouds = [
        cloud for provider in PROVIDERS.values() if provider.identity for cloud in provider.identity.clouds.values()
    ]
    for parts in (urlsplit(cloud.token_uri) for cloud in clouds if cloud.token_uri):
        assert parts.scheme == "https"
        assert (parts.port or 443) in OAUTH2.ports
        assert not parts.query + parts.fragment + (parts.username or "")


def test_microsofts_clouds_are_those_of_its_mail_servers() -> None:
    office = PROVIDERS[OFFICE365]
    assert office.identity is not None
    assert [*office.identity.clouds] == [*office.endpoints]
