"""The demo: it comes to what it promises, says so when it does not, and leaves nothing behind."""

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
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pytest
from rich.console import Console

from dev.cluster import Cluster, load
from dev.demo.examples import EXAMPLES, example_manifests, fitted
from dev.demo.expectations import EXPECTATIONS, unmet
from dev.demo.mail_server import HOST, LOGINS, Mail, MailServer
from dev.demo.screen import LiveScreen, PlainScreen, mail_text
from dev.demo.state import Row, State
from tests.support.client import DRY_RUN, Client

ROOT: Final = Path(__file__).parents[2]
DEMO: Final = [sys.executable, "-m", "dev.demo"]
LIMIT_S: Final = 90.0

PASSWORDS: Final = {
    value
    for manifest in example_manifests()
    for key, value in manifest.get("stringData", {}).items()
    if key == "password"
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


@pytest.mark.cluster
class TestDemo:
    def test_once_comes_to_the_expected_states_and_ends(self, tmp_path: Path) -> None:
        with running([*DEMO, "--once", "--limit", "60"], tmp_path) as demo:
            output, errors = demo.communicate(timeout=LIMIT_S)
        assert demo.returncode == 0, errors
        for expected in (
            r"^  export KUBECONFIG=/.*/kubeconfig$",
            r"^default \(cluster\) +True +Ready +System",
            r"^shop/mail +True +Ready +System +mail-smtp$",
            r"^acme/mail +True +Ready +Tenant +acme-mail$",
            r"^blog \(no settings\) +- +- +System +default-smtp$",
            r"^lab/mail +False +BadCredentials +Tenant +mail-smtp\n    ProbeSucceeded: .* 535 5\.7\.8$",
            r"^reports/mail +False +SecretNotFound +Tenant +-\n    CredentialsResolved: ",
            r"^  Subject: Test mail of MailServerSettings acme/mail$",
            r"sent with the login system@platform\.example\n  From: +no-reply@.*\n  To: +customer@shop\.example$",
            r"^Every example has reached its expected state\.$",
        ):
            assert re.search(expected, output, re.MULTILINE), (expected, output)
        # The kubeconfig's path is as long as the temporary folder's.
        lines = [line for line in output.splitlines() if "KUBECONFIG=" not in line]
        assert max(map(len, lines)) <= 80
        assert not any(password in output + errors for password in PASSWORDS)
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
            "sys.exit(main(['--once', '--limit', '10']))\n"
        )
        with running([sys.executable, "-c", program], tmp_path) as demo:
            output, errors = demo.communicate(timeout=LIMIT_S)
        assert demo.returncode == 1, output
        first, *faults = errors.splitlines()
        assert first == "error: The limit has passed:"
        assert "  lab/mail: Ready is False (BadCredentials), not True (Ready)" in faults
        assert "  reports/mail: the delivered Secrets are none, not mail-smtp" in faults
        assert "Every example" not in output

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
        client = Client(control_plane.kubeconfig)
        for manifest in load(file):
            metadata = manifest["metadata"] | ({"namespace": "default"} if "namespace" in manifest["metadata"] else {})
            answer = client.call("POST", collection(manifest), manifest | {"metadata": metadata}, query=STRICTLY)
            # 409: the tests share the cluster, and somebody else may have one of that name; it was valid.
            assert answer.status in (201, 409), answer.message

    def test_fitting_changes_only_where_to_connect_and_whom_to_trust(self) -> None:
        with MailServer() as server:
            before, after = keyed(example_manifests()), keyed(fitted(example_manifests(), server))
        added = after.keys() - before.keys()
        assert {kind for kind, *_ in added} == {"ConfigMap"}
        assert before.keys() <= after.keys()
        for key, manifest in before.items():
            changed = after[key]
            if key[0] == "ConfigMap":
                assert changed["data"]["ca.crt"] == server.ca_certificate
            elif "host" in (manifest.get("spec") or {}).get("connection", {}):
                connection = changed["spec"].pop("connection")
                assert (connection["host"], connection["port"]) == (HOST, server.port)
                manifest["spec"].pop("connection")
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
        with MailServer() as server, smtplib.SMTP(HOST, server.port, timeout=10) as client:
            assert client.docmd("MAIL FROM:<a@b.example>")[0] == 530
            client.starttls(context=ssl.create_default_context(cadata=server.ca_certificate))
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


class TestExpectations:
    def test_everything_is_missing_at_the_start(self) -> None:
        assert len(unmet(State((), frozenset()))) == len(EXPECTATIONS)

    def test_what_is_as_expected_is_not_named(self) -> None:
        rows = [Row(e.namespace, e.name, e.ready, e.reason, e.source, e.secret, "") for e in EXPECTATIONS]
        secrets = frozenset((row.namespace, row.secret) for row in rows if row.secret)
        assert unmet(State(tuple(rows), secrets)) == []

    def test_secret_that_must_not_be_there_is_named(self) -> None:
        rows = [Row(e.namespace, e.name, e.ready, e.reason, e.source, e.secret, "") for e in EXPECTATIONS]
        secrets = {(row.namespace, row.secret) for row in rows if row.secret}
        faults = unmet(State(tuple(rows), frozenset({*secrets, ("reports", "mail-smtp")})))
        assert faults == ["reports/mail: the delivered Secrets are mail-smtp, not none"]
