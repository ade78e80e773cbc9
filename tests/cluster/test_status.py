"""`kubectl mailsettings status` at a shell: with people's own rights, and a running operator."""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
import yaml

from dev.cluster import Cluster
from dev.operator_process import OperatorProcess
from mailsettings.api import names
from mailsettings.edges.kubernetes import METADATA, KubernetesApi
from mailsettings.plugin.__main__ import _parser
from mailsettings.plugin.status.chain import State
from mailsettings.plugin.status.run import _main
from tests.cluster.conftest import server_spec
from tests.support.kube import Kube
from tests.support.plugin import RBAC, Person
from tests.support.smtp_server import PASSWORD, MailServer

TENANT: Final = names.TENANT_KIND


@pytest.fixture
def system(operator: OperatorProcess, cluster_settings: Callable[..., str], namespace: str, kube: Kube) -> str:
    """System settings that the test's namespace may use."""
    name = cluster_settings(tenants={"delivery": "Credentials", "namespaces": [namespace]})
    kube.wait_ready(name)
    return name


@pytest.fixture
def reads_systems(kube: Kube, namespace: str) -> Iterator[Callable[[Person], Person]]:
    """Lets somebody read the cluster objects, too."""
    created = []

    def allow(person: Person) -> Person:
        name = f"reads-systems-{secrets.token_hex(3)}"
        account = person.kubeconfig.stem
        rules = [{"apiGroups": [names.GROUP], "resources": [names.CLUSTER_PLURAL], "verbs": ["get", "list"]}]
        kube.api.request("POST", f"{RBAC}/clusterroles", {"metadata": {"name": name}, "rules": rules})
        body = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        }
        kube.api.request("POST", f"{RBAC}/clusterrolebindings", body)
        created.append(name)
        return person

    yield allow
    for name in created:
        kube.api.request("DELETE", f"{RBAC}/clusterrolebindings/{name}")
        kube.api.request("DELETE", f"{RBAC}/clusterroles/{name}")


def said(person: Person, *arguments: str) -> tuple[int, str, str]:
    with person.runs("status", *arguments) as running:
        return running.wait(), running.out, running.err


def create(kube: Kube, namespace: str, name: str = "mail", **spec: Any) -> None:
    kube.create(TENANT, name, namespace, spec=spec)


def test_the_way_from_the_system_to_the_secret(
    system: str,
    kube: Kube,
    namespace: str,
    somebody: Callable[..., Person],
    reads_systems: Callable[[Person], Person],
    smtp: MailServer,
) -> None:
    create(kube, namespace, systemSettingsRef={"name": system})
    kube.wait_ready("mail", namespace)
    kube.wait(lambda: (kube.settings(system) or {})["status"]["tenants"]["inheriting"] == 1, "the tenant to be counted")
    person = reads_systems(somebody("edit"))
    status, out, err = said(person, "mail")
    assert (status, err) == (0, "")
    lines = [re.sub(r"\d+s ago, \d+ms", "TIME", line) for line in out.splitlines()]
    server = f"Custom, 127.0.0.1:{smtp.port}, TLS Disabled, Basic, from Acme"
    assert [line for line in lines if "│" not in line] == [
        f"✓ ClusterMailServerSettings {system}  Ready",
        "├─ ✓ settings     Accepted",
        "├─ ✓ credentials  Resolved",
        "├─ ✓ probe        ProbePassed, Authenticate, TIME",
        "├─ ✓ tenants      1 allowed, 1 inheriting",
        f"└─ ✓ MailServerSettings {namespace}/mail  Ready",
        "   ├─ ✓ settings     Accepted",
        "   └─ ✓ Secret       Delivered, mail-smtp",
    ]
    assert f"│ {server}" in lines
    assert max(map(len, lines)) <= 80
    assert "Warning: connection.tls.mode Disabled" in " ".join(out.split())
    assert PASSWORD not in out


def test_what_may_not_be_read_is_unknown(
    system: str, kube: Kube, namespace: str, somebody: Callable[..., Person]
) -> None:
    """`view` reads neither cluster objects nor Secrets."""
    create(kube, namespace, systemSettingsRef={"name": system})
    kube.wait_ready("mail", namespace)
    status, out, _ = said(somebody("view"), "mail")
    assert status == 0
    assert out.splitlines()[:2] == [
        f"? ClusterMailServerSettings {system}",
        "├─ ? settings     you may not read it",
    ]
    assert out.splitlines()[-1] == "   └─ ✓ Secret       Delivered, mail-smtp, you may not read it"


def test_a_terminal_shows_colours_and_the_failing_link(
    operator: OperatorProcess, kube: Kube, namespace: str, somebody: Callable[..., Person], smtp: MailServer
) -> None:
    create(kube, namespace, **server_spec(smtp))
    create(
        kube, namespace, "works", mailFrom="a@b", connection=server_spec(smtp)["connection"], probe={"mode": "Disabled"}
    )
    kube.wait_condition("mail", namespace, "Ready", "False", "SecretNotFound")
    kube.wait_ready("works", namespace)
    with somebody("edit").runs("status", terminal=True) as running:
        assert running.wait() == 1
        lines = running.err.splitlines()
    assert lines[0] == f"\x1b[31m✗ MailServerSettings {namespace}/mail  SecretNotFound\x1b[0m"
    assert "\x1b[31m├─ ✗ credentials  SecretNotFound  <-- here\x1b[0m" in lines
    assert any("there is no Secret 'smtp'" in line for line in lines)
    assert lines[-1] == f"\x1b[32m✓ MailServerSettings {namespace}/works  Ready  Secret works-smtp\x1b[0m"
    assert max(len(re.sub(r"\x1b\[\d*m", "", line)) for line in lines) <= 80
    with somebody("edit").runs("status", "-o", "wide", terminal=True) as running:
        running.wait()
        assert "└─ ✓ Secret       Delivered, works-smtp" in running.err
    dull = somebody("edit")
    with Person(dull.kubeconfig, dull.folder, {"NO_COLOR": "1"}).runs("status", terminal=True) as running:
        running.wait()
        assert "\x1b" not in running.err


def test_documents_for_programs(
    operator: OperatorProcess, kube: Kube, namespace: str, somebody: Callable[..., Person], smtp: MailServer
) -> None:
    create(kube, namespace, **server_spec(smtp))
    kube.wait_condition("mail", namespace, "Ready", "False", "SecretNotFound")
    person = somebody("edit")
    status, out, err = said(person, "mail", "-o", "json")
    assert (status, err) == (1, "")
    (found,) = json.loads(out)["settings"]
    assert (found["namespace"], found["name"], found["state"], found["system"]) == (namespace, "mail", "Failed", None)
    assert found["failing"]["name"] == "credentials"
    assert found["failing"]["reason"] == "SecretNotFound"
    assert yaml.safe_load(said(person, "mail", "-o", "yaml")[1])["settings"] == [found]


def test_the_systems_settings_and_those_of_every_namespace(
    system: str,
    kube: Kube,
    namespace: str,
    installed: Cluster,
    somebody: Callable[..., Person],
    reads_systems: Callable[[Person], Person],
) -> None:
    create(kube, namespace, systemSettingsRef={"name": system})
    kube.wait_ready("mail", namespace)
    status, out, _ = said(reads_systems(somebody()), "--cluster", system)
    assert (status, out.splitlines()[0]) == (0, f"✓ ClusterMailServerSettings {system}  Ready")
    admin = Person(installed.kubeconfig, somebody().folder)
    _, out, _ = said(admin, "-A")
    assert f"✓ ClusterMailServerSettings {system}  Ready" in out.splitlines()
    line = f"✓ MailServerSettings {namespace}/mail  Ready  Secret mail-smtp  from cmss/{system}"
    assert line in out.splitlines()


def test_refusals_and_what_is_not_there_are_told(
    installed: Cluster, namespace: str, somebody: Callable[..., Person]
) -> None:
    status, out, err = said(somebody("view"), "nothing")
    assert (status, out) == (1, "")
    assert err.replace("\n", " ").startswith(f"NotFound: There is no MailServerSettings {namespace}/nothing. ")
    assert err.endswith(f"\n    kubectl get mss -n {namespace}\n")
    status, _, err = said(somebody())
    assert status == 1
    refused = f"Forbidden: You may not read the MailServerSettings in the namespace {namespace}: "
    assert " ".join(err.split()).startswith(refused)
    status, out, err = said(somebody("view"))
    assert (status, out, err) == (0, "", f"There are no mail settings in the namespace {namespace}.\n")


def test_a_namespace_that_lives_on_the_systems_settings(
    operator: OperatorProcess,
    cluster_settings: Callable[..., str],
    kube: Kube,
    namespace: str,
    somebody: Callable[..., Person],
    reads_systems: Callable[[Person], Person],
) -> None:
    cluster_settings("default", tenants={"provision": "Always", "delivery": "Credentials", "namespaces": [namespace]})
    kube.wait(lambda: kube.get("Secret", "default-smtp", namespace), "the Secret")
    kube.wait_ready("default")
    status, out, _ = said(reads_systems(somebody("edit")), "-o", "wide")
    assert status == 0
    assert out.splitlines()[-2:] == [f"└─ ✓ Namespace {namespace}  Ready", "   └─ ✓ Secret       default-smtp"]


async def test_no_content_of_a_secret_is_read(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    somebody: Callable[..., Person],
    smtp: MailServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kube.secret("smtp", namespace, password=PASSWORD)
    create(kube, namespace, **server_spec(smtp))
    kube.wait_ready("mail", namespace)
    asked = []
    send = KubernetesApi._send

    async def noting(api: KubernetesApi, method: str, path: str, **how: Any) -> Any:
        asked.append((method, path.rpartition("/")[2], how.get("accept")))
        return await send(api, method, path, **how)

    monkeypatch.setattr(KubernetesApi, "_send", noting)
    options = _parser().parse_args(["status", "--kubeconfig", str(somebody("edit").kubeconfig)])
    _, (chain,) = await _main(options)
    assert chain.state is State.GOOD
    assert [(method, name) for method, name, _ in asked] == [("GET", names.TENANT_PLURAL), ("GET", "mail-smtp")]
    assert asked[1][2] == METADATA


def test_a_terminal_without_unicode_gets_none(
    operator: OperatorProcess, kube: Kube, namespace: str, somebody: Callable[..., Person], smtp: MailServer
) -> None:
    spec = server_spec(smtp, mailFrom="Ünï <a@b.example>")
    create(kube, namespace, **spec, output={"secretName": "x"})
    kube.wait_condition("mail", namespace, "Ready", "False", "SecretNotFound")
    person = somebody("edit")
    with Person(person.kubeconfig, person.folder, {"PYTHONIOENCODING": "ascii"}).runs("status") as running:
        assert running.wait() == 1
        assert running.out.startswith(f"x MailServerSettings {namespace}/mail  SecretNotFound\n")
        assert running.out.isascii()


def test_what_was_said_at_the_last_probe(
    operator: OperatorProcess, kube: Kube, namespace: str, somebody: Callable[..., Person], smtp: MailServer
) -> None:
    kube.secret("smtp", namespace, password="not the password")
    create(kube, namespace, **server_spec(smtp))
    kube.wait_condition("mail", namespace, "ProbeSucceeded", "False", "BadCredentials")
    person = somebody("view")
    status, out, _ = said(person, "mail")
    assert status == 1
    lines = [line.lstrip("│ ") for line in out.splitlines()]
    dialogue = lines[lines.index("What was said:") + 1 :]
    assert dialogue[0].startswith("S: 220 ")
    assert "C: EHLO [127.0.0.1]" in dialogue
    assert any(line.startswith("S: 535 5.7.8") for line in dialogue)
    assert any(line.startswith("C: AUTH ") and "[redacted]" in line for line in dialogue)
    assert "not the password" not in out
    assert "What was said:" not in said(person)[1], "among others it would be too much"
    for output, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        (found,) = read(said(person, "mail", "-o", output)[1])["settings"]
        assert found["failing"]["dialogue"] == probe_of(kube, namespace)["dialogue"]

    kube.patch("Secret", "smtp", namespace, stringData={"password": PASSWORD})
    kube.wait_ready("mail", namespace)
    assert "What was said:" not in said(person, "mail")[1]
    status, out, _ = said(person, "--dialogue")
    assert status == 0
    assert any("S: 235" in line for line in out.splitlines())


def probe_of(kube: Kube, namespace: str) -> Any:
    return (kube.settings("mail", namespace) or {})["status"]["probe"]


def test_names_and_namespaces_are_completed(
    operator: OperatorProcess, kube: Kube, namespace: str, somebody: Callable[..., Person], installed: Cluster
) -> None:
    create(kube, namespace, "notifications")
    create(kube, namespace)
    with somebody("view").runs("__complete", "status", "n") as running:
        assert running.wait() == 0
        assert running.out == "notifications\n:4\n"
    with somebody("view").runs("__complete", "status", "-n", "") as running:
        running.wait()
        assert running.out == ":4\n", "whoever may not list namespaces is offered none"
    with Person(installed.kubeconfig, somebody().folder).runs("__complete", "status", "-n", namespace[:-1]) as running:
        running.wait()
        assert namespace in running.out.splitlines()
