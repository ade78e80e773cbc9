"""The relay's certificate: issued by the operator, or cert-manager's, and what tenants are told to trust."""

import base64
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from cryptography import x509

from dev.relay_process import RelayProcess
from mailsettings.api import names
from mailsettings.edges.relay_certificate import FOREIGN
from tests.cluster.test_relay_delivery import HOST, RELAY, delivered, inherit, relay_endpoints, system
from tests.cluster.test_relay_process import Client, relay
from tests.support.kube import Kube
from tests.support.smtp_server import Certificate, certificate

__all__ = ["relay", "relay_endpoints", "system"]

pytestmark = pytest.mark.usefixtures("operator", "relay_endpoints")

NAME: Final = names.RELAY_TLS_NAME


def kept(kube: Kube) -> dict[str, Any] | None:
    """The Secret, once it holds a certificate of the operator's."""
    secret = kube.get("Secret", NAME, RELAY)
    ours = secret is not None and secret["metadata"].get("labels", {}).get(names.LABEL_MANAGED_BY) == names.MANAGED_BY
    return secret if ours else None


def text(secret: dict[str, Any], key: str) -> str:
    return base64.b64decode(secret["data"][key]).decode()


def serial(relay: RelayProcess, ca: str) -> int:
    """Of the certificate that the relay shows, which has to be for its Service."""
    with Client(relay, ca) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        shown = client.sock.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


@pytest.fixture
def cert_manager(kube: Kube) -> Iterator[Callable[[], Certificate]]:
    """Keeps the certificate instead of the operator, until the test ends."""

    def take_over() -> Certificate:
        theirs = certificate(HOST)
        values = {"tls.crt": theirs.chain_pem, "tls.key": theirs.key_pem, "ca.crt": theirs.ca_pem}
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        metadata = {"labels": {names.LABEL_MANAGED_BY: None}, "annotations": {FOREIGN: "relay"}}
        kube.patch("Secret", NAME, RELAY, metadata=metadata, data=data)
        return theirs

    yield take_over
    kube.delete("Secret", NAME, RELAY)
    kube.wait(lambda: kept(kube), "the operator's certificate")


def test_the_operator_issues_one_that_tenants_trust(kube: Kube, namespace: str, system: str) -> None:
    inherit(kube, namespace, system)
    trusted = delivered(kube, namespace)["ca.crt"]
    secret = kube.wait(lambda: kept(kube), "the certificate")
    assert (secret["type"], text(secret, "ca.crt")) == ("kubernetes.io/tls", trusted)
    found = x509.load_pem_x509_certificate(text(secret, "tls.crt").encode())
    found.verify_directly_issued_by(x509.load_pem_x509_certificate(trusted.encode()))
    hosts = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert HOST in hosts.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize("how", ["deleted", "spoilt"])
def test_another_one_is_trusted_just_as_the_former_and_the_relay_shows_it(
    kube: Kube, namespace: str, system: str, relay: RelayProcess, how: str
) -> None:
    inherit(kube, namespace, system)
    trusted = delivered(kube, namespace)["ca.crt"]
    before = kube.wait(lambda: kept(kube), "the certificate")
    former = serial(relay, trusted)
    if how == "deleted":
        kube.delete("Secret", NAME, RELAY)
    else:
        kube.patch("Secret", NAME, RELAY, data={"tls.crt": base64.b64encode(b"nonsense").decode()})

    def again() -> bool:
        secret = kept(kube)
        return secret is not None and text(secret, "tls.crt") not in (text(before, "tls.crt"), "nonsense")

    kube.wait(again, "another certificate")
    assert relay.mount_certificate()
    kube.wait(lambda: serial(relay, trusted) != former, "the relay to show it")
    assert delivered(kube, namespace)["ca.crt"] == trusted


def test_cert_managers_is_left_alone_and_its_authority_is_what_tenants_trust(
    kube: Kube, namespace: str, system: str, relay: RelayProcess, cert_manager: Callable[[], Certificate]
) -> None:
    inherit(kube, namespace, system)
    own = delivered(kube, namespace)["ca.crt"]
    theirs = cert_manager()
    kube.wait(lambda: delivered(kube, namespace)["ca.crt"] == theirs.ca_pem, "the other authority to be delivered")
    secret = kube.get("Secret", NAME, RELAY)
    assert secret is not None
    assert (text(secret, "tls.crt"), text(secret, "tls.key")) == (theirs.chain_pem, theirs.key_pem)
    assert own != theirs.ca_pem
    assert relay.mount_certificate()
    kube.wait(lambda: shows(relay, theirs), "the relay to show it")


def shows(relay: RelayProcess, expected: Certificate) -> bool:
    try:
        serial(relay, expected.ca_pem)
    except ssl.SSLCertVerificationError:
        return False
    return True
