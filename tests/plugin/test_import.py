"""`kubectl mailsettings import`: ThingsBoard's mail settings become manifests that `validate` accepts."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailsettings.api import names
from mailsettings.plugin.imports.run import to_manifests
from mailsettings.plugin.imports.thingsboard import ForeignSettingsError, Imported, Wish, convert, parse
from mailsettings.plugin.validate.check import Problem, Severity, content_of
from mailsettings.plugin.validate.source import documents
from tests.plugin.test_command_line import plugin

Json = dict[str, Any]

BASIC: Final[Json] = {
    "mailFrom": "ThingsBoard <no-reply@acme.example>", "providerId": "CUSTOM", "smtpProtocol": "smtp",
    "smtpHost": "smtp.acme.example", "smtpPort": "587", "timeout": "10000", "enableTls": "true",
    "tlsVersion": "TLSv1.2", "enableProxy": False, "username": "user", "password": "hunter2",
    "showChangePassword": False,
}  # fmt: skip
OAUTH2: Final[Json] = {
    "mailFrom": "a@acme.example", "providerId": "OFFICE_365", "smtpProtocol": "smtp",
    "smtpHost": "smtp.office365.com", "smtpPort": 587, "timeout": 10000, "enableTls": True, "tlsVersion": "TLSv1.2",
    "username": "a@acme.example", "enableOauth2": True, "clientId": "client", "clientSecret": "hunter2",
    "providerTenantId": "72f988bf-0000-4000-8000-2d7cd011db47",
    "authUri": "https://login.microsoftonline.com/72f9/oauth2/v2.0/authorize",
    "tokenUri": "https://login.microsoftonline.com/72f9/oauth2/v2.0/token",
    "scope": ["https://outlook.office365.com/SMTP.Send", "offline_access", "openid"],
    "redirectUri": "https://tb/api/admin/mail/oauth2/code", "tokenGenerated": True, "refreshTokenExpires": 1,
    "refreshToken": "hunter2",
}  # fmt: skip


def imported(source: Json, **wish: Any) -> Imported:
    return convert(source, Wish(**{"name": "mail", "namespace": "shop", "is_cluster": False, **wish}))


def errors(result: Imported) -> list[Problem]:
    text = to_manifests(*filter(None, (result.secret, result.settings)))
    found = [each for document in documents(text) for each in content_of(document).settings]
    assert len(found) == 1
    return [problem for problem in found[0].problems if problem.severity is Severity.ERROR]


def test_a_login_with_a_password() -> None:
    result = imported(BASIC)
    assert errors(result) == []
    assert result.notes == []
    assert result.settings["metadata"] == {"name": "mail", "namespace": "shop"}
    assert result.settings["spec"] == {
        "mailFrom": "ThingsBoard <no-reply@acme.example>",
        "provider": "Custom",
        "connection": {"host": "smtp.acme.example", "port": 587, "timeout": "10s", "tls": {"mode": "StartTLS"}},
        "auth": {"basic": {"username": "user", "passwordSecretRef": {"name": "mail-login", "key": "password"}}},
    }
    assert result.secret is not None
    assert result.secret["stringData"] == {"password": "hunter2"}
    assert "hunter2" not in json.dumps(result.settings)


def test_office365_with_oauth2() -> None:
    result = imported(OAUTH2)
    assert errors(result) == []
    assert result.settings["spec"]["auth"]["oauth2"] == {
        "username": "a@acme.example",
        "grant": "AuthorizationCode",
        "clientID": "client",
        "clientAuth": {"secretRef": {"name": "mail-login", "key": "client-secret"}},
        "directoryID": "72f988bf-0000-4000-8000-2d7cd011db47",
    }
    assert result.secret is not None
    assert result.secret["stringData"] == {"client-secret": "hunter2"}
    (note,) = result.notes
    assert note.startswith("tokens: they are not carried over.")
    assert note.endswith("kubectl mailsettings authorize mail")


GOOGLE: Final = {
    "providerId": "GOOGLE", "smtpProtocol": "smtps", "smtpHost": "smtp.gmail.com", "smtpPort": 465,
    "authUri": "https://accounts.google.com/o/oauth2/v2/auth?prompt=consent&access_type=offline",
    "tokenUri": "https://oauth2.googleapis.com/token", "scope": ["https://mail.google.com/"],
}  # fmt: skip
OTHER: Final = {
    "providerId": "CUSTOM", "authUri": "https://idp.example/authorize", "tokenUri": "https://idp.example/token",
    "scope": ["mail.send"],
}  # fmt: skip
SENDGRID: Final = {"providerId": "SENDGRID", "username": "apikey", "smtpProtocol": "smtps", "smtpPort": 465}


@pytest.mark.parametrize(
    ("source", "path", "expected", "note"),
    [
        (BASIC | {"smtpProtocol": "smtps", "smtpPort": 465}, "connection.tls", {"mode": "Implicit"}, None),
        (BASIC | {"enableTls": False}, "connection.tls", {"mode": "Disabled"}, None),
        (BASIC | {"tlsVersion": "TLSv1.3"}, "connection.tls", {"mode": "StartTLS", "minVersion": "TLSv1.3"}, None),
        (BASIC | {"tlsVersion": "TLSv1"}, "connection.tls", {"mode": "StartTLS"}, "tlsVersion"),
        (BASIC | {"timeout": 12345}, "connection.timeout", "12345ms", None),
        (BASIC | {"timeout": 110500}, "connection.timeout", "110s", None),
        (BASIC | {"timeout": 0}, "connection.timeout", "100ms", "timeout"),
        (BASIC | {"timeout": 999999}, "connection.timeout", "120s", "timeout"),
        (BASIC | {"timeout": "soon"}, "connection.timeout", None, "timeout"),
        (BASIC | {"username": ""}, "auth", None, None),
        (BASIC | {"providerId": "YAHOO"}, "provider", "Custom", "providerId"),
        (BASIC | {"enableProxy": True, "proxyHost": "p", "proxyPassword": "hunter2"}, "proxy", None, "enableProxy"),
        (BASIC | {"newThing": "hunter2"}, "newThing", None, "newThing"),
        (BASIC | SENDGRID, "auth.basic.username", None, None),
        (BASIC | SENDGRID | {"enableOauth2": True}, "auth.oauth2", None, "enableOauth2"),
        (OAUTH2 | GOOGLE, "auth.oauth2.scopes", None, "tokens"),
        (OAUTH2 | OTHER, "auth.oauth2.accountCheck", {"skip": True}, "scope"),
        (OAUTH2 | OTHER | {"scope": ["a", "openid"]}, "auth.oauth2.accountCheck", {"claim": "email"}, "tokens"),
        (OAUTH2 | {"authUri": "https://x.example/"}, "auth.oauth2.authorizationURI", None, "authUri"),
    ],
)
def test_field(source: Json, path: str, expected: object, note: str | None) -> None:
    result = imported(source)
    assert errors(result) == []
    found: Any = result.settings["spec"]
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    assert found == expected
    assert [text for text in result.notes if note is not None and text.startswith(f"{note}: ")] or note is None
    assert note is not None or result.notes == []
    assert "hunter2" not in "".join(result.notes) + json.dumps(result.settings)


def test_what_the_answer_of_the_api_does_not_hold_is_asked_for() -> None:
    """`GET /api/admin/settings/mail` never answers with the password."""
    answer = {"id": {"id": "x"}, "key": "mail", "jsonValue": {k: v for k, v in BASIC.items() if k != "password"}}
    result = imported(parse(json.dumps(answer)))
    assert errors(result) == []
    assert result.notes == [
        "password: it is not in the file; put it into the Secret mail-login, key password, before you apply it."
    ]


def test_the_row_of_the_database_has_a_text() -> None:
    assert parse(json.dumps({"key": "mail", "jsonValue": json.dumps(BASIC)})) == BASIC


@pytest.mark.parametrize("text", ["", "[", "[]", "5", '{"a": 1}', '{"jsonValue": "x"}', "[" * 100_000])
def test_what_are_no_settings_is_refused(text: str) -> None:
    with pytest.raises(ForeignSettingsError):
        parse(text)


@given(st.text())
@example("\x85")
@settings(derandomize=True, database=None, deadline=None)
def test_passwords_survive(password: str) -> None:
    result = imported(BASIC | {"password": password})
    (secret, _) = documents(to_manifests(*filter(None, (result.secret, result.settings))))
    assert secret.value["stringData"] == {"password": password}


_ODD: Final = (
    "y",
    "no",
    "1e3",
    "010",
    "0x1F",
    "~",
    "null",
    "12:30",
    "2001-01-01",
    ": #",
    " a ",
    "ünï 🎉",
    "a\nb",
    "a\x85b",
    "a\u2028 b",
    "=",
    "<<",
)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kubectl_reads_the_passwords_that_were_written(tmp_path: Path) -> None:
    file = tmp_path / "secret.yaml"
    values = {f"k{index}": value for index, value in enumerate(_ODD)}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "stringData": values}
    file.write_text(to_manifests(secret))
    line = ["kubectl", "label", "--local", "-f", str(file), "a=b", "-o", "json"]
    found = json.loads(subprocess.run(line, capture_output=True, check=True, timeout=60).stdout)
    assert found["stringData"] == values


def test_as_a_person_has_it(tmp_path: Path) -> None:
    file = tmp_path / "mail.json"
    file.write_text(json.dumps({"jsonValue": OAUTH2}))
    ended = plugin("import", "--from", "thingsboard", str(file), "--cluster")
    assert ended.returncode == 0
    secret, made = yaml.safe_load_all(ended.stdout)
    assert (secret["metadata"], made["metadata"]) == (
        {"name": "default-login", "namespace": names.OPERATOR_NAMESPACE},
        {"name": "default"},
    )
    assert "tenants: nobody may use these settings yet" in ended.stderr
    assert "kubectl mailsettings authorize --cluster default\n" in ended.stderr
    assert "hunter2" not in ended.stderr
    checked = plugin("validate", "-f", "-", stdin=ended.stdout)
    assert checked.returncode == 0
    assert checked.stderr == "1 of 1 settings object valid; 1 object of other kinds skipped.\n"

    piped = plugin("import", "--from", "thingsboard", "-", stdin=json.dumps(BASIC | {"mailFrom": "nobody"}))
    assert piped.returncode == 1
    assert "spec.mailFrom: write an address" in piped.stderr
    assert "namespace" not in piped.stdout
    assert plugin("import", "--from", "thingsboard", "-", stdin="x").stderr == "-: this is no JSON\n"
    missing = plugin("import", "--from", "thingsboard", str(tmp_path / "no"))
    assert missing.returncode == 2
    assert missing.stderr == f"{tmp_path / 'no'}: it cannot be read: No such file or directory\n"
