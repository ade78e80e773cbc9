"""The spec of the settings' kinds."""

from collections.abc import Mapping
from typing import Any

from mailsettings.api import names
from mailsettings.api.auth import Auth
from mailsettings.api.connection import Connection
from mailsettings.api.delivery import Delivery
from mailsettings.api.model import ApiModel, Rule
from mailsettings.api.output import ClusterOutput, Output
from mailsettings.api.probe import Probe
from mailsettings.api.provider_rules import ProviderName, provider_rules
from mailsettings.api.providers import CUSTOM
from mailsettings.api.scalars import Mailbox, ObjectName
from mailsettings.api.sending import TenantPolicy
from mailsettings.api.tenants import Tenants


class MailServer(ApiModel):
    """A mail server and the sender of the mail: what every server that is named has."""

    mail_from: Mailbox | None = None
    """The sender, as an address or as a name and an address: Acme <no-reply@acme.example>."""
    provider: ProviderName | None = None
    """Whose server it is; the provider's template fills the connection. When absent Custom."""
    connection: Connection | None = None
    """The SMTP server. Needed for Custom; for the other providers only to differ from the template."""
    auth: Auth | None = None
    """How to log in. When absent the server wants no login."""

    @property
    def names_server(self) -> bool:
        """Whether the provider's template or the spec itself says which host to connect to."""
        if self.provider not in (None, CUSTOM):
            return True
        return self.connection is not None and self.connection.host is not None


class ServerSpec(MailServer):
    """What both kinds of settings have in common."""

    reply_to: Mailbox | None = None
    """Where answers go, when not to the sender."""
    probe: Probe | None = None
    """The test of the settings against the real server."""
    suspend: bool = False
    """Stops probes and the delivery of changes. What has been delivered stays; access tokens in it are renewed."""


NAMES_SERVER_CEL = (
    f"((has(self.provider) && self.provider != '{CUSTOM}') || (has(self.connection) && has(self.connection.host)))"
)


class ClusterMailServerSettingsSpec(ServerSpec):
    """The system's mail server."""

    mail_from: Mailbox
    """The sender, as an address or as a name and an address: Acme <no-reply@acme.example>."""
    output: ClusterOutput | None = None
    """What the Secrets look like that tenants.provision Always delivers."""
    tenants: Tenants | None = None
    """Which namespaces may use these settings, and how. When absent none may."""

    rules = (
        *provider_rules(),
        Rule(
            cel=NAMES_SERVER_CEL,
            holds=lambda s: s.names_server,
            message="connection.host: set it, or a provider whose template has one",
        ),
    )


class SystemSettingsRef(ApiModel):
    """A cluster object."""

    name: ObjectName
    """The ClusterMailServerSettings' name."""


_OWN_CEL = "(has(self.provider) || has(self.connection) || has(self.auth) || has(self.probe))"
_ASKS_CEL = "(has(self.output) && has(self.output.delivery))"
_INHERITS_CEL = f"(has(self.useSystemSettings) ? self.useSystemSettings : !{_OWN_CEL})"


class MailServerSettingsSpec(ServerSpec):
    """A tenant's mail server, or the tenant's wish to use the system's."""

    use_system_settings: bool | None = None
    """True uses the system's server, false this object's own. When absent it is true exactly if none of provider,
    connection, auth and probe is set."""
    system_settings_ref: SystemSettingsRef | None = None
    """The cluster object to inherit from. When absent the one named default."""
    output: Output | None = None
    """What the delivered Secret looks like."""
    policy: TenantPolicy | None = None
    """What the relay lets these settings send."""

    @staticmethod
    def inherits_from(spec: Mapping[str, Any]) -> str | None:
        """The name of the cluster object that a spec, as JSON has it, inherits from; None: it names its own server.

        For the many places that need to know this of every object at once; it agrees with `inherits`.
        """
        uses_system = spec.get("useSystemSettings")
        if uses_system is None:
            uses_system = not any(spec.get(field) is not None for field in ("provider", "connection", "auth", "probe"))
        return (spec.get("systemSettingsRef") or {}).get("name", names.DEFAULT_SETTINGS) if uses_system else None

    @property
    def sets_own_server(self) -> bool:
        """Whether any field is set that only an own server has."""
        return (self.provider, self.connection, self.auth, self.probe) != (None,) * 4

    @property
    def uses_federation(self) -> bool:
        """Whether the operator's own token would prove who the client is."""
        client_auth = self.auth.oauth2.client_auth if self.auth and self.auth.oauth2 else None
        return client_auth is not None and client_auth.federation is not None

    @property
    def asks_for(self) -> Delivery | None:
        """What the Secret is to hold; None: what follows from the level."""
        return self.output.delivery if self.output is not None else None

    @property
    def inherits(self) -> bool:
        """Whether the system's server is used."""
        if self.use_system_settings is not None:
            return self.use_system_settings
        return not self.sets_own_server

    @property
    def system_settings_name(self) -> str:
        """The cluster object that is inherited from, where `inherits` holds."""
        return self.system_settings_ref.name if self.system_settings_ref else names.DEFAULT_SETTINGS

    rules = (
        Rule(
            cel=f"!has(self.useSystemSettings) || !self.useSystemSettings || !{_OWN_CEL}",
            holds=lambda s: not s.use_system_settings or not s.sets_own_server,
            message="useSystemSettings: with true remove provider, connection, auth and probe; the system's are used",
        ),
        *provider_rules(),
        Rule(
            cel="!has(self.auth) || !has(self.auth.oauth2) || !has(self.auth.oauth2.clientAuth) || "
            "!has(self.auth.oauth2.clientAuth.federation)",
            holds=lambda s: not s.uses_federation,
            message="auth.oauth2.clientAuth.federation: it sends the operator's own token, which a tenant may not send "
            "anywhere; set secretRef or certificateRef",
        ),
        Rule(
            cel=f"{_INHERITS_CEL} || has(self.mailFrom)",
            holds=lambda s: s.inherits or s.mail_from is not None,
            message="mailFrom: a server of your own needs a sender; set it",
        ),
        Rule(
            cel=f"{_INHERITS_CEL} || {NAMES_SERVER_CEL}",
            holds=lambda s: s.inherits or s.names_server,
            message="connection.host: a server of your own needs it, or a provider whose template has one; "
            "to use the system's server remove provider, connection, auth and probe",
        ),
        Rule(
            cel=f"!has(self.systemSettingsRef) || {_INHERITS_CEL}",
            holds=lambda s: s.system_settings_ref is None or s.inherits,
            message="systemSettingsRef: it has no meaning beside a server of your own; remove it",
        ),
        Rule(
            cel=f"!{_ASKS_CEL} || self.output.delivery == 'Relay' || !{_INHERITS_CEL}",
            holds=lambda s: s.asks_for is not Delivery.CREDENTIALS or not s.inherits,
            message="output.delivery: with the system's server only Relay can be asked for; the system's settings say "
            "whether they give their login away",
        ),
        Rule(
            cel=f"!has(self.policy) || {_INHERITS_CEL} || ({_ASKS_CEL} && self.output.delivery == 'Relay')",
            holds=lambda s: s.policy is None or s.inherits or s.asks_for is Delivery.RELAY,
            message="policy: only the relay enforces it; set output.delivery to Relay, or remove it",
        ),
    )
