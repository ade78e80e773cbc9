"""The effective settings: what is left when levels, templates and references have been resolved."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from mailsettings.api.connection import ProxyProtocol
from mailsettings.api.providers import TlsMode


class Source(StrEnum):
    """The level that the effective settings come from."""

    SYSTEM = "System"
    TENANT = "Tenant"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A login by a user name and a password."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A login by an OAuth2 access token. Whoever holds the token can use it, so it is as secret as a password."""

    username: str
    """The mailbox that the token is for."""
    access_token: str = field(repr=False)


Login = Credentials | BearerToken


@dataclass(frozen=True, slots=True)
class Proxy:
    """Through what to connect."""

    protocol: ProxyProtocol
    host: str
    port: int
    login: Credentials | None = None
    """None: the proxy wants none."""

    @property
    def url(self) -> str:
        """The proxy without its login: `socks5://proxy.acme.example:1080`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.protocol.lower()}://{host}:{self.port}"

    @property
    def secrets(self) -> list[str]:
        """What no text may show."""
        return [self.login.username, self.login.password] if self.login else []


@dataclass(frozen=True, slots=True)
class Server:
    """Where and how to connect."""

    host: str
    port: int
    tls_mode: TlsMode
    timeout: timedelta
    """Of each step: the connect, the TLS handshake, each reply."""
    tls_min_version: str = "TLSv1.2"
    """`TLSv1.2` or `TLSv1.3`."""
    tls_server_name: str | None = None
    """The name that the certificate must bear; None: the host."""
    tls_insecure_skip_verify: bool = False
    ca_bundle: str | None = None
    """PEM certificates to trust instead of the public authorities."""
    proxy: Proxy | None = None
    """None: directly."""

    @property
    def protocol(self) -> str:
        """The URL scheme: `smtps` for implicit TLS (RFC 8314 calls it "submissions"), otherwise `smtp`."""
        return "smtps" if self.tls_mode is TlsMode.IMPLICIT else "smtp"
