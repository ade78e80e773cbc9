"""Whose consent it was."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.identity import Family
from mailsettings.core.oauth2.account import ExpectedAccount, check_consent, is_issuer, issuers_of
from mailsettings.core.oauth2.faults import TokenFault
from mailsettings.core.oauth2.request import Token

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
USERNAME, OTHER, CLIENT = "no-reply@acme.example", "someone@else.example", "the-client"
DIRECTORY, OID = "72f988bf-86f1-41af-91ab-2d7cd011db47", "5e1a7c3e-0000-4000-8000-aaaaaaaaaaaa"
MAIL = "https://mail.acme.example/send"

CLAIMS: dict[Family, dict[str, Any]] = {
    Family.MICROSOFT: {
        "iss": f"https://login.microsoftonline.com/{DIRECTORY}/v2.0",
        "tid": DIRECTORY,
        "oid": OID,
        "preferred_username": USERNAME,
    },
    Family.GOOGLE: {"iss": "https://accounts.google.com", "azp": CLIENT, "email": USERNAME, "email_verified": True},
    Family.CUSTOM: {"iss": "https://idp.acme.example:8443/realms/acme", "email": USERNAME},
}
ENDPOINTS = {
    Family.MICROSOFT: "https://login.microsoftonline.com/acme.example/oauth2/v2.0/authorize",
    Family.GOOGLE: "https://accounts.google.com/o/oauth2/v2/auth",
    Family.CUSTOM: "https://idp.acme.example:8443/realms/acme/auth",
}


def consented(family: Family, *, token: dict[str, Any] | None = None, **claims: Any) -> Token:
    """A token; a claim that is None is left out."""
    all_claims = {"aud": CLIENT, "sub": "1234", "nonce": "n", **CLAIMS[family], **claims}
    given = {name: value for name, value in all_claims.items() if value is not None}
    options: dict[str, Any] = {"refresh_token": "refresh", "scopes": (MAIL, "openid"), "claims": given, **(token or {})}
    return Token("access", NOW, NOW + timedelta(hours=1), **options)


def wanted(family: Family, **changes: Any) -> ExpectedAccount:
    options: dict[str, Any] = {
        "username": USERNAME,
        "client_id": CLIENT,
        "issuers": issuers_of(family, ENDPOINTS[family]),
        "nonce": "n",
        "directory_id": DIRECTORY if family is Family.MICROSOFT else "",
        "claim": "email" if family is Family.CUSTOM else None,
        "scopes": (MAIL, "openid", "offline_access"),
    }
    return ExpectedAccount(family, **{**options, **changes})


def fault(family: Family, changes: dict[str, Any] | None = None, **claims: Any) -> TokenFault:
    found = check_consent(consented(family, **claims), wanted(family, **(changes or {})))
    assert found is not None
    assert not found.is_transient
    return found


FAMILIES = pytest.mark.parametrize("family", Family)


@FAMILIES
def test_the_account_of_the_settings(family: Family) -> None:
    assert check_consent(consented(family), wanted(family)) is None


@FAMILIES
def test_another_account_is_named_beside_that_of_the_settings(family: Family) -> None:
    claims: dict[str, Any] = {"preferred_username": OTHER} if family is Family.MICROSOFT else {"email": OTHER}
    found = fault(family, **claims)
    assert found.reason is Reason.WRONG_ACCOUNT
    assert found.message.startswith(f"{OTHER} consented (the settings are for {USERNAME}): ")
    assert f"authorize again with {USERNAME}, or correct auth.oauth2.username" in found.message


@FAMILIES
def test_the_case_of_letters_in_an_address_does_not_matter(family: Family) -> None:
    claims: dict[str, Any] = {"preferred_username" if family is Family.MICROSOFT else "email": USERNAME.upper()}
    assert check_consent(consented(family, **claims), wanted(family)) is None


@FAMILIES
@pytest.mark.parametrize(
    "claims",
    [{"aud": "another"}, {"aud": None}, {"aud": ["another"]}, {"aud": [CLIENT, "x"], "azp": None}, {"azp": "another"}],
)
def test_an_id_token_for_another_client(family: Family, claims: dict[str, Any]) -> None:
    found = fault(family, **claims)
    assert found.reason is Reason.PROVIDER_ANSWER_INVALID
    assert "another client" in found.message
    assert USERNAME in found.message


@FAMILIES
def test_an_id_token_for_several_clients(family: Family) -> None:
    assert check_consent(consented(family, aud=[CLIENT, "x"], azp=CLIENT), wanted(family)) is None


@FAMILIES
@pytest.mark.parametrize("nonce", [None, "", "another"])
def test_an_id_token_of_another_consent(family: Family, nonce: str | None) -> None:
    found = fault(family, nonce=nonce)
    assert found.reason is Reason.PROVIDER_ANSWER_INVALID
    assert "another consent" in found.message


@FAMILIES
def test_a_device_has_no_nonce(family: Family) -> None:
    assert check_consent(consented(family, nonce=None), wanted(family, nonce=None)) is None


@FAMILIES
@pytest.mark.parametrize(
    "issuer", [None, 7, "", "https://evil.example/v2.0", "https://[bad", "http://accounts.google.com"]
)
def test_an_id_token_of_another_issuer(family: Family, issuer: Any) -> None:
    found = fault(family, iss=issuer)
    assert found.reason is Reason.PROVIDER_ANSWER_INVALID
    assert "another identity provider" in found.message


def test_the_issuer_names_microsofts_directory() -> None:
    another = "11111111-86f1-41af-91ab-2d7cd011db47"
    found = fault(Family.MICROSOFT, iss=f"https://login.microsoftonline.com/{another}/v2.0")
    assert found.reason is Reason.PROVIDER_ANSWER_INVALID


@FAMILIES
def test_no_id_token(family: Family) -> None:
    found = check_consent(consented(family, token={"claims": {}}), wanted(family))
    assert found is not None
    assert found.reason is Reason.WRONG_ACCOUNT
    assert USERNAME in found.message
    assert "no readable ID token" in found.message


def test_no_id_token_is_needed_where_the_account_is_not_checked() -> None:
    token = consented(Family.CUSTOM, token={"claims": {}})
    assert check_consent(token, wanted(Family.CUSTOM, claim=None, nonce=None)) is None
    for changes in ({"claim": None}, {"nonce": None}):
        found = check_consent(token, wanted(Family.CUSTOM, **changes))
        assert found is not None
        assert "no readable ID token" in found.message


@FAMILIES
def test_no_refresh_token(family: Family) -> None:
    found = check_consent(consented(family, token={"refresh_token": None}), wanted(family))
    assert found is not None
    assert found.reason is Reason.REFRESH_TOKEN_MISSING
    assert found.message.startswith(f"{USERNAME} consented (the settings are for {USERNAME}): ")


# Microsoft


@pytest.mark.parametrize("directory", [DIRECTORY, DIRECTORY.upper()])
def test_the_directory_of_the_account(directory: str) -> None:
    another = "11111111-86f1-41af-91ab-2d7cd011db47"
    issuer = f"https://login.microsoftonline.com/{another}/v2.0"
    found = fault(Family.MICROSOFT, {"directory_id": directory}, tid=another, iss=issuer)
    assert found.reason is Reason.WRONG_ACCOUNT
    assert "auth.oauth2.directoryID" in found.message
    assert USERNAME in found.message


def test_a_directory_may_be_named_in_capitals_or_by_a_domain() -> None:
    for directory in (DIRECTORY.upper(), "acme.example"):
        assert check_consent(consented(Family.MICROSOFT), wanted(Family.MICROSOFT, directory_id=directory)) is None


@pytest.mark.parametrize("claim", ["preferred_username", "upn", "email"])
def test_microsofts_names_of_an_account(claim: str) -> None:
    claims: dict[str, Any] = {"preferred_username": OTHER, claim: USERNAME}
    token = consented(Family.MICROSOFT, **claims)
    assert check_consent(token, wanted(Family.MICROSOFT)) is None


def test_the_username_may_be_microsofts_object_id() -> None:
    assert check_consent(consented(Family.MICROSOFT), wanted(Family.MICROSOFT, username=OID)) is None


# Google


@pytest.mark.parametrize("verified", [False, None, "false", 0])
def test_an_address_that_google_has_not_verified(verified: Any) -> None:
    assert fault(Family.GOOGLE, email_verified=verified).reason is Reason.WRONG_ACCOUNT


def test_googles_issuers() -> None:
    for issuer in ("https://accounts.google.com", "accounts.google.com"):
        assert check_consent(consented(Family.GOOGLE, iss=issuer), wanted(Family.GOOGLE)) is None


@pytest.mark.parametrize("family", [Family.GOOGLE, Family.CUSTOM])
def test_a_scope_that_was_not_granted(family: Family) -> None:
    found = check_consent(consented(family, token={"scopes": ("openid", "email")}), wanted(family))
    assert found is not None
    assert found.reason is Reason.SCOPE_INVALID
    assert f"missing: {MAIL}" in found.message
    assert USERNAME in found.message


def test_microsoft_names_scopes_in_its_own_way() -> None:
    token = consented(Family.MICROSOFT, token={"scopes": ("SMTP.Send",)})
    assert check_consent(token, wanted(Family.MICROSOFT)) is None


def test_scopes_about_the_person_need_not_be_repeated() -> None:
    token = consented(Family.CUSTOM, token={"scopes": (MAIL,)})
    assert check_consent(token, wanted(Family.CUSTOM)) is None


# Custom


def test_the_claim_that_the_settings_name() -> None:
    expected = wanted(Family.CUSTOM, claim="upn", username="Robot-7")
    assert check_consent(consented(Family.CUSTOM, upn="Robot-7"), expected) is None
    for other in ("robot-7", None, 7, ["Robot-7"]):
        found = check_consent(consented(Family.CUSTOM, upn=other), expected)
        assert found is not None
        assert found.reason is Reason.WRONG_ACCOUNT


def test_an_address_that_the_provider_calls_unverified() -> None:
    assert fault(Family.CUSTOM, email_verified=False).reason is Reason.WRONG_ACCOUNT
    assert check_consent(consented(Family.CUSTOM, email_verified="true"), wanted(Family.CUSTOM)) is None


def test_a_skipped_check_takes_any_account() -> None:
    assert check_consent(consented(Family.CUSTOM, email=OTHER), wanted(Family.CUSTOM, claim=None)) is None


def test_a_skipped_check_still_wants_the_token_of_this_consent() -> None:
    wrong: list[dict[str, Any]] = [{"aud": "another"}, {"iss": "https://evil.example"}, {"nonce": "another"}]
    for claims in wrong:
        found = check_consent(consented(Family.CUSTOM, **claims), wanted(Family.CUSTOM, claim=None))
        assert found is not None
        assert found.reason is Reason.PROVIDER_ANSWER_INVALID


# Texts


@pytest.mark.parametrize("name", ["access", "x" * 5000, "a\nb\u202e", "\ud800@x", "", 7, None])
def test_what_the_provider_calls_the_account_is_untrusted(name: Any) -> None:
    token = consented(Family.CUSTOM, token={"refresh_token": "refresh-token-0123456789"}, email=name, sub=name)
    found = check_consent(token, wanted(Family.CUSTOM))
    assert found is not None
    assert found.message.isprintable()
    assert len(found.message) < 1000
    assert not found.message.startswith(("access", "refresh"))
    assert found.message.encode()


@FAMILIES
@pytest.mark.parametrize(
    "name",
    ["aud", "azp", "iss", "nonce", "tid", "oid", "sub", "email", "email_verified", "preferred_username", "upn"],
)
@pytest.mark.parametrize("value", ["\ud800", ["\ud800"], {"\ud800": "\ud800"}], ids=["text", "list", "object"])
def test_surrogates_in_claims_do_no_harm(family: Family, name: str, value: Any) -> None:
    found = check_consent(consented(family, **{name: value}), wanted(family))
    assert found is None or found.message.encode().decode().isprintable()


@FAMILIES
def test_issuer_with_a_surrogate_is_another(family: Family) -> None:
    issuer = f"https://\ud800.example/{DIRECTORY}/v2.0"
    assert fault(family, iss=issuer).reason is Reason.PROVIDER_ANSWER_INVALID


def test_issuers() -> None:
    custom = issuers_of(Family.CUSTOM, ENDPOINTS[Family.CUSTOM])
    assert is_issuer("https://idp.acme.example:8443", custom)
    assert is_issuer("https://idp.acme.example:8443/realms/other", custom)
    assert is_issuer("https://IDP.acme.example:8443/", custom)
    for other in (
        "https://idp.acme.example",
        "https://idp.acme.example.evil.example:8443",
        "",
        None,
        "accounts.google.com",
    ):
        assert not is_issuer(other, custom)
    assert issuers_of(Family.CUSTOM, "https://idp.acme.example:443/x") == {"https://idp.acme.example"}
    assert not is_issuer("no URL", issuers_of(Family.CUSTOM, "no URL"))
