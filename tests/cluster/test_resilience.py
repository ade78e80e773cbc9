"""Crashes, restarts, an API server that goes away: what is true before is true afterwards."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from dev.cluster import ApiError
from dev.loop_thread import LoopThread
from dev.operator_process import NAMESPACE, OperatorProcess
from dev.role_process import ROOT, StartError
from tests.cluster.conftest import server_spec
from tests.support.kube import Kube, is_current, reason_of
from tests.support.own_cluster import OwnCluster, create_namespace
from tests.support.smtp_server import PASSWORD, MailServer, Peer, ScriptedServer, hang, say, scripted_server

KEY_NAME: Final = "mailsettings-operator-key"
STOP_S: Final = 30.0
"""After this long it hangs: half of what a probe may take, so that it cannot have waited for one."""
RECOVERY_S: Final = 40.0
"""How long the operator may take after the API server is back, on a busy machine."""


def test_sigkill_at_any_moment_loses_nothing(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.secret("smtp", namespace, password=PASSWORD)
    dice = random.Random(namespace)
    names = [f"mail-{number}" for number in range(8)]
    for name in names:
        kube.create("MailServerSettings", name, namespace, spec=server_spec(smtp))
    for step in range(6):
        for name in names:
            kube.patch("MailServerSettings", name, namespace, spec={"mailFrom": f"step-{step}@acme.example"})
        if dice.random() < 0.5:
            victim = dice.choice(names)
            kube.delete("Secret", f"{victim}-smtp", namespace)
        time.sleep(dice.random() * 0.15)  # the moment of the crash: anywhere in the work
        operator.kill()
        operator.start()

    for name in names:
        settings = kube.wait_ready(name, namespace)
        assert settings["status"]["effective"]["mailFrom"] == "step-5@acme.example"
        kube.wait_values(f"{name}-smtp", namespace, **{"from": "step-5@acme.example"})
    held = kube.api.request("GET", f"/api/v1/namespaces/{namespace}/secrets")["items"]
    ours = [s["metadata"]["name"] for s in held if s["type"] == "servicebinding.io/smtp"]
    assert sorted(ours) == sorted(f"{name}-smtp" for name in names)


def test_what_changes_while_the_operator_is_down_is_acted_on_at_its_start(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.secret("smtp", namespace, password=PASSWORD)
    for name in ("changed", "deleted", "replaced"):
        kube.create("MailServerSettings", name, namespace, spec=server_spec(smtp))
    for name in ("changed", "deleted", "replaced"):
        kube.wait_ready(name, namespace)
    operator.stop()
    kube.patch("MailServerSettings", "changed", namespace, spec={"mailFrom": "other@acme.example"})
    for name in ("deleted", "replaced"):
        kube.delete("MailServerSettings", name, namespace)
    kube.create("MailServerSettings", "replaced", namespace, spec=server_spec(smtp))
    kube.create("MailServerSettings", "new", namespace, spec=server_spec(smtp))
    operator.start()

    for name in ("changed", "replaced", "new"):
        settings = kube.wait_ready(name, namespace)
        secret = kube.wait_values(f"{name}-smtp", namespace, **{"from": settings["status"]["effective"]["mailFrom"]})
        assert secret["metadata"]["ownerReferences"][0]["uid"] == settings["metadata"]["uid"]
    # Kubernetes' garbage collector looks for new kinds only every half minute.
    kube.wait_gone("Secret", "deleted-smtp", namespace, timeout=90)
    assert reason_of(kube.settings("changed", namespace) or {}, "Ready") == ("True", "Ready")


def test_the_operators_key_is_made_once(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    before = kube.get("Secret", KEY_NAME, NAMESPACE)
    assert before is not None
    assert before["immutable"] is True

    operator.stop()
    operator.start()

    assert kube.get("Secret", KEY_NAME, NAMESPACE) == before


@pytest.fixture
def hanging(loop_thread: LoopThread) -> Iterator[ScriptedServer]:
    """A server that never greets."""
    with loop_thread.entered(scripted_server({"greeting": hang})) as server:
        yield server


def test_sigterm_ends_it_soon_though_a_probe_hangs(
    operator: OperatorProcess, kube: Kube, namespace: str, hanging: ScriptedServer, smtp: MailServer
) -> None:
    kube.secret("smtp", namespace, password=PASSWORD)
    spec = server_spec(MailServer(port=hanging.port))
    spec["connection"]["timeout"] = "2m"
    kube.create("MailServerSettings", "mail", namespace, spec=spec)
    kube.wait_condition("mail", namespace, "ProbeSucceeded", "Unknown", "ProbePending")
    process = operator._process
    assert process is not None

    process.send_signal(signal.SIGTERM)

    assert process.wait(STOP_S) == 0
    kube.wait(hanging.left.is_set, "the connection to be closed")
    operator.stop()
    operator.start()


# With a control plane of their own


@pytest.fixture
def running(own: OwnCluster) -> Iterator[OperatorProcess]:
    """The operator of the cluster of its own."""
    own.install()
    with own.operator() as process:
        process.start()
        yield process
        assert process.is_running()


@pytest.fixture
def smtp_alone(serve: Callable[..., MailServer]) -> MailServer:
    """A mail server, for tests that do not need the shared cluster."""
    return serve(auth_required=True, auth_without_tls=True)


@pytest.mark.cluster
def test_it_outlives_the_api_server(own: OwnCluster, running: OperatorProcess, smtp_alone: MailServer) -> None:
    """And acts on what happens while it has not yet come back itself, deletions too."""
    kube = own.kube
    namespace = create_namespace(kube)
    kube.secret("smtp", namespace, password=PASSWORD)
    kube.secret("smtp", NAMESPACE, password=PASSWORD)
    tenants = {"delivery": "Credentials", "namespaces": [namespace]}
    kube.create("ClusterMailServerSettings", "system", spec=server_spec(smtp_alone, tenants=tenants))
    kube.create("MailServerSettings", "own", namespace, spec=server_spec(smtp_alone))
    kube.create("MailServerSettings", "inheriting", namespace, spec={"systemSettingsRef": {"name": "system"}})
    for name in ("own", "inheriting"):
        kube.wait_ready(name, namespace)
    pid = running.pid
    assert pid is not None

    with own.without_apiserver():
        wait_failed_attempts(kube, running, 4)  # so that it waits longer between them
        os.kill(pid, signal.SIGSTOP)  # what follows happens before its watches are back
    try:
        kube.wait(lambda: deleted_though_inherited(kube, "system"), "the system's settings to be deleted")
        kube.patch("MailServerSettings", "own", namespace, spec={"mailFrom": "while-away@acme.example"})
        kube.patch("Secret", "smtp", namespace, stringData={"password": "while away"})
    finally:
        os.kill(pid, signal.SIGCONT)

    wait_delivered(kube, namespace, "own", "while-away@acme.example", "while away")
    kube.wait_gone("Secret", "inheriting-smtp", namespace, timeout=RECOVERY_S)
    kube.wait_condition("inheriting", namespace, "Accepted", "False", "SystemSettingsNotFound")
    kube.patch("Secret", "smtp", namespace, stringData={"password": PASSWORD})
    kube.patch("MailServerSettings", "own", namespace, spec={"mailFrom": "afterwards@acme.example"})
    wait_delivered(kube, namespace, "own", "afterwards@acme.example", PASSWORD)
    assert running.pid == pid


def wait_failed_attempts(kube: Kube, operator: OperatorProcess, count: int) -> None:
    """Waits until so many more attempts of the operator's, of one watch of its own, have failed."""

    def failed() -> int:
        return operator.log_text().count("watch of /api/v1/secrets: ")

    wanted = failed() + count
    kube.wait(lambda: failed() >= wanted, f"{count} attempts to fail", timeout=RECOVERY_S)


def deleted_though_inherited(kube: Kube, name: str) -> bool:
    """Tries to delete a cluster object; admission may refuse it for a moment after a start."""
    with contextlib.suppress(ApiError):
        allowed = {"annotations": {"mailsettings.dev/allow-deletion": "true"}}
        kube.patch("ClusterMailServerSettings", name, metadata=allowed)
        kube.delete("ClusterMailServerSettings", name)
    return kube.settings(name) is None


def wait_delivered(kube: Kube, namespace: str, name: str, sender: str, password: str) -> None:
    def arrived() -> bool:
        values = kube.secret_data(f"{name}-smtp", namespace) or {}
        settings = kube.settings(name, namespace) or {}
        return is_current(settings) and (values["from"], values["password"]) == (sender, password)

    kube.wait(arrived, f"{sender} to be delivered", timeout=RECOVERY_S)


@pytest.mark.cluster
def test_it_outlives_an_api_server_that_is_frozen(
    own: OwnCluster, running: OperatorProcess, smtp_alone: MailServer, loop_thread: LoopThread
) -> None:
    """Though it has something to write meanwhile: how a probe ended."""
    kube = own.kube
    namespace = create_namespace(kube)
    kube.secret("smtp", namespace, password=PASSWORD)
    kube.create("MailServerSettings", "mail", namespace, spec=server_spec(smtp_alone))
    kube.wait_ready("mail", namespace)
    go_on = asyncio.Event()

    async def refuse_when_told(peer: Peer) -> None:
        await go_on.wait()
        await say("554 5.3.2 no")(peer)

    with loop_thread.entered(scripted_server({"greeting": refuse_when_told})) as slow:
        spec = server_spec(MailServer(port=slow.port))
        spec["connection"]["timeout"] = "2m"
        kube.create("MailServerSettings", "slow", namespace, spec=spec)
        kube.wait_condition("slow", namespace, "ProbeSucceeded", "Unknown", "ProbePending")
        with own.frozen_apiserver():
            loop_thread.run(_set(go_on))
            kube.wait(slow.left.is_set, "the probe to end")

    kube.wait_condition("slow", namespace, "ProbeSucceeded", "False", timeout=RECOVERY_S)
    kube.patch("MailServerSettings", "mail", namespace, spec={"mailFrom": "afterwards@acme.example"})
    wait_delivered(kube, namespace, "mail", "afterwards@acme.example", PASSWORD)


async def _set(event: asyncio.Event) -> None:
    event.set()


@pytest.mark.cluster
def test_it_waits_for_its_kinds_and_then_works(own: OwnCluster, smtp_alone: MailServer) -> None:
    kube = own.kube
    own.cluster.apply(ROOT / "manifests" / "namespace.yaml", ROOT / "manifests" / "operator-rbac.yaml")
    with own.operator() as operator, ThreadPoolExecutor(1) as pool:

        def install_when_waited_for() -> None:
            kube.wait(lambda: "waiting for the CustomResourceDefinitions" in operator.log_text(), "it to wait")
            own.install()

        installing = pool.submit(install_when_waited_for)
        operator.start()
        installing.result()
        namespace = create_namespace(kube)
        kube.secret("smtp", namespace, password=PASSWORD)
        kube.create("MailServerSettings", "mail", namespace, spec=server_spec(smtp_alone))

        kube.wait_ready("mail", namespace)


def test_it_can_be_stopped_while_it_waits_for_its_kinds(own: OwnCluster) -> None:
    own.cluster.apply(ROOT / "manifests" / "namespace.yaml", ROOT / "manifests" / "operator-rbac.yaml")
    with own.operator() as operator, ThreadPoolExecutor(1) as pool:

        def stop_when_waiting() -> None:
            own.kube.wait(lambda: "waiting for the CustomResourceDefinitions" in operator.log_text(), "it to wait")
            assert operator.pid is not None
            os.kill(operator.pid, signal.SIGTERM)

        stopping = pool.submit(stop_when_waiting)
        with pytest.raises(StartError):
            operator.start()
        stopping.result()

        assert "stopping" in operator.log_text()
