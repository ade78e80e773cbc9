"""The application's Secret: what is in it, that it stays so, and whose it is; and what the status says of that."""

import base64
import json
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parseaddr
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

from dev.cluster.kube import APPLY_PATCH
from dev.operator_process import NAMESPACE, OperatorProcess
from tests.cluster.conftest import server_spec
from tests.support.history import events_about, secret_changes
from tests.support.kube import MERGE_PATCH, Json, Kube, condition, path, reason_of, resource_version
from tests.support.smtp_server import PASSWORD, USERNAME, MailServer, certificate

Create = Callable[..., str]

KIND: Final = "MailServerSettings"
TYPE: Final = "servicebinding.io/smtp"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
SETTINGS: Final = "mailsettings.dev/settings"
SOURCE: Final = "mailsettings.dev/source"
CONTENT: Final = "mailsettings.dev/content"
AWKWARD: Final = "p@ss:/?#[]%20 \"'\\<&>${host}$$ é日本"
"""A password that breaks whatever is put together without quoting."""
GARBAGE_TIMEOUT_S: Final = 90.0
"""Kubernetes' garbage collector looks for new kinds only twice a minute."""


def unprobed_spec(**fields: Any) -> Json:
    """The spec of a server that nobody connects to; its password is in the Secret `smtp`."""
    return {
        "mailFrom": '"Acme, Inc." <no-reply@acme.example>',
        "connection": {"host": "smtp.acme.example", "port": 587, "timeout": "7s"},
        "auth": {"basic": {"username": USERNAME, "passwordSecretRef": {"name": "smtp", "key": "password"}}},
        "probe": {"mode": "Disabled"},
        **fields,
    }


@pytest.fixture
def create(operator: OperatorProcess, kube: Kube, namespace: str) -> Callable[..., Json]:
    """Creates the settings `mail` and waits until their Secret is delivered, which it gives back."""

    def create_delivered(name: str = "mail", *, password: str = PASSWORD, **fields: Any) -> Json:
        if kube.get("Secret", "smtp", namespace) is None:
            kube.secret("smtp", namespace, password=password)
        kube.create(KIND, name, namespace, spec=unprobed_spec(**fields))
        settings = kube.wait_ready(name, namespace)
        secret = kube.get("Secret", settings["status"]["binding"]["name"], namespace)
        assert secret is not None
        return secret

    return create_delivered


def content(secret: Json) -> Json:
    """What the operator has written."""
    metadata = secret["metadata"]
    owners = metadata["ownerReferences"]
    return {
        "data": secret.get("data"),
        "labels": metadata["labels"],
        "annotations": metadata["annotations"],
        "owners": owners,
        "type": secret["type"],
    }


def wait_content(kube: Kube, expected: Json) -> Json:
    """The Secret once its content is this one's again, and nothing is written any more."""
    namespace, name = expected["metadata"]["namespace"], expected["metadata"]["name"]

    def look() -> Json | None:
        secret = kube.get("Secret", name, namespace)
        return secret if secret is not None and content(secret) == content(expected) else None

    found: Json = kube.wait(look, f"the content of {namespace}/{name}: {content(expected)}")
    settle(kube, namespace)
    assert resource_version(kube.get("Secret", name, namespace)) == resource_version(found)
    return found


def settle(kube: Kube, namespace: str) -> None:
    """Returns when the operator has acted on all that was done to Secrets before.

    It hears of Secrets in their order, so it has heard of everything else when it acts on a new one.
    """
    name = f"marker-{secrets.token_hex(4)}"
    spec = unprobed_spec()
    spec["auth"]["basic"]["passwordSecretRef"]["name"] = name
    kube.create(KIND, name, namespace, spec=spec)
    kube.wait_condition(name, namespace, "CredentialsResolved", "False", "SecretNotFound")
    kube.secret(name, namespace, password="marker")
    kube.wait_ready(name, namespace)


# --- content ---


def test_secret_holds_the_settings_and_says_whose_it_is(
    operator: OperatorProcess, kube: Kube, namespace: str, serve: Callable[..., MailServer]
) -> None:
    tls = certificate("127.0.0.1")
    server = serve(start_tls=tls.context, auth_required=True, login=(USERNAME, AWKWARD))
    kube.secret("smtp", namespace, password=AWKWARD)
    kube.create("ConfigMap", "ca", namespace, data={"ca.crt": f"A comment\n{tls.ca_pem}"})
    spec = server_spec(server, mailFrom="Acme <no-reply@acme.example>", replyTo="Help <help@acme.example>")
    bundle = {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}
    spec["connection"]["tls"] = {"mode": "StartTLS", "caBundle": bundle}
    kube.create(KIND, "mail", namespace, spec=spec)

    settings = kube.wait_ready("mail", namespace)

    secret = kube.get("Secret", "mail-smtp", namespace)
    assert secret is not None
    uri = f"smtp://{quote(USERNAME, safe='')}:{quote(AWKWARD, safe='')}@127.0.0.1:{server.port}"
    assert kube.secret_data("mail-smtp", namespace) == {
        "type": "smtp",
        "provider": "custom",
        "host": "127.0.0.1",
        "port": str(server.port),
        "protocol": "smtp",
        "tls": "StartTLS",
        "from": "Acme <no-reply@acme.example>",
        "reply-to": "Help <help@acme.example>",
        "username": USERNAME,
        "password": AWKWARD,
        "ca.crt": tls.ca_pem,
        "uri": uri,
    }
    assert secret["type"] == TYPE
    metadata = secret["metadata"]
    assert metadata["labels"] == {MANAGED_BY: "mailsettings", SETTINGS: "mail"}
    assert metadata["annotations"] == {
        SOURCE: f"{KIND}/{namespace}/mail",
        "mailsettings.dev/source-generation": "1",
        CONTENT: metadata["annotations"][CONTENT],
    }
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "mailsettings.dev/v1alpha1",
            "kind": KIND,
            "name": "mail",
            "uid": settings["metadata"]["uid"],
            "controller": True,
        }
    ]
    assert settings["status"]["binding"] == {"name": "mail-smtp"}
    effective = settings["status"]["effective"]
    assert (effective["host"], effective["port"], effective["tls"]) == ("127.0.0.1", server.port, "StartTLS")


def test_open_relay_gets_no_login(create: Callable[..., Json], kube: Kube, namespace: str) -> None:
    tls = {"mode": "Disabled"}
    create(auth=None, connection={"host": "2001:db8::25", "tls": tls}, output={"template": {"presets": ["Nodemailer"]}})
    values = kube.secret_data("mail-smtp", namespace) or {}
    assert values.keys() & {"username", "password", "ca.crt", "reply-to"} == set()
    assert values["uri"] == "smtp://[2001:db8::25]:25"
    assert "auth" not in json.loads(values["nodemailer.json"])


def test_change_of_a_referenced_value_is_delivered(create: Callable[..., Json], kube: Kube, namespace: str) -> None:
    before = create()
    kube.patch("Secret", "smtp", namespace, stringData={"password": "rotated"})
    after = kube.wait_values("mail-smtp", namespace, password="rotated")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert "rotated" in unquote((kube.secret_data("mail-smtp", namespace) or {})["uri"])


# --- presets and templates ---

MODES: Final = ("Disabled", "StartTLS", "Implicit")


@pytest.fixture(params=MODES)
def delivered(
    request: pytest.FixtureRequest, create: Callable[..., Json], kube: Kube, namespace: str
) -> tuple[str, dict[str, str]]:
    """A TLS mode, and the values that are delivered with every preset."""
    presets = ["Django", "Grafana", "Keycloak", "Nodemailer", "Spring", "Symfony", "ThingsBoard"]
    create(
        password=AWKWARD,
        connection={"host": "smtp.acme.example", "port": 2525, "timeout": "7s", "tls": {"mode": request.param}},
        output={"template": {"presets": presets, "data": TEMPLATE}},
    )
    values = kube.secret_data("mail-smtp", namespace)
    assert values is not None
    return request.param, values


TEMPLATE: Final = {
    "msmtprc": "host ${host}\nport ${port}\nfrom ${from-address}\nuser ${username}\npassword ${password}\n",
    "URL": "${protocol}://${username:url}:${password:url}@${host}:${port}",
    "price": "$$5 for ${from-name}, nothing for ${reply-to}!",
    "whole": "${from} ${uri} ${tls}",
}


def test_presets_and_templates_are_what_their_readers_expect(delivered: tuple[str, dict[str, str]]) -> None:
    mode, values = delivered
    for check in (check_django, check_grafana, check_keycloak, check_nodemailer, check_spring, check_symfony):
        check(mode, values)
    check_things_board(mode, values)
    check_template(mode, values)


def check_django(mode: str, values: Mapping[str, str]) -> None:
    """As a settings module reads them with `os.environ`; True and True together is an error to Django."""
    assert (values["EMAIL_HOST"], int(values["EMAIL_PORT"])) == ("smtp.acme.example", 2525)
    assert (values["EMAIL_HOST_USER"], values["EMAIL_HOST_PASSWORD"]) == (USERNAME, AWKWARD)
    flags = (values["EMAIL_USE_TLS"] == "True", values["EMAIL_USE_SSL"] == "True")
    assert flags == (mode == "StartTLS", mode == "Implicit")
    assert parseaddr(values["DEFAULT_FROM_EMAIL"]) == ("Acme, Inc.", "no-reply@acme.example")


def check_grafana(mode: str, values: Mapping[str, str]) -> None:
    host, _, port = values["GF_SMTP_HOST"].rpartition(":")
    assert (host, int(port)) == ("smtp.acme.example", 2525)
    assert (values["GF_SMTP_ENABLED"], values["GF_SMTP_SKIP_VERIFY"]) == ("true", "false")
    assert (values["GF_SMTP_USER"], values["GF_SMTP_PASSWORD"]) == (USERNAME, AWKWARD)
    assert (values["GF_SMTP_FROM_NAME"], values["GF_SMTP_FROM_ADDRESS"]) == ("Acme, Inc.", "no-reply@acme.example")
    assert (values["GF_SMTP_STARTTLS_POLICY"] == "MandatoryStartTLS") == (mode != "Disabled")


def check_keycloak(mode: str, values: Mapping[str, str]) -> None:
    document = json.loads(values["keycloak-smtp-server.json"])
    assert all(isinstance(value, str) for value in document.values())
    assert (document["ssl"], document["starttls"]) == (boolean(mode == "Implicit"), boolean(mode == "StartTLS"))
    assert (document["host"], document["port"], document["auth"]) == ("smtp.acme.example", "2525", "true")
    assert (document["user"], document["password"]) == (USERNAME, AWKWARD)
    assert (document["fromDisplayName"], document["from"]) == ("Acme, Inc.", "no-reply@acme.example")


def boolean(value: object) -> str:
    return "true" if value else "false"


def check_nodemailer(mode: str, values: Mapping[str, str]) -> None:
    document = json.loads(values["nodemailer.json"])
    assert (document["host"], document["port"]) == ("smtp.acme.example", 2525)
    assert document["auth"] == {"user": USERNAME, "pass": AWKWARD}
    assert {name: mode for name in ("secure", "requireTLS", "ignoreTLS") if document[name]} == {
        {"Implicit": "secure", "StartTLS": "requireTLS", "Disabled": "ignoreTLS"}[mode]: mode
    }


def check_spring(mode: str, values: Mapping[str, str]) -> None:
    mail = json.loads(values["SPRING_APPLICATION_JSON"])["spring"]["mail"]
    assert (mail["host"], mail["port"]) == ("smtp.acme.example", 2525)
    assert (mail["username"], mail["password"]) == (USERNAME, AWKWARD)
    assert mail["protocol"] == ("smtps" if mode == "Implicit" else "smtp")
    properties = mail["properties"]
    assert properties[f"mail.{mail['protocol']}.timeout"] == 7000
    assert properties[f"mail.{mail['protocol']}.auth"] is True
    assert properties.get("mail.smtp.starttls.required", False) is (mode == "StartTLS")


def check_symfony(mode: str, values: Mapping[str, str]) -> None:
    dsn = urlsplit(values["MAILER_DSN"])
    assert dsn.scheme == ("smtps" if mode == "Implicit" else "smtp")
    assert (dsn.hostname, dsn.port) == ("smtp.acme.example", 2525)
    assert (unquote(dsn.username or ""), unquote(dsn.password or "")) == (USERNAME, AWKWARD)
    expected = {"Disabled": {"auto_tls": ["false"]}, "StartTLS": {"require_tls": ["true"]}, "Implicit": {}}[mode]
    assert parse_qs(dsn.query) == expected


def check_things_board(mode: str, values: Mapping[str, str]) -> None:
    document = json.loads(values["thingsboard-mail.json"])
    assert (document["smtpHost"], document["smtpPort"], document["timeout"]) == ("smtp.acme.example", 2525, 7000)
    assert (document["username"], document["password"]) == (USERNAME, AWKWARD)
    assert document["enableTls"] is (mode != "Disabled")
    assert document["providerId"] == "CUSTOM"


def check_template(mode: str, values: Mapping[str, str]) -> None:
    assert values["msmtprc"] == (
        f"host smtp.acme.example\nport 2525\nfrom no-reply@acme.example\nuser {USERNAME}\npassword {AWKWARD}\n"
    )
    assert values["URL"] == values["uri"]
    assert values["price"] == "$5 for Acme, Inc., nothing for !"
    assert values["whole"] == f'"Acme, Inc." <no-reply@acme.example> {values["uri"]} {mode}'


# --- name and metadata ---


def test_renamed_secret_is_there_before_the_old_one_goes(
    create: Callable[..., Json], kube: Kube, namespace: str
) -> None:
    first = create()
    for name in ("app-mail", "mail-smtp"):
        kube.patch(KIND, "mail", namespace, spec={"output": {"secretName": name}})
        old = {"app-mail": "mail-smtp", "mail-smtp": "app-mail"}[name]
        kube.wait_gone("Secret", old, namespace)
        settings = kube.wait_ready("mail", namespace)
        assert settings["status"]["binding"] == {"name": name}
        values = kube.secret_data(name, namespace)
        assert values is not None
        assert values["password"] == PASSWORD
    changes = secret_changes(kube, namespace, resource_version(first))
    assert [(change.type, change.name) for change in changes] == [
        ("ADDED", "app-mail"),
        ("DELETED", "mail-smtp"),
        ("ADDED", "mail-smtp"),
        ("DELETED", "app-mail"),
    ]


def test_secret_keeps_its_old_name_while_the_new_one_is_taken(
    create: Callable[..., Json], kube: Kube, namespace: str
) -> None:
    create()
    taken = kube.secret("taken", namespace, mine="yes")
    kube.patch(KIND, "mail", namespace, spec={"output": {"secretName": "taken"}, "mailFrom": "new@acme.example"})
    settings = kube.wait_condition("mail", namespace, "Delivered", "False", "SecretNotOwned")
    assert settings["status"]["binding"] == {"name": "mail-smtp"}
    assert kube.get("Secret", "mail-smtp", namespace) is not None
    assert resource_version(kube.get("Secret", "taken", namespace)) == resource_version(taken)

    kube.delete("Secret", "taken", namespace)
    settings = kube.wait_ready("mail", namespace)
    assert settings["status"]["binding"] == {"name": "taken"}
    kube.wait_gone("Secret", "mail-smtp", namespace)


def test_metadata_is_added_changed_and_removed(create: Callable[..., Json], kube: Kube, namespace: str) -> None:
    metadata: Json = {"labels": {"a": "1", "b": "1"}, "annotations": {"reloader.example/match": "true"}}
    plain = content(create())
    kube.patch(KIND, "mail", namespace, spec={"output": {"metadata": metadata}})

    def expected(labels: Mapping[str, str], annotations: Mapping[str, str], generation: int) -> None:
        def look() -> bool:
            found = content(kube.get("Secret", "mail-smtp", namespace) or {})
            generations = {"mailsettings.dev/source-generation": str(generation)}
            wanted = {**plain["annotations"], **annotations, **generations}
            wanted[CONTENT] = found["annotations"].get(CONTENT)
            wanted_labels = {**plain["labels"], **labels}
            return bool(found["labels"] == wanted_labels and found["annotations"] == wanted)

        kube.wait(look, f"{labels} and {annotations}")

    expected(metadata["labels"], metadata["annotations"], 2)
    changed = {"labels": {"a": "2", "b": None}, "annotations": {"other": "x"}}
    kube.patch(KIND, "mail", namespace, spec={"output": {"metadata": changed}})
    expected({"a": "2"}, {**metadata["annotations"], "other": "x"}, 3)
    kube.patch(KIND, "mail", namespace, spec={"output": None})
    expected({}, {}, 4)


# --- whose it is ---


def test_foreign_secret_is_left_alone_until_it_is_deleted(
    operator: OperatorProcess, kube: Kube, namespace: str
) -> None:
    kube.secret("smtp", namespace, password=PASSWORD)
    foreign = kube.secret("mail-smtp", namespace, password="mine")
    kube.create(KIND, "mail", namespace, spec=unprobed_spec())

    settings = kube.wait_condition("mail", namespace, "Delivered", "False", "SecretNotOwned")
    assert reason_of(settings, "Stalled") == ("True", "SecretNotOwned")
    assert "'mail-smtp'" in condition(settings, "Delivered")["message"]  # type: ignore[index]
    assert "binding" not in settings["status"]
    kube.patch(KIND, "mail", namespace, spec={"mailFrom": "new@acme.example"})
    kube.wait_condition("mail", namespace, "Delivered", "False", "SecretNotOwned")
    settle(kube, namespace)
    assert resource_version(kube.get("Secret", "mail-smtp", namespace)) == resource_version(foreign)

    kube.delete("Secret", "mail-smtp", namespace)
    settings = kube.wait_ready("mail", namespace)
    assert condition(settings, "Stalled") is None
    assert (kube.secret_data("mail-smtp", namespace) or {})["password"] == PASSWORD


def test_foreign_secret_that_looks_like_a_delivered_one_is_foreign(
    operator: OperatorProcess, kube: Kube, namespace: str
) -> None:
    """Type and label alone do not make it the operator's: an owner does."""
    kube.secret("smtp", namespace, password=PASSWORD)
    foreign = kube.create(
        "Secret", "mail-smtp", namespace, type=TYPE, metadata={"labels": {MANAGED_BY: "mailsettings", SETTINGS: "mail"}}
    )
    kube.create(KIND, "mail", namespace, spec=unprobed_spec())
    kube.wait_condition("mail", namespace, "Delivered", "False", "SecretNotOwned")
    settle(kube, namespace)
    assert resource_version(kube.get("Secret", "mail-smtp", namespace)) == resource_version(foreign)


def test_of_two_settings_with_one_secret_name_the_first_has_it_until_it_lets_go(
    create: Callable[..., Json], kube: Kube, namespace: str
) -> None:
    first = create("first", output={"secretName": "shared"})
    kube.create(
        KIND, "second", namespace, spec=unprobed_spec(output={"secretName": "shared"}, mailFrom="2@acme.example")
    )
    settings = kube.wait_condition("second", namespace, "Delivered", "False", "SecretNotOwned")
    assert "'first'" in condition(settings, "Delivered")["message"]  # type: ignore[index]
    assert reason_of(settings, "Stalled") == ("True", "SecretNotOwned")
    assert resource_version(kube.get("Secret", "shared", namespace)) == resource_version(first)
    kube.wait_ready("first", namespace)

    kube.patch(KIND, "first", namespace, spec={"output": None})
    kube.wait_ready("second", namespace)
    kube.wait_values("shared", namespace, **{"from": "2@acme.example"})
    assert kube.wait_ready("first", namespace)["status"]["binding"] == {"name": "first-smtp"}

    kube.patch(KIND, "first", namespace, spec={"output": {"secretName": "shared"}})
    kube.wait_condition("first", namespace, "Delivered", "False", "SecretNotOwned")
    kube.delete(KIND, "second", namespace)
    assert kube.wait_ready("first", namespace)["status"]["binding"] == {"name": "shared"}
    kube.wait_values("shared", namespace, **{"from": '"Acme, Inc." <no-reply@acme.example>'})


# --- it stays as it is ---


def test_deleted_secret_comes_back(create: Callable[..., Json], kube: Kube, namespace: str) -> None:
    secret = create()
    settings = kube.settings("mail", namespace)
    kube.delete("Secret", "mail-smtp", namespace)

    def look() -> Json | None:
        found = kube.get("Secret", "mail-smtp", namespace)
        return found if found is not None and found["metadata"]["uid"] != secret["metadata"]["uid"] else None

    found = kube.wait(look, "the Secret to come back", timeout=5)
    assert content(found) == content(secret)
    settle(kube, namespace)
    assert reason_of(kube.wait_ready("mail", namespace), "Delivered") == ("True", "Delivered")
    assert resource_version(kube.settings("mail", namespace)) == resource_version(settings)


def encoded(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


Edit = Callable[[Json], object]

EDITS: Final[dict[str, Edit]] = {
    "value changed": lambda secret: secret["data"].update(host=encoded("evil.example")),
    "key removed": lambda secret: secret["data"].pop("password"),
    "all keys removed": lambda secret: secret["data"].clear(),
    "label changed": lambda secret: secret["metadata"]["labels"].update({SETTINGS: "other"}),
    "label removed": lambda secret: secret["metadata"]["labels"].pop(SETTINGS),
    "annotation changed": lambda secret: secret["metadata"]["annotations"].update({SOURCE: "other"}),
    "annotation removed": lambda secret: secret["metadata"]["annotations"].pop(SOURCE),
    "digest changed": lambda secret: secret["metadata"]["annotations"].update({CONTENT: "other"}),
    "digest removed": lambda secret: secret["metadata"]["annotations"].pop(CONTENT),
    "value and digest changed": lambda secret: [EDITS[name](secret) for name in ("value changed", "digest removed")],
}


@pytest.mark.parametrize("edit", EDITS)
def test_secret_edited_by_hand_is_restored(create: Callable[..., Json], kube: Kube, namespace: str, edit: str) -> None:
    """As `kubectl edit` does it."""
    secret = create()
    edited = json.loads(json.dumps(secret))
    EDITS[edit](edited)
    query = {"fieldManager": "kubectl-edit"}
    kube.api.request("PUT", path("Secret", "mail-smtp", namespace), edited, query=query)

    restored = wait_content(kube, secret)
    assert restored["metadata"]["uid"] == secret["metadata"]["uid"]


@pytest.mark.parametrize("field", ["value", "label"])
def test_secret_taken_over_by_server_side_apply_is_restored(
    create: Callable[..., Json], kube: Kube, namespace: str, field: str
) -> None:
    secret = create()
    applied: Json = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mail-smtp", "namespace": namespace}}
    if field == "value":
        applied["data"] = {"host": encoded("evil.example")}
    else:
        applied["metadata"]["labels"] = {SETTINGS: "other"}
    kube.api.request(
        "PATCH",
        path("Secret", "mail-smtp", namespace),
        applied,
        content_type=APPLY_PATCH,
        query={"fieldManager": "another-tool", "force": "true"},
    )
    wait_content(kube, secret)


def test_what_other_tools_add_stays_and_is_not_fought_over(
    create: Callable[..., Json], kube: Kube, namespace: str
) -> None:
    create()
    added = {"labels": {"team": "a"}, "annotations": {"tool.example/seen": "yes"}}
    changed = kube.patch("Secret", "mail-smtp", namespace, metadata=added, stringData={"extra": "mine"})
    settle(kube, namespace)
    assert resource_version(kube.get("Secret", "mail-smtp", namespace)) == resource_version(changed)

    kube.patch(KIND, "mail", namespace, spec={"mailFrom": "new@acme.example"})
    secret = kube.wait_values("mail-smtp", namespace, **{"from": "new@acme.example", "extra": "mine"})
    assert added["labels"].items() <= secret["metadata"]["labels"].items()
    assert added["annotations"].items() <= secret["metadata"]["annotations"].items()
    settle(kube, namespace)
    assert resource_version(kube.get("Secret", "mail-smtp", namespace)) == resource_version(secret)


def test_secret_without_the_operators_label_counts_as_foreign(
    create: Callable[..., Json], kube: Kube, namespace: str
) -> None:
    """Whoever takes the label away takes the Secret out of the operator's hands, on purpose or not."""
    create()
    changed = kube.patch("Secret", "mail-smtp", namespace, metadata={"labels": {MANAGED_BY: None}})
    kube.wait_condition("mail", namespace, "Delivered", "False", "SecretNotOwned")
    settle(kube, namespace)
    assert resource_version(kube.get("Secret", "mail-smtp", namespace)) == resource_version(changed)
    kube.patch("Secret", "mail-smtp", namespace, metadata={"labels": {MANAGED_BY: "mailsettings"}})
    kube.wait_ready("mail", namespace)


def test_own_secret_of_the_wrong_type_is_made_anew(operator: OperatorProcess, kube: Kube, namespace: str) -> None:
    """An earlier version may have used another type, and a Secret's type cannot be changed."""
    settings = kube.create(KIND, "mail", namespace, spec=unprobed_spec())
    owner = {
        "apiVersion": settings["apiVersion"],
        "kind": KIND,
        "name": "mail",
        "uid": settings["metadata"]["uid"],
        "controller": True,
    }
    metadata = {"labels": {MANAGED_BY: "mailsettings", SETTINGS: "mail"}, "ownerReferences": [owner]}
    old = kube.create("Secret", "mail-smtp", namespace, type="Opaque", metadata=metadata)
    kube.secret("smtp", namespace, password=PASSWORD)

    settings = kube.wait_ready("mail", namespace)
    secret = kube.get("Secret", "mail-smtp", namespace)
    assert secret is not None
    assert secret["type"] == TYPE
    assert secret["metadata"]["uid"] != old["metadata"]["uid"]
    assert settings["status"]["binding"] == {"name": "mail-smtp"}


def test_secret_that_somebody_made_immutable_is_made_anew_when_it_must_change(
    create: Callable[..., Json], kube: Kube, namespace: str
) -> None:
    create()
    frozen = kube.patch("Secret", "mail-smtp", namespace, immutable=True)
    settle(kube, namespace)
    assert resource_version(kube.get("Secret", "mail-smtp", namespace)) == resource_version(frozen)

    kube.patch(KIND, "mail", namespace, spec={"mailFrom": "new@acme.example"})
    kube.wait_values("mail-smtp", namespace, **{"from": "new@acme.example"})
    assert reason_of(kube.wait_ready("mail", namespace), "Delivered") == ("True", "Delivered")


def test_secret_that_the_api_server_refuses_is_delivered_when_it_no_longer_does(
    operator: OperatorProcess, kube: Kube, namespace: str
) -> None:
    kube.secret("smtp", namespace, password=PASSWORD)
    quota = f"/api/v1/namespaces/{namespace}/resourcequotas"
    full = {"secrets": "1"}
    kube.api.request("POST", quota, {"metadata": {"name": "full"}, "spec": {"hard": full}})
    counted = {"status": {"hard": full, "used": full}}  # as the quota controller would, where one runs
    kube.api.request("PATCH", f"{quota}/full/status", counted, content_type=MERGE_PATCH)
    kube.create(KIND, "mail", namespace, spec=unprobed_spec())
    settings = kube.wait_condition("mail", namespace, "Delivered", "False", "DeliveryRefused")
    assert "exceeded quota" in condition(settings, "Delivered")["message"]  # type: ignore[index]
    assert "binding" not in settings["status"]

    kube.api.request("DELETE", f"{quota}/full")
    kube.wait_ready("mail", namespace)


# --- last good, suspended, deleted ---


@pytest.mark.parametrize(
    ("reference", "reason"),
    [({"name": "missing", "key": "password"}, "SecretNotFound"), ({"name": "smtp", "key": "no"}, "SecretKeyMissing")],
)
def test_bad_edit_leaves_the_last_good_secret(
    create: Callable[..., Json], kube: Kube, namespace: str, reference: Json, reason: str
) -> None:
    secret = create()
    bad = {"auth": {"basic": {"passwordSecretRef": reference}}, "mailFrom": "new@acme.example"}
    kube.patch(KIND, "mail", namespace, spec=bad)

    settings = kube.wait_condition("mail", namespace, "CredentialsResolved", "False", reason)
    assert reason_of(settings, "Delivered") == ("False", "LastGoodKept")
    assert reason_of(settings, "Ready") == ("False", reason)
    assert reason_of(settings, "Stalled") == ("True", reason)
    assert settings["status"]["binding"] == {"name": "mail-smtp"}
    settle(kube, namespace)
    assert resource_version(kube.get("Secret", "mail-smtp", namespace)) == resource_version(secret)

    good = {"auth": {"basic": {"passwordSecretRef": {"name": "smtp", "key": "password"}}}}
    kube.patch(KIND, "mail", namespace, spec=good)
    settings = kube.wait_ready("mail", namespace)
    assert condition(settings, "Stalled") is None
    kube.wait_values("mail-smtp", namespace, **{"from": "new@acme.example"})


def test_referenced_secret_that_goes_leaves_the_last_good_secret(
    create: Callable[..., Json], kube: Kube, namespace: str
) -> None:
    secret = create()
    kube.delete("Secret", "smtp", namespace)
    settings = kube.wait_condition("mail", namespace, "Delivered", "False", "LastGoodKept")
    assert reason_of(settings, "Stalled") == ("True", "SecretNotFound")
    assert resource_version(kube.get("Secret", "mail-smtp", namespace)) == resource_version(secret)
    kube.secret("smtp", namespace, password="new")
    kube.wait_ready("mail", namespace)
    kube.wait_values("mail-smtp", namespace, password="new")


def test_failed_probe_takes_nothing_away(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.secret("smtp", namespace, password="wrong")
    kube.create(KIND, "mail", namespace, spec=server_spec(smtp))
    settings = kube.wait_condition("mail", namespace, "ProbeSucceeded", "False", "BadCredentials")
    assert reason_of(settings, "Delivered") == ("True", "Delivered")
    assert reason_of(settings, "Ready") == ("False", "BadCredentials")
    assert (kube.secret_data("mail-smtp", namespace) or {})["password"] == "wrong"


def test_suspended_settings_keep_what_is_delivered_and_are_not_probed(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.secret("smtp", namespace, password=PASSWORD)
    kube.create(KIND, "mail", namespace, spec=server_spec(smtp))
    kube.wait_ready("mail", namespace)
    secret = kube.get("Secret", "mail-smtp", namespace)
    probes = smtp.connections

    kube.patch(KIND, "mail", namespace, spec={"suspend": True, "mailFrom": "new@acme.example"})
    settings = kube.wait_condition("mail", namespace, "Delivered", "True", "Suspended")
    assert reason_of(settings, "Ready") == ("True", "Ready")
    assert settings["status"]["binding"] == {"name": "mail-smtp"}
    asked = {"annotations": {"mailsettings.dev/probe-requested-at": "now"}}
    kube.patch(KIND, "mail", namespace, metadata=asked)
    kube.patch("Secret", "smtp", namespace, stringData={"password": "rotated"})
    settle(kube, namespace)
    assert resource_version(kube.get("Secret", "mail-smtp", namespace)) == resource_version(secret)
    assert smtp.connections == probes

    kube.delete("Secret", "mail-smtp", namespace)
    settings = kube.wait_condition("mail", namespace, "Delivered", "False", "Suspended")
    assert reason_of(settings, "Stalled") == ("True", "Suspended")
    assert "binding" not in settings["status"]

    kube.patch("Secret", "smtp", namespace, stringData={"password": PASSWORD})
    kube.patch(KIND, "mail", namespace, spec={"suspend": False})
    kube.wait_ready("mail", namespace)
    kube.wait_values("mail-smtp", namespace, **{"from": "new@acme.example"})
    kube.wait(
        lambda: (kube.settings("mail", namespace) or {})["status"]["probe"].get("lastHandledRequest") == "now",
        "the probe that was asked for",
    )


def test_suspended_system_holds_back_what_its_tenants_would_get(
    operator: OperatorProcess, kube: Kube, namespace: str, cluster_settings: Create
) -> None:
    system = cluster_settings(tenants={"delivery": "Credentials", "namespaces": [namespace]})
    kube.create(KIND, "mail", namespace, spec={"systemSettingsRef": {"name": system}})
    kube.wait_ready("mail", namespace)
    secret = kube.get("Secret", "mail-smtp", namespace)

    suspended = {"suspend": True, "mailFrom": "new@acme.example"}
    kube.patch("ClusterMailServerSettings", system, spec=suspended)
    kube.wait_condition("mail", namespace, "Delivered", "True", "Suspended")
    settle(kube, namespace)
    assert resource_version(kube.get("Secret", "mail-smtp", namespace)) == resource_version(secret)

    kube.patch("ClusterMailServerSettings", system, spec={"suspend": False})
    kube.wait_values("mail-smtp", namespace, **{"from": "new@acme.example"})


# --- what the status and the events say ---


TRUE_ONLY: Final = {"Reconciling", "Stalled"}
TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def assert_well_formed(settings: Json) -> None:
    """As kstatus and the Kubernetes API conventions want conditions."""
    conditions = settings["status"]["conditions"]
    by_type = {found["type"]: found for found in conditions}
    assert len(by_type) == len(conditions)
    for found in conditions:
        assert found["status"] in {"True", "False", "Unknown"}
        assert found["observedGeneration"] == settings["status"]["observedGeneration"]
        assert TIME.fullmatch(found["lastTransitionTime"])
        assert found["message"]
    assert [found for found in conditions if found["type"] in TRUE_ONLY and found["status"] != "True"] == []
    assert not by_type.keys() >= TRUE_ONLY
    ready = by_type["Ready"]["status"]
    parts = [found["status"] for kind, found in by_type.items() if kind not in {*TRUE_ONLY, "Ready"}]
    assert ready == ("False" if "False" in parts else "Unknown" if "Unknown" in parts else "True")
    if ready == "True":
        assert not TRUE_ONLY & by_type.keys()
    if ready == "Unknown":
        assert "Reconciling" in by_type


def test_conditions_are_well_formed_and_move_only_when_they_change(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.secret("smtp", namespace, password=PASSWORD)
    kube.create(KIND, "mail", namespace, spec=server_spec(smtp))
    before = kube.wait_ready("mail", namespace)
    assert_well_formed(before)
    moments = transition_times(before)
    later = datetime.now(UTC) + timedelta(seconds=2)  # times are told in whole seconds
    kube.wait(lambda: datetime.now(UTC) > later, "a later second")

    kube.patch(KIND, "mail", namespace, spec={"mailFrom": "new@acme.example"})
    settings = kube.wait_ready("mail", namespace)
    assert_well_formed(settings)
    assert transition_times(settings) == moments

    kube.patch("Secret", "smtp", namespace, stringData={"password": "wrong"})
    settings = kube.wait_condition("mail", namespace, "ProbeSucceeded", "False")
    assert_well_formed(settings)
    moved = transition_times(settings)
    assert {kind for kind, moment in moved.items() if moments.get(kind) != moment} == {
        "ProbeSucceeded",
        "Ready",
        "Stalled",
    }
    assert moved["Ready"] > moments["Ready"]

    kube.delete("Secret", "smtp", namespace)
    assert_well_formed(kube.wait_condition("mail", namespace, "CredentialsResolved", "False"))
    kube.secret("smtp", namespace, password=PASSWORD)
    assert_well_formed(kube.wait_condition("mail", namespace, "CredentialsResolved", "True"))
    settings = kube.wait_ready("mail", namespace)
    assert_well_formed(settings)


def transition_times(settings: Json) -> dict[str, str]:
    return {found["type"]: found["lastTransitionTime"] for found in settings["status"]["conditions"]}


def test_conditions_of_others_survive(create: Callable[..., Json], kube: Kube, namespace: str) -> None:
    create()
    foreign = {
        "type": "example.com/Audited",
        "status": "True",
        "reason": "Audited",
        "message": "by somebody",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }
    kube.api.request(
        "PATCH",
        f"{path(KIND, 'mail', namespace)}/status",
        {"apiVersion": "mailsettings.dev/v1alpha1", "kind": KIND, "status": {"conditions": [foreign]}},
        content_type=APPLY_PATCH,
        query={"fieldManager": "auditor"},
    )
    kube.patch(KIND, "mail", namespace, spec={"mailFrom": "new@acme.example"})
    settings = kube.wait_ready("mail", namespace)
    assert condition(settings, "example.com/Audited") == foreign
    settle(kube, namespace)
    assert resource_version(kube.settings("mail", namespace)) == resource_version(settings)


def told(kube: Kube, namespace: str, name: str = "mail") -> list[tuple[str, str, str]]:
    """Type, condition and reason of the events about settings, in the order of their times."""
    events = sorted(events_about(kube, namespace, name), key=lambda event: event["eventTime"])
    return [(event["type"], event["action"], event["reason"]) for event in events]


def test_events_tell_of_transitions_only(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    expected: list[tuple[str, str, str]] = []

    def assert_told(*events: tuple[str, str, str]) -> None:
        expected.extend(events)
        kube.wait(lambda: len(told(kube, namespace)) >= len(expected), f"{len(expected)} events")
        assert told(kube, namespace) == expected

    kube.create(KIND, "mail", namespace, spec=server_spec(smtp))
    kube.wait_condition("mail", namespace, "CredentialsResolved", "False")
    # That nothing is delivered then is no news of its own.
    assert_told(("Warning", "CredentialsResolved", "SecretNotFound"))

    kube.patch(KIND, "mail", namespace, spec={"mailFrom": "new@acme.example"})
    kube.wait_condition("mail", namespace, "CredentialsResolved", "False")
    kube.secret("smtp", namespace, password=PASSWORD)
    kube.wait_ready("mail", namespace)
    ready = ("Normal", "Ready", "Ready")
    assert_told(ready)

    kube.patch("Secret", "smtp", namespace, stringData={"password": "wrong"})
    kube.wait_condition("mail", namespace, "ProbeSucceeded", "False")
    assert_told(("Warning", "ProbeSucceeded", "BadCredentials"))
    asked = {"annotations": {"mailsettings.dev/probe-requested-at": "now"}}
    kube.patch(KIND, "mail", namespace, metadata=asked)
    kube.wait(
        lambda: (kube.settings("mail", namespace) or {})["status"]["probe"]["consecutiveFailures"] == 2,
        "a second failure",
    )
    kube.patch("Secret", "smtp", namespace, stringData={"password": PASSWORD})
    kube.wait_ready("mail", namespace)
    assert_told(ready)

    operator.stop()
    operator.start()
    settle(kube, namespace)
    assert_told()


def test_unrelated_changes_cause_no_writes(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer, cluster_settings: Create
) -> None:
    system = cluster_settings(tenants={"delivery": "Credentials", "namespaces": [namespace]})
    kube.secret("smtp", namespace, password=PASSWORD, other="1")
    kube.create(KIND, "own", namespace, spec=server_spec(smtp))
    kube.create(KIND, "inheriting", namespace, spec={"systemSettingsRef": {"name": system}})
    for name in ("own", "inheriting"):
        kube.wait_ready(name, namespace)
    kube.wait(
        lambda: (kube.settings(system) or {})["status"].get("tenants") == {"allowed": 1, "inheriting": 1}, "the counts"
    )

    def versions() -> dict[tuple[str, str], str]:
        places = [("ClusterMailServerSettings", system, None)]
        places += [(kind, name, namespace) for kind, name in DELIVERED]  # type: ignore[misc]
        return {(kind, name): resource_version(kube.get(kind, name, where)) for kind, name, where in places}

    before = versions()
    connections = smtp.connections
    unrelated = f"unrelated-{secrets.token_hex(4)}"
    for where in (namespace, NAMESPACE):
        kube.secret(unrelated, where, password="a")
        kube.create("ConfigMap", unrelated, where, data={"ca.crt": "a"})
        kube.patch("Secret", unrelated, where, stringData={"password": "b"})
        kube.patch("ConfigMap", unrelated, where, data={"ca.crt": "b"})
        kube.delete("ConfigMap", unrelated, where)
        kube.delete("Secret", unrelated, where)
    # What is referred to changes too, but not the part that counts.
    kube.patch("Secret", "smtp", namespace, stringData={"other": "2"}, metadata={"labels": {"a": "b"}})
    kube.patch("Namespace", namespace, metadata={"labels": {"unrelated": "yes"}})
    for name in ("own", "inheriting"):
        kube.patch(KIND, name, namespace, metadata={"labels": {"unrelated": "yes"}})
    before |= {(KIND, name): resource_version(kube.settings(name, namespace)) for name in ("own", "inheriting")}
    settle(kube, namespace)

    assert versions() == before
    assert smtp.connections == connections


DELIVERED: Final = [
    (KIND, "own"),
    (KIND, "inheriting"),
    ("Secret", "own-smtp"),
    ("Secret", "inheriting-smtp"),
]


def test_no_secret_value_leaves_the_secrets(
    operator: OperatorProcess,
    kube: Kube,
    new_namespace: Create,
    namespace: str,
    serve: Callable[..., MailServer],
    cluster_settings: Create,
    system_secret: str,
) -> None:
    """Whatever happens to it, a password is in no status, event, annotation or log line, in no usual form."""
    words = [f"Pw-{secrets.token_hex(8)}/{number}" for number in range(3)]
    server = serve(auth_required=True, auth_without_tls=True, login=(USERNAME, words[0]))
    kube.secret("smtp", namespace, password=words[0])
    template = {"presets": ["Symfony"], "data": {"x": "${password}"}}
    kube.create(KIND, "mail", namespace, spec=server_spec(server, output={"template": template}))
    kube.wait_ready("mail", namespace)
    kube.patch("Secret", "smtp", namespace, stringData={"password": words[1]})
    kube.wait_condition("mail", namespace, "ProbeSucceeded", "False", "BadCredentials")
    kube.patch("Secret", "smtp", namespace, stringData={"password": f"{words[1]}\n"})
    kube.wait_condition("mail", namespace, "CredentialsResolved", "False", "SecretValueInvalid")

    system = cluster_settings(tenants={"delivery": "Credentials", "namespaces": [namespace]})
    kube.patch("Secret", system_secret, NAMESPACE, stringData={"password": words[2]})
    kube.create(KIND, "inheriting", namespace, spec={"systemSettingsRef": {"name": system}})
    kube.wait_condition("inheriting", namespace, "ProbeSucceeded", "False", "BadCredentials")
    kube.wait_values("inheriting-smtp", namespace, password=words[2])

    delivered = [kube.get("Secret", name, namespace) or {} for name in ("mail-smtp", "inheriting-smtp")]
    texts = {
        "settings": json.dumps([kube.settings(name, namespace) for name in ("mail", "inheriting")]),
        "cluster object": json.dumps(kube.settings(system)),
        "events": json.dumps([events_about(kube, namespace, name) for name in ("mail", "inheriting")]),
        "events in default": json.dumps(events_about(kube, "default", system)),
        "metadata": json.dumps([secret["metadata"] for secret in delivered]),
        "log": operator.log_text(),
    }
    for word in words:
        plain = f"\0{USERNAME}\0{word}"
        forms = [word, quote(word, safe=""), encoded(word), encoded(plain), json.dumps(word)[1:-1]]
        for place, text in texts.items():
            assert [form for form in forms if form in text] == [], place
    assert "test" in texts["settings"]  # they have been read at all
    assert texts["log"]


def test_secret_goes_with_its_settings(create: Callable[..., Json], kube: Kube, namespace: str) -> None:
    create()
    kube.delete(KIND, "mail", namespace)
    kube.wait_gone("Secret", "mail-smtp", namespace, timeout=GARBAGE_TIMEOUT_S)
