"""Fixtures for the tests that need a real API server; `control_plane` and `namespace` are in tests/conftest.py.

There is one operator for the whole cluster, so all tests that need it are kept on one pytest-xdist worker.
"""

import contextlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import pytest

from dev.cluster import Cluster, ControlPlane
from dev.loop_thread import LoopThread
from dev.operator_process import NAMESPACE, SERVICE_ACCOUNT, OperatorProcess
from dev.role_process import ROOT
from tests.support.consent import KIND, OTHER, Person, consent_spec
from tests.support.identity_provider import (
    ACCOUNT,
    CLIENT_SECRET,
    SCOPE,
    IdentityProvider,
    RegisteredClient,
    identity_provider,
    key_pair,
)
from tests.support.kube import Kube
from tests.support.listening import LOOPBACK, free_port
from tests.support.own_cluster import OwnCluster
from tests.support.plugin import Person as Somebody
from tests.support.plugin import bind, install
from tests.support.proxies import PROXY_LOGIN, RealProxy, real_proxy
from tests.support.smtp_server import PASSWORD, USERNAME, MailServer, certificate, mail_server

Serve = Callable[..., AbstractContextManager[MailServer]]


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks in its own hook of this name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "operator" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("operator"))


@pytest.fixture(scope="session")
def installed(control_plane: Cluster) -> Cluster:
    """The cluster with `manifests/` applied."""
    control_plane.apply(ROOT / "manifests")
    return control_plane


@pytest.fixture
def kube(installed: Cluster) -> Kube:
    return Kube(installed.api())


@pytest.fixture(scope="session")
def external_url() -> str:
    """Where browsers reach the operator."""
    return f"http://{LOOPBACK}:{free_port()}"


FEDERATION_AUDIENCE: Final = "api://AzureADTokenExchange"
CLOUD_SCOPE: Final = "https://outlook.cloud.example/.default"


def operator_environment(folder: Path) -> dict[str, str]:
    """What the tests configure: above all that the identity provider of the tests is trusted."""
    authority = folder / "authority.pem"
    authority.write_text(certificate(LOOPBACK).ca_pem)
    return {
        "MAILSETTINGS_LOG_LEVEL": "DEBUG",
        "MAILSETTINGS_OAUTH2_CA_FILE": str(authority),
        "MAILSETTINGS_OAUTH2_DEADLINE_SECONDS": "3",
        "MAILSETTINGS_RECIPIENT_MAILS_PER_HOUR": "1000",  # all tests send to the same few
    }


def consent_environment(external_url: str, listen_url: str) -> dict[str, str]:
    """Serves the consent pages."""
    listen = listen_url.removeprefix("http://")
    return {"MAILSETTINGS_EXTERNAL_URL": external_url, "MAILSETTINGS_CONSENT_LISTEN": listen}


def federation_environment(cluster: Cluster, folder: Path) -> dict[str, str]:
    """Gives the operator a token of its own for `FEDERATION_AUDIENCE`."""
    token = folder / "token"
    request = {"spec": {"audiences": [FEDERATION_AUDIENCE], "expirationSeconds": 24 * 3600}}
    account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{SERVICE_ACCOUNT}"
    token.write_text(cluster.api().request("POST", f"{account}/token", request)["status"]["token"])
    return {"MAILSETTINGS_OAUTH2_TOKEN_FILE": str(token)}


@pytest.fixture(scope="session")
def cloud(loop_thread: LoopThread) -> Iterator[IdentityProvider]:
    """The cloud `Custom` of Office365: there before the operators, which have its address in their configuration."""
    with loop_thread.entered(identity_provider()) as provider:
        yield provider


@pytest.fixture(scope="session")
def proxy(loop_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealProxy]:
    """A proxy that tenants may name."""
    with loop_thread.entered(real_proxy(tmp_path_factory.mktemp("proxy"), PROXY_LOGIN)) as running:
        yield running


def proxy_environment(proxy: RealProxy) -> dict[str, str]:
    """Lists the proxy."""
    return {"MAILSETTINGS_EGRESS_PROXIES": f"{LOOPBACK}:{proxy.port}", "MAILSETTINGS_CLUSTER_NAME": "prod-1"}


def cloud_environment(cloud: IdentityProvider) -> dict[str, str]:
    """Defines the cloud `Custom`."""
    return {
        "MAILSETTINGS_OAUTH2_CLOUD_AUTHORITY": cloud.origin,
        "MAILSETTINGS_OAUTH2_CLOUD_DELEGATED_SCOPES": SCOPE,
        "MAILSETTINGS_OAUTH2_CLOUD_APPLICATION_SCOPES": CLOUD_SCOPE,
    }


@pytest.fixture(scope="session")
def operator_process(
    installed: Cluster,
    cloud: IdentityProvider,
    proxy: RealProxy,
    tmp_path_factory: pytest.TempPathFactory,
    external_url: str,
) -> Iterator[OperatorProcess]:
    folder = tmp_path_factory.mktemp("operator")
    environment = {
        **proxy_environment(proxy),
        **operator_environment(folder),
        **consent_environment(external_url, external_url),
        **federation_environment(installed, folder),
        **cloud_environment(cloud),
    }
    process = OperatorProcess(installed, folder, environment)
    yield process
    process.stop()


@pytest.fixture
def operator(operator_process: OperatorProcess) -> OperatorProcess:
    """The running operator, under its own ServiceAccount."""
    if not operator_process.is_running():
        operator_process.start()
    return operator_process


@pytest.fixture
def another_url() -> str:
    """Where the consent pages of `another_operator` are; browsers know of the other address only."""
    return f"http://{LOOPBACK}:{free_port()}"


@pytest.fixture
def another_operator(
    installed: Cluster, cloud: IdentityProvider, tmp_path: Path, external_url: str, another_url: str
) -> Iterator[OperatorProcess]:
    """A second one, which nobody elects between."""
    environment = {
        **operator_environment(tmp_path),
        **consent_environment(external_url, another_url),
        **federation_environment(installed, tmp_path),
        **cloud_environment(cloud),
    }
    process = OperatorProcess(installed, tmp_path, environment)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnCluster]:
    with ControlPlane(tmp_path / "cluster") as plane:
        yield OwnCluster(plane, tmp_path)


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    thread = LoopThread("servers of the tests")
    thread.start()
    yield thread
    thread.stop()


@pytest.fixture
def serve(loop_thread: LoopThread) -> Iterator[Callable[..., MailServer]]:
    """Starts mail servers with the options of `mail_server`; they stop with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(loop_thread.entered(mail_server(**options)))


@pytest.fixture
def provide(loop_thread: LoopThread) -> Iterator[Callable[..., IdentityProvider]]:
    """Starts identity providers with the options of `identity_provider`."""
    managers = []

    def start(**options: Any) -> IdentityProvider:
        manager = loop_thread.entered(identity_provider(**options))
        managers.append(manager)
        provider = manager.__enter__()
        provider.service_account_key = key_pair().public_key
        return provider

    yield start
    for manager in managers:
        manager.__exit__(None, None, None)


@pytest.fixture
def provider(provide: Callable[..., IdentityProvider]) -> IdentityProvider:
    return provide()


@pytest.fixture
def mail_server_of(serve: Callable[..., MailServer]) -> Callable[[IdentityProvider], MailServer]:
    """A mail server that takes what is live at an identity provider."""
    return lambda provider: serve(
        auth_required=True,
        auth_without_tls=True,
        mechanisms=("XOAUTH2",),
        takes=lambda said: said.username == ACCOUNT and provider.is_live(said.token),
    )


@pytest.fixture
def smtp(serve: Callable[..., MailServer]) -> MailServer:
    """A mail server that wants a login and speaks plain SMTP."""
    return serve(auth_required=True, auth_without_tls=True)


def server_spec(server: MailServer, **fields: Any) -> dict[str, Any]:
    """The spec of settings for the `smtp` fixture, whose password is in the Secret `smtp`, key `password`."""
    return {
        "mailFrom": "Acme <no-reply@acme.example>",
        "connection": {"host": "127.0.0.1", "port": server.port, "timeout": "3s", "tls": {"mode": "Disabled"}},
        "auth": {"basic": {"username": USERNAME, "passwordSecretRef": {"name": "smtp", "key": "password"}}},
        **fields,
    }


@pytest.fixture
def system_secret(kube: Kube) -> Iterator[str]:
    """The name of a Secret with the password in the operator's namespace."""
    name = f"smtp-{secrets.token_hex(4)}"
    kube.secret(name, NAMESPACE, password=PASSWORD)
    yield name
    kube.delete("Secret", name, NAMESPACE)


@pytest.fixture
def new_namespace(kube: Kube) -> Iterator[Callable[..., str]]:
    """Creates namespaces with the given labels; their deletion begins when the test ends."""
    created = []

    def create(labels: dict[str, str] | None = None, *, prefix: str = "test") -> str:
        name = f"{prefix}-{secrets.token_hex(4)}"
        created.append(name)
        kube.create("Namespace", name, metadata={"labels": labels or {}})
        return name

    yield create
    for name in created:
        kube.delete("Namespace", name)


@pytest.fixture
def cluster_settings(kube: Kube, smtp: MailServer, system_secret: str) -> Iterator[Callable[..., str]]:
    """Creates ClusterMailServerSettings for the `smtp` server; the name is random unless it is given."""
    created = []

    def create(name: str | None = None, **fields: Any) -> str:
        name = name or f"system-{secrets.token_hex(4)}"
        spec = server_spec(smtp, **fields)
        spec["auth"]["basic"]["passwordSecretRef"]["name"] = system_secret
        created.append(name)
        kube.create("ClusterMailServerSettings", name, spec=spec)
        return name

    yield create
    for name in created:
        if kube.settings(name) is not None:
            kube.patch(
                "ClusterMailServerSettings",
                name,
                metadata={"annotations": {"mailsettings.dev/allow-deletion": "true"}},
            )
            kube.delete("ClusterMailServerSettings", name)


@pytest.fixture
def consent_provider(provide: Callable[..., IdentityProvider], external_url: str) -> IdentityProvider:
    """A provider that sends people back to the operator, with two accounts."""
    provider = provide()
    provider.accounts.add(OTHER)
    redirect_uri = f"{external_url}/oauth2/callback/{LOOPBACK}:{provider.port}"
    provider.register(RegisteredClient(secret=CLIENT_SECRET, redirect_uris=frozenset({redirect_uri})))
    return provider


@pytest.fixture
def person(consent_provider: IdentityProvider, loop_thread: LoopThread) -> Person:
    return Person(consent_provider, loop_thread)


@pytest.fixture
def somebody(installed: Cluster, namespace: str, kube: Kube, tmp_path: Path) -> Callable[..., Somebody]:
    """Somebody at a shell with these roles in the test's namespace and no others, and with this browser, if any."""

    def create(*roles: str, browser: str = "") -> Somebody:
        name = f"person-{secrets.token_hex(3)}"
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        kube.api.request("POST", accounts, {"metadata": {"name": name}})
        for role in roles:
            bind(kube, name, namespace, role)
        kubeconfig = installed.service_account(namespace=namespace, name=name, target=tmp_path / f"{name}.kubeconfig")
        folder = tmp_path / name
        folder.mkdir()
        return Somebody(kubeconfig, install(folder), {"BROWSER": browser} if browser else {})

    return create


@pytest.fixture
def consent_settings(
    operator: OperatorProcess,
    kube: Kube,
    namespace: str,
    consent_provider: IdentityProvider,
    mail_server_of: Callable[[IdentityProvider], MailServer],
) -> dict[str, Any]:
    """The settings `mail`, for which nobody has consented yet."""
    kube.secret("oauth2", namespace, secret=CLIENT_SECRET)
    kube.create(KIND, "mail", namespace, spec=consent_spec(consent_provider, mail_server_of(consent_provider)))
    return kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentRequired")
