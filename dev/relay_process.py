"""The relay as a process of its own, as the demo, the tests and the benchmarks run it."""

import base64
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dev.cluster import ApiError, Cluster
from dev.role_process import START_TIMEOUT_S, RoleProcess

NAMESPACE: Final = "mailsettings-relay"
SERVICE_ACCOUNT: Final = "mailsettings-relay"
CERTIFICATE: Final = f"/api/v1/namespaces/{NAMESPACE}/secrets/mailsettings-relay-tls"

_HOST: Final = "127.0.0.1"
_POLL_S: Final = 0.1
_PORT: Final = re.compile(r"listening on \S+ port (\d+)(, TLS)?$", re.MULTILINE)


class RelayProcess(RoleProcess):
    """Starts and stops a replica of the relay."""

    def __init__(self, cluster: Cluster | None, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        """Nothing is started yet.

        Args:
            cluster: Where its bundles and its certificate are, which it reads under its own ServiceAccount;
                `manifests/` has been applied there. None: they are in `folder`, as `bundles`, `tls.crt` and `tls.key`.
            folder: For its kubeconfig, its certificate and its log.
            environment: Its configuration, beside the permission to connect to loopback.
        """
        self._cluster = cluster
        self._folder = folder
        self.port = 0
        """For STARTTLS."""
        self.tls_port = 0
        settings = dict(environment or {})
        if cluster is not None:
            kubeconfig = folder / "relay.kubeconfig"
            cluster.service_account(namespace=NAMESPACE, name=SERVICE_ACCOUNT, target=kubeconfig)
            settings["KUBECONFIG"] = str(kubeconfig)
        super().__init__(folder / "relay.log", settings)

    def start(self, *, port: int = 0, liveness: str | None = None, timeout: float = START_TIMEOUT_S) -> None:
        """Starts it, once it has a certificate, and waits until it listens.

        Args:
            port: Where, for STARTTLS; 0: on a free port.
            liveness: Where it answers the kubelet and Prometheus, such as `http://127.0.0.1:8080/healthz`.
            timeout: How long all that may take, in seconds.

        Raises:
            StartError: It ended, or took longer.
        """
        deadline = time.monotonic() + timeout
        while self._cluster is not None and not self.mount_certificate() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        bundles = ["--bundles", str(self._folder / "bundles")] if self._cluster is None else ["--namespace", NAMESPACE]
        files = ["--certificate", str(self._folder / "tls.crt"), "--key", str(self._folder / "tls.key")]
        where = ["--host", _HOST, "--port", str(port), "--tls-port", "0"]
        if liveness is not None:
            where += ["--liveness", liveness]
        said = self.launch(
            ["relay", *bundles, *files, *where], lambda said: len(_PORT.findall(said)) == 2, deadline - time.monotonic()
        )
        found = {bool(tls): int(number) for number, tls in _PORT.findall(said)}
        self.port, self.tls_port = found[False], found[True]

    def mount_certificate(self) -> bool:
        """Does what the kubelet does with a Secret that is mounted, at first and when it has changed.

        Returns:
            Whether there is one.
        """
        if self._cluster is None:
            return True
        try:
            data = self._cluster.api().request("GET", CERTIFICATE)["data"]
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        for key in ("tls.crt", "tls.key"):
            path = self._folder / key
            path.touch(mode=0o600)
            path.write_bytes(base64.b64decode(data[key]))
        return True
