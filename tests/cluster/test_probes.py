"""The probe, end to end: how far it goes, when it runs, what it says, and what it leaves alone."""

import asyncio
import contextlib
import secrets
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from dev.cluster import Cluster
from dev.loop_thread import LoopThread
from dev.operator_process import OperatorProcess
from mailsettings.core.mails import MAX_MAILS
from tests.cluster.conftest import server_spec
from tests.support.history import settings_changes
from tests.support.kube import MERGE_PATCH, Json, Kube, condition, path, reason_of, resource_version
from tests.support.listening import free_port
from tests.support.proxies import PROXY_LOGIN, RealProxy
from tests.support.smtp_server import (
    PASSWORD,
    USERNAME,
    Act,
    MailServer,
    Peer,
    ScriptedServer,
    another_authority_pem,
    certificate,
    close,
    hang,
    reset,
    say,
    say_bytes,
    scripted_server,
)

Serve = Callable[..., MailServer]
Script = Callable[..., ScriptedServer]

REQUEST: Final = "mailsettings.dev/probe-requested-at"


@pytest.fixture
def script(loop_thread: LoopThread) -> Iterator[Script]:
    """Starts misbehaving servers with the arguments of `scripted_server`; they stop with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(
            loop_thread.entered(scripted_server(*arguments, **options))
        )


@pytest.fixture(autouse=True)
def password(kube: Kube, namespace: str) -> None:
    """The Secret that every spec here refers to."""
    kube.secret("smtp", namespace, password=PASSWORD)


def spec_for(port: int, *, tls: Mapping[str, Any] | None = None, timeout: str = "5s", **fields: Any) -> dict[str, Any]:
    """Settings for a server on the loopback; a field of None is left out."""
    spec = server_spec(MailServer(port=port))
    spec["connection"] |= {"timeout": timeout, "tls": tls or {"mode": "Disabled"}}
    return {key: value for key, value in {**spec, **fields}.items() if value is not None}


def create(kube: Kube, namespace: str, spec: Mapping[str, Any], name: str = "mail") -> None:
    kube.create("MailServerSettings", name, namespace, spec=spec)


def wait_failed(kube: Kube, namespace: str, reason: str, *, name: str = "mail") -> Json:
    """The settings once their probe has failed for the reason; the status repeats it in every place."""
    settings = kube.wait_condition(name, namespace, "ProbeSucceeded", "False", reason)
    failure = settings["status"]["probe"]["failure"]
    found = condition(settings, "ProbeSucceeded")
    assert found is not None
    assert failure["cause"] == reason
    docs = f" See {failure['docs']}." if "docs" in failure else ""
    assert found["message"] == f"{failure['message']} {failure['remedy']}{docs}"
    assert reason_of(settings, "Ready") == ("False", reason)
    assert reason_of(settings, "Delivered") == ("True", "Delivered")
    assert reason_of(settings, "Reconciling") is None
    assert PASSWORD not in str(settings)
    return settings


def probe_status(settings: Json) -> Json:
    return dict(settings["status"]["probe"])


def moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def time_until_next(settings: Json) -> timedelta:
    status = probe_status(settings)
    return moment(status["nextProbeTime"]) - moment(status["lastProbeTime"])


def patch_status(kube: Kube, name: str, namespace: str, status: Mapping[str, Any]) -> None:
    """Writes the status as somebody who may."""
    target = f"{path('MailServerSettings', name, namespace)}/status"
    kube.api.request("PATCH", target, {"status": status}, content_type=MERGE_PATCH)


def make_due(kube: Kube, name: str, namespace: str) -> None:
    """Says that the next probe was due long ago."""
    patch_status(kube, name, namespace, {"probe": {"nextProbeTime": "2001-01-01T00:00:00Z"}})


def settle(kube: Kube, namespace: str, server: MailServer) -> None:
    """Returns when what happened before has been acted on: something later has been."""
    name = f"later-{secrets.token_hex(4)}"
    create(kube, namespace, spec_for(server.port), name)
    kube.wait_ready(name, namespace)


# How far it goes, and how it is protected


TRANSPORTS: Final = ("Disabled", "StartTLS", "Implicit")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", ["Connect", "Authenticate", "Send"])
def test_every_mode_goes_as_far_as_it_says_over_every_transport(
    operator: OperatorProcess, kube: Kube, namespace: str, serve: Serve, transport: str, mode: str
) -> None:
    its = certificate("127.0.0.1")
    server = {
        "Disabled": lambda: serve(auth_required=True, auth_without_tls=True),
        "StartTLS": lambda: serve(start_tls=its.context, auth_required=True),
        "Implicit": lambda: serve(implicit_tls=its.context, auth_required=True),
    }[transport]()
    tls: dict[str, Any] = {"mode": transport}
    if transport != "Disabled":
        kube.create("ConfigMap", "ca", namespace, data={"ca.crt": its.ca_pem})
        tls["caBundle"] = {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}
    probe = {"mode": mode} | ({"recipient": "ops@acme.example"} if mode == "Send" else {})
    create(kube, namespace, spec_for(server.port, tls=tls, probe=probe))

    settings = kube.wait_ready("mail", namespace)

    status = probe_status(settings)
    assert (status["mode"], status["consecutiveFailures"]) == (mode, 0)
    assert status["lastProbeTime"] == status["lastSuccessTime"]
    assert "failure" not in status
    assert server.connections == 1
    assert len(server.attempts) == (0 if mode == "Connect" else 1)
    assert len(server.mails) == (1 if mode == "Send" else 0)
    if mode == "Send":
        (mail,) = server.mails
        assert (mail.sender, mail.recipients) == (USERNAME, ["ops@acme.example"])
        assert mail.message["Subject"] == f"Test mail of MailServerSettings {namespace}/mail"


def test_starttls_is_never_given_up(operator: OperatorProcess, kube: Kube, namespace: str, script: Script) -> None:
    """Whoever takes STARTTLS out of the server's offer gets no password."""
    server = script()
    create(kube, namespace, spec_for(server.port, tls={"mode": "StartTLS"}))

    settings = wait_failed(kube, namespace, "StartTlsNotOffered")

    assert reason_of(settings, "Stalled") == ("True", "StartTlsNotOffered")
    assert probe_status(settings)["failure"]["stage"] == "tls"
    assert [line for line in server.lines if line.startswith(("AUTH", "MAIL"))] == []


def test_a_private_authority_is_trusted_from_a_secret_too_and_another_is_not(
    operator: OperatorProcess, kube: Kube, namespace: str, serve: Serve
) -> None:
    its = certificate("127.0.0.1")
    server = serve(start_tls=its.context, auth_required=True)
    kube.secret("ca", namespace, **{"ca.crt": another_authority_pem()})
    bundle = {"secretKeyRef": {"name": "ca", "key": "ca.crt"}}
    create(kube, namespace, spec_for(server.port, tls={"mode": "StartTLS", "caBundle": bundle}))
    settings = wait_failed(kube, namespace, "CertificateUntrusted")
    assert reason_of(settings, "Stalled") == ("True", "CertificateUntrusted")
    assert server.attempts == []

    kube.delete("Secret", "ca", namespace)
    kube.secret("ca", namespace, **{"ca.crt": its.ca_pem})

    kube.wait_ready("mail", namespace)


def test_without_a_bundle_a_private_authority_is_not_trusted(
    operator: OperatorProcess, kube: Kube, namespace: str, serve: Serve
) -> None:
    server = serve(implicit_tls=certificate("127.0.0.1").context, auth_required=True)
    create(kube, namespace, spec_for(server.port, tls={"mode": "Implicit"}))

    wait_failed(kube, namespace, "CertificateUntrusted")

    assert server.attempts == []
    kube.patch("MailServerSettings", "mail", namespace, spec={"connection": {"tls": {"insecureSkipVerify": True}}})
    settings = kube.wait_ready("mail", namespace)
    accepted = condition(settings, "Accepted")
    assert accepted is not None
    assert "insecureSkipVerify lets anyone" in accepted["message"]


def test_the_certificate_must_bear_the_host_or_the_server_name(
    operator: OperatorProcess, kube: Kube, namespace: str, serve: Serve
) -> None:
    its = certificate("mail.acme.example")
    server = serve(start_tls=its.context, auth_required=True)
    kube.create("ConfigMap", "ca", namespace, data={"ca.crt": its.ca_pem})
    tls = {"mode": "StartTLS", "caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}}
    create(kube, namespace, spec_for(server.port, tls=tls))
    wait_failed(kube, namespace, "CertificateNameMismatch")

    kube.patch(
        "MailServerSettings", "mail", namespace, spec={"connection": {"tls": {"serverName": "mail.acme.example"}}}
    )

    kube.wait_ready("mail", namespace)


def test_the_minimum_version_is_kept(operator: OperatorProcess, kube: Kube, namespace: str, serve: Serve) -> None:
    its = certificate("127.0.0.1")
    its.context.maximum_version = ssl.TLSVersion.TLSv1_2
    server = serve(start_tls=its.context, auth_required=True)
    kube.create("ConfigMap", "ca", namespace, data={"ca.crt": its.ca_pem})
    bundle = {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}
    tls = {"mode": "StartTLS", "caBundle": bundle, "minVersion": "TLSv1.3"}
    create(kube, namespace, spec_for(server.port, tls=tls))
    settings = kube.wait_condition("mail", namespace, "ProbeSucceeded", "False")
    # The reason depends on whether the server says why before it hangs up; aiosmtpd does not.
    assert probe_status(settings)["failure"]["stage"] == "tls"
    assert server.attempts == []

    kube.patch("MailServerSettings", "mail", namespace, spec={"connection": {"tls": {"minVersion": "TLSv1.2"}}})

    kube.wait_ready("mail", namespace)


def test_an_open_relay_needs_no_auth(operator: OperatorProcess, kube: Kube, namespace: str, serve: Serve) -> None:
    server = serve()
    create(kube, namespace, spec_for(server.port, auth=None))
    settings = kube.wait_ready("mail", namespace)
    assert probe_status(settings)["mode"] == "Connect"
    assert reason_of(settings, "CredentialsResolved") == ("True", "NothingToResolve")

    kube.patch(
        "MailServerSettings", "mail", namespace, spec={"probe": {"mode": "Send", "recipient": "ops@acme.example"}}
    )
    kube.wait_ready("mail", namespace)

    assert [mail.recipients for mail in server.mails] == [["ops@acme.example"]]
    assert server.attempts == []
    values = kube.secret_data("mail-smtp", namespace)
    assert values is not None
    assert {"username", "password"} & values.keys() == set()


def test_disabled_probes_leave_no_trace(
    operator: OperatorProcess, kube: Kube, namespace: str, serve: Serve, smtp: MailServer
) -> None:
    server = serve()
    create(kube, namespace, spec_for(server.port, probe={"mode": "Disabled"}))

    settings = kube.wait_ready("mail", namespace)
    settle(kube, namespace, smtp)

    assert condition(settings, "ProbeSucceeded") is None
    assert "probe" not in settings["status"]
    assert server.connections == 0


def test_disabling_drops_the_verdict(operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer) -> None:
    kube.patch("Secret", "smtp", namespace, stringData={"password": "wrong"})
    create(kube, namespace, spec_for(smtp.port))
    wait_failed(kube, namespace, "BadCredentials")

    kube.patch("MailServerSettings", "mail", namespace, spec={"probe": {"mode": "Disabled"}})

    settings = kube.wait_ready("mail", namespace)
    assert condition(settings, "ProbeSucceeded") is None
    assert "probe" not in settings["status"]


# What it says when it fails


def test_a_bad_password_is_reported_with_stage_and_codes_and_delivered_all_the_same(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    kube.patch("Secret", "smtp", namespace, stringData={"password": "not the password"})
    create(kube, namespace, spec_for(smtp.port))

    settings = wait_failed(kube, namespace, "BadCredentials")

    assert reason_of(settings, "Stalled") == ("True", "BadCredentials")
    failure = probe_status(settings)["failure"]
    assert (failure["stage"], failure["code"], failure["enhancedCode"]) == ("auth", 535, "5.7.8")
    assert "not the password" not in str(settings)
    assert "not the password" not in operator.log_text()
    values = kube.secret_data("mail-smtp", namespace)
    assert values is not None
    assert values["password"] == "not the password"


def test_a_refused_port_is_waited_out(operator: OperatorProcess, kube: Kube, namespace: str) -> None:
    create(kube, namespace, spec_for(free_port()))

    settings = wait_failed(kube, namespace, "ConnectionRefused")

    assert condition(settings, "Stalled") is None  # a server that is down comes back without a person
    assert probe_status(settings)["failure"]["stage"] == "connect"


def test_an_unresolvable_host_is_named(operator: OperatorProcess, kube: Kube, namespace: str) -> None:
    spec = spec_for(587)
    spec["connection"]["host"] = "mail.acme.invalid"
    create(kube, namespace, spec)

    settings = kube.wait_condition("mail", namespace, "ProbeSucceeded", "False")

    failure = probe_status(settings)["failure"]
    assert failure["stage"] == "resolve"
    assert failure["cause"] == "DnsNotFound"
    assert "mail.acme.invalid" in failure["message"]


MISBEHAVIOUR: Final[dict[str, tuple[dict[str, Act], str, str]]] = {
    "closes at once": ({"greeting": close}, "ServerTemporary", "greeting"),
    "closes after EHLO": ({"EHLO": close}, "ServerTemporary", "ehlo"),
    "resets at AUTH": ({"AUTH": reset}, "ServerTemporary", "auth"),
    "another protocol": ({"greeting": say("HTTP/1.1 400 Bad Request")}, "ProtocolError", "greeting"),
    "binary garbage": ({"greeting": say_bytes(b"\0\xff\xfe\x80\r\n" * 9)}, "ProtocolError", "greeting"),
    "garbage at AUTH": ({"AUTH": say_bytes(b"\x1b[2J\x07\xff\r\n")}, "ProtocolError", "auth"),
    "asks to come later": ({"greeting": say("421 4.3.2 busy")}, "ServerTemporary", "greeting"),
}


@pytest.mark.parametrize(("acts", "reason", "stage"), MISBEHAVIOUR.values(), ids=MISBEHAVIOUR)
def test_a_server_that_misbehaves_is_diagnosed_and_holds_nobody_up(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    script: Script,
    smtp: MailServer,
    acts: Mapping[str, Act],
    reason: str,
    stage: str,
) -> None:
    server = script(acts)
    create(kube, namespace, spec_for(server.port))

    settings = wait_failed(kube, namespace, reason)

    assert probe_status(settings)["failure"]["stage"] == stage
    assert settings["status"]["probe"]["failure"]["message"].isprintable()
    settle(kube, namespace, smtp)


def test_a_server_that_hangs_is_given_up_in_time_while_others_are_served(
    operator: OperatorProcess, kube: Kube, namespace: str, script: Script, smtp: MailServer
) -> None:
    endless, brief = script({"greeting": hang}), script({"greeting": hang})
    create(kube, namespace, spec_for(endless.port, timeout="50s"), "endless")
    create(kube, namespace, spec_for(brief.port, timeout="500ms"), "brief")

    settle(kube, namespace, smtp)
    settings = wait_failed(kube, namespace, "ConnectionTimeout", name="brief")

    assert condition(settings, "Stalled") is None
    assert timedelta(milliseconds=500) <= timedelta(milliseconds=int(probe_status(settings)["duration"][:-2]))
    waiting = kube.wait_condition("endless", namespace, "ProbeSucceeded", "Unknown", "ProbePending")
    assert reason_of(waiting, "Reconciling") == ("True", "Progressing")
    kube.delete("MailServerSettings", "endless", namespace)
    kube.wait(endless.left.is_set, "the probe of a deleted object to be broken off")


FORBIDDEN: Final = {
    "metadata service": ("169.254.169.254", 587, "metadata service"),
    "link-local": ("169.254.7.7", 25, "link-local address"),
    "private": ("10.0.0.1", 465, "private address"),
    "another port": ("198.41.0.4", 22, "port 22 is not an SMTP port"),
    "loopback in IPv6": ("::ffff:169.254.169.254", 25, "metadata service"),
}


@pytest.mark.parametrize(("host", "port", "words"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_what_the_egress_policy_forbids_is_not_connected_to(
    operator: OperatorProcess, kube: Kube, namespace: str, host: str, port: int, words: str
) -> None:
    spec = spec_for(port)
    spec["connection"]["host"] = host
    create(kube, namespace, spec)

    settings = wait_failed(kube, namespace, "EgressDenied")

    assert reason_of(settings, "Stalled") == ("True", "EgressDenied")
    failure = probe_status(settings)["failure"]
    assert words in failure["message"]
    assert "ask the cluster's administrator" in failure["remedy"]


@pytest.fixture
def strict_operator(operator: OperatorProcess, installed: Cluster, tmp_path: Path) -> Iterator[OperatorProcess]:
    """An operator whose administrator allows nothing beside the defaults, in place of the usual one."""
    operator.stop()
    strict = OperatorProcess(installed, tmp_path, {"MAILSETTINGS_EGRESS_ALLOW": ""})
    strict.start()
    yield strict
    strict.stop()
    operator.start()


def test_loopback_is_denied_by_default(
    strict_operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    spec = spec_for(2525)
    spec["connection"]["host"] = "localhost"
    create(kube, namespace, spec)
    create(kube, namespace, spec_for(smtp.port), "other-port")

    settings = wait_failed(kube, namespace, "EgressDenied")
    wait_failed(kube, namespace, "EgressDenied", name="other-port")

    assert "loopback address" in probe_status(settings)["failure"]["message"]
    assert smtp.connections == 0


# When it runs


def wait_handled(kube: Kube, namespace: str, request: str) -> None:
    def handled() -> bool:
        settings = kube.settings("mail", namespace)
        return settings is not None and probe_status(settings).get("lastHandledRequest") == request

    kube.wait(handled, f"the request {request!r} to be handled")


def test_a_request_leads_to_exactly_one_probe(
    operator: OperatorProcess, kube: Kube, namespace: str, serve: Serve, smtp: MailServer
) -> None:
    server = serve(auth_required=True, auth_without_tls=True)
    create(kube, namespace, spec_for(server.port))
    before = kube.wait_ready("mail", namespace)

    for number, value in enumerate(("2026-01-01T00:00:00Z", "once more"), start=2):
        kube.patch("MailServerSettings", "mail", namespace, metadata={"annotations": {REQUEST: value}})
        wait_handled(kube, namespace, value)
        settle(kube, namespace, smtp)
        assert server.connections == number

    kube.patch("MailServerSettings", "mail", namespace, metadata={"annotations": {REQUEST: None}})
    settle(kube, namespace, smtp)
    assert server.connections == 3
    states = settings_changes(kube, namespace, "mail", resource_version(before))
    assert {reason_of(state, "Ready") for state in states} == {("True", "Ready")}


def test_a_changed_secret_is_tested_at_once_and_the_verdict_does_not_flap(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    create(kube, namespace, spec_for(smtp.port))
    kube.wait_ready("mail", namespace)
    labels = {"output": {"metadata": {"labels": {"team": "shop"}}}}
    kube.patch("MailServerSettings", "mail", namespace, spec=labels)  # a new generation that needs no test
    before = resource_version(kube.wait_ready("mail", namespace))

    kube.patch("Secret", "smtp", namespace, stringData={"password": "rotated too early"})
    wait_failed(kube, namespace, "BadCredentials")
    kube.patch("Secret", "smtp", namespace, stringData={"password": PASSWORD})
    kube.wait_ready("mail", namespace)

    verdicts = [reason_of(state, "ProbeSucceeded") for state in settings_changes(kube, namespace, "mail", before)]
    assert list(dict.fromkeys(verdicts)) == [("False", "BadCredentials"), ("True", "ProbePassed")]
    assert [password for *_, password in smtp.attempts] == [PASSWORD, "rotated too early", PASSWORD]


def test_a_changed_spec_is_unknown_until_it_is_tested(
    operator: OperatorProcess, kube: Kube, namespace: str, script: Script, smtp: MailServer
) -> None:
    create(kube, namespace, spec_for(smtp.port, timeout="50s"))
    before = resource_version(kube.wait_ready("mail", namespace))
    released = threading.Event()

    async def late(peer: Peer) -> None:
        await asyncio.to_thread(released.wait, 50)
        await say("220 mail.acme.example ESMTP")(peer)

    port = script({"greeting": late}).port
    kube.patch("MailServerSettings", "mail", namespace, spec={"connection": {"port": port}})
    kube.wait_condition("mail", namespace, "ProbeSucceeded", "Unknown", "ProbePending")
    released.set()
    kube.wait_ready("mail", namespace)

    states = [
        state
        for state in settings_changes(kube, namespace, "mail", before)
        if state["status"]["observedGeneration"] == 2
    ]
    assert [reason_of(state, "ProbeSucceeded") for state in states] == [
        ("Unknown", "ProbePending"),
        ("True", "ProbePassed"),
    ]
    assert [reason_of(state, "Reconciling") for state in states] == [("True", "Progressing"), None]
    assert reason_of(states[0], "Ready") == ("Unknown", "ProbePending")


def test_what_does_not_matter_to_the_server_is_not_tested_again(
    operator: OperatorProcess, kube: Kube, namespace: str, serve: Serve, smtp: MailServer
) -> None:
    server = serve(auth_required=True, auth_without_tls=True)
    create(kube, namespace, spec_for(server.port))
    kube.wait_ready("mail", namespace)

    kube.patch("MailServerSettings", "mail", namespace, spec={"output": {"secretName": "other"}})
    kube.patch("Secret", "smtp", namespace, metadata={"annotations": {"note": "nothing new"}})
    settings = kube.wait_ready("mail", namespace)
    settle(kube, namespace, smtp)

    assert settings["status"]["binding"]["name"] == "other"
    assert server.connections == 1


def test_due_times_survive_a_restart(
    operator: OperatorProcess, kube: Kube, namespace: str, serve: Serve, script: Script, smtp: MailServer
) -> None:
    server, busy = serve(auth_required=True, auth_without_tls=True), script({"greeting": say("421 busy")})
    create(kube, namespace, spec_for(server.port))
    create(kube, namespace, spec_for(busy.port), "failing")
    before = [kube.wait_ready("mail", namespace), wait_failed(kube, namespace, "ServerTemporary", name="failing")]

    for _ in range(2):
        operator.stop()
        operator.start()
        settle(kube, namespace, smtp)

    assert server.connections == 1
    assert [resource_version(kube.settings(name, namespace)) for name in ("mail", "failing")] == [
        resource_version(settings) for settings in before
    ]


def test_an_overdue_probe_runs_after_a_restart(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    create(kube, namespace, spec_for(smtp.port))
    before = kube.wait_ready("mail", namespace)
    operator.stop()
    make_due(kube, "mail", namespace)
    operator.start()

    kube.wait(lambda: smtp.connections == 2, "the overdue probe")
    kube.wait(
        lambda: moment(probe_status(kube.settings("mail", namespace) or {})["nextProbeTime"]) > datetime.now(UTC),
        "the next due time",
    )
    states = settings_changes(kube, namespace, "mail", resource_version(before))
    assert {reason_of(state, "Ready") for state in states} == {("True", "Ready")}  # a periodic probe shows nothing else


def test_a_shorter_interval_counts_from_the_last_probe(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer
) -> None:
    create(kube, namespace, spec_for(smtp.port, probe={"interval": "6h"}))
    kube.wait_ready("mail", namespace)
    operator.stop()
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    patch_status(kube, "mail", namespace, {"probe": {"lastProbeTime": hour_ago}})
    operator.start()
    settle(kube, namespace, smtp)
    connections = smtp.connections

    kube.patch("MailServerSettings", "mail", namespace, spec={"probe": {"interval": "30m"}})

    kube.wait(lambda: smtp.connections > connections, "a probe by the new interval")
    settings = kube.wait(
        lambda: (s := kube.settings("mail", namespace)) and probe_status(s)["lastProbeTime"] > hour_ago and s, "it"
    )
    assert timedelta(minutes=27) <= time_until_next(settings) <= timedelta(minutes=30)


@pytest.mark.parametrize(("password_is_wrong", "first"), [(True, timedelta(minutes=10)), (False, timedelta(minutes=1))])
def test_failures_are_repeated_ever_more_rarely(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    smtp: MailServer,
    password_is_wrong: bool,
    first: timedelta,
) -> None:
    """What needs a person begins with a longer pause: servers lock accounts that fail to log in."""
    if password_is_wrong:
        kube.patch("Secret", "smtp", namespace, stringData={"password": "wrong"})
        create(kube, namespace, spec_for(smtp.port))
        reason = "BadCredentials"
    else:
        create(kube, namespace, spec_for(free_port()))
        reason = "ConnectionRefused"
    settings = wait_failed(kube, namespace, reason)
    assert probe_status(settings)["consecutiveFailures"] == 1
    assert first * 0.9 - timedelta(seconds=1) <= time_until_next(settings) <= first
    assert "lastSuccessTime" not in probe_status(settings)

    operator.stop()
    make_due(kube, "mail", namespace)
    operator.start()
    settings = kube.wait(
        lambda: (s := kube.settings("mail", namespace)) and probe_status(s)["consecutiveFailures"] == 2 and s,
        "the second failure",
    )

    assert first * 1.8 - timedelta(seconds=1) <= time_until_next(settings) <= first * 2
    if password_is_wrong:
        kube.patch("Secret", "smtp", namespace, stringData={"password": PASSWORD})
        settings = kube.wait_ready("mail", namespace)
        assert probe_status(settings)["consecutiveFailures"] == 0
        assert timedelta(hours=5) < time_until_next(settings) <= timedelta(hours=6)


def test_tenants_that_inherit_share_the_systems_probe(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    cluster_settings: Callable[..., str],
    smtp: MailServer,
    system_secret: str,
    serve: Serve,
) -> None:
    system = cluster_settings(tenants={"delivery": "Credentials", "namespaces": [namespace]})
    for number in range(5):
        kube.create("MailServerSettings", f"mail-{number}", namespace, spec={"systemSettingsRef": {"name": system}})
    for number in range(5):
        settings = kube.wait_ready(f"mail-{number}", namespace)
        assert "probe" not in settings["status"]
    settle(kube, namespace, serve(auth_required=True, auth_without_tls=True))
    assert smtp.connections == 1

    kube.patch("Secret", system_secret, "mailsettings-system", stringData={"password": "wrong"})

    for number in range(5):
        settings = kube.wait_condition(f"mail-{number}", namespace, "ProbeSucceeded", "False", "BadCredentials")
        assert reason_of(settings, "Stalled") == ("True", "BadCredentials")
    assert smtp.connections == 2


def test_a_probe_as_long_as_an_echo_is_not_repeated(
    operator: OperatorProcess, kube: Kube, namespace: str, script: Script, smtp: MailServer
) -> None:
    """The watch repeats the operator's own writing a moment later; what is older must not undo what is newer."""

    def after(seconds: float) -> Act:
        async def wait_and_greet(peer: Peer) -> None:
            await asyncio.sleep(seconds)
            await say("220 ready")(peer)

        return wait_and_greet

    servers = {f"mail-{step}": script({"greeting": after(0.001 * step)}) for step in range(40)}
    for name, server in servers.items():
        create(kube, namespace, spec_for(server.port), name)
    for name in servers:
        kube.wait_ready(name, namespace)
    settle(kube, namespace, smtp)

    greeted = {name: sum(line.startswith("EHLO") for line in server.lines) for name, server in servers.items()}
    assert greeted == dict.fromkeys(servers, 1)


# Proxies


def behind(kube: Kube, namespace: str, smtp: MailServer, port: int, **fields: Any) -> dict[str, Any]:
    """Settings with a proxy on the loopback, whose login is in a Secret."""
    kube.secret("proxy", namespace, password=PROXY_LOGIN.password)
    basic = {"username": PROXY_LOGIN.username, "passwordSecretRef": {"name": "proxy", "key": "password"}}
    spec = spec_for(smtp.port, **fields)
    spec["connection"]["proxy"] = {"protocol": "HTTP", "host": "127.0.0.1", "port": port, "basic": basic}
    return spec


def test_a_server_behind_a_proxy_that_is_listed(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer, proxy: RealProxy
) -> None:
    create(kube, namespace, behind(kube, namespace, smtp, proxy.port))
    settings = kube.wait_ready("mail", namespace)
    assert settings["status"]["effective"]["proxy"] == f"http://127.0.0.1:{proxy.port}"
    assert [each["name"] for each in probe_status(settings)["stages"]][:3] == ["resolve", "proxy", "connect"]
    assert f"127.0.0.1:{smtp.port}" in proxy.log
    secret = kube.get("Secret", "mail-smtp", namespace)
    assert secret is not None
    assert not [key for key in secret["data"] if "proxy" in key]
    assert PROXY_LOGIN.password not in f"{settings}{operator.log_text()}"


def test_a_changed_login_of_the_proxy_is_tested_at_once(
    operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer, proxy: RealProxy
) -> None:
    create(kube, namespace, behind(kube, namespace, smtp, proxy.port))
    kube.wait_ready("mail", namespace)
    kube.patch("Secret", "proxy", namespace, stringData={"password": "another word"})
    settings = wait_failed(kube, namespace, "ProxyAuthRequired")
    assert probe_status(settings)["failure"]["stage"] == "proxy"
    assert "another word" not in str(settings)


def test_a_proxy_that_is_not_listed(operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer) -> None:
    create(kube, namespace, behind(kube, namespace, smtp, free_port()))
    settings = wait_failed(kube, namespace, "EgressDenied")
    assert "does not list it" in probe_status(settings)["failure"]["message"]
    assert smtp.connections == 0


# What the server shows of itself


def test_the_status_tells_what_was_seen(operator: OperatorProcess, kube: Kube, namespace: str, serve: Serve) -> None:
    until = (datetime.now(UTC) + timedelta(days=5)).replace(microsecond=0)
    its = certificate("127.0.0.1", not_after=until)
    server = serve(start_tls=its.context, auth_required=True)
    kube.create("ConfigMap", "ca", namespace, data={"ca.crt": its.ca_pem})
    tls = {"mode": "StartTLS", "caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}}
    probe = {"mode": "Send", "recipient": "ops@acme.example"}
    create(kube, namespace, spec_for(server.port, tls=tls, probe=probe))

    settings = kube.wait_ready("mail", namespace)

    status = probe_status(settings)
    assert status["server"]["tlsVersion"] == "TLSv1.3"
    assert moment(status["server"]["certificate"]["expiresAt"]) == until
    assert status["server"]["mechanisms"] == ["LOGIN", "PLAIN"]
    assert [each["name"] for each in status["stages"]] == [
        *("resolve", "connect", "greeting", "ehlo", "tls", "auth", "mail", "rcpt", "data")
    ]
    (mail,) = server.mails
    assert status["messageID"] == mail.message["Message-ID"]
    body = mail.message.get_body(("plain",))
    assert body is not None
    assert "prod-1" in body.get_content()
    found = condition(settings, "ProbeSucceeded")
    assert found is not None
    assert "Warning: the certificate of" in found["message"]


# Test mails


def test_no_loop_floods_a_mailbox(operator: OperatorProcess, kube: Kube, namespace: str, smtp: MailServer) -> None:
    """Somebody, or a fault, has the operator forget again and again that it has sent a mail; restarts do not help."""

    def current() -> Json:
        return kube.settings("mail", namespace) or {}

    def forget() -> None:
        """As if the probe had never been."""
        patch_status(kube, "mail", namespace, {"probe": None})

    create(kube, namespace, spec_for(smtp.port, probe={"mode": "Send", "recipient": "ops@acme.example"}))
    for number in range(1, MAX_MAILS + 1):
        kube.wait(lambda number=number: len(smtp.mails) == number, "the next mail")  # type: ignore[misc]
        kube.wait(lambda: current()["status"].get("probe"), "its result")
        if number == MAX_MAILS // 2:
            operator.kill()
            forget()
            operator.start()
        else:
            forget()
    for _ in range(2):
        operator.kill()
        operator.start()
        settle(kube, namespace, smtp)
        assert "probe" not in current()["status"]
        forget()
    assert len(smtp.mails) == MAX_MAILS
    assert current()["status"]["testMails"]["sent"] == MAX_MAILS


def test_a_mail_is_counted_before_it_is_sent(
    operator: OperatorProcess, kube: Kube, namespace: str, script: Script
) -> None:
    """An operator that dies while it sends, again and again, knows of each of these mails."""
    server = script({"MAIL": hang})
    probe = {"mode": "Send", "recipient": "ops@acme.example"}
    create(kube, namespace, spec_for(server.port, timeout="1m", probe=probe))
    for number in (1, 2):
        kube.wait(lambda: sum(line.startswith("MAIL") for line in server.lines) == number, "the mail")  # noqa: B023
        operator.kill()
        status = (kube.settings("mail", namespace) or {})["status"]
        assert status["testMails"]["sent"] == number
        assert "probe" not in status
        operator.start()
