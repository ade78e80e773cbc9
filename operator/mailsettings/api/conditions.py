"""The condition types and the reasons: two closed lists, documented where they are defined.

Reasons are stable API: people and tools match on them. A message explains one case; a reason never changes its meaning.
"""

import re
from enum import StrEnum
from typing import Final


class ConditionType(StrEnum):
    """What a condition is about."""

    doc: str

    def __new__(cls, value: str, doc: str = "") -> "ConditionType":
        """A member with its documentation."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.doc = doc
        return member

    ACCEPTED = (
        "Accepted",
        "The settings are complete and consistent, and this namespace may use what they refer to.",
    )
    CREDENTIALS_RESOLVED = (
        "CredentialsResolved",
        "Every Secret and ConfigMap that the settings refer to exists, has the key, and its value is usable.",
    )
    AUTHORIZED = (
        "Authorized",
        "OAuth2 only: a live token is held and its renewal is assured. Unknown until the first one has been fetched.",
    )
    PROBE_SUCCEEDED = (
        "ProbeSucceeded",
        "The last probe of the mail server passed. Unknown until one has run; absent when probes are disabled.",
    )
    DELIVERED = ("Delivered", "The application's Secret holds the effective settings.")
    READY = ("Ready", "All of the above that apply are true: the application can send mail.")
    COMPLETE = ("Complete", "Of a test: it has ended, however it did.")
    SUCCEEDED = ("Succeeded", "Of a test: everything that its mode says went well. Unknown until it has ended.")
    RECONCILING = (
        "Reconciling",
        "Present, and True, only while a change of the spec is being acted on, or until a test has ended.",
    )
    STALLED = ("Stalled", "Present, and True, only while nothing but a person can mend what is wrong; says what to do.")


class Reason(StrEnum):
    """Why a condition has its status; also the reason of the event that announces it.

    A failed probe's reasons bear the names of the causes in docs/troubleshooting.md; the few others are this operator's
    own. `needs_person` says of a cause what its remedy does: that trying again changes nothing before that.
    """

    doc: str
    needs_person: bool
    """Whether waiting cannot help: such a reason on a False condition makes the object `Stalled`."""

    def __new__(cls, value: str, doc: str = "", needs_person: bool = False) -> "Reason":
        """A member with its documentation."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.doc = doc
        member.needs_person = needs_person
        return member

    # Accepted
    ACCEPTED = ("Accepted", "Complete and consistent.")
    SPEC_INVALID = ("SpecInvalid", "A field is wrong; the message names it and the remedy.", True)
    SYSTEM_SETTINGS_NOT_FOUND = (
        "SystemSettingsNotFound",
        "The ClusterMailServerSettings that would be inherited from does not exist.",
        True,
    )
    NOT_ALLOWED = ("NotAllowed", "The system's settings do not admit this namespace (spec.tenants).", True)
    SENDER_NOT_ALLOWED = (
        "SenderNotAllowed",
        "A sender is outside the system's tenants.allowedFrom, or the server does not take mailFrom.",
        True,
    )
    SYSTEM_SETTINGS_NOT_ACCEPTED = (
        "SystemSettingsNotAccepted",
        "The ClusterMailServerSettings that is inherited from is itself not accepted; its own conditions say why.",
        True,
    )

    # CredentialsResolved
    RESOLVED = ("Resolved", "Everything that the settings refer to was read.")
    NOTHING_TO_RESOLVE = ("NothingToResolve", "The settings refer to no Secret or ConfigMap.")
    SECRET_NOT_FOUND = ("SecretNotFound", "A Secret that the settings refer to does not exist.", True)
    SECRET_KEY_MISSING = ("SecretKeyMissing", "The Secret exists but lacks the key.", True)
    SECRET_VALUE_INVALID = (
        "SecretValueInvalid",
        "The value is empty, not UTF-8, holds control characters or line breaks, or has not the provider's form.",
        True,
    )
    SECRET_NOT_REFERABLE = (
        "SecretNotReferable",
        "The operator requires referenced Secrets to opt in by a label, and this one lacks it.",
        True,
    )
    CONFIG_MAP_NOT_FOUND = ("ConfigMapNotFound", "A ConfigMap that the settings refer to does not exist.", True)
    CONFIG_MAP_KEY_MISSING = ("ConfigMapKeyMissing", "The ConfigMap exists but lacks the key.", True)
    CA_BUNDLE_INVALID = ("CaBundleInvalid", "The CA bundle holds no readable PEM certificate.", True)
    SYSTEM_CREDENTIALS_UNRESOLVED = (
        "SystemCredentialsUnresolved",
        "The credentials of the system's settings cannot be read; the cluster object's conditions say why.",
        True,
    )

    # Authorized
    AUTHORIZED = ("Authorized", "A live token is held and its renewal is assured.")
    TOKEN_PENDING = ("TokenPending", "No live token is held yet; one is being fetched.")
    TOKEN_DROPPED = (
        "TokenDropped",
        "The token was dropped: it was for another provider, grant, client, directory, cloud, account, URI or scope.",
    )
    TOKEN_NOT_STORED = (
        "TokenNotStored",
        "The API server refuses to have the operator store, claim or drop the token; it is tried again and again.",
        True,
    )
    RENEWAL_AT_RISK = (
        "RenewalAtRisk",
        "An event only: a refresh token, client secret, certificate or key runs out soon; `Authorized` stays True.",
    )
    TOKEN_NOT_REVOKED = (
        "TokenNotRevoked",
        "An event only: the settings were deleted, and the provider did not revoke their refresh token.",
    )
    RENEWAL_BROKEN = ("RenewalBroken", "The operator itself failed while it renewed the token; its log says where.")
    CONSENT_REQUIRED = ("ConsentRequired", "Nobody has consented yet that mail is sent for the account.")
    CONSENT_DENIED = ("ConsentDenied", "Whoever was asked for the consent declined it; it can be asked for again.")
    # Waiting for a person, as before the consent was begun: not stalled.
    CONSENT_EXPIRED = ("ConsentExpired", "The consent was not finished in time, or its code is used up; begin again.")
    ADMIN_CONSENT_REQUIRED = (
        "AdminConsentRequired",
        "The directory lets only its administrator consent, and that has not happened.",
        True,
    )
    WRONG_ACCOUNT = ("WrongAccount", "The account is not that of the settings, or not one of this directory.", True)
    ACCOUNT_UNUSABLE = ("AccountUnusable", "The account is disabled, locked or deleted, or its password is due.", True)
    TOKEN_REVOKED = (
        "TokenRevoked",
        "The provider no longer takes the refresh token: it was revoked, replaced, or ended by a changed password.",
        True,
    )
    REFRESH_TOKEN_EXPIRED = (
        "RefreshTokenExpired",
        "The refresh token is past its date, or was not used for too long.",
        True,
    )
    REFRESH_TOKEN_MISSING = (
        "RefreshTokenMissing",
        "The consent gave no refresh token, so that mail could be sent for an hour or so only.",
        True,
    )
    CLIENT_UNKNOWN = ("ClientUnknown", "The provider knows no client with this ID.", True)
    CLIENT_AUTH_INVALID = (
        "ClientAuthInvalid",
        "The provider refused the client secret, the certificate, the federated token or the service account's key.",
        True,
    )
    CLIENT_AUTH_EXPIRED = ("ClientAuthExpired", "The client secret or the certificate is past its date.", True)
    CLIENT_NOT_PERMITTED = (
        "ClientNotPermitted",
        "The client is known, but may not get tokens in this way or for this mailbox.",
        True,
    )
    DIRECTORY_NOT_FOUND = ("DirectoryNotFound", "There is no such directory (tenant) in this cloud.", True)
    SCOPE_INVALID = ("ScopeInvalid", "The provider does not know a scope, or does not grant it to this client.", True)
    CONDITIONAL_ACCESS = (
        "ConditionalAccess",
        "A policy of the directory stands against it: Conditional Access, a second factor, Security defaults.",
        True,
    )
    FEDERATION_UNAVAILABLE = (
        "FederationUnavailable",
        "The operator's own token, which clientAuth.federation sends, cannot be read.",
        True,
    )
    TOKEN_REQUEST_REFUSED = ("TokenRequestRefused", "The provider refused the token for another cause.", True)
    PROVIDER_UNREACHABLE = (
        "ProviderUnreachable",
        "The identity provider could not be connected to, or did not answer.",
    )
    PROVIDER_UNTRUSTED = ("ProviderUntrusted", "The identity provider's TLS certificate cannot be relied on.", True)
    PROVIDER_UNAVAILABLE = ("ProviderUnavailable", "The identity provider says that it cannot serve now.")
    PROVIDER_THROTTLED = ("ProviderThrottled", "The identity provider asks for fewer requests.")
    PROVIDER_ANSWER_INVALID = (
        "ProviderAnswerInvalid",
        "What answers is no token endpoint as RFC 6749 has it, or leads to another host.",
        True,
    )

    # Delivered
    DELIVERED = ("Delivered", "The Secret holds the effective settings.")
    SECRET_NOT_OWNED = (
        "SecretNotOwned",
        "A Secret of that name exists and is not the operator's; it is left untouched.",
        True,
    )
    LAST_GOOD_KEPT = (
        "LastGoodKept",
        "The settings cannot be delivered as they are; the Secret still holds the last good ones.",
    )
    NOT_DELIVERED = ("NotDelivered", "There is no Secret yet, because another condition is not true.")
    DELIVERY_REFUSED = ("DeliveryRefused", "The API server refused the Secret; the message says why.", True)
    RELAY_NEEDED = (
        "RelayNeeded",
        "output.template wants a password, and OAuth2 has none that lasts; the message says what to do.",
        True,
    )
    RELAY_UNAVAILABLE = (
        "RelayUnavailable",
        "The relay is not installed, has no replica that is ready, or cannot be told of the login.",
    )
    SUSPENDED = (
        "Suspended",
        "spec.suspend is true: nothing is probed, and nothing delivered but renewed access tokens.",
        True,
    )

    # ProbeSucceeded: neither passed nor failed
    PROBE_PASSED = ("ProbePassed", "The last probe went as far as its mode says.")
    PROBE_PENDING = ("ProbePending", "No probe of these settings has finished yet.")

    # ProbeSucceeded: failed before the server answered
    EGRESS_DENIED = (
        "EgressDenied",
        "The operator's egress policy forbids this address or port.",
        True,
    )
    DNS_NOT_FOUND = (
        "DnsNotFound",
        "The host name cannot be resolved: it is wrong, which a person has to mend, or the name servers do not answer.",
    )
    CONNECTION_REFUSED = ("ConnectionRefused", "The host answers, but nothing listens on that port.")
    CONNECTION_TIMEOUT = (
        "ConnectionTimeout",
        "The host or the server did not answer in time, or took too long for the probe as a whole.",
    )
    PORT_BLOCKED = (
        "PortBlocked",
        "The network has no way to the host, or does not let mail out on that port.",
        True,
    )

    # ProbeSucceeded and Authorized: failed at the proxy
    PROXY_FAILURE = (
        "ProxyFailure",
        "The proxy could not be reached, or made no connection to the server; the message says which.",
    )
    PROXY_AUTH_REQUIRED = (
        "ProxyAuthRequired",
        "The proxy wants a user name and a password, or does not take those of the settings.",
        True,
    )

    # ProbeSucceeded: failed at TLS
    IMPLICIT_TLS_EXPECTED = (
        "ImplicitTlsExpected",
        "The port speaks TLS from the first byte; set tls.mode to Implicit.",
        True,
    )
    START_TLS_EXPECTED = (
        "StartTlsExpected",
        "The port begins in the clear or demands STARTTLS; set tls.mode to StartTLS.",
        True,
    )
    START_TLS_NOT_OFFERED = ("StartTlsNotOffered", "The server does not offer STARTTLS, which is required.", True)
    TLS_PROTOCOL_VERSION = ("TlsProtocolVersion", "Client and server share no TLS version or cipher.", True)
    CERTIFICATE_UNTRUSTED = ("CertificateUntrusted", "The certificate's issuer is not trusted.", True)
    CERTIFICATE_NAME_MISMATCH = ("CertificateNameMismatch", "The certificate is for another name.", True)
    CERTIFICATE_EXPIRED = ("CertificateExpired", "The certificate is past its date, or not yet valid.", True)

    # ProbeSucceeded: refused by the server
    AUTH_NOT_OFFERED = ("AuthNotOffered", "The server offers no login on this connection.", True)
    AUTH_MECHANISM_UNSUPPORTED = (
        "AuthMechanismUnsupported",
        "The server offers a login, but none for what the settings have: PLAIN, LOGIN or CRAM-MD5 for a password, "
        "XOAUTH2 or OAUTHBEARER for an access token.",
        True,
    )
    AUTH_REQUIRED = ("AuthRequired", "The server wants a login, and the settings have none.", True)
    BAD_CREDENTIALS = ("BadCredentials", "The server refused the user name, the password or the access token.", True)
    APP_PASSWORD_REQUIRED = (
        "AppPasswordRequired",
        "The provider wants an app password; the account's own will not do.",
        True,
    )
    BASIC_AUTH_DISABLED = (
        "BasicAuthDisabled",
        "The provider or the directory takes no user name and password any more; use auth.oauth2.",
        True,
    )
    SMTP_AUTH_DISABLED_TENANT = (
        "SmtpAuthDisabledTenant",
        "Exchange Online: authenticated SMTP is off for the whole directory (tenant).",
        True,
    )
    SMTP_AUTH_DISABLED_MAILBOX = (
        "SmtpAuthDisabledMailbox",
        "Exchange Online: authenticated SMTP is off for the mailbox.",
        True,
    )
    SECURITY_DEFAULTS = ("SecurityDefaults", "Entra's security defaults stand against the login.", True)
    ACCOUNT_BLOCKED = (
        "AccountBlocked",
        "The account is locked, disabled, suspended or not activated, or has to sign in at the provider's page.",
        True,
    )
    # Of a token these become lasting only when a renewed one has been refused too.
    WRONG_TOKEN_SCOPE_OR_AUDIENCE = (
        "WrongTokenScopeOrAudience",
        "The access token is for another resource, or its scopes do not cover SMTP.",
        True,
    )
    MAILBOX_NOT_PERMITTED = (
        "MailboxNotPermitted",
        "The login or the token is good, but has no right to that mailbox, or there is no such mailbox.",
        True,
    )
    TOKEN_EXPIRED = ("TokenExpired", "The server holds the access token to be past its time; it is renewed by itself.")
    TOKEN_UNUSABLE = (
        "TokenUnusable",
        "The access token cannot be sent to any server: it is too long, or no token at all.",
        True,
    )
    CLOCK_SKEW = ("ClockSkew", "The server holds a time in the token to be wrong: a clock is.", True)
    SENDER_NOT_VERIFIED = (
        "SenderNotVerified",
        "The provider wants the sender's address or domain verified, or has the account in a sandbox.",
        True,
    )
    SENDER_DOMAIN_AUTH_FAILED = (
        "SenderDomainAuthFailed",
        "SPF, DKIM or DMARC of the sender's domain does not pass.",
        True,
    )
    RECIPIENT_REJECTED = ("RecipientRejected", "The server does not take the test mail's recipient.", True)
    RELAY_DENIED = ("RelayDenied", "The server does not relay to the recipient's domain for this session.", True)
    RATE_LIMITED = ("RateLimited", "Too many messages, logins or recipients in a short time.")
    QUOTA_EXCEEDED = ("QuotaExceeded", "The quota of a day, a month or the plan is used up.")
    TOO_MANY_CONNECTIONS = ("TooManyConnections", "Too many connections at once.")
    MESSAGE_TOO_LARGE = ("MessageTooLarge", "The test mail is over the server's size limit.", True)
    CONTENT_REJECTED = ("ContentRejected", "A filter of the server refused the test mail itself.", True)
    GREYLISTED = ("Greylisted", "The server defers on first contact; a later try is accepted.")
    IP_BLOCKED = ("IpBlocked", "The server refuses the address that the cluster sends from.", True)
    MAILBOX_FULL = ("MailboxFull", "The recipient's mailbox, or that of the login, is over its quota.")
    SERVER_TEMPORARY = (
        "ServerTemporary",
        "The server has a temporary failure: it asks to try again later, or closes the connection.",
    )
    SERVER_MISCONFIGURED = ("ServerMisconfigured", "The server's own set-up is broken.")
    PROTOCOL_ERROR = (
        "ProtocolError",
        "What answers does not speak SMTP as RFC 5321 has it, or holds that of what it was told.",
        True,
    )
    MAIL_NOT_COUNTED = (
        "MailNotCounted",
        "The test mail could not be counted beforehand, and so was not sent; the operator's log says why.",
    )
    PROBE_BROKEN = ("ProbeBroken", "The operator itself failed during the probe; its log says where.")

    # Complete, Succeeded
    TEST_PASSED = ("TestPassed", "The test went as far as its mode says.")
    TEST_WAITING = ("TestWaiting", "The test waits: for other tests of the namespace, or for what it is to test.")
    TEST_RUNNING = ("TestRunning", "The test has begun.")
    SETTINGS_NOT_FOUND = ("SettingsNotFound", "There are no settings of the name that the test gives.", True)
    RECIPIENT_NOT_ALLOWED = (
        "RecipientNotAllowed",
        "The system's settings do not permit test mails to this address (spec.tenants.testRecipients).",
        True,
    )
    TOO_MANY_TESTS = ("TooManyTests", "Too many tests of the namespace were waiting already.", True)
    MAIL_LIMIT_REACHED = (
        "MailLimitReached",
        "For the namespace, or to the recipient, as many test mails were sent within an hour as may be. Probes wait.",
        True,
    )
    INTERRUPTED = (
        "Interrupted",
        "The operator ended during the test. It is not repeated, since its mail may have been sent.",
        True,
    )

    # Ready, Reconciling
    READY = ("Ready", "The application can send mail; the message says how far that was tested.")
    PROGRESSING = ("Progressing", "A change is being acted on.")


EXPLAIN: Final = "kubectl mailsettings explain"
"""The command that tells of a reason, whether or not the documentation is published anywhere."""


def waiting(why: str) -> str:
    """How a condition's message begins while the next test waits, whatever it says of the last one.

    Args:
        why: Without a full stop, and without one before a blank.
    """
    return f"The next test waits: {why}."


_WAITING: Final = re.compile(r"The next test waits: .*?\.(?=\s|$)")


def waiting_in(message: str) -> str:
    """What a condition's message says of the next test that waits; empty: nothing."""
    found = _WAITING.match(message)
    return found[0] if found else ""


def explained(happened: str, remedy: str | None, docs: str | None, reason: str) -> str:
    """A condition's message: what happened, what to do, and where more is told of it.

    Args:
        happened: A sentence.
        remedy: What to do.
        docs: A link into the documentation; empty: it tells nothing more.
        reason: The condition's, by which the plugin tells the same.
    """
    more = f"See {docs} or `{EXPLAIN} {reason}`." if docs else None
    return " ".join(filter(None, (happened, remedy, more)))
