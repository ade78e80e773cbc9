"""The mail providers as data. Adding a provider is adding one entry to `PROVIDERS`.

An entry fills what a spec leaves out (an explicit value wins) and states the provider's own rules; the CRDs' enum and
CEL rules, the models' checks, the documentation and the admission warnings are all made from it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mailsettings.api.grants import Grant
from mailsettings.api.identity import Cloud, Family, Identity


class TlsMode(StrEnum):
    """How the connection is protected."""

    DISABLED = "Disabled"
    START_TLS = "StartTLS"
    IMPLICIT = "Implicit"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server of a provider, as the provider documents it."""

    host: str
    port: int = 587
    tls_mode: TlsMode = TlsMode.START_TLS


@dataclass(frozen=True, slots=True)
class PasswordRule:
    """What a provider's passwords look like, so that a wrong paste is found before the provider refuses it."""

    pattern: str
    """A regular expression for the whole password, after `strip` was taken out."""
    strip: str
    """Characters that a person may paste with the password and that the provider does not count."""
    remedy: str


LEFT_TO_APPLICATIONS: Final = 3
"""Probes take one in so many of what a mailbox may do: the rest is for the mail that it is there for."""


@dataclass(frozen=True, slots=True)
class MailboxLimits:
    """What a provider permits a mailbox at most."""

    connections: int
    """At a time."""
    messages_per_minute: int

    @property
    def messages_per_minute_of_slot(self) -> int:
        """How many of them may go through each of the connections: so that all together never send more."""
        return max(1, self.messages_per_minute // self.connections)

    @property
    def probe_connections(self) -> int:
        """How many of them probes may have."""
        return max(1, self.connections // LEFT_TO_APPLICATIONS)

    @property
    def probe_messages_per_minute(self) -> int:
        """How many of them probes may send."""
        return max(1, self.messages_per_minute // LEFT_TO_APPLICATIONS)


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider's template and rules."""

    title: str
    endpoints: dict[str, Endpoint]
    """By region or cloud; `Global` or `Public`, the first, is the default. The others are for `connection.host`."""
    timeout: str = "10s"
    requires_auth: bool = True
    fixed_username: str | None = None
    """The only user name that the provider takes; it may be left out."""
    refused_domains: str | None = None
    """A regular expression for the whole domain, in lower case, of user names that this provider's SMTP does not serve.

    RE2 (the API server) and Python must read it alike, and it stands in a CEL string: no backslashes, no quotes.
    """
    refused_domains_words: str = ""
    """The same for the documentation."""
    refused_domains_remedy: str = ""
    """Why, and what to do."""
    password: PasswordRule | None = None
    identity: Identity | None = None
    """Where tokens for this provider come from; None: it knows no OAuth2."""
    grants: tuple[Grant, ...] = ()
    """The OAuth2 grants that can be used with this provider."""
    basic_warning: str | None = None
    """Said in the `Accepted` condition and at admission when `auth.basic` is used."""
    limits: MailboxLimits | None = None
    """What a mailbox may do there; None: the provider does not say, or it depends."""
    spf_include: str | None = None
    """What the SPF record of a sender's domain includes where this provider sends; None: nothing is known."""
    spf_note: str = ""
    """What else would do in its place, as the end of a sentence."""
    notes: tuple[str, ...] = ()
    """Facts for the documentation."""

    @property
    def endpoint(self) -> Endpoint | None:
        """The server that is used when the spec names none."""
        return next(iter(self.endpoints.values()), None)


CUSTOM: Final = "Custom"
SENDGRID: Final = "SendGrid"
GOOGLE: Final = "Google"
OFFICE365: Final = "Office365"


def provider_of(provider: str, host: str) -> str:
    """Whose server it is, also where the settings say Custom and name a provider's host."""
    return provider if provider != CUSTOM else _BY_HOST.get(host.lower().removesuffix("."), CUSTOM)


BEYOND_SENDING: Final = {"https://mail.google.com/": "also reads and deletes what is in the mailbox"}
"""OAuth2 scopes that permit more than sending, and what."""

DEFAULT_PORTS: Final = {TlsMode.DISABLED: 25, TlsMode.START_TLS: 587, TlsMode.IMPLICIT: 465}
"""For a server whose port is not given. Source: RFC 8314 §3.3, RFC 6409 §3.1, RFC 5321 §4.5.4.2."""

PERSONAL_OUTLOOK_DOMAINS: Final = "(outlook|hotmail|live|windowslive)[.][a-z]{2,3}([.][a-z]{2,3})?|(msn|passport)[.]com"
"""Where Microsoft gives addresses to persons, not to organisations. It covers every country: no list is complete."""

PROVIDERS: Final[dict[str, Provider]] = {
    CUSTOM: Provider(
        title="any SMTP server",
        endpoints={},
        requires_auth=False,
        identity=Identity(Family.CUSTOM, {"Public": Cloud()}),
        grants=(Grant.AUTHORIZATION_CODE, Grant.DEVICE_CODE, Grant.CLIENT_CREDENTIALS, Grant.REFRESH_TOKEN),
        notes=("`connection.host` is required; without `auth` the server is an open relay for this cluster.",),
    ),
    SENDGRID: Provider(
        title="Twilio SendGrid",
        endpoints={"Global": Endpoint("smtp.sendgrid.net"), "EU": Endpoint("smtp.eu.sendgrid.net")},
        fixed_username="apikey",
        # With domain authentication the envelope's sender is in a subdomain of SendGrid's making.
        spf_include="sendgrid.net",
        spf_note=", unless the domain is authenticated at SendGrid by its CNAME records",
        password=PasswordRule(
            pattern=r"[\x21-\x7e]{20,}",
            strip="",
            remedy="store the API key itself, without blanks or line breaks; it begins with 'SG.'",
        ),
        notes=(
            "The user name is literally `apikey` and may be left out; the password is an API key with the Mail Send "
            "permission.",
            "An EU subuser's key works only on the EU host.",
        ),
    ),
    GOOGLE: Provider(
        title="Gmail and Google Workspace",
        endpoints={
            "Global": Endpoint("smtp.gmail.com"),
            "WorkspaceRelay": Endpoint("smtp-relay.gmail.com"),
        },
        spf_include="_spf.google.com",
        password=PasswordRule(
            pattern=r"[A-Za-z]{16}",
            strip=" \N{NO-BREAK SPACE}",
            remedy="create an app password (16 letters; spaces do not count) for an account with 2-Step Verification: "
            "Google has refused account passwords over SMTP since 2025-05-01",
        ),
        # Google's answers to a refresh bring no new refresh token. Source: Google, Using OAuth 2.0 for Web Server
        # Applications, Refreshing an access token.
        identity=Identity(
            Family.GOOGLE,
            keeps_refresh_tokens=True,
            clouds={
                "Public": Cloud(
                    authorization_uri="https://accounts.google.com/o/oauth2/v2/auth",
                    token_uri="https://oauth2.googleapis.com/token",  # noqa: S106 - an address
                    revocation_uri="https://oauth2.googleapis.com/revoke",
                    delegated_scopes=("https://mail.google.com/",),
                    application_scopes=("https://mail.google.com/",),
                )
            },
        ),
        grants=(Grant.AUTHORIZATION_CODE, Grant.SERVICE_ACCOUNT, Grant.REFRESH_TOKEN),
        notes=(
            "`auth.basic` takes an app password of 16 letters, which needs 2-Step Verification.",
            "The Workspace relay admits by IP address too; such a relay without a login is `provider: Custom`.",
        ),
    ),
    OFFICE365: Provider(
        title="Microsoft 365, Exchange Online",
        endpoints={
            "Public": Endpoint("smtp.office365.com"),
            "USGov": Endpoint("smtp.office365.us"),
            "China": Endpoint("smtp.partner.outlook.cn"),
        },
        spf_include="spf.protection.outlook.com",
        refused_domains=PERSONAL_OUTLOOK_DOMAINS,
        refused_domains_words="`outlook`, `hotmail`, `live` and `windowslive` under any country or `com` (such as "
        "`outlook.com`, `hotmail.co.uk`, `live.ca`), `msn.com` and `passport.com`",
        refused_domains_remedy="personal Outlook.com accounts cannot be used with Office365; use the mailbox of a "
        "Microsoft 365 organisation",
        # Microsoft's do, and the old one stays good. Source: Microsoft identity platform, Refresh tokens.
        identity=Identity(
            Family.MICROSOFT,
            keeps_refresh_tokens=True,
            clouds={
                "Public": Cloud(
                    token_uri="https://login.microsoftonline.com",  # noqa: S106
                    delegated_scopes=("https://outlook.office.com/SMTP.Send",),
                    application_scopes=("https://outlook.office365.com/.default",),
                ),
                "USGov": Cloud(
                    token_uri="https://login.microsoftonline.us",  # noqa: S106
                    delegated_scopes=("https://outlook.office365.us/SMTP.Send",),
                    application_scopes=("https://outlook.office365.us/.default",),
                ),
                "China": Cloud(
                    token_uri="https://login.partner.microsoftonline.cn",  # noqa: S106
                    delegated_scopes=("https://partner.outlook.cn/SMTP.Send",),
                    application_scopes=("https://partner.outlook.cn/.default",),
                ),
            },
        ),
        grants=(Grant.AUTHORIZATION_CODE, Grant.DEVICE_CODE, Grant.CLIENT_CREDENTIALS, Grant.REFRESH_TOKEN),
        basic_warning="Microsoft is retiring Basic authentication for SMTP: at the end of December 2026 it is switched "
        "off by default for existing tenants (an administrator can switch it on again), tenants created "
        "later have it unavailable by default, and the final date will be announced in the second half of 2027",
        limits=MailboxLimits(connections=3, messages_per_minute=30),
        notes=(
            "SMTP AUTH must be enabled for the organisation or the mailbox, and Security defaults must be off.",
            "At most 3 connections and 30 messages a minute for each mailbox.",
        ),
    ),
}

_BY_HOST: Final = {
    endpoint.host: name for name, provider in PROVIDERS.items() for endpoint in provider.endpoints.values()
}
