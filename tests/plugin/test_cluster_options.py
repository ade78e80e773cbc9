"""Commands that a person is told reach the cluster that the command was told to look at."""

import argparse
import json
import shlex
from collections.abc import Callable
from typing import Any, Final

import pytest

from mailsettings.core.oauth2.consent import ConsentResult
from mailsettings.plugin import __main__ as plugin
from mailsettings.plugin.advice import filled, known_of_cluster
from mailsettings.plugin.authorize import run as authorize
from mailsettings.plugin.authorize.target import target_of
from mailsettings.plugin.command import CommandError
from mailsettings.plugin.rotate import run as rotate
from mailsettings.plugin.rotate.outcome import Outcome
from mailsettings.plugin.status import run as status
from mailsettings.plugin.status.chain import Seen, system_chain, tenant_chain
from mailsettings.plugin.test import run as test
from tests.plugin.test_status import GOOD, NOW, OWN, condition, settings

GIVEN: Final = ["--context=other one", "--kubeconfig", "/tmp/k"]
FLAGS: Final = "--context='other one' --kubeconfig=/tmp/k"
RUNS: Final = pytest.mark.parametrize("run", [authorize, rotate, status, test], ids=lambda run: run.__name__)


def options(context: str | None = None, kubeconfig: str | None = None) -> argparse.Namespace:
    return argparse.Namespace(context=context, kubeconfig=kubeconfig)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("kubectl get mss x | kubectl apply -f -", "kubectl --context=c get mss x | kubectl --context=c apply -f -"),
        ("kubectl run dns -- nslookup HOST", "kubectl --context=c run dns -- nslookup HOST"),
        ("kubectl mailsettings authorize NAME", "kubectl mailsettings --context=c authorize NAME"),
        ("kubectl mailsettings explain NotFound", "kubectl mailsettings explain NotFound"),
        ("kubectl config get-contexts", "kubectl config get-contexts"),
        ("openssl s_client", "openssl s_client"),
    ],
)
def test_kubectl_is_told_its_cluster(command: str, expected: str) -> None:
    assert filled(command, known_of_cluster(options("c"))) == expected
    assert filled(command, known_of_cluster(options())) == command


def test_contexts_are_those_of_the_kubeconfig() -> None:
    assert (
        filled("kubectl config get-contexts", known_of_cluster(options("c", "/k")))
        == "kubectl --kubeconfig=/k config get-contexts"
    )


@pytest.mark.parametrize("evil", ["$(id)", "a;b", "a b", "`id`", "a'b", "~/x", "*"])
def test_a_shell_takes_the_options_as_they_were_given(evil: str) -> None:
    said = filled("kubectl get mss", known_of_cluster(options(evil, evil)))
    assert shlex.split(said) == ["kubectl", f"--context={evil}", f"--kubeconfig={evil}", "get", "mss"]


@pytest.mark.parametrize("evil", ["a\nb", "\x1b[31m", ""])
def test_what_steers_a_terminal_is_left_out(evil: str) -> None:
    assert known_of_cluster(options(evil)) == {}


def has_main(monkeypatch: pytest.MonkeyPatch, run: Any, main: Callable[[], object]) -> None:
    """Replaces what a command does by something that ends at once; all but `test` have an event loop."""

    async def in_a_loop(*_: object) -> object:
        return main()

    monkeypatch.setattr(run, "_main", (lambda *_: main()) if run is test else in_a_loop)


@RUNS
def test_what_helps_where_a_command_comes_to_nothing(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise CommandError("NotFound", "There is none. Those that there are:", "kubectl get mss -n shop")

    has_main(monkeypatch, run, fail)
    assert plugin.main([run.__name__.split(".")[-2], "mail", *GIVEN]) == 1
    assert f"\n    kubectl {FLAGS} get mss -n shop\n" in capsys.readouterr().err


NO_CONSENT: Final = (
    condition("Authorized", "False", "ConsentRequired", "Nobody has. Run: `kubectl mailsettings authorize NAME`"),
    condition("Ready", "False", "ConsentRequired"),
)


def consent_wanted(run: Any) -> object:
    """What each command finds, with a command in it."""
    message = NO_CONSENT[0]["message"]
    oauth2 = {"username": "a@acme.example", "grant": "AuthorizationCode", "clientID": "c"}
    document = settings(*GOOD[:2], *NO_CONSENT, spec={**OWN, "auth": {"oauth2": oauth2}})
    if run is status:
        system = system_chain(settings(*GOOD[:2], *NO_CONSENT, kind="ClusterMailServerSettings"), NOW)
        return "", [tenant_chain(document, None, Seen(), NOW, may_read_system=True), system]
    if run is rotate:
        return document, Outcome(renewed=False, reason="ConsentRequired", message=message)
    if run is authorize:
        spec = {**document["spec"], "provider": "Google", "mailFrom": "a@acme.example"}
        spec.pop("connection")
        target = target_of({**document, "metadata": {**document["metadata"], "uid": "u"}, "spec": spec})
        return target, ConsentResult(authorized=False, reason="ConsentRequired", message=message)
    conditions = [
        condition("Complete", "True", "ConsentRequired"),
        condition("Succeeded", "False", "ConsentRequired", message),
    ]
    return {
        "metadata": {"name": "mail-x", "namespace": "shop"},
        "spec": {"settingsRef": {"name": "mail"}},
        "status": {"conditions": conditions},
    }, {"NAME": "mail -n shop"}


@RUNS
def test_what_to_do_about_a_failure(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    has_main(monkeypatch, run, lambda: consent_wanted(run))
    assert plugin.main([run.__name__.split(".")[-2], "mail", *GIVEN]) == 1
    said = capsys.readouterr().out
    assert f"    kubectl mailsettings {FLAGS} authorize mail -n shop\n" in said
    assert (f" kubectl mailsettings {FLAGS} authorize --cluster default\n" in said) is (run is status)


def test_programs_get_the_same(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    has_main(monkeypatch, status, lambda: consent_wanted(status))
    assert plugin.main(["status", *GIVEN, "-o", "json"]) == 1
    failing = {each["failing"]["commands"][0] for each in json.loads(capsys.readouterr().out)["settings"]}
    assert f"kubectl mailsettings {FLAGS} authorize mail -n shop" in failing


def test_a_test_that_goes_on_is_looked_at_in_its_cluster() -> None:
    late = test._late({"metadata": {"name": "x", "namespace": "shop"}, "status": {"observedGeneration": 1}})
    assert filled(late.commands[0], known_of_cluster(options("c"))) == "kubectl --context=c get mst x -n shop"
