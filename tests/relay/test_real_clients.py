"""Clients that people use, through the relay to real Postfix and Dovecot, which validate OAuth2."""

import asyncio
import secrets
import shutil
import smtplib
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Final

import pytest

from mailsettings.api.names import RELAY_AUDIENCE
from mailsettings.core.relay.audit import Outcome
from mailsettings.core.relay.bundle import Bundle
from tests.relay.test_relay import with_smtplib
from tests.support import postfix
from tests.support.jwt import ALGORITHM, Signer
from tests.support.mail_clients import CLIENTS, ClientError, Mail, Sending, Submission
from tests.support.postfix import RECIPIENT, Postfix, TokenValidation
from tests.support.relay import ACCOUNT, HOST, SECRET, SENDER, RawClient, RunningRelay, bundle, eventually, running
from tests.support.smtp_server import BEARER_MECHANISMS, USERNAME

pytestmark = pytest.mark.postfix

ISSUER: Final = "https://idp.acme.example"
WITHIN_S: Final = 120.0


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer()


@pytest.fixture(scope="module", params=BEARER_MECHANISMS)
def servers(request: pytest.FixtureRequest, signer: Signer) -> Iterator[Postfix]:
    reason = postfix.missing()
    if reason is not None:
        pytest.skip(reason)
    local = TokenValidation(
        mechanisms=(request.param,),
        settings={
            "introspection_mode": "local",
            "local_validation_key_dict": "fs:posix:prefix={keys}/",
            "username_attribute": "email",
            "issuers": ISSUER,
        },
        keys={f"default/{ALGORITHM}/{signer.key_id}": signer.public_pem},
    )
    with postfix.postfix(local) as running_servers:
        yield running_servers


@pytest.fixture
def given(servers: Postfix, signer: Signer) -> Bundle:
    token = signer.token({"iss": ISSUER, "sub": "4711", "email": USERNAME})
    return bundle(
        servers.start_tls,
        server={"tlsMode": "StartTLS", "caBundle": servers.ca_pem},
        login={"username": USERNAME, "accessToken": token},
        tenant={"tokens": True},
    )


@pytest.fixture
async def relay(given: Bundle) -> AsyncIterator[RunningRelay]:
    async with running(given) as relay:
        yield relay


@pytest.fixture
def subject() -> str:
    return f"hello {secrets.token_hex(8)}"


def message(subject: str) -> str:
    return f"From: Acme <{SENDER}>\nTo: {RECIPIENT}\nSubject: {subject}\n\n.\nGrüße\n..\n"


async def run(command: Sequence[str | Path], stdin: str = "", folder: Path | None = None) -> str:
    """What a program says; it must succeed."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")

    def work() -> "subprocess.CompletedProcess[str]":
        words = [str(word) for word in command]
        return subprocess.run(
            words, input=stdin, capture_output=True, text=True, timeout=WITHIN_S, check=False, cwd=folder
        )

    done = await asyncio.to_thread(work)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def arrived(servers: Postfix, relay: RunningRelay, subject: str) -> EmailMessage:
    found = await asyncio.to_thread(servers.received, subject)
    assert found["Return-Path"] == f"<{SENDER}>"
    [record] = relay.sink.records
    assert record.outcome is Outcome.ACCEPTED
    assert record.text.startswith("Ok: queued as ")
    return found


def body(found: EmailMessage) -> str:
    data = found.get_payload(decode=True)
    assert isinstance(data, bytes)
    return data.decode().replace("\r\n", "\n")


async def test_smtplib(servers: Postfix, relay: RunningRelay, subject: str) -> None:
    data = message(subject).replace("\n", "\r\n").encode()
    await with_smtplib(relay, lambda client: client.sendmail(SENDER, [RECIPIENT], data, ["BODY=8BITMIME"]))
    assert body(await arrived(servers, relay, subject)) == ".\nGrüße\n..\n"


async def test_the_servers_refusal_is_passed_on(relay: RunningRelay, subject: str) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused) as error:
        await with_smtplib(relay, lambda c: c.sendmail(SENDER, ["nobody@acme.example"], message(subject).encode()))
    code, text = error.value.recipients["nobody@acme.example"]
    assert (code, text[:6]) == (550, b"5.1.1 ")


async def test_no_recipient_is_routed_past_the_domains() -> None:
    """Postfix takes these for addresses of other.example, and would send there."""
    reason = postfix.missing()
    if reason is not None:
        pytest.skip(reason)
    routed = [b"a%other.example@local.example", b"other.example!b@local.example", b'"c@other.example"@local.example']
    with postfix.postfix(parameters="mydestination = local.example\n") as server:
        given = bundle(
            server.start_tls,
            server={"tlsMode": "StartTLS", "caBundle": server.ca_pem},
            tenant={"mailFrom": USERNAME},
        )
        async with running(given) as relay, RawClient.to(relay) as client:
            await client.log_in()
            await client.say(f"MAIL FROM:<{USERNAME}>".encode())
            for recipient in routed:
                assert (await client.say(b"RCPT TO:<" + recipient + b">")).startswith("250")
            assert (await client.say(b"DATA")).startswith("354")
            assert (await client.say(f"From: {USERNAME}\r\n\r\n.".encode())).startswith("250")
            await eventually(
                lambda: all(f"to=<{name}@other.example>" in server.logs() for name in "abc"), within_s=WITHIN_S
            )
            bounded = given.tenants[0].model_copy(update={"recipient_domains": ("local.example",)})
            relay.bundles.replace([given.model_copy(update={"tenants": (bounded,)})])
            await client.say(f"MAIL FROM:<{USERNAME}>".encode())
            for recipient in routed:
                refusal = await client.say(b"RCPT TO:<" + recipient + b">")
                assert refusal.startswith("550 5.7.1 recipientDomains")


@pytest.mark.parametrize("implicit", [True, False])
async def test_msmtp(servers: Postfix, relay: RunningRelay, subject: str, tmp_path: Path, *, implicit: bool) -> None:
    trust = tmp_path / "ca.crt"
    trust.write_text(relay.certificate.ca_pem)
    (tmp_path / "password").write_text(SECRET)
    where = ["--host=127.0.0.1", f"--port={relay.implicit if implicit else relay.start_tls}", "--tls=on"]
    where += [f"--tls-starttls={'off' if implicit else 'on'}", f"--tls-trust-file={trust}"]
    login = ["--auth=plain", f"--user={ACCOUNT}", f"--passwordeval=cat {tmp_path}/password"]
    await run(["msmtp", "--file=/dev/null", *where, *login, f"--from={SENDER}", RECIPIENT], message(subject))
    assert body(await arrived(servers, relay, subject)) == ".\nGrüße\n..\n"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_swaks(servers: Postfix, relay: RunningRelay, subject: str, mechanism: str) -> None:
    where = ["--server", "127.0.0.1", "--port", f"{relay.start_tls}", "--tls", "--pipeline"]
    login = ["--auth", mechanism, "--auth-user", ACCOUNT, "--auth-password", SECRET]
    mail = ["--from", SENDER, "--to", RECIPIENT, "--header", f"Subject: {subject}", "--body", "hello"]
    await run(["swaks", *where, *login, *mail])
    await arrived(servers, relay, subject)


class Reviewer:
    """Takes a token for that of a ServiceAccount of the tenant's namespace."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def namespace(self, token: str) -> str | None:
        return "acme" if token == self._token else None


@pytest.mark.parametrize("implicit_tls", [True, False])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "XOAUTH2"])
@pytest.mark.parametrize("send", CLIENTS)
async def test_clients_of_other_languages(
    servers: Postfix,
    given: Bundle,
    signer: Signer,
    send: Sending,
    mechanism: str,
    tmp_path: Path,
    *,
    implicit_tls: bool,
) -> None:
    token = signer.token({"aud": [RELAY_AUDIENCE], "sub": "system:serviceaccount:acme:default"})
    subject = f"hello {secrets.token_hex(8)}"
    mail = Mail(SENDER, RECIPIENT, message(subject).replace("\n", "\r\n").encode())
    async with running(given, reviewer=Reviewer(token)) as relay:
        where = Submission(
            port=relay.implicit if implicit_tls else relay.start_tls,
            implicit_tls=implicit_tls,
            server_name=HOST,
            ca_pem=relay.certificate.ca_pem,
            mechanism=mechanism,
            username=ACCOUNT,
            secret=token if mechanism == "XOAUTH2" else SECRET,
        )
        await send(where, [mail], tmp_path)
        assert body(await arrived(servers, relay, subject)) == ".\nGrüße\n..\n"
        wrong = replace(where, secret=signer.token({"aud": [RELAY_AUDIENCE]}))
        with pytest.raises(ClientError):
            await send(wrong, [mail], tmp_path)
    assert relay.sink.logins[0] == (ACCOUNT, True)
    assert {*relay.sink.logins[1:]} == {(ACCOUNT, False)}


GO: Final = """\
package main

import (
\t"crypto/tls"
\t"crypto/x509"
\t"net/smtp"
\t"os"
)

func check(err error) {
\tif err != nil {
\t\tpanic(err)
\t}
}

func main() {
\tpem, err := os.ReadFile(os.Args[2])
\tcheck(err)
\tpool := x509.NewCertPool()
\tpool.AppendCertsFromPEM(pem)
\tclient, err := smtp.Dial(os.Args[1])
\tcheck(err)
\tcheck(client.StartTLS(&tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}))
\tcheck(client.Auth(smtp.PlainAuth("", os.Args[3], os.Args[4], "127.0.0.1")))
\tcheck(client.Mail(os.Args[5]))
\tcheck(client.Rcpt(os.Args[6]))
\twriter, err := client.Data()
\tcheck(err)
\t_, err = writer.Write([]byte(os.Args[7]))
\tcheck(err)
\tcheck(writer.Close())
\tcheck(client.Quit())
}
"""


async def test_go(servers: Postfix, relay: RunningRelay, subject: str, tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text(GO)
    (tmp_path / "ca.crt").write_text(relay.certificate.ca_pem)
    where = [f"127.0.0.1:{relay.start_tls}", f"{tmp_path}/ca.crt"]
    await run(["go", "run", "main.go", *where, ACCOUNT, SECRET, SENDER, RECIPIENT, message(subject)], folder=tmp_path)
    assert body(await arrived(servers, relay, subject)) == ".\nGrüße\n..\n"


async def test_postfix_with_its_queue(servers: Postfix, relay: RunningRelay, subject: str) -> None:
    """It takes mail while the relay has no token for the mail server, and passes it on later."""
    login = f"inline:{{ {{ [127.0.0.1]:{relay.start_tls} = {ACCOUNT}:{SECRET} }} }}"
    parameters = f"""\
virtual_mailbox_domains =
relay_domains = acme.example
relay_transport = smtp
relayhost = [127.0.0.1]:{relay.start_tls}
smtp_tls_security_level = encrypt
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = {login}
smtp_sasl_tls_security_options = noanonymous
minimal_backoff_time = 1s
maximal_backoff_time = 1s
queue_run_delay = 1s
"""
    account = relay.bundles.find(ACCOUNT)
    assert account is not None
    assert account.bundle.login is not None
    tokenless = account.bundle.login.model_copy(update={"access_token": None})
    relay.bundles.replace([account.bundle.model_copy(update={"login": tokenless})])

    def submit(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            client.sendmail(SENDER, [RECIPIENT], message(subject).replace("\n", "\r\n").encode(), ["BODY=8BITMIME"])

    with postfix.postfix(parameters=parameters) as downstream:
        await asyncio.to_thread(submit, downstream.relay)
        await eventually(lambda: relay.sink.records, within_s=WITHIN_S)
        assert relay.sink.records[0].fault == "token"
        relay.bundles.replace([account.bundle])
        found = await asyncio.to_thread(servers.received, subject)
        assert body(found) == ".\nGrüße\n..\n", downstream.logs()
    assert relay.sink.records[-1].outcome is Outcome.ACCEPTED
