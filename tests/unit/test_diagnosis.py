"""From faults to reasons and messages."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.api.conditions import Reason
from mailsettings.api.connection import ProxyProtocol
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import TlsMode
from mailsettings.core import diagnosis
from mailsettings.core import probe as interface
from mailsettings.core.causes import engine
from mailsettings.core.causes.clues import Failure
from mailsettings.core.causes.reasons import REASONS
from mailsettings.core.diagnosis import MAX_REPLY_LENGTH, Fault, FaultKind, diagnose, withheld
from mailsettings.core.probe import ProbeRequest, Stage
from mailsettings.core.remedies import REMEDIES
from mailsettings.core.rules import first
from mailsettings.core.sasl import Mechanism, initial_response
from mailsettings.core.server import BearerToken, Credentials, Proxy, Server, Source

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse battery staple"
LOGIN = Credentials("no-reply@acme.example", PASSWORD)
MAIL = interface.TestMail(
    "Acme <no-reply@acme.example>", "ops@acme.example", interface.Origin("MailServerSettings acme/smtp", "acme")
)
START_TLS = ProbeRequest(
    Server("smtp.example.com", 587, TlsMode.START_TLS, timedelta(seconds=10)),
    ProbeMode.SEND,
    Source.TENANT,
    LOGIN,
    MAIL,
)


def with_server(request: ProbeRequest, **changes: Any) -> ProbeRequest:
    return replace(request, server=replace(request.server, **changes))


BEHIND_PROXY = with_server(
    START_TLS, proxy=Proxy(ProxyProtocol.SOCKS5, "p.example", 1080, Credentials("proxy-user", "proxy-word"))
)
PLAIN = with_server(START_TLS, tls_mode=TlsMode.DISABLED, port=25)
IMPLICIT = with_server(START_TLS, tls_mode=TlsMode.IMPLICIT, port=465)
NO_LOGIN = replace(PLAIN, credentials=None)
TOKEN = "".join(f"eyJ{number:04}aBc-_." for number in range(200))
BEARER = BearerToken(LOGIN.username, TOKEN)
BY_TOKEN = replace(START_TLS, credentials=BEARER)
OFFICE365 = replace(START_TLS, provider="Office365")
INVALID_TOKEN = base64.b64encode(b'{"status":"invalid_token","scope":"mail.send"}').decode()


def reply(stage: Stage, code: int, text: str = "", challenge: str = "") -> Fault:
    return Fault(stage, FaultKind.REPLY, code, text, challenge)


S, K, R = Stage, FaultKind, Reason
ROWS: list[tuple[Fault, ProbeRequest, Reason, str]] = [
    # Before and at the connect
    (
        Fault(S.CONNECT, K.EGRESS_DENIED, detail="it has a loopback address"),
        START_TLS,
        R.EGRESS_DENIED,
        "Connect: The operator's egress policy forbids smtp.example.com:587: it has a loopback address. ",
    ),
    (
        Fault(S.PROXY, K.PROXY_DENIED, detail="it is not listed"),
        BEHIND_PROXY,
        R.EGRESS_DENIED,
        "Proxy: The operator's egress policy forbids the proxy socks5://p.example:1080: it is not listed. ",
    ),
    (
        Fault(S.PROXY, K.PROXY_LOGIN, detail="it wants one"),
        BEHIND_PROXY,
        R.PROXY_AUTH_REQUIRED,
        "Proxy: The proxy socks5://p.example:1080 lets nobody through to smtp.example.com:587 without a login that it "
        "knows: it wants one. ",
    ),
    (
        Fault(S.PROXY, K.PROXY_FAILURE, detail="it is shut"),
        BEHIND_PROXY,
        R.PROXY_FAILURE,
        "Proxy: The proxy socks5://p.example:1080 made no connection to smtp.example.com:587: it is shut. ",
    ),
    (
        Fault(S.RESOLVE, K.NAME_NOT_FOUND),
        START_TLS,
        R.DNS_NOT_FOUND,
        "DNS: There is no address for the name smtp.example.com. ",
    ),
    (Fault(S.RESOLVE, K.NAME_TEMPORARY), START_TLS, R.DNS_NOT_FOUND, "gave no answer for smtp.example.com"),
    (Fault(S.CONNECT, K.REFUSED), START_TLS, R.CONNECTION_REFUSED, "nothing listens on that port"),
    (Fault(S.CONNECT, K.UNREACHABLE, detail="no route to host"), START_TLS, R.PORT_BLOCKED, "no route to host"),
    (Fault(S.CONNECT, K.TIMEOUT), START_TLS, R.CONNECTION_TIMEOUT, "within 10s. Check connection.host"),
    (Fault(S.CONNECT, K.TIMEOUT), PLAIN, R.CONNECTION_TIMEOUT, "block port 25"),
    (Fault(S.MAIL, K.DEADLINE), START_TLS, R.CONNECTION_TIMEOUT, "during the sender address"),
    # TLS
    (Fault(S.GREETING, K.TLS_BYTES), START_TLS, R.IMPLICIT_TLS_EXPECTED, "Set connection.tls.mode to Implicit"),
    (Fault(S.GREETING, K.TIMEOUT), with_server(START_TLS, port=465), R.IMPLICIT_TLS_EXPECTED, "port 465"),
    (Fault(S.GREETING, K.LOST), with_server(PLAIN, port=465), R.IMPLICIT_TLS_EXPECTED, "tls.mode is Disabled"),
    (Fault(S.GREETING, K.TIMEOUT), START_TLS, R.CONNECTION_TIMEOUT, "no complete greeting within 10s"),
    (Fault(S.GREETING, K.TIMEOUT), IMPLICIT, R.CONNECTION_TIMEOUT, "the connect with a greeting within 10s"),
    (Fault(S.GREETING, K.LOST), START_TLS, R.SERVER_TEMPORARY, "closed the connection"),
    (Fault(S.TLS, K.PLAIN_BYTES), IMPLICIT, R.START_TLS_EXPECTED, "Set connection.tls.mode to StartTLS"),
    (
        Fault(S.TLS, K.PLAIN_BYTES, detail="wrong version number"),
        START_TLS,
        R.SERVER_MISCONFIGURED,
        "went on in the clear: wrong version number",
    ),
    (Fault(S.TLS, K.STARTTLS_NOT_OFFERED), START_TLS, R.START_TLS_NOT_OFFERED, "does not offer STARTTLS"),
    (Fault(S.TLS, K.TLS_VERSION), START_TLS, R.TLS_PROTOCOL_VERSION, "minVersion is TLSv1.2"),
    (
        Fault(S.TLS, K.CERTIFICATE_NAME),
        with_server(START_TLS, tls_server_name="mail.acme.example"),
        R.CERTIFICATE_NAME_MISMATCH,
        "not valid for mail.acme.example",
    ),
    (
        Fault(S.TLS, K.CERTIFICATE_DATE, detail="certificate has expired"),
        START_TLS,
        R.CERTIFICATE_EXPIRED,
        "has expired",
    ),
    (
        Fault(S.TLS, K.CERTIFICATE_UNTRUSTED, detail="self-signed certificate"),
        START_TLS,
        R.CERTIFICATE_UNTRUSTED,
        "caBundle",
    ),
    (Fault(S.TLS, K.CA_BUNDLE), START_TLS, R.CA_BUNDLE_INVALID, "connection.tls.caBundle"),
    (
        Fault(S.TLS, K.TLS_OTHER, detail="sslv3 alert handshake failure"),
        START_TLS,
        R.TLS_PROTOCOL_VERSION,
        "TLS handshake with smtp.example.com:587 failed: sslv3 alert handshake failure. Have the side",
    ),
    (Fault(S.TLS, K.TLS_OTHER, detail="xyzzy"), START_TLS, R.TLS_PROTOCOL_VERSION, "failed: xyzzy. Have the side"),
    (
        Fault(S.TLS, K.TLS_OTHER, detail="tlsv1 alert internal error"),
        START_TLS,
        R.SERVER_MISCONFIGURED,
        "failed: tlsv1 alert internal error. Whoever runs the server",
    ),
    (Fault(S.TLS, K.TIMEOUT), IMPLICIT, R.CONNECTION_TIMEOUT, "set connection.tls.mode to StartTLS"),
    (Fault(S.TLS, K.TIMEOUT), START_TLS, R.CONNECTION_TIMEOUT, "did not answer the TLS handshake within 10s"),
    (Fault(S.AUTH, K.LOST), START_TLS, R.SERVER_TEMPORARY, "instead of answering the login"),
    (
        reply(S.TLS, 454, "4.7.0 TLS not available"),
        START_TLS,
        R.START_TLS_NOT_OFFERED,
        "deferred STARTTLS with 454 4.7.0",
    ),
    # AUTH
    (Fault(S.AUTH, K.AUTH_AFTER_STARTTLS), PLAIN, R.START_TLS_EXPECTED, "only after STARTTLS"),
    (Fault(S.AUTH, K.AUTH_NOT_OFFERED), START_TLS, R.AUTH_NOT_OFFERED, "the password was not sent"),
    (
        Fault(S.AUTH, K.MECHANISM_UNSUPPORTED, detail="GSSAPI, XOAUTH2"),
        START_TLS,
        R.AUTH_MECHANISM_UNSUPPORTED,
        "by GSSAPI, XOAUTH2 only",
    ),
    (
        reply(S.MAIL, 530, "5.7.0 Must issue a STARTTLS command first"),
        PLAIN,
        R.START_TLS_EXPECTED,
        "Set connection.tls.mode to StartTLS",
    ),
    (
        reply(S.MAIL, 451, "5.7.3 STARTTLS is required to send mail"),
        NO_LOGIN,
        R.START_TLS_EXPECTED,
        '451 5.7.3 "STARTTLS is required',
    ),
    (reply(S.AUTH, 538, "5.7.11 not so"), PLAIN, R.START_TLS_EXPECTED, "Probably: The port begins in the clear"),
    (
        reply(S.MAIL, 530, "5.7.0 Must issue a STARTTLS command first"),
        START_TLS,
        R.START_TLS_EXPECTED,
        "The connection is encrypted already",
    ),
    (
        reply(S.AUTH, 535, "5.7.8 Error: authentication failed"),
        START_TLS,
        R.BAD_CREDENTIALS,
        'AUTH: smtp.example.com:587 refused the login with 535 5.7.8 "Error: authentication failed". '
        "User name, password or token refused. Check the user name, and the password in the Secret that "
        "auth.basic.passwordSecretRef names",
    ),
    (
        reply(S.AUTH, 535, "Authentication failed: Bad username / password"),
        replace(START_TLS, provider="SendGrid"),
        R.BAD_CREDENTIALS,
        "The user name is apikey for every account",
    ),
    (reply(S.AUTH, 535, ""), START_TLS, R.BAD_CREDENTIALS, "refused the login with 535. Probably: User name"),
    (
        reply(
            S.AUTH,
            535,
            "5.7.8 Username and Password not accepted. For more information, go to\n5.7.8  https://support.google.com/mail/?p=BadCredentials",
        ),
        START_TLS,
        R.BAD_CREDENTIALS,
        '535 5.7.8 "Username and Password not accepted. For more information, go to https://support.google.com/mail/?p=BadCredentials"',
    ),
    (
        reply(S.AUTH, 535, "5.7.139 Authentication unsuccessful, the user credentials were incorrect."),
        OFFICE365,
        R.BAD_CREDENTIALS,
        "the password in the Secret that auth.basic.passwordSecretRef names",
    ),
    (
        reply(S.AUTH, 535, "5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant."),
        START_TLS,
        R.SMTP_AUTH_DISABLED_TENANT,
        'disabled for the Tenant.". Exchange Online: SMTP AUTH is off for the whole tenant. An Exchange administrator '
        "enables it for this mailbox only, which overrides the tenant's setting, or for the tenant. Run: "
        "`Set-CASMailbox -Identity MAILBOX -SmtpClientAuthenticationDisabled $false` or `Set-TransportConfig "
        "-SmtpClientAuthenticationDisabled $false`. See docs/troubleshooting.md#smtpauthdisabledtenant or ",
    ),
    (
        reply(S.AUTH, 550, "5.7.30 Basic authentication is not supported for Client Submission."),
        START_TLS,
        R.BASIC_AUTH_DISABLED,
        "Use auth.oauth2",
    ),
    (
        reply(S.AUTH, 534, "5.7.9 Application-specific password required."),
        START_TLS,
        R.APP_PASSWORD_REQUIRED,
        "Create an app password",
    ),
    (reply(S.AUTH, 550, "5.7.8 no"), START_TLS, R.BAD_CREDENTIALS, '550 5.7.8 "no". Probably: '),
    (reply(S.AUTH, 503, "5.5.1 Error: authentication not enabled"), START_TLS, R.AUTH_NOT_OFFERED, "remove auth"),
    (
        reply(S.AUTH, 504, "5.5.4 Unrecognized authentication type"),
        START_TLS,
        R.AUTH_MECHANISM_UNSUPPORTED,
        "504 5.5.4",
    ),
    (
        reply(S.AUTH, 454, "4.7.0 Temporary authentication failure"),
        START_TLS,
        R.SERVER_TEMPORARY,
        "deferred the login with 454",
    ),
    (reply(S.AUTH, 421, "4.7.0 Try again later"), START_TLS, R.SERVER_TEMPORARY, "421 4.7.0"),
    (reply(S.AUTH, 334, ""), START_TLS, R.PROTOCOL_ERROR, "answered the login with 334"),
    # AUTH by an access token
    (Fault(S.AUTH, K.AUTH_NOT_OFFERED), BY_TOKEN, R.AUTH_NOT_OFFERED, "the access token was not sent"),
    (
        Fault(S.AUTH, K.MECHANISM_UNSUPPORTED, detail="PLAIN, LOGIN"),
        BY_TOKEN,
        R.AUTH_MECHANISM_UNSUPPORTED,
        "by PLAIN, LOGIN only, and not by XOAUTH2 or OAUTHBEARER; the access token was not sent",
    ),
    (Fault(S.AUTH, K.TOKEN_UNSENDABLE, detail="it is empty"), BY_TOKEN, R.TOKEN_UNUSABLE, "cannot be sent"),
    (
        reply(S.AUTH, 535, "5.7.8 Error: authentication failed", INVALID_TOKEN),
        BY_TOKEN,
        R.TOKEN_EXPIRED,
        'AUTH: smtp.example.com:587 refused the access token with 535 5.7.8 "Error: authentication failed" '
        'after the challenge "status invalid_token, scope mail.send". The access token is past its time. '
        "A renewed token is tried at once.",
    ),
    (reply(S.AUTH, 535), BY_TOKEN, R.BAD_CREDENTIALS, "refused. Check that the token is for this very mailbox"),
    (reply(S.AUTH, 534, "5.7.9 Log in by a web browser."), BY_TOKEN, R.ACCOUNT_BLOCKED, "534 5.7.9"),
    (reply(S.AUTH, 550, "5.7.8 no"), BY_TOKEN, R.BAD_CREDENTIALS, "550 5.7.8"),
    (reply(S.AUTH, 554, "no", INVALID_TOKEN), BY_TOKEN, R.TOKEN_EXPIRED, 'challenge "status invalid_token'),
    (reply(S.AUTH, 334, INVALID_TOKEN, INVALID_TOKEN), BY_TOKEN, R.TOKEN_EXPIRED, 'challenge "status invalid_token'),
    (reply(S.AUTH, 334, "bm8="), BY_TOKEN, R.PROTOCOL_ERROR, "answered the login with 334"),
    (
        reply(S.AUTH, 535, "5.7.3 Authentication unsuccessful [XX0PR00CA0000.example.prod.outlook.com]"),
        with_server(BY_TOKEN, host="smtp.office365.com"),
        R.WRONG_TOKEN_SCOPE_OR_AUDIENCE,
        "SMTP.SendAsApp",
    ),
    (
        reply(
            S.AUTH, 535, "5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox."
        ),
        BY_TOKEN,
        R.SMTP_AUTH_DISABLED_MAILBOX,
        "refused the access token with 535 5.7.139",
    ),
    (reply(S.AUTH, 501, "5.5.127 Token expires soon"), BY_TOKEN, R.TOKEN_EXPIRED, "ten minutes"),
    (
        reply(S.AUTH, 500, "5.5.2 AUTH response line too long 4fb4d7f45d1cf-5c88e0 - gsmtp"),
        BY_TOKEN,
        R.PROTOCOL_ERROR,
        "a service account's own address: set it to the mailbox",
    ),
    (
        reply(S.AUTH, 555, "5.5.2 Syntax error, command line too long"),
        BY_TOKEN,
        R.PROTOCOL_ERROR,
        "longer than this server takes",
    ),
    (reply(S.AUTH, 500, "5.5.6 no"), BY_TOKEN, R.PROTOCOL_ERROR, "longer than this server takes"),
    (
        reply(S.AUTH, 454, "4.7.0 Temporary authentication failure", INVALID_TOKEN),
        BY_TOKEN,
        R.TOKEN_EXPIRED,
        "deferred the access token with 454 4.7.0",
    ),
    # The envelope and the mail
    (reply(S.MAIL, 530, "5.7.0 Authentication required"), NO_LOGIN, R.AUTH_REQUIRED, "Set auth: "),
    (
        reply(S.MAIL, 530, "5.7.57 Client not authenticated to send mail."),
        START_TLS,
        R.AUTH_REQUIRED,
        "The login went well, and the server does not count it",
    ),
    (reply(S.MAIL, 550, "Unauthenticated senders not allowed"), NO_LOGIN, R.AUTH_REQUIRED, "Set auth: "),
    (
        reply(S.MAIL, 550, "5.1.8 no"),
        START_TLS,
        R.SENDER_NOT_ALLOWED,
        "refused the sender Acme <no-reply@acme.example>",
    ),
    (
        reply(S.RCPT, 553, "5.7.1 <a@b>: Sender address rejected: not owned by user a"),
        START_TLS,
        R.SENDER_NOT_ALLOWED,
        "Set mailFrom",
    ),
    (
        reply(S.DATA, 550, "5.7.60 SMTP; Client does not have permissions to send as this sender"),
        START_TLS,
        R.SENDER_NOT_ALLOWED,
        "an address that the server accepts for this login",
    ),
    (
        reply(S.DATA, 554, "5.2.252 SendAsDenied; a@b not allowed to send as c@d"),
        OFFICE365,
        R.SENDER_NOT_ALLOWED,
        "Run: `Add-RecipientPermission",
    ),
    (
        reply(S.DATA, 550, "The from address does not match a verified Sender Identity."),
        START_TLS,
        R.SENDER_NOT_VERIFIED,
        "Verify the address or the domain",
    ),
    (
        reply(S.RCPT, 554, "5.7.1 <ops@acme.example>: Relay access denied"),
        NO_LOGIN,
        R.RELAY_DENIED,
        "Set auth, or have the server admit the cluster",
    ),
    (
        reply(S.RCPT, 454, "4.7.1 <ops@acme.example>: Relay access denied"),
        START_TLS,
        R.RELAY_DENIED,
        "Use another probe.recipient",
    ),
    (
        reply(S.MAIL, 550, "5.7.1 Invalid credentials for relay [192.0.2.1]. The IP address you've registered"),
        replace(NO_LOGIN, provider="Google"),
        R.RELAY_DENIED,
        "have the server admit the cluster's outbound addresses",
    ),
    (reply(S.RCPT, 550, "5.1.1 User unknown"), START_TLS, R.RECIPIENT_REJECTED, "it is probe.recipient"),
    (reply(S.RCPT, 450, "4.2.0 Greylisted"), START_TLS, R.GREYLISTED, "Greylisted"),
    (reply(S.DATA, 554, "5.6.0 content rejected"), START_TLS, R.CONTENT_REJECTED, "content rejected"),
    # Otherwise
    (reply(S.GREETING, 554, "5.7.1 no"), START_TLS, R.IP_BLOCKED, "refused the session with 554 5.7.1"),
    (reply(S.EHLO, 354, "what"), START_TLS, R.PROTOCOL_ERROR, "which has no place there"),
    (Fault(S.GREETING, K.GARBAGE), START_TLS, R.PROTOCOL_ERROR, "is not SMTP"),
    # The operator's own bound
    (
        Fault(S.DATA, K.MAIL_HELD, detail="the bound is reached; there is room again at noon"),
        START_TLS,
        R.MAIL_LIMIT_REACHED,
        "DATA: The test mail was not sent: the bound is reached; there is room again at noon. Test again",
    ),
    (
        Fault(S.DATA, K.MAIL_NOT_COUNTED, detail="the API server says 403 Forbidden"),
        START_TLS,
        R.MAIL_NOT_COUNTED,
        "counted beforehand: the API server says 403 Forbidden. If it lasts, ask the cluster's administrator",
    ),
]


@pytest.mark.parametrize(
    ("fault", "request_", "reason", "says"),
    ROWS,
    ids=[f"{fault.stage}-{fault.kind}-{fault.code or ''}-{reason}" for fault, _, reason, _ in ROWS],
)
def test_each_fault(fault: Fault, request_: ProbeRequest, reason: Reason, says: str) -> None:
    failure = diagnose(fault, request_)
    assert failure.reason is reason
    assert says in failure.explained
    assert failure.stage is fault.stage
    assert failure.code == fault.code


@pytest.mark.parametrize(
    ("until", "reason", "says"),
    [
        (datetime(2026, 1, 1, 13, tzinfo=UTC), R.MAIL_LIMIT_REACHED, "enough; there is room again at 2026-01-01T13:00"),
        (None, R.MAIL_NOT_COUNTED, "enough. "),
    ],
)
def test_a_mail_that_may_not_be_sent(until: datetime | None, reason: Reason, says: str) -> None:
    hold = interface.Hold("enough", until)
    result = withheld(START_TLS, hold)
    assert result.failure is not None
    assert (result.hold, result.failure.reason, result.failure.stage) == (hold, reason, Stage.DATA)
    assert says in result.failure.explained
    assert result.failure.is_transient is (until is None), "a test has to be created again"
    assert result.failure.docs == "docs/operations.md#the-bound-on-test-mails"


def test_each_rule_has_an_example() -> None:
    cases = [diagnosis._case(fault, request) for fault, request, *_ in ROWS]
    used = {first(diagnosis._RULES, case) for case in cases}
    assert [rule for rule in diagnosis._RULES if rule not in used] == []


def test_each_remedy_has_an_example() -> None:
    told = {diagnose(fault, request).remedy for fault, request, *_ in ROWS}
    assert [remedy.text for remedy in REMEDIES if remedy.text not in told] == []


def test_every_kind_of_fault_has_a_rule_of_its_own_or_is_understood_by_the_engine() -> None:
    ruled = {kind for rule in diagnosis._RULES for kind in rule.kinds or ()}
    assert {*FaultKind} - ruled == {FaultKind.TLS_OTHER}


@pytest.mark.parametrize(("fault", "request_"), [row[:2] for row in ROWS])
def test_every_failure_says_what_to_do_and_where_more_is_told(fault: Fault, request_: ProbeRequest) -> None:
    failure = diagnose(fault, request_)
    assert failure.message.endswith(".")
    assert failure.remedy.endswith(".")
    more = f"See {failure.docs} or `kubectl mailsettings explain {failure.reason}`."
    assert failure.explained == f"{failure.message} {failure.remedy} {more}"
    assert "`" not in failure.remedy.replace("Run: `", "").replace("` or `", "").replace("`.", ".")
    page, _, anchor = failure.docs.partition("#")
    headings = [line.lstrip("# ") for line in (ROOT / page).read_text().splitlines() if line.startswith("#")]
    assert anchor in [heading.lower().replace(" ", "-") for heading in headings]


def test_the_engine_decides_what_a_reply_means_and_knows_where_it_was_said() -> None:
    """There is no second table: with other rules the condition has another reason."""
    for stage, code, text in [
        (S.AUTH, 535, "5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults."),
        (S.DATA, 550, "5.4.5 Daily user sending limit exceeded."),
        (S.MAIL, 451, "Maximum credits exceeded"),
        (S.RCPT, 550, "5.7.1 xyzzy"),
        (S.DATA, 550, "5.7.1 xyzzy"),
        (S.GREETING, 421, "4.7.0 Too many connections"),
        (S.RCPT, 452, "4.2.2 mailbox full"),
    ]:
        found = engine.diagnose(Failure(f"{code} {text}", stage, "Custom", "basic"))
        assert diagnose(reply(stage, code, text), START_TLS).reason is REASONS[found.cause]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (BY_TOKEN, R.BAD_CREDENTIALS),
        (replace(BY_TOKEN, provider="Office365"), R.WRONG_TOKEN_SCOPE_OR_AUDIENCE),
        (with_server(BY_TOKEN, host="SMTP.office365.com."), R.WRONG_TOKEN_SCOPE_OR_AUDIENCE),
        (OFFICE365, R.BAD_CREDENTIALS),
    ],
    ids=["custom", "provider", "host", "password"],
)
def test_provider_and_login_are_known_to_the_engine(request_: ProbeRequest, reason: Reason) -> None:
    assert diagnose(reply(S.AUTH, 535, "5.7.3 Authentication unsuccessful"), request_).reason is reason


@pytest.mark.parametrize(
    ("fault", "is_transient"),
    [
        (Fault(S.RESOLVE, K.NAME_NOT_FOUND), False),
        (Fault(S.RESOLVE, K.NAME_TEMPORARY), True),
        (Fault(S.CONNECT, K.UNREACHABLE, detail="no route to host"), True),
        (Fault(S.CONNECT, K.REFUSED), True),
        (Fault(S.TLS, K.CERTIFICATE_DATE, detail="expired"), False),
        (reply(S.AUTH, 535, "5.7.8 no"), False),
        (reply(S.RCPT, 554, "5.7.1 Relay access denied"), False),
        (reply(S.RCPT, 454, "4.7.1 Relay access denied"), True),
        (reply(S.MAIL, 451, "5.7.3 STARTTLS is required"), False),
        (reply(S.DATA, 550, "5.4.5 Daily user sending limit exceeded."), True),
    ],
)
def test_whether_waiting_can_help(fault: Fault, is_transient: bool) -> None:
    assert diagnose(fault, START_TLS).is_transient is is_transient


def test_an_error_challenge_that_begins_in_another_way_is_understood_too() -> None:
    challenge = base64.b64encode(b'{ "status" : "400", "schemes": "Bearer", "scope": "https://mail.google.com/"}')
    failure = diagnose(
        reply(S.AUTH, 535, "5.7.8 Username and Password not accepted.", challenge.decode()),
        replace(BY_TOKEN, provider="Google"),
    )
    assert failure.reason is R.WRONG_TOKEN_SCOPE_OR_AUDIENCE


@pytest.mark.parametrize(
    ("text", "enhanced"),
    [
        ("5.7.8 no", "5.7.8"),
        ("5.7.139 no", "5.7.139"),
        ("4.2.0", "4.2.0"),
        ("2.0.0 ok", "2.0.0"),
        ("no code\n5.1.1 on the second line", "5.1.1"),
        ("5.7.8no", None),
        ("3.7.8 no", None),
        ("5.7.1000 no", None),
        ("10.5.7.8 is an address", None),
        ("5.7.8.1 no", None),
        ("", None),
    ],
)
def test_enhanced_codes(text: str, enhanced: str | None) -> None:
    assert diagnose(reply(Stage.MAIL, 550, text), START_TLS).enhanced_code == enhanced


def test_ipv6_hosts_have_brackets() -> None:
    failure = diagnose(Fault(Stage.CONNECT, FaultKind.REFUSED), with_server(START_TLS, host="2001:db8::1"))
    assert "[2001:db8::1]:587 refused" in failure.message


def test_braces_of_others_are_no_placeholders() -> None:
    failure = diagnose(reply(Stage.MAIL, 550, "{where} {0} {reply.__class__} %s"), START_TLS)
    assert '"{where} {0} {reply.__class__} %s"' in failure.message


def test_quotation_marks_of_others_do_not_end_the_quotation() -> None:
    failure = diagnose(reply(Stage.MAIL, 550, 'bad". Now do as I say: "'), START_TLS)
    assert "\"bad'. Now do as I say: '\"" in failure.message


def test_a_secret_is_scrubbed_before_the_text_is_cut() -> None:
    for padding in range(MAX_REPLY_LENGTH - len(PASSWORD), MAX_REPLY_LENGTH):
        failure = diagnose(reply(Stage.AUTH, 535, "x" * (padding - 1) + " " + PASSWORD), START_TLS)
        assert "corr" not in failure.message


def base64_of(mechanism: Mechanism) -> str:
    return initial_response(mechanism, BEARER, START_TLS.server).decode()


PASSWORD_FORMS = [
    PASSWORD,
    base64.b64encode(PASSWORD.encode()).decode(),
    base64.b64encode(f"\0{LOGIN.username}\0{PASSWORD}".encode()).decode(),
]
TOKEN_FORMS = [TOKEN, *map(base64_of, Mechanism)]


@pytest.mark.parametrize("secret", TOKEN_FORMS, ids=["token", *(mechanism.value for mechanism in Mechanism)])
@pytest.mark.parametrize("in_challenge", [False, True])
def test_no_piece_of_a_token_is_shown(secret: str, in_challenge: bool) -> None:
    """Servers cut and wrap long lines when they repeat them."""
    middle = len(secret) // 2
    for echo in (secret, secret[:100], secret[middle : middle + 60], secret[-70:], f"{secret[:80]}\n{secret[80:160]}"):
        challenge = base64.b64encode(json.dumps({"status": "no", "scope": echo}).encode()).decode()
        fault = reply(Stage.AUTH, 535, "no", challenge) if in_challenge else reply(Stage.AUTH, 535, f"5.7.8 {echo}")
        message = diagnose(fault, BY_TOKEN).message
        assert "[redacted]" in message
        assert not any(secret[start : start + 16] in message for start in range(len(secret) - 15))


@pytest.mark.parametrize("challenge", ["", "%", "bm8=", base64.b64encode(b"[1]").decode(), "A" * 9000])
def test_a_challenge_that_says_nothing_is_not_shown(challenge: str) -> None:
    assert "challenge" not in diagnose(reply(Stage.AUTH, 535, "5.7.8 no", challenge), BY_TOKEN).message


@given(
    stage=st.sampled_from(Stage),
    kind=st.sampled_from(FaultKind),
    code=st.integers(200, 599),
    before=st.text(max_size=400),
    after=st.text(max_size=400),
    request=st.sampled_from([START_TLS, PLAIN, IMPLICIT]),
    form=st.sampled_from([*PASSWORD_FORMS, *TOKEN_FORMS]),
)
def test_any_fault_gives_one_bounded_readable_message_without_secrets(
    stage: Stage, kind: FaultKind, code: int, before: str, after: str, request: ProbeRequest, form: str
) -> None:
    request = replace(request, credentials=BEARER) if form in TOKEN_FORMS else request
    said = json.dumps({"status": before, "scope": form, "openid-configuration": after})
    challenge = base64.b64encode(said.encode()).decode()
    fault = Fault(stage, kind, code, f"{before} {form} {after}", challenge, "detail")
    failure = diagnose(fault, request)
    assert failure == diagnose(fault, request)
    assert failure.explained.isprintable()
    assert len(failure.message) < 3 * MAX_REPLY_LENGTH
    assert len(failure.explained) < 5 * MAX_REPLY_LENGTH
    assert form not in failure.explained
    assert "{" not in failure.message.replace(before, "") or "{" in before + after


@pytest.mark.parametrize("secret", ["proxy-word", "proxy-user", base64.b64encode(b"proxy-user:proxy-word").decode()])
def test_the_proxys_login_is_taken_out_too(secret: str) -> None:
    found = diagnose(reply(S.GREETING, 554, f"you said {secret}"), BEHIND_PROXY)
    assert "you said" in found.message
    assert secret not in found.message
