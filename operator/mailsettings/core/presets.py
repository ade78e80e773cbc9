"""The application's Secret in the forms that well-known applications and libraries read."""

import json
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

from mailsettings.api.providers import CUSTOM, GOOGLE, OFFICE365, SENDGRID, TlsMode
from mailsettings.api.template import Preset
from mailsettings.core.credentials import ResolvedSettings
from mailsettings.core.mailbox import parse_mailbox
from mailsettings.core.server import Credentials

Keys = dict[str, str]


def _django(s: ResolvedSettings) -> Keys:
    """Source: Django settings reference, Email."""
    sender = s.effective.mail_from
    return {
        "EMAIL_HOST": s.server.host,
        "EMAIL_PORT": str(s.server.port),
        "EMAIL_HOST_USER": _username(s),
        "EMAIL_HOST_PASSWORD": _password(s),
        "EMAIL_USE_TLS": str(s.server.tls_mode is TlsMode.START_TLS),
        "EMAIL_USE_SSL": str(s.server.tls_mode is TlsMode.IMPLICIT),
        "DEFAULT_FROM_EMAIL": sender,
        "SERVER_EMAIL": sender,
    }


def _grafana(s: ResolvedSettings) -> Keys:
    """Source: Grafana configuration, `[smtp]`.

    No setting asks for implicit TLS: Grafana uses it on port 465 and nowhere else. So STARTTLS is mandatory unless TLS
    is disabled: it means nothing on port 465, and on another port sending fails where it would go on without TLS.
    Source: `pkg/services/notifications/smtp.go`, and `NewDialer` and `Dial` of the library `mail.v2` that it calls.
    """
    return {
        "GF_SMTP_ENABLED": "true",
        "GF_SMTP_HOST": f"{_url_host(s)}:{s.server.port}",
        "GF_SMTP_USER": _username(s),
        "GF_SMTP_PASSWORD": _password(s),
        "GF_SMTP_FROM_ADDRESS": parse_mailbox(s.effective.mail_from).addr_spec,
        "GF_SMTP_FROM_NAME": parse_mailbox(s.effective.mail_from).display_name,
        "GF_SMTP_STARTTLS_POLICY": "NoStartTLS" if s.server.tls_mode is TlsMode.DISABLED else "MandatoryStartTLS",
        "GF_SMTP_SKIP_VERIFY": _boolean(s.server.tls_insecure_skip_verify),
    }


def _keycloak(s: ResolvedSettings) -> Keys:
    """Source: Keycloak realm representation, `smtpServer`, whose values are all strings."""
    document = {
        "host": s.server.host,
        "port": str(s.server.port),
        "from": parse_mailbox(s.effective.mail_from).addr_spec,
        "fromDisplayName": parse_mailbox(s.effective.mail_from).display_name,
        "replyTo": parse_mailbox(s.effective.reply_to).addr_spec if s.effective.reply_to else "",
        "ssl": _boolean(s.server.tls_mode is TlsMode.IMPLICIT),
        "starttls": _boolean(s.server.tls_mode is TlsMode.START_TLS),
        "auth": _boolean(s.credentials is not None),
        "user": _username(s),
        "password": _password(s),
    }
    return {"keycloak-smtp-server.json": _json(document)}


def _nodemailer(s: ResolvedSettings) -> Keys:
    """Source: Nodemailer, SMTP transport options."""
    tls: dict[str, object] = {"minVersion": s.server.tls_min_version}
    if s.server.tls_server_name:
        tls["servername"] = s.server.tls_server_name
    if s.server.ca_bundle:
        tls["ca"] = s.server.ca_bundle
    if s.server.tls_insecure_skip_verify:
        tls["rejectUnauthorized"] = False
    document: dict[str, object] = {
        "host": s.server.host,
        "port": s.server.port,
        "secure": s.server.tls_mode is TlsMode.IMPLICIT,
        "requireTLS": s.server.tls_mode is TlsMode.START_TLS,
        "ignoreTLS": s.server.tls_mode is TlsMode.DISABLED,
        "tls": tls,
    }
    if s.credentials:
        document["auth"] = {"user": _username(s), "pass": _password(s)}
    return {"nodemailer.json": _json(document)}


_TLS_VERSIONS: Final = {"TLSv1.2": "TLSv1.2 TLSv1.3", "TLSv1.3": "TLSv1.3"}
"""The versions from a minimum on, with blanks between them. Source: Jakarta Mail, `mail.smtp.ssl.protocols`."""


def _spring(s: ResolvedSettings) -> Keys:
    """Source: Spring Boot common application properties, `spring.mail.*`, in environment form.

    The environment form cannot spell dotted or camel-case map keys of Jakarta Mail exactly, so the properties go as
    `SPRING_APPLICATION_JSON`, which Spring Boot reads from the environment.
    """
    protocol = s.server.protocol
    properties: dict[str, object] = {
        f"mail.{protocol}.auth": s.credentials is not None,
        f"mail.{protocol}.connectiontimeout": _milliseconds(s),
        f"mail.{protocol}.timeout": _milliseconds(s),
        f"mail.{protocol}.writetimeout": _milliseconds(s),
    }
    if s.server.tls_mode is not TlsMode.DISABLED:
        properties[f"mail.{protocol}.ssl.checkserveridentity"] = not s.server.tls_insecure_skip_verify
        properties[f"mail.{protocol}.ssl.protocols"] = _TLS_VERSIONS[s.server.tls_min_version]
    if s.server.tls_mode is TlsMode.START_TLS:
        properties["mail.smtp.starttls.enable"] = True
        properties["mail.smtp.starttls.required"] = True
    mail: dict[str, object] = {
        "host": s.server.host,
        "port": s.server.port,
        "protocol": protocol,
        "properties": properties,
    }
    if s.credentials:
        mail |= {"username": _username(s), "password": _password(s)}
    return {"SPRING_APPLICATION_JSON": _json({"spring": {"mail": mail}})}


def _symfony(s: ResolvedSettings) -> Keys:
    """Source: Symfony Mailer, `MAILER_DSN`; `smtps` is implicit TLS, `auto_tls=false` keeps STARTTLS off."""
    options = {
        TlsMode.DISABLED: ["auto_tls=false"],
        TlsMode.START_TLS: ["require_tls=true"],
        TlsMode.IMPLICIT: [],
    }[s.server.tls_mode]
    if s.server.tls_insecure_skip_verify:
        options = [*options, "verify_peer=0"]
    return {"MAILER_DSN": server_uri(s) + ("?" + "&".join(options) if options else "")}


_THINGSBOARD_PROVIDERS: Final = {
    CUSTOM: "CUSTOM",
    SENDGRID: "SENDGRID",
    GOOGLE: "GOOGLE",
    OFFICE365: "OFFICE_365",
}


def _thingsboard(s: ResolvedSettings) -> Keys:
    """Source: ThingsBoard, the `mail` entry of the administration settings."""
    uses_tls = s.server.tls_mode is not TlsMode.DISABLED
    document: dict[str, object] = {
        "mailFrom": s.effective.mail_from,
        "providerId": _THINGSBOARD_PROVIDERS.get(s.effective.provider, "CUSTOM"),
        "smtpProtocol": s.server.protocol,
        "smtpHost": s.server.host,
        "smtpPort": s.server.port,
        "timeout": _milliseconds(s),
        "enableTls": uses_tls,
        "tlsVersion": s.server.tls_min_version if uses_tls else None,
        "enableProxy": False,
        "enableOauth2": False,
        "username": _username(s),
        "password": _password(s),
    }
    return {"thingsboard-mail.json": _json(document)}


_PRESETS: Final[Mapping[Preset, Callable[[ResolvedSettings], Keys]]] = {
    Preset.DJANGO: _django,
    Preset.GRAFANA: _grafana,
    Preset.KEYCLOAK: _keycloak,
    Preset.NODEMAILER: _nodemailer,
    Preset.SPRING: _spring,
    Preset.SYMFONY: _symfony,
    Preset.THINGSBOARD: _thingsboard,
}


def preset_keys(preset: Preset, settings: ResolvedSettings) -> Keys:
    """The keys that a preset adds to the Secret."""
    return _PRESETS[preset](settings)


def server_uri(settings: ResolvedSettings) -> str:
    """The server as a URL with its login: `smtp://user:password@host:587`. An access token is left out."""
    parts = [_username(settings), _password(settings)]
    login = ":".join(quote(part, safe="") for part in parts if part)
    return f"{settings.server.protocol}://{login}{'@' if login else ''}{_url_host(settings)}:{settings.server.port}"


def _url_host(s: ResolvedSettings) -> str:
    """IPv6 addresses stand in brackets. Source: RFC 3986 §3.2.2."""
    return f"[{s.server.host}]" if ":" in s.server.host else s.server.host


def _username(s: ResolvedSettings) -> str:
    return s.credentials.username if s.credentials else ""


def _password(s: ResolvedSettings) -> str:
    """None of the presets is used with OAuth2, which has no password."""
    return s.credentials.password if isinstance(s.credentials, Credentials) else ""


def _milliseconds(s: ResolvedSettings) -> int:
    return round(s.server.timeout.total_seconds() * 1000)


def _boolean(value: object) -> str:
    return "true" if value else "false"


def _json(document: object) -> str:
    return json.dumps(document, ensure_ascii=False)
