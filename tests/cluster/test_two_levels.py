"""Inheritance: which tenants get the system's settings, what they may change, and what happens when either changes."""

import secrets
from collections.abc import Callable
from typing import Any, Final

import pytest

from dev.cluster import ApiError
from dev.operator_process import NAMESPACE, OperatorProcess
from tests.cluster.conftest import server_spec
from tests.support.kube import Json, Kube, condition, reason_of, resource_version
from tests.support.smtp_server import PASSWORD, USERNAME, MailServer, another_authority_pem, certificate

Create = Callable[..., str]

SYSTEM_KIND: Final = "ClusterMailServerSettings"
TENANT_KIND: Final = "MailServerSettings"
ALLOW_DELETION: Final = {"annotations": {"mailsettings.dev/allow-deletion": "true"}}


def allow(*namespaces: str, **fields: Any) -> Json:
    """`spec.tenants` that admits these namespaces by name."""
    return {"delivery": "Credentials", "namespaces": [*namespaces], **fields}


def select(labels: dict[str, str] | None = None, **fields: Any) -> Json:
    """`spec.tenants` that admits namespaces by their labels."""
    return {"delivery": "Credentials", "namespaceSelector": {"matchLabels": labels or {}}, **fields}


def inherit(kube: Kube, namespace: str, system: str, name: str = "mail", **spec: Any) -> None:
    kube.create(TENANT_KIND, name, namespace, spec={"systemSettingsRef": {"name": system}, **spec})


def wait_counts(kube: Kube, system: str, **counts: int) -> Json:
    """The cluster object once `status.tenants` has these counts."""

    def look() -> Json | None:
        settings = kube.settings(system)
        tenants = ((settings or {}).get("status") or {}).get("tenants") or {}
        return settings if counts.items() <= tenants.items() else None

    settings: Json = kube.wait(look, f"{system} to count {counts}")
    return settings


def assert_without_secret(kube: Kube, settings: Json, name: str = "mail-smtp") -> None:
    """Nothing is delivered, and the status does not say that anything is."""
    namespace = settings["metadata"]["namespace"]
    assert kube.get("Secret", name, namespace) is None
    assert reason_of(settings, "Delivered") == ("False", "NotDelivered")
    assert reason_of(settings, "Ready") == ("False", reason_of(settings, "Stalled")[1])  # type: ignore[index]
    assert "binding" not in settings["status"]
    assert "effective" not in settings["status"]
    assert condition(settings, "ProbeSucceeded") is None


# --- who inherits ---


def test_settings_inherit_when_they_say_so_or_name_no_server(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer, cluster_settings: Create
) -> None:
    cluster_settings("default", mailFrom="system@acme.example", tenants=allow(namespace))
    kube.secret("smtp", namespace, password=PASSWORD)
    own = server_spec(smtp)
    specs = {
        "absent": {},
        "absent-output": {"output": {"metadata": {"labels": {"team": "a"}}}},
        "true": {"useSystemSettings": True},
        "absent-own": own,
        "false": {**own, "useSystemSettings": False},
    }
    for name, spec in specs.items():
        kube.create(TENANT_KIND, name, namespace, spec=spec)

    for name in specs:
        settings = kube.wait_ready(name, namespace)
        effective = settings["status"]["effective"]
        inherits = name in ("absent", "absent-output", "true")
        expected = ("System", "default") if inherits else ("Tenant", name)
        assert (effective["source"], effective["settingsName"]) == expected
        assert effective["mailFrom"] == ("system@acme.example" if inherits else own["mailFrom"])
        secret = kube.get("Secret", f"{name}-smtp", namespace)
        assert secret is not None
        source = secret["metadata"]["annotations"]["mailsettings.dev/source"]
        assert source == (f"{SYSTEM_KIND}/default" if inherits else f"{TENANT_KIND}/{namespace}/{name}")


def test_reference_chooses_another_object_and_can_change(
    operator: OperatorProcess, kube: Kube, namespace: str, cluster_settings: Create
) -> None:
    first = cluster_settings(mailFrom="first@acme.example", tenants=allow(namespace))
    second = cluster_settings(mailFrom="second@acme.example", tenants=allow(namespace))
    inherit(kube, namespace, first)
    kube.wait_ready("mail", namespace)
    kube.wait_values("mail-smtp", namespace, **{"from": "first@acme.example"})
    wait_counts(kube, first, inheriting=1)

    kube.patch(TENANT_KIND, "mail", namespace, spec={"systemSettingsRef": {"name": second}})

    secret = kube.wait_values("mail-smtp", namespace, **{"from": "second@acme.example"})
    assert secret["metadata"]["annotations"]["mailsettings.dev/source"] == f"{SYSTEM_KIND}/{second}"
    effective = kube.wait_ready("mail", namespace)["status"]["effective"]
    assert effective["settingsName"] == second
    assert effective["settingsGeneration"] == 1
    wait_counts(kube, first, allowed=1, inheriting=0)
    wait_counts(kube, second, allowed=1, inheriting=1)


def test_settings_wait_for_a_system_object_that_comes_later(
    operator: OperatorProcess, kube: Kube, namespace: str, cluster_settings: Create
) -> None:
    system = f"late-{secrets.token_hex(4)}"
    inherit(kube, namespace, system)
    settings = kube.wait_condition("mail", namespace, "Accepted", "False", "SystemSettingsNotFound")
    assert reason_of(settings, "Stalled") == ("True", "SystemSettingsNotFound")
    assert_without_secret(kube, settings)
    assert system in condition(settings, "Accepted")["message"]  # type: ignore[index]

    cluster_settings(system, tenants=allow(namespace))

    settings = kube.wait_ready("mail", namespace)
    assert condition(settings, "Stalled") is None


# --- who may ---


def expressions(*requirements: tuple[str, str, list[str] | None]) -> Json:
    return {
        "namespaceSelector": {
            "matchExpressions": [
                {"key": key, "operator": operator, **({"values": values} if values else {})}
                for key, operator, values in requirements
            ]
        }
    }


def test_exactly_the_selected_and_named_and_not_excluded_namespaces_are_admitted(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, cluster_settings: Create
) -> None:
    namespace = new_namespace({"team": "acme", "tier": "gold"})
    labels = {"namespaceSelector": {"matchLabels": {"team": "acme"}}}
    cases: list[tuple[Json | None, bool]] = [
        (None, False),
        ({}, False),
        ({"namespaces": []}, False),
        ({"namespaces": ["another"]}, False),
        ({"namespaces": [namespace]}, True),
        ({"namespaceSelector": {}}, True),
        (labels, True),
        ({"namespaceSelector": {"matchLabels": {"team": "acme", "tier": "silver"}}}, False),
        ({"namespaceSelector": {"matchLabels": {"team": "other"}}, "namespaces": [namespace]}, True),
        ({**labels, "exclude": [namespace]}, False),
        ({"namespaces": [namespace], "exclude": [namespace]}, False),
        ({**labels, "exclude": ["another"]}, True),
        (expressions(("team", "In", ["acme", "other"])), True),
        (expressions(("team", "In", ["other"])), False),
        (expressions(("team", "NotIn", ["other"])), True),
        (expressions(("missing", "NotIn", ["acme"])), True),
        (expressions(("team", "NotIn", ["acme"])), False),
        (expressions(("team", "Exists", None)), True),
        (expressions(("missing", "Exists", None)), False),
        (expressions(("missing", "DoesNotExist", None)), True),
        (expressions(("team", "Exists", None), ("tier", "DoesNotExist", None)), False),
    ]
    for number, (tenants, _) in enumerate(cases):
        spec = {} if tenants is None else {"tenants": {"delivery": "Credentials", **tenants}}
        inherit(kube, namespace, cluster_settings(**spec), f"case-{number}")

    for number, (tenants, admitted) in enumerate(cases):
        name = f"case-{number}"
        status = ("True", "Accepted") if admitted else ("False", "NotAllowed")
        settings = kube.wait_condition(name, namespace, "Accepted", *status)
        assert (kube.get("Secret", f"{name}-smtp", namespace) is not None) == admitted, tenants
        if not admitted:
            assert reason_of(settings, "Stalled") == ("True", "NotAllowed")
            assert_without_secret(kube, settings, f"{name}-smtp")


def test_system_namespaces_never_inherit(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, cluster_settings: Create
) -> None:
    name = f"mail-{secrets.token_hex(4)}"
    never = [NAMESPACE, "kube-system", new_namespace(prefix="kube-test")]
    system = cluster_settings(tenants=select(namespaces=never))
    for namespace in never:
        inherit(kube, namespace, system, name)
    try:
        for namespace in never:
            settings = kube.wait_condition(name, namespace, "Accepted", "False", "NotAllowed")
            assert_without_secret(kube, settings, f"{name}-smtp")
        wait_counts(kube, system, inheriting=0)
    finally:
        for namespace in never:
            kube.delete(TENANT_KIND, name, namespace)


def test_label_of_the_namespace_lets_in_and_takes_out_again(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, cluster_settings: Create
) -> None:
    team = secrets.token_hex(4)
    system = cluster_settings(tenants=select({"team": team}))
    namespace = new_namespace()
    inherit(kube, namespace, system)
    kube.wait_condition("mail", namespace, "Accepted", "False", "NotAllowed")

    for _ in range(2):
        kube.patch("Namespace", namespace, metadata={"labels": {"team": team}})
        settings = kube.wait_ready("mail", namespace)
        assert settings["status"]["binding"] == {"name": "mail-smtp"}
        wait_counts(kube, system, allowed=1, inheriting=1)

        kube.patch("Namespace", namespace, metadata={"labels": {"team": None}})
        kube.wait_gone("Secret", "mail-smtp", namespace, timeout=5)
        settings = kube.wait_condition("mail", namespace, "Delivered", "False", "NotDelivered")
        assert reason_of(settings, "Accepted") == ("False", "NotAllowed")
        assert reason_of(settings, "Stalled") == ("True", "NotAllowed")
        assert_without_secret(kube, settings)
        wait_counts(kube, system, allowed=0, inheriting=0)


def test_change_of_the_systems_tenants_lets_in_and_takes_out_again(
    operator: OperatorProcess, kube: Kube, namespace: str, cluster_settings: Create
) -> None:
    system = cluster_settings(tenants=allow(namespace))
    inherit(kube, namespace, system)
    kube.wait_ready("mail", namespace)

    kube.patch(SYSTEM_KIND, system, spec={"tenants": {"exclude": [namespace]}})
    kube.wait_gone("Secret", "mail-smtp", namespace, timeout=5)
    settings = kube.wait_condition("mail", namespace, "Delivered", "False", "NotDelivered")
    assert reason_of(settings, "Stalled") == ("True", "NotAllowed")

    kube.patch(SYSTEM_KIND, system, spec={"tenants": {"exclude": None}})
    kube.wait_ready("mail", namespace)
    assert kube.get("Secret", "mail-smtp", namespace) is not None


def test_own_server_is_untouched_by_leaving_the_selection(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, smtp: MailServer, cluster_settings: Create
) -> None:
    team = secrets.token_hex(4)
    system = cluster_settings(tenants=select({"team": team}))
    namespace = new_namespace({"team": team})
    kube.secret("smtp", namespace, password=PASSWORD)
    kube.create(TENANT_KIND, "own", namespace, spec=server_spec(smtp))
    inherit(kube, namespace, system)
    own = kube.wait_ready("own", namespace)
    kube.wait_ready("mail", namespace)
    secret = kube.get("Secret", "own-smtp", namespace)

    kube.patch("Namespace", namespace, metadata={"labels": {"team": None}})
    kube.wait_condition("mail", namespace, "Delivered", "False", "NotDelivered")

    assert resource_version(kube.settings("own", namespace)) == resource_version(own)
    assert resource_version(kube.get("Secret", "own-smtp", namespace)) == resource_version(secret)


# --- the sender ---


def test_only_the_systems_own_address_is_permitted_by_default(
    operator: OperatorProcess, kube: Kube, namespace: str, cluster_settings: Create
) -> None:
    system = cluster_settings(mailFrom="Acme <no-reply@acme.example>", tenants=allow(namespace))
    permitted = {
        "same": {"mailFrom": "no-reply@acme.example"},
        "name": {"mailFrom": "Another Name <no-reply@acme.example>"},
        "case": {"mailFrom": "No-Reply@ACME.example"},
        "reply": {"replyTo": "no-reply@acme.example"},
    }
    refused = {
        "other": {"mailFrom": "ceo@acme.example"},
        "named": {"mailFrom": "no-reply <ceo@acme.example>"},
        "quoted": {"mailFrom": '"no-reply@acme.example" <ceo@acme.example>'},
        "domain": {"mailFrom": "no-reply@acme.example.evil.example"},
        "answers": {"replyTo": "ceo@acme.example"},
    }
    for name, spec in (permitted | refused).items():
        inherit(kube, namespace, system, name, **spec)

    for name, spec in permitted.items():
        settings = kube.wait_ready(name, namespace)
        assert settings["status"]["effective"]["mailFrom"] == spec.get("mailFrom", "Acme <no-reply@acme.example>")
        secret_key = {"mailFrom": "from", "replyTo": "reply-to"}[next(iter(spec))]
        values = kube.secret_data(f"{name}-smtp", namespace)
        assert values is not None
        assert values[secret_key] == next(iter(spec.values()))
    for name, spec in refused.items():
        settings = kube.wait_condition(name, namespace, "Accepted", "False", "SenderNotAllowed")
        assert_without_secret(kube, settings, f"{name}-smtp")
        assert reason_of(settings, "Stalled") == ("True", "SenderNotAllowed")
        message = condition(settings, "Accepted")["message"]  # type: ignore[index]
        assert message.startswith(next(iter(spec)))


def test_patterns_permit_senders(
    operator: OperatorProcess, kube: Kube, namespace: str, cluster_settings: Create
) -> None:
    patterns = ["*@{namespace}.example", "team-*@acme.example", "Help@Acme.example"]
    system = cluster_settings(mailFrom="no-reply@acme.example", tenants=allow(namespace, allowedFrom=patterns))
    permitted = [f"anyone@{namespace}.example", "Team A <team-a@acme.example>", "help@acme.EXAMPLE"]
    refused = [
        "anyone@test-other.example",
        "help2@acme.example",
        f"anyone@{namespace}.example.evil.example",
        f"anyone@evil.{namespace}.example",
        "no-reply@acme.example",
    ]
    for number, sender in enumerate(permitted + refused):
        inherit(kube, namespace, system, f"from-{number}", mailFrom=sender)
        inherit(kube, namespace, system, f"reply-{number}", replyTo=sender)

    for number, sender in enumerate(permitted + refused):
        for name in (f"from-{number}", f"reply-{number}"):
            if sender in permitted:
                kube.wait_ready(name, namespace)
            else:
                kube.wait_condition(name, namespace, "Accepted", "False", "SenderNotAllowed")


def test_last_good_secret_survives_a_bad_sender_until_it_is_permitted(
    operator: OperatorProcess, kube: Kube, namespace: str, cluster_settings: Create, system_secret: str
) -> None:
    system = cluster_settings(mailFrom="no-reply@acme.example", tenants=allow(namespace))
    inherit(kube, namespace, system, mailFrom="Good <no-reply@acme.example>")
    good = kube.wait_ready("mail", namespace)
    secret = kube.get("Secret", "mail-smtp", namespace)

    kube.patch(TENANT_KIND, "mail", namespace, spec={"mailFrom": "bad@acme.example"})
    settings = kube.wait_condition("mail", namespace, "Accepted", "False", "SenderNotAllowed")
    assert reason_of(settings, "Delivered") == ("False", "LastGoodKept")
    assert reason_of(settings, "Stalled") == ("True", "SenderNotAllowed")
    assert settings["status"]["binding"] == {"name": "mail-smtp"}
    assert settings["status"]["effective"] == good["status"]["effective"]
    assert resource_version(kube.get("Secret", "mail-smtp", namespace)) == resource_version(secret)

    kube.patch(SYSTEM_KIND, system, spec={"tenants": {"allowedFrom": ["bad@acme.example"]}})
    settings = kube.wait_ready("mail", namespace)
    assert condition(settings, "Stalled") is None
    assert settings["status"]["effective"]["mailFrom"] == "bad@acme.example"
    kube.wait_values("mail-smtp", namespace, **{"from": "bad@acme.example"})


# --- changes of the system's settings ---


def test_every_change_of_the_system_reaches_every_tenant(
    operator: OperatorProcess,
    kube: Kube,
    new_namespace: Create,
    serve: Callable[..., MailServer],
    cluster_settings: Create,
    system_secret: str,
) -> None:
    tenants = [new_namespace() for _ in range(3)]
    system = cluster_settings(tenants=allow(*tenants))
    for namespace in tenants:
        inherit(kube, namespace, system)
    for namespace in tenants:
        kube.wait_ready("mail", namespace)

    def assert_reached(generation: int, **values: str) -> None:
        for namespace in tenants:
            secret = kube.wait_values("mail-smtp", namespace, **values)
            annotations = secret["metadata"]["annotations"]
            assert annotations["mailsettings.dev/source-generation"] == str(generation)
            effective = wait_effective_of(kube, namespace, generation)
            assert effective["port"] == int(values.get("port") or effective["port"])

    kube.patch(SYSTEM_KIND, system, spec={"mailFrom": "new@acme.example"})
    assert_reached(2, **{"from": "new@acme.example"})

    other = serve(auth_required=True, auth_without_tls=True, login=(USERNAME, "another password"))
    kube.patch("Secret", system_secret, NAMESPACE, stringData={"password": "another password"})
    assert_values_everywhere(kube, tenants, password="another password")
    kube.patch(SYSTEM_KIND, system, spec={"connection": {"host": "localhost", "port": other.port}})
    assert_reached(3, host="localhost", port=str(other.port), password="another password")

    kube.patch("Secret", system_secret, NAMESPACE, stringData={"password": PASSWORD})
    assert_values_everywhere(kube, tenants, password=PASSWORD)
    for namespace in tenants:
        kube.wait_condition("mail", namespace, "ProbeSucceeded", "False", "BadCredentials")


def wait_effective_of(kube: Kube, namespace: str, generation: int) -> Json:
    """`status.effective` once it speaks of that generation of the system's settings."""

    def look() -> Json | None:
        effective: Json = (kube.settings("mail", namespace) or {})["status"].get("effective") or {}
        return effective if effective.get("settingsGeneration") == generation else None

    found: Json = kube.wait(look, f"status.effective of generation {generation}")
    return found


def assert_values_everywhere(kube: Kube, namespaces: list[str], **values: str) -> None:
    for namespace in namespaces:
        kube.wait_values("mail-smtp", namespace, **values)


def test_certificates_of_the_systems_own_authority_reach_tenants(
    operator: OperatorProcess, kube: Kube, namespace: str, serve: Callable[..., MailServer], cluster_settings: Create
) -> None:
    tls = certificate("127.0.0.1")
    server = serve(start_tls=tls.context, auth_required=True)
    name = f"ca-{secrets.token_hex(4)}"
    reference = {"configMapKeyRef": {"name": name, "key": "ca.crt"}}
    system = cluster_settings(
        connection={
            "host": "127.0.0.1",
            "port": server.port,
            "timeout": "3s",
            "tls": {"mode": "StartTLS", "caBundle": reference},
        },
        tenants=allow(namespace),
    )
    inherit(kube, namespace, system)
    kube.wait_condition(system, None, "CredentialsResolved", "False", "ConfigMapNotFound")
    settings = kube.wait_condition("mail", namespace, "CredentialsResolved", "False", "SystemCredentialsUnresolved")
    assert reason_of(settings, "Stalled") == ("True", "SystemCredentialsUnresolved")

    kube.create("ConfigMap", name, NAMESPACE, data={"ca.crt": tls.ca_pem})
    try:
        kube.wait_ready("mail", namespace)
        kube.wait_values("mail-smtp", namespace, **{"ca.crt": tls.ca_pem})
        other = another_authority_pem()
        kube.patch("ConfigMap", name, NAMESPACE, data={"ca.crt": other})
        kube.wait_values("mail-smtp", namespace, **{"ca.crt": other})
        kube.wait_condition("mail", namespace, "ProbeSucceeded", "False", "CertificateUntrusted")
        kube.patch("ConfigMap", name, NAMESPACE, data={"ca.crt": None})
        settings = kube.wait_condition("mail", namespace, "CredentialsResolved", "False")
        assert reason_of(settings, "Delivered") == ("False", "LastGoodKept")
        kube.wait_values("mail-smtp", namespace, **{"ca.crt": other})
    finally:
        kube.delete("ConfigMap", name, NAMESPACE)


def test_last_good_secrets_survive_a_bad_edit_of_the_system(
    operator: OperatorProcess, kube: Kube, namespace: str, cluster_settings: Create, system_secret: str
) -> None:
    system = cluster_settings(tenants=allow(namespace))
    inherit(kube, namespace, system)
    kube.wait_ready("mail", namespace)
    secret = kube.get("Secret", "mail-smtp", namespace)
    basic = {"passwordSecretRef": {"name": "missing", "key": "password"}}

    kube.patch(SYSTEM_KIND, system, spec={"auth": {"basic": basic}, "mailFrom": "new@acme.example"})
    settings = kube.wait_condition("mail", namespace, "CredentialsResolved", "False", "SystemCredentialsUnresolved")
    assert reason_of(settings, "Delivered") == ("False", "LastGoodKept")
    assert reason_of(settings, "Stalled") == ("True", "SystemCredentialsUnresolved")
    system_settings = kube.wait_condition(system, None, "CredentialsResolved", "False", "SecretNotFound")
    assert reason_of(system_settings, "Stalled") == ("True", "SecretNotFound")
    assert resource_version(kube.get("Secret", "mail-smtp", namespace)) == resource_version(secret)

    basic["passwordSecretRef"]["name"] = system_secret
    kube.patch(SYSTEM_KIND, system, spec={"auth": {"basic": basic}})
    kube.wait_values("mail-smtp", namespace, **{"from": "new@acme.example"})
    kube.wait_ready("mail", namespace)


# --- the probe ---


def test_tenants_mirror_the_systems_probe_and_have_none_of_their_own(
    operator: OperatorProcess,
    kube: Kube,
    new_namespace: Create,
    smtp: MailServer,
    cluster_settings: Create,
    system_secret: str,
) -> None:
    tenants = [new_namespace() for _ in range(3)]
    system = cluster_settings(tenants=allow(*tenants))
    for namespace in tenants:
        inherit(kube, namespace, system)
    for namespace in tenants:
        settings = kube.wait_condition("mail", namespace, "ProbeSucceeded", "True", "ProbePassed")
        assert "probe" not in settings["status"]
        assert system in condition(settings, "ProbeSucceeded")["message"]  # type: ignore[index]
        kube.patch(
            TENANT_KIND, "mail", namespace, metadata={"annotations": {"mailsettings.dev/probe-requested-at": "now"}}
        )

    kube.patch("Secret", system_secret, NAMESPACE, stringData={"password": "wrong"})
    for namespace in tenants:
        settings = kube.wait_condition("mail", namespace, "ProbeSucceeded", "False", "BadCredentials")
        assert reason_of(settings, "Ready") == ("False", "BadCredentials")
        assert reason_of(settings, "Stalled") == ("True", "BadCredentials")
        assert reason_of(settings, "Delivered") == ("True", "Delivered")
        assert "probe" not in settings["status"]

    kube.patch("Secret", system_secret, NAMESPACE, stringData={"password": PASSWORD})
    for namespace in tenants:
        kube.wait_ready("mail", namespace)
    assert smtp.connections == 3


def test_tenants_of_a_system_without_probes_show_none(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer, cluster_settings: Create
) -> None:
    system = cluster_settings(tenants=allow(namespace), probe={"mode": "Disabled"})
    inherit(kube, namespace, system)
    settings = kube.wait_ready("mail", namespace)
    assert condition(settings, "ProbeSucceeded") is None

    kube.patch(SYSTEM_KIND, system, spec={"probe": {"mode": "Connect"}})
    kube.wait_condition("mail", namespace, "ProbeSucceeded", "True", "ProbePassed")
    kube.patch(SYSTEM_KIND, system, spec={"probe": {"mode": "Disabled"}})
    settings = kube.wait_condition("mail", namespace, "ProbeSucceeded", None)
    assert reason_of(settings, "Ready") == ("True", "Ready")
    assert smtp.connections == 1


# --- the cluster object's own state ---


def test_fault_of_a_tenant_is_not_the_systems(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, cluster_settings: Create
) -> None:
    good, outside = new_namespace(), new_namespace()
    system = cluster_settings(tenants=allow(good))
    before = kube.wait_ready(system)
    kube.secret("mail-smtp", good, something="foreign")

    inherit(kube, good, system)
    inherit(kube, outside, system)
    inherit(kube, good, system, "sender", mailFrom="other@acme.example")
    kube.wait_condition("mail", good, "Delivered", "False", "SecretNotOwned")
    kube.wait_condition("mail", outside, "Accepted", "False", "NotAllowed")
    kube.wait_condition("sender", good, "Accepted", "False", "SenderNotAllowed")

    after = wait_counts(kube, system, allowed=1, inheriting=1)
    assert after["status"]["conditions"] == before["status"]["conditions"]


def test_counts_follow_namespaces_and_settings(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, smtp: MailServer, cluster_settings: Create
) -> None:
    team = secrets.token_hex(4)
    system = cluster_settings(tenants=select({"team": team}))
    wait_counts(kube, system, allowed=0, inheriting=0)
    first, second = (new_namespace({"team": team}) for _ in range(2))
    wait_counts(kube, system, allowed=2, inheriting=0)

    inherit(kube, first, system)
    inherit(kube, first, system, "again")
    wait_counts(kube, system, allowed=2, inheriting=1)
    inherit(kube, second, system)
    wait_counts(kube, system, allowed=2, inheriting=2)

    kube.secret("smtp", second, password=PASSWORD)
    own = {"systemSettingsRef": None, **server_spec(smtp)}
    kube.patch(TENANT_KIND, "mail", second, spec=own)
    wait_counts(kube, system, allowed=2, inheriting=1)

    kube.delete(TENANT_KIND, "mail", first)
    kube.delete(TENANT_KIND, "again", first)
    wait_counts(kube, system, allowed=2, inheriting=0)

    kube.patch("Namespace", first, metadata={"labels": {"team": None}})
    wait_counts(kube, system, allowed=1)
    kube.delete("Namespace", second)
    wait_counts(kube, system, allowed=0)


def test_settings_switch_from_the_system_to_an_own_server_and_back(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    smtp: MailServer,
    serve: Callable[..., MailServer],
    cluster_settings: Create,
) -> None:
    server = serve(auth_required=True, auth_without_tls=True, login=("me@tenant.example", "tenant's"))
    system = cluster_settings(tenants=allow(namespace))
    inherit(kube, namespace, system)
    kube.wait_ready("mail", namespace)
    uid = (kube.get("Secret", "mail-smtp", namespace) or {})["metadata"]["uid"]

    own = server_spec(server, mailFrom="me@tenant.example")
    own["auth"]["basic"]["username"] = "me@tenant.example"
    kube.patch(TENANT_KIND, "mail", namespace, spec={"systemSettingsRef": None, **own})
    settings = kube.wait_condition("mail", namespace, "CredentialsResolved", "False", "SecretNotFound")
    assert reason_of(settings, "Delivered") == ("False", "LastGoodKept")
    assert (kube.secret_data("mail-smtp", namespace) or {})["port"] == str(smtp.port)
    assert server.connections == 0  # nothing of the system's has gone to the tenant's server

    kube.secret("smtp", namespace, password="tenant's")
    settings = kube.wait_ready("mail", namespace)
    assert settings["status"]["effective"]["source"] == "Tenant"
    assert settings["status"]["probe"]["consecutiveFailures"] == 0
    secret = kube.wait_values("mail-smtp", namespace, port=str(server.port), password="tenant's")
    assert secret["metadata"]["annotations"]["mailsettings.dev/source"] == f"{TENANT_KIND}/{namespace}/mail"
    assert {password for _, _, password in server.attempts} == {"tenant's"}

    kube.patch(
        TENANT_KIND,
        "mail",
        namespace,
        spec={"systemSettingsRef": {"name": system}, "mailFrom": None, "connection": None, "auth": None},
    )
    kube.wait_values("mail-smtp", namespace, port=str(smtp.port), password=PASSWORD)
    settings = kube.wait_ready("mail", namespace)
    assert settings["status"]["effective"]["source"] == "System"
    assert "probe" not in settings["status"]
    assert (kube.get("Secret", "mail-smtp", namespace) or {})["metadata"]["uid"] == uid
    assert {password for _, _, password in smtp.attempts} == {PASSWORD}


# --- deletion ---


def test_deletion_of_the_system_is_refused_until_it_is_meant_and_can_be_undone(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, cluster_settings: Create
) -> None:
    tenants = [new_namespace() for _ in range(2)]
    system = cluster_settings(tenants=allow(*tenants))
    for namespace in tenants:
        inherit(kube, namespace, system)
    for namespace in tenants:
        kube.wait_ready("mail", namespace)
    wait_counts(kube, system, inheriting=2)

    with pytest.raises(ApiError, match=r"2 namespace\(s\) use these settings and would lose their Secrets"):
        kube.delete(SYSTEM_KIND, system)
    assert kube.get("Secret", "mail-smtp", tenants[0]) is not None

    kube.patch(SYSTEM_KIND, system, metadata=ALLOW_DELETION)
    kube.delete(SYSTEM_KIND, system)
    for namespace in tenants:
        kube.wait_gone("Secret", "mail-smtp", namespace, timeout=5)
        settings = kube.wait_condition("mail", namespace, "Delivered", "False", "NotDelivered")
        assert reason_of(settings, "Accepted") == ("False", "SystemSettingsNotFound")
        assert reason_of(settings, "Stalled") == ("True", "SystemSettingsNotFound")
        assert_without_secret(kube, settings)

    cluster_settings(system, tenants=allow(*tenants))
    for namespace in tenants:
        kube.wait_ready("mail", namespace)
        kube.wait_values("mail-smtp", namespace, password=PASSWORD)
    wait_counts(kube, system, inheriting=2)


def test_system_that_is_deleted_while_the_operator_is_away_is_noticed(
    operator: OperatorProcess, kube: Kube, namespace: str, cluster_settings: Create
) -> None:
    system = cluster_settings(tenants=allow(namespace))
    inherit(kube, namespace, system)
    kube.wait_ready("mail", namespace)
    operator.stop()
    kube.patch(SYSTEM_KIND, system, metadata=ALLOW_DELETION)
    kube.delete(SYSTEM_KIND, system)
    operator.start()

    kube.wait_gone("Secret", "mail-smtp", namespace)
    settings = kube.wait_condition("mail", namespace, "Accepted", "False", "SystemSettingsNotFound")
    assert_without_secret(kube, settings)


def test_system_that_is_replaced_at_once_serves_its_tenants(
    operator: OperatorProcess, kube: Kube, namespace: str, cluster_settings: Create
) -> None:
    """As `kubectl replace --force` does it."""
    system = cluster_settings(tenants=allow(namespace))
    inherit(kube, namespace, system)
    kube.wait_ready("mail", namespace)
    for number in range(5):
        kube.patch(SYSTEM_KIND, system, metadata=ALLOW_DELETION)
        kube.delete(SYSTEM_KIND, system)
        sender = f"sender-{number}@acme.example"
        cluster_settings(system, mailFrom=sender, tenants=allow(namespace))
        kube.wait_values("mail-smtp", namespace, **{"from": sender})
    kube.wait_ready("mail", namespace)


def test_namespace_can_be_deleted_without_the_operator(
    operator: OperatorProcess, kube: Kube, new_namespace: Create, smtp: MailServer, cluster_settings: Create
) -> None:
    team = secrets.token_hex(4)
    namespace = new_namespace({"team": team})
    kube.secret("smtp", namespace, password=PASSWORD)
    cluster_settings("default", tenants=select({"team": team}, provision="Always"))
    kube.wait(lambda: kube.get("Secret", "default-smtp", namespace), "the Secret of provision Always")
    kube.create(TENANT_KIND, "own", namespace, spec=server_spec(smtp))
    kube.create(TENANT_KIND, "mail", namespace, spec={"useSystemSettings": True})
    for name in ("own", "mail"):
        kube.wait_ready(name, namespace)
    places: list[tuple[str, str, str | None]] = [(SYSTEM_KIND, "default", None), ("Namespace", namespace, None)]
    places += [(TENANT_KIND, name, namespace) for name in ("own", "mail")]
    places += [("Secret", f"{name}-smtp", namespace) for name in ("own", "mail")]
    for kind, name, where in places:
        document = kube.get(kind, name, where)
        assert document is not None
        assert "finalizers" not in document["metadata"]

    operator.stop()
    kube.delete("Namespace", namespace)
    kube.wait_gone("Namespace", namespace, timeout=60)
