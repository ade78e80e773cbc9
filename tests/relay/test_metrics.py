"""What a replica shows to Prometheus and to the kubelet, and what it does without."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from mailsettings.core.relay.audit import AuditRecord, Outcome
from mailsettings.edges.relay.metrics import Metrics
from mailsettings.edges.service_account import access_by_service_account
from tests.relay.test_process import own, send, upstream
from tests.support.listening import LOOPBACK, free_port
from tests.support.relay import MESSAGE, SECRET, SENDER, bundle, prepared
from tests.support.smtp_server import Certificate, MailServer, certificate

__all__ = ["own", "upstream"]

ROOT: Final = Path(__file__).parents[2]


def message(outcome: Outcome, **fields: Any) -> AuditRecord:
    return AuditRecord("acme-ns", "mail", "boss@acme.example", 1, 500, outcome, 250, **fields)


class TestMetrics:
    def lines(self, metrics: Metrics) -> set[str]:
        return set(metrics.page()[0].decode().splitlines())

    def test_everything_is_there_from_the_beginning(self) -> None:
        lines = self.lines(Metrics())
        for outcome in Outcome:
            assert f'mailsettings_relay_messages_total{{outcome="{outcome}"}} 0.0' in lines
        assert 'mailsettings_relay_faults_total{fault="outcomeUnknown"} 0.0' in lines

    def test_messages_logins_and_failures_are_counted(self) -> None:
        metrics = Metrics()
        metrics.message(message(Outcome.ACCEPTED, duration_s=0.2, upstream_s=0.02))
        metrics.message(message(Outcome.DENIED, rule="allowedFrom"))
        metrics.message(message(Outcome.UNKNOWN, fault="outcomeUnknown"))
        metrics.message(message(Outcome.REFUSED))
        metrics.login("somebody", accepted=False)
        metrics.upstream_failed("some-uid", "BadCredentials")
        metrics.watch("clients", "How many.", lambda: 7)
        lines = self.lines(metrics)
        for line in (
            'messages_total{outcome="accepted"} 1.0',
            'messages_total{outcome="unknown"} 1.0',
            'faults_total{fault="outcomeUnknown"} 1.0',
            'denials_total{rule="allowedFrom"} 1.0',
            'logins_total{result="refused"} 1.0',
            'upstream_failures_total{cause="BadCredentials"} 1.0',
            "accepted_octets_total 500.0",
            'message_seconds_bucket{le="0.25"} 1.0',
            'message_seconds_bucket{le="0.1"} 0.0',
            'upstream_seconds_bucket{le="0.025"} 1.0',
            "clients 7.0",
        ):
            assert f"mailsettings_relay_{line}" in lines
        text = "\n".join(lines)
        assert not any(word in text for word in ("acme", "boss", "somebody", "some-uid"))


async def page(url: str) -> tuple[int, str]:
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.text()
    except aiohttp.ClientConnectionError:
        return 0, ""


async def test_the_process_answers_on_its_own_port(tmp_path: Path, own: Certificate, upstream: MailServer) -> None:
    origin = f"http://{LOOPBACK}:{free_port()}"
    relay = prepared(tmp_path, own, bundle(upstream.port))
    relay.start(liveness=f"{origin}/healthz")
    try:
        assert (await page(f"{origin}/healthz"))[0] == 200
        assert (await page(f"{origin}/readyz"))[0] == 200
        await asyncio.to_thread(send, relay, own, MESSAGE)
        status, text = await page(f"{origin}/metrics")
    finally:
        assert await asyncio.to_thread(relay.stop) == 0
    assert status == 200
    assert 'mailsettings_relay_messages_total{outcome="accepted"} 1.0' in text
    assert "mailsettings_relay_upstream_connections 1.0" in text
    assert "process_resident_memory_bytes" in text
    assert SECRET not in text
    assert SENDER not in text


KUBECONFIG: Final = """{apiVersion: v1, kind: Config, current-context: c,
contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {token: t}}],
clusters: [{name: c, cluster: {server: "http://127.0.0.1:9"}}]}"""


@pytest.mark.parametrize("where", ["a cluster", "a folder"])
def test_the_relay_does_without_the_operators_framework(tmp_path: Path, where: str) -> None:
    (tmp_path / "config").write_text(KUBECONFIG)
    source = ["--namespace", "relays"] if where == "a cluster" else ["--bundles", str(tmp_path)]
    arguments = ["relay", *source, "--certificate", "missing", "--key", "missing"]
    program = (
        "import sys; from mailsettings.__main__ import main; status = main(sys.argv[1:]); "
        "print(status, [name for name in sys.modules if name.split('.')[0] == 'kopf' or 'controller' in name])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator"), "KUBECONFIG": str(tmp_path / "config")}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["1 []"], done.stderr


class TestServiceAccount:
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "token").write_text("first\n")
        (tmp_path / "ca.crt").write_text(certificate(LOOPBACK).ca_pem)
        return tmp_path

    async def test_a_pods(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
        access = await access_by_service_account(self.folder(tmp_path))
        assert (access.server, access.asks_environment) == ("https://[fd00::1]:6443", False)
        assert await access.headers() == {"Authorization": "Bearer first"}
        (tmp_path / "token").write_text("second")
        assert await access.headers() == {"Authorization": "Bearer first"}
        monkeypatch.setattr("mailsettings.edges.service_account.REFRESH_SECONDS", -1)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        access = await access_by_service_account(tmp_path)
        (tmp_path / "token").write_text("third")
        assert (access.server, await access.headers()) == ("https://10.0.0.1:6443", {"Authorization": "Bearer third"})

    async def test_outside_a_pod(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        with pytest.raises(OSError, match="no Pod"):
            await access_by_service_account(self.folder(tmp_path))
