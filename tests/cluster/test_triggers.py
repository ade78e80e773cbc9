"""What wakes the operator, what does not, and what it makes of many changes at once."""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.cluster.kube import APPLY_PATCH
from dev.operator_process import OperatorProcess
from tests.cluster.conftest import server_spec
from tests.support.kube import MERGE_PATCH, Kube, condition, path, reason_of, resource_version
from tests.support.smtp_server import PASSWORD, USERNAME, MailServer, another_authority_pem, certificate


@pytest.fixture(autouse=True)
def password(kube: Kube, namespace: str) -> None:
    """The Secret that every spec here refers to."""
    kube.secret("smtp", namespace, password=PASSWORD)


def settle(kube: Kube, namespace: str, server: MailServer) -> None:
    """Returns when what happened before has been acted on: something later has been, with a Secret of its own."""
    name = f"later-{secrets.token_hex(4)}"
    kube.secret(name, namespace, password=PASSWORD)
    spec = server_spec(server)
    spec["auth"]["basic"]["passwordSecretRef"]["name"] = name
    kube.create("MailServerSettings", name, namespace, spec=spec)
    kube.wait_ready(name, namespace)


def untested(server: MailServer, **fields: Any) -> dict[str, Any]:
    """Settings that are Ready without a probe."""
    return server_spec(server, probe={"mode": "Disabled"}, **fields)


def test_a_changed_secret_reaches_the_delivered_one(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.create("MailServerSettings", "mail", namespace, spec=untested(smtp))
    kube.wait_ready("mail", namespace)

    for value in ("second", "third"):
        settle(kube, namespace, smtp)  # so that nothing else wakes the operator for this object
        kube.patch("Secret", "smtp", namespace, stringData={"password": value})
        kube.wait_values("mail-smtp", namespace, password=value)

    kube.delete("Secret", "smtp", namespace)
    kube.secret("smtp", namespace, password="fourth")
    kube.wait_values("mail-smtp", namespace, password="fourth")


def test_a_changed_config_map_reaches_the_delivered_secret(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    first, second = certificate("a.example").ca_pem, another_authority_pem()
    kube.create("ConfigMap", "ca", namespace, data={"ca.crt": first})
    spec = untested(smtp)
    spec["connection"]["tls"] = {
        "mode": "StartTLS",
        "caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}},
    }
    kube.create("MailServerSettings", "mail", namespace, spec=spec)
    kube.wait_ready("mail", namespace)
    settle(kube, namespace, smtp)

    kube.patch("ConfigMap", "ca", namespace, data={"ca.crt": second})

    kube.wait_values("mail-smtp", namespace, **{"ca.crt": second.strip() + "\n"})


def test_one_secret_of_many_settings_wakes_them_all(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    names = [f"mail-{number}" for number in range(10)]
    for name in names:
        kube.create("MailServerSettings", name, namespace, spec=untested(smtp))
    for name in names:
        kube.wait_ready(name, namespace)

    kube.patch("Secret", "smtp", namespace, stringData={"password": "new"})

    for name in names:
        kube.wait_values(f"{name}-smtp", namespace, password="new")


def resident_kb(operator: OperatorProcess) -> int:
    """The operator's memory."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{operator.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.fixture
def crowd(kube: Kube, namespace: str) -> Iterator[Callable[[], list[str]]]:
    """Creates 50 Secrets of 500 kB in a namespace of their own."""

    def create() -> list[str]:
        names = [f"large-{number}" for number in range(50)]
        for name in names:
            kube.secret(name, namespace, blob=secrets.token_bytes(500_000))
        return names

    yield create
    for number in range(50):
        kube.delete("Secret", f"large-{number}", namespace)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_unrelated_secrets_cost_nothing(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    smtp: MailServer,
    crowd: Callable[[], list[str]],
) -> None:
    kube.create("MailServerSettings", "mail", namespace, spec=untested(smtp))
    before = kube.wait_ready("mail", namespace)
    settle(kube, namespace, smtp)
    memory = resident_kb(operator)

    names = crowd()
    for name in names:
        kube.patch("Secret", name, namespace, metadata={"labels": {"changed": "true"}})
    settle(kube, namespace, smtp)

    assert resident_kb(operator) - memory < 6_000  # of 25 MB
    assert resource_version(kube.settings("mail", namespace)) == resource_version(before)
    untouched = [kube.get("Secret", name, namespace) for name in names[:5]]
    assert [secret and secret["metadata"]["labels"] for secret in untouched] == [{"changed": "true"}] * 5
    assert "mailsettings-operator" not in json.dumps([secret and secret["metadata"] for secret in untouched])


def test_large_annotations_pass_the_watch(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    """`kubectl apply` keeps what it applied in an annotation, up to 256 KiB of it."""
    blob = {"kubectl.kubernetes.io/last-applied-configuration": "x" * 250_000}
    kube.create("Secret", "large", namespace, metadata={"annotations": blob})
    kube.create("ConfigMap", "large", namespace, metadata={"annotations": blob})

    kube.create("MailServerSettings", "mail", namespace, spec=untested(smtp))
    kube.wait_ready("mail", namespace)
    kube.patch("Secret", "smtp", namespace, stringData={"password": "new"})
    kube.wait_values("mail-smtp", namespace, password="new")


def test_one_bad_object_does_not_hold_up_fifty_good_ones(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    bad = server_spec(smtp)
    bad["auth"]["basic"]["passwordSecretRef"]["name"] = "missing"
    kube.create("MailServerSettings", "bad", namespace, spec=bad)
    hidden = untested(smtp, output={"secretName": "smtp"})  # somebody else's Secret is in the way
    kube.create("MailServerSettings", "in-the-way", namespace, spec=hidden)
    names = [f"good-{number}" for number in range(50)]
    for name in names:
        kube.create("MailServerSettings", name, namespace, spec=server_spec(smtp))

    for name in names:
        kube.wait_ready(name, namespace)

    kube.wait_condition("bad", namespace, "Ready", "False", "SecretNotFound")
    kube.wait_condition("in-the-way", namespace, "Ready", "False", "SecretNotOwned")
    assert 1 <= smtp.connections <= 50  # one probe is enough for those of the same login that wait together


def test_rapid_edits_converge_to_the_last(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.create("MailServerSettings", "mail", namespace, spec=server_spec(smtp))
    for number in range(40):
        kube.patch("MailServerSettings", "mail", namespace, spec={"mailFrom": f"sender-{number}@acme.example"})
        kube.patch("Secret", "smtp", namespace, stringData={"password": f"password {number}"})
    kube.patch("Secret", "smtp", namespace, stringData={"password": PASSWORD})

    settings = kube.wait_ready("mail", namespace)

    assert settings["status"]["observedGeneration"] == 41
    assert settings["status"]["effective"]["mailFrom"] == "sender-39@acme.example"
    values = kube.secret_data("mail-smtp", namespace)
    assert values is not None
    assert (values["from"], values["password"]) == ("sender-39@acme.example", PASSWORD)
    assert smtp.attempts[-1] == ("PLAIN", USERNAME, PASSWORD)


def forged_condition(condition_type: str, status: str) -> dict[str, Any]:
    return {
        "type": condition_type,
        "status": status,
        "reason": "Forged",
        "message": "by somebody else",
        "lastTransitionTime": "2001-01-01T00:00:00Z",
        "observedGeneration": 1,
    }


FORGERIES: dict[str, dict[str, Any]] = {
    "a condition": {"conditions": [forged_condition("Ready", "False")]},
    "more conditions": {
        "conditions": [forged_condition(kind, "True") for kind in ("Stalled", "Ready", "Reconciling", "Accepted")]
    },
    "everything": {"conditions": None, "effective": None, "binding": None, "probe": None},
    "generation": {"observedGeneration": 99},
    "effective": {"effective": {"host": "evil.example"}},
    "a time without its zone as this operator writes it": {"probe": {"nextProbeTime": "2030-01-01T00:00:00.5+01:00"}},
    "a time far ahead": {"probe": {"nextProbeTime": "2999-01-01T00:00:00Z", "lastProbeTime": "2999-01-01T00:00:00Z"}},
    "an unknown reason": {
        "probe": {"failure": {"stage": "auth", "cause": "NoSuchReason", "message": "from another version"}}
    },
    "a mode that tests nothing": {"probe": {"mode": "Disabled"}},
}


@pytest.mark.parametrize("forged", FORGERIES.values(), ids=FORGERIES)
def test_a_status_that_somebody_else_wrote_is_corrected(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer, forged: dict[str, Any]
) -> None:
    kube.create("MailServerSettings", "mail", namespace, spec=server_spec(smtp))
    before = kube.wait_ready("mail", namespace)["status"]

    target = f"{path('MailServerSettings', 'mail', namespace)}/status"
    kube.api.request("PATCH", target, {"status": forged}, content_type=MERGE_PATCH)

    def corrected() -> bool:
        status = (kube.settings("mail", namespace) or {}).get("status", {})
        times = ("lastProbeTime", "lastSuccessTime", "nextProbeTime", "duration", "stages")
        probe = {key: value for key, value in status.get("probe", {}).items() if key not in times}
        wanted = {key: value for key, value in before["probe"].items() if key not in times}
        return (
            probe == wanted
            and status["probe"]["nextProbeTime"] < "2100"
            and all(status.get(key) == before[key] for key in ("effective", "binding", "observedGeneration"))
            and [(c["type"], c["status"], c["reason"], c["message"]) for c in status.get("conditions", [])]
            == [(c["type"], c["status"], c["reason"], c["message"]) for c in before["conditions"]]
        )

    kube.wait(corrected, "the status to be corrected")


def test_other_managers_may_have_conditions_of_their_own(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.create("MailServerSettings", "mail", namespace, spec=server_spec(smtp))
    kube.wait_ready("mail", namespace)
    target = f"{path('MailServerSettings', 'mail', namespace)}/status"
    body = {
        "apiVersion": "mailsettings.dev/v1alpha1",
        "kind": "MailServerSettings",
        "metadata": {"name": "mail", "namespace": namespace},
        "status": {"conditions": [forged_condition("acme.example/Audited", "True")]},
    }
    kube.api.request("PATCH", target, body, content_type=APPLY_PATCH, query={"fieldManager": "auditor"})
    settle(kube, namespace, smtp)
    before = resource_version(kube.settings("mail", namespace))

    kube.patch("Secret", "smtp", namespace, metadata={"annotations": {"note": "has it reconciled"}})
    settle(kube, namespace, smtp)
    assert resource_version(kube.settings("mail", namespace)) == before

    kube.patch("MailServerSettings", "mail", namespace, spec={"mailFrom": "other@acme.example"})
    settings = kube.wait_ready("mail", namespace)
    assert reason_of(settings, "acme.example/Audited") == ("True", "Forged")


def test_an_object_that_is_replaced_is_served_as_a_new_one(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    for number in range(10):
        sender = f"sender-{number}@acme.example"
        kube.create("MailServerSettings", "mail", namespace, spec={**server_spec(smtp), "mailFrom": sender})
        if number % 2:
            kube.wait_ready("mail", namespace)
        if number < 9:
            kube.delete("MailServerSettings", "mail", namespace)

    settings = kube.wait_ready("mail", namespace)
    secret = kube.wait_values("mail-smtp", namespace, **{"from": "sender-9@acme.example"})

    (owner,) = secret["metadata"]["ownerReferences"]
    assert owner["uid"] == settings["metadata"]["uid"]
    settle(kube, namespace, smtp)
    assert reason_of(kube.settings("mail", namespace) or {}, "Ready") == ("True", "Ready")


def test_an_object_that_is_replaced_by_a_failing_one_does_not_inherit_its_verdict(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.create("MailServerSettings", "mail", namespace, spec=server_spec(smtp))
    kube.wait_ready("mail", namespace)
    kube.delete("MailServerSettings", "mail", namespace)
    kube.patch("Secret", "smtp", namespace, stringData={"password": "wrong"})

    kube.create("MailServerSettings", "mail", namespace, spec=server_spec(smtp))

    settings = kube.wait_condition("mail", namespace, "ProbeSucceeded", "False", "BadCredentials")
    assert settings["status"]["probe"]["consecutiveFailures"] == 1


def test_names_may_be_as_long_as_a_label(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    name = "m" + "a" * 61 + "l"
    kube.create("MailServerSettings", name, namespace, spec=server_spec(smtp))

    settings = kube.wait_ready(name, namespace)

    secret = kube.get("Secret", f"{name}-smtp", namespace)
    assert secret is not None
    assert settings["status"]["binding"]["name"] == f"{name}-smtp"
    assert condition(settings, "Delivered") is not None
