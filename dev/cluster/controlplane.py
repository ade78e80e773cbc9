"""Starts and stops the servers of a control plane."""

import base64
import http.client
import os
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from dev.cluster.binaries import Binaries, find_binaries
from dev.cluster.certificates import Certificates
from dev.cluster.errors import ClusterError
from dev.cluster.kube import Api, service_account_kubeconfig, write_kubeconfig
from dev.cluster.locks import try_lock
from dev.cluster.manifests import apply
from dev.cluster.process import Server

READY_TIMEOUT_S = 60.0
"""A start takes 3 s; a machine that runs many at once is given twenty times as long."""

PROBE_TIMEOUT_S = 5.0
POLL_INTERVAL_S = 0.05

TEMPORARY_PREFIX = "mailsettings-cluster-"
SERVICE_ISSUER = "https://kubernetes.default.svc.cluster.local"

ETCD_SOCKET = "unix://client:1"
"""etcd wants a name and a port even of a Unix socket; the file is `client:1` in the servers' working directory."""

CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "validatingadmissionpolicy-status-controller",
)
"""What makes deletion, owner references, aggregated roles, accounts and policies behave as in a real cluster."""


@dataclass(frozen=True)
class Cluster:
    """A cluster to work with, started here or given.

    Attributes:
        kubeconfig: The administrator's.
    """

    kubeconfig: Path

    def api(self) -> Api:
        """Opens the API as the administrator."""
        return Api(self.kubeconfig)

    def apply(self, *paths: Path) -> list[str]:
        """Applies manifests as the administrator; see `manifests.apply`."""
        return apply(self.kubeconfig, *paths)

    def service_account(self, *, namespace: str, name: str, target: Path) -> Path:
        """Writes a kubeconfig of a ServiceAccount; see `kube.service_account_kubeconfig`."""
        return service_account_kubeconfig(self.kubeconfig, namespace=namespace, name=name, target=target)


class ControlPlane:
    """etcd, kube-apiserver and kube-controller-manager as children of this process.

    They listen on the loopback address and on Unix sockets only, keep nothing after they stop, and on Linux end with
    the thread that started them, however it ends.

    Args:
        directory: Where the servers' files, logs and the kubeconfig go. Without one it is a temporary folder, which
            goes when the servers stop; a given one keeps its logs.
        binaries: The programs to run; by default those that `find_binaries` gives.
        apiserver: More arguments for kube-apiserver.

    Raises:
        ClusterError: At entry: the programs are missing, or a server ended or was not ready in time.
    """

    def __init__(
        self, directory: Path | None = None, *, binaries: Binaries | None = None, apiserver: Sequence[str] = ()
    ) -> None:
        self._given = directory
        self._binaries = binaries
        self._apiserver = apiserver
        self._servers: list[Server] = []
        self._directory: Path | None = None
        self._temporary_lock: int | None = None
        self._port: socket.socket | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def directory(self) -> Path:
        """Where its files are; only while it runs."""
        if self._directory is None:
            raise ClusterError("The control plane is not running; start it first.")
        return self._directory

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "kubeconfig"

    @property
    def server(self) -> str:
        """The API server's URL."""
        if self._port is None:
            raise ClusterError("The control plane is not running; start it first.")
        return f"https://127.0.0.1:{self._port.getsockname()[1]}"

    @property
    def pids(self) -> dict[str, int]:
        """The servers' process numbers by name."""
        return {server.name: server.pid for server in self._servers}

    def start(self) -> None:
        """Starts the servers and waits until the API is ready.

        Raises:
            ClusterError: The programs are missing, or a server ended or was not ready in time; nothing is left behind.
        """
        binaries = self._binaries or find_binaries()
        self._directory = self._open_directory()
        try:
            self._start(binaries, self._directory)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops the servers in order, and removes what they stored. Does nothing if it is not running."""
        while self._servers:
            self._servers.pop().stop()
        if self._port is not None:
            self._port.close()
            self._port = None
        if self._directory is not None:
            self._close_directory(self._directory)
            self._directory = None

    def check(self) -> None:
        """Makes sure that all servers still run.

        Raises:
            ClusterError: One has ended; the message has its log's last lines.
        """
        for server in self._servers:
            server.check()

    def _start(self, binaries: Binaries, directory: Path) -> None:
        certificates = Certificates.create(_emptied(directory / "pki"))
        _emptied(directory / "etcd")
        self._port = _reserve_port()
        self._servers.append(Server("etcd", _etcd(binaries.etcd), directory))
        command = [*_apiserver(binaries.apiserver, self._port.getsockname()[1], certificates), *self._apiserver]
        apiserver = Server("kube-apiserver", command, directory)
        self._servers.append(apiserver)
        probe = _Probe(self._port.getsockname()[1], certificates)
        self._wait(probe, "/readyz", apiserver)
        user = {
            "client-certificate-data": _base64(certificates.admin_cert),
            "client-key-data": _base64(certificates.admin_key),
        }
        write_kubeconfig(directory / "kubeconfig", server=self.server, ca=certificates.ca.read_bytes(), user=user)
        if binaries.controller_manager is not None:
            command = _controller_manager(binaries.controller_manager, directory / "kubeconfig", certificates)
            manager = Server("kube-controller-manager", command, directory)
            self._servers.append(manager)
            # It listens nowhere; the first thing to be seen of it is the account that every namespace gets.
            self._wait(probe, "/api/v1/namespaces/default/serviceaccounts/default", manager)

    def _wait(self, probe: "_Probe", path: str, server: Server) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not probe.succeeds(path):
            self.check()
            if time.monotonic() > deadline:
                raise server.failure(f"was not ready after {READY_TIMEOUT_S:.0f} s")
            time.sleep(POLL_INTERVAL_S)

    def _open_directory(self) -> Path:
        if self._given is not None:
            self._given.mkdir(parents=True, exist_ok=True, mode=0o700)
            return self._given.resolve()
        _remove_abandoned()
        directory = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
        self._temporary_lock = try_lock(directory / "lock")
        return directory

    def _close_directory(self, directory: Path) -> None:
        for name in ("etcd", "pki"):
            shutil.rmtree(directory / name, ignore_errors=True)
        (directory / "kubeconfig").unlink(missing_ok=True)
        if self._given is None:
            shutil.rmtree(directory, ignore_errors=True)
        if self._temporary_lock is not None:
            os.close(self._temporary_lock)
            self._temporary_lock = None


def existing_kubeconfig() -> Path | None:
    """The kubeconfig of an existing cluster that the environment names in `MAILSETTINGS_KUBECONFIG`, if it does.

    Raises:
        ClusterError: There is no such file.
    """
    given = os.environ.get("MAILSETTINGS_KUBECONFIG")
    if not given:
        return None
    path = Path(given).absolute()
    if not path.is_file():
        raise ClusterError(f"MAILSETTINGS_KUBECONFIG: there is no file {path}; unset it or mend it.")
    return path


@contextmanager
def running_cluster(directory: Path | None = None) -> Iterator[Cluster]:
    """Gives a cluster for the block: the existing one that the environment names, or one that is started and stopped.

    Args:
        directory: As in `ControlPlane`.

    Raises:
        ClusterError: It cannot be started or used.
    """
    existing = existing_kubeconfig()
    if existing is not None:
        yield Cluster(existing)
        return
    with ControlPlane(directory) as control_plane:
        yield Cluster(control_plane.kubeconfig)


class _Probe:
    """Asks the API server for a path as the administrator, without the weight of a Kubernetes client."""

    def __init__(self, port: int, certificates: Certificates) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=certificates.ca)
        self._context.load_cert_chain(certificates.admin_cert, certificates.admin_key)

    def succeeds(self, path: str) -> bool:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self._port, timeout=PROBE_TIMEOUT_S, context=self._context
        )
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _etcd(program: Path) -> list[str]:
    peer = "unix://peer:1"
    return [
        str(program),
        "--data-dir=etcd",
        "--unsafe-no-fsync",
        f"--listen-client-urls={ETCD_SOCKET}",
        f"--advertise-client-urls={ETCD_SOCKET}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
    ]


def _apiserver(program: Path, port: int, certificates: Certificates) -> list[str]:
    return [
        str(program),
        f"--etcd-servers={ETCD_SOCKET}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        "--permit-port-sharing",
        f"--tls-cert-file={certificates.server_cert}",
        f"--tls-private-key-file={certificates.server_key}",
        f"--client-ca-file={certificates.ca}",
        f"--service-account-issuer={SERVICE_ISSUER}",
        f"--service-account-key-file={certificates.account_key}",
        f"--service-account-signing-key-file={certificates.account_key}",
        "--authorization-mode=RBAC",
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--enable-priority-and-fairness=false",
        "--profiling=false",
    ]


def _controller_manager(program: Path, kubeconfig: Path, certificates: Certificates) -> list[str]:
    return [
        str(program),
        f"--kubeconfig={kubeconfig}",
        f"--root-ca-file={certificates.ca}",
        f"--service-account-private-key-file={certificates.account_key}",
        f"--controllers={','.join(CONTROLLERS)}",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        "--profiling=false",
    ]


def _reserve_port() -> socket.socket:
    """Holds a free port until the socket is closed.

    The socket never listens. Both it and kube-apiserver (`--permit-port-sharing`) set SO_REUSEPORT, so that the server
    can bind the port while nobody else is given it: there is no moment in which another process could take it.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def _remove_abandoned() -> None:
    """Removes the temporary folders of processes that were killed: those whose lock nobody holds."""
    for lock in Path(tempfile.gettempdir()).glob(f"{TEMPORARY_PREFIX}*/lock"):
        with suppress(OSError):  # somebody else's, or just removed by its owner
            descriptor = try_lock(lock)
            if descriptor is not None:
                shutil.rmtree(lock.parent, ignore_errors=True)
                os.close(descriptor)
