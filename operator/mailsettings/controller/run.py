"""Puts the operator together and runs it."""

import asyncio
import platform
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar
from uuid import uuid4

import aiohttp
import kopf

from mailsettings.api import names
from mailsettings.config import Config
from mailsettings.controller.barrier import Barrier, Versions
from mailsettings.controller.consent_desk import ConsentDesk
from mailsettings.controller.consents import ConsentRunner
from mailsettings.controller.deliveries import Deliveries
from mailsettings.controller.echoes import Echoes
from mailsettings.controller.events import EventRecorder
from mailsettings.controller.handlers import registry
from mailsettings.controller.keys import RELAY_CERTIFICATE, RELAY_SWEEP, SWEEP, Key, Kind, cluster_key, namespace_key
from mailsettings.controller.kopf_settings import kopf_settings
from mailsettings.controller.leadership import Leadership, LeaseLostError
from mailsettings.controller.leftovers import give_back
from mailsettings.controller.login import Login, access, kubeconfig_path, login
from mailsettings.controller.logs import LOGGER
from mailsettings.controller.mail_tests import MailTests
from mailsettings.controller.probes import ProbeRunner
from mailsettings.controller.queue import WorkerEndedError, WorkQueue, retry_delay
from mailsettings.controller.reconcile.dispatch import reconcile
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.relay import Relay
from mailsettings.controller.renewals import TokenRenewer
from mailsettings.controller.revocations import TokenRevoker
from mailsettings.controller.store import (
    SettingsRecord,
    Store,
    namespace_record,
    secret_record,
    settings_record,
)
from mailsettings.controller.triggers import Triggers, Wake
from mailsettings.core.digest import Digester
from mailsettings.core.mail_testing import Limits
from mailsettings.core.oauth2.lifecycle import FailedRenewal
from mailsettings.core.oauth2.state import Flows
from mailsettings.core.probe import ProbeRequest, ProbeResult, Progress
from mailsettings.core.tenancy import Namespace
from mailsettings.edges.consent_server.app import application
from mailsettings.edges.consent_server.server import serve
from mailsettings.edges.consents import ConsentStore
from mailsettings.edges.errors import described
from mailsettings.edges.federation import federated_token
from mailsettings.edges.fence import Fence
from mailsettings.edges.health import Health
from mailsettings.edges.kubernetes import ApiError, Json, KubernetesApi, core_collection_path, endpoint_slices_path
from mailsettings.edges.lease import LeaseStore
from mailsettings.edges.metadata_watch import (
    Changed,
    Deleted,
    Event,
    Listed,
    Metadata,
    deletions,
    in_short,
    watch,
    watch_objects,
)
from mailsettings.edges.oauth2.tokens import IdentityProviders
from mailsettings.edges.oauth2.trust import trusted
from mailsettings.edges.operator_key import operator_key
from mailsettings.edges.relay_bundles import BundleStore
from mailsettings.edges.relay_certificate import RelayCertificates, relay_hosts
from mailsettings.edges.relay_endpoints import has_ready_endpoint
from mailsettings.edges.sealing import Sealer
from mailsettings.edges.token_store import TokenStore
from mailsettings.edges.trial import probe

_PATHS: Final = {
    Kind.CLUSTER: f"/apis/{names.API_VERSION}/{names.CLUSTER_PLURAL}",
    Kind.TENANT: f"/apis/{names.API_VERSION}/{names.TENANT_PLURAL}",
    Kind.TEST: f"/apis/{names.API_VERSION}/{names.TEST_PLURAL}",
}
_BY_KOPF: Final = (Kind.CLUSTER, Kind.TEST)
"""What kopf watches, of which there is little."""
T = TypeVar("T")
TESTS_RUNNING_IN_NAMESPACE: Final = 2
TESTS_WAITING_IN_NAMESPACE: Final = 20
LAST_STORE: Final = timedelta(hours=1)
"""How long a replica that has lost the Lease stays for the sake of tokens that only it has and could not store yet."""


async def run(config: Config, *, liveness: str | None) -> None:
    """Runs until SIGTERM or SIGINT.

    Args:
        config: the operator's configuration.
        liveness: where to answer liveness checks, such as `http://0.0.0.0:8080/healthz`, and beside it, at `/readyz`,
            readiness checks; None: nowhere.

    Raises:
        ApiError: the API server refused what the operator cannot do without.
        LeaseLostError: another replica may act now.
        OSError: there are no credentials, or nothing can listen where `liveness` says.
        kopf.LoginError: the credentials cannot be used.
        OperatorKeyError: the operator's own Secret cannot be used.
    """
    credentials, terms, ready = login(kubeconfig_path()), config.lease_terms, asyncio.Event()
    fence = Fence(write_limit_s=terms.margin_s) if terms is not None else None
    entry = access(credentials)
    async with (
        Health(liveness, ready.is_set) as health,
        KubernetesApi(entry, fence=fence) as api,
        LeaseStore(entry, config.namespace, names.LEASE_NAME) as leases,
    ):
        async with _stoppable() as stopped:
            await persistently(lambda: _wait_for_kinds(api))
            digest = Digester(await persistently(lambda: operator_key(api, config.namespace)))
        if not stopped.is_set():
            await _Operator(api, leases, config, digest, fence, ready).run(credentials, health)


@asynccontextmanager
async def _stoppable() -> AsyncIterator[asyncio.Event]:
    """Lets SIGTERM and SIGINT end the preparations, before kopf takes these signals over.

    As the first process of a container the operator would otherwise not notice them: Linux gives it no default action.
    """
    loop, task, stopped = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()

    def stop() -> None:
        stopped.set()
        if task is not None:
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        yield stopped
    except asyncio.CancelledError:
        if not stopped.is_set():
            raise
        LOGGER.info("stopping")
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def persistently(call: Callable[[], Awaitable[T]]) -> T:
    """What the call answers; trouble of the API server or on the way to it is logged and waited out.

    Raises:
        ApiError: the API server refused for good.
    """
    attempt = 0
    while True:
        try:
            return await call()
        except ApiError as error:
            if not error.is_temporary:
                raise
            LOGGER.warning("the API server: %s", error)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            LOGGER.warning("the API server: %s", described(error))
        attempt += 1
        await asyncio.sleep(min(10.0, retry_delay(attempt)))


async def _wait_for_kinds(api: KubernetesApi) -> None:
    """Waits until the API server serves the CRDs, which may be applied together with the operator."""
    wanted = {names.CLUSTER_PLURAL, names.TENANT_PLURAL, names.TEST_PLURAL}
    attempt = 0
    while True:
        found = await api.get(f"/apis/{names.API_VERSION}") or {}
        if wanted <= {resource["name"] for resource in found.get("resources") or ()}:
            return
        attempt += 1
        LOGGER.warning("waiting for the CustomResourceDefinitions of %s to be applied", names.API_VERSION)
        await asyncio.sleep(min(10.0, retry_delay(attempt)))


def _endpoints(endpoint_slice: Json) -> tuple[str, bool]:
    return endpoint_slice["metadata"]["name"], has_ready_endpoint(endpoint_slice)


def _version(metadata: Metadata) -> tuple[str, int]:
    return metadata["uid"], int(metadata["resourceVersion"])


class _Operator:
    """The parts, wired."""

    def __init__(
        self,
        api: KubernetesApi,
        leases: LeaseStore,
        config: Config,
        digest: Digester,
        fence: Fence | None,
        ready: asyncio.Event,
    ) -> None:
        self._api = api
        self._config = config
        self._fence = fence
        self._ready = ready
        instance = config.pod_name or platform.node() or "unknown"
        identity = f"{instance}_{uuid4().hex}"
        self._leases = leases
        self._leadership: Leadership | None = None
        if config.lease_terms is not None and fence is not None:
            self._leadership = Leadership(self._leases, config.lease_terms, fence, identity=identity, logger=LOGGER)
        self._providers = IdentityProviders(
            config.egress, partial(trusted, config.oauth2_ca), deadline=config.oauth2_deadline
        )
        federation = partial(federated_token, path=config.oauth2_token)
        self._store = Store()
        self._echoes = Echoes()
        self._queue = WorkQueue(self._reconcile, workers=config.workers, logger=LOGGER)
        self._probes = ProbeRunner(
            self._probe,
            limit=config.probe_limit,
            notify=self._queue.add,
            logger=LOGGER,
        )
        self._mail_tests = MailTests(
            Limits(
                running=config.test_limit,
                running_in_namespace=TESTS_RUNNING_IN_NAMESPACE,
                waiting_in_namespace=TESTS_WAITING_IN_NAMESPACE,
                mails_per_hour=config.test_mails_per_hour,
            )
        )
        self._tokens = tokens = TokenStore(api, config.namespace, holder=identity, logger=LOGGER)
        self._renewals = TokenRenewer(
            tokens,
            self._providers.obtain,
            federation,
            deadline=config.oauth2_deadline,
            limit=config.oauth2_limit,
            finished=self._queue.add,
            again=self._queue.add_after,
            logger=LOGGER,
        )
        self._revocations = TokenRevoker(
            self._providers.revoke,
            federation,
            limit=config.oauth2_limit,
            finished=self._queue.add,
            logger=LOGGER,
        )
        flows, consents = Flows(digest.key), ConsentStore(api, config.namespace)
        self._consenting = ConsentRunner(
            consents,
            tokens,
            self._providers,
            federation,
            flows=flows,
            sealer=Sealer(digest.key),
            finished=self._consent_ended,
            logger=LOGGER,
        )
        self._desk = ConsentDesk(
            self._store,
            consents,
            flows,
            namespace=config.namespace,
            external_url=config.external_url,
            custom_cloud=config.oauth2_cloud,
        )
        self._events = EventRecorder(api, instance, LOGGER)
        host, port = config.relay_at
        self._relay = Relay(
            BundleStore(api, config.relay_namespace, LOGGER),
            self._queue.add,
            self._queue.add_after,
            LOGGER,
            host,
            port,
            audit_recipients=config.relay_audit_recipients,
        )
        self._services = Services(
            api=api,
            store=self._store,
            digest=digest,
            deliveries=Deliveries(api, self._store, self._echoes, digest, LOGGER),
            probes=self._probes,
            mail_tests=self._mail_tests,
            probe_deadline=config.probe_deadline,
            token_deadline=config.oauth2_deadline,
            tokens=tokens,
            renewals=self._renewals,
            revocations=self._revocations,
            consents=consents,
            consenting=self._consenting,
            flows=flows,
            events=self._events,
            echoes=self._echoes,
            enqueue=self._queue.add,
            enqueue_many=self._queue.add_many,
            enqueue_after=self._queue.add_after,
            operator_namespace=config.namespace,
            cluster_name=config.cluster_name,
            checks_sender=config.check_sender,
            external_url=config.external_url,
            require_secret_label=config.require_secret_label,
            custom_cloud=config.oauth2_cloud,
            relay=self._relay,
            certificates=RelayCertificates(
                api, config.namespace, config.relay_namespace, hosts=relay_hosts(config.relay_namespace, host)
            ),
            revokes_tokens=config.oauth2_revoke,
        )
        self._triggers = Triggers(
            self._store,
            self._mail_tests,
            self._echoes,
            Wake(self._asked, self._asked_of_many, self._asked_after),
            operator_namespace=config.namespace,
            relay_namespace=config.relay_namespace,
            relay_secret_seen=self._relay_secret_seen,
        )
        self._barrier = Barrier()
        self._namespaces_listed = asyncio.Event()
        self._tenants_listed = asyncio.Event()
        self._secrets_listed = asyncio.Event()
        self._seen = asyncio.Event()
        self._serving = asyncio.Event()
        self._acting = False
        self._lost = asyncio.Event()

    async def run(self, credentials: Login, health: Health) -> None:
        handlers = registry(self._triggers, self._barrier, login=credentials)
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(self._watch_secrets()),
                group.create_task(self._watch_config_maps()),
                group.create_task(self._watch_relay()),
                group.create_task(self._watch_namespaces()),
                group.create_task(self._watch_tenants()),
                *(group.create_task(self._watch_deletions(kind)) for kind in _BY_KOPF),
                group.create_task(self._lead()),
            ]
            if self._config.external_url:
                background.append(group.create_task(self._serve_consent()))

            # At its end kopf waits in vain, for seconds, for tasks that are not its own; so they end before.
            @kopf.on.cleanup(registry=handlers)
            async def stop(**_: object) -> None:
                LOGGER.info("stopping")
                self._ready.clear()
                await self._end_writes()
                for task in background:
                    task.cancel()
                await asyncio.wait(background)
                await asyncio.gather(health.close(), self._probes.close(), self._revocations.close())
                # What is left is done under claims of its own; nobody has to wait for that.
                if self._leadership is not None:
                    await self._leadership.release()
                await asyncio.gather(self._renewals.close(), self._consenting.close())

            await kopf.operator(
                registry=handlers,
                settings=kopf_settings(),
                standalone=True,
                clusterwide=True,
                stop_flag=self._lost,
            )
        if self._lost.is_set():
            raise LeaseLostError

    def _asked(self, key: Key) -> None:
        """The watches ask for something; while this replica does nothing they need not: see `_work`."""
        if self._acting:
            self._queue.add(key)

    def _asked_of_many(self, keys: Iterable[Key]) -> None:
        if self._acting:
            self._queue.add_many(keys)

    def _asked_after(self, key: Key, seconds: float) -> None:
        if self._acting:
            self._queue.add_after(key, seconds)

    async def _probe(self, request: ProbeRequest, progress: Progress) -> ProbeResult:
        if self._fence is not None:
            self._fence.check()
        config = self._config
        obtain = self._providers.obtain
        return await probe(request, progress, obtain=obtain, policy=config.egress, deadline=config.probe_deadline)

    async def _reconcile(self, key: Key) -> None:
        await reconcile(self._services, key)

    async def _list_versions(self, paths: Iterable[str]) -> Versions:
        listings = [await self._api.list_metadata(path, record=_version) for path in paths]
        return dict(version for versions, _ in listings for version in versions)

    async def _watch_secrets(self) -> None:
        async for event in watch(self._api, core_collection_path("secrets"), LOGGER, record=secret_record):
            self._triggers.secrets_seen(event)
            if isinstance(event, Listed):
                self._secrets_listed.set()

    async def _watch_config_maps(self) -> None:
        async for event in watch(self._api, core_collection_path("configmaps"), LOGGER, record=in_short):
            self._triggers.config_maps_seen(event)

    async def _watch_relay(self) -> None:
        """Whether a replica of the relay takes connections."""
        path = endpoint_slices_path(self._config.relay_namespace)
        selector = f"kubernetes.io/service-name={names.RELAY_SERVICE}"
        ready: dict[str, bool] = {}
        watching = watch_objects(self._api, path, LOGGER, record=_endpoints, label_selector=selector)
        async for event in watching:
            match event:
                case Listed(items):
                    ready = dict(items)
                case Changed((name, is_ready)):
                    ready[name] = is_ready
                case Deleted((name, _)):
                    ready.pop(name, None)
            self._relay.set_ready(ready=any(ready.values()))

    def _relay_secret_seen(self, name: str, version: str) -> None:
        if name == names.RELAY_TLS_NAME:
            self._asked(RELAY_CERTIFICATE)
        else:
            self._relay.changed(name, version)

    async def _watch_namespaces(self) -> None:
        async for event in watch(self._api, core_collection_path("namespaces"), LOGGER, record=namespace_record):
            self._triggers.namespaces_seen(event)
            self._cross_off(event)
            if isinstance(event, Listed):
                self._namespaces_listed.set()

    async def _watch_tenants(self) -> None:
        """Kopf would take 0.6 ms for each of them, and for each echo of what is written to them."""
        record = partial(settings_record, Kind.TENANT)
        async for event in watch_objects(self._api, _PATHS[Kind.TENANT], LOGGER, record=record):
            self._triggers.tenants_seen(event)
            self._cross_off(event)
            if isinstance(event, Listed):
                self._tenants_listed.set()

    def _cross_off(self, event: Event[Namespace] | Event[SettingsRecord]) -> None:
        match event:
            case Listed(items):
                for item in items:
                    self._barrier.saw(item.uid, item.version)
            case Changed(item):
                self._barrier.saw(item.uid, item.version)
            case Deleted(item):
                self._barrier.gone(item.uid)

    async def _watch_deletions(self, kind: Kind) -> None:
        """Kopf says nothing of what is deleted while its watch is interrupted, as by a restart of the API server."""
        async for metadata in deletions(self._api, _PATHS[kind], LOGGER):
            self._triggers.deleted(kind, {"metadata": metadata})
            self._barrier.gone(metadata["uid"])

    def _consent_ended(self, key: Key, failure: FailedRenewal | None) -> None:
        if failure is not None:
            self._renewals.report(key, failure)
        self._queue.add(key)

    async def _serve_consent(self) -> None:
        """From when everything has been seen: before, settings would be called missing that are not."""
        await self._seen.wait()
        listen, app = self._config.consent_listen, application(self._desk, LOGGER)
        host, _, port = listen.rpartition(":")
        try:
            await serve(app, LOGGER, host=host.strip("[]"), port=int(port), started=self._serving)
        except OSError as error:
            LOGGER.error("MAILSETTINGS_CONSENT_LISTEN: nothing can listen on %s: %s", listen, error.strerror)
            raise

    async def _lead(self) -> None:
        """Acts, once everything has been seen: while this replica holds the Lease, where there is an election."""
        paths = [_PATHS[kind] for kind in _BY_KOPF]
        await self._barrier.wait(lambda: persistently(lambda: self._list_versions(paths)))
        # The others have watches of the operator's own, which say when they have listed all.
        await self._secrets_listed.wait()
        await self._namespaces_listed.wait()
        await self._tenants_listed.wait()
        self._seen.set()
        if self._config.external_url:
            await self._serving.wait()
        self._ready.set()
        if self._leadership is None:
            LOGGER.info("everything has been seen; reconciling")
            await self._work()
            return
        LOGGER.info("everything has been seen; waiting for the Lease")
        await self._leadership.acquire()
        LOGGER.info("the Lease is held")
        async with asyncio.TaskGroup() as group:
            work = [group.create_task(each) for each in (self._act(), self._announce("became leader"))]
            why = await self._leadership.keep()
            await self._end_writes()
            for task in work:
                task.cancel()
        await self._retire(why)

    async def _see_everything(self) -> None:
        """In the present versions: all settings and tests, and the namespaces, whose labels say which are theirs."""
        paths = [*_PATHS.values(), core_collection_path("namespaces")]
        await self._barrier.wait(lambda: persistently(lambda: self._list_versions(paths)))

    async def _act(self) -> None:
        """Until the Lease is lost; it is given up as lost when a worker has ended by itself."""
        try:
            await self._take_over()
        except* WorkerEndedError as errors:
            LOGGER.warning("work has ended: %s", errors.exceptions[0])
            if self._fence is not None:
                self._fence.shut()

    async def _take_over(self) -> None:
        """Another replica may have written until a moment ago, so its last words are waited for."""
        self._tokens.taken_over()
        await self._see_everything()
        LOGGER.info("everything has been seen again; reconciling")
        await self._work()

    async def _announce(self, what: str) -> None:
        """In an event about the Lease."""
        if self._leadership is not None and (held := self._leadership.held) is not None:
            note = f"{held.lease.holder} {what}"
            await self._events.announce_leader({**self._leases.place, "uid": held.uid}, note)

    async def _end_writes(self) -> None:
        """Lets no more writes begin, and those end that have begun."""
        if self._fence is not None:
            self._fence.shut()
            await self._fence.wait_until_quiet()

    async def _retire(self, why: str) -> None:
        """Ends the process, since another one may act now.

        Only a token that was got under a claim is stored first, and a consent that is being redeemed: nobody else has
        them, and each is written only on the version that it was claimed on.
        """
        LOGGER.warning("the Lease is lost: %s; nothing more is begun here, and this process ends", why)
        self._ready.clear()
        await asyncio.gather(self._probes.close(), self._revocations.close())
        await asyncio.gather(self._renewals.close(grace=LAST_STORE), self._consenting.close(grace=LAST_STORE))
        await self._announce("stopped leading")
        self._lost.set()

    async def _work(self) -> None:
        self._barrier.forget()
        await persistently(self._relay.load)
        self._acting = True
        self._queue.add(RELAY_CERTIFICATE)
        namespaces = map(namespace_key, self._store.namespaces)
        self._queue.add_many((*self._store.settings_keys(), *namespaces, *self._mail_tests.keys()))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run())
            await self._queue.wait_until_idle()
            LOGGER.info("everything has been reconciled once")
            give_back()
            self._store.settled = True
            self._queue.add(SWEEP)
            self._queue.add(RELAY_SWEEP)
            for name in self._store.clusters:
                self._queue.add(cluster_key(name))
