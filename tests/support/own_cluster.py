"""A control plane of a test's own, whose API server can go away."""

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.cluster import ApiError, Cluster, ControlPlane
from dev.cluster.process import Server
from dev.operator_process import OperatorProcess
from dev.role_process import ROOT
from tests.support.kube import Kube


class OwnCluster:
    """A control plane whose API server can be stopped, and an operator beside it."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self._plane = plane
        self._folder = folder
        self.cluster = Cluster(plane.kubeconfig)
        self.kube = Kube(self.cluster.api())

    def install(self) -> None:
        self.cluster.apply(ROOT / "manifests")

    @contextmanager
    def operator(self, **environment: str) -> Iterator[OperatorProcess]:
        """An operator of its own, not yet started, which ends with the block."""
        process = OperatorProcess(self.cluster, self._folder, {"MAILSETTINGS_LOG_LEVEL": "DEBUG", **environment})
        try:
            yield process
        finally:
            process.kill()

    @contextmanager
    def without_apiserver(self) -> Iterator[None]:
        """Kills the API server; a new one on the same data is ready after the block."""
        position = next(i for i, server in enumerate(self._plane._servers) if server.name == "kube-apiserver")
        old = self._plane._servers[position]
        command = list(old._process.args)[5:]  # type: ignore[arg-type]
        os.kill(old.pid, signal.SIGKILL)
        old._process.wait()
        yield
        self._plane._servers[position] = Server(old.name, command, self._plane.directory)  # type: ignore[arg-type]
        self.kube.wait(self._is_ready, "the API server to be back", timeout=60)

    @contextmanager
    def frozen_apiserver(self) -> Iterator[None]:
        """Stops the API server, which keeps its connections, for the block."""
        pid = self._plane.pids["kube-apiserver"]
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def _is_ready(self) -> bool:
        try:
            self.kube.api.request("GET", "/readyz")
        except ApiError:
            return False
        return True


def create_namespace(kube: Kube) -> str:
    name = f"test-{secrets.token_hex(4)}"
    kube.create("Namespace", name)
    return name
