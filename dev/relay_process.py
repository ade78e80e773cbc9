"""The relay as a process of its own, run under its own ServiceAccount, as the demo and the tests run it."""

import base64
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from dev.cluster import ApiError, Cluster
from dev.operator_process import LOOPBACK, ROOT

NAMESPACE: Final = "mailsettings-relay"
SERVICE_ACCOUNT: Final = "mailsettings-relay"
CERTIFICATE: Final = f"/api/v1/namespaces/{NAMESPACE}/secrets/mailsettings-relay-tls"

_HOST: Final = "127.0.0.1"
_TETHER: Final = ROOT / "dev" / "cluster" / "tether.py"
_START_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 15.0


class RelayError(Exception):
    """The relay did not start; the message holds the end of its log."""


class RelayProcess:
    """Starts and stops a replica of the relay. On Linux it dies with the thread that started it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        """Nothing is started yet.

        Args:
            cluster: Where its bundles are; `manifests/` has been applied there.
            folder: For its kubeconfig, its certificate and its log.
        """
        self._cluster = cluster
        self._folder = folder
        self.log = folder / "relay.log"
        self.port = 0
        """For STARTTLS."""
        self.tls_port = 0
        self._kubeconfig = cluster.service_account(
            namespace=NAMESPACE, name=SERVICE_ACCOUNT, target=folder / "relay.kubeconfig"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, port: int = 0, timeout: float = _START_TIMEOUT_S) -> None:
        """Starts it, once it has a certificate, and waits until it listens.

        Args:
            port: Where, for STARTTLS; 0: on a free port.
            timeout: How long all that may take, in seconds.

        Raises:
            RelayError: It ended, or took longer.
        """
        deadline = time.monotonic() + timeout
        self._write_certificate(deadline)
        self.port, self.tls_port = port or _free_port(), _free_port()
        python = [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), sys.executable, "-m", "mailsettings"]
        places = ["--certificate", str(self._folder / "tls.crt"), "--key", str(self._folder / "tls.key")]
        ports = ["--host", _HOST, "--port", str(self.port), "--tls-port", str(self.tls_port)]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "operator"),
            "KUBECONFIG": str(self._kubeconfig),
            "MAILSETTINGS_EGRESS_ALLOW": LOOPBACK,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*python, "relay", "--namespace", NAMESPACE, *places, *ports],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        while not _listens(self.tls_port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RelayError(f"The relay did not start:\n{self.log_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends it as Kubernetes would: SIGTERM, and SIGKILL if that does not help."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def log_text(self) -> str:
        """All that it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _write_certificate(self, deadline: float) -> None:
        """What the kubelet does with a Secret that is mounted."""
        while True:
            try:
                data = self._cluster.api().request("GET", CERTIFICATE)["data"]
                break
            except ApiError as error:
                if error.status != 404 or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)
        for key in ("tls.crt", "tls.key"):
            path = self._folder / key
            path.touch(mode=0o600)
            path.write_bytes(base64.b64decode(data[key]))


def _listens(port: int) -> bool:
    try:
        with socket.create_connection((_HOST, port), timeout=1):
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as holder:
        holder.bind((_HOST, 0))
        port: int = holder.getsockname()[1]
        return port
