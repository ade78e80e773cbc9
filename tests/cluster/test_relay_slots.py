"""Slots as Leases at a real API server, under the relay's own ServiceAccount: what a provider permits holds for all."""

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from dev.cluster import Cluster
from mailsettings.api import names
from mailsettings.api.providers import MailboxLimits
from mailsettings.core import slots as rules
from mailsettings.edges import slots as module
from mailsettings.edges.fence import boottime_s
from mailsettings.edges.kubeconfig import access_by_kubeconfig
from mailsettings.edges.kubernetes import Access, ApiError, KubernetesApi
from mailsettings.edges.relay.server import Options
from mailsettings.edges.slots import HeldSlot, LeasedSlots
from tests.support.kube import Kube
from tests.support.relay import SENDER, RawClient, bundle, eventually, running, tenant
from tests.support.smtp_server import scripted_server

LOGGER: Final = logging.getLogger("tests.slots")
LIMITS: Final = MailboxLimits(connections=3, messages_per_minute=30)
LEASES: Final = f"/apis/coordination.k8s.io/v1/namespaces/{names.RELAY_NAMESPACE}/leases"

New = Callable[..., LeasedSlots]


@pytest.fixture
async def api(installed: Cluster, tmp_path: Path) -> AsyncIterator[KubernetesApi]:
    kubeconfig = installed.service_account(
        namespace=names.RELAY_NAMESPACE, name="mailsettings-relay", target=tmp_path / "kubeconfig"
    )
    async with KubernetesApi(await access_by_kubeconfig(str(kubeconfig))) as connection:
        yield connection


@pytest.fixture
async def new(api: KubernetesApi) -> AsyncIterator[New]:
    """Makes what one process has."""
    made: list[LeasedSlots] = []

    def make(holder: str = "one", **options: Any) -> LeasedSlots:
        made.append(LeasedSlots(api, names.RELAY_NAMESPACE, holder=holder, logger=LOGGER, **options))
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.fixture
def credential() -> str:
    return f"test-{secrets.token_hex(6)}"


async def all_of(slots: LeasedSlots, credential: str, most: int = 9) -> list[HeldSlot]:
    """As many as there are."""
    found: list[HeldSlot] = []
    while len(found) < most and (slot := await slots.take(credential, LIMITS)) is not None:
        found.append(slot)
    return found


async def one_of(slots: LeasedSlots, credential: str) -> HeldSlot:
    async with asyncio.timeout(30):
        while (slot := await slots.take(credential, LIMITS)) is None:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
    return slot


async def released(slots: LeasedSlots, slot: HeldSlot) -> None:
    slot.free()
    await asyncio.gather(*slots._releasing)


async def test_there_are_no_more_than_the_provider_permits(new: New, credential: str) -> None:
    first, second = new("first"), new("second")
    found = await all_of(first, credential)
    assert [slot.key[1] for slot in found] == [0, 1, 2]
    assert await second.take(credential, LIMITS) is None
    await released(first, found[1])
    taken = await one_of(second, credential)
    assert taken.key == (credential, 1)
    assert await first.take(credential, LIMITS) is None


async def test_many_at_once_take_each_slot_once(new: New, credential: str) -> None:
    processes = [new(f"p{number}") for number in range(6)]
    taken = await asyncio.gather(*(all_of(each, credential) for each in processes))
    counts = Counter(slot.key[1] for found in taken for slot in found)
    assert set(counts.values()) == {1}
    assert set(counts) <= {0, 1, 2}


async def test_a_dead_process_slots_come_free_and_count_as_spent(
    new: New, credential: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr(module, "boottime_s", lambda: clock)
    dead, alive = new("dead", renew_s=3600.0), new("alive")
    assert len(await all_of(dead, credential)) == 3
    assert await alive.take(credential, LIMITS) is None
    clock += rules.TERMS.duration_s - 1
    assert await alive.take(credential, LIMITS) is None
    clock += 1.5
    slot = await alive.take(credential, LIMITS)
    assert slot is not None
    assert slot.budget.pause_s(asyncio.get_running_loop().time()) > 50


async def test_what_was_sent_under_a_slot_goes_with_it(new: New, credential: str) -> None:
    first, second = new("first"), new("second")
    slot = await one_of(first, credential)
    now_s = asyncio.get_running_loop().time()
    for _ in range(4):
        slot.budget.begin(now_s)
    await released(first, slot)
    again = await one_of(second, credential)
    assert again.key == slot.key
    assert again.budget.spent(asyncio.get_running_loop().time()) == 4


async def test_who_has_none_is_given_one(new: New, credential: str) -> None:
    many, none = new("many", renew_s=0.05), new("none")
    held = await all_of(many, credential)
    over: list[HeldSlot] = []
    for slot in held:
        slot.when_over(lambda slot=slot: over.append(slot))  # type: ignore[misc]
    assert await none.take(credential, LIMITS) is None
    await eventually(lambda: over)
    assert len(over) == 1
    over[0].free()
    await asyncio.gather(*many._releasing)
    assert await many.take(credential, LIMITS) is None
    slot = await one_of(none, credential)
    assert slot.key == over[0].key
    assert await none.take(credential, LIMITS) is None
    assert not over[1:]


async def test_a_namespace_that_has_none_is_given_one_of_whoever_has_several(new: New, credential: str) -> None:
    one, two = new("one", renew_s=0.05), new("two", renew_s=0.05)
    own = await one_of(one, credential)
    others = [await one_of(two, credential) for _ in range(2)]
    for slot in (own, *others):
        slot.user = "greedy"
    over: list[HeldSlot] = []
    for slot in others:
        slot.when_over(lambda slot=slot: over.append(slot))  # type: ignore[misc]
    await eventually(lambda: others[1].document["metadata"].get("annotations", {}).get(names.ANNOTATION_USER))
    assert await one.take(credential, LIMITS) is None
    assert await one.take(credential, LIMITS, ["greedy"]) is None
    before = others[1].document["metadata"]["resourceVersion"]
    await eventually(lambda: others[1].document["metadata"]["resourceVersion"] != before)
    assert not over
    async with asyncio.timeout(20):
        while not over:  # a renewal may come before what is asked for
            assert await one.take(credential, LIMITS, ["other"]) is None
            await asyncio.sleep(0.1)
    over[0].free()
    await asyncio.gather(*two._releasing)
    given = await one_of(one, credential)
    assert given.key == over[0].key
    assert names.ANNOTATION_USER not in given.document["metadata"].get("annotations", {})


async def test_who_waits_is_served_by_the_first_slot_that_comes_free_anywhere(new: New, credential: str) -> None:
    """One namespace has a slot on each replica. The one where another waits is kept by a slow client."""
    tenants = [tenant(), tenant(username="other.x", namespace="other")]
    limits, mail = {"connections": 2, "messagesPerMinute": 30}, f"MAIL FROM:<{SENDER}>".encode()
    options = Options(upstream_idle_s=600.0)  # so that nobody gives a slot back by itself
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(scripted_server())
        given = bundle(server.port, credential=credential, limits=limits, tenants=tenants)
        relays = [
            await stack.enter_async_context(running(given, slots=new(f"r{number}", renew_s=0.05), options=options))
            for number in range(2)
        ]
        slow, quick, other = [
            await stack.enter_async_context(RawClient.to(relay)) for relay in (relays[0], relays[1], relays[0])
        ]
        for client in (slow, quick):
            await client.log_in()
            await client.begin()
        await other.log_in("other.x")
        waiting = asyncio.ensure_future(other.say(mail))
        assert (await quick.say(b"From: no-reply@acme.example\r\n\r\n.")).startswith("250")
        assert (await waiting).startswith("250")
        assert (await slow.say(b"From: no-reply@acme.example\r\n\r\n.")).startswith("250")


async def test_the_api_server_says_when_a_lease_was_changed(new: New, credential: str) -> None:
    slots = new()
    slot = await one_of(slots, credential)
    created = slot.document
    await released(slots, slot)
    again = await one_of(slots, credential)
    assert again.key == slot.key
    assert module._changed_at(created) is not None
    assert -1 <= module._apart_s(created, again.document) < 3600


async def test_a_held_slot_is_renewed(new: New, credential: str, kube: Kube) -> None:
    slot = await one_of(new(renew_s=0.02), credential)
    path = f"{LEASES}/{module._name(slot.key)}"
    before = kube.api.request("GET", path)["spec"]["renewTime"]
    await eventually(lambda: kube.api.request("GET", path)["spec"]["renewTime"] > before)


async def test_a_slot_that_somebody_took_away_is_lost(new: New, credential: str, kube: Kube) -> None:
    slots = new(renew_s=0.02)
    slot = await one_of(slots, credential)
    over: list[None] = []
    slot.when_over(lambda: over.append(None))
    kube.api.request("DELETE", f"{LEASES}/{module._name(slot.key)}")
    await eventually(lambda: over)
    other = await one_of(new("other"), credential)
    slot.free()
    await asyncio.gather(*slots._releasing)
    assert kube.api.request("GET", f"{LEASES}/{module._name(other.key)}")["spec"]["holderIdentity"] == "other"


async def test_a_slot_that_cannot_be_renewed_ends_before_others_may_take_it(
    new: New, credential: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = new(renew_s=0.02)
    slot = await one_of(slots, credential)
    ends_s = slot.ends_s
    over: list[None] = []

    async def unreachable(*_: object, **__: object) -> None:
        raise ApiError(500, "", "down")

    monkeypatch.setattr(slots, "_annotate", unreachable)
    slot.when_over(lambda: over.append(None))
    await asyncio.sleep(0)
    assert ends_s < boottime_s() + rules.TERMS.duration_s
    monkeypatch.setattr(module, "boottime_s", lambda: ends_s + 60)
    await eventually(lambda: over)


async def test_slots_of_logins_that_nobody_uses_are_removed(
    installed: Cluster, tmp_path: Path, new: New, credential: str, kube: Kube
) -> None:
    slot = await one_of(new(), credential)
    path = f"{LEASES}/{module._name(slot.key)}"
    target = installed.service_account(
        namespace="mailsettings-system", name="mailsettings-operator", target=tmp_path / "operator"
    )
    async with KubernetesApi(await access_by_kubeconfig(str(target))) as api:
        operator = LeasedSlots(api, names.RELAY_NAMESPACE, holder="operator", logger=LOGGER)
        await operator.sweep(lambda _: True)
        assert kube.api.request("GET", path)
        await operator.sweep(lambda used: used != credential)
    assert all(item["metadata"]["name"] != module._name(slot.key) for item in kube.api.request("GET", LEASES)["items"])


async def test_trouble_is_no_slot(new: New, credential: str, caplog: pytest.LogCaptureFixture) -> None:
    async with KubernetesApi(await _nowhere()) as api:
        slots = LeasedSlots(api, names.RELAY_NAMESPACE, holder="x", logger=LOGGER)
        assert await slots.take(credential, LIMITS) is None
    assert credential in caplog.text


async def _nowhere() -> Access:
    async def headers() -> dict[str, str]:
        return {}

    return Access(server="http://127.0.0.1:9", context=None, headers=headers)
