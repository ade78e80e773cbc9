"""What a hostile tenant, a careless administrator or an odd text may not do."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from dev.cluster import ApiError
from dev.operator_process import OperatorProcess
from tests.cluster.conftest import server_spec
from tests.support.kube import Kube, condition, resource_version
from tests.support.policies import secrets_policy
from tests.support.smtp_server import PASSWORD, MailServer


@pytest.fixture
def refuse_secrets_with(kube: Kube) -> Iterator[Callable[[str, str], None]]:
    """Has the API server refuse, in one namespace, Secrets with a label, as a cluster's own policies do."""
    with contextlib.ExitStack() as stack:

        def refuse(namespace: str, label: str) -> None:
            expression = f"!has(object.metadata.labels) || !('{label}' in object.metadata.labels)"
            in_force = partial(_is_refused, kube, namespace, label)
            stack.enter_context(secrets_policy(kube, namespace, expression, in_force=in_force))

        yield refuse


def _is_refused(kube: Kube, namespace: str, label: str) -> bool:
    body = {"metadata": {"name": "trial", "labels": {label: "x"}}}
    try:
        kube.api.request("POST", f"/api/v1/namespaces/{namespace}/secrets", body, query={"dryRun": "All"})
    except ApiError:
        return True
    return False


def ready_settings(kube: Kube, namespace: str, smtp: MailServer, name: str = "mail", **fields: Any) -> None:
    if kube.get("Secret", "smtp", namespace) is None:
        kube.secret("smtp", namespace, password=PASSWORD)
    kube.create("MailServerSettings", name, namespace, spec=server_spec(smtp, **fields))
    kube.wait_ready(name, namespace)


def test_a_policy_that_refuses_a_change_does_not_cost_the_secret(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    smtp: MailServer,
    refuse_secrets_with: Callable[[str, str], None],
) -> None:
    ready_settings(kube, namespace, smtp)
    before = kube.get("Secret", "mail-smtp", namespace)
    refuse_secrets_with(namespace, "team")

    kube.patch("MailServerSettings", "mail", namespace, spec={"output": {"metadata": {"labels": {"team": "a"}}}})

    settings = kube.wait_condition("mail", namespace, "Delivered", "False", "DeliveryRefused")
    assert resource_version(kube.get("Secret", "mail-smtp", namespace)) == resource_version(before)
    assert condition(settings, "Stalled") is not None


def test_a_template_that_asks_for_too_much_is_refused_and_the_last_good_stays(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    ready_settings(kube, namespace, smtp)
    before = kube.get("Secret", "mail-smtp", namespace)
    text = "${uri}" * 300
    data = {f"key-{number}": text for number in range(32)}

    kube.patch("MailServerSettings", "mail", namespace, spec={"output": {"template": {"data": data}}})

    settings = kube.wait_condition("mail", namespace, "Delivered", "False", "DeliveryRefused")
    delivered = condition(settings, "Delivered")
    assert delivered is not None
    assert "output.template.data" in delivered["message"]
    assert resource_version(kube.get("Secret", "mail-smtp", namespace)) == resource_version(before)


@pytest.mark.parametrize("name", ["Shop \N{PARTY POPPER}", "M\u00fcller & S\u00f6hne", "\u65e5\u672c", "\\ud83c"])
def test_any_name_of_a_sender_reaches_status_and_secret(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer, name: str
) -> None:
    sender = f"{name} <no-reply@acme.example>"
    if "\\" in name:
        sender = "Shop <no-reply@acme.example>"
        ready_settings(kube, namespace, smtp, output={"metadata": {"annotations": {"note": name}}})
    else:
        ready_settings(kube, namespace, smtp, mailFrom=sender)

    settings = kube.settings("mail", namespace)
    values = kube.secret_data("mail-smtp", namespace)
    secret = kube.get("Secret", "mail-smtp", namespace)
    assert settings is not None
    assert values is not None
    assert secret is not None
    if "\\" in name:
        assert secret["metadata"]["annotations"]["note"] == name
    else:
        assert settings["status"]["effective"]["mailFrom"] == values["from"] == sender


def test_settings_may_not_refer_to_what_the_operator_delivers(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    """Otherwise settings could feed on their own output for ever, or keep what was given to them for a while."""
    ready_settings(kube, namespace, smtp)
    auth = {"basic": {"username": "u", "passwordSecretRef": {"name": "mail-smtp", "key": "password"}}}

    kube.create("MailServerSettings", "other", namespace, spec=server_spec(smtp, auth=auth))

    kube.wait_condition("other", namespace, "CredentialsResolved", "False", "SecretNotReferable")
    assert kube.get("Secret", "other-smtp", namespace) is None


def test_of_two_that_want_a_name_the_second_keeps_its_last_good(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.secret("wanted", namespace, foreign="value")
    ready_settings(kube, namespace, smtp, "holder", output={"secretName": "kept"})
    kube.create("MailServerSettings", "first", namespace, spec=server_spec(smtp, output={"secretName": "wanted"}))
    kube.wait_condition("first", namespace, "Delivered", "False", "SecretNotOwned")
    kube.patch("MailServerSettings", "holder", namespace, spec={"output": {"secretName": "wanted"}})
    kube.wait_condition("holder", namespace, "Delivered", "False", "SecretNotOwned")

    kube.delete("Secret", "wanted", namespace)

    def owner() -> str | None:
        secret = kube.get("Secret", "wanted", namespace)
        references = (secret or {}).get("metadata", {}).get("ownerReferences") or [{}]
        name: str | None = references[0].get("name")
        return name

    winner = kube.wait(owner, "the name to be taken")
    loser = {"first": "holder", "holder": "first"}[winner]
    kube.wait_condition(winner, namespace, "Ready", "True")
    kube.wait_condition(loser, namespace, "Delivered", "False", "SecretNotOwned")
    assert (kube.get("Secret", "kept", namespace) is not None) == (loser == "holder")


def test_the_systems_login_goes_even_from_settings_that_no_longer_inherit(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer, cluster_settings: Callable[..., str]
) -> None:
    system = cluster_settings(tenants={"delivery": "Credentials", "namespaces": [namespace]})
    kube.create("MailServerSettings", "mail", namespace, spec={"systemSettingsRef": {"name": system}})
    kube.wait_ready("mail", namespace)
    own = server_spec(smtp, systemSettingsRef=None)
    own["auth"]["basic"]["passwordSecretRef"]["name"] = "missing"
    kube.patch("MailServerSettings", "mail", namespace, spec=own)
    kube.wait_condition("mail", namespace, "Delivered", "False", "LastGoodKept")

    kube.patch("ClusterMailServerSettings", system, spec={"tenants": {"namespaces": []}})

    kube.wait(lambda: kube.get("Secret", "mail-smtp", namespace) is None, "the Secret to go")


def test_suspended_settings_show_what_is_in_force(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    ready_settings(kube, namespace, smtp)
    kube.patch("MailServerSettings", "mail", namespace, spec={"suspend": True, "connection": {"host": "other.example"}})

    settings = kube.wait_condition("mail", namespace, "Delivered", "True", "Suspended")

    values = kube.secret_data("mail-smtp", namespace)
    assert values is not None
    assert settings["status"]["effective"]["host"] == values["host"] == "127.0.0.1"


def test_suspended_settings_that_were_never_tested_do_not_claim_to_be_ready(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.secret("smtp", namespace, password=PASSWORD)
    kube.create("MailServerSettings", "mail", namespace, spec=server_spec(smtp, suspend=True))

    settings = kube.wait_condition("mail", namespace, "ProbeSucceeded", "Unknown", "Suspended")

    assert condition(settings, "Reconciling") is None
    ready = condition(settings, "Ready")
    assert ready is not None
    assert ready["status"] != "True"
