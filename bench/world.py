"""What a benchmark works in: a control plane, a mail server and the operator."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench import objects
from bench.audit import Audit
from bench.bare import Bare, Request, connected, create, merge
from bench.errors import BenchError
from bench.progress import say
from dev.audit import AuditLog, Write
from dev.cluster import Cluster, ControlPlane
from dev.loop_thread import LoopThread
from dev.operator_process import ROOT, OperatorProcess
from tests.support.smtp_server import mail_server

SETUP_AT_ONCE: Final = 16
PREPARE_TIMEOUT_S: Final = 300.0
START_TIMEOUT_S: Final = 120.0
OPERATOR_KUBECONFIG: Final = "operator.kubeconfig"
_RECONCILED: Final = "everything has been reconciled once"
_LOG_LINE: Final = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) ")


class World:
    """A running control plane with the operator installed, not started."""

    def __init__(
        self, admin: Bare, operator: Bare, process: OperatorProcess, audit: Audit, mail_port: int, folder: Path
    ) -> None:
        self.admin = admin
        self.as_operator = operator
        """Requests with the operator's rights, for the floor."""
        self.process = process
        self.audit = audit
        self.mail_port = mail_port
        self.operator_kubeconfig = folder / OPERATOR_KUBECONFIG
        """The operator's own rights, for other programs."""

    async def add_namespaces(self, count: int) -> list[str]:
        """Creates namespaces of tenants, and waits until the controllers have done what they do in each."""
        names = [objects.tenant_namespace(number) for number in range(count)]
        say(f"  creating {count} namespaces")
        await self.create([create(objects.NAMESPACES, objects.namespace(name)) for name in names])
        await self.wait_for_count("/api/v1/configmaps", count)
        await self.wait_for_count("/api/v1/serviceaccounts", count)
        return names

    async def add_tenants(self, count: int) -> list[str]:
        """Creates namespaces with inheriting settings in each."""
        names = await self.add_namespaces(count)
        await self.create([create(objects.settings_in(name), objects.inheriting()) for name in names])
        return names

    async def add_system(self, *, provision: str = "OnRequest") -> None:
        """Creates the system's settings."""
        body = objects.system(self.mail_port, provision=provision, mail_from=objects.sender(0))
        await self.admin.send(create(objects.SYSTEMS, body))

    async def change_system(self, number: int) -> float:
        """Gives the system's settings another sender; when, in seconds since 1970."""
        began = time.time()
        await self.admin.send(merge(objects.SYSTEM, {"spec": {"mailFrom": objects.sender(number)}}))
        return began

    async def create(self, requests: Sequence[Request]) -> None:
        """Sends requests as the administrator."""
        await self.admin.send_all(requests, at_once=SETUP_AT_ONCE)

    async def start(self) -> tuple[float, float]:
        """Starts the operator, and waits until it has reconciled all there is once.

        Returns:
            When it was started and when it had, in seconds since 1970.

        Raises:
            OperatorError: it does not start.
            BenchError: it takes too long.
        """
        seen = len(self.process.log_text())
        began = time.time()
        self.process.start(timeout=START_TIMEOUT_S)
        deadline = time.monotonic() + PREPARE_TIMEOUT_S
        while (ended := _told(self.process.log_text()[seen:], _RECONCILED)) is None:
            if time.monotonic() > deadline or not self.process.is_running():
                raise BenchError(f"the operator has not reconciled all:\n{self.process.log_text()[-2000:]}")
            await asyncio.sleep(0.1)
        return began, ended

    async def start_and_settle(self) -> list[Write]:
        """Starts the operator and waits until it writes nothing more; what it has written."""
        self.audit.forget()
        await self.start()
        return await self.audit.settled(lambda _: True, timeout_s=PREPARE_TIMEOUT_S)

    def stop(self) -> None:
        """Stops the operator."""
        self.process.stop()

    def rss_mb(self) -> float:
        """The operator's resident memory, in units of 10^6 bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6

    def cpu_s(self) -> float:
        """The processor time that the operator has used, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def wait_for_count(self, collection: str, count: int) -> None:
        """Waits until there are so many objects in a collection.

        Raises:
            BenchError: it takes too long.
        """
        deadline = time.monotonic() + PREPARE_TIMEOUT_S
        while await self.admin.count(collection) < count:
            if time.monotonic() > deadline:
                raise BenchError(f"the controllers have not filled {collection}")
            await asyncio.sleep(0.3)


def _told(log: str, words: str) -> float | None:
    """When a log first has the words, in seconds since 1970."""
    for line in log.splitlines():
        match = _LOG_LINE.match(line)
        if match and words in line:
            return datetime.fromisoformat(match[1]).timestamp() + int(match[2]) / 1000
    return None


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A control plane of one's own, which goes with the block.

    Raises:
        ClusterError: it does not start.
    """
    thread = LoopThread("mail server")
    thread.start()
    with TemporaryDirectory(prefix="mailsettings-bench-") as name:
        folder = Path(name)
        log = AuditLog(folder / "cluster")
        server = mail_server(auth_required=True, auth_without_tls=True)
        with (
            ControlPlane(folder / "cluster", apiserver_options=log.options()) as plane,
            thread.entered(server) as mail,
        ):
            cluster = Cluster(plane.kubeconfig)
            cluster.apply(ROOT / "manifests")
            process = OperatorProcess(cluster, folder)
            try:
                async with (
                    connected(plane.kubeconfig) as admin,
                    connected(folder / OPERATOR_KUBECONFIG) as operator,
                ):
                    await admin.send(create(objects.secrets_in(objects.OPERATOR_NAMESPACE), objects.login()))
                    yield World(admin, operator, process, Audit(log), mail.port, folder)
            finally:
                process.stop()
    thread.stop()
