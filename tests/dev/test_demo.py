"""The demo: it comes to what it promises, says so when it does not, and leaves nothing behind."""

import base64
import hashlib
import os
import re
import signal
import smtplib
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import jwt
import pytest
from rich.console import Console

from dev.cluster import Cluster, load
from dev.demo import identity_provider
from dev.demo.authority import HOST, Authority
from dev.demo.consent import PLUGIN, RECIPIENT, ConsentDemo, Servers
from dev.demo.examples import EXAMPLES, Endpoints, example_manifests, fitted
from dev.demo.expectations import CONSENTED, EXPECTATIONS, unmet
from dev.demo.identity_provider import ACCOUNT, CLIENT_ID, CLIENT_SECRET, PASSWORD, IdentityProvider
from dev.demo.mail_server import LOGINS, Mail, MailServer
from dev.demo.person import ConsentError, Person
from dev.demo.screen import LiveScreen, PlainScreen, mail_text
from dev.demo.state import Row, Sending, State
from tests.support.client import DRY_RUN
from tests.support.client import Client as ApiClient
from tests.support.consent_pages import NoConsentError, Visitor, query

ROOT: Final = Path(__file__).parents[2]
DEMO: Final = [sys.executable, "-m", "dev.demo"]
LIMIT_S: Final = 180.0

PASSWORDS: Final = {
    value
    for manifest in example_manifests()
    for key, value in manifest.get("stringData", {}).items()
    if key in ("password", "secret")
}


@contextmanager
def running(command: list[str], folder: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A demo with temporary files of its own and, whatever chose the other tests' cluster, a cluster of its own."""
    environment = {key: value for key, value in os.environ.items() if key != "MAILSETTINGS_KUBECONFIG"}
    environment |= {"TMPDIR": str(folder), "PYTHONPATH": f"{ROOT / 'operator'}{os.pathsep}{ROOT}"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [number for child in map(int, children) for number in (child, *descendants(child))]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent's notice does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(lines: Iterator[str], *texts: str) -> Iterator[str]:
    """The lines up to the first one that holds one of the texts."""
    for line in lines:
        yield line
        if any(text in line for text in texts):
            return
    raise AssertionError(f"the output ended before {texts}")


@pytest.mark.cluster
class TestDemo:
    def test_once_comes_to_the_expected_states_and_ends(self, tmp_path: Path) -> None:
        with running([*DEMO, "--once", "--limit", "150"], tmp_path) as demo:
            output, errors = demo.communicate(timeout=LIMIT_S)
        assert demo.returncode == 0, errors
        for expected in (
            r"^  export KUBECONFIG=/.*/kubeconfig$",
            r"^default \(cluster\) +True +Ready +System",
            r"^shop/mail +True +Ready +System +- +mail-smtp$",
            r"^acme/mail +True +Ready +Tenant +- +acme-mail$",
            r"^news/mail +True +Ready +System +- +mail-smtp$",
            r"^The relay listens on 127\.0\.0\.1:\d+ \(STARTTLS\)\.$",
            r"^send_mail\.py sends with the Secret news/mail-smtp$",
            r"^blog \(no settings\) +- +- +System +- +default-smtp$",
            r"^lab/mail +False +BadCredentials +Tenant +- +mail-smtp\n    ProbeSucceeded: .* 535 5\.7\.8$",
            r"^reports/mail +False +SecretNotFound +Tenant +- +-\n    CredentialsResolved: ",
            r"^  Subject: Test mail of MailServerSettings acme/mail$",
            r"sent with the login system@platform\.example\n  From: +no-reply@.*\n  To: +customer@shop\.example$",
            r"^billing/mail +False +ConsentRequired +Tenant +NotGenerated +-$",
            r"^  is told: \"Mail can be sent\"$",
            r"^billing/mail +True +Ready +Tenant +Generated +mail-smtp$",
            r"^[\d:]{8} billing/mail: mail 1 came with token 1$",
            r"^[\d:]{8} billing/mail: mail \d+ came with token 2, in place of token 1$",
            r"^billing/mail: \d+ mails were sent with 2 tokens, and none was refused\.$",
            r"^Every example has reached its expected state\.$",
        ):
            assert re.search(expected, output, re.MULTILINE), (expected, output)
        assert len(re.findall(r"^  To: +customer@shop\.example$", output, re.MULTILINE)) == 2
        # The kubeconfig's path is as long as the temporary folder's.
        lines = [line for line in output.splitlines() if "KUBECONFIG=" not in line]
        assert max(map(len, lines)) <= 80
        assert not any(password in output + errors for password in {*PASSWORDS, PASSWORD})
        assert "\x1b" not in output
        assert [*tmp_path.iterdir()] == []

    def test_state_that_is_not_reached_is_named(self, tmp_path: Path) -> None:
        program = (
            "import sys\n"
            "from dataclasses import replace\n"
            "from dev.demo import expectations\n"
            "from dev.demo.__main__ import main\n"
            "*others, lab, reports = expectations.EXPECTATIONS\n"
            "lab = replace(lab, ready='True', reason='Ready')\n"
            "expectations.EXPECTATIONS = (*others, lab, replace(reports, secret='mail-smtp'))\n"
            "sys.exit(main(['--once', '--limit', '20']))\n"
        )
        with running([sys.executable, "-c", program], tmp_path) as demo:
            output, errors = demo.communicate(timeout=LIMIT_S)
        assert demo.returncode == 1, output
        first, *faults = errors.splitlines()
        assert first == "error: The limit has passed:"
        assert "  lab/mail: Ready is False (BadCredentials), not True (Ready)" in faults
        assert "  reports/mail: the delivered Secrets are none, not mail-smtp" in faults
        # Which of its two tokens it still waits for depends on how far it has come by then.
        assert any(fault.startswith("  billing/mail: no mail has come with a ") for fault in faults)
        assert "Every example" not in output

    def test_person_at_the_terminal_consents_by_pressing_enter(self, tmp_path: Path) -> None:
        keyboard, terminal = os.openpty()
        with running(DEMO, tmp_path, stdin=terminal) as demo:
            assert demo.stdout is not None
            lines = iter(demo.stdout)
            shown = list(until(lines, "Or press Enter here"))
            assert any("/oauth2/start/" in line for line in shown)
            assert f"  password:  {PASSWORD}\n" in shown
            hint = "kubectl-mailsettings authorize mail -n billing\n"
            assert any(line.endswith(hint) for line in shown) == PLUGIN.exists()
            assert not any("is told" in line for line in shown)
            os.write(keyboard, b"\n")
            list(until(lines, '  is told: "Mail can be sent"'))
            list(until(lines, "billing/mail: mail 1 came with token 1"))
            demo.send_signal(signal.SIGINT)
            demo.communicate(timeout=LIMIT_S)
        os.close(keyboard)
        os.close(terminal)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
    def test_signal_ends_everything_that_was_started(self, tmp_path: Path, number: signal.Signals) -> None:
        with running(DEMO, tmp_path) as demo:
            assert demo.stdout is not None
            line = next(line for line in demo.stdout if line.startswith(("The operator runs", "error")))
            started = descendants(demo.pid)
            assert len(started) == 4, line  # etcd, kube-apiserver, kube-controller-manager, the operator
            demo.send_signal(number)
            demo.communicate(timeout=LIMIT_S)
        killed = number == signal.SIGKILL
        assert demo.returncode == (-number if killed else 128 + number)
        deadline = time.monotonic() + 10
        while any(map(is_alive, started)):
            assert time.monotonic() < deadline, [pid for pid in started if is_alive(pid)]
            time.sleep(0.05)
        # After SIGKILL the files stay until the next start, which removes them.
        assert killed or [*tmp_path.iterdir()] == []


class TestExamples:
    @pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.name)
    def test_api_server_accepts_it_as_it_is(self, control_plane: Cluster, file: Path) -> None:
        control_plane.apply(ROOT / "crds")
        client = ApiClient(control_plane.kubeconfig)
        for manifest in load(file):
            metadata = manifest["metadata"] | ({"namespace": "default"} if "namespace" in manifest["metadata"] else {})
            answer = client.call("POST", collection(manifest), manifest | {"metadata": metadata}, query=STRICTLY)
            # 409: the tests share the cluster, and somebody else may have one of that name; it was valid.
            assert answer.status in (201, 409), answer.message

    def test_fitting_changes_only_where_to_connect_and_whom_to_trust(self) -> None:
        endpoints = Endpoints(2525, "the certificate", "https://idp.example/authorize", "https://idp.example/token")
        before, after = keyed(example_manifests()), keyed(fitted(example_manifests(), endpoints))
        added = after.keys() - before.keys()
        assert {kind for kind, *_ in added} == {"ConfigMap"}
        assert before.keys() <= after.keys()
        for key, manifest in before.items():
            changed = after[key]
            if key[0] == "ConfigMap":
                assert changed["data"]["ca.crt"] == endpoints.ca_certificate
            elif "host" in (manifest.get("spec") or {}).get("connection", {}):
                connection = changed["spec"].pop("connection")
                assert (connection["host"], connection["port"]) == (HOST, endpoints.mail_port)
                manifest["spec"].pop("connection")
                if "oauth2" in manifest["spec"]["auth"]:
                    uris = {"authorizationURI": endpoints.authorization_uri, "tokenURI": endpoints.token_uri}
                    manifest["spec"]["auth"]["oauth2"] |= uris
                assert changed == manifest
            else:
                assert changed == manifest


STRICTLY: Final = DRY_RUN | {"fieldValidation": "Strict"}
COLLECTIONS: Final = {
    "Namespace": "/api/v1/namespaces",
    "Secret": "/api/v1/namespaces/default/secrets",
    "ConfigMap": "/api/v1/namespaces/default/configmaps",
    "ClusterMailServerSettings": "/apis/mailsettings.dev/v1alpha1/clustermailserversettings",
    "MailServerSettings": "/apis/mailsettings.dev/v1alpha1/namespaces/default/mailserversettings",
}


def collection(manifest: dict[str, Any]) -> str:
    return COLLECTIONS[manifest["kind"]]


def keyed(manifests: list[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(m["kind"], m["metadata"].get("namespace", ""), m["metadata"]["name"]): m for m in manifests}


class TestMailServer:
    def test_takes_mail_after_starttls_and_a_login_only(self) -> None:
        username, password = next(iter(LOGINS.items()))
        authority = Authority()
        with MailServer(authority) as server, smtplib.SMTP(HOST, server.port, timeout=10) as client:
            assert client.docmd("MAIL FROM:<a@b.example>")[0] == 530
            client.starttls(context=ssl.create_default_context(cadata=authority.certificate))
            client.ehlo()
            assert client.docmd("MAIL FROM:<a@b.example>")[0] == 530
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login(username, "wrong")
            client.login(username, password)
            client.sendmail("a@b.example", ["c@d.example"], b"Subject: two\x1b[2J words\r\n\r\ntext")
            mail = server.received.get(timeout=10)
        assert (mail.login, mail.sender, mail.recipients) == (username, "a@b.example", ("c@d.example",))
        assert mail.subject == "two[2J words"  # nothing that a terminal obeys
        assert password not in mail_text(mail)

    @pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
    def test_takes_a_live_token_of_its_own_account(self, mechanism: str) -> None:
        with mail_server_that_knows({"good": ACCOUNT}) as (server, client):
            for username, token in ((ACCOUNT, "bad"), (LOGINS.copy().popitem()[0], "good"), ("", "bad")):
                with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
                    log_in(client, mechanism, username, token)
                assert refused.value.smtp_code == 535
            assert server.refused_tokens == 3
            log_in(client, mechanism, ACCOUNT, "good")
            client.sendmail(ACCOUNT, ["c@d.example"], b"Subject: x\r\n\r\ntext")
            mail = server.received.get(timeout=10)
        assert (mail.login, mail.token) == (ACCOUNT, 1)
        assert server.refused_tokens == 3

    def test_numbers_tokens_as_they_come(self) -> None:
        authority = Authority()
        seen = []
        with MailServer(authority, lambda _token: ACCOUNT) as server:
            for token in ("a", "b", "a"):
                with client_of(server, authority) as client:
                    log_in(client, "XOAUTH2", ACCOUNT, token)
                    client.sendmail(ACCOUNT, ["c@d.example"], b"Subject: x\r\n\r\ntext")
                seen.append(server.received.get(timeout=10).token)
        assert seen == [1, 2, 1]

    def test_example_program_logs_in_with_a_token(self, tmp_path: Path) -> None:
        authority = Authority()
        values = {
            "host": HOST,
            "tls": "StartTLS",
            "from": ACCOUNT,
            "username": ACCOUNT,
            "ca.crt": authority.certificate,
        }
        with MailServer(authority, lambda token: {"good": ACCOUNT}.get(token, "")) as server:
            for token, status in (("bad", 1), ("good", 0)):
                for key, value in {**values, "port": str(server.port), "access-token": token}.items():
                    (tmp_path / key).write_text(value)
                command = [sys.executable, str(EXAMPLES / "send_mail.py"), str(tmp_path), RECIPIENT]
                sent = subprocess.run(command, capture_output=True, timeout=30, check=False)
                assert sent.returncode == status, sent.stderr
            assert server.received.get(timeout=10).recipients == (RECIPIENT,)
        assert server.refused_tokens == 1


@contextmanager
def mail_server_that_knows(tokens: dict[str, str]) -> Iterator[tuple[MailServer, smtplib.SMTP]]:
    authority = Authority()
    with (
        MailServer(authority, lambda token: tokens.get(token, "")) as server,
        client_of(server, authority) as client,
    ):
        yield server, client


@contextmanager
def client_of(server: MailServer, authority: Authority) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP(HOST, server.port, timeout=10) as client:
        client.starttls(context=ssl.create_default_context(cadata=authority.certificate))
        client.ehlo()
        yield client


def log_in(client: smtplib.SMTP, mechanism: str, username: str, token: str) -> None:
    first = {
        "XOAUTH2": f"user={username}\x01auth=Bearer {token}\x01\x01",
        "OAUTHBEARER": f"n,a={username},\x01host={HOST}\x01port=587\x01auth=Bearer {token}\x01\x01",
    }
    after_refusal = {"XOAUTH2": "", "OAUTHBEARER": "\x01"}

    def answer(challenge: bytes | None = None) -> str:
        return first[mechanism] if challenge is None else after_refusal[mechanism]

    client.auth(mechanism, answer)


CALLBACK: Final = "http://127.0.0.1:8081/oauth2/callback/idp.example"
VERIFIER: Final = "v" * 43
CHALLENGE: Final = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


Answer = tuple[int, dict[str, Any]]


@dataclass(frozen=True)
class Client:
    """What the operator is to the provider."""

    provider: IdentityProvider
    authority: Authority

    def authorize_url(self, **changes: str) -> str:
        asked = {
            "response_type": "code",
            "client_id": CLIENT_ID,
            "redirect_uri": CALLBACK,
            "state": "the state",
            "nonce": "the nonce",
            "scope": "openid mail.send",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        return f"{self.provider.authorization_uri}?{urlencode(asked | changes)}"

    async def consented(self, decision: str = "allow", **changes: str) -> dict[str, str]:
        """What the provider sends a person back with."""
        visitor = Visitor(self.authority.certificate, ACCOUNT, PASSWORD)
        return query(await visitor.consent(self.authorize_url(**changes), decision))

    async def redeem(self, code: str, **changes: str) -> Answer:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
        return await self.post(form | changes)

    async def refresh(self, token: str) -> Answer:
        return await self.post({"grant_type": "refresh_token", "refresh_token": token})

    async def post(self, form: dict[str, str], secret: str = CLIENT_SECRET) -> Answer:
        trust = ssl.create_default_context(cadata=self.authority.certificate)
        login = base64.b64encode(f"{CLIENT_ID}:{secret}".encode()).decode()
        headers = {"Authorization": f"Basic {login}"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.provider.token_uri, data=form, headers=headers, ssl=trust) as answer,
        ):
            return answer.status, await answer.json()


REFUSED: Final[Answer] = (400, {"error": "invalid_grant"})


@pytest.fixture
def idp() -> Iterator[Client]:
    authority = Authority()
    with IdentityProvider(authority) as provider:
        provider.redirect_uris.add(CALLBACK)
        yield Client(provider, authority)


class TestIdentityProvider:
    async def test_code_is_good_for_tokens_once(self, idp: Client) -> None:
        sent = await idp.consented()
        assert (sent["state"], sent["iss"]) == ("the state", idp.provider.origin)
        status, tokens = await idp.redeem(sent["code"])
        assert (status, tokens["expires_in"]) == (200, 120)
        assert idp.provider.account_of(tokens["access_token"]) == ACCOUNT
        claims = jwt.decode(tokens["id_token"], CLIENT_SECRET, ["HS256"], audience=CLIENT_ID)
        assert (claims["email"], claims["nonce"], claims["iss"]) == (ACCOUNT, "the nonce", idp.provider.origin)
        assert await idp.redeem(sent["code"]) == REFUSED

    @pytest.mark.parametrize("changes", [{"code_verifier": "w" * 43}, {"redirect_uri": f"{CALLBACK}/"}], ids=str)
    async def test_code_is_bound_to_what_it_was_asked_with(self, idp: Client, changes: dict[str, str]) -> None:
        sent = await idp.consented()
        assert await idp.redeem(sent["code"], **changes) == REFUSED

    async def test_denial_is_sent_back(self, idp: Client) -> None:
        sent = await idp.consented("deny")
        assert sent["error"] == "access_denied"
        assert "code" not in sent

    async def test_pkce_is_required(self, idp: Client) -> None:
        assert (await idp.consented(code_challenge=""))["error"] == "invalid_request"

    async def test_nobody_is_sent_to_an_address_that_is_not_registered(self, idp: Client) -> None:
        with pytest.raises(NoConsentError):
            await idp.consented(redirect_uri=f"{CALLBACK}.evil.example")
        assert "code" in await idp.consented(redirect_uri="http://127.0.0.1:50123/"), "a program on this machine"

    async def test_refresh_token_that_was_replaced_ends_everything(self, idp: Client) -> None:
        _, first = await idp.redeem((await idp.consented())["code"])
        status, second = await idp.refresh(first["refresh_token"])
        assert status == 200
        assert idp.provider.account_of(second["access_token"]) == ACCOUNT
        assert await idp.refresh(first["refresh_token"]) == REFUSED
        assert await idp.refresh(second["refresh_token"]) == REFUSED
        assert idp.provider.account_of(second["access_token"]) == ""

    async def test_client_needs_its_secret(self, idp: Client) -> None:
        form = {"grant_type": "authorization_code", "code": (await idp.consented())["code"]}
        assert await idp.post(form, secret="another") == (400, {"error": "invalid_client"})

    async def test_tokens_end(self, idp: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(identity_provider, "ACCESS_LIFE", timedelta())
        _, tokens = await idp.redeem((await idp.consented())["code"])
        assert idp.provider.account_of(tokens["access_token"]) == ""


class TestPerson:
    def test_page_that_cannot_be_loaded_is_named(self, idp: Client) -> None:
        person = Person(idp.authority.certificate)
        with pytest.raises(ConsentError, match="400"):
            person.consent(idp.authorize_url(client_id="another"), ACCOUNT, PASSWORD)

    def test_trusts_the_authority_of_the_demo_only(self, idp: Client) -> None:
        with pytest.raises(ConsentError, match="CERTIFICATE_VERIFY_FAILED"):
            Person(Authority().certificate).consent(idp.authorize_url(), ACCOUNT, PASSWORD)


class TestConsentDemo:
    def test_refused_token_is_no_success(self, tmp_path: Path) -> None:
        authority = Authority()
        with MailServer(authority) as server:
            api: Any = None
            servers = Servers(authority, IdentityProvider(authority), server)
            demo = ConsentDemo(api, tmp_path, servers, PlainScreen(), by_itself=True)
            state = State((ROWS[CONSENTED],), frozenset({(CONSENTED.namespace, CONSENTED.secret)}))
            before = demo.unmet(state)
            with client_of(server, authority) as client, pytest.raises(smtplib.SMTPAuthenticationError):
                log_in(client, "XOAUTH2", ACCOUNT, "bad")
            after = demo.unmet(state)
        assert [*before, "billing/mail: logins with a token that were refused: 1"] == after
        assert "billing/mail: was not seen without a token, waiting for a consent" in before

    def test_mail_with_a_renewed_token_is_waited_for(self, tmp_path: Path) -> None:
        authority = Authority()
        api: Any = None
        servers = Servers(authority, IdentityProvider(authority), MailServer(authority))
        demo = ConsentDemo(api, tmp_path, servers, PlainScreen(), by_itself=True)
        missing = [set(demo.unmet(State((), frozenset())))]
        for token in (1, 1, 2):
            assert demo.take(Mail(ACCOUNT, ACCOUNT, (RECIPIENT,), "x", token))
            missing.append(set(demo.unmet(State((), frozenset()))))
        assert not demo.take(Mail(ACCOUNT, ACCOUNT, ("c@shop.example",), "x"))
        found = [{each for each in some if "no mail has come" in each} for some in missing]
        waits = {"billing/mail: no mail has come with a renewed token"}
        assert found == [{"billing/mail: no mail has come with a token"}, waits, waits, set()]


ROWS: Final = {
    e: Row(e.namespace, e.name, e.ready, e.reason, e.source, e.secret, "") for e in (*EXPECTATIONS, CONSENTED)
}
ROW: Final = Row("shop", "mail", "False", "BadCredentials", "Tenant", "mail-smtp", "x" * 30 + " words" * 30)


class TestScreens:
    def test_plain_screen_appends_what_has_changed(self, capsys: pytest.CaptureFixture[str]) -> None:
        screen = PlainScreen()
        for ready in ("Unknown", "False", "False"):
            row = Row("shop", "mail", ready, "BadCredentials", "Tenant", "", "why")
            screen.show(State((row,), frozenset()))
        screen.show(State((), frozenset()))
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[:2] for line in lines if line] == [
            ["Settings", "Ready"],
            ["shop/mail", "Unknown"],
            ["shop/mail", "False"],
            ["why"],
            ["shop/mail:", "gone"],
        ]

    def test_live_screen_fits_a_terminal_of_80_columns(self) -> None:
        file = StringIO()
        with LiveScreen(Console(file=file, force_terminal=True, width=80, height=40)) as screen:
            screen.show(State((ROW,), frozenset()))
            screen.say(mail_text(Mail("login@b.example", "a@b.example", ("c@d.example",) * 9, "s" * 200)))
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()).replace("\r", "\n")
        assert "BadCredentials" in plain
        assert max(map(len, plain.splitlines())) <= 80

    @pytest.mark.parametrize("refused", [0, 3])
    def test_screens_say_how_many_mails_were_sent(self, capsys: pytest.CaptureFixture[str], refused: int) -> None:
        file = StringIO()
        seen = [Sending("billing/mail", mails, 1, refused, timedelta(seconds=21)) for mails in range(1, 12)]
        with LiveScreen(Console(file=file, force_terminal=True, width=80, height=40)) as live:
            live.show(State((ROW,), frozenset()), seen[0])
        plain = PlainScreen()
        for sending in seen:
            plain.show(State((), frozenset()), sending)
        words = f"{refused} refused" if refused else "none refused"
        assert f"billing/mail: 1 mail, 1 token, {words}; next token in 21 s" in file.getvalue()
        lines = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
        assert lines == [f"billing/mail: {mails} mails, 1 token, {words}; next token in 21 s" for mails in (5, 10)]

    def test_consent_that_is_awaited_is_no_fault(self) -> None:
        colours = []
        for reason in ("ConsentRequired", "ConsentDenied"):
            file = StringIO()
            with LiveScreen(
                Console(file=file, force_terminal=True, width=80, height=40, _environ={"TERM": "xterm-256color"})
            ) as screen:
                screen.show(State((replace(ROW, reason=reason),), frozenset()))
            colours.append("\x1b[33m" in file.getvalue())
        assert colours == [True, False]


class TestExpectations:
    def test_everything_is_missing_at_the_start(self) -> None:
        assert len(unmet(State((), frozenset()))) == len(EXPECTATIONS)

    def test_what_is_as_expected_is_not_named(self) -> None:
        rows = [ROWS[expected] for expected in EXPECTATIONS]
        secrets = frozenset((row.namespace, row.secret) for row in rows if row.secret)
        assert unmet(State(tuple(rows), secrets)) == []

    def test_secret_that_must_not_be_there_is_named(self) -> None:
        rows = [ROWS[expected] for expected in EXPECTATIONS]
        secrets = {(row.namespace, row.secret) for row in rows if row.secret}
        faults = unmet(State(tuple(rows), frozenset({*secrets, ("reports", "mail-smtp")})))
        assert faults == ["reports/mail: the delivered Secrets are mail-smtp, not none"]
