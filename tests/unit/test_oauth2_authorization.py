"""The address that a person opens to consent."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mailsettings.api.identity import Cloud, Family
from mailsettings.api.providers import GOOGLE, OFFICE365
from mailsettings.core.oauth2.authorization import authorization_url, code_challenge, has_id_token, scopes_to_ask
from mailsettings.core.oauth2.clouds import authorization_endpoint_of, cloud_of, scopes_of
from mailsettings.core.oauth2.request import AuthorizationCode, AuthorizationRequest, DeviceCode
from tests.support.identity_provider import ACCOUNT, CLIENT_ID, REDIRECT_URI, SCOPE
from tests.support.token_requests import VERIFIER, authorization


def asked(request: AuthorizationRequest) -> dict[str, str]:
    """The parameters of its URL, each of which stands there once."""
    url = authorization_url(request, state="s t/a+te", verifier=VERIFIER, nonce="n1")
    found = parse_qs(urlsplit(url).query, strict_parsing=True)
    assert {len(values) for values in found.values()} == {1}
    return {name: values[0] for name, values in found.items()}


BASE = {
    "response_type": "code",
    "client_id": CLIENT_ID,
    "redirect_uri": REDIRECT_URI,
    "state": "s t/a+te",
    "code_challenge": code_challenge(VERIFIER),
    "code_challenge_method": "S256",
    "login_hint": ACCOUNT,
}


@pytest.mark.parametrize(
    ("family", "scopes", "expected"),
    [
        (
            Family.MICROSOFT,
            (SCOPE,),
            {"scope": f"{SCOPE} openid profile offline_access", "nonce": "n1", "prompt": "select_account"},
        ),
        (
            Family.GOOGLE,
            ("https://mail.google.com/",),
            {
                "scope": "https://mail.google.com/ openid email",
                "nonce": "n1",
                "access_type": "offline",
                "prompt": "consent",
            },
        ),
        (Family.CUSTOM, ("mail", "openid"), {"scope": "mail openid", "nonce": "n1", "prompt": "consent"}),
        (Family.CUSTOM, ("mail",), {"scope": "mail"}),
        (Family.CUSTOM, (), {}),
    ],
)
def test_what_each_family_is_asked(family: Family, scopes: tuple[str, ...], expected: dict[str, str]) -> None:
    assert asked(authorization(family, scopes=scopes)) == {**BASE, **expected}


def test_the_challenge_of_the_rfc() -> None:
    """RFC 7636, appendix B."""
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert code_challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_the_verifier_is_not_in_the_address() -> None:
    assert VERIFIER not in authorization_url(authorization(Family.CUSTOM), state="s", verifier=VERIFIER, nonce="n")


@pytest.mark.parametrize(
    ("endpoint", "before"),
    [
        ("https://idp.acme.example/authorize", "https://idp.acme.example/authorize?response_type=code&"),
        ("https://idp.acme.example", "https://idp.acme.example?response_type=code&"),
        (
            "https://idp.acme.example/authorize?policy=a%20b&x",
            "https://idp.acme.example/authorize?policy=a%20b&x&response_type=code&",
        ),
    ],
)
def test_a_query_of_the_endpoint_stays(endpoint: str, before: str) -> None:
    """RFC 6749 §3.1."""
    request = authorization(Family.CUSTOM, endpoint=endpoint)
    assert authorization_url(request, state="s", verifier=VERIFIER, nonce="n").startswith(before)


def test_a_space_is_no_plus_sign() -> None:
    url = authorization_url(authorization(Family.CUSTOM, scopes=("a", "b")), state="s", verifier=VERIFIER, nonce="n")
    assert "scope=a%20b&" in url


def test_no_account_is_suggested_where_none_is_named() -> None:
    assert "login_hint" not in asked(authorization(Family.CUSTOM, login_hint=""))


@pytest.mark.parametrize("family", Family)
def test_no_scope_is_asked_for_twice(family: Family) -> None:
    scopes = scopes_to_ask(authorization(family, scopes=("openid", "offline_access", SCOPE)))
    assert len(scopes) == len({*scopes})


def test_where_an_id_token_is_expected() -> None:
    assert has_id_token(authorization(Family.MICROSOFT))
    assert has_id_token(authorization(Family.GOOGLE))
    assert has_id_token(authorization(Family.CUSTOM, scopes=("openid",)))
    assert not has_id_token(authorization(Family.CUSTOM))


@pytest.mark.parametrize(
    ("provider", "cloud", "expected"),
    [
        (OFFICE365, None, "https://login.microsoftonline.com/acme.example/oauth2/v2.0/authorize"),
        (OFFICE365, "USGov", "https://login.microsoftonline.us/acme.example/oauth2/v2.0/authorize"),
        (OFFICE365, "China", "https://login.partner.microsoftonline.cn/acme.example/oauth2/v2.0/authorize"),
        (GOOGLE, None, "https://accounts.google.com/o/oauth2/v2/auth"),
    ],
)
def test_the_endpoint_of_each_cloud(provider: str, cloud: str | None, expected: str) -> None:
    family = Family.MICROSOFT if provider == OFFICE365 else Family.GOOGLE
    assert authorization_endpoint_of(family, cloud_of(provider, cloud), "acme.example") == expected


@pytest.mark.parametrize("grant", [AuthorizationCode, DeviceCode])
def test_a_person_consents_to_the_delegated_scopes(grant: Any) -> None:
    assert scopes_of(Cloud(delegated_scopes=("d",), application_scopes=("a",)), grant) == ("d",)
