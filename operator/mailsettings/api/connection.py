"""`spec.connection`: where the SMTP server is and how the connection is protected."""

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from mailsettings.api.model import ApiModel, Lax, Rule, between, duration_rule
from mailsettings.api.providers import TlsMode
from mailsettings.api.references import ConfigMapKeyRef, SecretKeyRef
from mailsettings.api.scalars import Duration, Host, Port, Username

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


MAX_PROXY_LOGIN_BYTES: Final = 255
"""Of a user name or password. Source: RFC 1929 §2."""


class ProxyProtocol(StrEnum):
    """How a proxy is asked for a connection."""

    HTTP = "HTTP"
    """By CONNECT. Source: RFC 9110 §9.3.6."""
    SOCKS5 = "SOCKS5"
    """Source: RFC 1928."""


class ProxyBasic(ApiModel):
    """A user name and a password for the proxy."""

    username: Username | None = None
    """The user name. At most 255 bytes of UTF-8."""
    username_secret_ref: SecretKeyRef | None = None
    """A Secret that holds the user name."""
    password_secret_ref: SecretKeyRef
    """A Secret that holds the password."""

    rules = (
        Rule(
            cel="has(self.username) != has(self.usernameSecretRef)",
            holds=lambda s: (s.username is None) != (s.username_secret_ref is None),
            message="connection.proxy.basic: set exactly one of username and usernameSecretRef",
        ),
        Rule(
            cel=f"!has(self.username) || size(bytes(self.username)) <= {MAX_PROXY_LOGIN_BYTES}",
            holds=lambda s: s.username is None or is_proxy_login(s.username),
            message="connection.proxy.basic.username: it is longer than 255 bytes, which no proxy takes",
        ),
    )


def is_proxy_login(value: str) -> bool:
    """Whether a user name or password is short enough for every proxy."""
    return len(value.encode("utf-8", "surrogatepass")) <= MAX_PROXY_LOGIN_BYTES


class Proxy(ApiModel):
    """A proxy through which the mail server and, with OAuth2, the identity provider are connected to."""

    protocol: Annotated[ProxyProtocol, Lax]
    """HTTP asks by CONNECT, in the clear; SOCKS5 as RFC 1928 has it."""
    host: Host
    """The proxy's DNS name or IP address. A tenant may name only proxies that the operator's configuration lists."""
    port: Port
    """The proxy's TCP port."""
    basic: ProxyBasic | None = None
    """A user name and a password for the proxy. When absent it wants none."""

    rules = (
        Rule(
            cel="self.protocol != 'HTTP' || !has(self.basic) || !has(self.basic.username) || "
            "!self.basic.username.contains(':')",
            holds=lambda s: (
                s.protocol is not ProxyProtocol.HTTP
                or s.basic is None
                or s.basic.username is None
                or ":" not in s.basic.username
            ),
            message="connection.proxy.basic.username: HTTP has no way to send a user name with a colon",
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
    proxy: Proxy | None = None
    """The proxy to connect through. When absent connections are made directly; the environment brings none in."""
