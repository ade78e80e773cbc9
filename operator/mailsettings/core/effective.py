"""From a spec to the settings in force: templates and levels are resolved, references to Secrets are not yet."""

from dataclasses import dataclass, replace
from datetime import timedelta

from mailsettings.api.auth import Auth, BasicAuth
from mailsettings.api.conditions import Reason
from mailsettings.api.connection import CaBundle, Connection, ProxyBasic, Tls
from mailsettings.api.connection import Proxy as ProxySpec
from mailsettings.api.oauth2 import OAuth2
from mailsettings.api.patterns import parse_duration
from mailsettings.api.probe import Probe, ProbeMode
from mailsettings.api.providers import CUSTOM, DEFAULT_PORTS, PROVIDERS, Endpoint, TlsMode
from mailsettings.api.spec import ClusterMailServerSettingsSpec, MailServerSettingsSpec, ServerSpec
from mailsettings.core.finding import Finding, failed
from mailsettings.core.server import Proxy, Server, Source
from mailsettings.core.tenancy import sender_permitted

DEFAULT_PROBE_INTERVAL = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """How the settings are tested."""

    mode: ProbeMode
    interval: timedelta
    recipient: str | None = None


@dataclass(frozen=True, slots=True)
class EffectiveSettings:
    """The settings in force. References to Secrets and ConfigMaps are still references."""

    source: Source
    settings_name: str
    settings_generation: int
    provider: str
    mail_from: str
    reply_to: str | None
    server: Server
    """Without the CA bundle's text and the proxy's login."""
    ca_bundle: CaBundle | None
    auth: BasicAuth | OAuth2 | None
    probe: ProbePlan
    proxy_login: ProxyBasic | None = None


def own_settings(
    spec: ClusterMailServerSettingsSpec | MailServerSettingsSpec, *, source: Source, name: str, generation: int
) -> EffectiveSettings:
    """The settings of a spec that names its own server.

    Raises:
        ValueError: the spec names no server or no sender, which the models' rules exclude.
    """
    if spec.mail_from is None:
        raise ValueError("a spec with a server of its own has a mailFrom")
    connection = spec.connection or Connection()
    tls = connection.tls or Tls()
    return EffectiveSettings(
        source=source,
        settings_name=name,
        settings_generation=generation,
        provider=spec.provider or CUSTOM,
        mail_from=spec.mail_from,
        reply_to=spec.reply_to,
        server=_server(spec, connection, tls),
        ca_bundle=tls.ca_bundle,
        auth=_login(spec.auth),
        probe=_probe_plan(spec.probe or Probe(), has_auth=spec.auth is not None),
        proxy_login=connection.proxy.basic if connection.proxy else None,
    )


def _login(auth: Auth | None) -> BasicAuth | OAuth2 | None:
    return None if auth is None else auth.basic or auth.oauth2


def _server(spec: ServerSpec, connection: Connection, tls: Tls) -> Server:
    template = PROVIDERS[spec.provider or CUSTOM]
    endpoint = _endpoint(spec)
    host = connection.host or (endpoint.host if endpoint else None)
    if host is None:
        raise ValueError("a spec with a server of its own has a connection.host or a provider with one")
    mode, port = _mode_and_port(endpoint, connection.port, tls.mode)
    return Server(
        host=host,
        port=port,
        tls_mode=mode,
        timeout=parse_duration(connection.timeout or template.timeout),
        tls_min_version=tls.min_version or "TLSv1.2",
        tls_server_name=tls.server_name,
        tls_insecure_skip_verify=bool(tls.insecure_skip_verify),
        proxy=_proxy(connection.proxy),
    )


def _proxy(proxy: ProxySpec | None) -> Proxy | None:
    return None if proxy is None else Proxy(proxy.protocol, proxy.host, proxy.port)


def _endpoint(spec: ServerSpec) -> Endpoint | None:
    """The template's server, in the cloud that the settings' tokens come from."""
    template = PROVIDERS[spec.provider or CUSTOM]
    cloud = spec.auth.oauth2.cloud if spec.auth and spec.auth.oauth2 else None
    return template.endpoints.get(cloud or "", template.endpoint)


def _mode_and_port(endpoint: Endpoint | None, port: int | None, mode: TlsMode | None) -> tuple[TlsMode, int]:
    """What is given decides what is not: a mode its usual port, a port its usual mode, neither the template."""
    if mode is None and port is None and endpoint is not None:
        return endpoint.tls_mode, endpoint.port
    if mode is None:
        mode = TlsMode.IMPLICIT if port == DEFAULT_PORTS[TlsMode.IMPLICIT] else TlsMode.START_TLS
    return mode, port or DEFAULT_PORTS[mode]


def _probe_plan(probe: Probe, *, has_auth: bool) -> ProbePlan:
    return ProbePlan(
        mode=probe.mode or (ProbeMode.AUTHENTICATE if has_auth else ProbeMode.CONNECT),
        interval=parse_duration(probe.interval) if probe.interval else DEFAULT_PROBE_INTERVAL,
        recipient=probe.recipient,
    )


def inherited_settings(
    system: EffectiveSettings, spec: MailServerSettingsSpec, *, allowed_from: list[str] | None, namespace: str
) -> EffectiveSettings | Finding:
    """The system's settings with the sender that the tenant chose, or why it may not choose it."""
    for field, mailbox in (("mailFrom", spec.mail_from), ("replyTo", spec.reply_to)):
        if mailbox is not None and not sender_permitted(
            mailbox, patterns=allowed_from, system_from=system.mail_from, namespace=namespace
        ):
            return failed(
                Reason.SENDER_NOT_ALLOWED,
                f"{field}: the system's settings {system.settings_name!r} do not permit this address; "
                f"remove the field or ask for it in their tenants.allowedFrom",
            )
    return replace(system, mail_from=spec.mail_from or system.mail_from, reply_to=spec.reply_to or system.reply_to)
