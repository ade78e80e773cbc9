"""`spec.connection`: where the SMTP server is and how the connection is protected."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from mailsettings.api.model import ApiModel, Lax, Rule, between, duration_rule
from mailsettings.api.providers import TlsMode
from mailsettings.api.references import ConfigMapKeyRef, SecretKeyRef
from mailsettings.api.scalars import Duration, Host, Port

MIN_TIMEOUT: Final = "100ms"
MAX_TIMEOUT: Final = "2m"


class CaBundle(ApiModel):
    """Where the certificates of a private certification authority are kept, in PEM."""

    config_map_key_ref: ConfigMapKeyRef | None = None
    """A ConfigMap that holds them."""
    secret_key_ref: SecretKeyRef | None = None
    """A Secret that holds them."""

    rules = (
        Rule(
            cel="has(self.configMapKeyRef) != has(self.secretKeyRef)",
            holds=lambda s: (s.config_map_key_ref is None) != (s.secret_key_ref is None),
            message="caBundle: set exactly one of configMapKeyRef and secretKeyRef",
        ),
    )


class Tls(ApiModel):
    """Transport security of the SMTP connection."""

    mode: Annotated[TlsMode, Lax] | None = None
    """StartTLS upgrades a plain connection and is required, never opportunistic; Implicit speaks TLS from the first
    byte; Disabled sends everything in the clear. When absent the provider's template decides; for Custom port 465
    means Implicit and any other port StartTLS."""
    min_version: Literal["TLSv1.2", "TLSv1.3"] | None = None
    """The oldest TLS version to accept. When absent TLSv1.2."""
    ca_bundle: CaBundle | None = None
    """Trust these certificates instead of the public authorities."""
    server_name: Host | None = None
    """The name that the server's certificate must bear. When absent the host."""
    insecure_skip_verify: bool | None = None
    """Accept any certificate. Whoever can reroute the connection can then read the password: for tests only."""

    rules = (
        Rule(
            cel="!has(self.mode) || self.mode != 'Disabled' || !(has(self.minVersion) || has(self.caBundle) || "
            "has(self.serverName) || has(self.insecureSkipVerify))",
            holds=lambda s: (
                s.mode != TlsMode.DISABLED
                or (s.min_version, s.ca_bundle, s.server_name, s.insecure_skip_verify) == (None,) * 4
            ),
            message="tls: with mode Disabled remove the other fields, or set mode to StartTLS or Implicit",
        ),
        Rule(
            cel="!has(self.insecureSkipVerify) || !self.insecureSkipVerify || "
            "!(has(self.caBundle) || has(self.serverName))",
            holds=lambda s: not s.insecure_skip_verify or (s.ca_bundle is None and s.server_name is None),
            message="tls: insecureSkipVerify makes caBundle and serverName meaningless; remove it or them",
        ),
    )


class Connection(ApiModel):
    """The SMTP server. The provider's template fills what is left out; an explicit value wins."""

    host: Host | None = None
    """The server's DNS name or IP address."""
    port: Port | None = None
    """The server's TCP port. When absent the template's; for Custom 587, or 465 for Implicit and 25 for Disabled."""
    timeout: (
        Annotated[
            Duration,
            AfterValidator(between(MIN_TIMEOUT, MAX_TIMEOUT)),
            Field(json_schema_extra=duration_rule(MIN_TIMEOUT, MAX_TIMEOUT)),
        ]
        | None
    ) = None
    """How long each step may take: the connect, the TLS handshake, each reply. From 100ms to 2m; when absent 10s."""
    tls: Tls | None = None
    """Transport security."""
