"""`kubectl mailsettings authorize` end to end: a process with a person's own rights, and a running operator."""

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import urllib.error
import urllib.request
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pytest

from dev.cluster import Cluster
from dev.loop_thread import LoopThread
from dev.operator_process import NAMESPACE, OperatorProcess
from mailsettings.api import names
from mailsettings.plugin.authorize.command import AUTHORIZE
from mailsettings.plugin.authorize.flow import Patience
from mailsettings.plugin.authorize.run import authorize
from mailsettings.plugin.command import CommandError
from mailsettings.plugin.terminal import Terminal
from tests.support.consent_pages import query
from tests.support.identity_provider import (
    ACCOUNT,
    CLIENT_ID,
    CLIENT_SECRET,
    SCOPE,
    IdentityProvider,
    RegisteredClient,
    identity_provider,
)
from tests.support.kube import Json, Kube, reason_of
from tests.support.plugin import RBAC, Person, Running, bind
from tests.support.smtp_server import MailServer

KIND: Final = names.TENANT_KIND
OTHER: Final = "somebody@acme.example"


# --- people and what they work with ---


@pytest.fixture
def provider(loop_thread: LoopThread) -> Iterator[IdentityProvider]:
    with loop_thread.entered(identity_provider()) as provider:
        provider.accounts.add(OTHER)
        yield provider


@pytest.fixture
def port() -> int:
    """A free one."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def redirect_uri(provider: IdentityProvider, port: int) -> str:
    """What the provider knows; this one compares the port, too."""
    uri = f"http://127.0.0.1:{port}"
    provider.register(RegisteredClient(secret=CLIENT_SECRET, redirect_uris=frozenset({uri})))
    return uri


@pytest.fixture
def person(somebody: Callable[..., Person]) -> Callable[..., Person]:
    """In place of the one with a browser alone."""
    return somebody


def spec(provider: IdentityProvider, server: MailServer, grant: str, secret: str = "oauth2") -> Json:
    endpoint = {
        "AuthorizationCode": {"authorizationURI": provider.authorization_uri},
        "DeviceCode": {"deviceAuthorizationURI": provider.device_authorization_uri},
    }[grant]
    return {
        "mailFrom": f"Acme <{ACCOUNT}>",
        "provider": "Custom",
        "connection": {"host": "127.0.0.1", "port": server.port, "timeout": "3s", "tls": {"mode": "Disabled"}},
        "auth": {
            "oauth2": {
                "username": ACCOUNT,
                "grant": grant,
                "clientID": CLIENT_ID,
                "clientAuth": {"secretRef": {"name": secret, "key": "secret"}},
                "tokenURI": provider.token_uri,
                "scopes": [SCOPE, "openid", "email", "offline_access"],
                "accountCheck": {"claim": "email"},
                **endpoint,
            }
        },
    }


@pytest.fixture
def server(serve: Callable[..., MailServer], provider: IdentityProvider) -> MailServer:
    """Takes what is live at the provider."""
    return serve(
        auth_required=True,
        auth_without_tls=True,
        mechanisms=("XOAUTH2",),
        takes=lambda said: said.username == ACCOUNT and provider.is_live(said.token),
    )


Create = Callable[..., Json]


@pytest.fixture
def create(
    operator: OperatorProcess, kube: Kube, namespace: str, provider: IdentityProvider, server: MailServer
) -> Create:
    """Creates the settings `mail`, which wait for a consent."""

    def create_settings(grant: str = "AuthorizationCode") -> Json:
        kube.secret("oauth2", namespace, secret=CLIENT_SECRET)
        kube.create(KIND, "mail", namespace, spec=spec(provider, server, grant))
        return kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentRequired")

    return create_settings


def log_in(provider: IdentityProvider, url: str, **how: Any) -> str:
    """A person at the provider; the address that the browser is sent to."""
    return asyncio.run(provider.log_in(url, **how))


def visit(url: str) -> tuple[int, str]:
    """What a browser shows of a page of this machine."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def own_secrets(kube: Kube, namespace: str) -> list[str]:
    """The consent Secrets that people have created."""
    items = kube.api.request("GET", f"/api/v1/namespaces/{namespace}/secrets")["items"]
    return [item["metadata"]["name"] for item in items if item["type"] == names.CONSENT_TYPE]


def assert_discreet(running: Running, provider: IdentityProvider, sent: str = "") -> None:
    """Nothing secret was printed; the state only in the address that is to be opened."""
    said = re.sub(r"^(\x1b\[1m)?https://\S+$", "", running.err, flags=re.MULTILINE) + running.out
    secret = [*provider.pages.codes, *provider._access_tokens, *provider._refresh_tokens, CLIENT_SECRET]
    secret += [value for key, value in query(sent).items() if key in ("code", "state")]
    assert [value for value in secret if value in said] == []


# --- the code ---


def test_consent_in_the_browser_leads_to_ready(
    create: Create,
    kube: Kube,
    namespace: str,
    person: Callable[..., Person],
    provider: IdentityProvider,
    redirect_uri: str,
    port: int,
    tmp_path: Path,
) -> None:
    """With nothing but the built-in role `edit` in the namespace, which is that of the kubeconfig's context."""
    settings = create()
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho noise; echo "$1" > {opened}.part; mv {opened}.part {opened}\n')
    browser.chmod(0o755)

    with person("edit", browser=str(browser)).runs("authorize", "mail", "--port", str(port)) as running:
        url = running.wait_url()
        kube.wait(opened.exists, "the browser")
        assert opened.read_text().strip() == url
        (name,) = own_secrets(kube, namespace)
        assert name.startswith("mailsettings-authorize-")
        secret = kube.get("Secret", name, namespace)
        assert secret is not None
        assert {entry["manager"] for entry in secret["metadata"]["managedFields"]} == {
            "kubectl-mailsettings",
            "mailsettings-operator",
        }
        (owner,) = secret["metadata"]["ownerReferences"]
        uid = settings["metadata"]["uid"]
        assert owner == {**owner, "kind": KIND, "name": "mail", "uid": uid}
        assert not owner.keys() & {"controller", "blockOwnerDeletion"}, "it holds up no deletion"
        sent = log_in(provider, url)
        status, page = visit(sent)
        assert status == 200
        assert "You can close this window; go back to the terminal." in page
        assert running.wait() == 0

    assert running.out == f"Authorized: Mail can be sent for {ACCOUNT}; its tokens are kept and\nrenewed.\n"
    assert "\x1b" not in running.err
    assert max(len(line) for line in running.err.splitlines() if line != url) <= 80
    assert own_secrets(kube, namespace) == []
    assert query(url)["redirect_uri"] == redirect_uri
    kube.wait_ready("mail", namespace)
    assert_discreet(running, provider, sent)


def test_other_answers_do_not_end_the_attempt(
    create: Create,
    person: Callable[..., Person],
    provider: IdentityProvider,
    redirect_uri: str,
    port: int,
) -> None:
    create()
    with person("edit").runs("authorize", "mail", "--port", str(port), "-o", "json") as running:
        sent = log_in(provider, running.wait_url())
        state = query(sent)["state"]
        assert visit(f"{redirect_uri}/?code=x&state=wrong")[0] == 400
        assert visit(f"{redirect_uri}/?error=access_denied")[0] == 400
        assert visit(f"{redirect_uri}/other?code=x&state={state}")[0] == 404
        assert visit(f"{redirect_uri}/favicon.ico")[0] == 404
        assert running.process.poll() is None
        assert visit(sent)[0] == 200
        assert running.wait() == 0
    assert json.loads(running.out)["authorized"] is True
    assert_discreet(running, provider, sent)


def test_refusal_at_the_provider_is_told(
    create: Create,
    kube: Kube,
    namespace: str,
    person: Callable[..., Person],
    provider: IdentityProvider,
    redirect_uri: str,
    port: int,
) -> None:
    create()
    with person("edit").runs("authorize", "mail", "--port", str(port), "-o", "json") as running:
        sent = log_in(provider, running.wait_url(), decision="decline")
        assert "No consent was given" in visit(sent)[1]
        assert running.wait() == 1
    result = json.loads(running.out)
    assert (result["authorized"], result["reason"]) == (False, "ConsentDenied")
    assert "ConsentDenied" not in running.err
    kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentDenied")
    assert own_secrets(kube, namespace) == []
    assert_discreet(running, provider, sent)


def test_wrong_account_is_told(
    create: Create,
    person: Callable[..., Person],
    provider: IdentityProvider,
    redirect_uri: str,
    port: int,
) -> None:
    create()
    with person("edit").runs("authorize", "mail", "--port", str(port)) as running:
        visit(log_in(provider, running.wait_url(), account=OTHER))
        assert running.wait() == 1
    assert running.out.startswith("WrongAccount: ")
    assert "WrongAccount" not in running.err


# --- pasting ---


def test_pasted_address_leads_to_ready(
    create: Create,
    kube: Kube,
    namespace: str,
    person: Callable[..., Person],
    provider: IdentityProvider,
    redirect_uri: str,
    port: int,
) -> None:
    create()
    someone = person("edit")
    with someone.runs("authorize", "mail", "--paste", "--port", str(port), terminal=True) as running:
        url = running.wait_url()
        running.wait_text("it is not shown")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        sent = log_in(provider, url)
        running.type(url)
        running.wait_text("That address cannot be used: it does not begin with")
        filler = "x" * 6000  # a terminal that reads by lines cuts off what comes after 4095 bytes
        running.type(f"{sent}&session_state={filler}")
        assert running.wait() == 0
    assert "Authorized: Mail can be sent" in running.err
    assert "\x1b[32mAuthorized" in running.err
    assert filler not in running.err
    assert_discreet(running, provider, sent)
    assert own_secrets(kube, namespace) == []
    kube.wait_ready("mail", namespace)


@pytest.mark.parametrize("lines", [["x", "y", "z"], []], ids=["three tries", "end of input"])
def test_pasting_in_vain_ends(
    create: Create,
    kube: Kube,
    namespace: str,
    person: Callable[..., Person],
    redirect_uri: str,
    lines: list[str],
) -> None:
    create()
    with person("edit").runs("authorize", "mail", "--paste") as running:
        running.wait_text("it is not shown")
        for line in lines:
            running.type(line)
        assert running.process.stdin is not None
        running.process.stdin.close()
        assert running.wait() == 1
    assert "NotPasted: " in running.err
    assert own_secrets(kube, namespace) == []


# --- device code ---


def test_device_code_leads_to_ready(
    create: Create,
    kube: Kube,
    namespace: str,
    person: Callable[..., Person],
    provider: IdentityProvider,
    redirect_uri: str,
) -> None:
    create("DeviceCode")
    with person("edit").runs("authorize", "mail", terminal=True) as running:
        assert running.wait_text(r"(https://\S+/device)\b") == f"{provider.origin}/device"
        code = running.wait_text(r"^\S*    ([0-9A-F]{4}-[0-9A-F]{4})")
        running.wait_text("Waiting for the code to be entered, for (9|10) minutes at most")
        asyncio.run(provider.log_in_device(code))
        assert running.wait() == 0
    assert own_secrets(kube, namespace) == []
    kube.wait_ready("mail", namespace)
    assert_discreet(running, provider)
    assert [device for device in provider.pages.devices if device in running.err] == []


# --- the system's settings ---


def test_cluster_object_needs_the_rights_in_the_operators_namespace(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    person: Callable[..., Person],
    provider: IdentityProvider,
    server: MailServer,
    redirect_uri: str,
    port: int,
) -> None:
    name = f"system-{namespace}"
    kube.secret(name, NAMESPACE, secret=CLIENT_SECRET)
    content = {**spec(provider, server, "AuthorizationCode", name), "tenants": _tenants(namespace)}
    kube.create(names.CLUSTER_KIND, name, spec=content)
    role = "mailsettings-cluster-admin"
    admin = person()
    account = admin.folder.name
    try:
        kube.create(KIND, "mail", namespace, spec={"systemSettingsRef": {"name": name}})
        with person("edit").runs("authorize", "mail") as running:
            assert running.wait() == 1
        assert f"kubectl mailsettings authorize --cluster {name}" in " ".join(running.err.split())

        arguments = ["authorize", "--cluster", name, "--port", str(port)]
        with admin.runs(*arguments) as running:
            assert running.wait() == 1
        assert f"Forbidden: You may not read {names.CLUSTER_KIND} {name}: " in " ".join(running.err.split())

        body = {
            "metadata": {"name": account},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        }
        kube.api.request("POST", f"{RBAC}/clusterrolebindings", body)
        with admin.runs(*arguments) as running:
            assert running.wait() == 1
        assert f"You may not create Secrets in the namespace {NAMESPACE}: " in " ".join(running.err.split())

        bind(kube, account, namespace, role, kind="Role", where=NAMESPACE)
        with admin.runs(*arguments) as running:
            url = running.wait_url()
            (asked,) = own_secrets(kube, NAMESPACE)
            (owner,) = (kube.get("Secret", asked, NAMESPACE) or {})["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["name"]) == (names.CLUSTER_KIND, name)
            visit(log_in(provider, url))
            assert running.wait() == 0
        assert own_secrets(kube, NAMESPACE) == []
        settings = kube.wait_ready("mail", namespace)
        assert reason_of(settings, "Authorized") == ("True", "Authorized")
    finally:
        kube.patch(names.CLUSTER_KIND, name, metadata={"annotations": {names.ANNOTATION_ALLOW_DELETION: "true"}})
        kube.delete(names.CLUSTER_KIND, name)
        kube.delete("Secret", name, NAMESPACE)
        for path in (f"namespaces/{NAMESPACE}/rolebindings/{account}-{role}", f"clusterrolebindings/{account}"):
            kube.api.request("DELETE", f"{RBAC}/{path}")


def _tenants(namespace: str) -> Json:
    return {"delivery": "Credentials", "namespaces": [namespace]}


# --- what cannot be ---


def test_whoever_may_only_look_is_told_which_right_is_missing(
    create: Create, kube: Kube, namespace: str, person: Callable[..., Person]
) -> None:
    create()
    with person("view").runs("authorize", "mail", "-o", "json") as running:
        assert running.wait() == 1
    result = json.loads(running.out)
    assert result["reason"] == "Forbidden"
    assert f"You may not create Secrets in the namespace {namespace}: " in result["message"]
    with person().runs("authorize", "mail") as running:
        assert running.wait() == 1
    assert f"Forbidden: You may not read MailServerSettings {namespace}/mail: " in " ".join(running.err.split())


def test_settings_that_are_not_there_are_named(
    installed: Cluster, namespace: str, person: Callable[..., Person]
) -> None:
    with person("edit").runs("authorize", "nothing", "-n", namespace) as running:
        assert running.wait() == 1
    assert running.err.startswith(f"NotFound: There is no MailServerSettings {namespace}/nothing.")


# --- its end ---


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_leaves_nothing_behind(
    create: Create, kube: Kube, namespace: str, person: Callable[..., Person], sent: signal.Signals
) -> None:
    create()
    with person("edit").runs("authorize", "mail") as running:
        running.wait_text("Waiting for the answer")
        assert len(own_secrets(kube, namespace)) == 1
        running.process.send_signal(sent)
        assert running.wait() == 1
    assert own_secrets(kube, namespace) == []
    assert running.err.endswith("Interrupted: Interrupted; nothing was authorized.\n")


def test_control_c_ends_pasting_and_gives_the_terminal_back(
    create: Create, kube: Kube, namespace: str, person: Callable[..., Person]
) -> None:
    import termios

    create()
    with person("edit").runs("authorize", "mail", "--paste", terminal=True) as running:
        running.wait_text("it is not shown")
        kube.wait(lambda: not termios.tcgetattr(running.keyboard)[3] & termios.ECHO, "the terminal to be silent")
        os.kill(running.process.pid, signal.SIGINT)
        assert running.process.wait(20) == 1
        assert termios.tcgetattr(running.keyboard)[3] & termios.ECHO
    assert own_secrets(kube, namespace) == []


def test_time_that_is_up_leaves_nothing_behind(
    create: Create, kube: Kube, namespace: str, person: Callable[..., Person]
) -> None:
    create()
    with person("edit").runs("authorize", "mail", "--timeout", "3s") as running:
        assert running.wait() == 1
    assert "\nTimedOut: " in running.err
    assert own_secrets(kube, namespace) == []


def test_operator_that_does_not_run_is_told(
    create: Create,
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    person: Callable[..., Person],
) -> None:
    create()
    someone = person("edit")
    operator.stop()
    said = StringIO()
    options = _options("authorize", "mail", "--kubeconfig", str(someone.kubeconfig), "--no-browser")
    patience = Patience(note=timedelta(seconds=0.5), silence=timedelta(seconds=1))
    with pytest.raises(CommandError) as caught:
        asyncio.run(authorize(options, Terminal(said, said, {}), patience))
    assert caught.value.reason == "OperatorSilent"
    assert "it does not seem to run" in said.getvalue().replace("\n", " ")
    program = f"kubectl --kubeconfig={shlex.quote(str(someone.kubeconfig))}"
    assert f"\n    {program} get pods -n {NAMESPACE}\n" in said.getvalue()
    assert own_secrets(kube, namespace) == []


def _options(*arguments: str) -> Namespace:
    from mailsettings.plugin.__main__ import _parser

    options = _parser().parse_args(arguments)
    assert options.command is AUTHORIZE
    return options
