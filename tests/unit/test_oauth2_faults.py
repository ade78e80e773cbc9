"""What a token endpoint's refusals mean, and that no text of them holds a secret."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.api.conditions import Reason
from mailsettings.api.connection import ProxyProtocol
from mailsettings.api.identity import Family
from mailsettings.core.causes.catalog import link
from mailsettings.core.causes.cause import Cause
from mailsettings.core.oauth2 import faults
from mailsettings.core.oauth2.answers import read_token_answer
from mailsettings.core.oauth2.faults import (
    MAX_TEXT_LENGTH,
    RULES,
    Asked,
    Failure,
    FailureKind,
    TokenFault,
    diagnose,
    diagnose_redirect,
)
from mailsettings.core.oauth2.request import AuthorizationRequest, DeviceAuthorizationRequest, TokenRequest
from mailsettings.core.server import Proxy
from tests.support.identity_provider import CLIENT_SECRET, REDIRECT_URI, key_pair, microsoft_error
from tests.support.token_requests import (
    CODE,
    DEVICE_CODE,
    PUBLIC,
    REFRESH_TOKEN,
    SECRET,
    VERIFIER,
    authorization,
    certificate_auth,
    client_credentials,
    device,
    federation,
    poll,
    redemption,
    refresh,
    service_account,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DEADLINE = timedelta(seconds=30)
K, R = FailureKind, Reason

MS_APP = client_credentials(Family.MICROSOFT)
MS_CERTIFICATE = client_credentials(Family.MICROSOFT, certificate_auth())
MS_FEDERATION = client_credentials(Family.MICROSOFT, federation())
MS_REFRESH = refresh(Family.MICROSOFT)
GOOGLE = refresh(Family.GOOGLE)
SERVICE = service_account()
CUSTOM = refresh(Family.CUSTOM)
BEHIND_PROXY = replace(CUSTOM, proxy=Proxy(ProxyProtocol.HTTP, "p.example", 3128))
CUSTOM_APP = client_credentials(Family.CUSTOM)
MS_CODE = redemption(Family.MICROSOFT)
GOOGLE_CODE = redemption(Family.GOOGLE)
CUSTOM_CODE = redemption(Family.CUSTOM)
MS_POLL = poll(Family.MICROSOFT)
CUSTOM_POLL = poll(Family.CUSTOM)
MS_DEVICE = device(Family.MICROSOFT)
CUSTOM_DEVICE = device(Family.CUSTOM)
MS_PAGE = authorization(Family.MICROSOFT)
GOOGLE_PAGE = authorization(Family.GOOGLE)
CUSTOM_PAGE = authorization(Family.CUSTOM)


def answered(content: Any, status: int = 400, retry_after: str | None = None) -> Failure:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    failure = read_token_answer(status, body, retry_after, now=NOW)
    assert isinstance(failure, Failure)
    return failure


def microsoft(error: str, code: int, text: str = "What Microsoft says.", **more: Any) -> Failure:
    return answered(microsoft_error(error, code, text, **more))


def described(error: str, description: str, **more: Any) -> Failure:
    return answered({"error": error, "error_description": description, **more})


def redirected(error: str, description: str = "") -> Failure:
    """What came by the browser."""
    return Failure(K.ANSWER, error=error, description=description)


def fault_of(failure: Failure, request: Asked) -> TokenFault:
    if isinstance(request, AuthorizationRequest):
        return diagnose_redirect(failure.error, failure.description, request)
    return diagnose(failure, request, deadline=DEADLINE)


AGAIN = "Begin the consent again"

ROWS: list[tuple[Failure, Asked, Reason, bool, str]] = [
    # The person has not finished, or not in time
    (answered({"error": "authorization_pending"}), CUSTOM_POLL, R.CONSENT_REQUIRED, True, "has not consented yet"),
    (microsoft("authorization_pending", 70016), MS_POLL, R.CONSENT_REQUIRED, True, "has not consented yet"),
    (answered({"error": "slow_down"}), CUSTOM_POLL, R.CONSENT_REQUIRED, True, "has not consented yet"),
    (answered({"error": "slow_down"}, 429), CUSTOM_POLL, R.CONSENT_REQUIRED, True, "has not consented yet"),
    (answered({"error": "expired_token"}), CUSTOM_POLL, R.CONSENT_EXPIRED, False, AGAIN),
    (microsoft("expired_token", 70020), MS_POLL, R.CONSENT_EXPIRED, False, AGAIN),
    (microsoft("bad_verification_code", 70018), MS_POLL, R.CONSENT_EXPIRED, False, AGAIN),
    (microsoft("invalid_grant", 70019), MS_POLL, R.CONSENT_EXPIRED, False, AGAIN),
    (answered({"error": "access_denied"}), CUSTOM_POLL, R.CONSENT_DENIED, False, "accept"),
    (microsoft("authorization_declined", 65004), MS_POLL, R.CONSENT_DENIED, False, "accept"),
    (answered({"error": "unauthorized_client"}), CUSTOM_DEVICE, R.CLIENT_NOT_PERMITTED, False, "Allow the grant"),
    (answered(b"<html>", 404), CUSTOM_DEVICE, R.PROVIDER_ANSWER_INVALID, True, "Check deviceAuthorizationURI"),
    (microsoft("invalid_client", 7000218), MS_DEVICE, R.CLIENT_AUTH_INVALID, False, "allow public client flows"),
    # The code
    (microsoft("invalid_grant", 54005), MS_CODE, R.CONSENT_EXPIRED, False, AGAIN),
    (microsoft("invalid_grant", 70008), MS_CODE, R.CONSENT_EXPIRED, False, AGAIN),
    (microsoft("invalid_grant", 501481), MS_CODE, R.CONSENT_EXPIRED, False, AGAIN),
    (microsoft("invalid_grant", 70000), MS_CODE, R.CONSENT_EXPIRED, False, AGAIN),
    (described("invalid_grant", "Malformed auth code."), GOOGLE_CODE, R.CONSENT_EXPIRED, False, AGAIN),
    (answered({"error": "invalid_grant"}), CUSTOM_CODE, R.CONSENT_EXPIRED, False, AGAIN),
    (microsoft("invalid_grant", 53003), MS_CODE, R.CONDITIONAL_ACCESS, False, "Conditional Access"),
    (microsoft("invalid_grant", 70011), MS_CODE, R.SCOPE_INVALID, False, "Leave auth.oauth2.scopes out"),
    (microsoft("invalid_grant", 65001), MS_CODE, R.CONSENT_REQUIRED, False, "API permissions"),
    (answered({"error": "consent_required"}), CUSTOM_CODE, R.CONSENT_REQUIRED, False, "accept all"),
    (Failure(K.LOST), CUSTOM_CODE, R.PROVIDER_UNREACHABLE, True, AGAIN),
    (Failure(K.REFUSED), CUSTOM_CODE, R.PROVIDER_UNREACHABLE, True, "Begin the consent again; if it lasts"),
    (microsoft("invalid_client", 7000215), MS_CODE, R.CLIENT_AUTH_INVALID, False, "the secret's value, not its ID"),
    # The redirect URI
    (answered({"error": "redirect_uri_mismatch"}), GOOGLE_CODE, R.CLIENT_NOT_PERMITTED, False, REDIRECT_URI),
    (microsoft("invalid_client", 50011), MS_CODE, R.CLIENT_NOT_PERMITTED, False, REDIRECT_URI),
    (microsoft("invalid_request", 9002327), MS_CODE, R.CLIENT_NOT_PERMITTED, False, "the platform Web"),
    (described("invalid_grant", "Incorrect redirect_uri"), CUSTOM_CODE, R.CLIENT_NOT_PERMITTED, False, REDIRECT_URI),
    # What the browser brings
    (redirected("redirect_uri_mismatch"), GOOGLE_PAGE, R.CLIENT_NOT_PERMITTED, False, REDIRECT_URI),
    (redirected("invalid_request", "AADSTS50011: No."), MS_PAGE, R.CLIENT_NOT_PERMITTED, False, REDIRECT_URI),
    (redirected("access_denied"), GOOGLE_PAGE, R.CONSENT_DENIED, False, "accept"),
    (redirected("access_denied", "AADSTS65004: Declined."), MS_PAGE, R.CONSENT_DENIED, False, "accept"),
    (redirected("access_denied", "AADSTS90094: No."), MS_PAGE, R.ADMIN_CONSENT_REQUIRED, False, "administrator"),
    (redirected("consent_required", "AADSTS65001: No."), MS_PAGE, R.CONSENT_REQUIRED, False, "Authorize again"),
    (redirected("consent_required"), CUSTOM_PAGE, R.CONSENT_REQUIRED, False, "Authorize again"),
    (redirected("interaction_required"), CUSTOM_PAGE, R.CONDITIONAL_ACCESS, False, "sign in"),
    (redirected("login_required"), CUSTOM_PAGE, R.CONDITIONAL_ACCESS, False, "sign in"),
    (redirected("invalid_request", "AADSTS50020: No."), MS_PAGE, R.WRONG_ACCOUNT, False, "directoryID"),
    (redirected("admin_policy_enforced"), GOOGLE_PAGE, R.ADMIN_CONSENT_REQUIRED, False, "trust the client"),
    (redirected("org_internal"), GOOGLE_PAGE, R.WRONG_ACCOUNT, False, "organisation"),
    (redirected("temporarily_unavailable"), CUSTOM_PAGE, R.PROVIDER_UNAVAILABLE, True, AGAIN),
    (redirected("server_error"), CUSTOM_PAGE, R.PROVIDER_UNAVAILABLE, True, AGAIN),
    (redirected("unauthorized_client"), CUSTOM_PAGE, R.CLIENT_NOT_PERMITTED, False, "Allow the grant"),
    (redirected("unsupported_response_type"), CUSTOM_PAGE, R.CLIENT_NOT_PERMITTED, False, "Allow the grant"),
    (redirected("unauthorized_client", "AADSTS700016: No."), MS_PAGE, R.CLIENT_UNKNOWN, False, "oauth2.clientID"),
    (redirected("invalid_request", "AADSTS700016: No."), MS_PAGE, R.CLIENT_UNKNOWN, False, "oauth2.clientID"),
    (redirected("invalid_client"), CUSTOM_PAGE, R.CLIENT_UNKNOWN, False, "oauth2.clientID"),
    (redirected("invalid_scope"), CUSTOM_PAGE, R.SCOPE_INVALID, False, "Check auth.oauth2.scopes"),
    (redirected("invalid_request"), CUSTOM_PAGE, R.TOKEN_REQUEST_REFUSED, False, "PKCE (S256)"),
    (redirected(""), CUSTOM_PAGE, R.PROVIDER_ANSWER_INVALID, True, "Check authorizationURI"),
    # No answer
    (Failure(K.EGRESS_DENIED, detail="it has a private address"), CUSTOM, R.EGRESS_DENIED, False, "private address"),
    (
        Failure(K.PROXY_DENIED, detail="it is not listed"),
        BEHIND_PROXY,
        R.EGRESS_DENIED,
        False,
        "http://p.example:3128:",
    ),
    (
        Failure(K.PROXY_LOGIN, detail="it wants one"),
        BEHIND_PROXY,
        R.PROXY_AUTH_REQUIRED,
        True,
        "http://p.example:3128 ",
    ),
    (Failure(K.PROXY_FAILURE, detail="it is shut"), BEHIND_PROXY, R.PROXY_FAILURE, True, "p.example:3128 made no"),
    (Failure(K.FOREIGN_HOST), MS_APP, R.PROVIDER_ANSWER_INVALID, True, "was not contacted"),
    (Failure(K.NAME_NOT_FOUND), CUSTOM, R.PROVIDER_UNREACHABLE, True, "no address"),
    (Failure(K.NAME_TEMPORARY), CUSTOM, R.PROVIDER_UNREACHABLE, True, "name servers gave no answer"),
    (Failure(K.REFUSED), CUSTOM, R.PROVIDER_UNREACHABLE, True, "idp.acme.example refused the connection"),
    (Failure(K.UNREACHABLE, detail="no route to host"), CUSTOM, R.PROVIDER_UNREACHABLE, True, "no route to host"),
    (Failure(K.TIMEOUT), CUSTOM, R.PROVIDER_UNREACHABLE, True, "did not answer the connect"),
    (Failure(K.DEADLINE), CUSTOM, R.PROVIDER_UNREACHABLE, True, "within 30s"),
    (Failure(K.BUSY), CUSTOM, R.PROVIDER_UNREACHABLE, True, "was not asked"),
    (Failure(K.LOST), CUSTOM, R.PROVIDER_UNREACHABLE, True, "closed the connection"),
    (Failure(K.TLS, detail="wrong version number"), CUSTOM, R.PROVIDER_UNREACHABLE, True, "wrong version number"),
    (Failure(K.CERTIFICATE, detail="certificate has expired"), CUSTOM, R.PROVIDER_UNTRUSTED, True, "has expired"),
    (Failure(K.CA_BUNDLE), CUSTOM, R.CA_BUNDLE_INVALID, False, "no readable PEM"),
    (
        Failure(K.KEY, detail="the certificate is not one in PEM form"),
        MS_CERTIFICATE,
        R.SECRET_VALUE_INVALID,
        False,
        "auth.oauth2.clientAuth.certificateRef: the certificate is not",
    ),
    (Failure(K.KEY, detail="no key file"), SERVICE, R.SECRET_VALUE_INVALID, False, "auth.oauth2.serviceAccountKeyRef"),
    (Failure(K.ASSERTION, detail="no such file"), MS_FEDERATION, R.FEDERATION_UNAVAILABLE, False, "no such file"),
    # Nonsense
    (answered(b"", 302), CUSTOM, R.PROVIDER_ANSWER_INVALID, True, "a redirect"),
    (Failure(K.TOO_LONG), CUSTOM, R.PROVIDER_ANSWER_INVALID, True, "more than"),
    (Failure(K.GARBAGE), CUSTOM, R.PROVIDER_ANSWER_INVALID, True, "not what a token endpoint answers"),
    (answered(b"<html>", 200), CUSTOM, R.PROVIDER_ANSWER_INVALID, True, "Check tokenURI"),
    (answered(b"<html>", 404), MS_APP, R.PROVIDER_ANSWER_INVALID, True, "Check directoryID and cloud"),
    (answered([], 400), CUSTOM, R.PROVIDER_ANSWER_INVALID, True, "not what a token endpoint answers"),
    (answered({}, 200), CUSTOM, R.PROVIDER_ANSWER_INVALID, True, "no bearer token"),
    (answered({"message": "no"}, 404), CUSTOM, R.PROVIDER_ANSWER_INVALID, True, "HTTP status 404"),
    # Later
    (answered(b"slow down", 429, "30"), CUSTOM, R.PROVIDER_THROTTLED, True, "HTTP status 429"),
    (answered({"error": "slow_down"}), CUSTOM, R.PROVIDER_THROTTLED, True, "slow_down"),
    (microsoft("invalid_grant", 50196), MS_REFRESH, R.PROVIDER_THROTTLED, True, "AADSTS50196"),
    (answered({"error": "temporarily_unavailable"}), CUSTOM, R.PROVIDER_UNAVAILABLE, True, "cannot serve now"),
    (answered(b"<html>", 503), CUSTOM, R.PROVIDER_UNAVAILABLE, True, "HTTP status 503"),
    (answered({"error": "invalid_grant"}, 500), CUSTOM, R.PROVIDER_UNAVAILABLE, True, "cannot serve now"),
    (microsoft("invalid_request", 90033), MS_REFRESH, R.PROVIDER_UNAVAILABLE, True, "AADSTS90033"),
    # The directory
    (microsoft("invalid_request", 90002), MS_APP, R.DIRECTORY_NOT_FOUND, False, "auth.oauth2.directoryID"),
    (microsoft("invalid_request", 90038), MS_APP, R.DIRECTORY_NOT_FOUND, False, "auth.oauth2.cloud"),
    (answered({"error": "invalid_tenant"}), MS_APP, R.DIRECTORY_NOT_FOUND, False, "auth.oauth2.directoryID"),
    (microsoft("invalid_request", 50194), MS_APP, R.DIRECTORY_NOT_FOUND, False, "belongs to one directory"),
    # The client
    (microsoft("unauthorized_client", 700016), MS_APP, R.CLIENT_UNKNOWN, False, "auth.oauth2.clientID"),
    (microsoft("invalid_client", 7000222), MS_APP, R.CLIENT_AUTH_EXPIRED, False, "clientAuth.secretRef"),
    (microsoft("invalid_client", 7000215), MS_APP, R.CLIENT_AUTH_INVALID, False, "the secret's value, not its ID"),
    (
        microsoft("invalid_client", 7000218),
        refresh(Family.MICROSOFT, PUBLIC),
        R.CLIENT_AUTH_INVALID,
        False,
        "wants a client secret",
    ),
    (microsoft("invalid_client", 700025), MS_REFRESH, R.CLIENT_AUTH_INVALID, False, "Remove auth.oauth2.clientAuth"),
    (microsoft("invalid_client", 700211), MS_FEDERATION, R.CLIENT_AUTH_INVALID, False, "issuer, subject and audience"),
    (microsoft("invalid_client", 700027), MS_CERTIFICATE, R.CLIENT_AUTH_INVALID, False, "Upload the certificate"),
    (described("deleted_client", "The OAuth client was deleted."), GOOGLE, R.CLIENT_UNKNOWN, False, "clientID"),
    (described("invalid_client", "The OAuth client was not found."), GOOGLE, R.CLIENT_UNKNOWN, False, "clientID"),
    (described("invalid_client", "Unauthorized"), GOOGLE, R.CLIENT_AUTH_INVALID, False, "clientAuth.secretRef"),
    (
        answered({"error": "invalid_client"}),
        CUSTOM,
        R.CLIENT_AUTH_INVALID,
        False,
        "auth.oauth2.clientAuth.secretMethod",
    ),
    (answered(b"", 401), CUSTOM, R.CLIENT_AUTH_INVALID, False, "does not take the client secret"),
    (answered({"error": "unauthorized_client"}), CUSTOM_APP, R.CLIENT_NOT_PERMITTED, False, "auth.oauth2.grant"),
    # The service account
    (described("invalid_grant", "Invalid JWT Signature."), SERVICE, R.CLIENT_AUTH_INVALID, False, "new key"),
    (described("invalid_grant", "Invalid grant: account not found"), SERVICE, R.CLIENT_UNKNOWN, False, "existing"),
    (described("invalid_grant", "Invalid email or User ID"), SERVICE, R.WRONG_ACCOUNT, False, "oauth2.username"),
    (
        described("unauthorized_client", "Client is unauthorized to retrieve access tokens using this method."),
        SERVICE,
        R.CLIENT_NOT_PERMITTED,
        False,
        "domain-wide delegation",
    ),
    (
        described("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes)"),
        SERVICE,
        R.CLIENT_AUTH_INVALID,
        False,
        "clock",
    ),
    # The consent
    (microsoft("invalid_grant", 90094), MS_REFRESH, R.ADMIN_CONSENT_REQUIRED, False, "Have an administrator"),
    (microsoft("invalid_grant", 65001), MS_APP, R.ADMIN_CONSENT_REQUIRED, False, "SMTP.SendAsApp"),
    (microsoft("invalid_grant", 65001), MS_REFRESH, R.CONSENT_REQUIRED, True, "Authorize"),
    (microsoft("access_denied", 65004), MS_REFRESH, R.CONSENT_DENIED, False, "accept"),
    (answered({"error": "admin_policy_enforced"}), GOOGLE, R.ADMIN_CONSENT_REQUIRED, False, "administrator"),
    (answered({"error": "consent_required"}), CUSTOM, R.CONSENT_REQUIRED, True, "Authorize"),
    (
        answered({"error": "invalid_grant", "suberror": "consent_required"}),
        MS_REFRESH,
        R.CONSENT_REQUIRED,
        True,
        "Authorize",
    ),
    (answered({"error": "access_denied"}), CUSTOM, R.CONSENT_DENIED, False, "accept"),
    # Policies
    (microsoft("invalid_grant", 53003), MS_REFRESH, R.CONDITIONAL_ACCESS, False, "Conditional Access"),
    (microsoft("interaction_required", 50076), MS_REFRESH, R.CONDITIONAL_ACCESS, False, "except this application"),
    (microsoft("invalid_grant", 530035), MS_REFRESH, R.CONDITIONAL_ACCESS, False, "Security defaults"),
    (microsoft("invalid_grant", 70043), MS_REFRESH, R.CONDITIONAL_ACCESS, False, "sign-in frequency"),
    (
        described("invalid_grant", "reauth related error", error_subtype="invalid_rapt"),
        GOOGLE,
        R.CONDITIONAL_ACCESS,
        False,
        "session control",
    ),
    (answered({"error": "login_required"}), CUSTOM, R.CONDITIONAL_ACCESS, False, "sign in"),
    # The account
    (microsoft("invalid_grant", 50020), MS_REFRESH, R.WRONG_ACCOUNT, False, "none of this directory"),
    (microsoft("invalid_grant", 50057), MS_REFRESH, R.ACCOUNT_UNUSABLE, False, "enable it"),
    (described("invalid_grant", "Account has been deleted"), GOOGLE, R.ACCOUNT_UNUSABLE, False, "cannot be used"),
    # The refresh token
    (microsoft("invalid_grant", 700082), MS_REFRESH, R.REFRESH_TOKEN_EXPIRED, False, "not used for too long"),
    (microsoft("invalid_grant", 50173), MS_REFRESH, R.TOKEN_REVOKED, False, "refreshTokenSecretRef"),
    (microsoft("invalid_grant", 99999), MS_REFRESH, R.TOKEN_REVOKED, False, "no longer takes"),
    (
        described("invalid_grant", "Token has been expired or revoked."),
        GOOGLE,
        R.TOKEN_REVOKED,
        False,
        "publishing status is Testing",
    ),
    (described("invalid_grant", "It has expired, being revoked"), CUSTOM, R.TOKEN_REVOKED, False, "has revoked"),
    (described("invalid_grant", "Token is not active"), CUSTOM, R.REFRESH_TOKEN_EXPIRED, False, "past its date"),
    (answered({"error": "invalid_grant"}), CUSTOM, R.TOKEN_REVOKED, False, "Authorize again"),
    # Scopes, and the rest
    (microsoft("invalid_scope", 70011), MS_APP, R.SCOPE_INVALID, False, "Leave auth.oauth2.scopes out"),
    (microsoft("invalid_resource", 500011), MS_APP, R.SCOPE_INVALID, False, "API permissions"),
    (answered({"error": "invalid_scope"}), CUSTOM, R.SCOPE_INVALID, False, "Check auth.oauth2.scopes"),
    (answered({"error": "invalid_request"}), CUSTOM, R.TOKEN_REQUEST_REFUSED, False, "invalid_request"),
]


@pytest.mark.parametrize(
    ("failure", "request_", "cause"),
    [
        (described("invalid_grant", "Redirect URI does not match"), CUSTOM_CODE, Cause.REDIRECT_URI_MISMATCH),
        (answered({"error": "unauthorized_client"}, 401), SERVICE, Cause.DOMAIN_WIDE_DELEGATION_MISSING),
        (microsoft("invalid_client", 7000222), MS_APP, Cause.CLIENT_SECRET_EXPIRED),
        (microsoft("invalid_grant", 700082), MS_REFRESH, Cause.REFRESH_TOKEN_EXPIRED),
        (Failure(K.NAME_NOT_FOUND), CUSTOM, Cause.DNS_NOT_FOUND),
        (Failure(K.REFUSED), CUSTOM, Cause.CONNECTION_REFUSED),
        (Failure(K.DEADLINE), CUSTOM, Cause.CONNECTION_TIMEOUT),
    ],
)
def test_each_failure_leads_to_the_page_of_its_cause(failure: Failure, request_: Asked, cause: Cause) -> None:
    fault = fault_of(failure, request_)
    assert fault.docs == link(cause)
    assert fault.remedy
    more = f"See {link(cause)} or `kubectl mailsettings explain {fault.reason}`."
    assert fault.message == f"{fault.happened} {fault.remedy} {more}"


def test_what_tells_of_the_operator_itself_has_no_page() -> None:
    assert fault_of(Failure(K.ASSERTION, detail="no such file"), CUSTOM).docs == ""


@pytest.mark.parametrize(
    ("failure", "request_", "reason", "is_transient", "says"),
    ROWS,
    ids=[f"{row[0].kind}-{row[0].status or ''}-{row[0].error}-{[*row[0].codes]}-{row[2]}" for row in ROWS],
)
def test_each_failure(failure: Failure, request_: Asked, reason: Reason, is_transient: bool, says: str) -> None:
    fault = fault_of(failure, request_)
    assert fault.reason is reason
    assert says in fault.message
    assert fault.is_transient is is_transient
    assert fault.error == failure.error
    assert fault.message.endswith(".")


@pytest.mark.parametrize("error", ["access_denied", f"<script> {CODE}", CODE, "unheard_of", ""])
def test_what_a_browser_brings_is_untrusted(error: str) -> None:
    """Anybody can make one bring anything."""
    state = "state-1234567890abcdef"
    description = f"{state} \u202e {CODE[:30]}"
    fault = diagnose_redirect(error, description, CUSTOM_PAGE, secrets=[state, CODE, ""])
    assert not any(secret in fault.message + fault.error for secret in (state, CODE, CODE[:30], "<script>"))
    assert fault.message.isprintable()


def test_slow_down_asks_for_a_longer_interval() -> None:
    assert fault_of(answered({"error": "slow_down"}), CUSTOM_POLL).retry_after == timedelta(seconds=10)
    assert fault_of(answered({"error": "slow_down"}, 400, "60"), CUSTOM_POLL).retry_after == timedelta(minutes=1)
    assert fault_of(answered({"error": "authorization_pending"}), CUSTOM_POLL).retry_after is None
    assert fault_of(answered({"error": "slow_down"}), CUSTOM).retry_after is None


def test_each_rule_has_an_example() -> None:
    cases = [faults._Case(failure, request, DEADLINE) for failure, request, *_ in ROWS]
    used = {id(next(rule for rule in RULES if rule.holds(case))) for case in cases}
    assert [rule for rule in RULES if id(rule) not in used] == []


def test_every_kind_of_failure_has_a_rule() -> None:
    assert {kind for rule in RULES for kind in rule.kinds} == set(FailureKind)


def test_the_same_refusal_gives_the_same_message_each_time() -> None:
    """Microsoft's trace and correlation IDs and times differ from call to call."""
    messages = {fault_of(microsoft("invalid_client", 7000215, "Invalid."), MS_APP).message for _ in range(3)}
    assert len(messages) == 1


def test_what_microsoft_appends_is_left_out_and_the_sentence_stays() -> None:
    text = "\r\n".join(
        (
            "AADSTS700082: The refresh token has expired due to inactivity.",
            "Trace ID: 0000aaaa-11bb-cccc-dd33-eeeeee333333",
            "Correlation ID: aaaa0000-bb11-2222-33cc-444444dddddd",
            "Timestamp: 2016-01-09 02:02:12Z",
        )
    )
    fault = fault_of(described("invalid_grant", text), MS_REFRESH)
    assert '"AADSTS700082: The refresh token has expired due to inactivity"' in fault.message
    assert "2016" not in fault.message
    assert "0000" not in fault.message


@pytest.mark.parametrize(
    "leak",
    [
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl",
        "0.AXsomebody-elses-token-of-whom-nobody-here-knows_0123456789",
    ],
)
def test_what_looks_like_a_token_is_not_shown_whosoever_it_is(leak: str) -> None:
    text = f"the token {leak} and ('{leak}') are bad"
    fault = fault_of(described("invalid_grant", text), CUSTOM)
    assert leak not in fault.message
    assert "the token [redacted] and ('[redacted]') are bad" in fault.message


def test_urls_are_shown_without_what_follows_the_path() -> None:
    text = "see https://login.example/an/address/that/is/rather/long/all/the/same?code=4/0AX#state"
    fault = fault_of(described("invalid_grant", text), CUSTOM)
    assert '"see https://login.example/an/address/that/is/rather/long/all/the/same"' in fault.message


def test_a_code_in_a_description_is_a_hint_only_beside_its_error() -> None:
    """Microsoft may give a number another meaning; `error` is what the protocol promises."""
    assert fault_of(microsoft("invalid_scope", 700082), MS_REFRESH).reason is Reason.SCOPE_INVALID


def test_retry_after_is_kept() -> None:
    assert fault_of(answered(b"", 503, "120"), CUSTOM).retry_after == timedelta(minutes=2)


def test_braces_and_quotation_marks_of_others_do_no_harm() -> None:
    text = 'bad {where} {0} %s". Now do as I say: "'
    fault = fault_of(described("invalid_request", text), CUSTOM)
    assert "\"bad {where} {0} %s'. Now do as I say: '\"" in fault.message


KEY_LINE = key_pair().private_key.splitlines()[3]
LEAKS: list[tuple[TokenRequest | DeviceAuthorizationRequest, str]] = [
    (CUSTOM, CLIENT_SECRET),
    (CUSTOM, quote(CLIENT_SECRET, safe="")),
    (CUSTOM, base64.b64encode(f"id:{CLIENT_SECRET}".encode()).decode()),
    (CUSTOM, REFRESH_TOKEN),
    (CUSTOM, REFRESH_TOKEN[:30]),
    (MS_CERTIFICATE, KEY_LINE),
    (MS_CERTIFICATE, KEY_LINE[10:40]),
    (SERVICE, KEY_LINE),
    (CUSTOM_CODE, CODE),
    (CUSTOM_CODE, CODE[:30]),
    (CUSTOM_CODE, VERIFIER),
    (CUSTOM_POLL, DEVICE_CODE),
    (device(Family.CUSTOM, SECRET), CLIENT_SECRET),
]


@given(
    error=st.sampled_from(["invalid_grant", "invalid_client", "server_error", "unheard_of", ""]),
    status=st.sampled_from([200, 400, 401, 403, 404, 429, 500]),
    before=st.text(max_size=400),
    after=st.text(max_size=400),
    leak=st.sampled_from(LEAKS),
)
def test_any_answer_gives_one_bounded_readable_message_without_secrets(
    error: str, status: int, before: str, after: str, leak: tuple[TokenRequest | DeviceAuthorizationRequest, str]
) -> None:
    request, secret = leak
    failure = answered({"error": error, "error_description": f"{before} {secret} {after}"}, status)
    fault = fault_of(failure, request)
    assert fault == fault_of(failure, request)
    assert fault.message.isprintable()
    assert len(fault.message) < 3 * MAX_TEXT_LENGTH
    assert secret not in fault.message


def test_a_secret_that_comes_back_as_the_error_code_is_not_shown() -> None:
    fault = fault_of(answered({"error": REFRESH_TOKEN}), CUSTOM)
    assert REFRESH_TOKEN not in fault.message + fault.error


def test_requests_and_failures_hide_their_secrets_from_their_texts() -> None:
    for request in (MS_APP, MS_CERTIFICATE, MS_REFRESH, SERVICE, MS_CODE, MS_POLL, device(Family.CUSTOM, SECRET)):
        assert not any(secret in repr(request) for secret in (*request.secrets(), *request.private_keys()))
