"""What the operator remembers of MailServerTests: whose turn it is."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from mailsettings.controller.echoes import Echoes
from mailsettings.controller.keys import Key, mail_test_key
from mailsettings.controller.mail_tests import MailTests, mail_test_record
from mailsettings.controller.reconcile.mailservertest import reconcile_mail_test
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.store import Store
from mailsettings.controller.triggers import Triggers, Wake
from mailsettings.core.clock import format_time
from mailsettings.core.mail_testing import Turn
from mailsettings.core.probe import ProbeRequest
from mailsettings.core.probing import ProbeSubject
from mailsettings.core.tenancy import Namespace
from tests.support.smtp_probe import request
from tests.unit.builders import LIMITS

NOW: Final = datetime(2026, 11, 22, 16, 40, tzinfo=UTC)


def body(
    name: str = "a", namespace: str = "shop", *, created: int = 0, spec: dict[str, Any] | None = None, **status: Any
) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{name}",
        "generation": 1,
        "resourceVersion": "7",
        "creationTimestamp": format_time(NOW + timedelta(seconds=created)),
    }
    return {"metadata": metadata, "spec": spec or {"settingsRef": {"name": "mail"}}, "status": status}


def key(name: str, namespace: str = "shop") -> Key:
    return mail_test_key(namespace, name)


def subject(name: str) -> ProbeSubject:
    asked: ProbeRequest = request(25)
    return ProbeSubject(name, 1, asked, timedelta(), name, None)


@pytest.fixture
def tests() -> MailTests:
    return MailTests(LIMITS)


def put(tests: MailTests, *bodies: dict[str, Any]) -> None:
    for each in bodies:
        assert tests.put(mail_test_record(each))


def turns(tests: MailTests, *names: str) -> list[Turn]:
    return [tests.turn(key(name)) for name in names]


def test_those_created_first_come_first_and_then_those_of_the_first_name(tests: MailTests) -> None:
    put(tests, body("a", created=2), body("c", created=1), body("b", created=1))
    assert turns(tests, "b", "c", "a") == [Turn.BEGIN, Turn.BEGIN, Turn.WAIT]
    assert tests.next_ones() == [key("b"), key("c")]


def test_begun_is_counted_at_once_and_no_more_when_it_has_ended(tests: MailTests) -> None:
    put(tests, body("a"), body("b"), body("c"))
    for name in ("a", "b"):
        tests.begin(key(name), subject(name))
    assert turns(tests, "c") == [Turn.WAIT]
    tests.end(key("a"))  # it could not be written
    assert turns(tests, "a", "c") == [Turn.BEGIN, Turn.WAIT]
    put(tests, body("a", startTime=format_time(NOW), completionTime=format_time(NOW)))
    assert turns(tests, "c") == [Turn.BEGIN]


def test_what_another_process_has_begun_counts(tests: MailTests) -> None:
    put(tests, body("a", startTime=format_time(NOW)), body("b", startTime=format_time(NOW)), body("c"))
    assert turns(tests, "c") == [Turn.WAIT]
    assert tests.begun(key("a")) is None
    tests.drop(key("a"))
    assert turns(tests, "c") == [Turn.BEGIN]


def test_all_namespaces_share_the_bound(tests: MailTests) -> None:
    put(tests, *(body("a", f"n{number}", startTime=format_time(NOW)) for number in range(3)), body("x"))
    assert turns(tests, "x") == [Turn.WAIT]
    tests.drop(key("a", "n1"))
    assert turns(tests, "x") == [Turn.BEGIN]


def test_too_many_are_refused_and_those_in_front_are_not(tests: MailTests) -> None:
    put(tests, *(body(f"t{number}") for number in range(7)))
    assert turns(tests, *(f"t{number}" for number in range(7))) == [
        *[Turn.BEGIN] * 2,
        *[Turn.WAIT] * 4,
        Turn.GIVE_UP,
    ]


def test_deleted_ones_wait_no_more(tests: MailTests) -> None:
    put(tests, body("a"), body("b"), body("c"))
    dying = body("a")
    dying["metadata"]["deletionTimestamp"] = format_time(NOW)
    put(tests, dying)
    tests.drop(key("b"))
    assert turns(tests, "c") == [Turn.BEGIN]
    assert tests.next_ones() == [key("c")]
    tests.drop(key("c"))
    tests.drop(key("a"))
    assert (tests.next_ones(), tests._records, tests._waiting, tests._running) == ([], {}, {}, {})


def test_test_that_is_replaced_by_another_of_its_name_begins_anew(tests: MailTests) -> None:
    put(tests, body("a", startTime=format_time(NOW)))
    again = body("a")
    again["metadata"]["uid"] = "another"
    put(tests, again)
    assert turns(tests, "a") == [Turn.BEGIN]


def test_of_what_has_ended_little_is_kept(tests: MailTests) -> None:
    ended = body("a", completionTime=format_time(NOW), dialogue=["x" * 500] * 100)
    record = mail_test_record(ended)
    assert record.pending is None
    assert (record.ended_at, record.ttl_seconds) == (NOW, 3600)
    assert mail_test_record(body(spec={"ttlSecondsAfterFinished": 60})).ttl_seconds == 60


def test_time_that_nobody_can_read_is_none() -> None:
    record = mail_test_record(body(startTime="yesterday", completionTime="2026-11-22T16:40:00.5+01:00"))
    assert (record.started_at, record.ended_at) == (None, None)


def test_news_of_a_test_wakes_it_and_echoes_do_not() -> None:
    tests, awake = MailTests(LIMITS), list[Key]()
    triggers = Triggers(
        Store(),
        tests,
        Echoes(),
        Wake(awake.append, awake.extend, lambda _key, _seconds: None),
        operator_namespace="mailsettings-system",
    )
    triggers.mail_test_changed(body())
    triggers.mail_test_changed(body())
    assert awake == [key("a")]
    again = body()
    again["metadata"]["uid"] = "another"
    triggers.mail_test_changed(again)
    triggers.deleted(key("a").kind, body())
    assert tests.get(key("a")) is not None, "it has been made anew"
    triggers.deleted(key("a").kind, again)
    assert tests.get(key("a")) is None
    assert awake == [key("a")] * 3


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_test_that_goes_before_the_answer_to_its_write_is_not_brought_back(
    *, is_replaced: bool, tests: MailTests
) -> None:
    put(tests, body("a", startTime=format_time(NOW)), body("b", startTime=format_time(NOW)), body("c"))
    another = body("c")
    another["metadata"]["uid"] = "another"

    async def apply(_path: str, written: dict[str, Any], *, force: bool) -> dict[str, Any]:
        assert force
        tests.drop(key("c"))
        if is_replaced:
            put(tests, another)
        return body("c", **written["status"])

    store = Store()
    store.namespaces["shop"] = Namespace("shop", {}, terminating=False, uid="n", version=1)
    services = SimpleNamespace(mail_tests=tests, store=store, echoes=Echoes(), api=SimpleNamespace(apply=apply))
    await reconcile_mail_test(cast("Services", services), key("c"))

    assert tests.get(key("c")) == (mail_test_record(another) if is_replaced else None)
