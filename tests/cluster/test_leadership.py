"""Two replicas: one acts, the other takes over, and what the first one writes after that is nothing."""

import asyncio
import os
import random
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from dev.audit import AuditLog, Write, credential_of
from dev.cluster import ApiError, ControlPlane
from dev.loop_thread import LoopThread
from dev.operator_process import NAMESPACE, OperatorProcess
from mailsettings.api import names
from mailsettings.edges.token_store import CLOCK_SKEW, Claim
from tests.cluster.conftest import consent_environment, operator_environment, server_spec
from tests.cluster.test_oauth2_crashes import Field, report
from tests.support.consent import KIND, Person, consent_spec
from tests.support.identity_provider import CLIENT_SECRET, IdentityProvider, RegisteredClient
from tests.support.kube import Json, Kube, is_current
from tests.support.listening import LOOPBACK, free_port
from tests.support.own_cluster import OwnCluster, create_namespace
from tests.support.refreshes import Step, Trap, refreshes
from tests.support.smtp_server import PASSWORD, MailServer

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("leadership")]

LEASE_S: Final = 9
"""So long that a busy machine renews it in time, for two thirds of it."""
LONG_LEASE_S: Final = 300
"""Longer than any test waits: who takes it has not waited for its end."""
PATIENCE_S: Final = 60.0
MANY: Final = 80
LEASE: Final = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{names.LEASE_NAME}"


@dataclass(frozen=True)
class Place:
    """A control plane with an audit log."""

    own: OwnCluster
    audit: AuditLog
    external_url: str
    """Where browsers reach the first replica."""

    @property
    def kube(self) -> Kube:
        return self.own.kube

    def lease(self) -> Json:
        """The spec of the Lease; empty while there is none."""
        try:
            spec: Json = self.kube.api.request("GET", LEASE)["spec"]
        except ApiError as error:
            if error.status != 404:
                raise
            return {}
        return spec

    def holder(self) -> str:
        """The name of the replica that holds the Lease; empty: nobody does."""
        return str(self.lease().get("holderIdentity") or "").partition("_")[0]

    def wait_holder(self, name: str) -> Json:
        self.kube.wait(lambda: self.holder() == name, f"the Lease to be held by {name}", timeout=PATIENCE_S)
        return self.lease()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("leadership")
    audit = AuditLog(folder)
    with ControlPlane(folder / "cluster", apiserver_options=audit.options()) as plane:
        own = OwnCluster(plane, folder)
        own.install()
        yield Place(own, audit, f"http://{LOOPBACK}:{free_port()}")


@dataclass(frozen=True)
class Replica:
    """An operator of two."""

    name: str
    place: Place
    process: OperatorProcess
    url: str
    """Of its consent pages."""
    health_url: str

    def writes(self, *, since: int = 0) -> list[Write]:
        credential = credential_of(self.process.kubeconfig)
        written, _ = self.place.audit.read(since)
        return [write for write in written if write.credential == credential]

    def work(self, *, since: int = 0) -> list[Write]:
        """What it has written beside the Lease."""
        return [write for write in self.writes(since=since) if not write.is_of_lease]

    def took_over_at(self) -> datetime:
        """When the API server had done what made the Lease its own."""
        taken = [write for write in self.writes() if write.is_of_lease and write.is_done]
        return taken[0].answered_at

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait_ended(self) -> None:
        """It has ended by itself."""
        self.place.kube.wait(lambda: not self.process.is_running(), f"{self.name} to end", timeout=PATIENCE_S)
        assert "the Lease is lost" in self.process.log_text()

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.health_url.replace("/healthz", "/readyz"), timeout=PATIENCE_S) as answer:
                return bool(answer.status == 200)
        except (urllib.error.HTTPError, OSError):
            return False


Replicas = Callable[..., tuple[Replica, Replica]]


@pytest.fixture
def replicas(place: Place, tmp_path: Path) -> Iterator[Replicas]:
    """Starts two, of which the first one holds the Lease."""
    with ExitStack() as stack:

        def start(**environment: str) -> tuple[Replica, Replica]:
            place.kube.wait(lambda: _deleted(place), "the Lease to go")
            pair = [_replica(stack, place, tmp_path / name, name, environment) for name in ("first", "second")]
            pair[0].process.start()
            place.wait_holder("first")
            pair[1].process.start()
            return pair[0], pair[1]

        yield start


def _deleted(place: Place) -> bool:
    try:
        place.kube.api.request("DELETE", LEASE)
    except ApiError as error:
        return error.status == 404
    return False


def _replica(stack: ExitStack, place: Place, folder: Path, name: str, environment: dict[str, str]) -> Replica:
    folder.mkdir()
    url = place.external_url if name == "first" else f"http://{LOOPBACK}:{free_port()}"
    health_url = f"http://{LOOPBACK}:{free_port()}/healthz"
    complete = {
        **operator_environment(folder),
        **consent_environment(place.external_url, url),
        "MAILSETTINGS_LEADER_ELECTION": "true",
        "MAILSETTINGS_LEASE_SECONDS": str(LEASE_S),
        "MAILSETTINGS_POD_NAME": name,
        **environment,
    }
    process = OperatorProcess(place.own.cluster, folder, complete, liveness=health_url)
    stack.callback(process.kill)
    return Replica(name, place, process, url, health_url)


@pytest.fixture
def smtp_alone(serve: Callable[..., MailServer]) -> MailServer:
    return serve(auth_required=True, auth_without_tls=True)


@pytest.fixture
def field_of_settings(place: Place, smtp_alone: MailServer) -> "Settings":
    namespace = create_namespace(place.kube)
    place.kube.secret("smtp", namespace, password=PASSWORD)
    return Settings(place.kube, namespace, smtp_alone)


@dataclass
class Settings:
    """Many settings objects."""

    kube: Kube
    namespace: str
    server: MailServer

    @property
    def names(self) -> list[str]:
        return [f"mail-{number}" for number in range(MANY)]

    def create(self) -> None:
        for name in self.names:
            spec = server_spec(self.server, probe={"mode": "Disabled"})
            self.kube.create(KIND, name, self.namespace, spec=spec)

    def change(self, sender: str) -> None:
        for name in self.names:
            self.kube.patch(KIND, name, self.namespace, spec={"mailFrom": sender})

    def wait_delivered(self, sender: str) -> None:
        self.kube.wait(lambda: self._is_delivered(sender), f"{sender} to be delivered", timeout=PATIENCE_S)

    def _is_delivered(self, sender: str) -> bool:
        path = f"/apis/{names.API_VERSION}/namespaces/{self.namespace}/{names.TENANT_PLURAL}"
        items = self.kube.api.request("GET", path)["items"]
        return all(
            is_current(item) and item["status"].get("effective", {}).get("mailFrom") == sender for item in items
        ) and all(
            (self.kube.secret_data(f"{name}-smtp", self.namespace) or {}).get("from") == sender
            for name in random.sample(self.names, 5)
        )


def wrote_nothing_after(replica: Replica, moment: datetime) -> bool:
    """Nothing but that it acts no more."""
    late = [write for write in replica.writes() if write.received_at > moment]
    assert [write for write in late if (write.resource, write.namespace) != ("events", NAMESPACE)] == []
    return True


def first_write(replica: Replica) -> datetime:
    """When the API server got it; announcing the takeover is none."""
    return min(write.received_at for write in replica.work() if write.namespace != NAMESPACE)


def moment_of(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_standby_is_ready_and_writes_nothing(place: Place, replicas: Replicas, field_of_settings: Settings) -> None:
    first, second = replicas()
    field_of_settings.create()
    field_of_settings.wait_delivered("Acme <no-reply@acme.example>")

    assert first.is_ready()
    assert second.is_ready()
    assert second.writes() == []
    since, renewed = place.audit.position(), place.lease()["renewTime"]
    place.kube.wait(lambda: len(first.writes(since=since)) >= 4, "renewals", timeout=PATIENCE_S)
    assert place.lease()["renewTime"] > renewed
    assert first.work(since=since) == []
    assert second.writes() == []


def test_standby_takes_over_after_sigkill_when_the_lease_has_run_out(
    place: Place, replicas: Replicas, field_of_settings: Settings
) -> None:
    first, second = replicas()
    field_of_settings.create()
    field_of_settings.wait_delivered("Acme <no-reply@acme.example>")
    first.process.kill()
    last = place.lease()

    field_of_settings.change("after@acme.example")
    field_of_settings.wait_delivered("after@acme.example")

    taken = place.lease()
    assert place.holder() == "second"
    assert taken["leaseTransitions"] == last["leaseTransitions"] + 1
    assert moment_of(taken["acquireTime"]) >= moment_of(last["renewTime"]) + timedelta(seconds=LEASE_S)
    assert first_write(second) > second.took_over_at()
    waited = moment_of(taken["acquireTime"]) - moment_of(last["renewTime"])
    report(f"from the last renewal to the takeover, with a Lease of {LEASE_S} s", waited)
    report("from the takeover to the first write", first_write(second) - second.took_over_at())
    events = place.kube.api.request("GET", f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events")["items"]
    leaders = [event["note"] for event in events if event["reason"] == "LeaderElection"]
    assert f"{taken['holderIdentity']} became leader" in leaders


def test_sigterm_releases_the_lease(place: Place, replicas: Replicas, field_of_settings: Settings) -> None:
    """Else the other one would have to wait for longer than the test does."""
    first, second = replicas(MAILSETTINGS_LEASE_SECONDS=str(LONG_LEASE_S))
    field_of_settings.create()

    first.process.stop()

    place.wait_holder("second")
    field_of_settings.wait_delivered("Acme <no-reply@acme.example>")
    assert wrote_nothing_after(first, second.took_over_at())
    assert "the Lease is released" in first.process.log_text()
    released_at = [write for write in first.writes() if write.is_of_lease][-1].answered_at
    report("from the release to the takeover", second.took_over_at() - released_at)
    report("from the takeover to the first write", first_write(second) - second.took_over_at())


def test_replica_that_stood_still_writes_nothing_when_it_goes_on(
    place: Place, replicas: Replicas, field_of_settings: Settings
) -> None:
    """It stops in the middle of its work, and would go on with it."""
    first, second = replicas()
    field_of_settings.create()
    field_of_settings.wait_delivered("Acme <no-reply@acme.example>")
    since = place.audit.position()
    field_of_settings.change("after@acme.example")
    place.kube.wait(lambda: first.work(since=since), "the work to begin")
    first.signal(signal.SIGSTOP)
    field_of_settings.change("at-last@acme.example")

    place.wait_holder("second")
    field_of_settings.wait_delivered("at-last@acme.example")
    first.signal(signal.SIGCONT)

    first.wait_ended()
    assert wrote_nothing_after(first, second.took_over_at())
    first.process.start()
    assert place.holder() == "second"
    assert first.is_ready()


def test_replica_without_an_api_server_stops_before_the_other_begins(
    place: Place, replicas: Replicas, field_of_settings: Settings
) -> None:
    first, second = replicas()
    field_of_settings.create()
    field_of_settings.wait_delivered("Acme <no-reply@acme.example>")

    with place.own.without_apiserver():
        first.wait_ended()
        assert second.process.is_running()

    field_of_settings.change("after@acme.example")
    field_of_settings.wait_delivered("after@acme.example")
    assert place.holder() == "second"
    assert wrote_nothing_after(first, second.took_over_at())


def test_replica_whose_api_server_hangs_does_not_wait_for_it(
    place: Place, replicas: Replicas, field_of_settings: Settings
) -> None:
    first, _ = replicas()
    field_of_settings.create()
    field_of_settings.wait_delivered("Acme <no-reply@acme.example>")

    with place.own.frozen_apiserver():
        place.kube.wait(lambda: "the Lease is lost" in first.process.log_text(), "it to stop", timeout=PATIENCE_S)

    first.wait_ended()
    field_of_settings.change("after@acme.example")
    field_of_settings.wait_delivered("after@acme.example")
    assert place.holder() == "second"


def test_lease_that_somebody_else_takes_is_lost_at_once(
    place: Place, replicas: Replicas, field_of_settings: Settings
) -> None:
    first, second = replicas()
    field_of_settings.create()
    field_of_settings.wait_delivered("Acme <no-reply@acme.example>")
    spec = {"holderIdentity": "somebody-else", "leaseDurationSeconds": LEASE_S}
    place.kube.api.request("PATCH", LEASE, {"spec": spec}, content_type="application/merge-patch+json")

    first.wait_ended()
    assert "somebody-else holds it" in first.process.log_text()
    field_of_settings.change("after@acme.example")

    field_of_settings.wait_delivered("after@acme.example")
    assert place.holder() == "second"
    assert first_write(second) > second.took_over_at()


def test_standby_takes_an_answer_and_the_active_one_redeems_it(
    place: Place,
    replicas: Replicas,
    provide: Callable[..., IdentityProvider],
    mail_server_of: Callable[[IdentityProvider], MailServer],
    loop_thread: LoopThread,
) -> None:
    first, second = replicas()
    provider, namespace = provide(), create_namespace(place.kube)
    redirect_uri = f"{place.external_url}/oauth2/callback/{LOOPBACK}:{provider.port}"
    provider.register(RegisteredClient(secret=CLIENT_SECRET, redirect_uris=frozenset({redirect_uri})))
    place.kube.secret("oauth2", namespace, secret=CLIENT_SECRET)
    place.kube.create(KIND, "mail", namespace, spec=consent_spec(provider, mail_server_of(provider)))
    settings = place.kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentRequired")
    person = Person(provider, loop_thread)

    callback = person.log_in(person.begin(settings))
    page = person.finish(place.kube, callback.replace(first.url, second.url))

    assert page.title == "Mail can be sent"
    place.kube.wait_ready("mail", namespace)
    assert [(write.verb, write.resource, write.namespace) for write in second.writes()] == [
        ("create", "secrets", NAMESPACE)
    ]
    assert len(provider.token_requests) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_refresh_is_outside_its_claim_when_the_other_takes_over(
    place: Place,
    replicas: Replicas,
    provide: Callable[..., IdentityProvider],
    loop_thread: LoopThread,
    number: signal.Signals,
) -> None:
    first, second = replicas()
    namespace = create_namespace(place.kube)
    dice = random.Random(number)
    with loop_thread.entered(refreshes(place.own.cluster.kubeconfig, namespace)) as followed:
        fielded = Field(place.kube, namespace, followed, loop_thread)
        followed.delay = lambda: dice.uniform(0, 0.4)
        # SIGKILL may lose an answer that is not stored yet; where the old token stays good nobody notices.
        provider = provide(access_life=timedelta(seconds=6), detects_reuse=number == signal.SIGTERM)
        followed.serve(provider)
        for index in range(8):
            fielded.add(provider, f"mail-{index}")
        fielded.wait_refreshes(20)
        active, standby = first, second
        for _ in range(2):
            if number == signal.SIGTERM:
                active.process.stop()
            else:
                active.process.kill()
            place.wait_holder(standby.name)
            active.process.start()
            fielded.wait_refreshes(20)
            active, standby = standby, active
        fielded.wait_ready()
        assert followed.overlapping == []
        assert followed.outside == []
        sent = [asked.form["refresh_token"] for asked in provider.token_requests]
        assert number != signal.SIGTERM or len(sent) == len(set(sent)), "no refresh token is used twice"


def test_answer_that_only_the_old_one_has_is_stored_by_it(
    place: Place, replicas: Replicas, provide: Callable[..., IdentityProvider], loop_thread: LoopThread
) -> None:
    """The API server is away when the answer comes, until after the Lease is lost and the claim has ended.

    The other one is faster when it is back.
    """
    first, second = replicas(MAILSETTINGS_OAUTH2_DEADLINE_SECONDS="10")
    assert first.process.pid is not None
    namespace = create_namespace(place.kube)
    with loop_thread.entered(refreshes(place.own.cluster.kubeconfig, namespace)) as followed:
        fielded = Field(place.kube, namespace, followed, loop_thread)
        provider = provide(access_life=timedelta(seconds=20), detects_reuse=True)
        followed.serve(provider)
        for index in range(8):
            fielded.add(provider, f"mail-{index}")
        fielded.wait_ready()
        trap = Trap(Step.GRANTED, first.process.pid, 0)
        followed.trap = trap
        assert trap.sprung.wait(PATIENCE_S)
        caught = {name for name, credential in followed.credentials.items() if credential.asking}
        claims = [claim for _, text in fielded._kept().values() if (claim := Claim.parse(text))]
        free_at = max(claim.deadline for claim in claims) + CLOCK_SKEW

        with place.own.without_apiserver():
            loop_thread.run(set_event(trap.taken_away))
            place.kube.wait(lambda: datetime.now(UTC) > free_at, "the claims to end", timeout=PATIENCE_S)
            place.kube.wait(lambda: "the Lease is lost" in first.process.log_text(), "the Lease to be lost")
            assert first.process.is_running(), "it has something to store"
            first.signal(signal.SIGSTOP)
        place.wait_holder("second")
        # What is created last is looked at last.
        place.kube.create(KIND, "last", namespace, spec={"suspend": True})
        place.kube.wait(lambda: is_current(fielded.statuses()["last"]), "all to be looked at", timeout=PATIENCE_S)
        first.signal(signal.SIGCONT)

        assert caught
        first.wait_ended()
        fielded.wait_refreshes(8)
        fielded.wait_ready()
        sent = [asked.form["refresh_token"] for asked in provider.token_requests]
        assert len(sent) == len(set(sent)), "no refresh token is used twice"
        assert second.process.is_running()


async def set_event(event: asyncio.Event) -> None:
    event.set()
