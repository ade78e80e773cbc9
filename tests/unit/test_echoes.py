"""What a watch repeats late is told from what it says anew."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mailsettings.api import names
from mailsettings.controller.barrier import Barrier
from mailsettings.controller.echoes import Echoes
from mailsettings.controller.handlers import registry
from mailsettings.controller.keys import Key, Kind, cluster_key, tenant_key
from mailsettings.controller.mail_tests import MailTests
from mailsettings.controller.store import Store, secret_record, settings_record
from mailsettings.controller.triggers import Triggers, Wake
from mailsettings.core.credentials import ObjectRef
from mailsettings.core.delivery import DeliveredSecret
from mailsettings.edges.metadata_watch import Changed, Deleted
from tests.unit.builders import LIMITS

CLUSTER = cluster_key("a")
TENANT = tenant_key("shop", "a")


def metadata(version: int, uid: str = "a") -> dict[str, str]:
    return {"uid": uid, "resourceVersion": str(version)}


def document(key: Key, version: int) -> Any:
    place = {"name": key.name, "namespace": key.namespace} if key.namespace else {"name": key.name}
    return {"metadata": {**metadata(version), **place, "generation": version}, "spec": {}}


class World:
    """The triggers, what they have woken, and two ways in."""

    def __init__(self) -> None:
        self.echoes = Echoes()
        self.awake: list[Key] = []
        self.triggers = Triggers(
            Store(),
            MailTests(LIMITS),
            self.echoes,
            Wake(self.awake.append, self.awake.extend, lambda _key, _seconds: None),
            operator_namespace="mailsettings-system",
        )

    async def by_kopf(self, version: int) -> None:
        handlers = registry(self.triggers, Barrier(), login=lambda **_: None)
        (handler,) = (each for each in handlers._watching.get_all_handlers() if each.id == names.CLUSTER_PLURAL)
        event: Any = {"type": "MODIFIED", "object": document(CLUSTER, version)}
        await handler.fn(event=event)  # type: ignore[call-arg, misc]

    async def by_watch(self, version: int) -> None:
        self.triggers.tenants_seen(Changed(settings_record(Kind.TENANT, document(TENANT, version))))


def test_what_came_before_a_write_is_outdated_until_its_echo() -> None:
    echoes = Echoes()
    assert not echoes.is_outdated("a", 8)

    echoes.wrote(metadata(10))

    assert echoes.is_outdated("a", 9)
    assert echoes.is_outdated("a", 9)
    assert not echoes.is_outdated("a", 10)
    assert not echoes.is_outdated("a", 11)


def test_a_listing_that_has_skipped_the_echo_counts_too() -> None:
    echoes = Echoes()
    echoes.wrote(metadata(10))
    assert not echoes.is_outdated("a", 15)


def test_after_the_echo_a_restored_cluster_may_count_anew() -> None:
    echoes = Echoes()
    echoes.wrote(metadata(10))
    assert not echoes.is_outdated("a", 10)
    assert not echoes.is_outdated("a", 3)


def test_objects_do_not_mix() -> None:
    echoes = Echoes()
    echoes.wrote(metadata(10))
    assert not echoes.is_outdated("b", 5)
    assert echoes.is_outdated("a", 5)


@pytest.mark.parametrize(("key", "deliver"), [(CLUSTER, World.by_kopf), (TENANT, World.by_watch)])
async def test_what_is_news_only_is_passed_on(key: Key, deliver: Callable[[World, int], Awaitable[None]]) -> None:
    world = World()
    await deliver(world, 8)
    world.echoes.wrote(metadata(10))
    world.awake.clear()

    await deliver(world, 9)
    assert world.awake == []
    await deliver(world, 11)
    assert world.awake == [key]


def known(world: World, version: int, **fields: Any) -> None:
    world.triggers.tenants_seen(Changed(settings_record(Kind.TENANT, document(TENANT, version) | fields)))


def test_an_echo_that_is_faster_than_the_answer_wakes_nobody() -> None:
    world = World()
    known(world, 8)
    world.awake.clear()
    record = world.triggers._store.settings(TENANT)
    assert record is not None

    with world.echoes.writing(TENANT):
        known(world, 10, metadata=document(TENANT, 10)["metadata"] | {"generation": 8}, status={"a": 1})
        assert record.status == {}
        world.echoes.wrote(metadata(10))
        record.set_status({"a": 1})

    assert world.awake == []
    assert world.triggers._store.settings(TENANT) == record


def test_of_the_news_during_a_write_the_latest_is_delivered_at_its_end_also_when_it_fails() -> None:
    world = World()
    known(world, 8)
    world.awake.clear()
    with contextlib.suppress(ConnectionError), world.echoes.writing(TENANT):
        known(world, 9)
        known(world, 11)
        assert world.awake == []
        raise ConnectionError
    assert world.awake == [TENANT]
    record = world.triggers._store.settings(TENANT)
    assert record is not None
    assert record.version == 11


def test_news_of_what_is_gone_since_is_not_delivered() -> None:
    world = World()
    known(world, 8)
    with world.echoes.writing(TENANT):
        known(world, 9)
        world.triggers.tenants_seen(Deleted(settings_record(Kind.TENANT, document(TENANT, 9))))
    assert world.triggers._store.settings(TENANT) is None


def test_news_of_what_replaced_an_object_is_delivered_though_the_end_of_the_first_is_told_twice() -> None:
    world = World()
    first, second = (document(CLUSTER, version) for version in (8, 10))
    second["metadata"]["uid"] = "b"
    world.triggers.settings_changed(settings_record(Kind.CLUSTER, first))
    with world.echoes.writing(CLUSTER):
        world.triggers.settings_changed(settings_record(Kind.CLUSTER, first))
        world.triggers.deleted(Kind.CLUSTER, first)
        world.triggers.settings_changed(settings_record(Kind.CLUSTER, second))
        world.triggers.deleted(Kind.CLUSTER, first)
    record = world.triggers._store.settings(CLUSTER)
    assert record is not None
    assert record.uid == "b"


def secret(version: int, uid: str = "a") -> DeliveredSecret:
    return secret_record({**metadata(version, uid), "namespace": "shop", "name": "smtp"})


def test_news_of_a_secret_waits_for_the_write_too() -> None:
    world = World()
    store = world.triggers._store
    store.set_uses(TENANT, "shop", [ObjectRef("Secret", "smtp")])
    with world.echoes.writing(("shop", "smtp")):
        world.triggers.secrets_seen(Changed(secret(9)))
        world.triggers.secrets_seen(Changed(secret(10)))
        world.echoes.wrote(metadata(10))
        store.put_secret(secret(10))
    assert world.awake == []

    world.echoes.wrote(metadata(12))
    store.put_secret(secret(12))
    world.triggers.secrets_seen(Changed(secret(11)))
    assert store.secret("shop", "smtp") == secret(12)
    world.triggers.secrets_seen(Changed(secret(13)))
    assert world.awake == [TENANT]

    with world.echoes.writing(("shop", "smtp")):
        world.triggers.secrets_seen(Changed(secret(14)))
        world.triggers.secrets_seen(Deleted(secret(14)))
    assert store.secret("shop", "smtp") is None


def test_a_secret_that_goes_before_the_answer_to_its_write_is_gone_and_another_in_its_place_is_not() -> None:
    world = World()
    store = world.triggers._store
    replaced = Changed(secret(12, "b"))
    for news, left in (([], None), ([replaced], replaced.item)):
        world.triggers.secrets_seen(Changed(secret(9)))
        with world.echoes.writing(("shop", "smtp")):
            world.triggers.secrets_seen(Changed(secret(10)))
            world.triggers.secrets_seen(Deleted(secret(11)))
            for event in news:
                world.triggers.secrets_seen(event)
            world.echoes.wrote(metadata(10))
            store.put_secret(secret(10))
        assert store.secret("shop", "smtp") == left
