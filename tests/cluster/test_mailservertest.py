"""MailServerTest end to end: what it tests, what it says, what it refuses, and that it runs once."""

import base64
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import quote

import pytest

from dev.loop_thread import LoopThread
from dev.operator_process import OperatorProcess
from mailsettings.api import names
from tests.cluster.conftest import server_spec
from tests.support.history import events_about
from tests.support.identity_provider import ACCOUNT, CLIENT_ID, CLIENT_SECRET, SCOPE, IdentityProvider
from tests.support.kube import MERGE_PATCH, Json, Kube, condition, path, reason_of, resource_version
from tests.support.smtp_server import (
    PASSWORD,
    USERNAME,
    MailServer,
    ScriptedServer,
    hang,
    say,
    scripted_server,
)

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
    stages = [stage["name"] for stage in status["stages"]]
    assert stages == ["resolve", "connect", "greeting", "ehlo", "auth", "mail", "rcpt", "data"]
    assert "PLAIN" in status["server"]["mechanisms"]
    dialogue = status["dialogue"]
    assert dialogue[-1].startswith("S: 221")
    assert [line for line in dialogue if line.startswith("C: RCPT")] == [f"C: RCPT TO:<{RECIPIENT}>"]
    (sent,) = smtp.mails
    assert sent.message["Message-ID"] == status["messageID"]
    assert sent.recipients == [RECIPIENT]
    assert f"MailServerSettings {namespace}/mail" in str(sent.message["Subject"])
    assert kube.settings("mail", namespace)["status"].get("probe") is None  # type: ignore[index]


@pytest.mark.parametrize(
    ("asked", "mode"),
    [({}, "Authenticate"), ({"mode": "Connect"}, "Connect"), ({"mode": "Send", "recipient": RECIPIENT}, "Send")],
    ids=["by default", "Connect", "Send"],
)
def test_mode_says_how_far_it_goes(
    kube: Kube, namespace: str, smtp: MailServer, mail: str, asked: dict[str, Any], mode: str
) -> None:
    name = ask(kube, namespace, settingsRef={"name": mail}, **asked)
    test = wait_ended(kube, namespace, name, "True", "TestPassed")
    assert test["status"]["mode"] == mode
    assert len(smtp.attempts) == (0 if mode == "Connect" else 1)
    assert len(smtp.mails) == (1 if mode == "Send" else 0)


def test_kubectl_wait_ends_whatever_comes_of_it(kube: Kube, namespace: str) -> None:
    """Complete is what to wait for, Succeeded what to look at."""
    name = ask(kube, namespace, settingsRef={"name": "absent"})
    wait_ended(kube, namespace, name, "False", "SettingsNotFound")


def test_refused_login_is_told_with_its_stage_and_an_event(kube: Kube, namespace: str, smtp: MailServer) -> None:
    kube.secret("wrong", namespace, password="not-the-password")
    spec = server_spec(smtp, probe={"mode": "Disabled"})
    spec["auth"]["basic"]["passwordSecretRef"]["name"] = "wrong"
    kube.create("MailServerSettings", "mail", namespace, spec=spec)
    name = ask(kube, namespace, settingsRef={"name": "mail"})

    test = wait_ended(kube, namespace, name, "False", "BadCredentials")

    failure, found = test["status"]["failure"], condition(test, "Succeeded")
    assert found is not None
    assert (failure["stage"], failure["cause"], failure["code"]) == ("auth", "BadCredentials", 535)
    more = f"See {failure['docs']} or `kubectl mailsettings explain {failure['cause']}`."
    assert found["message"] == f"{failure['message']} {failure['remedy']} {more}"
    (event,) = kube.wait(lambda: events_about(kube, namespace, name), "its event")
    assert (event["reason"], event["type"], event["regarding"]["kind"]) == ("BadCredentials", "Warning", KIND)


def test_passing_test_makes_no_event(kube: Kube, namespace: str, mail: str) -> None:
    passing = ask(kube, namespace, settingsRef={"name": mail})
    wait_ended(kube, namespace, passing, "True", "TestPassed")
    failing = ask(kube, namespace, settingsRef={"name": "absent"})
    wait_ended(kube, namespace, failing, "False", "SettingsNotFound")
    kube.wait(lambda: events_about(kube, namespace, failing), "the event of a later test")
    assert events_about(kube, namespace, passing) == []


def test_server_can_be_tried_before_it_is_saved(kube: Kube, namespace: str, smtp: MailServer) -> None:
    name = ask(kube, namespace, settings=server_spec(smtp), recipient=RECIPIENT)
    test = wait_ended(kube, namespace, name, "True", "TestPassed")
    assert test["status"]["effective"]["source"] == "Tenant"
    (sent,) = smtp.mails
    assert f"{KIND} {namespace}/{name}" in str(sent.message["Subject"])


def test_server_that_a_test_brings_refers_to_its_own_namespace_only(
    kube: Kube, namespace: str, new_namespace: Callable[..., str], smtp: MailServer
) -> None:
    kube.secret("elsewhere", new_namespace(), password=PASSWORD)
    spec = server_spec(smtp)
    spec["auth"]["basic"]["passwordSecretRef"]["name"] = "elsewhere"
    name = ask(kube, namespace, settings=spec)
    wait_ended(kube, namespace, name, "False", "SecretNotFound")
    assert smtp.connections == 0


def test_server_that_a_test_brings_is_under_the_egress_policy_of_tenants(kube: Kube, namespace: str) -> None:
    connection = {"host": "169.254.169.254", "tls": {"mode": "Disabled"}}
    name = ask(kube, namespace, settings={"mailFrom": "a@acme.example", "connection": connection})
    wait_ended(kube, namespace, name, "False", "EgressDenied")


@pytest.mark.parametrize("uses", ["settings", "system"])
def test_suspended_settings_are_not_tested(
    kube: Kube, namespace: str, smtp: MailServer, cluster_settings: Callable[..., str], uses: str
) -> None:
    if uses == "settings":
        spec = server_spec(smtp, suspend=True)
    else:
        tenants = {"delivery": "Credentials", "namespaces": [namespace]}
        spec = {"systemSettingsRef": {"name": cluster_settings(tenants=tenants, suspend=True)}}
    kube.create("MailServerSettings", "mail", namespace, spec=spec)
    name = ask(kube, namespace, settingsRef={"name": "mail"})
    wait_ended(kube, namespace, name, "False", "Suspended")
    assert smtp.connections == 0


# The system's settings


@pytest.fixture
def inheriting(kube: Kube, namespace: str, cluster_settings: Callable[..., str]) -> Callable[..., str]:
    """Creates settings that inherit from a cluster object with this in its `tenants`."""

    def create(**tenants: Any) -> str:
        allowed = {"delivery": "Credentials", "namespaces": [namespace], **tenants}
        system = cluster_settings(tenants=allowed, probe={"mode": "Disabled"})
        kube.create("MailServerSettings", "mail", namespace, spec={"systemSettingsRef": {"name": system}})
        kube.wait_ready("mail", namespace)
        return "mail"

    return create


@pytest.mark.parametrize(
    ("patterns", "recipient", "permitted"),
    [
        (None, "No-Reply@acme.example", True),
        (None, RECIPIENT, False),
        ([], "no-reply@acme.example", False),
        (["{namespace}@*.example"], "{namespace}@acme.example", True),
        (["{namespace}@*.example"], "another@acme.example", False),
    ],
)
def test_administrator_bounds_the_recipients_of_inherited_settings(
    kube: Kube,
    namespace: str,
    smtp: MailServer,
    inheriting: Callable[..., str],
    patterns: list[str] | None,
    recipient: str,
    permitted: bool,
) -> None:
    mail = inheriting(**({} if patterns is None else {"testRecipients": patterns}))
    name = ask(kube, namespace, settingsRef={"name": mail}, recipient=recipient.replace("{namespace}", namespace))
    if permitted:
        test = wait_ended(kube, namespace, name, "True", "TestPassed")
        assert test["status"]["effective"]["source"] == "System"
        assert {"stages", "messageID"} <= test["status"].keys()
        assert not {"server", "dialogue"} & test["status"].keys(), "they are the administrators'"
        assert len(smtp.mails) == 1
    else:
        wait_ended(kube, namespace, name, "False", "RecipientNotAllowed")
        assert smtp.connections == 0


def test_own_settings_may_be_tested_with_any_recipient(kube: Kube, namespace: str, mail: str) -> None:
    name = ask(kube, namespace, settingsRef={"name": mail}, recipient="anybody@elsewhere.example")
    wait_ended(kube, namespace, name, "True", "TestPassed")


def test_namespace_that_the_system_does_not_admit_tests_nothing(
    kube: Kube, namespace: str, smtp: MailServer, cluster_settings: Callable[..., str]
) -> None:
    system = cluster_settings(tenants={"delivery": "Credentials"})
    kube.wait_ready(system)
    before = smtp.connections
    kube.create("MailServerSettings", "mail", namespace, spec={"systemSettingsRef": {"name": system}})
    name = ask(kube, namespace, settingsRef={"name": "mail"})
    wait_ended(kube, namespace, name, "False", "NotAllowed")
    assert smtp.connections == before


def test_token_of_the_settings_is_what_is_tested(
    kube: Kube, namespace: str, provider: IdentityProvider, mail_server_of: Callable[[IdentityProvider], MailServer]
) -> None:
    kube.secret("oauth2", namespace, secret=CLIENT_SECRET)
    server = mail_server_of(provider)
    spec = server_spec(server, probe={"mode": "Disabled"})
    spec["mailFrom"] = ACCOUNT
    spec["auth"] = {
        "oauth2": {
            "username": ACCOUNT,
            "grant": "ClientCredentials",
            "clientID": CLIENT_ID,
            "clientAuth": {"secretRef": {"name": "oauth2", "key": "secret"}},
            "tokenURI": provider.token_uri,
            "scopes": [SCOPE],
        }
    }
    kube.create("MailServerSettings", "mail", namespace, spec=spec)
    name = ask(kube, namespace, settingsRef={"name": "mail"})  # there may be no token yet: the test waits

    test = wait_ended(kube, namespace, name, "True", "TestPassed")

    (presented,) = server.presented
    shown = str(test)
    assert any(line.startswith("C: AUTH XOAUTH2") for line in test["status"]["dialogue"])
    said = base64.b64encode(f"user={ACCOUNT}\x01auth=Bearer {presented.token}\x01\x01".encode()).decode()
    assert not [secret for secret in (presented.token, said, said[:60], CLIENT_SECRET) if secret in shown]
    assert len(provider.token_requests) == 1, "a test asks for no token"


def test_token_is_got_for_unsaved_settings_and_kept_nowhere(
    kube: Kube, namespace: str, provider: IdentityProvider, mail_server_of: Callable[[IdentityProvider], MailServer]
) -> None:
    kube.secret("oauth2", namespace, secret=CLIENT_SECRET)
    server = mail_server_of(provider)
    spec = {key: value for key, value in server_spec(server).items() if key in ("connection", "mailFrom")}
    client_auth = {"secretRef": {"name": "oauth2", "key": "secret"}}
    oauth2 = {
        "username": ACCOUNT,
        "grant": "ClientCredentials",
        "clientID": CLIENT_ID,
        "clientAuth": client_auth,
        "tokenURI": provider.token_uri,
        "scopes": [SCOPE],
    }
    name = ask(kube, namespace, settings={**spec, "mailFrom": ACCOUNT, "auth": {"oauth2": oauth2}})

    test = wait_ended(kube, namespace, name, "True", "TestPassed")

    (presented,) = server.presented
    assert [stage["name"] for stage in test["status"]["stages"]][:2] == ["token", "resolve"]
    assert not [secret for secret in (presented.token, CLIENT_SECRET) if secret in str(test)]
    secrets_there = kube.api.request("GET", "/api/v1/secrets")["items"]
    assert not [each for each in secrets_there if presented.token in str(each)]

    kube.secret("wrong", namespace, secret="not-the-secret")
    client_auth["secretRef"]["name"] = "wrong"
    name = ask(kube, namespace, settings={**spec, "mailFrom": ACCOUNT, "auth": {"oauth2": oauth2}})
    test = wait_ended(kube, namespace, name, "False", "ClientAuthInvalid")
    assert test["status"]["failure"]["stage"] == "token"
    assert "not-the-secret" not in str(test)
    assert len(server.presented) == 1


def test_settings_that_wait_for_consent_say_so(kube: Kube, namespace: str, consent_settings: Json) -> None:
    name = ask(kube, namespace, settingsRef={"name": "mail"})
    wait_ended(kube, namespace, name, "False", "ConsentRequired")


# The system's own settings


@pytest.fixture
def system_test(kube: Kube) -> Iterator[Callable[..., str]]:
    """Creates tests in the operator's namespace."""
    created: list[str] = []

    def create(name: str, **spec: Any) -> str:
        reference = {"kind": "ClusterMailServerSettings", "name": name}
        created.append(ask(kube, names.OPERATOR_NAMESPACE, settingsRef=reference, **spec))
        return created[-1]

    yield create
    for name in created:
        kube.delete(KIND, name, names.OPERATOR_NAMESPACE)


def test_system_is_tested_where_the_operator_runs_also_without_tenants(
    kube: Kube, smtp: MailServer, cluster_settings: Callable[..., str], system_test: Callable[..., str]
) -> None:
    system = cluster_settings(probe={"mode": "Disabled"})
    name = system_test(system, recipient="anybody@elsewhere.example")
    test = wait_ended(kube, names.OPERATOR_NAMESPACE, name, "True", "TestPassed")
    assert test["status"]["effective"]["source"] == "System"
    (sent,) = smtp.mails
    assert sent.recipients == ["anybody@elsewhere.example"]
    assert f"ClusterMailServerSettings {system}" in str(sent.message["Subject"])


def test_tenant_cannot_name_the_system_even_where_it_may_use_it(
    kube: Kube, namespace: str, smtp: MailServer, cluster_settings: Callable[..., str]
) -> None:
    tenants = {"delivery": "Credentials", "namespaces": [namespace]}
    system = cluster_settings(probe={"mode": "Disabled"}, tenants=tenants)
    kube.wait_ready(system)
    before = smtp.connections
    name = ask(kube, namespace, settingsRef={"kind": "ClusterMailServerSettings", "name": system})
    test = wait_ended(kube, namespace, name, "False", "NotAllowed")
    assert smtp.connections == before
    # Neither that there are such settings nor anything of them can be found out so.
    assert "effective" not in test["status"]
    absent = ask(kube, namespace, settingsRef={"kind": "ClusterMailServerSettings", "name": "absent"})
    also = wait_ended(kube, namespace, absent, "False", "NotAllowed")
    assert condition(also, "Succeeded")["message"] == condition(test, "Succeeded")["message"]  # type: ignore[index]


def test_system_that_is_suspended_or_absent_is_told(
    kube: Kube, cluster_settings: Callable[..., str], system_test: Callable[..., str]
) -> None:
    system = cluster_settings(suspend=True)
    wait_ended(kube, names.OPERATOR_NAMESPACE, system_test(system), "False", "Suspended")
    wait_ended(kube, names.OPERATOR_NAMESPACE, system_test("absent"), "False", "SettingsNotFound")


# Once, in turn, and not too often


@pytest.fixture
def silent(loop_thread: LoopThread) -> Iterator[ScriptedServer]:
    """A server that greets nobody, so that tests of it go on."""
    with loop_thread.entered(scripted_server({"greeting": hang})) as server:
        yield server


def brought(port: int) -> dict[str, Any]:
    """A server that a test brings, with time to be slow."""
    connection = {"host": "127.0.0.1", "port": port, "timeout": "1m", "tls": {"mode": "Disabled"}}
    return {"mailFrom": "a@acme.example", "connection": connection}


def wait_reason(kube: Kube, namespace: str, name: str, reason: str) -> Json:
    """The test once it has not ended, for this reason."""

    def look() -> Json | None:
        test = kube.get(KIND, name, namespace)
        return test if test is not None and reason_of(test, "Succeeded") == ("Unknown", reason) else None

    test: Json = kube.wait(look, f"{reason} of {name}")
    assert reason_of(test, "Complete") == ("False", reason)
    assert reason_of(test, "Reconciling") == ("True", reason)
    assert reason_of(test, "Stalled") is None
    return test


def test_two_of_a_namespace_run_and_the_others_wait_for_their_turn(
    kube: Kube, namespace: str, silent: ScriptedServer, mail: str, new_namespace: Callable[..., str]
) -> None:
    running = [ask(kube, namespace, settings=brought(silent.port)) for _ in range(2)]
    for name in running:
        wait_reason(kube, namespace, name, "TestRunning")
    waiting = ask(kube, namespace, settingsRef={"name": mail})
    wait_reason(kube, namespace, waiting, "TestWaiting")
    elsewhere = new_namespace()
    other = ask(kube, elsewhere, settings=brought(silent.port))
    wait_reason(kube, elsewhere, other, "TestRunning")

    kube.delete(KIND, running[0], namespace)

    wait_ended(kube, namespace, waiting, "True", "TestPassed")
    wait_reason(kube, namespace, running[1], "TestRunning")


def test_too_many_that_wait_are_refused(kube: Kube, namespace: str, silent: ScriptedServer) -> None:
    names = [ask(kube, namespace, f"t-{number:02}", settings=brought(silent.port)) for number in range(23)]

    def ended() -> list[str]:
        return [name for name in names if _complete(kube, namespace, name)]

    (refused,) = kube.wait(ended, "one that is refused")
    wait_ended(kube, namespace, refused, "False", "TooManyTests")


def test_mails_of_a_namespace_are_limited_and_deletion_does_not_help(
    kube: Kube, namespace: str, smtp: MailServer, mail: str, new_namespace: Callable[..., str]
) -> None:
    """A loop that creates tests can never flood a mailbox."""
    names = [
        ask(kube, namespace, f"t-{number:02}", settingsRef={"name": mail}, recipient=RECIPIENT) for number in range(20)
    ]
    for name in names:
        wait_ended(kube, namespace, name, "True", "TestPassed")
    for name in names[:10]:
        kube.delete(KIND, name, namespace)
        kube.wait_gone(KIND, name, namespace)
    late = [ask(kube, namespace, settingsRef={"name": mail}, recipient=RECIPIENT) for _ in range(3)]
    for name in late:
        wait_ended(kube, namespace, name, "False", "MailLimitReached")
    assert len(smtp.mails) == 20
    without_mail = ask(kube, namespace, settingsRef={"name": mail})
    wait_ended(kube, namespace, without_mail, "True", "TestPassed")


def patch_status(kube: Kube, namespace: str, name: str, **status: Any) -> None:
    target = f"{path(KIND, name, namespace)}/status"
    kube.api.request("PATCH", target, {"status": status}, content_type=MERGE_PATCH)


def test_interrupted_test_is_not_repeated(
    kube: Kube, namespace: str, silent: ScriptedServer, operator_process: OperatorProcess
) -> None:
    name = ask(kube, namespace, settings=brought(silent.port))
    wait_reason(kube, namespace, name, "TestRunning")
    operator_process.kill()
    began = len(silent.lines)
    # It began long ago, so that no other operator can be at it still.
    patch_status(kube, namespace, name, startTime="2001-01-01T00:00:00Z")
    operator_process.start()
    wait_ended(kube, namespace, name, "False", "Interrupted")
    assert len(silent.lines) == began


def test_what_another_operator_has_just_begun_is_left_to_it(
    kube: Kube, namespace: str, silent: ScriptedServer, operator_process: OperatorProcess, mail: str
) -> None:
    name = ask(kube, namespace, settings=brought(silent.port))
    wait_reason(kube, namespace, name, "TestRunning")
    operator_process.kill()
    operator_process.start()
    later = ask(kube, namespace, settingsRef={"name": mail})
    wait_ended(kube, namespace, later, "True", "TestPassed")
    wait_reason(kube, namespace, name, "TestRunning")


@pytest.mark.usefixtures("another_operator")
def test_of_two_operators_one_sends(kube: Kube, namespace: str, smtp: MailServer, mail: str) -> None:
    names = [ask(kube, namespace, settingsRef={"name": mail}, recipient=RECIPIENT) for _ in range(12)]
    for name in names:
        wait_ended(kube, namespace, name, "True", "TestPassed")
    assert len(smtp.mails) == 12


def test_what_has_ended_is_left_alone_until_its_time_is_over(kube: Kube, namespace: str, mail: str) -> None:
    kept = ask(kube, namespace, settingsRef={"name": mail})
    test = wait_ended(kube, namespace, kept, "True", "TestPassed")
    other = ask(kube, namespace, settingsRef={"name": mail}, ttlSecondsAfterFinished=60)
    wait_ended(kube, namespace, other, "True", "TestPassed")
    patch_status(kube, namespace, other, completionTime="2001-01-01T00:00:00Z")
    kube.wait_gone(KIND, other, namespace)
    assert resource_version(kube.get(KIND, kept, namespace)) == resource_version(test)


def test_tests_that_ended_before_the_operator_started_go_in_time(
    kube: Kube, namespace: str, mail: str, operator_process: OperatorProcess
) -> None:
    name = ask(kube, namespace, settingsRef={"name": mail})
    wait_ended(kube, namespace, name, "True", "TestPassed")
    operator_process.stop()
    patch_status(kube, namespace, name, completionTime="2001-01-01T00:00:00Z")
    operator_process.start()
    kube.wait_gone(KIND, name, namespace)


def test_namespace_with_a_running_test_can_be_deleted(
    kube: Kube, new_namespace: Callable[..., str], silent: ScriptedServer
) -> None:
    namespace = new_namespace()
    name = ask(kube, namespace, settings=brought(silent.port))
    wait_reason(kube, namespace, name, "TestRunning")
    kube.delete("Namespace", namespace)
    kube.wait_gone("Namespace", namespace, timeout=60)


# What it says


def test_password_that_the_server_repeats_is_told_nowhere(
    kube: Kube, namespace: str, loop_thread: LoopThread, operator: OperatorProcess
) -> None:
    echoed = base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode()).decode()
    refuse = say(f"535 5.7.8 no: {PASSWORD} {quote(PASSWORD)} {echoed}")
    ehlo = say("250-mail.acme.example\n250-ENHANCEDSTATUSCODES\n250 AUTH PLAIN")
    with loop_thread.entered(scripted_server({"EHLO": ehlo, "AUTH": refuse})) as server:
        name = ask(kube, namespace, settings=server_spec(MailServer(port=server.port)))
        test = wait_ended(kube, namespace, name, "False", "BadCredentials")
    (event,) = kube.wait(lambda: events_about(kube, namespace, name), "its event")
    assert any("535" in line for line in test["status"]["dialogue"])
    for told in (str(test), str(event), operator.log_text()):
        for secret in (PASSWORD, quote(PASSWORD), echoed):
            assert secret not in told
