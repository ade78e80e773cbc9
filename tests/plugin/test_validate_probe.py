"""`kubectl mailsettings validate --probe`: servers of manifests are tried without a cluster."""

import asyncio
import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from mailsettings.api import names
from mailsettings.core.credentials import ObjectRef
from mailsettings.plugin.validate.check import Settings, content_of, own_server
from mailsettings.plugin.validate.objects import Found, objects_of, referenced_by
from mailsettings.plugin.validate.source import documents
from tests.plugin.test_command_line import plugin
from tests.support.identity_provider import (
    ACCOUNT,
    CLIENT_ID,
    CLIENT_SECRET,
    SCOPE,
    IdentityProvider,
    identity_provider,
)
from tests.support.listening import LOOPBACK
from tests.support.smtp_server import PASSWORD, USERNAME, certificate, mail_server

TLS: Final = certificate(LOOPBACK)
RECIPIENT: Final = "ops@acme.example"
BASIC: Final = {"basic": {"username": USERNAME, "passwordSecretRef": {"name": "smtp", "key": "password"}}}
SECRET: Final = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "smtp", "namespace": "shop"},
    "stringData": {"password": PASSWORD},
}


def settings(port: int, auth: Any = None, **spec: Any) -> dict[str, Any]:
    tls = {"mode": "StartTLS", "caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "MailServerSettings",
        "metadata": {"name": "mail", "namespace": "shop"},
        "spec": {
            "mailFrom": "Shop <no-reply@shop.example>",
            "connection": {"host": LOOPBACK, "port": port, "tls": tls},
            "auth": auth or BASIC,
            **spec,
        },
    }


AUTHORITY: Final = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "ca"},
    "data": {"ca.crt": TLS.ca_pem},
}


def write(file: Path, *objects: Mapping[str, Any]) -> str:
    file.write_text(yaml.safe_dump_all(objects))
    return str(file)


async def validate(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(plugin, "validate", "--probe", *arguments, **environment)


async def test_login_is_tried_with_the_secrets_of_the_files(tmp_path: Path) -> None:
    async with mail_server(start_tls=TLS.context, auth_required=True) as server:
        file = write(tmp_path / "mail.yaml", settings(server.port), AUTHORITY)
        secret = write(tmp_path / "secret.yaml", SECRET)
        ended = await validate("-f", file, "-f", secret)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == f"{file}: MailServerSettings shop/mail"
    assert lines[1] == f"{LOOPBACK}:{server.port}, TLS StartTLS, up to Authenticate"
    timed = [line.split()[0] for line in lines if line.endswith("ms")]
    assert timed == ["resolve", "connect", "greeting", "ehlo", "tls", "auth", "in"]
    assert lines[-1] == "TestPassed: The server was reached and accepted the login."
    assert [attempt[1:] for attempt in server.attempts] == [(USERNAME, PASSWORD)]
    assert server.mails == []
    assert PASSWORD not in ended.stdout + ended.stderr


async def test_mail_is_sent_on_demand_and_says_that_no_cluster_has_sent_it(tmp_path: Path) -> None:
    async with mail_server(start_tls=TLS.context, auth_required=True) as server:
        file = write(tmp_path / "mail.yaml", {"kind": "List", "apiVersion": "v1", "items": [SECRET, AUTHORITY]})
        ended = await validate("-f", write(tmp_path / "s.yaml", settings(server.port)), "-f", file, "--to", RECIPIENT)
    assert ended.returncode == 0, ended.stderr
    (sent,) = server.mails
    assert sent.recipients == [RECIPIENT]
    assert "none, from the command line" in str(sent.message)
    assert f"Message-ID {sent.message['Message-ID']}" in ended.stdout


async def test_refused_login_has_stage_cause_and_dialogue(tmp_path: Path) -> None:
    wrong = {**SECRET, "stringData": {"password": "not-the-password"}}
    async with mail_server(start_tls=TLS.context, auth_required=True) as server:
        file = write(tmp_path / "mail.yaml", settings(server.port), AUTHORITY, wrong)
        ended = await validate("-f", file)
        as_json = await validate("-f", file, "-o", "json")
    assert ended.returncode == as_json.returncode == 1
    assert "failed here" in ended.stdout
    assert "S: 535" in ended.stdout
    assert "\nBadCredentials: " in ended.stdout
    assert "BadCredentials" not in ended.stderr + as_json.stderr
    assert "    kubectl get secret smtp -n shop -o jsonpath='{.data.password}' | base64 -d | tr " in ended.stdout
    document = json.loads(as_json.stdout)
    assert (document["file"], document["object"]) == (file, "MailServerSettings shop/mail")
    assert (document["succeeded"], document["reason"]) == (False, "BadCredentials")
    assert (document["failure"]["stage"], document["failure"]["code"]) == ("auth", 535)
    assert "not-the-password" not in ended.stdout + ended.stderr + as_json.stdout


async def test_secret_that_is_in_no_file_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    async with mail_server() as server:
        ended = await validate("-f", write(tmp_path / "mail.yaml", settings(server.port), AUTHORITY))
    assert ended.returncode == 1
    said = " ".join(ended.stdout.split())
    assert "\n    kubectl get secret smtp -n shop -o yaml\n" in ended.stdout
    assert "SecretNotFound: auth.basic.passwordSecretRef: the Secret 'smtp' is in none of the files" in said
    assert "kubectl get secret smtp -n shop -o yaml" in said
    assert server.connections == 0


async def test_errors_come_before_any_connection(tmp_path: Path) -> None:
    async with mail_server() as server:
        ended = await validate(
            "-f", write(tmp_path / "mail.yaml", settings(server.port, nonsense=1), SECRET, AUTHORITY)
        )
    assert ended.returncode == 1
    assert "there is no such field" in ended.stdout
    assert server.connections == 0


async def test_settings_that_inherit_leave_nothing_to_probe(tmp_path: Path) -> None:
    inheriting = {**settings(1), "spec": {"mailFrom": "a@acme.example"}}
    ended = await validate("-f", write(tmp_path / "mail.yaml", inheriting))
    assert ended.returncode == 1
    assert "probe the ClusterMailServerSettings" in " ".join(ended.stderr.split())
    assert "nothing to probe" in ended.stderr


def oauth2(provider: IdentityProvider, **changed: Any) -> dict[str, Any]:
    return {
        "oauth2": {
            "username": ACCOUNT,
            "grant": "ClientCredentials",
            "clientID": CLIENT_ID,
            "clientAuth": {"secretRef": {"name": "oauth2", "key": "secret"}},
            "tokenURI": provider.token_uri,
            "scopes": [SCOPE],
            **changed,
        }
    }


CLIENT: Final = {**SECRET, "metadata": {"name": "oauth2"}, "stringData": {"secret": CLIENT_SECRET, "refresh": "r"}}


def serving(provider: IdentityProvider) -> Any:
    return mail_server(
        start_tls=TLS.context,
        auth_required=True,
        mechanisms=("XOAUTH2",),
        takes=lambda said: said.username == ACCOUNT and provider.is_live(said.token),
    )


def trusting(provider: IdentityProvider, file: Path) -> dict[str, str]:
    """How persons tell OpenSSL of an authority of their own."""
    file.write_text(provider.ca_pem)
    return {"SSL_CERT_FILE": str(file)}


async def test_token_is_got_for_the_probe_and_shown_nowhere(tmp_path: Path) -> None:
    async with identity_provider() as provider, serving(provider) as server:
        file = write(tmp_path / "mail.yaml", settings(server.port, oauth2(provider)), CLIENT, AUTHORITY)
        ended = await validate("-f", file, **trusting(provider, tmp_path / "ca.pem"))
        assert ended.returncode == 0, ended.stderr
        (presented,) = server.presented
        assert provider.is_live(presented.token)
    timed = [line.split()[0] for line in ended.stdout.splitlines() if line.endswith("ms")]
    assert timed[:2] == ["token", "resolve"]
    assert presented.token not in ended.stdout + ended.stderr
    assert CLIENT_SECRET not in ended.stdout + ended.stderr


async def test_provider_that_refuses_the_client_is_told_as_the_stage_token(tmp_path: Path) -> None:
    wrong = {**CLIENT, "stringData": {"secret": "not-the-secret"}}
    async with identity_provider() as provider, serving(provider) as server:
        file = write(tmp_path / "mail.yaml", settings(server.port, oauth2(provider)), wrong, AUTHORITY)
        ended = await validate("-f", file, "-o", "json", **trusting(provider, tmp_path / "ca.pem"))
    document = json.loads(ended.stdout)
    assert (document["reason"], document["failure"]["stage"]) == ("ClientAuthInvalid", "token")
    assert server.connections == 0
    assert "not-the-secret" not in ended.stdout + ended.stderr


REFUSED: Final = [
    (
        {
            "grant": "AuthorizationCode",
            "authorizationURI": "https://login.acme.example/a",
            "tokenURI": "https://login.acme.example/token",
            "accountCheck": {"skip": True},
        },
        "ConsentRequired",
        "a person has to consent first",
    ),
    (
        {"grant": "RefreshToken", "refreshTokenSecretRef": {"name": "oauth2", "key": "refresh"}},
        "SpecInvalid",
        "may replace the refresh token",
    ),
]


@pytest.mark.parametrize(("changed", "reason", "why"), REFUSED, ids=["consent", "rotating"])
async def test_token_that_cannot_be_had_here_is_refused_with_the_way_that_works(
    tmp_path: Path, changed: dict[str, Any], reason: str, why: str
) -> None:
    async with identity_provider() as provider:
        spec = settings(1, oauth2(provider, **changed))
        ended = await validate("-f", write(tmp_path / "mail.yaml", spec, CLIENT, AUTHORITY))
        assert provider.asked == []
    said = " ".join(ended.stdout.split())
    assert ended.returncode == 1
    assert f"{reason}: auth.oauth2.grant: " in said
    assert why in said
    assert "kubectl mailsettings test" in said


@pytest.mark.parametrize(
    ("connection", "what", "field"),
    [
        ({"host": "169.254.169.254"}, "mail server", "connection.host"),
        (
            {"host": "192.0.2.1", "proxy": {"protocol": "HTTP", "host": "169.254.169.254", "port": 3128}},
            "proxy",
            "connection.proxy",
        ),
    ],
    ids=["server", "proxy"],
)
async def test_metadata_services_are_left_out_in_words_for_a_persons_machine(
    tmp_path: Path, connection: dict[str, Any], what: str, field: str
) -> None:
    manifest = settings(587)
    manifest["spec"]["connection"] = connection
    ended = await validate("-f", write(tmp_path / "mail.yaml", manifest, SECRET))
    said = " ".join(ended.stdout.split())
    assert ended.returncode == 1
    assert f"EgressDenied: The name of the {what} leads to the address of a cloud's metadata service" in said
    assert f"What to do: Check {field}, and on this machine what the name resolves to." in said
    assert "operator" not in said
    assert "docs/kubectl.md#validate" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--to", RECIPIENT), "go with --probe"), (("--probe", "--to", "nobody"), "--to needs an address")],
)
def test_wrong_usage(arguments: tuple[str, ...], message: str) -> None:
    ended = plugin("validate", "-f", "-", *arguments)
    assert ended.returncode == 2
    assert message in ended.stderr


# Which Secret is meant


def found(objects: Iterable[Mapping[str, Any]]) -> list[Found]:
    return [each for document in documents(yaml.safe_dump_all(objects)) for each in objects_of(document)]


def placed(namespace: str | None, password: str) -> dict[str, Any]:
    metadata = {"name": "smtp", **({"namespace": namespace} if namespace else {})}
    return {**SECRET, "metadata": metadata, "stringData": {"password": password}}


@pytest.mark.parametrize(
    ("namespace", "there", "chosen"),
    [
        ("shop", ["other", "shop"], "shop"),
        ("shop", ["", "shop"], "shop"),
        ("shop", [""], ""),
        ("shop", ["other"], None),
        ("", ["other"], "other"),
        ("CLUSTER", ["other", "mailsettings-system"], "mailsettings-system"),
        ("CLUSTER", ["elsewhere"], "elsewhere"),
    ],
)
def test_secret_is_of_the_namespace_of_the_settings(namespace: str, there: list[str], chosen: str | None) -> None:
    manifest = settings(587)
    manifest["spec"]["connection"] = {"host": "smtp.acme.example"}
    manifest["metadata"] = {"name": "mail", **({"namespace": namespace} if namespace else {})}
    if namespace == "CLUSTER":
        manifest |= {"kind": "ClusterMailServerSettings", "metadata": {"name": "default"}}
    its = only(content_of(document) for document in documents(yaml.safe_dump(manifest)))
    effective = own_server(its.spec)
    assert effective is not None
    content = referenced_by(its, effective, found(placed(each, f"of {each}") for each in there))
    (secret,) = content.values()
    assert (secret.data["password"].decode() if secret else None) == (None if chosen is None else f"of {chosen}")


def only(contents: Iterable[Any]) -> Settings:
    (settings_,) = [each for content in contents for each in content.settings]
    assert isinstance(settings_, Settings)
    return settings_


def test_data_of_every_form_is_read_and_what_is_malformed_is_not_there() -> None:
    secret = {**SECRET, "data": {"a": "eA==", "bad": "%%%", "odd": 5}, "stringData": {"b": "text"}}
    config = {**AUTHORITY, "data": {"c": "z"}, "binaryData": {"d": "/w=="}}
    other = {"apiVersion": "bitnami.com/v1alpha1", "kind": "Secret", "metadata": {"name": "sealed"}}
    read = {each.ref: dict(each.content.data) for each in found([secret, config, other, {"kind": "Secret"}])}
    assert read == {
        ObjectRef("Secret", "smtp"): {"a": b"x", "b": b"text"},
        ObjectRef("ConfigMap", "ca"): {"c": b"z", "d": b"\xff"},
    }
