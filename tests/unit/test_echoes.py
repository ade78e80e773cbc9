"""What a watch repeats late is told from what it says anew."""

from typing import Any

import pytest

from mailsettings.api import names
from mailsettings.controller.barrier import Barrier
from mailsettings.controller.echoes import Echoes
from mailsettings.controller.handlers import registry
from mailsettings.controller.keys import Key, cluster_key, tenant_key
from mailsettings.controller.mail_tests import MailTests
from mailsettings.controller.store import Store
from mailsettings.controller.triggers import Triggers
from tests.unit.builders import LIMITS


def metadata(version: int, uid: str = "a") -> dict[str, str]:
    return {"uid": uid, "resourceVersion": str(version)}


def test_what_came_before_a_write_is_outdated_until_its_echo() -> None:
    echoes = Echoes()
    assert not echoes.is_outdated(metadata(8))

    echoes.wrote(metadata(10))

    assert echoes.is_outdated(metadata(9))
    assert echoes.is_outdated(metadata(9))
    assert not echoes.is_outdated(metadata(10))
    assert not echoes.is_outdated(metadata(11))


def test_versions_are_numbers() -> None:
    echoes = Echoes()
    echoes.wrote(metadata(10))
    assert echoes.is_outdated(metadata(9))
    assert not echoes.is_outdated(metadata(100))


def test_a_listing_that_has_skipped_the_echo_counts_too() -> None:
    echoes = Echoes()
    echoes.wrote(metadata(10))
    assert not echoes.is_outdated(metadata(15))


def test_after_the_echo_a_restored_cluster_may_count_anew() -> None:
    echoes = Echoes()
    echoes.wrote(metadata(10))
    assert not echoes.is_outdated(metadata(10))
    assert not echoes.is_outdated(metadata(3))


def test_objects_do_not_mix() -> None:
    echoes = Echoes()
    echoes.wrote(metadata(10))
    assert not echoes.is_outdated(metadata(5, uid="b"))
    assert echoes.is_outdated(metadata(5))


@pytest.mark.parametrize(
    ("key", "plural"),
    [(cluster_key("a"), names.CLUSTER_PLURAL), (tenant_key("shop", "a"), names.TENANT_PLURAL)],
)
async def test_the_handlers_pass_on_what_is_news_only(key: Key, plural: str) -> None:
    echoes = Echoes()
    awake: list[Key] = []
    triggers = Triggers(
        Store(),
        MailTests(LIMITS),
        awake.append,
        awake.extend,
        lambda _key, _seconds: None,
        operator_namespace="mailsettings-system",
    )
    handlers = registry(triggers, echoes, Barrier(), login=lambda **_: None)
    (handler,) = (each for each in handlers._watching.get_all_handlers() if each.id == plural)
    place = {"name": key.name, "namespace": key.namespace} if key.namespace else {"name": key.name}

    async def deliver(version: int) -> None:
        document: Any = {"metadata": {**metadata(version), **place, "generation": version}, "spec": {}}
        await handler.fn(event={"type": "MODIFIED", "object": document})  # type: ignore[call-arg, misc]

    await deliver(8)
    echoes.wrote(metadata(10))
    awake.clear()

    await deliver(9)
    assert awake == []
    await deliver(11)
    assert awake == [key]
