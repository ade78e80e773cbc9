"""Templates and levels."""

from datetime import timedelta

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import PROVIDERS, TlsMode
from mailsettings.core.effective import EffectiveSettings, inherited_settings
from mailsettings.core.finding import Finding
from mailsettings.core.report import effective_status
from mailsettings.core.server import Source
from tests.unit.builders import effective, resolved, tenant_spec

LOGIN = {"basic": {"username": "u", "passwordSecretRef": {"name": "s", "key": "k"}}}


@pytest.mark.parametrize(
    ("connection", "port", "mode"),
    [
        ({}, 587, TlsMode.START_TLS),
        ({"port": 465}, 465, TlsMode.IMPLICIT),
        ({"port": 2525}, 2525, TlsMode.START_TLS),
        ({"port": 25}, 25, TlsMode.START_TLS),
        ({"tls": {"mode": "Implicit"}}, 465, TlsMode.IMPLICIT),
        ({"tls": {"mode": "Disabled"}}, 25, TlsMode.DISABLED),
        ({"tls": {"mode": "StartTLS"}}, 587, TlsMode.START_TLS),
        ({"port": 465, "tls": {"mode": "StartTLS"}}, 465, TlsMode.START_TLS),
        ({"port": 8025, "tls": {"mode": "Disabled"}}, 8025, TlsMode.DISABLED),
    ],
)
def test_custom_server_what_is_given_decides_what_is_not(
    connection: dict[str, object], port: int, mode: TlsMode
) -> None:
    server = effective(connection={"host": "smtp.acme.example", **connection}).server
    assert (server.port, server.tls_mode) == (port, mode)


@pytest.mark.parametrize("name", [name for name, provider in PROVIDERS.items() if provider.endpoint])
def test_provider_template_fills_the_connection_and_an_explicit_value_wins(name: str) -> None:
    endpoint = PROVIDERS[name].endpoint
    assert endpoint is not None
    auth = {"basic": {"passwordSecretRef": {"name": "s", "key": "k"}}}
    if PROVIDERS[name].fixed_username is None:
        auth["basic"]["username"] = "user@acme.example"  # type: ignore[assignment]

    filled = effective(provider=name, connection=None, auth=auth).server
    explicit = effective(
        provider=name, connection={"host": "mx.acme.example", "port": 465, "timeout": "3s"}, auth=auth
    ).server

    assert (filled.host, filled.port, filled.tls_mode) == (endpoint.host, endpoint.port, endpoint.tls_mode)
    assert filled.timeout == timedelta(seconds=10)
    assert (explicit.host, explicit.port, explicit.tls_mode) == ("mx.acme.example", 465, TlsMode.IMPLICIT)
    assert explicit.timeout == timedelta(seconds=3)


def test_probe_defaults_to_a_login_where_there_is_one() -> None:
    assert effective().probe.mode is ProbeMode.AUTHENTICATE
    assert effective(auth=None).probe.mode is ProbeMode.CONNECT
    assert effective(probe={"mode": "Disabled"}).probe.mode is ProbeMode.DISABLED
    assert effective().probe.interval == timedelta(hours=6)


def test_sendgrid_user_name_is_filled_in() -> None:
    settings = resolved(
        provider="SendGrid",
        connection=None,
        auth={"basic": {"passwordSecretRef": {"name": "s", "key": "password"}}},
        password=b"SG.0123456789abcdefghij",
    )
    assert settings.credentials is not None
    assert settings.credentials.username == "apikey"


SYSTEM = effective()


def inherit(allowed_from: list[str] | None = None, **fields: object) -> EffectiveSettings | Finding:
    return inherited_settings(SYSTEM, tenant_spec(**fields), allowed_from=allowed_from, namespace="shop")


def test_inheriting_without_wishes_is_the_systems_settings() -> None:
    assert inherit() == SYSTEM


@pytest.mark.parametrize(
    ("mail_from", "allowed_from", "permitted"),
    [
        ("no-reply@acme.example", None, True),
        ("Shop <NO-REPLY@Acme.example>", None, True),
        ("shop@acme.example", None, False),
        ("no-reply@acme.example", [], False),
        ("shop@acme.example", ["*@acme.example"], True),
        ("shop@sub.acme.example", ["*@acme.example"], False),
        ("shop@sub.acme.example", ["*@*.acme.example"], True),
        ("a@evil.example@acme.example", ["*@acme.example"], None),
        ("shop@acme.example", ["{namespace}@acme.example"], True),
        ("mall@acme.example", ["{namespace}@acme.example"], False),
        ("shop+news@acme.example", ["{namespace}+*@acme.example"], True),
        ("shop@acmeXexample", ["shop@acme.example"], False),
    ],
)
def test_sender_is_bounded_by_the_systems_patterns(
    mail_from: str, allowed_from: list[str] | None, permitted: bool | None
) -> None:
    if permitted is None:
        with pytest.raises(ValueError, match="pattern"):
            inherit(allowed_from, mailFrom=mail_from)
        return
    result = inherit(allowed_from, mailFrom=mail_from)
    if permitted:
        assert isinstance(result, EffectiveSettings)
        assert result.mail_from == mail_from
        assert result.server == SYSTEM.server
    else:
        assert isinstance(result, Finding)
        assert (result.status, result.reason) == (False, Reason.SENDER_NOT_ALLOWED)
        assert "mailFrom" in result.message


def test_reply_to_is_bounded_too() -> None:
    result = inherit(replyTo="elsewhere@example.org")
    assert isinstance(result, Finding)
    assert "replyTo" in result.message


def test_source_says_whose_the_server_is() -> None:
    assert effective().source is Source.TENANT


def test_the_status_names_a_proxy_where_it_is_the_objects_own() -> None:
    proxy = {"protocol": "SOCKS5", "host": "fd00::7", "port": 1080}
    settings = effective(connection={"host": "smtp.acme.example", "proxy": proxy})
    assert effective_status(settings).proxy == "socks5://[fd00::7]:1080"
    assert effective_status(settings, inherited=True).proxy is None
    assert effective_status(effective()).proxy is None
