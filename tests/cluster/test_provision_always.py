"""`tenants.provision: Always`: namespaces get the system's settings without asking, until they bring their own."""

import secrets
from collections.abc import Callable
from typing import Any, Final

import pytest

from dev.cluster import ApiError
from dev.operator_process import NAMESPACE, OperatorProcess
from tests.cluster.conftest import server_spec
from tests.support.history import secret_changes
from tests.support.kube import Json, Kube, reason_of, resource_version
from tests.support.smtp_server import PASSWORD, MailServer

Create = Callable[..., str]

SYSTEM_KIND: Final = "ClusterMailServerSettings"
TENANT_KIND: Final = "MailServerSettings"
SECRET: Final = "default-smtp"
SOURCE: Final = "mailsettings.dev/source"
SOURCE_GENERATION: Final = "mailsettings.dev/source-generation"


@pytest.fixture
def team() -> str:
    """The label by which the system's settings of the test select namespaces."""
    return secrets.token_hex(4)


@pytest.fixture
def always(cluster_settings: Create, team: str) -> Callable[..., None]:
    """Creates the system's settings, which serve all namespaces of the team."""

    def create(**spec: Any) -> None:
        cluster_settings("default", tenants=tenants_of(team), **spec)

    return create


def tenants_of(team: str) -> Json:
    return {
        "provision": "Always",
        "delivery": "Credentials",
        "namespaceSelector": {"matchLabels": {"team": team}},
    }


def wait_served(kube: Kube, namespace: str) -> Json:
    """The Secret once it is the system's."""

    def look() -> Json | None:
        secret = kube.get("Secret", SECRET, namespace)
        return secret if secret is not None and owner(secret)[0] == SYSTEM_KIND else None

    found: Json = kube.wait(look, f"the Secret {SECRET} of the system in {namespace}")
    return found


def owner(secret: Json) -> tuple[str, str]:
    """Kind and name of the only owner."""
    (reference,) = secret["metadata"]["ownerReferences"]
    assert reference["controller"] is True
    return reference["kind"], reference["name"]


def wait_tenants(kube: Kube, **expected: Any) -> None:
    """Waits until the system's `status.tenants` says so; None: the field is absent."""
    seen: list[Any] = [None]

    def look() -> bool:
        seen[0] = ((kube.settings("default") or {}).get("status") or {}).get("tenants") or {}
        return all(seen[0].get(key) == value for key, value in expected.items())

    try:
        kube.wait(look, f"status.tenants {expected}")
    except AssertionError as error:
        raise AssertionError(f"{error}; last seen: {seen[0]}") from None


def assert_never_absent(kube: Kube, namespace: str, since: Json) -> None:
    """The Secret was there all the time since, as one and the same object."""
    changes = [change for change in secret_changes(kube, namespace, resource_version(since)) if change.name == SECRET]
    assert "DELETED" not in [change.type for change in changes]
    assert {change.document["metadata"]["uid"] for change in changes} <= {since["metadata"]["uid"]}


# --- served without asking ---


def test_creating_a_namespace_is_enough(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, team: str, always: Callable[..., None]
) -> None:
    always(mailFrom="Acme <no-reply@acme.example>")
    settings = kube.wait_ready("default")
    namespace, outside = new_namespace({"team": team}), new_namespace()

    secret = wait_served(kube, namespace)

    assert owner(secret) == (SYSTEM_KIND, "default")
    assert secret["metadata"]["ownerReferences"][0]["uid"] == settings["metadata"]["uid"]
    assert secret["type"] == "servicebinding.io/smtp"
    assert secret["metadata"]["annotations"][SOURCE] == f"{SYSTEM_KIND}/default"
    assert secret["metadata"]["annotations"][SOURCE_GENERATION] == "1"
    assert secret["metadata"]["labels"]["mailsettings.dev/settings"] == "default"
    values = kube.secret_data(SECRET, namespace) or {}
    assert (values["from"], values["password"]) == ("Acme <no-reply@acme.example>", PASSWORD)
    wait_tenants(kube, allowed=1, inheriting=1, failures=None)
    assert kube.get("Secret", SECRET, outside) is None


def test_namespaces_that_were_there_before_are_served_and_follow_changes(
    operator: OperatorProcess,
    kube: Kube,
    new_namespace: Create,
    team: str,
    always: Callable[..., None],
    system_secret: str,
) -> None:
    namespaces = [new_namespace({"team": team}) for _ in range(5)]
    always()
    for namespace in namespaces:
        wait_served(kube, namespace)

    kube.patch(SYSTEM_KIND, "default", spec={"mailFrom": "new@acme.example"})
    for namespace in namespaces:
        secret = kube.wait_values(SECRET, namespace, **{"from": "new@acme.example"})
        assert secret["metadata"]["annotations"][SOURCE_GENERATION] == "2"
    kube.patch("Secret", system_secret, NAMESPACE, stringData={"password": "rotated"})
    for namespace in namespaces:
        kube.wait_values(SECRET, namespace, password="rotated")
    wait_tenants(kube, allowed=5, inheriting=5)


def test_secret_looks_as_the_systems_output_says(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, team: str, always: Callable[..., None]
) -> None:
    namespace = new_namespace({"team": team})
    metadata = {"labels": {"reload": "yes"}, "annotations": {"reloader.example/match": "true"}}
    template = {"presets": ["Symfony"], "data": {"sender.txt": "${from-address} in $$"}}
    always(output={"metadata": metadata, "template": template}, mailFrom="Acme <no-reply@acme.example>")

    secret = wait_served(kube, namespace)
    assert metadata["labels"].items() <= secret["metadata"]["labels"].items()
    assert metadata["annotations"].items() <= secret["metadata"]["annotations"].items()
    values = kube.secret_data(SECRET, namespace) or {}
    assert values["sender.txt"] == "no-reply@acme.example in $"
    assert values["MAILER_DSN"].startswith("smtp://")

    kube.patch(SYSTEM_KIND, "default", spec={"output": {"metadata": None, "template": {"presets": None}}})

    def look() -> bool:
        return "MAILER_DSN" not in (kube.secret_data(SECRET, namespace) or {})

    kube.wait(look, "the preset's keys to go")
    secret = wait_served(kube, namespace)
    assert "reload" not in secret["metadata"]["labels"]
    assert "reloader.example/match" not in secret["metadata"]["annotations"]
    assert "sender.txt" in secret["data"]


def test_namespace_that_leaves_the_selection_loses_the_secret(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, team: str, always: Callable[..., None]
) -> None:
    namespace, stays = new_namespace({"team": team}), new_namespace({"team": team})
    always()
    kept = wait_served(kube, stays)
    for _ in range(2):
        wait_served(kube, namespace)
        kube.patch("Namespace", namespace, metadata={"labels": {"team": None}})
        kube.wait_gone("Secret", SECRET, namespace)
        wait_tenants(kube, allowed=1, inheriting=1)
        kube.patch("Namespace", namespace, metadata={"labels": {"team": team}})
    wait_served(kube, namespace)

    kube.patch(SYSTEM_KIND, "default", spec={"tenants": {"exclude": [namespace]}})
    kube.wait_gone("Secret", SECRET, namespace)
    assert kube.get("Secret", SECRET, stays) is not None
    # The generation in the annotations has changed, nothing else, and it is the same object.
    assert wait_served(kube, stays)["metadata"]["uid"] == kept["metadata"]["uid"]


def test_provision_on_request_takes_away_what_nobody_asked_for(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, team: str, always: Callable[..., None]
) -> None:
    namespace, asking = new_namespace({"team": team}), new_namespace({"team": team})
    always()
    kube.create(TENANT_KIND, "mail", asking, spec={})
    kube.wait_ready("mail", asking)
    wait_served(kube, namespace)
    wait_tenants(kube, allowed=2, inheriting=2)

    kube.patch(SYSTEM_KIND, "default", spec={"tenants": {"provision": "OnRequest"}})
    kube.wait_gone("Secret", SECRET, namespace)
    wait_tenants(kube, allowed=2, inheriting=1)
    kube.wait_ready("mail", asking)
    assert kube.get("Secret", "mail-smtp", asking) is not None

    kube.patch(SYSTEM_KIND, "default", spec={"tenants": {"provision": "Always"}})
    wait_served(kube, namespace)


def test_deletion_of_the_system_is_refused_while_it_serves_and_takes_the_secrets(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, team: str, always: Callable[..., None]
) -> None:
    namespace = new_namespace({"team": team})
    always()
    wait_served(kube, namespace)
    wait_tenants(kube, inheriting=1)
    with pytest.raises(ApiError, match=r"1 namespace\(s\) use these settings"):
        kube.delete(SYSTEM_KIND, "default")
    kube.patch(SYSTEM_KIND, "default", metadata={"annotations": {"mailsettings.dev/allow-deletion": "true"}})
    kube.delete(SYSTEM_KIND, "default")
    # Kubernetes' garbage collector looks for new kinds only every half minute.
    kube.wait_gone("Secret", SECRET, namespace, timeout=90)

    always()
    wait_served(kube, namespace)


def test_operator_that_comes_back_writes_nothing_but_what_was_missed(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, team: str, always: Callable[..., None]
) -> None:
    served = [new_namespace({"team": team}) for _ in range(3)]
    always()
    before = [wait_served(kube, namespace) for namespace in served]
    kube.wait_ready("default")
    wait_tenants(kube, allowed=3, inheriting=3)
    settings = kube.settings("default")

    operator.stop()
    left, missed = served[2], new_namespace({"team": team})
    kube.patch("Namespace", left, metadata={"labels": {"team": None}})
    operator.start()

    wait_served(kube, missed)
    kube.wait_gone("Secret", SECRET, left)
    wait_tenants(kube, allowed=3, inheriting=3)
    for namespace, secret in zip(served[:2], before[:2], strict=True):
        assert resource_version(kube.get("Secret", SECRET, namespace)) == resource_version(secret)
    assert resource_version(kube.settings("default")) == resource_version(settings)


# --- taken over by an object of the namespace's own ---


def test_settings_of_another_name_take_over_without_a_gap(
    operator: OperatorProcess,
    kube: Kube,
    new_namespace: Create,
    smtp: MailServer,
    team: str,
    always: Callable[..., None],
) -> None:
    namespace = new_namespace({"team": team})
    always()
    first = wait_served(kube, namespace)
    kube.secret("smtp", namespace, password=PASSWORD)

    kube.create(TENANT_KIND, "mail", namespace, spec=server_spec(smtp))

    settings = kube.wait_ready("mail", namespace)
    assert settings["status"]["binding"] == {"name": "mail-smtp"}
    kube.wait_gone("Secret", SECRET, namespace)
    changes = secret_changes(kube, namespace, resource_version(first))
    order = [(change.type, change.name) for change in changes if change.name in (SECRET, "mail-smtp")]
    assert order[:2] == [("ADDED", "mail-smtp"), ("DELETED", SECRET)]
    wait_tenants(kube, allowed=1, inheriting=0)

    kube.delete(TENANT_KIND, "mail", namespace)
    wait_served(kube, namespace)
    wait_tenants(kube, allowed=1, inheriting=1)


@pytest.mark.parametrize("own_server", [True, False], ids=["own server", "inheriting"])
def test_settings_named_default_take_over_the_very_secret_without_a_gap(
    operator: OperatorProcess,
    kube: Kube,
    new_namespace: Create,
    smtp: MailServer,
    team: str,
    always: Callable[..., None],
    own_server: bool,
) -> None:
    namespace = new_namespace({"team": team})
    always()
    first = wait_served(kube, namespace)
    kube.secret("smtp", namespace, password=PASSWORD)

    spec = server_spec(smtp, mailFrom="tenant@acme.example") if own_server else {}
    kube.create(TENANT_KIND, "default", namespace, spec=spec)

    settings = kube.wait_ready("default", namespace)
    assert settings["status"]["binding"] == {"name": SECRET}
    secret = kube.get("Secret", SECRET, namespace)
    assert secret is not None
    assert owner(secret) == (TENANT_KIND, "default")
    assert secret["metadata"]["annotations"][SOURCE] == (
        f"{TENANT_KIND}/{namespace}/default" if own_server else f"{SYSTEM_KIND}/default"
    )
    wait_tenants(kube, allowed=1, inheriting=0 if own_server else 1, failures=None)
    assert_never_absent(kube, namespace, first)

    kube.delete(TENANT_KIND, "default", namespace)
    secret = wait_served(kube, namespace)
    assert secret["metadata"]["annotations"][SOURCE] == f"{SYSTEM_KIND}/default"
    wait_tenants(kube, allowed=1, inheriting=1, failures=None)


@pytest.mark.parametrize("name", ["mail", "default"])
def test_settings_that_cannot_be_delivered_take_nothing_away(
    operator: OperatorProcess,
    kube: Kube,
    new_namespace: Create,
    smtp: MailServer,
    team: str,
    always: Callable[..., None],
    name: str,
) -> None:
    namespace = new_namespace({"team": team})
    always()
    first = wait_served(kube, namespace)

    kube.create(TENANT_KIND, name, namespace, spec=server_spec(smtp))
    settings = kube.wait_condition(name, namespace, "CredentialsResolved", "False", "SecretNotFound")
    assert reason_of(settings, "Delivered") == ("False", "NotDelivered")
    kube.patch(SYSTEM_KIND, "default", spec={"mailFrom": "new@acme.example"})
    kube.wait_values(SECRET, namespace, **{"from": "new@acme.example"})
    assert owner(wait_served(kube, namespace)) == (SYSTEM_KIND, "default")
    assert "binding" not in (kube.settings(name, namespace) or {})["status"]
    assert_never_absent(kube, namespace, first)
    # It is the system's settings that the namespace still lives on, so they may not just be deleted.
    wait_tenants(kube, allowed=1, inheriting=1)

    kube.secret("smtp", namespace, password=PASSWORD)
    kube.wait_ready(name, namespace)
    wait_tenants(kube, allowed=1, inheriting=0)


def test_settings_that_lose_their_secret_give_the_namespace_back(
    operator: OperatorProcess,
    kube: Kube,
    new_namespace: Create,
    team: str,
    always: Callable[..., None],
    cluster_settings: Create,
) -> None:
    namespace = new_namespace({"team": team})
    always(mailFrom="default@acme.example")
    special = cluster_settings(
        mailFrom="special@acme.example", tenants={"delivery": "Credentials", "namespaces": [namespace]}
    )
    kube.create(TENANT_KIND, "default", namespace, spec={"systemSettingsRef": {"name": special}})
    kube.wait_ready("default", namespace)
    kube.wait_values(SECRET, namespace, **{"from": "special@acme.example"})

    kube.patch(SYSTEM_KIND, special, spec={"tenants": {"exclude": [namespace]}})

    wait_served(kube, namespace)
    kube.wait_values(SECRET, namespace, **{"from": "default@acme.example"})
    kube.wait_condition("default", namespace, "Accepted", "False", "NotAllowed")

    kube.patch(SYSTEM_KIND, special, spec={"tenants": {"exclude": None}})
    kube.wait_ready("default", namespace)
    kube.wait_values(SECRET, namespace, **{"from": "special@acme.example"})


# --- faults ---


def test_foreign_secret_is_untouched_and_reported_while_it_stands_in_the_way(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, team: str, always: Callable[..., None]
) -> None:
    namespace, other = new_namespace({"team": team}), new_namespace({"team": team})
    foreign = kube.secret(SECRET, namespace, password="mine")
    always()
    wait_served(kube, other)
    wait_tenants(kube, allowed=2, inheriting=2, failures=[{"namespace": namespace, "reason": "SecretNotOwned"}])
    settings = kube.wait_ready("default")
    assert reason_of(settings, "Ready") == ("True", "Ready")
    assert resource_version(kube.get("Secret", SECRET, namespace)) == resource_version(foreign)

    kube.delete("Secret", SECRET, namespace)
    wait_served(kube, namespace)
    wait_tenants(kube, failures=None)


def test_foreign_secret_no_longer_counts_once_the_namespace_is_not_served(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, team: str, always: Callable[..., None]
) -> None:
    leaves, goes = new_namespace({"team": team}), new_namespace({"team": team})
    for namespace in (leaves, goes):
        kube.secret(SECRET, namespace, password="mine")
    always()
    wait_tenants(
        kube,
        failures=[{"namespace": namespace, "reason": "SecretNotOwned"} for namespace in sorted((leaves, goes))],
    )
    kube.patch("Namespace", leaves, metadata={"labels": {"team": None}})
    wait_tenants(kube, allowed=1, failures=[{"namespace": goes, "reason": "SecretNotOwned"}])
    kube.delete("Namespace", goes)
    wait_tenants(kube, allowed=0, failures=None)
    assert kube.secret_data(SECRET, leaves) == {"password": "mine"}


def test_at_most_ten_failures_are_named(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, team: str, always: Callable[..., None]
) -> None:
    namespaces = sorted(new_namespace({"team": team}) for _ in range(12))
    for namespace in namespaces:
        kube.secret(SECRET, namespace, password="mine")
    always()

    def failures(named: list[str]) -> list[Json]:
        return [{"namespace": namespace, "reason": "SecretNotOwned"} for namespace in named]

    wait_tenants(kube, allowed=12, failures=failures(namespaces[:10]))
    kube.delete("Secret", SECRET, namespaces[0])
    wait_tenants(kube, failures=failures(namespaces[1:11]))
    for namespace in namespaces[1:]:
        kube.delete("Secret", SECRET, namespace)
    wait_tenants(kube, failures=None)
    for namespace in namespaces:
        wait_served(kube, namespace)
