"""The main job: settings go in, a real server is tried, a Secret comes out, and the conditions tell the truth."""

import smtplib
from collections.abc import Callable
from email.message import EmailMessage

from dev.operator_process import OperatorProcess
from tests.cluster.conftest import server_spec
from tests.support.kube import Kube, condition, resource_version
from tests.support.smtp_server import PASSWORD, USERNAME, MailServer


def test_own_server_delivers_a_secret_that_smtplib_can_send_with(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.secret("smtp", namespace, password=PASSWORD)
    kube.create("MailServerSettings", "mail", namespace, spec=server_spec(smtp))

    settings = kube.wait_ready("mail", namespace)
    values = kube.secret_data(settings["status"]["binding"]["name"], namespace)
    assert values is not None

    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = values["from"], "you@example.org", "hello"
    message.set_content("It works.")
    with smtplib.SMTP(values["host"], int(values["port"]), timeout=10) as client:
        client.login(values["username"], values["password"])
        client.send_message(message)

    assert [mail.recipients for mail in smtp.mails] == [["you@example.org"]]
    assert smtp.attempts[0][1:] == (USERNAME, PASSWORD)


def test_inheriting_tenant_becomes_ready_and_shows_where_its_settings_come_from(
    operator: OperatorProcess, kube: Kube, namespace: str, cluster_settings: Callable[..., str]
) -> None:
    system = cluster_settings(tenants={"delivery": "Credentials", "namespaces": [namespace]})
    kube.create("MailServerSettings", "mail", namespace, spec={"systemSettingsRef": {"name": system}})

    settings = kube.wait_ready("mail", namespace)

    effective = settings["status"]["effective"]
    assert (effective["source"], effective["settingsName"]) == ("System", system)
    values = kube.secret_data("mail-smtp", namespace)
    assert values is not None
    assert values["password"] == PASSWORD
    mirrored = condition(settings, "ProbeSucceeded")
    assert mirrored is not None
    assert system in mirrored["message"]


def test_applying_the_same_again_writes_nothing(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.secret("smtp", namespace, password=PASSWORD)
    kube.create("MailServerSettings", "mail", namespace, spec=server_spec(smtp))
    settings = kube.wait_ready("mail", namespace)
    secret = kube.get("Secret", "mail-smtp", namespace)

    kube.patch("MailServerSettings", "mail", namespace, spec=server_spec(smtp))
    operator.stop()
    operator.start()
    kube.create("MailServerSettings", "other", namespace, spec=server_spec(smtp))
    kube.wait_ready("other", namespace)

    assert resource_version(kube.settings("mail", namespace)) == resource_version(settings)
    assert resource_version(kube.get("Secret", "mail-smtp", namespace)) == resource_version(secret)


def test_what_is_applied_together_raises_no_false_alarm(
    operator: OperatorProcess, kube: Kube, namespace: str, cluster_settings: Callable[..., str]
) -> None:
    """The tenant's object may be seen before the system's, which was there first."""
    for number in range(5):
        system = cluster_settings(tenants={"delivery": "Credentials", "namespaces": [namespace]})
        name = f"mail-{number}"
        kube.create("MailServerSettings", name, namespace, spec={"systemSettingsRef": {"name": system}})
        kube.wait_ready(name, namespace)

    events = kube.api.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
    assert {event["reason"] for event in events} == {"Ready"}
