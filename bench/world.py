"""What a benchmark works in: a control plane, a mail server and the operator."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench import objects
from bench.audit import Audit
from bench.bare import Bare, Request, connected, create, merge
from bench.errors import BenchError
from bench.programs import program
from bench.progress import say
from dev.audit import AuditLog, Write
from dev.cluster import Cluster, ControlPlane
from dev.operator_process import NAMESPACE, SERVICE_ACCOUNT, OperatorProcess
from dev.role_process import ROOT

SETUP_AT_ONCE: Final = 16
PREPARE_TIMEOUT_S: Final = 900.0
"""For thousands of tenants on a machine that has other things to do."""
START_TIMEOUT_S: Final = 120.0
MAIL_SERVER_TIMEOUT_S: Final = 30.0
OPERATOR_KUBECONFIG: Final = "operator.kubeconfig"
BENCH_KUBECONFIG: Final = "bench.kubeconfig"
_RECONCILED: Final = "everything has been reconciled once"
_LOG_LINE: Final = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) ")


class World:
    """A running control plane with the operator installed, not started.

    Several benchmarks may use one, one after the other; what is added is added to what there is.
    """

    def __init__(
        self, cluster: Cluster, admin: Bare, operator: Bare, audit: Audit, mail_port: int, folder: Path
    ) -> None:
        self.admin = admin
        self.as_operator = operator
        """Requests with the operator's rights, for the floor."""
        self.process = OperatorProcess(cluster, folder)
        self.audit = audit
        self.mail_port = mail_port
        self.folder = folder
        """For files; it goes with the control plane."""
        self.kubeconfig = cluster.kubeconfig
        """The administrator's."""
        self.operator_kubeconfig = folder / OPERATOR_KUBECONFIG
        """The operator's own rights, for other programs."""
        self.settings = 0
        """How many MailServerSettings there are."""
        self._cluster = cluster
        self._namespaces: list[str] = []
        self._tenants = 0
        self._newcomers = 0
        self._provision: str | None = None
        self._change = 0

    def configure(self, **environment: str) -> None:
        """Gives the operator, which is not running, another configuration."""
        self.process = OperatorProcess(self._cluster, self.folder, environment)

    async def add_namespaces(self, count: int) -> list[str]:
        """Sees to it that there are namespaces of so many tenants.

        Raises:
            BenchError: there are more, which would be measured too.
        """
        if len(self._namespaces) > count:
            raise BenchError(f"there are {len(self._namespaces)} tenants already, and not {count}")
        names = [objects.tenant_namespace(number) for number in range(len(self._namespaces), count)]
        await self.create_namespaces([objects.namespace(name) for name in names])
        self._namespaces += names
        return self._namespaces

    async def add_tenants(self, count: int) -> None:
        """Sees to it that there are namespaces of so many tenants, with inheriting settings in each."""
        names = (await self.add_namespaces(count))[self._tenants :]
        self._tenants = count
        await self.create_settings({name: objects.inheriting() for name in names})

    async def add_newcomers(self, count: int) -> list[str]:
        """Creates namespaces with a login in each, which wait for settings."""
        names = [objects.newcomer_namespace(number) for number in range(self._newcomers, self._newcomers + count)]
        self._newcomers += count
        await self.create_namespaces([{"metadata": {"name": name}} for name in names])
        await self.create([create(objects.secrets_in(name), objects.login()) for name in names])
        return names

    async def create_namespaces(self, bodies: Sequence[Mapping[str, Any]]) -> None:
        """Creates namespaces, and waits until the controllers have done what they do in each."""
        if not bodies:
            return
        say(f"  creating {len(bodies)} namespaces")
        collections = ("/api/v1/configmaps", "/api/v1/serviceaccounts")
        before = [await self.admin.count(collection) for collection in collections]
        await self.create([create(objects.NAMESPACES, body) for body in bodies])
        for collection, count in zip(collections, before, strict=True):
            await self.wait_for_count(collection, count + len(bodies))

    async def create_settings(self, by_namespace: Mapping[str, Mapping[str, Any]]) -> None:
        """Creates settings, one in each namespace."""
        await self.create([create(objects.settings_in(name), body) for name, body in by_namespace.items()])
        self.settings += len(by_namespace)

    @property
    def has_system(self) -> bool:
        """Whether there are system's settings."""
        return self._provision is not None

    @property
    def sender(self) -> str:
        """What the system's settings send mail from, as of the last change."""
        return objects.sender(self._change)

    async def add_system(self, *, provision: str = "OnRequest") -> None:
        """Sees to it that there are system's settings."""
        if self._provision == provision:
            return
        self._change += 1
        body = objects.system(self.mail_port, provision=provision, mail_from=self.sender)
        await self.admin.send(
            merge(objects.SYSTEM, {"spec": body["spec"]}) if self.has_system else create(objects.SYSTEMS, body)
        )
        self._provision = provision

    async def remove_system(self) -> None:
        """Deletes the system's settings, which have to be there."""
        allowed = {"metadata": {"annotations": {"mailsettings.dev/allow-deletion": "true"}}}
        await self.admin.send(merge(objects.SYSTEM, allowed))
        await self.admin.send(Request("DELETE", objects.SYSTEM))
        self._provision = None

    async def change_system(self) -> float:
        """Gives the system's settings another sender; when, in seconds since 1970."""
        self._change += 1
        began = time.time()
        await self.admin.send(merge(objects.SYSTEM, {"spec": {"mailFrom": self.sender}}))
        return began

    async def create(self, requests: Sequence[Request]) -> None:
        """Sends requests as the administrator."""
        await self.admin.send_all(requests, at_once=SETUP_AT_ONCE)

    async def start(self) -> tuple[float, float]:
        """Starts the operator, and waits until it has reconciled all there is once.

        Returns:
            When it was started and when it had, in seconds since 1970.

        Raises:
            StartError: it does not start.
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
        """Stops the operator, and at once: an orderly end takes seconds, and nothing is measured of it."""
        self.process.kill()

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
    with TemporaryDirectory(prefix="mailsettings-bench-") as name:
        folder = Path(name)
        log = AuditLog(folder / "cluster")
        async with program("bench.mail_server", says_within_s=MAIL_SERVER_TIMEOUT_S) as mail_port:
            with ControlPlane(folder / "cluster", apiserver_options=log.options()) as plane:
                cluster = Cluster(plane.kubeconfig)
                cluster.apply(ROOT / "manifests")
                rights = cluster.service_account(
                    namespace=NAMESPACE, name=SERVICE_ACCOUNT, target=folder / BENCH_KUBECONFIG
                )
                async with connected(plane.kubeconfig) as admin, connected(rights) as operator:
                    await admin.send(create(objects.secrets_in(NAMESPACE), objects.login()))
                    place = World(cluster, admin, operator, Audit(log), int(mail_port), folder)
                    try:
                        yield place
                    finally:
                        place.stop()


Worlds = Callable[[], AbstractAsyncContextManager[World]]
"""Where a benchmark gets a control plane from."""


@asynccontextmanager
async def one_world() -> AsyncIterator[Worlds]:
    """One control plane for all who ask while the block runs, one after the other. It is started when it is needed."""
    async with AsyncExitStack() as stack:
        place: World | None = None

        @asynccontextmanager
        async def borrowed() -> AsyncIterator[World]:
            nonlocal place
            if place is None:
                place = await stack.enter_async_context(world())
            try:
                yield place
            finally:
                place.stop()
                place.configure()

        yield borrowed
