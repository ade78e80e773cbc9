"""What the consent pages are told and what they keep: how many answers, and what the API server is asked."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, cast
from uuid import uuid4

import pytest

from mailsettings.api import names
from mailsettings.api.oauth2 import OAuth2
from mailsettings.controller.consent_desk import MAX_UNSEEN, ConsentDesk
from mailsettings.controller.keys import Kind
from mailsettings.controller.store import Store, secret_record, settings_record
from mailsettings.core.oauth2.consent import MAX_OPEN, Consent, ConsentKey
from mailsettings.core.oauth2.state import FLOW_BYTES, Flows
from mailsettings.core.oauth2.terms import consent_terms
from mailsettings.edges.consent_server.app import Problem, ProblemError
from mailsettings.edges.consents import ConsentStore, HeldConsent

OPERATOR: Final = "mailsettings-system"
UID: Final = str(uuid4())
BROWSER: Final = "b" * 43
HOST: Final = "id.acme.example"
OAUTH2: Final = {
    "username": "no-reply@acme.example",
    "grant": "AuthorizationCode",
    "clientID": "client",
    "clientAuth": {"secretRef": {"name": "oauth2", "key": "secret"}},
    "authorizationURI": f"https://{HOST}/authorize",
    "tokenURI": f"https://{HOST}/token",
    "scopes": ["openid", "offline_access", "mail.send"],
    "accountCheck": {"claim": "email"},
}
FLOWS: Final = Flows(b"k" * 32)


@dataclass
class Kept:
    """The API server's part."""

    uids: set[str] = field(default_factory=set)
    created: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    may_create: asyncio.Event = field(default_factory=asyncio.Event)
    fault: Exception | None = None

    async def create_callback(self, flow: str, *, uid: str, source: str, values: Mapping[ConsentKey, str]) -> None:
        assert uid in self.uids
        assert (source, values[ConsentKey.CODE]) == ("MailServerSettings/shop/mail", "the-code")
        await self.may_create.wait()
        if self.fault is not None:
            raise self.fault
        self.created.append(flow)

    async def read_callback(self, flow: str) -> HeldConsent | None:
        self.reads.append(flow)
        if flow not in self.created:
            return None
        return HeldConsent(OPERATOR, flow, "1", Consent("s", flow, datetime.now(UTC), {}))


class Scene:
    def __init__(self) -> None:
        self.store, self.kept = Store(), Kept()
        self.kept.may_create.set()
        self.desk = ConsentDesk(
            self.store,
            cast(ConsentStore, self.kept),
            FLOWS,
            namespace=OPERATOR,
            external_url="https://consent.acme.example",
            custom_cloud=None,
        )
        self.add_settings(UID, "mail")

    def add_settings(self, uid: str, name: str) -> None:
        self.kept.uids.add(uid)
        spec = {"connection": {"host": "smtp.acme.example"}, "mailFrom": "a@acme.example", "auth": {"oauth2": OAUTH2}}
        metadata = {"namespace": "shop", "name": name, "uid": uid, "generation": 1}
        self.store.put_settings(settings_record(Kind.TENANT, {"metadata": metadata, "spec": spec}))

    def see(self, name: str, namespace: str = OPERATOR) -> None:
        """The watch tells of a Secret with the label."""
        labels = {names.LABEL_CONSENT_OF: UID}
        metadata = {"namespace": namespace, "name": name, "uid": name, "resourceVersion": "1", "labels": labels}
        self.store.put_secret(secret_record(metadata))

    async def accept(self, flow: bytes | None = None, uid: str = UID) -> str:
        return await self.desk.accept(HOST, answer(flow or uuid4().bytes, uid), BROWSER)

    async def problem(self, uid: str = UID) -> Problem:
        with pytest.raises(ProblemError) as caught:
            await self.accept(uid=uid)
        return caught.value.problem


@pytest.fixture
def scene() -> Scene:
    return Scene()


def answer(flow: bytes, uid: str) -> dict[ConsentKey, str]:
    assert len(flow) == FLOW_BYTES
    fingerprint = consent_terms("Custom", OAuth2.model_validate(OAUTH2)).fingerprint
    state = FLOWS.mint(flow=flow, uid=uid, fingerprint=fingerprint, holder=BROWSER, now=datetime.now(UTC))
    return {ConsentKey.STATE: state, ConsentKey.CODE: "the-code"}


async def test_only_the_operators_own_secrets_count(scene: Scene) -> None:
    for number in range(MAX_OPEN):
        scene.see(f"x{number}", "thief")
        scene.see(f"{names.CONSENT_PREFIX}{number}", "thief")
        scene.see(f"{names.AUTHORIZE_PREFIX}{number}")
    await scene.accept()
    for number in range(MAX_OPEN):
        scene.see(f"{names.CONSENT_PREFIX}{number}")
    assert await scene.problem() is Problem.MANY


async def test_many_at_once_do_not_pass_the_limit(scene: Scene) -> None:
    scene.see(f"{names.CONSENT_PREFIX}seen")
    scene.kept.may_create.clear()
    accepting = [asyncio.create_task(scene.accept()) for _ in range(2 * MAX_OPEN)]
    await asyncio.wait(accepting, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    scene.kept.may_create.set()
    ended = await asyncio.gather(*accepting, return_exceptions=True)
    refused = [each for each in ended if isinstance(each, ProblemError)]
    assert {each.problem for each in refused} == {Problem.MANY}
    assert len(scene.kept.created) == MAX_OPEN - 1
    assert len(refused) == MAX_OPEN + 1


async def test_what_the_watch_has_told_of_counts_once_and_as_long_as_it_is_there(scene: Scene) -> None:
    flows = [await scene.accept() for _ in range(MAX_OPEN - 1)]
    for flow in flows:
        scene.see(names.consent_secret_name(flow))
    last = await scene.accept()
    assert await scene.problem() is Problem.MANY
    for flow in flows:
        scene.store.drop_secret(OPERATOR, names.consent_secret_name(flow))
    await scene.accept()
    assert last in scene.kept.created


async def test_the_same_answer_again_counts_once(scene: Scene) -> None:
    flows = [uuid4().bytes for _ in range(MAX_OPEN)]
    for flow in flows:
        await scene.accept(flow)
    assert await scene.accept(flows[0]) == flows[0].hex()


async def test_an_answer_that_was_not_kept_does_not_count(scene: Scene) -> None:
    scene.kept.fault = ConnectionResetError()
    for _ in range(MAX_OPEN):
        with pytest.raises(ConnectionResetError):
            await scene.accept()
    scene.kept.fault = None
    await scene.accept()


async def test_what_the_watch_does_not_tell_of_is_bounded(scene: Scene) -> None:
    uids = [str(uuid4()) for _ in range(MAX_UNSEEN // MAX_OPEN)]
    for number, uid in enumerate(uids):
        scene.add_settings(uid, "mail")
        for _ in range(MAX_OPEN):
            await scene.accept(uid=uid)
        scene.add_settings(uid, f"old{number}")
    scene.add_settings(UID, "mail")
    assert await scene.problem() is Problem.UNAVAILABLE


async def test_the_api_server_is_not_asked_for_a_flow_that_is_invented(scene: Scene) -> None:
    with pytest.raises(ProblemError) as caught:
        await scene.desk.result("0" * 32)
    assert caught.value.problem is Problem.GONE
    assert scene.kept.reads == []


async def test_result_of_an_answer_that_the_watch_has_not_told_of(scene: Scene) -> None:
    flow = await scene.accept()
    assert await scene.desk.result(flow) is None
    assert scene.kept.reads == [flow]


async def test_result_of_an_answer_that_another_replica_has_just_kept(scene: Scene) -> None:
    flow = uuid4().hex
    scene.kept.created.append(flow)
    looking = asyncio.create_task(scene.desk.result(flow))
    await asyncio.sleep(0)
    assert scene.kept.reads == []
    scene.see(names.consent_secret_name(flow))
    assert await looking is None
    assert scene.kept.reads == [flow]
