"""What a provider permits holds over several replicas of the relay and the operator's probes together."""

import smtplib
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

import pytest

from dev.cluster import Cluster
from dev.operator_process import OperatorProcess
from dev.relay_process import RelayProcess
from mailsettings.api import names
from tests.cluster.test_oauth2 import uid_of
from tests.cluster.test_relay_delivery import HOST, bundles, delivered, inherit, relay_endpoints, set_endpoints
from tests.support.kube import Kube
from tests.support.smtp_server import MailServer

__all__ = ["relay_endpoints"]

pytestmark = pytest.mark.usefixtures("operator", "relay_endpoints")

LEASES: Final = f"/apis/coordination.k8s.io/v1/namespaces/{names.RELAY_NAMESPACE}/leases"


@pytest.fixture
def two_replicas(kube: Kube, relay_endpoints: None) -> None:
    """As Kubernetes would say of `relays`."""
    set_endpoints(kube, ready=True, replicas=2)


@pytest.fixture
def relays(installed: Cluster, operator: OperatorProcess, tmp_path: Path) -> Iterator[list[RelayProcess]]:
    """Two replicas."""
    started = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        started.append(RelayProcess(installed, tmp_path / name))
        started[-1].start()
    yield started
    for process in started:
        process.stop()


class Client(smtplib.SMTP):
    """Connects to loopback, and expects the certificate of the relay's Service."""

    def __init__(self, relay: RelayProcess, data: dict[str, str]) -> None:
        super().__init__("127.0.0.1", relay.port, timeout=60)
        self._host = HOST
        self.starttls(context=ssl.create_default_context(cadata=data["ca.crt"]))
        self.ehlo()
        self.login(data["username"], data["password"])


def mail(number: int = 0) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "no-reply@acme.example", "ops@acme.example", f"mail {number}"
    message.set_content("It works.")
    return message


def knows(relay: RelayProcess, data: dict[str, str]) -> bool:
    try:
        Client(relay, data).close()
    except smtplib.SMTPAuthenticationError:
        return False
    return True


def wait_known(kube: Kube, relay: RelayProcess, data: dict[str, str]) -> None:
    kube.wait(lambda: knows(relay, data), "the login to be known")


def leases(kube: Kube, uid: str) -> list[dict[str, Any]]:
    query = f"labelSelector={names.LABEL_SLOT_OF}%3D{uid}"
    items: list[dict[str, Any]] = kube.api.request("GET", f"{LEASES}?{query}")["items"]
    return items


def test_connections_of_all_replicas_and_probes_are_counted_together(
    kube: Kube, namespace: str, cluster_settings: Callable[..., str], smtp: MailServer, relays: list[RelayProcess]
) -> None:
    system = cluster_settings(provider="Office365", tenants={"delivery": "Relay", "namespaces": [namespace]})
    kube.wait_ready(system)
    uid = uid_of(kube, system)
    inherit(kube, namespace, system)
    data = delivered(kube, namespace)
    (bundle,) = bundles(kube, uid)
    assert bundle.limits is not None
    assert (bundle.limits.connections, bundle.limits.messages_per_minute) == (3, 30)
    for relay in relays:
        wait_known(kube, relay, data)
    assert leases(kube, uid) == []
    smtp.most_connections = smtp.open_connections

    def send(number: int) -> None:
        with Client(relays[number % 2], data) as client:
            assert client.send_message(mail(number)) == {}

    with ThreadPoolExecutor(8) as threads:
        sending = [threads.submit(send, number) for number in range(16)]
        annotations = {names.ANNOTATION_PROBE_REQUESTED_AT: "now"}
        kube.patch("ClusterMailServerSettings", system, metadata={"annotations": annotations})
        for each in sending:
            each.result()
    assert len(smtp.mails) == 16
    assert 1 <= smtp.most_connections <= 3

    def probed() -> bool:
        status = (kube.settings(system) or {})["status"]["probe"]
        return bool(status.get("lastHandledRequest") == "now")

    kube.wait(probed, "the probe", timeout=60)
    assert kube.wait_ready(system)
    assert smtp.most_connections <= 3
    found = leases(kube, uid)
    assert {each["metadata"]["name"] for each in found} <= {f"slot-{uid}-{number}" for number in range(3)}
    for relay in relays:
        relay.stop()
    kube.wait(lambda: all(not each["spec"].get("holderIdentity") for each in leases(kube, uid)), "the slots' release")
    kube.delete("MailServerSettings", "mail", namespace)
    kube.wait(lambda: not leases(kube, uid), "the slots to go")


def test_there_is_no_lease_where_the_provider_states_no_limit(
    kube: Kube, namespace: str, cluster_settings: Callable[..., str], smtp: MailServer, relays: list[RelayProcess]
) -> None:
    system = cluster_settings(tenants={"delivery": "Relay", "namespaces": [namespace]})
    inherit(kube, namespace, system)
    data = delivered(kube, namespace)
    kube.wait(lambda: knows(relays[0], data), "the login to be known")
    with Client(relays[0], data) as client:
        assert client.send_message(mail()) == {}
    assert leases(kube, uid_of(kube, system)) == []


def test_replicas_share_the_rates_of_a_tenant(
    kube: Kube,
    namespace: str,
    cluster_settings: Callable[..., str],
    two_replicas: None,
    relays: list[RelayProcess],
) -> None:
    policy = {"rateLimits": "4:86400"}
    system = cluster_settings(tenants={"delivery": "Relay", "namespaces": [namespace], "policy": policy})
    inherit(kube, namespace, system)
    data = delivered(kube, namespace)
    sent = [0, 0]
    for number, relay in enumerate(relays):
        wait_known(kube, relay, data)
        with Client(relay, data) as client:
            sent[number] = sum(passes(client) for _ in range(5))
    assert sent == [2, 2]


def passes(client: smtplib.SMTP) -> bool:
    """Whether the tenant's rate lets a mail pass."""
    try:
        client.send_message(mail())
    except smtplib.SMTPSenderRefused as error:
        return (error.smtp_code, error.smtp_error[:6]) != (450, b"4.7.28")
    return True
