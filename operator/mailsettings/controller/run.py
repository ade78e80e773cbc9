"""Puts the operator together and runs it."""

import asyncio
import platform
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeVar
from uuid import uuid4

import aiohttp
import kopf

from mailsettings.api import names
from mailsettings.config import Config
from mailsettings.controller.barrier import Barrier
from mailsettings.controller.consent_desk import ConsentDesk
from mailsettings.controller.consents import ConsentRunner, ProviderCalls
from mailsettings.controller.deliveries import Deliveries
from mailsettings.controller.echoes import Echoes
from mailsettings.controller.events import EventRecorder
from mailsettings.controller.handlers import registry
from mailsettings.controller.keys import RELAY_CERTIFICATE, RELAY_SWEEP, SWEEP, Key, Kind, cluster_key
from mailsettings.controller.kopf_settings import kopf_settings
from mailsettings.controller.leftovers import give_back
from mailsettings.controller.login import Login, access, kubeconfig_path, login
from mailsettings.controller.logs import LOGGER
from mailsettings.controller.mail_tests import MailTests
from mailsettings.controller.probes import ProbeRunner
from mailsettings.controller.queue import WorkQueue, retry_delay
from mailsettings.controller.reconcile.dispatch import reconcile
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.relay import Relay
from mailsettings.controller.renewals import STORE_GRACE, TokenRenewer
from mailsettings.controller.revocations import TokenRevoker
from mailsettings.controller.store import Store, namespace_record, secret_record
from mailsettings.controller.triggers import Triggers
from mailsettings.core.digest import Digester
from mailsettings.core.mail_testing import Limits
from mailsettings.core.oauth2.faults import Failure
from mailsettings.core.oauth2.lifecycle import FailedRenewal
from mailsettings.core.oauth2.request import (
    DeviceAuthorization,
    DeviceAuthorizationRequest,
    RevocationRequest,
    Token,
    TokenRequest,
)
from mailsettings.core.oauth2.state import Flows
from mailsettings.core.server import Source
from mailsettings.edges.consent_server.app import application
from mailsettings.edges.consent_server.server import serve
from mailsettings.edges.consents import ConsentStore
from mailsettings.edges.errors import described
from mailsettings.edges.federation import federated_token
from mailsettings.edges.kubernetes import ApiError, KubernetesApi, core_collection_path, endpoint_slices_path
from mailsettings.edges.metadata_watch import Changed, Deleted, Listed, deletions, in_short, watch, watch_objects
from mailsettings.edges.oauth2.tokens import authorize_device, obtain, revoke
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
T = TypeVar("T")
TESTS_RUNNING_IN_NAMESPACE: Final = 2
TESTS_WAITING_IN_NAMESPACE: Final = 20


async def run(config: Config, *, liveness: str | None) -> None:
    """Runs until SIGTERM or SIGINT.

    Args:
        config: the operator's configuration.
        liveness: where to answer liveness checks, such as `http://0.0.0.0:8080/healthz`; None: nowhere.

    Raises:
        ApiError: the API server refused what the operator cannot do without.
        OSError: there are no credentials.
        kopf.LoginError: the credentials cannot be used.
        OperatorKeyError: the operator's own Secret cannot be used.
    """
    credentials = login(kubeconfig_path())
    async with KubernetesApi(access(credentials)) as api:
        async with _stoppable() as stopped:
            await persistently(lambda: _wait_for_kinds(api))
            digest = Digester(await persistently(lambda: operator_key(api, config.namespace)))
        if not stopped.is_set():
            await _Operator(api, config, digest).run(credentials, liveness)


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


async def _authorize_device(config: Config, request: DeviceAuthorizationRequest, level: Source) -> DeviceAuthorization:
    """Asks for a device code as the configuration says.

    Raises:
        TokenError: there is none.
    """
    return await authorize_device(
        request,
        policy=config.egress,
        level=level,
        ca_bundle=trusted(config.oauth2_ca),
        deadline=config.oauth2_deadline,
    )


async def _obtain(config: Config, request: TokenRequest, level: Source, since_s: float | None = None) -> Token:
    """Asks for a token as the configuration says, within a deadline since a moment of the monotonic clock or now.

    Raises:
        TokenError: there is no token.
    """
    return await obtain(
        request,
        policy=config.egress,
        level=level,
        ca_bundle=trusted(config.oauth2_ca),
        deadline=config.oauth2_deadline,
        since_s=since_s,
    )


async def _revoke(config: Config, request: RevocationRequest, level: Source) -> Failure | None:
    """Has a refresh token revoked as the configuration says; why it may be good still, or None: it is not."""
    return await revoke(
        request,
        policy=config.egress,
        level=level,
        ca_bundle=trusted(config.oauth2_ca),
        deadline=config.oauth2_deadline,
    )


class _Operator:
    """The parts, wired."""

    def __init__(self, api: KubernetesApi, config: Config, digest: Digester) -> None:
        self._api = api
        self._config = config
        self._store = Store()
        self._echoes = Echoes()
        self._queue = WorkQueue(self._reconcile, workers=config.workers, logger=LOGGER)
        self._probes = ProbeRunner(
            partial(probe, obtain=partial(_obtain, config), policy=config.egress, deadline=config.probe_deadline),
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
        tokens = TokenStore(api, config.namespace, holder=f"{platform.node()}/{uuid4().hex}", logger=LOGGER)
        self._renewals = TokenRenewer(
            tokens,
            partial(_obtain, config),
            partial(federated_token, path=config.oauth2_token),
            deadline=config.oauth2_deadline,
            limit=config.oauth2_limit,
            finished=self._queue.add,
            again=self._queue.add_after,
            logger=LOGGER,
        )
        self._revocations = TokenRevoker(
            partial(_revoke, config),
            partial(federated_token, path=config.oauth2_token),
            limit=config.oauth2_limit,
            finished=self._queue.add,
            logger=LOGGER,
        )
        flows, consents = Flows(digest.key), ConsentStore(api, config.namespace)
        self._consenting = ConsentRunner(
            consents,
            tokens,
            ProviderCalls(
                partial(_obtain, config),
                partial(_authorize_device, config),
                partial(federated_token, path=config.oauth2_token),
            ),
            flows=flows,
            sealer=Sealer(digest.key),
            grace=config.oauth2_deadline + STORE_GRACE,
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
            deliveries=Deliveries(api, self._store, digest, LOGGER),
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
            events=EventRecorder(api, platform.node() or "unknown", LOGGER),
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
            self._queue.add,
            self._queue.add_many,
            self._queue.add_after,
            operator_namespace=config.namespace,
            relay_namespace=config.relay_namespace,
            relay_secret_seen=self._relay_secret_seen,
        )
        self._barrier = Barrier(_PATHS)
        self._namespaces_listed = asyncio.Event()
        self._secrets_listed = asyncio.Event()
        self._seen = asyncio.Event()
        self._serving = asyncio.Event()

    async def run(self, credentials: Login, liveness: str | None) -> None:
        handlers = registry(self._triggers, self._echoes, self._barrier, login=credentials)
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(self._watch_secrets()),
                group.create_task(self._watch_config_maps()),
                group.create_task(self._watch_relay()),
                group.create_task(self._watch_namespaces()),
                *(group.create_task(self._watch_deletions(kind, path)) for kind, path in _PATHS.items()),
                group.create_task(self._work()),
            ]
            if self._config.external_url:
                background.append(group.create_task(self._serve_consent()))

            # At its end kopf waits in vain, for seconds, for tasks that are not its own; so they end before.
            @kopf.on.cleanup(registry=handlers)
            async def stop(**_: object) -> None:
                LOGGER.info("stopping")
                for task in background:
                    task.cancel()
                await asyncio.wait(background)
                parts = (self._probes, self._renewals, self._revocations, self._consenting)
                await asyncio.gather(*(part.close() for part in parts))

            await kopf.operator(
                registry=handlers,
                settings=kopf_settings(),
                standalone=True,
                clusterwide=True,
                liveness_endpoint=liveness,
            )

    async def _reconcile(self, key: Key) -> None:
        await reconcile(self._services, key)

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
        async for event in watch_objects(self._api, path, LOGGER, label_selector=selector):
            match event:
                case Listed(items):
                    ready = {item["metadata"]["name"]: has_ready_endpoint(item) for item in items}
                case Changed(item):
                    ready[item["metadata"]["name"]] = has_ready_endpoint(item)
                case Deleted(item):
                    ready.pop(item["metadata"]["name"], None)
            self._relay.set_ready(ready=any(ready.values()))

    def _relay_secret_seen(self, name: str, version: str) -> None:
        if name == names.RELAY_TLS_NAME:
            self._queue.add(RELAY_CERTIFICATE)
        else:
            self._relay.changed(name, version)

    async def _watch_namespaces(self) -> None:
        async for event in watch(self._api, core_collection_path("namespaces"), LOGGER, record=namespace_record):
            self._triggers.namespaces_seen(event)
            if isinstance(event, Listed):
                self._namespaces_listed.set()

    async def _watch_deletions(self, kind: Kind, path: str) -> None:
        """Kopf says nothing of what is deleted while its watch is interrupted, as by a restart of the API server."""
        listed = partial(self._barrier.listed, kind)
        async for metadata in deletions(self._api, path, LOGGER, listed=listed):
            self._triggers.deleted(kind, {"metadata": metadata})
            self._barrier.saw(kind, metadata["uid"])

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

    async def _work(self) -> None:
        await self._barrier.wait()
        await self._secrets_listed.wait()
        await self._namespaces_listed.wait()
        await persistently(self._relay.load)
        self._queue.add(RELAY_CERTIFICATE)
        self._seen.set()
        if self._config.external_url:
            await self._serving.wait()
        LOGGER.info("everything has been seen; reconciling")
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
