"""No loop floods a mailbox, whatever is deleted, restarted or interrupted.

With an operator of its own whose bounds are soon reached: `OF_NAMESPACE` and `TO_RECIPIENT`.
"""

import asyncio
import base64
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from dev.cluster import ApiError, ControlPlane
from dev.loop_thread import LoopThread
from dev.operator_process import NAMESPACE, OperatorProcess
from mailsettings.api import names
from mailsettings.core import probe
from mailsettings.core.digest import Digester
from mailsettings.core.mails import Bounds
from mailsettings.edges.kubeconfig import access_by_kubeconfig
from mailsettings.edges.kubernetes import KubernetesApi
from mailsettings.edges.mail_ledger import DATA_KEY, MailLedger
from tests.cluster.conftest import server_spec
from tests.support.kube import MERGE_PATCH, Json, Kube, condition, path, reason_of, resource_version
from tests.support.mail_ledger import counted, let_an_hour_pass, secrets_of
from tests.support.own_cluster import OwnCluster, create_namespace
from tests.support.policies import secrets_policy
from tests.support.smtp_server import PASSWORD, MailServer, Peer, ScriptedServer, hang, say, scripted_server

OF_NAMESPACE: Final = 3
TO_RECIPIENT: Final = 6
LIMITS: Final = {
    "MAILSETTINGS_TEST_MAILS_PER_HOUR": str(OF_NAMESPACE),
    "MAILSETTINGS_RECIPIENT_MAILS_PER_HOUR": str(TO_RECIPIENT),
}
SETTINGS: Final = "MailServerSettings"
TEST: Final = "MailServerTest"
REQUEST: Final = "mailsettings.dev/probe-requested-at"

Serve = Callable[..., MailServer]

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("mail ledger")]


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnCluster]:
    folder = tmp_path_factory.mktemp("ledger")
    with ControlPlane(folder / "cluster") as plane:
        own = OwnCluster(plane, folder)
        own.install()
        yield own


@pytest.fixture(scope="module")
def process(own_cluster: OwnCluster) -> Iterator[OperatorProcess]:
    with own_cluster.operator(**LIMITS) as running:
        yield running


@pytest.fixture(autouse=True)
def running(process: OperatorProcess) -> OperatorProcess:
    if not process.is_running():
        process.start()
    return process


def restart(process: OperatorProcess) -> None:
    process.kill()
    process.start()


@pytest.fixture
def kube(own_cluster: OwnCluster) -> Kube:
    return own_cluster.kube


@pytest.fixture
def new(kube: Kube) -> Iterator[Callable[[], str]]:
    """Makes namespaces with the Secret that `server_spec` refers to."""
    made: list[str] = []

    def create() -> str:
        made.append(create_namespace(kube))
        kube.secret("smtp", made[-1], password=PASSWORD)
        return made[-1]

    yield create
    for namespace in made:
        kube.delete("Namespace", namespace)


@pytest.fixture
def namespace(new: Callable[[], str]) -> str:
    return new()


@pytest.fixture
def server(serve: Serve) -> MailServer:
    return serve(auth_required=True, auth_without_tls=True)


@pytest.fixture
def recipient() -> str:
    """Of whom no other test knows."""
    return f"ops-{secrets.token_hex(4)}@acme.example"


def sending(server: MailServer, recipient: str) -> dict[str, Any]:
    return server_spec(server, probe={"mode": "Send", "recipient": recipient})


def settle(kube: Kube, namespace: str, server: MailServer) -> None:
    """Returns when what happened before has been acted on: something later has been."""
    name = f"later-{secrets.token_hex(4)}"
    kube.create(SETTINGS, name, namespace, spec=server_spec(server))
    kube.wait_ready(name, namespace)


def wait_held(kube: Kube, namespace: str, name: str = "mail") -> Json:
    """The settings once they wait for room; what they say of it."""
    settings = kube.wait_condition(name, namespace, "ProbeSucceeded", "Unknown", "MailLimitReached")
    assert reason_of(settings, "Ready") == ("Unknown", "MailLimitReached")
    assert reason_of(settings, "Reconciling") == ("True", "Progressing"), "a pipeline goes on waiting"
    assert reason_of(settings, "Stalled") is None
    check_time(settings, "ProbeSucceeded")
    return settings


def check_time(found: Json, kind: str) -> str:
    """The message of a condition, which has to say when there is room again: within an hour."""
    said = condition(found, kind)
    assert said is not None
    _, _, rest = said["message"].partition("there is room again at ")
    room_at = datetime.strptime(rest[:20], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert timedelta() < room_at - datetime.now(UTC) <= timedelta(hours=1)
    return str(said["message"])


def said_of_probe(settings: Json) -> str:
    found = condition(settings, "ProbeSucceeded")
    return str(found["message"]) if found is not None else ""


def ask(kube: Kube, namespace: str, **spec: Any) -> str:
    name = f"test-{secrets.token_hex(4)}"
    kube.create(TEST, name, namespace, spec=spec)
    return name


def wait_ended(kube: Kube, namespace: str, name: str, status: str, reason: str) -> Json:
    def look() -> Json | None:
        test = kube.get(TEST, name, namespace)
        return test if test is not None and (reason_of(test, "Complete") or ("", ""))[0] == "True" else None

    test: Json = kube.wait(look, f"the end of {name}")
    assert reason_of(test, "Succeeded") == (status, reason), test["status"]
    return test


# What does not help


@pytest.mark.parametrize("restarts", [False, True], ids=["running on", "restarted"])
def test_deleting_settings_and_creating_them_anew(
    kube: Kube, namespace: str, server: MailServer, recipient: str, process: OperatorProcess, restarts: bool
) -> None:
    for number in range(1, OF_NAMESPACE + 1):
        kube.create(SETTINGS, "mail", namespace, spec=sending(server, recipient))
        kube.wait_ready("mail", namespace)
        assert len(server.mails) == number
        if restarts and number == 2:
            restart(process)
        kube.delete(SETTINGS, "mail", namespace)
        kube.wait_gone(SETTINGS, "mail", namespace)
    logins = len(server.attempts)
    kube.create(SETTINGS, "mail", namespace, spec=sending(server, recipient))
    message = check_time(wait_held(kube, namespace), "ProbeSucceeded")
    assert f"this namespace's bound of {OF_NAMESPACE} test mails" in message
    assert counted(kube, namespace, recipient) == (OF_NAMESPACE, OF_NAMESPACE)
    if restarts:
        restart(process)
        settle(kube, namespace, server)
        logins += 1  # of what is tested to see that the rest has been
        wait_held(kube, namespace)
    assert (len(server.mails), len(server.attempts)) == (OF_NAMESPACE, logins), "the server is left alone meanwhile"


def test_forgetting_results(
    kube: Kube, namespace: str, server: MailServer, recipient: str, process: OperatorProcess
) -> None:
    """Somebody, or a fault, has the operator forget again and again that it has sent a mail."""
    kube.create(SETTINGS, "mail", namespace, spec=sending(server, recipient))

    def forget() -> None:
        target = f"{path(SETTINGS, 'mail', namespace)}/status"
        kube.api.request("PATCH", target, {"status": {"probe": None}}, content_type=MERGE_PATCH)

    for number in range(1, OF_NAMESPACE + 1):
        kube.wait(lambda number=number: len(server.mails) == number, "the next mail")  # type: ignore[misc]
        kube.wait(lambda: (kube.settings("mail", namespace) or {})["status"].get("probe"), "its result")
        forget()
    wait_held(kube, namespace)
    restart(process)
    forget()
    settle(kube, namespace, server)
    assert "probe" not in wait_held(kube, namespace)["status"]
    assert len(server.mails) == OF_NAMESPACE


def test_deleting_tests(
    kube: Kube, namespace: str, server: MailServer, recipient: str, process: OperatorProcess
) -> None:
    kube.create(SETTINGS, "mail", namespace, spec=server_spec(server, probe={"mode": "Disabled"}))
    kube.wait_ready("mail", namespace)
    asked: dict[str, Any] = {"settingsRef": {"name": "mail"}, "recipient": recipient}
    for _ in range(OF_NAMESPACE):
        name = ask(kube, namespace, **asked)
        wait_ended(kube, namespace, name, "True", "TestPassed")
        kube.delete(TEST, name, namespace)
        kube.wait_gone(TEST, name, namespace)
    before = wait_ended(kube, namespace, ask(kube, namespace, **asked), "False", "MailLimitReached")
    restart(process)
    after = wait_ended(kube, namespace, ask(kube, namespace, **asked), "False", "MailLimitReached")
    for test in (before, after):
        assert f"this namespace's bound of {OF_NAMESPACE} test mails" in check_time(test, "Succeeded")
        assert test["status"]["failure"]["remedy"].startswith("Test again after that")
    assert len(server.mails) == OF_NAMESPACE
    wait_ended(kube, namespace, ask(kube, namespace, settingsRef={"name": "mail"}), "True", "TestPassed")


def test_many_objects_of_many_namespaces_with_one_recipient(
    kube: Kube, new: Callable[[], str], server: MailServer, recipient: str
) -> None:
    namespaces = [new() for _ in range(4)]
    objects = [(namespaces[number % 4], f"mail-{number}") for number in range(TO_RECIPIENT + 1)]
    for number, (namespace, name) in enumerate(objects):
        kube.create(SETTINGS, name, namespace, spec=sending(server, recipient.upper() if number % 2 else recipient))

    def held() -> list[Json]:
        found = [kube.settings(name, namespace) or {} for namespace, name in objects]
        reasons = [reason_of(settings, "ProbeSucceeded") for settings in found]
        if reasons.count(("True", "ProbePassed")) < TO_RECIPIENT:
            return []
        return [found[index] for index, reason in enumerate(reasons) if reason == ("Unknown", "MailLimitReached")]

    (waiting,) = kube.wait(held, "all but one to be tested")
    assert f"this recipient's bound of {TO_RECIPIENT} test mails" in check_time(waiting, "ProbeSucceeded")
    assert len(server.mails) == TO_RECIPIENT
    other = new()
    kube.create(SETTINGS, "mail", other, spec=sending(server, f"other-{recipient}"))
    kube.wait_ready("mail", other)


def test_probes_and_tests_add_up(kube: Kube, namespace: str, server: MailServer, recipient: str) -> None:
    for number in range(OF_NAMESPACE - 1):
        kube.create(SETTINGS, f"mail-{number}", namespace, spec=sending(server, recipient))
        kube.wait_ready(f"mail-{number}", namespace)
    asked: dict[str, Any] = {"settingsRef": {"name": "mail-0"}, "recipient": recipient}
    wait_ended(kube, namespace, ask(kube, namespace, **asked), "True", "TestPassed")
    wait_ended(kube, namespace, ask(kube, namespace, **asked), "False", "MailLimitReached")
    assert len(server.mails) == OF_NAMESPACE


def test_a_mail_is_counted_before_it_is_sent(
    kube: Kube, namespace: str, recipient: str, process: OperatorProcess, loop_thread: LoopThread
) -> None:
    """An operator that dies while it sends, again and again, knows of each of these mails."""
    with loop_thread.entered(scripted_server({"DATA": hang})) as server:
        spec = sending(MailServer(port=server.port), recipient)
        spec["connection"]["timeout"] = "1m"
        kube.create(SETTINGS, "mail", namespace, spec=spec)
        for number in range(1, OF_NAMESPACE + 1):
            kube.wait(lambda number=number: begun(server) == number, "the mail")  # type: ignore[misc]
            process.kill()
            assert counted(kube, namespace, recipient) == (number, number)
            process.start()
        wait_held(kube, namespace)
        assert begun(server) == OF_NAMESPACE


def begun(server: ScriptedServer) -> int:
    return sum(line == "DATA" for line in server.lines)


# What does not count


def test_probes_that_send_nothing_cost_nothing(
    kube: Kube, namespace: str, server: MailServer, recipient: str, loop_thread: LoopThread
) -> None:
    def versions() -> list[str]:
        return [resource_version(secret) for secret in secrets_of(kube)]

    before = versions()
    kube.create(SETTINGS, "mail", namespace, spec=server_spec(server))
    kube.wait_ready("mail", namespace)
    wait_ended(kube, namespace, ask(kube, namespace, settingsRef={"name": "mail"}), "True", "TestPassed")
    with loop_thread.entered(scripted_server({"RCPT": say("550 5.1.1 no")})) as refusing:
        kube.create(SETTINGS, "refused", namespace, spec=sending(MailServer(port=refusing.port), recipient))
        kube.wait_condition("refused", namespace, "ProbeSucceeded", "False", "RecipientRejected")
    assert versions() == before


# What is said, and how it goes on


def test_a_probe_that_was_asked_for_waits_and_says_so_and_goes_on(
    kube: Kube, namespace: str, server: MailServer, recipient: str, process: OperatorProcess
) -> None:
    for name in ("mail", "another", "third"):
        kube.create(SETTINGS, name, namespace, spec=sending(server, recipient))
        kube.wait_ready(name, namespace)
    kube.patch(SETTINGS, "mail", namespace, metadata={"annotations": {REQUEST: "now"}})

    def waits() -> Json | None:
        settings = kube.settings("mail", namespace) or {}
        found = condition(settings, "ProbeSucceeded")
        return settings if found and "The next test waits" in found["message"] else None

    settings = kube.wait(waits, "the message")
    message = check_time(settings, "ProbeSucceeded")
    assert message.startswith("The next test waits: this namespace's bound of ")
    assert message.endswith("Z. The server accepted a test mail.")
    assert reason_of(settings, "Ready") == ("True", "Ready"), "it is none the worse for it"
    assert "lastHandledRequest" not in settings["status"]["probe"]
    version = resource_version(settings)
    settle(kube, namespace, server)
    assert resource_version(kube.settings("mail", namespace)) == version, "it is said once"

    process.kill()
    let_an_hour_pass(kube)
    process.start()

    def handled() -> Json | None:
        settings = kube.settings("mail", namespace) or {}
        return settings if settings["status"]["probe"].get("lastHandledRequest") == "now" else None

    found = condition(kube.wait(handled, "the probe that was asked for"), "ProbeSucceeded")
    assert found is not None
    assert found["message"] == "The server accepted a test mail."
    assert len(server.mails) == OF_NAMESPACE + 1
    assert counted(kube, namespace, recipient) == (1, 1), "windows that are over are dropped"


def ledger_refused(kube: Kube) -> bool:
    body = {"metadata": {"name": "mail-ledger-x"}, "data": {}}
    try:
        kube.api.request("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets?dryRun=All", body)
    except ApiError as error:
        return error.status == 422
    return False


def test_what_cannot_be_counted_is_not_sent(
    kube: Kube, namespace: str, server: MailServer, recipient: str, process: OperatorProcess
) -> None:
    expression = "!object.metadata.name.startsWith('mail-ledger-')"
    with secrets_policy(kube, NAMESPACE, expression, in_force=lambda: ledger_refused(kube)):
        kube.create(SETTINGS, "mail", namespace, spec=sending(server, recipient))
        settings = kube.wait_condition("mail", namespace, "ProbeSucceeded", "Unknown", "MailNotCounted")
        assert reason_of(settings, "Stalled") is None, "it is tried again"
        assert said_of_probe(settings).endswith("could not be counted, since the API server says 422 Invalid.")
        assert "probe" not in settings["status"], "nothing was tested"
        asked: dict[str, Any] = {"settingsRef": {"name": "mail"}, "recipient": recipient}
        test = wait_ended(kube, namespace, ask(kube, namespace, **asked), "False", "MailNotCounted")
        assert "messageID" not in test["status"]
        assert "a test mail is not counted, and so not sent" in process.log_text()
        assert len(server.attempts) == 2, "all else is tested"
    assert (server.mails, counted(kube, namespace, recipient)) == ([], (0, 0))
    kube.wait(lambda: not ledger_refused(kube), "the policy to be gone")
    kube.patch(SETTINGS, "mail", namespace, metadata={"annotations": {REQUEST: "now"}})
    kube.wait_ready("mail", namespace)
    assert len(server.mails) == 1


def test_no_mail_goes_while_the_api_server_is_away(
    own_cluster: OwnCluster, namespace: str, recipient: str, loop_thread: LoopThread
) -> None:
    """It goes away when all else of the dialogue is done."""
    kube, asked, go_on = own_cluster.kube, threading.Event(), threading.Event()

    async def take_the_recipient(peer: Peer) -> None:
        asked.set()
        await asyncio.to_thread(go_on.wait, 30)
        await say("250 2.1.5 ok")(peer)

    with loop_thread.entered(scripted_server({"RCPT": take_the_recipient})) as server:
        spec = sending(MailServer(port=server.port), recipient)
        spec["connection"]["timeout"] = "1m"
        kube.create(SETTINGS, "mail", namespace, spec=spec)
        kube.wait(asked.is_set, "the recipient")
        with own_cluster.without_apiserver():
            go_on.set()
            kube.wait(lambda: "QUIT" in server.lines, "the end of the dialogue")
        assert "DATA" not in server.lines
        settings = kube.wait_condition("mail", namespace, "ProbeSucceeded", "Unknown", "MailNotCounted", timeout=60)
    assert "the API server does not answer" in said_of_probe(settings)


def test_ledger_that_cannot_be_read_lets_nothing_through_until_it_is_deleted(
    kube: Kube, namespace: str, server: MailServer, recipient: str
) -> None:
    kube.create(SETTINGS, "first", namespace, spec=sending(server, recipient))
    kube.wait_ready("first", namespace)
    garbage = {DATA_KEY: base64.b64encode(b"?").decode()}
    for secret in secrets_of(kube):
        kube.patch("Secret", secret["metadata"]["name"], NAMESPACE, data=garbage)
    kube.create(SETTINGS, "mail", namespace, spec=sending(server, recipient))
    settings = kube.wait_condition("mail", namespace, "ProbeSucceeded", "Unknown", "MailNotCounted")
    assert "the counts in the Secret mail-ledger-" in said_of_probe(settings)
    assert len(server.attempts) == 1, "the server is left alone"
    for secret in secrets_of(kube):
        kube.delete("Secret", secret["metadata"]["name"], NAMESPACE)
    kube.patch(SETTINGS, "mail", namespace, metadata={"annotations": {REQUEST: "now"}})
    kube.wait_ready("mail", namespace)
    assert len(server.mails) == 2


# Several at once


@pytest.fixture
async def connection(own_cluster: OwnCluster) -> AsyncIterator[KubernetesApi]:
    async with KubernetesApi(await access_by_kubeconfig(str(own_cluster.cluster.kubeconfig))) as api:
        yield api


async def test_of_several_replicas_none_loses_the_others_counts(
    connection: KubernetesApi, namespace: str, recipient: str
) -> None:
    """Each with mails of its own at the same time; the bound is met and not passed."""
    replicas = [
        MailLedger(
            connection,
            NAMESPACE,
            digest=Digester(b"k" * 32),
            bounds=Bounds(of_namespace=1000, to_recipient=4),
            logger=logging.getLogger("test"),
        )
        for _ in range(2)
    ]
    mails = [probe.TestMail("", recipient, probe.Origin("", f"{namespace}-{number}")) for number in range(8)]
    holds = await asyncio.gather(*(replicas[number % 2].count(mail) for number, mail in enumerate(mails)))
    assert holds.count(None) == 4
    assert all(hold is None or hold.until is not None for hold in holds)
    full = [await each.look(mails[0]) for each in replicas]
    assert all(hold is not None and hold.until is not None for hold in full)


def test_it_is_a_secret_of_the_operators_own(kube: Kube, namespace: str, server: MailServer, recipient: str) -> None:
    kube.create(SETTINGS, "mail", namespace, spec=sending(server, recipient))
    kube.wait_ready("mail", namespace)
    for secret in secrets_of(kube):
        assert secret["type"] == names.MAIL_LEDGER_TYPE
        assert "ownerReferences" not in secret["metadata"]
        text = base64.b64decode(secret["data"][DATA_KEY]).decode()
        assert namespace not in text
        assert "acme" not in text
