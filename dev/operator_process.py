"""The operator as a process of its own, run under its own ServiceAccount, as the demo and the tests run it."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from dev.cluster import Cluster

ROOT: Final = Path(__file__).resolve().parent.parent
NAMESPACE: Final = "mailsettings-system"
SERVICE_ACCOUNT: Final = "mailsettings-operator"
LOOPBACK: Final = "127.0.0.0/8:* [::1/128]:*"
"""What the demo and the tests let the operator connect to; its egress policy denies loopback to everybody."""

_TETHER: Final = ROOT / "dev" / "cluster" / "tether.py"
_READY: Final = "everything has been seen"
_START_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 15.0


class OperatorError(Exception):
    """The operator did not start; the message holds the end of its log."""


class OperatorProcess:
    """Starts and stops the operator. On Linux it dies with the thread that started it."""

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        program: Sequence[str] = ("-m", "mailsettings"),
        liveness: str = "none",
    ) -> None:
        """Nothing is started yet.

        Args:
            cluster: where it works; `manifests/` has been applied there.
            folder: for its kubeconfig and its log.
            environment: its configuration, beside the permission to connect to loopback.
            program: what Python runs; tests put one there that breaks at a certain place.
            liveness: where it answers health checks.
        """
        self._liveness = liveness
        self._program = program
        self.log = folder / "operator.log"
        self.kubeconfig = cluster.service_account(
            namespace=NAMESPACE, name=SERVICE_ACCOUNT, target=folder / "operator.kubeconfig"
        )
        self._environment = {"MAILSETTINGS_EGRESS_ALLOW": LOOPBACK, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self._process.pid if self._process else None

    def start(self, *, timeout: float = _START_TIMEOUT_S) -> None:
        """Starts it and waits until it has seen the cluster's state.

        Raises:
            OperatorError: it ended, or took longer than `timeout` seconds.
        """
        python = [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), sys.executable]
        command = [*python, *self._program, "run", "--liveness", self._liveness]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "operator"), **self._environment}
        environment["KUBECONFIG"] = str(self.kubeconfig)
        with self.log.open("ab") as log:
            begin = log.tell()
            self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + timeout
        while _READY not in self._log_since(begin):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise OperatorError(f"The operator did not start:\n{self._log_since(begin)[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends it as Kubernetes would: SIGTERM, and SIGKILL if that does not help."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Ends it without a chance to tidy up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def log_text(self) -> str:
        """All that it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _log_since(self, begin: int) -> str:
        with self.log.open("rb") as log:
            log.seek(begin)
            return log.read().decode(errors="replace")
