"""How long `kubectl mailsettings test` takes, beside a bare aiosmtplib script that says the same to the same server.

Both are processes, from their start to their end, in turn, on the same machine, with the same server: STARTTLS, a login
and a mail, whose replies take as long as those of a server that is near or far.

    python -m bench.plugin_test
"""

import argparse
import asyncio
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trustme

from dev.cluster import Api, Cluster, ControlPlane
from dev.loop_thread import LoopThread
from dev.operator_process import OperatorProcess
from dev.role_process import ROOT

NAME: Final = "plugin-test"
ALLOWED: Final = 1.2
LATENCIES_MS: Final = (0, 20, 50, 100)
NAMESPACE: Final = "shop"
LOOPBACK: Final = "127.0.0.1"
RECIPIENT: Final = "ops@acme.example"
TIMEOUT_S: Final = 60

BARE: Final = """\
import asyncio, json, sys
from email.message import EmailMessage
import aiosmtplib

async def main():
    said = json.loads(sys.argv[1])
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@acme.example", said["to"], "Test mail"
    message.set_content("This is a test mail.")
    await aiosmtplib.send(
        message,
        hostname=said["host"], port=said["port"], start_tls=True, cert_bundle=said["ca"],
        username="mailer", password="secret", local_hostname="[127.0.0.1]",
    )

asyncio.run(main())
"""
"""Not a byte more than it takes."""


INSTALLED: Final = "import sys\nfrom mailsettings.plugin.__main__ import main\nsys.exit(main())\n"
"""What pip puts on the PATH."""


@asynccontextmanager
async def _mail_server(latency_s: float, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A server that takes everything, each reply after so many seconds; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(text: str) -> None:
            await asyncio.sleep(latency_s)
            writer.write(f"{text}\r\n".encode())
            await writer.drain()

        await say("220 mail.acme.example ESMTP")
        while line := await reader.readline():
            verb = line.split(b" ")[0].strip().upper()
            if verb == b"EHLO":
                await say("250-mail.acme.example\r\n250-STARTTLS\r\n250 AUTH PLAIN")
            elif verb == b"STARTTLS":
                await say("220 go ahead")
                await writer.start_tls(context)
            elif verb == b"AUTH":
                await say("235 ok")
            elif verb == b"DATA":
                await say("354 go on")
                await reader.readuntil(b"\r\n.\r\n")
                await say("250 kept")
            elif verb == b"QUIT":
                await say("221 bye")
                break
            else:
                await say("250 ok")
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def measure(latencies_ms: Sequence[int] = LATENCIES_MS, *, rounds: int = 15) -> list[dict[str, Any]]:
    """One result for each latency: the medians of both, in seconds, and their ratio.

    Raises:
        RuntimeError: One of the two failed.
    """
    with tempfile.TemporaryDirectory() as name, ControlPlane(Path(name) / "cluster") as plane:
        return _measured(Path(name), plane, latencies_ms, rounds)


def _measured(folder: Path, plane: ControlPlane, latencies_ms: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    cluster = Cluster(plane.kubeconfig)
    cluster.apply(ROOT / "manifests")
    api = cluster.api()
    authority = trustme.CA()
    (folder / "ca.pem").write_bytes(authority.cert_pem.bytes())
    (folder / "bare.py").write_text(BARE)
    (folder / "kubectl-mailsettings").write_text(INSTALLED)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(LOOPBACK).configure_cert(context)
    _prepare(api, (folder / "ca.pem").read_text())
    bounds = dict.fromkeys(("MAILSETTINGS_TEST_MAILS_PER_HOUR", "MAILSETTINGS_RECIPIENT_MAILS_PER_HOUR"), "1000")
    operator = OperatorProcess(cluster, folder, bounds)
    operator.start()
    thread = LoopThread("mail server")
    thread.start()
    try:
        return [
            _of_latency(folder, plane, api, thread, context, latency_ms=each, rounds=rounds) for each in latencies_ms
        ]
    finally:
        thread.stop()
        operator.stop()


def _prepare(api: Api, ca_pem: str) -> None:
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    secrets = f"/api/v1/namespaces/{NAMESPACE}/secrets"
    api.request("POST", secrets, {"metadata": {"name": "smtp"}, "stringData": {"password": "secret"}})
    config = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    api.request("POST", config, {"metadata": {"name": "ca"}, "data": {"ca.crt": ca_pem}})


def _create_settings(api: Api, name: str, port: int) -> None:
    tls = {"mode": "StartTLS", "caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}}
    spec = {
        "mailFrom": "a@acme.example",
        "connection": {"host": LOOPBACK, "port": port, "tls": tls},
        "auth": {"basic": {"username": "mailer", "passwordSecretRef": {"name": "smtp", "key": "password"}}},
        "probe": {"mode": "Disabled"},
    }
    path = f"/apis/mailsettings.dev/v1alpha1/namespaces/{NAMESPACE}/mailserversettings"
    body = {"apiVersion": "mailsettings.dev/v1alpha1", "kind": "MailServerSettings", "metadata": {"name": name}}
    api.request("POST", path, {**body, "spec": spec})


def _of_latency(
    folder: Path,
    plane: ControlPlane,
    api: Api,
    thread: LoopThread,
    context: ssl.SSLContext,
    *,
    latency_ms: int,
    rounds: int,
) -> dict[str, Any]:
    server: AbstractAsyncContextManager[int] = _mail_server(latency_ms / 1000, context)
    with thread.entered(server) as port:
        settings = f"after-{latency_ms}ms"
        _create_settings(api, settings, port)
        said = {"host": LOOPBACK, "port": port, "to": RECIPIENT, "ca": str(folder / "ca.pem")}
        bare = [sys.executable, str(folder / "bare.py"), json.dumps(said)]
        ours = [sys.executable, str(folder / "kubectl-mailsettings"), "test", settings, "-n", NAMESPACE]
        ours += ["--to", RECIPIENT]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "KUBECONFIG": str(plane.kubeconfig),
            "PYTHONPATH": str(ROOT / "operator"),
        }
        times = [(_timed(bare, environment), _timed(ours, environment)) for _ in range(rounds + 2)][2:]
    bare_s, ours_s = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "name": NAME,
        "about": f"replies after {latency_ms} ms",
        "ours_s": round(ours_s, 4),
        "floor_s": round(bare_s, 4),
        "ratio": round(ours_s / bare_s, 3),
        "allowed": ALLOWED,
        "rounds": rounds,
    }


def _timed(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Seconds from the start of a process to its end."""
    began_s = time.perf_counter()
    ended = subprocess.run(
        command, env=dict(environment), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    took_s = time.perf_counter() - began_s
    if ended.returncode:
        raise RuntimeError(f"{command[1:3]} failed:\n{ended.stdout}{ended.stderr}")
    return took_s


def main() -> int:
    """Prints one JSON object a line."""
    parser = argparse.ArgumentParser(prog="python -m bench.plugin_test")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--latency", type=int, action="append", metavar="MS")
    options = parser.parse_args()
    for result in measure(options.latency or LATENCIES_MS, rounds=options.rounds):
        sys.stdout.write(f"{json.dumps(result)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
