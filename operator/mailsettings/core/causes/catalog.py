"""What a person should know and do about each cause: one table, of which the commands and the pages are made."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mailsettings.core.causes.cause import Cause
from mailsettings.core.documentation import DOCUMENTATION

PAGE: Final = "troubleshooting.md"


class Mover(StrEnum):
    """Whose move it is."""

    TENANT = "tenant"
    """Whoever wrote the settings."""
    ADMIN = "admin"
    """Whoever runs the cluster, the network, the directory or the mail server."""
    PROVIDER = "provider"
    """The mail provider, or whoever runs the receiving server."""


class Retry(StrEnum):
    """Whether trying again helps."""

    NO = "no"
    """Not before something was changed."""
    LATER = "later"
    """After a while it may work by itself."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One cause."""

    title: str
    remedy: str
    mover: Mover
    retry: Retry = Retry.NO
    commands: tuple[str, ...] = ()
    """What to type, where there is something; no line of it is longer than 76 characters. Names in capitals are for the
    reader to replace, and for the plugin where it knows them: `plugin/advice.py`."""


def link(cause: Cause) -> str:
    """Where the documentation tells of it."""
    return DOCUMENTATION.link(PAGE, cause.lower())


SHAPE_OF_PASSWORD: Final = (
    "kubectl get secret SECRET -o jsonpath='{.data.KEY}' |\n"
    """  base64 -d | tr -c "'\\" \\t\\r\\n" x | od -A d -c"""
)
"""Shows what is wrong with the form of a password, and nothing of the password."""

_TENANT, _ADMIN, _PROVIDER = Mover.TENANT, Mover.ADMIN, Mover.PROVIDER
_LATER: Final = Retry.LATER

CATALOG: Final[dict[Cause, Entry]] = {
    Cause.DNS_NOT_FOUND: Entry(
        "The server's name cannot be resolved",
        "Check `connection.host`: no scheme, port, quotes or blanks; inside the cluster write the Service's full name. "
        "If other names fail too, look at the cluster's DNS.",
        _TENANT,
        _LATER,
        ("kubectl run dns --rm -it --image=busybox -- nslookup HOST",),
    ),
    Cause.CONNECTION_REFUSED: Entry(
        "Nothing listens on that port",
        "Check `connection.host` and `connection.port` (587 for STARTTLS, 465 for TLS from the first byte). In a Pod "
        "`localhost` is the Pod itself.",
        _TENANT,
        _LATER,
    ),
    Cause.CONNECTION_TIMEOUT: Entry(
        "The server does not answer in time",
        "Check `connection.host` and `connection.port`, then NetworkPolicies, egress gateways and firewalls between "
        "the cluster and the server. If the server is only slow, raise `connection.timeout`.",
        _ADMIN,
        _LATER,
    ),
    Cause.PORT_BLOCKED: Entry(
        "The network blocks outbound SMTP",
        "Clouds and access providers block port 25, some 465 and 587 too. Use port 587, 465 or 2525 of the provider, "
        "or have the block lifted; check NetworkPolicies and IPv6 routes.",
        _ADMIN,
    ),
    Cause.PROXY_FAILURE: Entry(
        "The proxy did not make the connection",
        "Check `connection.proxy`: protocol, host and port. The proxy must allow CONNECT to the mail server's port; "
        "HTTP proxies often allow 443 only.",
        _ADMIN,
        _LATER,
    ),
    Cause.PROXY_AUTH_REQUIRED: Entry(
        "The proxy wants a login",
        "Set `connection.proxy.basic`, or correct the user name and the password in the Secret that it refers to.",
        _TENANT,
    ),
    Cause.IMPLICIT_TLS_EXPECTED: Entry(
        "The port speaks TLS from the first byte",
        "Set `connection.tls.mode` to `Implicit` (usual for port 465), or use port 587 with `StartTLS`.",
        _TENANT,
    ),
    Cause.START_TLS_EXPECTED: Entry(
        "The port begins in the clear and wants STARTTLS",
        "Set `connection.tls.mode` to `StartTLS` (usual for ports 587 and 25), or use port 465 with `Implicit`.",
        _TENANT,
    ),
    Cause.START_TLS_NOT_OFFERED: Entry(
        "The server does not offer STARTTLS",
        "Check `connection.port`: 587 usually offers it, 465 wants `tls.mode: Implicit`. If it is missing on a port "
        "that should have it, something on the way strips it, or the server's TLS is not set up.",
        _TENANT,
    ),
    Cause.TLS_PROTOCOL_VERSION: Entry(
        "Client and server share no TLS version or cipher",
        "Have the side that is too old updated: providers take TLS 1.2 and 1.3 only. Lower `connection.tls.minVersion` "
        "if it is above TLSv1.2.",
        _ADMIN,
    ),
    Cause.CERTIFICATE_UNTRUSTED: Entry(
        "The server's certificate is not trusted",
        "For a private certification authority set `connection.tls.caBundle` to its certificate. If the server sends "
        "no intermediate certificate, have its chain completed.",
        _TENANT,
        commands=("openssl s_client -starttls smtp -showcerts -connect HOST:PORT",),
    ),
    Cause.CERTIFICATE_NAME_MISMATCH: Entry(
        "The certificate is for another name",
        "Set `connection.host` to a name that the certificate bears, or `connection.tls.serverName` to it where the "
        "host must stay an address or an alias.",
        _TENANT,
    ),
    Cause.CERTIFICATE_EXPIRED: Entry(
        "The server's certificate is past its date",
        "Have the server's certificate renewed. If it is valid, the client's clock is wrong.",
        _PROVIDER,
    ),
    Cause.AUTH_NOT_OFFERED: Entry(
        "The server offers no login on this connection",
        "Use the submission port (587 with `StartTLS`, 465 with `Implicit`): many servers offer AUTH only after TLS. "
        "If the server wants no login, remove `auth`.",
        _TENANT,
    ),
    Cause.AUTH_MECHANISM_UNSUPPORTED: Entry(
        "The server does not know this way to log in",
        "Choose the other member of `auth`: `basic` for PLAIN, LOGIN and CRAM-MD5, `oauth2` for XOAUTH2 and "
        "OAUTHBEARER. Exchange Online says so too where TLS is missing.",
        _TENANT,
    ),
    Cause.AUTH_REQUIRED: Entry(
        "The server wants a login first",
        "Set `auth`. If it is set, check that the login was not skipped: port, TLS mode, and at Exchange Online "
        "whether SMTP AUTH is enabled for the mailbox.",
        _TENANT,
    ),
    Cause.BAD_CREDENTIALS: Entry(
        "User name, password or token refused",
        "Check the user name and the Secret's value for a wrong account, an old password, quotes or a line break at "
        "the end: the command shows quotes, blanks, line breaks and the length, and x for every other character. "
        "SendGrid's user name is `apikey`; Amazon SES has SMTP credentials of its own.",
        _TENANT,
        commands=(SHAPE_OF_PASSWORD,),
    ),
    Cause.APP_PASSWORD_REQUIRED: Entry(
        "The provider wants an app password",
        "Create an app password at the provider and put it into the Secret, or use OAuth2. Google: two-step "
        "verification must be on, then https://myaccount.google.com/apppasswords.",
        _TENANT,
    ),
    Cause.BASIC_AUTH_DISABLED: Entry(
        "Sign-in with user name and password is switched off",
        "Use `auth.oauth2`: the provider or the tenant takes no password any more. See docs/providers/.",
        _TENANT,
    ),
    Cause.SMTP_AUTH_DISABLED_TENANT: Entry(
        "Exchange Online: SMTP AUTH is off for the whole tenant",
        "An Exchange administrator enables it for this mailbox only, which overrides the tenant's setting, or for the "
        "tenant.",
        _ADMIN,
        commands=(
            "Set-CASMailbox -Identity MAILBOX -SmtpClientAuthenticationDisabled $false",
            "Set-TransportConfig -SmtpClientAuthenticationDisabled $false",
        ),
    ),
    Cause.SMTP_AUTH_DISABLED_MAILBOX: Entry(
        "Exchange Online: SMTP AUTH is off for this mailbox",
        "An Exchange administrator enables it; it takes up to an hour.",
        _ADMIN,
        commands=(
            "Set-CASMailbox -Identity MAILBOX -SmtpClientAuthenticationDisabled $false",
            "Get-CASMailbox MAILBOX | Format-List SmtpClientAuthenticationDisabled",
        ),
    ),
    Cause.SECURITY_DEFAULTS: Entry(
        "Entra security defaults block the sign-in",
        "Use `auth.oauth2`. Passwords work only where an Entra administrator turns the security defaults off and puts "
        "Conditional Access in their place.",
        _ADMIN,
    ),
    Cause.CONDITIONAL_ACCESS: Entry(
        "A policy of the directory blocks the sign-in",
        "An Entra administrator finds the policy in the sign-in log and exempts this account or application, or the "
        "person authorizes again and passes the second factor. App-only grants are asked for no second factor.",
        _ADMIN,
    ),
    Cause.ACCOUNT_BLOCKED: Entry(
        "The account is locked, disabled or suspended",
        "Sign in on the provider's web page, pass the challenge there, or have the account unlocked or activated. Find "
        "out what locked it before the settings use it again.",
        _ADMIN,
    ),
    Cause.WRONG_TOKEN_SCOPE_OR_AUDIENCE: Entry(
        "The token is for another resource, or its scopes do not cover SMTP",
        "Microsoft: `https://outlook.office.com/SMTP.Send`, app-only `https://outlook.office365.com/.default` with "
        "`SMTP.SendAsApp`; not a Graph scope. Google: `https://mail.google.com/`. Then authorize again.",
        _TENANT,
    ),
    Cause.MAILBOX_NOT_PERMITTED: Entry(
        "The token has no right to that mailbox",
        "Check that `auth.oauth2.username` is a licensed mailbox and the one that consented. App-only: an Exchange "
        "administrator registers the service principal with its object ID (of Enterprise applications) and grants it "
        "the mailbox.",
        _ADMIN,
        commands=(
            "New-ServicePrincipal -AppId CLIENT_ID -ObjectId OBJECT_ID",
            "Add-MailboxPermission MAILBOX -User OBJECT_ID -AccessRights FullAccess",
        ),
    ),
    Cause.TOKEN_EXPIRED: Entry(
        "The access token is past its time",
        "It is renewed by itself. An application that shows this has kept an old token: it must read the mounted file "
        "at each connection.",
        _TENANT,
        _LATER,
    ),
    Cause.REFRESH_TOKEN_EXPIRED: Entry(
        "The refresh token ran out",
        "Authorize again. Google: publish the app, since in testing its refresh tokens live seven days. Microsoft: "
        "they end after 90 days without use, and after a day for a single-page application.",
        _TENANT,
        commands=("kubectl mailsettings authorize NAME",),
    ),
    Cause.REFRESH_TOKEN_REVOKED: Entry(
        "The refresh token was withdrawn",
        "Authorize again. A changed password, a user or an administrator who removed the access, a token that was used "
        "elsewhere, or too many newer ones end it.",
        _TENANT,
        commands=("kubectl mailsettings authorize NAME",),
    ),
    Cause.CONSENT_REQUIRED: Entry(
        "Nobody has consented for this app and these scopes",
        "Authorize and accept. Google: while the app is in testing the account must be one of its test users.",
        _TENANT,
        commands=("kubectl mailsettings authorize NAME",),
    ),
    Cause.ADMIN_CONSENT_REQUIRED: Entry(
        "Only an administrator can allow it",
        "Microsoft: an Entra administrator grants admin consent on the app's API permissions page, or assigns the "
        "user. Google: a Workspace administrator trusts the client ID under API controls.",
        _ADMIN,
    ),
    Cause.CLIENT_SECRET_INVALID: Entry(
        "The client secret is wrong or missing",
        "Put the secret's value (not its ID) into the Secret that `auth.oauth2.clientAuth` refers to, without a line "
        "break at the end. A certificate must be registered for this very client.",
        _TENANT,
    ),
    Cause.CLIENT_SECRET_EXPIRED: Entry(
        "The client secret is past its date",
        "Create a new secret at the provider, put it into the Secret, and write its end into the annotation "
        "`mailsettings.dev/expires-at`, so that you are warned in time.",
        _TENANT,
        commands=("az ad app credential reset --id CLIENT_ID --append",),
    ),
    Cause.CLIENT_ID_UNKNOWN: Entry(
        "The provider does not know the client ID",
        "Check `auth.oauth2.clientID` for a placeholder or a deleted app, and `directoryID` and `cloud` for the wrong "
        "directory.",
        _TENANT,
    ),
    Cause.REDIRECT_URI_MISMATCH: Entry(
        "The redirect URI is not registered for the client",
        "Copy `status.oauth2.redirectURI` to the app's registration, letter by letter, under the platform Web.",
        _TENANT,
        commands=("kubectl get mss NAME -o jsonpath='{.status.oauth2.redirectURI}'",),
    ),
    Cause.TENANT_NOT_FOUND: Entry(
        "There is no such directory in this cloud",
        "Check `auth.oauth2.directoryID` (the tenant's GUID or domain) and `cloud`; `common` serves multi-tenant apps "
        "only.",
        _TENANT,
    ),
    Cause.WRONG_ACCOUNT_TYPE: Entry(
        "The account is of the wrong kind",
        "Use an account of the directory in `directoryID`, not a personal or a guest account; or register the app for "
        "the kind of account that you have.",
        _TENANT,
    ),
    Cause.INVALID_SCOPE: Entry(
        "The scopes are malformed, mixed or not allowed",
        "Remove `auth.oauth2.scopes` to have the provider's own ones. Scopes of one resource only; client credentials "
        "take `RESOURCE/.default` and nothing else.",
        _TENANT,
    ),
    Cause.GRANT_NOT_ALLOWED: Entry(
        "This client may not use that grant",
        "Make client and grant fit: a public client sends no secret, a confidential one must; allow the grant in the "
        "app's registration (Entra: allow public client flows, for DeviceCode), or set another `auth.oauth2.grant`.",
        _TENANT,
    ),
    Cause.CODE_REUSED_OR_EXPIRED: Entry(
        "The authorization code was used already, or is too old",
        "Begin the consent again, and finish it in one go: a code lives minutes and serves once.",
        _TENANT,
        commands=("kubectl mailsettings authorize NAME",),
    ),
    Cause.PKCE_MISMATCH: Entry(
        "The code verifier does not fit",
        "Begin the consent again in one browser and from one link; two flows at once mix their codes.",
        _TENANT,
        commands=("kubectl mailsettings authorize NAME",),
    ),
    Cause.DOMAIN_WIDE_DELEGATION_MISSING: Entry(
        "The Google service account may not act for the user",
        "A Workspace administrator adds the service account's numeric client ID with the scope "
        "`https://mail.google.com/` under Security, API controls, Domain-wide delegation. `auth.oauth2.username` must "
        "be a user of that Workspace, not an alias or a group.",
        _ADMIN,
    ),
    Cause.SENDER_NOT_ALLOWED: Entry(
        "The login may not send from that address",
        "Set `mailFrom` to the login's own address, or have it granted the right to send as the other one.",
        _TENANT,
        commands=("Add-RecipientPermission FROM -Trustee LOGIN -AccessRights SendAs",),
    ),
    Cause.SENDER_NOT_VERIFIED: Entry(
        "The sender or its domain is not verified at the provider",
        "Verify the address or the domain at the provider, or leave its sandbox. Amazon SES: per region.",
        _TENANT,
    ),
    Cause.SENDER_DOMAIN_AUTH_FAILED: Entry(
        "SPF, DKIM or DMARC of the sender's domain does not pass",
        "Publish the SPF and DKIM records that your provider gives for the domain of `mailFrom`, and let From's domain "
        "be the one that is signed.",
        _ADMIN,
        commands=("dig +short TXT DOMAIN _dmarc.DOMAIN",),
    ),
    Cause.RECIPIENT_REJECTED: Entry(
        "The recipient's address is not accepted",
        "Check the address for typing mistakes and whether it still exists; for the test mail it is `probe.recipient`.",
        _TENANT,
    ),
    Cause.RELAY_DENIED: Entry(
        "The server does not relay to that domain for this session",
        "Set `auth`, or use the submission port: without a login servers take mail for their own domains only. A relay "
        "by IP address must know the cluster's outbound addresses.",
        _TENANT,
    ),
    Cause.RATE_LIMITED: Entry(
        "Too much in a short time",
        "Send, log in and probe less often; it passes by itself. For steady volume ask the provider for a higher rate.",
        _TENANT,
        _LATER,
    ),
    Cause.QUOTA_EXCEEDED: Entry(
        "The quota is used up",
        "Wait for the next day or month, send to fewer recipients per message, or have the plan raised.",
        _TENANT,
        _LATER,
    ),
    Cause.TOO_MANY_CONNECTIONS: Entry(
        "Too many connections at once",
        "Let applications share connections or send in turn: Exchange Online takes three at a time for each mailbox.",
        _TENANT,
        _LATER,
    ),
    Cause.MESSAGE_TOO_LARGE: Entry(
        "The message is over the size limit",
        "Send smaller attachments or links: encoding adds a third. The server's EHLO answer gives its SIZE.",
        _TENANT,
    ),
    Cause.CONTENT_REJECTED: Entry(
        "A filter refused the message",
        "Look at what the server's text names: attachment type, links, wording, reputation. Ask its postmaster where "
        "it names nothing.",
        _TENANT,
    ),
    Cause.GREYLISTED: Entry(
        "Deferred on first contact",
        "Send again after some minutes; a mail server does so by itself, an application may have to.",
        _PROVIDER,
        _LATER,
    ),
    Cause.IP_BLOCKED: Entry(
        "The sending address is on a block list",
        "Send through a provider's submission service instead of directly. Otherwise ask the list that is named to "
        "remove the address, once the reason is mended, and give the address a reverse DNS name.",
        _ADMIN,
    ),
    Cause.MAILBOX_FULL: Entry(
        "The recipient's mailbox is full",
        "The recipient makes room. If it names your own account, empty its Sent folder.",
        _PROVIDER,
        _LATER,
    ),
    Cause.SERVER_TEMPORARY: Entry(
        "The server has a temporary failure",
        "Nothing, unless it lasts: it is tried again. Then look at the provider's status page.",
        _PROVIDER,
        _LATER,
    ),
    Cause.SERVER_MISCONFIGURED: Entry(
        "The server's own set-up is broken",
        "Whoever runs the server reads its log: certificate, filters, look-ups, disk.",
        _PROVIDER,
        _LATER,
    ),
    Cause.PROTOCOL_ERROR: Entry(
        "The dialogue breaks the SMTP rules",
        "Check that a mail server listens on that port, and that addresses, headers and the client's host name are "
        "well formed (no bare line feeds, one From header, a full host name).",
        _TENANT,
    ),
    Cause.CLOCK_SKEW: Entry(
        "A clock is wrong",
        "Have the clocks of the nodes set by NTP; assertions and tokens live for minutes only.",
        _ADMIN,
        commands=("timedatectl status",),
    ),
}
