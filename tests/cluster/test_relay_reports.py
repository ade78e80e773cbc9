"""What the relay tells the operator: counts for the settings' status, and access tokens that were refused."""

import smtplib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dev.cluster import Cluster
from dev.operator_process import OperatorProcess
from dev.relay_process import RelayProcess
from tests.cluster.test_oauth2 import give_secret, oauth2_spec, uid_of
from tests.cluster.test_relay_delivery import KIND, bundles, delivered, inherit, relay_endpoints
from tests.cluster.test_relay_limits import Client, mail, wait_known
from tests.support.identity_provider import ACCOUNT, IdentityProvider
from tests.support.kube import Kube, resource_version
from tests.support.smtp_server import MailServer

__all__ = ["relay_endpoints"]

pytestmark = pytest.mark.usefixtures("operator", "relay_endpoints")


@pytest.fixture
def relay(installed: Cluster, operator: OperatorProcess, tmp_path: Path) -> Iterator[RelayProcess]:
    process = RelayProcess(installed, tmp_path)
    process.start()
    yield process
    process.stop()


def test_the_status_of_both_levels_counts_messages(
    kube: Kube, namespace: str, cluster_settings: Callable[..., str], relay: RelayProcess
) -> None:
    system = cluster_settings(tenants={"delivery": "Relay", "namespaces": [namespace]})
    inherit(kube, namespace, system)
    data = delivered(kube, namespace)
    wait_known(kube, relay, data)
    with Client(relay, data) as client:
        assert client.send_message(mail()) == {}
        foreign = mail()
        foreign.replace_header("From", "boss@acme.example")
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.send_message(foreign)

    def counted(name: str, where: str | None) -> dict[str, Any] | None:
        relay: dict[str, Any] = ((kube.settings(name, where) or {}).get("status") or {}).get("relay") or {}
        return relay.get("messages")

    # What was sent after the first report is in the next one, a minute later.
    for name, where in (("mail", namespace), (system, None)):
        found = kube.wait(partial(counted, name, where), "status.relay", timeout=90)
        assert found["accepted"] == 1
        assert found["unknown"] == 0
    before = resource_version(kube.settings("mail", namespace))
    with Client(relay, data) as client:
        client.noop()
    kube.patch("Secret", "mail-smtp", namespace, metadata={"annotations": {"touched": "yes"}})
    assert resource_version(kube.settings("mail", namespace)) == before
    kube.patch(KIND, "mail", namespace, spec={"output": {"delivery": "Relay"}})
    kube.wait_ready("mail", namespace)
    assert counted("mail", namespace) is not None


def test_a_refused_token_is_renewed_and_the_message_goes_through(
    kube: Kube, namespace: str, provider: IdentityProvider, serve: Callable[..., MailServer], relay: RelayProcess
) -> None:
    refused: set[str] = set()
    server = serve(
        auth_required=True,
        auth_without_tls=True,
        mechanisms=("XOAUTH2",),
        takes=lambda said: said.username == ACCOUNT and provider.is_live(said.token) and said.token not in refused,
    )
    give_secret(kube, namespace, provider)
    spec = oauth2_spec(provider, server, "RefreshToken")
    kube.create(KIND, "mail", namespace, spec={**spec, "output": {"delivery": "Relay"}})
    data = delivered(kube, namespace)
    kube.wait_ready("mail", namespace)
    wait_known(kube, relay, data)
    uid = uid_of(kube, "mail", namespace)

    def present() -> str:
        (bundle,) = bundles(kube, uid)
        assert bundle.login is not None
        return bundle.login.access_token or ""

    first = present()
    refused.add(first)
    with Client(relay, data) as client:
        assert client.send_message(mail()) == {}
    assert present() not in ("", first)
    assert len(server.mails) == 1
    assert first not in relay.log_text()
