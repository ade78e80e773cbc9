"""What a crash costs at each step of a refresh, a process that stands still, and an API server that goes away."""

import asyncio
import base64
import json
import logging
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from dev.cluster import Cluster
from dev.loop_thread import LoopThread
from dev.operator_process import NAMESPACE, OperatorProcess
from mailsettings.api import names
from tests.cluster.conftest import operator_environment
from tests.cluster.test_oauth2 import KIND, SHORT
from tests.support import standing_still
from tests.support.identity_provider import ACCOUNT, CLIENT_ID, CLIENT_SECRET, IdentityProvider
from tests.support.kube import Json, Kube, condition
from tests.support.own_cluster import OwnCluster, create_namespace
from tests.support.refreshes import Credential, Gate, Refreshes, Step, Trap, gate, refreshes
from tests.support.standing_still import CHECKED, SENDING

KILLS: Final = int(os.environ.get("MAILSETTINGS_CRASH_KILLS", "200"))
LIFE: Final = timedelta(seconds=12)
"""Such tokens are renewed about every four seconds."""
OBJECTS: Final = 12
"""At each provider."""
REFRESHES: Final = 150
STANDING_STILL: Final = Path(standing_still.__file__)
LOGGER: Final = logging.getLogger("test")
PATIENCE_S: Final = 90.0
"""For what takes a claim's life, a few seconds, on an idle machine."""


@pytest.fixture
def followed(installed: Cluster, loop_thread: LoopThread, namespace: str) -> Iterator[Refreshes]:
    with loop_thread.entered(refreshes(installed.kubeconfig, namespace)) as value:
        yield value


@dataclass
class Field:
    """Many settings objects whose tokens live shortly, and what happens to their consents."""

    kube: Kube
    namespace: str
    followed: Refreshes
    loop: LoopThread
    ports: dict[int, int] = field(default_factory=dict)
    """Where each provider is reached, if not at its own port."""
    gates: list[Gate] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    """Whose last answer was never stored, and whose provider punishes that: they need a person."""
    asked_again: set[str] = field(default_factory=set)
    """Who has a new consent that is not yet in the status."""
    consents: int = 0
    """How often a person had to consent again."""
    losses: int = 0
    tolerated: int = 0
    """How often an answer was never stored, and the provider takes the old refresh token again."""
    caught: Counter[str] = field(default_factory=Counter)
    """How many refreshes were caught where."""
    _caught: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    def add(self, provider: IdentityProvider, name: str) -> None:
        uri = f"https://127.0.0.1:{self.ports.get(provider.port, provider.port)}/token"
        secret = {"name": f"{name}-oauth2", "key": "secret"}
        oauth2 = {
            "username": ACCOUNT,
            "grant": "RefreshToken",
            "clientID": CLIENT_ID,
            "tokenURI": uri,
            "clientAuth": {"secretRef": secret},
            "refreshTokenSecretRef": {**secret, "key": "refresh-token"},
        }
        spec = {
            "mailFrom": "Acme <no-reply@acme.example>",
            "provider": "Custom",
            "connection": {"host": "127.0.0.1", "port": 2525, "tls": {"mode": "Disabled"}},
            "auth": {"oauth2": oauth2},
            "probe": {"mode": "Disabled"},
        }
        uid = self.kube.create(KIND, name, self.namespace, spec=spec)["metadata"]["uid"]
        # Only now can it ask, so that its first request is followed too.
        token = self.followed.consent(name, uid, provider)
        self.kube.secret(f"{name}-oauth2", self.namespace, **{"secret": CLIENT_SECRET, "refresh-token": token})

    def wait_ready(self) -> None:
        for name in self.followed.credentials:
            self.kube.wait_condition(name, self.namespace, "Ready", "True", timeout=PATIENCE_S)

    def wait_refreshes(self, count: int) -> None:
        """Waits for so many more, of which none is refused."""
        wanted = self.followed.granted + count
        self.kube.wait(
            lambda: self.followed.granted >= wanted or self.refused(), f"{count} refreshes", timeout=PATIENCE_S
        )
        assert self.refused() == []

    def refused(self) -> list[str]:
        """Whom a provider has refused a refresh."""
        return [name for name, credential in self.followed.credentials.items() if credential.refusals]

    def take_stock(self) -> None:
        """After a crash: whose answer was lost, and where each refresh was caught."""
        while True:
            self.kube.wait(self._is_quiet, "the provider to be done", timeout=PATIENCE_S)
            granted = self.followed.granted
            kept = self._kept()
            if self._is_quiet() and granted == self.followed.granted:
                break
        delivered, statuses = self._delivered(), self.statuses()
        for name, credential in self.followed.credentials.items():
            token, claim = kept.get(credential.uid, ({}, None))
            place = _place(credential, token, delivered.get(name), statuses[name], claimed=claim is not None)
            refresh = credential.newest if place == ANSWER_LOST else claim
            before, self._caught[name] = self._caught.get(name), (place, refresh)
            if before == self._caught[name]:  # by an earlier crash
                continue
            self.caught[place] += 1
            if place != ANSWER_LOST:
                continue
            if credential.provider.detects_reuse:
                self.lost.add(name)
                self.losses += 1
            else:
                self.tolerated += 1

    def _is_quiet(self) -> bool:
        return self.followed.in_flight == 0 and all(each.connections == 0 for each in self.gates)

    def _kept(self) -> dict[str, tuple[Json, str | None]]:
        """The stored tokens and the claims, by uid."""
        secrets = self._list(f"/api/v1/namespaces/{NAMESPACE}/secrets", labelSelector=names.LABEL_TOKEN_OF)
        return {
            secret["metadata"]["labels"][names.LABEL_TOKEN_OF]: (
                json.loads(_value(secret, "token.json") or "{}"),
                secret["metadata"]["annotations"].get(names.ANNOTATION_CLAIM),
            )
            for secret in secrets
        }

    def _delivered(self) -> dict[str, str]:
        """The access tokens that applications have, by object."""
        secrets = self._list(f"/api/v1/namespaces/{self.namespace}/secrets", labelSelector=names.LABEL_MANAGED_BY)
        return {secret["metadata"]["name"].removesuffix("-smtp"): _value(secret, "access-token") for secret in secrets}

    def _list(self, collection: str, **query: str) -> list[Json]:
        items: list[Json] = self.kube.api.request("GET", collection, query=query)["items"]
        return items

    def statuses(self) -> dict[str, Json]:
        collection = f"/apis/mailsettings.dev/v1alpha1/namespaces/{self.namespace}/mailserversettings"
        return {item["metadata"]["name"]: item for item in self._list(collection)}

    def delivered_is_newest(self, objects: set[str]) -> bool:
        """Whether applications have what the provider gave last, and the operator keeps it."""
        kept, delivered = self._kept(), self._delivered()

        def is_newest(credential: Credential) -> bool:
            token, _ = kept[credential.uid]
            newest = (credential.newest, credential.access_tokens[-1])
            return (token["refresh_token"], delivered[credential.name]) == newest

        return all(is_newest(self.followed.credentials[name]) for name in objects)

    def needs_no_person(self) -> bool:
        self.be_the_person()
        return not self.lost

    def be_the_person(self) -> None:
        """Consents again where the status asks for it, which it may only where an answer was lost."""
        for name, settings in self.statuses().items():
            authorized = condition(settings, "Authorized")
            if authorized is None or (authorized["status"], authorized["reason"]) != ("False", "TokenRevoked"):
                self.asked_again.discard(name)
                continue
            if name in self.asked_again and name not in self.lost:
                continue
            assert name in self.lost, f"{name} lost its consent without need: {authorized}"
            assert settings["status"]["oauth2"]["tokenState"] == "Revoked"
            assert "revoked" in authorized["message"]
            assert "refreshTokenSecretRef" in authorized["message"], "it says what to do"
            credential = self.followed.credentials[name]
            token = self.followed.consent(name, credential.uid, credential.provider)
            self.kube.patch("Secret", f"{name}-oauth2", self.namespace, stringData={"refresh-token": token})
            self.lost.discard(name)
            self.asked_again.add(name)
            self.consents += 1


def _value(secret: Json, key: str) -> str:
    return base64.b64decode((secret.get("data") or {}).get(key, "")).decode()


ANSWER_LOST: Final = "answered, not stored"
BEFORE: Final = "claimed, not answered"
STORED: Final = "stored, not delivered"
DELIVERED: Final = "delivered, not in the status"
NOWHERE: Final = "not being refreshed"


def _place(credential: Credential, token: Json, delivered: str | None, settings: Json, *, claimed: bool) -> str:
    """Where a crash has caught a credential."""
    if credential.newest not in (credential.seed, token.get("refresh_token")):
        return ANSWER_LOST
    if claimed:
        return BEFORE
    if not token or token["access_token"] not in credential.access_tokens:
        return NOWHERE
    if delivered != token["access_token"]:
        order = credential.access_tokens.index
        assert delivered is None or order(delivered) < order(token["access_token"]), "only what is stored is delivered"
        return STORED
    said = settings["status"].get("oauth2", {}).get("accessTokenExpiresAt")
    return NOWHERE if said and said[:19] == token["expires_at"][:19] else DELIVERED


def report(what: str, value: object) -> None:
    """What was measured, which nothing depends on: `--log-cli-level=INFO` shows it."""
    LOGGER.info("%s: %s", what, value)


@pytest.fixture
def fielded(
    kube: Kube,
    namespace: str,
    followed: Refreshes,
    loop_thread: LoopThread,
) -> Iterator[Field]:
    yield Field(kube, namespace, followed, loop_thread)
    report("from the claim to the request", followed.until_request)
    report("from the answer to the stored token", followed.until_stored)


@pytest.fixture
def gated(fielded: Field, provide: Callable[..., IdentityProvider]) -> Iterator[Callable[..., IdentityProvider]]:
    """Starts followed identity providers, each behind a gate."""
    managers = []

    def start(**options: Any) -> IdentityProvider:
        provider = provide(**{"access_life": LIFE, **options})
        fielded.followed.serve(provider)
        manager = fielded.loop.entered(gate(provider.port, fielded.followed.connected))
        managers.append(manager)
        made = manager.__enter__()
        fielded.gates.append(made)
        fielded.ports[provider.port] = made.port
        return provider

    yield start
    for manager in managers:
        manager.__exit__(None, None, None)


async def _set(event: asyncio.Event) -> None:
    event.set()


def crash(fielded: Field, operator: OperatorProcess, step: Step) -> None:
    """Kills the operator at a step."""
    assert operator.pid is not None
    trap = Trap(step, operator.pid)
    fielded.followed.trap = trap
    assert trap.sprung.wait(PATIENCE_S), f"nothing was {step}"
    operator.kill()
    fielded.followed.trap = None
    fielded.loop.run(_set(trap.taken_away))


STEPS: Final = (Step.CLAIMED, Step.CONNECTED, Step.GRANTED, Step.ANSWERED, Step.STORED, Step.DELIVERED, None)
"""None: any moment."""


def test_two_hundred_kills_cost_a_consent_only_where_an_answer_was_lost(
    gated: Callable[..., IdentityProvider],
    fielded: Field,
    operator: OperatorProcess,
) -> None:
    """Where a provider punishes the use of a replaced refresh token. Nowhere else is a person needed."""
    for provider, name in ((gated(), "tolerant"), (gated(detects_reuse=True), "strict")):
        for number in range(OBJECTS):
            fielded.add(provider, f"{name}-{number}")
    fielded.wait_ready()
    dice = random.Random(4)
    steps = [STEPS[number % len(STEPS)] for number in range(KILLS)]
    dice.shuffle(steps)
    began = time.monotonic()

    for step in steps:
        if step is None:
            time.sleep(dice.random())
            operator.kill()
        else:
            crash(fielded, operator, step)
        fielded.take_stock()
        operator.start()
        fielded.be_the_person()

    report("kills", f"{KILLS} in {time.monotonic() - began:.0f} s")
    fielded.kube.wait(fielded.needs_no_person, "the lost ones to ask for a consent", timeout=PATIENCE_S)
    fielded.wait_ready()
    report("refreshes caught", dict(fielded.caught))
    report("answers lost", f"{fielded.losses} at a strict provider, {fielded.tolerated} at a tolerant one")
    assert fielded.consents == fielded.losses
    assert {BEFORE, ANSWER_LOST, STORED, DELIVERED} <= fielded.caught.keys(), "every step was hit"
    assert min(fielded.losses, fielded.tolerated) > 0
    assert fielded.followed.outside == []
    assert fielded.followed.overlapping == []


# --- a process that stands still ---


def wait_stopped(kube: Kube, pid: int) -> None:
    def is_stopped() -> bool:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    kube.wait(is_stopped, "the operator to stand still", timeout=PATIENCE_S)


@pytest.fixture
def start_operator(
    operator: OperatorProcess, installed: Cluster, tmp_path: Path
) -> Iterator[Callable[..., OperatorProcess]]:
    """Starts operators in the place of the usual one."""
    operator.stop()
    started: list[OperatorProcess] = []

    def start(*program: str) -> OperatorProcess:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        process = OperatorProcess(
            installed, folder, operator_environment(folder), program=program or ("-m", "mailsettings")
        )
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.kill()


def another_renews(fielded: Field, stopped: OperatorProcess, start_operator: Callable[..., OperatorProcess]) -> None:
    """While one operator is stopped another one renews its tokens; then both go on."""
    assert stopped.pid is not None
    wait_stopped(fielded.kube, stopped.pid)
    start_operator()
    fielded.wait_refreshes(2)
    os.kill(stopped.pid, signal.SIGCONT)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("place", [CHECKED, Step.CONNECTED])
def test_process_that_stood_still_before_it_sent_sends_nothing(
    gated: Callable[..., IdentityProvider],
    fielded: Field,
    start_operator: Callable[..., OperatorProcess],
    tmp_path: Path,
    place: str,
) -> None:
    """Its deadline has run since before it looked at the claim, and is over before the claim is."""
    told = tmp_path / "stop"
    fielded.add(gated(detects_reuse=True, access_life=SHORT), "mail")
    first = start_operator(str(STANDING_STILL), CHECKED, str(told))
    fielded.wait_ready()
    assert first.pid is not None
    trap = Trap(Step.CONNECTED, first.pid, signal.SIGSTOP)
    if place == CHECKED:
        told.touch()
    else:
        fielded.followed.trap = trap

    another_renews(fielded, first, start_operator)
    fielded.loop.run(_set(trap.taken_away))

    fielded.wait_refreshes(5)
    fielded.wait_ready()
    assert fielded.followed.replaced == []
    assert fielded.refused() == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_process_that_stood_still_while_it_sent_does_no_harm_where_old_refresh_tokens_stay_good(
    gated: Callable[..., IdentityProvider],
    fielded: Field,
    start_operator: Callable[..., OperatorProcess],
    tmp_path: Path,
) -> None:
    """The second window: nothing can be asked between the last look at the clock and the bytes on the wire."""
    told = tmp_path / "stop"
    fielded.add(gated(access_life=SHORT), "mail")
    first = start_operator(str(STANDING_STILL), SENDING, str(told))
    fielded.wait_ready()
    told.touch()

    another_renews(fielded, first, start_operator)

    fielded.kube.wait(lambda: fielded.followed.replaced, "the late request", timeout=PATIENCE_S)
    fielded.wait_refreshes(5)
    fielded.wait_ready()


# --- an API server that goes away ---


@pytest.mark.cluster
def test_api_server_that_is_down_when_the_answer_comes_loses_nothing(
    own: OwnCluster,
    provide: Callable[..., IdentityProvider],
    loop_thread: LoopThread,
    tmp_path: Path,
) -> None:
    own.install()
    namespace = create_namespace(own.kube)
    environment = {**operator_environment(tmp_path), "MAILSETTINGS_OAUTH2_DEADLINE_SECONDS": "15"}
    with (
        loop_thread.entered(refreshes(own.cluster.kubeconfig, namespace)) as followed,
        own.operator(**environment) as process,
    ):
        process.start()
        assert process.pid is not None
        fielded = Field(own.kube, namespace, followed, loop_thread)
        provider = provide(access_life=timedelta(seconds=20), detects_reuse=True)
        followed.serve(provider)
        for number in range(OBJECTS):
            fielded.add(provider, f"mail-{number}")
        fielded.wait_ready()
        trap = Trap(Step.GRANTED, process.pid, 0)
        followed.trap = trap
        assert trap.sprung.wait(PATIENCE_S)
        caught = {name for name, credential in followed.credentials.items() if credential.asking}

        with own.without_apiserver():
            loop_thread.run(_set(trap.taken_away))
            own.kube.wait(
                lambda: process.log_text().count("a renewed token is not stored yet") >= 2 * len(caught),
                "attempts to store",
                timeout=PATIENCE_S,
            )

        assert caught
        own.kube.wait(lambda: fielded.delivered_is_newest(caught), "the answers to be delivered", timeout=PATIENCE_S)
        fielded.wait_refreshes(2 * OBJECTS)
        fielded.wait_ready()
        sent = [asked.form["refresh_token"] for asked in provider.token_requests]
        assert len(sent) == len(set(sent)), "no refresh token is used twice"


# --- two operators ---


def test_two_operators_lose_no_consent_and_never_ask_at_once(
    gated: Callable[..., IdentityProvider],
    fielded: Field,
    operator: OperatorProcess,
    another_operator: OperatorProcess,
) -> None:
    dice = random.Random(4)
    fielded.followed.delay = lambda: dice.uniform(0, 0.4)
    provider = gated(detects_reuse=True, access_life=SHORT)
    for number in range(OBJECTS):
        fielded.add(provider, f"mail-{number}")
    fielded.wait_refreshes(REFRESHES)
    fielded.wait_ready()
    assert operator.is_running()
    assert another_operator.is_running()
    assert fielded.followed.overlapping == []
    assert fielded.followed.outside == []
    assert fielded.refused() == []
    sent = [asked.form["refresh_token"] for asked in provider.token_requests]
    assert len(sent) == len(set(sent)), "no refresh token is used twice"
