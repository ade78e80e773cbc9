"""The operator as a process of its own, run under its own ServiceAccount, as the demo and the tests run it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from dev.cluster import Cluster
from dev.role_process import START_TIMEOUT_S, RoleProcess

NAMESPACE: Final = "mailsettings-system"
SERVICE_ACCOUNT: Final = "mailsettings-operator"

_READY: Final = "everything has been seen"


class OperatorProcess(RoleProcess):
    """Starts and stops the operator."""

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
        self.kubeconfig = cluster.service_account(
            namespace=NAMESPACE, name=SERVICE_ACCOUNT, target=folder / "operator.kubeconfig"
        )
        settings = {**(environment or {}), "KUBECONFIG": str(self.kubeconfig)}
        super().__init__(folder / "operator.log", settings, program=program)

    def start(self, *, timeout: float = START_TIMEOUT_S) -> None:
        """Starts it and waits until it has seen the cluster's state.

        Raises:
            StartError: it ended, or took longer than `timeout` seconds.
        """
        self.launch(["run", "--liveness", self._liveness], lambda said: _READY in said, timeout)
