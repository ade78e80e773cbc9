"""MailServerTest end to end: what it tests, what it says, what it refuses, and that it runs once."""

import secrets
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.cluster.conftest import server_spec
from tests.support.kube import Json, Kube, reason_of
from tests.support.smtp_server import PASSWORD, MailServer

KIND: Final = "MailServerTest"
RECIPIENT: Final = "ops@acme.example"

Serve = Callable[..., MailServer]

pytestmark = pytest.mark.usefixtures("operator")


def ask(kube: Kube, namespace: str, name: str = "", **spec: Any) -> str:
    name = name or f"test-{secrets.token_hex(4)}"
    kube.create(KIND, name, namespace, spec=spec)
    return name


def wait_ended(kube: Kube, namespace: str, name: str, status: str, reason: str) -> Json:
    """The test once it has ended so; what its conditions say fits together."""
    test: Json = kube.wait(lambda: _complete(kube, namespace, name), f"the end of {name}")
    assert reason_of(test, "Succeeded") == (status, reason), test["status"]
    assert reason_of(test, "Complete") == ("True", reason)
    assert reason_of(test, "Reconciling") is None
    assert reason_of(test, "Stalled") == (None if status == "True" else ("True", reason))
    assert test["status"]["observedGeneration"] == 1
    assert test["status"]["completionTime"]
    assert PASSWORD not in str(test)
    return test


def _complete(kube: Kube, namespace: str, name: str) -> Json | None:
    test = kube.get(KIND, name, namespace)
    return test if test is not None and (reason_of(test, "Complete") or ("", ""))[0] == "True" else None


@pytest.fixture(autouse=True)
def password(kube: Kube, namespace: str) -> None:
    kube.secret("smtp", namespace, password=PASSWORD)


@pytest.fixture
def mail(kube: Kube, namespace: str, smtp: MailServer) -> str:
    """Settings with a server of their own, which have been reconciled."""
    kube.create("MailServerSettings", "mail", namespace, spec=server_spec(smtp, probe={"mode": "Disabled"}))
    kube.wait_ready("mail", namespace)
    return "mail"


def test_saved_settings_are_tested_up_to_the_mail(kube: Kube, namespace: str, smtp: MailServer, mail: str) -> None:
    name = ask(kube, namespace, settingsRef={"name": mail}, recipient=RECIPIENT)

    test = wait_ended(kube, namespace, name, "True", "TestPassed")

    status = test["status"]
    assert status["mode"] == "Send"
    assert status["startTime"] <= status["completionTime"]
    assert status["effective"]["host"] == "127.0.0.1"
    assert "failure" not in status
    (sent,) = smtp.mails
    assert sent.recipients == [RECIPIENT]
    assert f"MailServerSettings {namespace}/mail" in str(sent.message["Subject"])
    assert kube.settings("mail", namespace)["status"].get("probe") is None  # type: ignore[index]
