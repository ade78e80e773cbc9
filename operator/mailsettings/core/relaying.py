"""Delivery by the relay: which settings it is for, what each tenant may send, and its login there. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from mailsettings.api import names
from mailsettings.api.conditions import Reason
from mailsettings.api.delivery import Delivery
from mailsettings.api.providers import CUSTOM, PROVIDERS, TlsMode, provider_of
from mailsettings.api.scalars import Mailbox, lower_ascii
from mailsettings.api.sending import ForeignSender, Sending, SendingPolicy, TenantPolicy, parse_size
from mailsettings.api.spec import MailServerSettingsSpec
from mailsettings.api.tenants import Tenants
from mailsettings.core.credentials import ResolvedSettings
from mailsettings.core.effective import EffectiveSettings
from mailsettings.core.finding import Finding, failed
from mailsettings.core.mailbox import parse_mailbox
from mailsettings.core.relay.bundle import Bundle, BundleLimits, BundleLogin, BundleProxy, BundleServer, BundleTenant
from mailsettings.core.relay.passwords import hash_password, new_password, verify_password
from mailsettings.core.server import BearerToken, Credentials, Login, Proxy, Server
from mailsettings.core.tenancy import pattern_within, sender_permitted

OVERLAP: Final = timedelta(hours=24)
"""How long a password holds that another has been put in the place of."""


@dataclass(frozen=True, slots=True)
class RelayAddress:
    """Where clients find the relay."""

    host: str
    port: int
    ca_bundle: str = ""
    """PEM certificates that its own is trusted by; empty: the public authorities."""


def is_relayed(spec: MailServerSettingsSpec, tenants: Tenants | None) -> bool:
    """Whether a tenant's Secret holds a login at the relay.

    Args:
        spec: The tenant's.
        tenants: Those of the system's settings that it inherits from; None: it names its own server.
    """
    return spec.asks_for is Delivery.RELAY or (tenants is not None and tenants.delivery is Delivery.RELAY)


def check_policy(
    spec: MailServerSettingsSpec, inherited: EffectiveSettings, tenants: Tenants | None, namespace: str
) -> Finding | None:
    """Why the system's settings do not permit what a tenant that inherits them wants to send; None: they do."""
    if spec.policy is None:
        return None
    if not is_relayed(spec, tenants):
        return failed(
            Reason.SPEC_INVALID,
            f"policy: only the relay enforces it, and the system's settings {inherited.settings_name!r} deliver "
            "credentials; set output.delivery to Relay, or remove policy",
        )
    bounds = tenants.allowed_from if tenants is not None else None
    system_from = inherited.mail_from
    for pattern in spec.policy.allowed_from or ():
        if not _permitted(pattern, bounds, system_from, namespace):
            return failed(
                Reason.SENDER_NOT_ALLOWED,
                f"policy.allowedFrom: the system's settings {inherited.settings_name!r} do not permit all that "
                f"{pattern!r} stands for; remove it or ask for it in their tenants.allowedFrom",
            )
    return None


def _permitted(pattern: str, bounds: list[str] | None, system_from: str, namespace: str) -> bool:
    if bounds is None:
        return "*" not in pattern and sender_permitted(
            pattern.replace("{namespace}", namespace), patterns=None, system_from=system_from, namespace=namespace
        )
    return any(pattern_within(pattern, bound, namespace) for bound in bounds)


class Asked(BaseModel):
    """What a tenant's settings asked for when its login was last delivered; it stays while changes are held back."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    mail_from: Mailbox | None = None
    """None: the sender is the system's."""
    policy: TenantPolicy | None = None


def bounded(told: BundleTenant, asked: Asked, tenants: Tenants | None, *, system_from: str) -> BundleTenant:
    """A login that stays as it was delivered, within what the system's settings permit now.

    Args:
        told: What the relay was told of it.
        asked: What its settings asked for then.
        tenants: Those of the system's settings now.
        system_from: The sender of the system's settings now.
    """
    bounds = tenants.allowed_from if tenants is not None else None
    patterns = (asked.policy.allowed_from if asked.policy is not None else None) or ()
    is_permitted = asked.mail_from is None or sender_permitted(
        asked.mail_from, patterns=bounds, system_from=system_from, namespace=told.namespace
    )
    is_permitted = is_permitted and all(_permitted(each, bounds, system_from, told.namespace) for each in patterns)
    tenant = bundle_tenant(
        told.mail_from,
        tenants.policy if tenants is not None else None,
        asked.policy,
        namespace=told.namespace,
        settings_name=told.settings,
        audit_recipients=told.audit_recipients,
    )
    return tenant if is_permitted else tenant.model_copy(update={"sending": "Blocked"})


def bundle_tenant(
    mail_from: str,
    bounds: SendingPolicy | None,
    own: TenantPolicy | None,
    *,
    namespace: str,
    settings_name: str,
    audit_recipients: bool = False,
) -> BundleTenant:
    """What the relay is told of a tenant, without its passwords.

    Args:
        mail_from: Its sender.
        bounds: What the system's settings permit; None: anything, or the server is the tenant's own.
        own: What the tenant's settings permit of that.
        namespace: The tenant's.
        settings_name: Names the login, with the namespace.
        audit_recipients: Whether the relay's audit lines name recipients in full.
    """
    both: list[SendingPolicy] = [policy for policy in (bounds, own) if policy is not None]
    own_address = parse_mailbox(mail_from).addr_spec
    patterns = own.allowed_from if own is not None else None
    sizes = [parse_size(policy.max_message_size) for policy in both if policy.max_message_size]
    return BundleTenant(
        username=names.relay_username(namespace, settings_name),
        namespace=namespace,
        settings=settings_name,
        tokens=True,
        sending="Blocked" if any(policy.sending is Sending.BLOCKED for policy in both) else "Allowed",
        mail_from=mail_from,
        allowed_from=(own_address, *patterns) if patterns else None,
        foreign_sender=_foreign_sender(both),
        recipient_domains=_common_domains([policy.recipient_domains for policy in both]),
        max_message_octets=min(sizes) if sizes else None,
        rate_limits=",".join(policy.rate_limits for policy in both if policy.rate_limits),
        audit_recipients=audit_recipients,
    )


def _foreign_sender(policies: Iterable[SendingPolicy]) -> ForeignSender:
    """To rewrite is what has to be asked for, and what nobody may have refused."""
    said = {policy.foreign_sender for policy in policies} - {None}
    return ForeignSender.REWRITE if said == {ForeignSender.REWRITE} else ForeignSender.REFUSE


def _common_domains(lists: Iterable[list[str] | None]) -> tuple[str, ...] | None:
    """The domains that every list has. Of two entries one holds the other, or they have nothing in common."""
    common: tuple[str, ...] | None = None
    for each in lists:
        if each is None:
            continue
        common = tuple(each) if common is None else _intersection(common, each)
    return common


def _intersection(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    first, second = [*first], [*second]
    within = [one for one in first if any(_holds(other, one) for other in second)]
    within += [other for other in second if any(_holds(one, other) for one in first)]
    return tuple(dict.fromkeys(map(lower_ascii, within)))


def _holds(wide: str, narrow: str) -> bool:
    wide, narrow = lower_ascii(wide), lower_ascii(narrow)
    return wide == narrow or (wide.startswith("*.") and narrow.removeprefix("*").endswith(wide.removeprefix("*")))


def upstream_bundle(settings: ResolvedSettings, credential: str) -> Bundle:
    """What the relay is told of a mail server, without tenants.

    Args:
        settings: With a login that is good now.
        credential: Names the login.
    """
    expires_at = settings.token.expires_at if settings.token else None
    return Bundle(
        credential=credential,
        level=settings.effective.source,
        server=_server(settings.server),
        login=_login(settings.credentials, expires_at),
        limits=_limits(settings),
    )


def _limits(settings: ResolvedSettings) -> BundleLimits | None:
    limits = PROVIDERS[provider_of(settings.effective.provider, settings.server.host)].limits
    if limits is None:
        return None
    return BundleLimits(connections=limits.connections, messages_per_minute=limits.messages_per_minute)


def with_login(bundle: Bundle, settings: ResolvedSettings) -> Bundle:
    """A bundle with the settings' login, and the server as it was."""
    return bundle.model_copy(update={"login": upstream_bundle(settings, bundle.credential).login})


def _server(server: Server) -> BundleServer:
    return BundleServer(
        host=server.host,
        port=server.port,
        tls_mode=server.tls_mode,
        timeout_seconds=server.timeout.total_seconds(),
        tls_min_version="TLSv1.3" if server.tls_min_version == "TLSv1.3" else "TLSv1.2",
        tls_server_name=server.tls_server_name,
        tls_insecure_skip_verify=server.tls_insecure_skip_verify,
        ca_bundle=server.ca_bundle,
        proxy=_proxy(server.proxy),
    )


def _proxy(proxy: Proxy | None) -> BundleProxy | None:
    if proxy is None:
        return None
    username, password = (proxy.login.username, proxy.login.password) if proxy.login else (None, None)
    return BundleProxy(protocol=proxy.protocol, host=proxy.host, port=proxy.port, username=username, password=password)


def _login(login: Login | None, expires_at: datetime | None) -> BundleLogin | None:
    match login:
        case Credentials(username, password):
            return BundleLogin(username=username, password=password)
        case BearerToken(username, access_token):
            return BundleLogin(username=username, access_token=access_token, expires_at=expires_at)
        case None:
            return None


def as_delivered(
    settings: ResolvedSettings, address: RelayAddress, *, username: str, password: str
) -> ResolvedSettings:
    """The settings as an application sees them that sends through the relay: nothing of the mail server's is in them.

    Args:
        settings: Those in force.
        address: The relay's.
        username: The login at the relay.
        password: Its password.
    """
    server = Server(
        host=address.host,
        port=address.port,
        tls_mode=TlsMode.START_TLS,
        timeout=settings.server.timeout,
        ca_bundle=address.ca_bundle or None,
    )
    effective = replace(settings.effective, provider=CUSTOM, server=server, auth=None, ca_bundle=None, proxy_login=None)
    return ResolvedSettings(effective, server, Credentials(username, password))


@dataclass(frozen=True, slots=True)
class Passwords:
    """What is kept of a login's passwords."""

    hashes: tuple[str, ...] = ()
    """That of the present one first; the other holds until `until`."""
    until: datetime | None = None
    """None: there is no other."""
    rotation: str | None = None
    """The annotation by which a person asks for a new password, as it was when the present one was made."""

    def aged(self, now: datetime) -> "Passwords":
        """Without a password whose time has passed."""
        if self.until is None or now < self.until:
            return self
        return replace(self, hashes=self.hashes[:1], until=None)


def next_passwords(
    kept: Passwords, found: str | None, *, rotation: str | None, now: datetime
) -> tuple[str | None, Passwords]:
    """A new password and what is to be kept of it; None: the one that the Secret holds goes on.

    A password that the Secret does not hold any more ends with the Secret's deletion or change; only one that is
    replaced because somebody asked for that holds on for a while.

    Args:
        kept: What is known of the passwords so far.
        found: The password that the Secret holds; None: it holds none, or there is none.
        rotation: The annotation by which a person asks for a new one.
        now: The present time.
    """
    present = kept.aged(now)
    wanted = rotation is not None and rotation != kept.rotation
    if found is not None and not wanted and verify_password(found, present.hashes[:1]):
        return None, present
    before = next((each for each in present.hashes if found is not None and verify_password(found, [each])), None)
    password = new_password()
    if before is None:
        return password, Passwords((hash_password(password),), None, rotation)
    return password, Passwords((hash_password(password), before), now + OVERLAP, rotation)
