"""What settings refer to: every way in which a Secret or ConfigMap can be unusable, what is said then, and the cure."""

import base64
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dev.cluster import Cluster
from dev.operator_process import NAMESPACE, OperatorProcess
from tests.cluster.conftest import server_spec
from tests.support.kube import Json, Kube, condition, resource_version
from tests.support.smtp_server import PASSWORD, USERNAME, Certificate, MailServer, certificate

LABEL = "mailsettings.dev/referable"
APP_PASSWORD = "abcdefghijklmnop"
API_KEY = f"SG.{'x' * 22}.{'y' * 43}"


def encoded(**values: str | bytes) -> dict[str, str]:
    """Values as a Secret's `data` has them."""
    return {
        key: base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
        for key, value in values.items()
    }


def assert_unresolved(settings: Json, reason: str, *words: str, hidden: str = "") -> None:
    """The object says what is wrong in so many words, is stalled, and shows nothing of the value."""
    found = condition(settings, "CredentialsResolved")
    ready, stalled = condition(settings, "Ready"), condition(settings, "Stalled")
    assert found is not None
    assert ready is not None
    assert stalled is not None
    assert (found["status"], found["reason"]) == ("False", reason)
    assert [word for word in words if word not in found["message"]] == []
    assert (ready["status"], ready["reason"]) == ("False", reason)
    assert (stalled["status"], stalled["reason"]) == ("True", reason)
    assert condition(settings, "Reconciling") is None
    if hidden:
        assert hidden not in json.dumps(settings)


def wait_unresolved(kube: Kube, namespace: str, reason: str, *words: str, hidden: str = "") -> Json:
    settings = kube.wait_condition("mail", namespace, "CredentialsResolved", "False", reason)
    assert_unresolved(settings, reason, *words, hidden=hidden)
    return settings


def create_healthy(kube: Kube, namespace: str, server: MailServer) -> None:
    """Settings that are in order become Ready, whatever is beside them."""
    kube.secret("healthy", namespace, password=PASSWORD)
    spec = server_spec(server)
    spec["auth"]["basic"]["passwordSecretRef"]["name"] = "healthy"
    kube.create("MailServerSettings", "healthy", namespace, spec=spec)
    kube.wait_ready("healthy", namespace)


@dataclass(frozen=True)
class Bad:
    """A password's Secret that cannot be used; `data` None: it does not exist."""

    data: Mapping[str, str | bytes] | None
    reason: str
    words: tuple[str, ...]
    hidden: str = ""


PASSWORDS = {
    "no secret": Bad(None, "SecretNotFound", ("there is no Secret 'smtp'", "create it")),
    "no key": Bad({"pass": "swordfish"}, "SecretKeyMissing", ("'smtp' has no key 'password'", "add it"), "swordfish"),
    "no data": Bad({}, "SecretKeyMissing", ("'smtp' has no key 'password'", "add it")),
    "empty": Bad({"password": ""}, "SecretValueInvalid", ("is empty",)),
    "blanks": Bad({"password": "  \t \u3000"}, "SecretValueInvalid", ("is empty",)),
    "not text": Bad({"password": b"sword\xff\xfefish"}, "SecretValueInvalid", ("is not UTF-8 text",), "fish"),
    "CR LF inside": Bad(
        {"password": "swordfish\r\nRCPT TO:<x@evil.example>"}, "SecretValueInvalid", ("holds a line break",), "evil"
    ),
    "LF inside": Bad({"password": "hunter\ntwo"}, "SecretValueInvalid", ("holds a line break",), "hunter"),
    "LF at the end": Bad({"password": "hunter\n"}, "SecretValueInvalid", ("ends with a line break",), "hunter"),
    "CR LF at the end": Bad({"password": "hunter\r\n"}, "SecretValueInvalid", ("ends with a line break",), "hunter"),
    "NUL": Bad({"password": "hunter\0two"}, "SecretValueInvalid", ("control character",), "hunter"),
    "line separator": Bad({"password": "hunter\u2028two"}, "SecretValueInvalid", ("control character",), "hunter"),
    "too long": Bad({"password": "hunter" * 700}, "SecretValueInvalid", ("longer than 4096 bytes",), "hunter"),
}


@pytest.mark.parametrize("bad", PASSWORDS.values(), ids=PASSWORDS)
def test_a_password_that_cannot_be_used_is_named_and_heals_at_once(
    operator: OperatorProcess, kube: Kube, namespace: str, serve: Callable[..., MailServer], bad: Bad
) -> None:
    smtp, other = (serve(auth_required=True, auth_without_tls=True) for _ in range(2))
    if bad.data is not None:
        kube.secret("smtp", namespace, **bad.data)
    kube.create("MailServerSettings", "mail", namespace, spec=server_spec(smtp))

    settings = wait_unresolved(
        kube, namespace, bad.reason, "auth.basic.passwordSecretRef", *bad.words, hidden=bad.hidden
    )
    delivered = condition(settings, "Delivered")
    assert delivered is not None
    assert (delivered["status"], delivered["reason"]) == ("False", "NotDelivered")
    assert condition(settings, "ProbeSucceeded") is None
    create_healthy(kube, namespace, other)
    assert smtp.connections == 0
    assert kube.get("Secret", "mail-smtp", namespace) is None

    if bad.data is None:
        kube.secret("smtp", namespace, password=PASSWORD)
    else:
        kube.patch("Secret", "smtp", namespace, data=encoded(password=PASSWORD))
    settings = kube.wait_ready("mail", namespace)

    assert condition(settings, "Stalled") is None
    assert smtp.attempts == [("PLAIN", USERNAME, PASSWORD)]
    if bad.hidden:
        assert bad.hidden not in operator.log_text()


def test_a_password_may_hold_any_printable_text(
    operator: OperatorProcess, kube: Kube, namespace: str, serve: Callable[..., MailServer]
) -> None:
    password = " pä$$ wörd '\"\\${host} %s 💌 "
    smtp = serve(auth_required=True, auth_without_tls=True, login=(USERNAME, password))
    kube.secret("smtp", namespace, password=password)
    kube.create("MailServerSettings", "mail", namespace, spec=server_spec(smtp))

    kube.wait_ready("mail", namespace)

    values = kube.secret_data("mail-smtp", namespace)
    assert values is not None
    assert values["password"] == password


def with_username_ref(server: MailServer, **fields: Any) -> dict[str, Any]:
    spec = server_spec(server, **fields)
    spec["auth"]["basic"] = {
        "usernameSecretRef": {"name": "smtp", "key": "username"},
        "passwordSecretRef": {"name": "smtp", "key": "password"},
    }
    return spec


def test_the_username_may_come_from_a_secret(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.secret("smtp", namespace, password=PASSWORD)
    kube.create("MailServerSettings", "mail", namespace, spec=with_username_ref(smtp))
    wait_unresolved(kube, namespace, "SecretKeyMissing", "auth.basic.usernameSecretRef", "'username'", "add it")

    kube.patch("Secret", "smtp", namespace, data=encoded(username="hunter\n"))
    wait_unresolved(
        kube, namespace, "SecretValueInvalid", "auth.basic.usernameSecretRef", "ends with a line break", hidden="hunter"
    )

    kube.patch("Secret", "smtp", namespace, data=encoded(username=USERNAME))
    kube.wait_ready("mail", namespace)
    values = kube.secret_data("mail-smtp", namespace)
    assert values is not None
    assert values["username"] == USERNAME
    assert smtp.attempts == [("PLAIN", USERNAME, PASSWORD)]


def test_a_secret_that_goes_leaves_the_last_good_delivery(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.secret("smtp", namespace, password=PASSWORD)
    kube.create("MailServerSettings", "mail", namespace, spec=server_spec(smtp))
    kube.wait_ready("mail", namespace)
    before = resource_version(kube.get("Secret", "mail-smtp", namespace))

    kube.delete("Secret", "smtp", namespace)
    settings = wait_unresolved(kube, namespace, "SecretNotFound", "auth.basic.passwordSecretRef")

    delivered = condition(settings, "Delivered")
    assert delivered is not None
    assert (delivered["status"], delivered["reason"]) == ("False", "LastGoodKept")
    kube.secret("smtp", namespace, password=PASSWORD)
    kube.wait_ready("mail", namespace)
    assert resource_version(kube.get("Secret", "mail-smtp", namespace)) == before


@pytest.fixture
def private(serve: Callable[..., MailServer]) -> tuple[MailServer, Certificate]:
    """A server with STARTTLS and a certificate of a private authority."""
    its = certificate("127.0.0.1")
    return serve(start_tls=its.context, auth_required=True), its


def with_ca(server: MailServer, **ca_bundle: Any) -> dict[str, Any]:
    spec = server_spec(server)
    spec["connection"]["tls"] = {"mode": "StartTLS", "caBundle": ca_bundle}
    return spec


RUBBISH = base64.b64encode(b"\x30\x82\x01\x2c" + bytes(300)).decode()
"""An ASN.1 sequence of the length it states, and nothing in it."""

BUNDLES = {
    "no object": (None, "NotFound"),
    "no key": ({"other": "x"}, "KeyMissing"),
    "empty": ({"ca.crt": ""}, "CaBundleInvalid"),
    "not PEM": ({"ca.crt": "swordfish, not PEM"}, "CaBundleInvalid"),
    "broken base64": (
        {"ca.crt": "-----BEGIN CERTIFICATE-----\nMIIBswordfish\n-----END CERTIFICATE-----\n"},
        "CaBundleInvalid",
    ),
    "rubbish in a right frame": (
        {"ca.crt": f"-----BEGIN CERTIFICATE-----\n{RUBBISH}\n-----END CERTIFICATE-----\n"},
        "CaBundleInvalid",
    ),
    "a key": ({"ca.crt": "-----BEGIN PRIVATE KEY-----\nMIIBswordfish\n-----END PRIVATE KEY-----\n"}, "CaBundleInvalid"),
}


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
@pytest.mark.parametrize(("data", "reason"), BUNDLES.values(), ids=BUNDLES)
def test_a_ca_bundle_that_cannot_be_used_is_named_and_heals_at_once(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    private: tuple[MailServer, Certificate],
    kind: str,
    data: dict[str, str] | None,
    reason: str,
) -> None:
    smtp, its = private
    member = "configMapKeyRef" if kind == "ConfigMap" else "secretKeyRef"
    reason = reason if reason == "CaBundleInvalid" else f"{kind}{reason}"

    def stored(values: dict[str, str]) -> dict[str, str]:
        return encoded(**values) if kind == "Secret" else values

    kube.secret("smtp", namespace, password=PASSWORD)
    if data is not None:
        kube.create(kind, "ca", namespace, data=stored(data))
    kube.create(
        "MailServerSettings", "mail", namespace, spec=with_ca(smtp, **{member: {"name": "ca", "key": "ca.crt"}})
    )
    wait_unresolved(kube, namespace, reason, f"connection.tls.caBundle.{member}", hidden="swordfish")

    if data is None:
        kube.create(kind, "ca", namespace, data=stored({"ca.crt": its.ca_pem}))
    else:
        kube.patch(kind, "ca", namespace, data=stored({"ca.crt": its.ca_pem}))
    kube.wait_ready("mail", namespace)

    values = kube.secret_data("mail-smtp", namespace)
    assert values is not None
    assert values["ca.crt"].split() == its.ca_pem.split()


def test_one_broken_certificate_spoils_the_bundle(
    operator: OperatorProcess, kube: Kube, namespace: str, private: tuple[MailServer, Certificate]
) -> None:
    """Otherwise a bundle that was cut or pasted badly would silently trust fewer authorities than it should."""
    smtp, its = private
    broken = "-----BEGIN CERTIFICATE-----\nMII*not base64*\n-----END CERTIFICATE-----\n"
    kube.secret("smtp", namespace, password=PASSWORD)
    kube.create("ConfigMap", "ca", namespace, data={"ca.crt": its.ca_pem + broken})
    kube.create(
        "MailServerSettings",
        "mail",
        namespace,
        spec=with_ca(smtp, configMapKeyRef={"name": "ca", "key": "ca.crt"}),
    )

    wait_unresolved(kube, namespace, "CaBundleInvalid", "connection.tls.caBundle.configMapKeyRef")


def test_comments_and_binary_data_in_a_bundle_do_no_harm(
    operator: OperatorProcess, kube: Kube, namespace: str, private: tuple[MailServer, Certificate]
) -> None:
    smtp, its = private
    bundle = f"# Acme ä root\r\n{its.ca_pem}\n"
    kube.secret("smtp", namespace, password=PASSWORD)
    kube.create(
        "ConfigMap", "ca", namespace, binaryData={"ca.crt": base64.b64encode(bundle.encode("latin-1")).decode()}
    )
    kube.create(
        "MailServerSettings", "mail", namespace, spec=with_ca(smtp, configMapKeyRef={"name": "ca", "key": "ca.crt"})
    )

    kube.wait_ready("mail", namespace)

    values = kube.secret_data("mail-smtp", namespace)
    assert values is not None
    assert "Acme" not in values["ca.crt"]


def provider_spec(provider: str, server: MailServer, **basic: Any) -> dict[str, Any]:
    spec = server_spec(server, provider=provider)
    spec["auth"]["basic"] = {"passwordSecretRef": {"name": "smtp", "key": "password"}, **basic}
    return spec


def test_sendgrid_logs_in_as_apikey_with_a_whole_key(
    operator: OperatorProcess, kube: Kube, namespace: str, serve: Callable[..., MailServer]
) -> None:
    smtp = serve(auth_required=True, auth_without_tls=True, login=("apikey", API_KEY))
    kube.secret("smtp", namespace, password="SG.cut")
    kube.create("MailServerSettings", "mail", namespace, spec=provider_spec("SendGrid", smtp))
    wait_unresolved(
        kube,
        namespace,
        "SecretValueInvalid",
        "auth.basic.passwordSecretRef",
        "SendGrid",
        "store the API key itself",
        hidden="SG.cut",
    )
    assert smtp.connections == 0

    kube.patch("Secret", "smtp", namespace, data=encoded(password=API_KEY))
    kube.wait_ready("mail", namespace)

    values = kube.secret_data("mail-smtp", namespace)
    assert values is not None
    assert (values["username"], values["password"]) == ("apikey", API_KEY)


@pytest.mark.parametrize(
    "wrong", ["abcd efgh ijkl mno", "abcd efgh ijkl mnop q", "abcd-efgh-ijkl-mnop", "my password 123"]
)
def test_google_app_passwords_are_taken_with_their_spaces_and_only_whole(
    operator: OperatorProcess, kube: Kube, namespace: str, serve: Callable[..., MailServer], wrong: str
) -> None:
    smtp = serve(auth_required=True, auth_without_tls=True, login=(USERNAME, APP_PASSWORD))
    kube.secret("smtp", namespace, password=wrong)
    kube.create("MailServerSettings", "mail", namespace, spec=provider_spec("Google", smtp, username=USERNAME))
    wait_unresolved(
        kube, namespace, "SecretValueInvalid", "auth.basic.passwordSecretRef", "create an app password", hidden=wrong
    )

    kube.patch("Secret", "smtp", namespace, data=encoded(password="abcd efgh\u00a0ijkl mnop"))
    kube.wait_ready("mail", namespace)

    values = kube.secret_data("mail-smtp", namespace)
    assert values is not None
    assert values["password"] == APP_PASSWORD
    assert smtp.attempts == [("PLAIN", USERNAME, APP_PASSWORD)]


def test_office365_with_basic_auth_works_and_warns(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.secret("smtp", namespace, password=PASSWORD)
    kube.create("MailServerSettings", "mail", namespace, spec=provider_spec("Office365", smtp, username=USERNAME))

    settings = kube.wait_ready("mail", namespace)

    accepted = condition(settings, "Accepted")
    assert accepted is not None
    assert "Microsoft is retiring Basic authentication" in accepted["message"]
    assert "December 2026" in accepted["message"]


@pytest.mark.parametrize("account", ["jane@outlook.com", "Jane@HotMail.com"])
def test_personal_outlook_accounts_are_refused_in_a_secret_too(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer, account: str
) -> None:
    kube.secret("smtp", namespace, password=PASSWORD, username=account)
    kube.create("MailServerSettings", "mail", namespace, spec=with_username_ref(smtp, provider="Office365"))

    wait_unresolved(
        kube,
        namespace,
        "SecretValueInvalid",
        "auth.basic.usernameSecretRef",
        "use the mailbox of a Microsoft 365 organisation",
        hidden=account,
    )

    kube.patch("Secret", "smtp", namespace, data=encoded(username=USERNAME))
    kube.wait_ready("mail", namespace)


@pytest.fixture
def cautious_operator(operator: OperatorProcess, installed: Cluster, tmp_path: Path) -> Iterator[OperatorProcess]:
    """An operator that uses only Secrets which opt in, in place of the usual one."""
    operator.stop()
    cautious = OperatorProcess(installed, tmp_path, {"MAILSETTINGS_REQUIRE_SECRET_LABEL": "true"})
    cautious.start()
    yield cautious
    cautious.stop()
    operator.start()


def test_where_secrets_have_to_opt_in_only_labelled_ones_are_used(
    cautious_operator: OperatorProcess, kube: Kube, namespace: str, private: tuple[MailServer, Certificate]
) -> None:
    smtp, its = private
    kube.secret("smtp", namespace, password=PASSWORD)
    kube.create("ConfigMap", "ca", namespace, data={"ca.crt": its.ca_pem})  # no secret: needs no label
    kube.create(
        "MailServerSettings", "mail", namespace, spec=with_ca(smtp, configMapKeyRef={"name": "ca", "key": "ca.crt"})
    )
    words = "auth.basic.passwordSecretRef", "label the Secret 'smtp'", LABEL
    wait_unresolved(kube, namespace, "SecretNotReferable", *words)

    kube.patch("Secret", "smtp", namespace, metadata={"labels": {LABEL: "false"}})
    kube.patch("Secret", "smtp", namespace, metadata={"labels": {LABEL: "true"}})
    kube.wait_ready("mail", namespace)

    kube.patch("Secret", "smtp", namespace, metadata={"labels": {LABEL: None}})
    settings = wait_unresolved(kube, namespace, "SecretNotReferable", *words)
    delivered = condition(settings, "Delivered")
    assert delivered is not None
    assert delivered["reason"] == "LastGoodKept"


def test_a_tenant_refers_to_its_own_namespace_only(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer, system_secret: str
) -> None:
    spec = server_spec(smtp)
    spec["auth"]["basic"]["passwordSecretRef"]["name"] = system_secret  # is in the operator's namespace
    kube.create("MailServerSettings", "mail", namespace, spec=spec)

    wait_unresolved(kube, namespace, "SecretNotFound", f"there is no Secret '{system_secret}'")

    kube.secret(system_secret, namespace, password=PASSWORD)
    kube.wait_ready("mail", namespace)


def test_the_system_refers_to_the_operators_namespace_only(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    cluster_settings: Callable[..., str],
    smtp: MailServer,
    system_secret: str,
) -> None:
    elsewhere = f"elsewhere-{secrets.token_hex(4)}"
    kube.secret(elsewhere, namespace, password=PASSWORD)
    name = cluster_settings(tenants={"delivery": "Credentials", "namespaces": [namespace]})
    kube.wait_ready(name)
    kube.create("MailServerSettings", "mail", namespace, spec={"systemSettingsRef": {"name": name}})
    kube.wait_ready("mail", namespace)

    reference = {"basic": {"username": USERNAME, "passwordSecretRef": {"name": elsewhere, "key": "password"}}}
    kube.patch("ClusterMailServerSettings", name, spec={"auth": reference})
    settings = kube.wait_condition(name, None, "CredentialsResolved", "False")
    assert_unresolved(settings, "SecretNotFound", "auth.basic.passwordSecretRef", elsewhere, "create it")
    tenant = kube.wait_condition("mail", namespace, "CredentialsResolved", "False", "SystemCredentialsUnresolved")
    assert elsewhere not in json.dumps(tenant["status"])  # the system's faults are not the tenants' business

    kube.secret(elsewhere, NAMESPACE, password=PASSWORD)
    try:
        kube.wait_ready(name)
        kube.wait_ready("mail", namespace)
    finally:
        kube.delete("Secret", elsewhere, NAMESPACE)
