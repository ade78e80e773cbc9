"""`kubectl mailsettings test` end to end: a process with a person's own rights, and a running operator."""

import asyncio
import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from dev.loop_thread import LoopThread
from dev.operator_process import OperatorProcess
from mailsettings.api import names
from tests.cluster.conftest import server_spec
from tests.support.kube import Json, Kube
from tests.support.plugin import Person, bind
from tests.support.smtp_server import PASSWORD, MailServer, Peer, ScriptedServer, hang, say, scripted_server

KIND: Final = names.TEST_KIND
RECIPIENT: Final = "ops@acme.example"
PIPELINE: Final = "mailsettings-test"

pytestmark = pytest.mark.usefixtures("operator")


@pytest.fixture(autouse=True)
def password(kube: Kube, namespace: str) -> None:
    kube.secret("smtp", namespace, password=PASSWORD)


@pytest.fixture
def mail(kube: Kube, namespace: str, smtp: MailServer) -> str:
    kube.create("MailServerSettings", "mail", namespace, spec=server_spec(smtp, probe={"mode": "Disabled"}))
    kube.wait_ready("mail", namespace)
    return "mail"


def asked_for(kube: Kube, namespace: str) -> list[Json]:
    path = f"/apis/{names.API_VERSION}/namespaces/{namespace}/{names.TEST_PLURAL}"
    return [*kube.api.request("GET", path)["items"]]


def test_pipeline_has_a_mail_sent_and_is_told_how_it_went(
    kube: Kube, namespace: str, smtp: MailServer, mail: str, somebody: Callable[..., Person]
) -> None:
    """With the one right to create tests."""
    with somebody(PIPELINE).runs("test", mail, "-n", namespace, "--to", RECIPIENT) as running:
        assert running.wait() == 0, running.err
    lines = running.out.splitlines()
    assert lines[0].startswith(f"127.0.0.1:{smtp.port}")
    assert [line.split()[0] for line in lines if line.endswith("ms")][:3] == ["resolve", "connect", "greeting"]
    assert lines[-1] == "TestPassed: The server accepted a test mail."
    assert "C: EHLO" not in running.out
    assert running.err == ""
    (sent,) = smtp.mails
    assert f"Message-ID {sent.message['Message-ID']}" in running.out
    (left,) = asked_for(kube, namespace)
    assert left["metadata"]["name"].startswith("mail-")


def test_connection_that_takes_the_official_client_does_as_well(
    namespace: str, smtp: MailServer, mail: str, somebody: Callable[..., Person]
) -> None:
    """Such as one of an environment that names a proxy, though not for this server."""
    person = replace(somebody(PIPELINE), environment={"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"})
    with person.runs("test", mail, "-n", namespace, "--to", RECIPIENT, "--follow") as running:
        assert running.wait() == 0, running.err
    assert "C: EHLO" in running.out
    assert running.out.splitlines()[-1] == "TestPassed: The server accepted a test mail."
    assert len(smtp.mails) == 1


def test_dialogue_is_shown_on_demand(namespace: str, mail: str, somebody: Callable[..., Person]) -> None:
    with somebody(PIPELINE).runs("test", mail, "-n", namespace, "--mode", "Connect", "--follow") as running:
        assert running.wait() == 0, running.err
    assert "  C: EHLO [127.0.0.1]\n" in running.out
    assert "  S: 220 " in running.out


def test_administrator_tests_the_system(
    kube: Kube, namespace: str, smtp: MailServer, cluster_settings: Callable[..., str], somebody: Callable[..., Person]
) -> None:
    system = cluster_settings(probe={"mode": "Disabled"})
    stranger = somebody(PIPELINE, "edit")
    with stranger.runs("test", "--cluster", system) as running:
        assert running.wait() == 1
    assert "You may not create MailServerTests in the namespace mailsettings-system" in " ".join(running.err.split())
    assert smtp.attempts == []

    admin = somebody()
    account = admin.kubeconfig.name.removesuffix(".kubeconfig")
    role = "mailsettings-cluster-admin"
    bind(kube, account, namespace, role, kind="Role", where=names.OPERATOR_NAMESPACE)
    with admin.runs("test", "--cluster", system, "--to", RECIPIENT, "--rm") as running:
        assert running.wait() == 0, running.err
    assert running.out.splitlines()[-1] == "TestPassed: The server accepted a test mail."
    (sent,) = smtp.mails
    assert sent.recipients == [RECIPIENT]
    tests = asked_for(kube, names.OPERATOR_NAMESPACE)
    assert not [test for test in tests if test["metadata"]["name"].startswith(system)]


@pytest.fixture
def halting(loop_thread: LoopThread) -> Iterator[tuple[ScriptedServer, threading.Event]]:
    """A server that answers EHLO only when it is let go."""
    go_on = threading.Event()

    async def ehlo(peer: Peer) -> None:
        await asyncio.to_thread(go_on.wait, 60)
        await say("250-mail.acme.example\n250 SIZE 1000")(peer)

    try:
        with loop_thread.entered(scripted_server({"EHLO": ehlo})) as server:
            yield server, go_on
    finally:
        go_on.set()


def test_stages_are_shown_as_they_come(
    kube: Kube,
    namespace: str,
    halting: tuple[ScriptedServer, threading.Event],
    somebody: Callable[..., Person],
) -> None:
    server, go_on = halting
    spec = server_spec(MailServer(port=server.port), probe={"mode": "Disabled"})
    spec["connection"]["timeout"] = "1m"
    kube.create("MailServerSettings", "mail", namespace, spec=spec)
    asked = ("test", "mail", "-n", namespace, "--mode", "Connect", "--follow")
    with somebody(PIPELINE).runs(*asked, terminal=True) as running:
        running.wait_text(r"^  greeting +[0-9]+ms")
        running.wait_text(r"up to Connect: ehlo \.\.\.")
        (test,) = asked_for(kube, namespace)
        assert test["status"]["stage"] == "ehlo"
        assert [stage["name"] for stage in test["status"]["stages"]] == ["resolve", "connect", "greeting"]
        assert "ehlo  " not in running.err
        go_on.set()
        assert running.wait() == 0, running.err
    shown = running.err
    assert len(re.findall(r"^  greeting ", shown, re.MULTILINE)) == 1
    assert shown.index("  greeting ") < shown.index("  ehlo ") < shown.index("  in all ") < shown.index("  C: EHLO ")
    (test,) = asked_for(kube, namespace)
    assert "stage" not in test["status"]


def test_failure_shows_stage_dialogue_and_reason(
    kube: Kube, namespace: str, smtp: MailServer, somebody: Callable[..., Person]
) -> None:
    kube.secret("wrong", namespace, password="not-the-password")
    spec = server_spec(smtp, probe={"mode": "Disabled"})
    spec["auth"]["basic"]["passwordSecretRef"]["name"] = "wrong"
    kube.create("MailServerSettings", "mail", namespace, spec=spec)
    with somebody(PIPELINE).runs("test", "mail", "-n", namespace, terminal=True) as running:
        assert running.wait() == 1
    assert "failed here" in running.err
    assert "S: 535" in running.err
    assert "BadCredentials: " in running.err
    assert "What to do: Check the user name" in running.err
    assert "More: kubectl mailsettings explain BadCredentials" in running.err
    assert "\n      docs/troubleshooting.md#badcredentials\n" in running.err
    command = "    kubectl get secret SECRET -o jsonpath='{.data.KEY}' | base64 -d | tr -c "
    assert re.search(rf"^{re.escape(command)}.* \| od -A d -c$", running.err, re.MULTILINE)
    assert "not-the-password" not in running.err

    with somebody(PIPELINE, "view").runs("test", "mail", "-n", namespace) as running:
        assert running.wait() == 1
    assert f"\n    kubectl get secret wrong -n {namespace} -o jsonpath='{{.data.password}}' | " in running.out
    assert "\nBadCredentials: " in running.out, "a verdict is a result"
    assert running.err == ""


def test_script_reads_one_document_and_leaves_nothing(
    kube: Kube, namespace: str, mail: str, somebody: Callable[..., Person]
) -> None:
    with somebody(PIPELINE).runs("test", mail, "-n", namespace, "-o", "json", "--rm") as running:
        assert running.wait() == 0, running.err
    document: Any = json.loads(running.out)
    assert (document["succeeded"], document["reason"], document["mode"]) == (True, "TestPassed", "Authenticate")
    assert document["stages"][0]["name"] == "resolve"
    assert asked_for(kube, namespace) == []


def test_server_of_a_manifest_is_tried(
    kube: Kube, namespace: str, smtp: MailServer, somebody: Callable[..., Person], tmp_path: Path
) -> None:
    file = tmp_path / "mail.yaml"
    manifest = {"apiVersion": names.API_VERSION, "kind": "MailServerSettings", "metadata": {"name": "mail"}}
    file.write_text(yaml.safe_dump({**manifest, "spec": server_spec(smtp)}))
    with somebody("edit").runs("test", "-n", namespace, "-f", str(file)) as running:
        assert running.wait() == 0, running.err
    assert len(smtp.attempts) == 1
    assert kube.settings("mail", namespace) is None

    with somebody(PIPELINE).runs("test", "-n", namespace, "-f", str(file)) as running:
        assert running.wait() == 1
    assert "the right to get Secrets" in " ".join(running.err.split())
    assert running.out == ""
    assert len(smtp.attempts) == 1


@pytest.mark.parametrize(
    ("roles", "name", "said"),
    [((), "mail", "You may not create MailServerTests"), ((PIPELINE,), "absent", "SettingsNotFound: ")],
)
def test_what_cannot_be_is_said(
    namespace: str, mail: str, somebody: Callable[..., Person], roles: tuple[str, ...], name: str, said: str
) -> None:
    with somebody(*roles).runs("test", name, "-n", namespace, "-o", "yaml") as running:
        assert running.wait() == 1
    document = yaml.safe_load(running.out)
    assert document["succeeded"] is False
    assert said in f"{document['reason']}: {document['message']}"
    assert bool(running.err) is not bool(roles), "what the API server refuses is an error, and a verdict is none"


@pytest.fixture
def silent(loop_thread: LoopThread) -> Iterator[ScriptedServer]:
    with loop_thread.entered(scripted_server({"greeting": hang})) as server:
        yield server


def create_silent(kube: Kube, namespace: str, silent: ScriptedServer) -> None:
    spec = server_spec(MailServer(port=silent.port), probe={"mode": "Disabled"})
    spec["connection"]["timeout"] = "1m"
    kube.create("MailServerSettings", "mail", namespace, spec=spec)


def test_patience_ends_and_the_test_goes_on(
    kube: Kube, namespace: str, silent: ScriptedServer, somebody: Callable[..., Person]
) -> None:
    create_silent(kube, namespace, silent)
    with somebody(PIPELINE).runs("test", "mail", "-n", namespace, "--timeout", "1s") as running:
        assert running.wait() == 1
    assert "TimedOut: " in running.err
    assert "kubectl get mst mail-" in " ".join(running.err.split())
    assert len(asked_for(kube, namespace)) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_command_removes_what_it_was_to_remove(
    kube: Kube, namespace: str, silent: ScriptedServer, somebody: Callable[..., Person], number: signal.Signals
) -> None:
    create_silent(kube, namespace, silent)
    with somebody(PIPELINE).runs("test", "mail", "-n", namespace, "--rm", terminal=True) as running:
        running.wait_text("The server is being tested")
        running.process.send_signal(number)
        assert running.wait() == 1
    assert "Interrupted" in running.err
    kube.wait(lambda: not asked_for(kube, namespace), "the test to be gone")


def test_operator_that_does_not_run_is_noticed(
    namespace: str, somebody: Callable[..., Person], operator_process: OperatorProcess
) -> None:
    operator_process.stop()
    with somebody(PIPELINE).runs("test", "mail", "-n", namespace, "--timeout", "1s") as running:
        assert running.wait() == 1
    assert "Does it run?" in " ".join(running.err.split())
