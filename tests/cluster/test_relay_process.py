"""The relay in the cluster, under its own ServiceAccount: mail goes through it with what the operator delivers."""

import asyncio
import base64
import json
import smtplib
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Final

import pytest

from dev.cluster import Cluster
from dev.operator_process import OperatorProcess
from dev.relay_process import RelayProcess
from mailsettings.api import names
from tests.cluster.test_oauth2 import uid_of
from tests.cluster.test_relay_delivery import (
    HOST,
    KIND,
    RELAY,
    bundle_secrets,
    delivered,
    inherit,
    relay_endpoints,
    system,
)
from tests.support.kube import Kube
from tests.support.mail_clients import CLIENTS, Mail, Sending, Submission
from tests.support.smtp_server import MailServer

__all__ = ["relay_endpoints", "system"]

pytestmark = pytest.mark.usefixtures("operator", "relay_endpoints")

REFUSED: Final = 535


@pytest.fixture
def relay(installed: Cluster, operator: OperatorProcess, tmp_path: Path) -> Iterator[RelayProcess]:
    process = RelayProcess(installed, tmp_path)
    process.start()
    yield process
    process.stop()


class Client(smtplib.SMTP):
    """Connects to loopback, and expects the certificate of the relay's Service."""

    def __init__(self, relay: RelayProcess, ca: str) -> None:
        super().__init__("127.0.0.1", relay.port, timeout=20)
        self._host = HOST
        self.starttls(context=ssl.create_default_context(cadata=ca))
        self.ehlo()


def message(sender: str = "no-reply@acme.example") -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = sender, "ops@acme.example", "hello"
    mail.set_content("It works.")
    return mail


def test_mail_goes_through_with_what_the_secret_holds(
    kube: Kube, namespace: str, system: str, smtp: MailServer, relay: RelayProcess
) -> None:
    inherit(kube, namespace, system)
    data = delivered(kube, namespace)
    kube.wait(lambda: accepted(relay, data, data["password"]), "the login to be taken")
    with Client(relay, data["ca.crt"]) as client:
        client.login(data["username"], data["password"])
        assert client.send_message(message()) == {}
        with pytest.raises(smtplib.SMTPSenderRefused, match="allowedFrom"):
            client.send_message(message("boss@acme.example"))
    kube.wait(lambda: any(b"It works." in mail.data for mail in smtp.mails), "the mail")
    assert data["password"] not in relay.log_text()


def accepted(relay: RelayProcess, data: dict[str, str], secret: str) -> bool:
    """Whether a login is taken, on a connection of its own."""
    with Client(relay, data["ca.crt"]) as client:
        try:
            client.login(data["username"], secret)
        except smtplib.SMTPAuthenticationError:
            return False
        return True


def token(kube: Kube, namespace: str, audience: str) -> str:
    request = {"spec": {"audiences": [audience], "expirationSeconds": 600}}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    kube.wait(lambda: _has_account(kube, namespace), "the ServiceAccount")
    answer: str = kube.api.request("POST", path, request)["status"]["token"]
    return answer


def _has_account(kube: Kube, namespace: str) -> bool:
    accounts = kube.api.request("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts")["items"]
    return any(each["metadata"]["name"] == "default" for each in accounts)


def bearer(client: smtplib.SMTP, username: str, secret: str) -> int:
    """The code that OAUTHBEARER ends in."""
    response = f"n,a={username},\x01auth=Bearer {secret}\x01\x01".encode()
    code, _ = client.docmd("AUTH", f"OAUTHBEARER {base64.b64encode(response).decode()}")
    if code == 334:
        code, _ = client.docmd(base64.b64encode(b"\x01").decode())
    return code


def test_a_pod_logs_in_by_its_service_accounts_token(
    kube: Kube,
    namespace: str,
    new_namespace: Callable[..., str],
    system: str,
    smtp: MailServer,
    relay: RelayProcess,
) -> None:
    inherit(kube, namespace, system)
    data = delivered(kube, namespace)
    username, ca, other = data["username"], data["ca.crt"], new_namespace()
    good = token(kube, namespace, names.RELAY_AUDIENCE)
    kube.wait(lambda: accepted(relay, data, data["password"]), "the relay to know the login")
    with Client(relay, ca) as client:
        assert bearer(client, username, good) == 235
        assert client.send_message(message()) == {}
    for wrong in (token(kube, other, names.RELAY_AUDIENCE), token(kube, namespace, "https://kubernetes.default.svc")):
        with Client(relay, ca) as client:
            assert bearer(client, username, wrong) == REFUSED
    assert accepted(relay, data, good)
    assert good not in relay.log_text()


@pytest.mark.parametrize("send", CLIENTS)
def test_clients_of_other_languages_log_in_by_a_token(
    kube: Kube, namespace: str, system: str, smtp: MailServer, relay: RelayProcess, send: Sending, tmp_path: Path
) -> None:
    inherit(kube, namespace, system)
    data = delivered(kube, namespace)
    kube.wait(lambda: accepted(relay, data, data["password"]), "the relay to know the login")
    where = Submission(
        port=relay.port,
        implicit_tls=False,
        server_name=HOST,
        ca_pem=data["ca.crt"],
        mechanism="XOAUTH2",
        username=data["username"],
        secret=token(kube, namespace, names.RELAY_AUDIENCE),
    )
    mail = Mail("no-reply@acme.example", "ops@acme.example", message().as_bytes(policy=SMTP))
    asyncio.run(send(where, [mail], tmp_path))
    kube.wait(lambda: any(b"It works." in mail.data for mail in smtp.mails), "the mail")


def ends_at(kube: Kube, uid: str, username: str, until: datetime) -> None:
    """Has the time of the former password end then, as if it had been replaced a day before that."""
    for secret in bundle_secrets(kube, uid):
        logins = json.loads(base64.b64decode(secret["data"]["logins.json"]))
        if username in logins:
            logins[username]["until"] = until.isoformat()
            data = {"logins.json": base64.b64encode(json.dumps(logins).encode()).decode()}
            kube.patch("Secret", secret["metadata"]["name"], RELAY, data=data)


def test_the_former_password_ends_with_its_time(
    kube: Kube, namespace: str, system: str, relay: RelayProcess, operator: OperatorProcess
) -> None:
    inherit(kube, namespace, system)
    old = delivered(kube, namespace)
    kube.patch(KIND, "mail", namespace, metadata={"annotations": {names.ANNOTATION_ROTATE_REQUESTED_AT: "now"}})
    kube.wait(lambda: delivered(kube, namespace)["password"] != old["password"], "another password")
    new = delivered(kube, namespace)
    kube.wait(lambda: accepted(relay, new, new["password"]), "the new login to be taken")
    assert accepted(relay, new, old["password"])

    operator.stop()  # it knows of the time by heart
    until = datetime.now(UTC) + timedelta(seconds=10)
    ends_at(kube, uid_of(kube, system), new["username"], until)
    operator.start()
    kube.wait(lambda: not accepted(relay, new, old["password"]), "the former password to be refused")
    assert datetime.now(UTC) >= until
    assert accepted(relay, new, new["password"])


def test_a_login_that_is_withdrawn_is_refused_at_once(
    kube: Kube, namespace: str, system: str, relay: RelayProcess
) -> None:
    inherit(kube, namespace, system)
    data = delivered(kube, namespace)
    kube.wait(lambda: accepted(relay, data, data["password"]), "the login to be taken")
    kube.delete(KIND, "mail", namespace)
    kube.wait(lambda: not accepted(relay, data, data["password"]), "the login to be refused")
