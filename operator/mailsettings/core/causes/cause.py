"""The closed list of causes. A cause never changes its name or its meaning: people and tools match on it."""

from enum import StrEnum


class Cause(StrEnum):
    """What is really wrong, whatever the words that a server or a library has for it."""

    meaning: str
    """One sentence."""

    def __new__(cls, value: str, meaning: str = "") -> "Cause":
        """A member with its meaning."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    DNS_NOT_FOUND = (
        "DnsNotFound",
        "The server name cannot be resolved (wrong name, quotes or blanks in it, or no answer from DNS).",
    )
    CONNECTION_REFUSED = ("ConnectionRefused", "Host reached, nothing listens on that port (or it actively refuses).")
    CONNECTION_TIMEOUT = (
        "ConnectionTimeout",
        "No answer from host or server within the time allowed; why is not known.",
    )
    PORT_BLOCKED = (
        "PortBlocked",
        "Host, cloud or network provider stops outbound SMTP ports; seen as time-out, refusal or network unreachable.",
    )
    PROXY_FAILURE = (
        "ProxyFailure",
        "SOCKS or HTTP proxy did not make the connection (forbidden target, malformed reply, closed).",
    )
    PROXY_AUTH_REQUIRED = (
        "ProxyAuthRequired",
        "The proxy wants credentials (HTTP 407, SOCKS 'no acceptable methods').",
    )
    IMPLICIT_TLS_EXPECTED = (
        "ImplicitTlsExpected",
        "Port speaks TLS from the first byte (465) and the client spoke plain SMTP or STARTTLS.",
    )
    START_TLS_EXPECTED = (
        "StartTlsExpected",
        "Port starts in clear text and wants STARTTLS: client used TLS at once, or sent mail or AUTH without STARTTLS.",
    )
    START_TLS_NOT_OFFERED = ("StartTlsNotOffered", "Client insists on STARTTLS and the server does not announce it.")
    TLS_PROTOCOL_VERSION = (
        "TlsProtocolVersion",
        "Client and server share no TLS version (or SSL/TLS too old is refused).",
    )
    CERTIFICATE_UNTRUSTED = (
        "CertificateUntrusted",
        "Server certificate's issuer is not trusted, self-signed, or the client has no CA bundle.",
    )
    CERTIFICATE_NAME_MISMATCH = (
        "CertificateNameMismatch",
        "Certificate is for another host name (or an IP address was used).",
    )
    CERTIFICATE_EXPIRED = ("CertificateExpired", "Certificate is past its date (or not yet valid).")
    AUTH_NOT_OFFERED = (
        "AuthNotOffered",
        "Server offers no AUTH on this connection (none needed, only after STARTTLS/EHLO, or wrong endpoint).",
    )
    AUTH_MECHANISM_UNSUPPORTED = (
        "AuthMechanismUnsupported",
        "Server offers AUTH, but not the mechanism the client used.",
    )
    AUTH_REQUIRED = ("AuthRequired", "Server wants a login before mail and the client sent none.")
    BAD_CREDENTIALS = ("BadCredentials", "User name, password, key or token refused as wrong.")
    APP_PASSWORD_REQUIRED = ("AppPasswordRequired", "Provider wants an app password, the account password will not do.")
    BASIC_AUTH_DISABLED = (
        "BasicAuthDisabled",
        "User name and password sign-in is switched off for the provider or tenant: OAuth2 needed.",
    )
    SMTP_AUTH_DISABLED_TENANT = (
        "SmtpAuthDisabledTenant",
        "Exchange Online: authenticated SMTP is off for the whole tenant.",
    )
    SMTP_AUTH_DISABLED_MAILBOX = (
        "SmtpAuthDisabledMailbox",
        "Exchange Online: authenticated SMTP is off for this mailbox.",
    )
    SECURITY_DEFAULTS = ("SecurityDefaults", "Entra security defaults block the sign-in.")
    CONDITIONAL_ACCESS = (
        "ConditionalAccess",
        "Conditional Access, MFA, location or device rules block the sign-in or the token.",
    )
    ACCOUNT_BLOCKED = (
        "AccountBlocked",
        "The account itself is locked, disabled, suspended, not activated, or asked to pass a sign-in challenge at the "
        "provider.",
    )
    WRONG_TOKEN_SCOPE_OR_AUDIENCE = (
        "WrongTokenScopeOrAudience",
        "A token was obtained, but for another resource or with scopes that do not cover SMTP.",
    )
    MAILBOX_NOT_PERMITTED = (
        "MailboxNotPermitted",
        "Token or login is good, but has no right to (or there is no) that mailbox: service principal not registered, "
        "no mailbox permission, another user's token, no licence.",
    )
    TOKEN_EXPIRED = ("TokenExpired", "Access token or assertion is past its time and was not renewed.")
    REFRESH_TOKEN_EXPIRED = ("RefreshTokenExpired", "Refresh token ran out (age, inactivity, testing mode).")
    REFRESH_TOKEN_REVOKED = (
        "RefreshTokenRevoked",
        "Refresh token withdrawn (password change, user or admin revoked it, or invalid from the start).",
    )
    CONSENT_REQUIRED = (
        "ConsentRequired",
        "No usable consent by the user for this app and these scopes (missing, declined, or the app is in testing and "
        "the user is no tester).",
    )
    ADMIN_CONSENT_REQUIRED = (
        "AdminConsentRequired",
        "Only an administrator can allow it (admin consent, user assignment, Workspace app policy).",
    )
    CLIENT_SECRET_INVALID = (
        "ClientSecretInvalid",
        "Client secret is wrong (often the secret's id instead of its value) or missing.",
    )
    CLIENT_SECRET_EXPIRED = ("ClientSecretExpired", "Client secret is past its date.")
    CLIENT_ID_UNKNOWN = (
        "ClientIdUnknown",
        "Client id is not known in this directory or project (wrong, deleted, placeholder, wrong tenant).",
    )
    REDIRECT_URI_MISMATCH = ("RedirectUriMismatch", "Redirect URI sent is not registered for the client.")
    TENANT_NOT_FOUND = ("TenantNotFound", "Tenant id or name is wrong, missing, or in another cloud.")
    WRONG_ACCOUNT_TYPE = (
        "WrongAccountType",
        "Personal account where a work account is needed or the other way round; account outside the organisation.",
    )
    INVALID_SCOPE = (
        "InvalidScope",
        "Scope text is malformed, mixes resources, names an unknown resource, or is not allowed for the flow.",
    )
    GRANT_NOT_ALLOWED = (
        "GrantNotAllowed",
        "Client type and flow do not fit: this client may not use that grant, token or way of client authentication.",
    )
    CODE_REUSED_OR_EXPIRED = ("CodeReusedOrExpired", "Authorization code was already used or is too old.")
    PKCE_MISMATCH = ("PkceMismatch", "Code verifier is missing or does not fit the challenge.")
    DOMAIN_WIDE_DELEGATION_MISSING = (
        "DomainWideDelegationMissing",
        "Google service account may not act for the user (client id or scope not delegated, or not a user).",
    )
    SENDER_NOT_ALLOWED = (
        "SenderNotAllowed",
        "Authenticated, but From or envelope sender is not one this login may use.",
    )
    SENDER_NOT_VERIFIED = ("SenderNotVerified", "Provider demands a verified sender or domain (also sandbox accounts).")
    SENDER_DOMAIN_AUTH_FAILED = (
        "SenderDomainAuthFailed",
        "Receiver refuses because SPF, DKIM or DMARC of the sender's domain does not pass.",
    )
    RECIPIENT_REJECTED = ("RecipientRejected", "Recipient address does not exist, is malformed, or is not accepted.")
    RELAY_DENIED = ("RelayDenied", "Server will not relay to that domain for this session.")
    RATE_LIMITED = ("RateLimited", "Too many messages, logins or recipients in a short time.")
    QUOTA_EXCEEDED = ("QuotaExceeded", "Daily, monthly, plan or per-message recipient quota is used up.")
    TOO_MANY_CONNECTIONS = ("TooManyConnections", "Too many connections or sessions at once.")
    MESSAGE_TOO_LARGE = ("MessageTooLarge", "Message or attachment is over the size limit.")
    CONTENT_REJECTED = ("ContentRejected", "Content, attachment, header or reputation filter refused the message.")
    GREYLISTED = ("Greylisted", "Deferred on first contact; a later try is accepted.")
    IP_BLOCKED = ("IpBlocked", "Sending IP address is on a block list or banned by the receiver.")
    MAILBOX_FULL = ("MailboxFull", "Recipient's mailbox is over quota.")
    SERVER_TEMPORARY = ("ServerTemporary", "Server-side temporary failure; retry later.")
    SERVER_MISCONFIGURED = (
        "ServerMisconfigured",
        "Mistake in the server's own set-up (no certificate loaded, broken filter, broken block-list look-up).",
    )
    PROTOCOL_ERROR = (
        "ProtocolError",
        "Commands, their order, HELO name, address syntax or line format break the protocol.",
    )
    CLOCK_SKEW = ("ClockSkew", "Times in assertion or token do not fit because a clock (or time zone) is wrong.")
