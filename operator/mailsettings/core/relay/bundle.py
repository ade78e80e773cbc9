"""Bundles: all that the relay reads. The operator makes them; the relay never sees a Secret of a tenant's.

A bundle is a JSON document for one login at one mail server, with the tenants that send through it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from mailsettings.api.connection import ProxyProtocol
from mailsettings.api.providers import MailboxLimits, TlsMode
from mailsettings.api.scalars import FromPattern, Host, Mailbox, NamespaceName, Port, Username
from mailsettings.api.sending import RATE_LIMITS_PATTERN, ForeignSender
from mailsettings.core import server as upstream
from mailsettings.core.relay import policy
from mailsettings.core.relay.passwords import HASH_PATTERN, MAX_HASHES
from mailsettings.core.relay.rates import parse_rate_limits


class BundleError(ValueError):
    """A document is no bundle; the text names the fields that are wrong and holds nothing of their values."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class BundleProxy(_Model):
    """Through what to connect."""

    protocol: ProxyProtocol
    host: Host
    port: Port
    username: str | None = None
    """None: the proxy wants no login."""
    password: Annotated[str | None, Field(repr=False)] = None


class BundleServer(_Model):
    """The mail server."""

    host: Host
    port: Port
    tls_mode: TlsMode
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 10.0
    tls_min_version: Literal["TLSv1.2", "TLSv1.3"] = "TLSv1.2"
    tls_server_name: Host | None = None
    tls_insecure_skip_verify: bool = False
    ca_bundle: str | None = None
    proxy: BundleProxy | None = None


class BundleLogin(_Model):
    """The login at the mail server: a password or an access token."""

    username: Annotated[str, Field(min_length=1)]
    password: Annotated[str | None, Field(repr=False)] = None
    access_token: Annotated[str | None, Field(repr=False)] = None
    expires_at: AwareDatetime | None = None
    """When the access token ends; None: nobody knows."""


def _distinct(items: tuple["BundleTenant", ...]) -> tuple["BundleTenant", ...]:
    names = [item.username for item in items]
    if len(set(names)) < len(names):
        raise ValueError("a user name occurs twice")
    return items


_Hash = Annotated[str, Field(pattern=HASH_PATTERN)]


class BundleTenant(_Model):
    """Who may send through the mail server, and what."""

    username: Username
    """The login at the relay."""
    namespace: NamespaceName
    settings: Annotated[str, Field(min_length=1, max_length=253)]
    """The name of the settings object."""
    passwords: Annotated[tuple[_Hash, ...], Field(max_length=MAX_HASHES, repr=False)] = ()
    """What is kept of the passwords that hold at present; none: only tokens do."""
    until: AwareDatetime | None = None
    """When every password but the first ends; None: whoever wrote the bundle takes it out."""
    tokens: bool = False
    """Whether tokens of the namespace's ServiceAccounts are taken too."""
    sending: Literal["Allowed", "Blocked"] = "Allowed"
    mail_from: Mailbox
    allowed_from: tuple[FromPattern, ...] | None = None
    foreign_sender: ForeignSender = ForeignSender.REFUSE
    recipient_domains: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9*.-]+$")], ...] | None = None
    max_message_octets: Annotated[int, Field(ge=1)] | None = None
    rate_limits: Annotated[str, Field(pattern=f"^$|{RATE_LIMITS_PATTERN}")] = ""
    audit_recipients: bool = False

    def passwords_at(self, now: datetime) -> tuple[str, ...]:
        """What is kept of the passwords that hold at a time."""
        return self.passwords if self.until is None or now < self.until else self.passwords[:1]

    @property
    def policy(self) -> policy.Policy:
        """What it may send."""
        return policy.Policy(
            namespace=self.namespace,
            mail_from=self.mail_from,
            allowed_from=self.allowed_from,
            foreign_sender=self.foreign_sender,
            recipient_domains=self.recipient_domains,
            max_message_octets=self.max_message_octets,
            rate_limits=parse_rate_limits(self.rate_limits),
            blocked=self.sending == "Blocked",
        )


class BundleLimits(_Model):
    """What the provider permits a login, over all who use it."""

    connections: Annotated[int, Field(ge=1, le=1000)]
    """At a time."""
    messages_per_minute: Annotated[int, Field(ge=1)]


class Bundle(_Model):
    """One login at one mail server."""

    version: Literal[1] = 1
    credential: Annotated[str, Field(min_length=1, max_length=253)]
    """Names the login: what the provider counts connections by."""
    level: upstream.Source
    """Whose egress rules hold."""
    server: BundleServer
    login: BundleLogin | None = None
    """None: the mail server wants none."""
    connections: Annotated[int, Field(ge=1, le=1000)] = 8
    """How many a replica may have at a time, where the provider states no limit."""
    limits: BundleLimits | None = None
    """None: the provider states none."""
    tenants: Annotated[tuple[BundleTenant, ...], AfterValidator(_distinct)] = ()

    @property
    def mailbox_limits(self) -> MailboxLimits | None:
        """What the provider permits; None: it states no limit."""
        if self.limits is None:
            return None
        return MailboxLimits(self.limits.connections, self.limits.messages_per_minute)

    @property
    def upstream_server(self) -> upstream.Server:
        """Where and how to connect."""
        given = self.server
        return upstream.Server(
            host=given.host,
            port=given.port,
            tls_mode=given.tls_mode,
            timeout=timedelta(seconds=given.timeout_seconds),
            tls_min_version=given.tls_min_version,
            tls_server_name=given.tls_server_name,
            tls_insecure_skip_verify=given.tls_insecure_skip_verify,
            ca_bundle=given.ca_bundle,
            proxy=_proxy(given.proxy),
        )

    @property
    def upstream_login(self) -> upstream.Login | None:
        """The login; None: the mail server wants none, or there is no access token yet."""
        if self.login is None:
            return None
        if self.login.password is not None:
            return upstream.Credentials(self.login.username, self.login.password)
        if self.login.access_token is not None:
            return upstream.BearerToken(self.login.username, self.login.access_token)
        return None

    @property
    def lacks_login(self) -> bool:
        """Whether the mail server wants a login and there is none."""
        return self.login is not None and self.upstream_login is None


def _proxy(proxy: BundleProxy | None) -> upstream.Proxy | None:
    if proxy is None:
        return None
    login = None
    if proxy.username is not None and proxy.password is not None:
        login = upstream.Credentials(proxy.username, proxy.password)
    return upstream.Proxy(proxy.protocol, proxy.host, proxy.port, login)


def without_doubles(bundles: Sequence[Bundle]) -> tuple[list[Bundle], list[str]]:
    """The bundles without those of a credential that occurs twice, and their tenants without doubled user names.

    Returns:
        They, and what was left out, a sentence for each name.
    """
    credentials = _doubled(bundle.credential for bundle in bundles)
    usernames = _doubled(tenant.username for bundle in bundles for tenant in bundle.tenants)
    kept = [
        bundle.model_copy(
            update={"tenants": tuple(tenant for tenant in bundle.tenants if tenant.username not in usernames)}
        )
        if usernames
        else bundle
        for bundle in bundles
        if bundle.credential not in credentials
    ]
    return kept, [
        *(f"several bundles are of the credential {name}: none holds" for name in sorted(credentials)),
        *(f"several bundles hold the user name {name}: it cannot log in" for name in sorted(usernames)),
    ]


def _doubled(names: Iterable[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


def parse_bundle(document: str | bytes) -> Bundle:
    """The bundle of a JSON document.

    Raises:
        BundleError: It is none.
    """
    try:
        return Bundle.model_validate_json(document)
    except ValidationError as error:
        places = {".".join(str(part) for part in each["loc"]) or "document" for each in error.errors()}
        # The names of fields only: a message may hold the value, and the value may be a secret.
        raise BundleError(
            f"no bundle: {', '.join(sorted(re.sub(r'[^A-Za-z0-9.]', '?', each) for each in places))}"
        ) from None
