"""What a watch repeats late is told from what it says anew."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mailsettings.api import names
from mailsettings.controller.barrier import Barrier
from mailsettings.controller.echoes import Echoes
from mailsettings.controller.handlers import registry
from mailsettings.controller.keys import Key, Kind, cluster_key, tenant_key
from mailsettings.controller.mail_tests import MailTests
from mailsettings.controller.store import Store, settings_record
from mailsettings.controller.triggers import Triggers, Wake
from mailsettings.edges.metadata_watch import Changed
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
