"""What becomes of a test mail that cannot be counted. How counting goes otherwise is tested with a real API server."""

import asyncio
import base64
import json
import logging
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any, Final, cast

import aiohttp
import pytest

from mailsettings.core import probe
from mailsettings.core.digest import Digester
from mailsettings.core.mails import Bounds
from mailsettings.core.probe import Hold
from mailsettings.edges import mail_ledger
from mailsettings.edges.fence import FencedError
from mailsettings.edges.kubernetes import ApiError, Json, KubernetesApi
from mailsettings.edges.mail_ledger import ATTEMPTS, DATA_KEY, MailLedger

MAIL: Final = probe.TestMail("a@acme.example", "ops@acme.example", probe.Origin("MailServerSettings shop/mail", "shop"))
FORBIDDEN: Final = ApiError(403, "Forbidden", 'secrets "mail-ledger-a" is forbidden: User "x" may not')
CONFLICT: Final = ApiError(409, "Conflict", "the object has been modified")
GONE: Final = ApiError(404, "NotFound", "")
BUSY: Final = ApiError(503, "ServiceUnavailable", "")

Fault = Callable[[str], BaseException | None]
"""What a request of a method ends by; None: it succeeds."""


class FaultyApi:
    """Secrets as an API server keeps them, as long as nothing goes wrong."""

    def __init__(self, fault: Fault = lambda _method: None) -> None:
        self.fault = fault
        self.kept: dict[str, Json] = {}
        self.asked: list[str] = []
        self._version = 0

    async def get(self, path: str) -> Json | None:
        self._ask("get")
        return deepcopy(self.kept.get(path))

    async def create(self, path: str, body: Json) -> Json:
        self._ask("create")
        return self.put(f"{path}/{body['metadata']['name']}", body)

    async def merge(self, path: str, patch: Json) -> Json:
        self._ask("merge")
        there = self.kept.get(path)
        if there is None:
            raise GONE
        if patch["metadata"] != {"resourceVersion": there["metadata"]["resourceVersion"]}:
            raise CONFLICT
        return self.put(path, {**there, "data": patch["data"]})

    def put(self, path: str, body: Json) -> Json:
        """What anybody writes makes another version."""
        self._version += 1
        self.kept[path] = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self._version)}}
        return deepcopy(self.kept[path])

    def _ask(self, method: str) -> None:
        self.asked.append(method)
        error = self.fault(method)
        if error is not None:
            raise error


def ledger(api: FaultyApi, bounds: Bounds | None = None) -> MailLedger:
    return MailLedger(
        cast("KubernetesApi", api),
        "mailsettings-system",
        digest=Digester(b"k" * 32),
        bounds=bounds or Bounds(of_namespace=3, to_recipient=3),
        logger=logging.getLogger("test"),
    )


def on(method: str, *errors: BaseException | None) -> Fault:
    """Errors that one method ends by, in turn; then it succeeds."""
    left: Iterator[BaseException | None] = iter(errors)
    return lambda asked: next(left, None) if asked == method else None


def always(error: BaseException, *methods: str) -> Fault:
    return lambda asked: error if asked in methods else None


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_ledger, "FIRST_PAUSE_S", 0)


WRITES: Final = ("create", "merge")
OF_A_TENANT: Final = 2
"""Accounts on which its mail is counted."""


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (FORBIDDEN, "the API server says 403 Forbidden"),
        (CONFLICT, "the API server says 409 Conflict"),
        (BUSY, "the API server says 503 ServiceUnavailable"),
        (aiohttp.ServerDisconnectedError(), "the API server does not answer"),
        (TimeoutError(), "the API server does not answer"),
        (ConnectionResetError(), "the API server does not answer"),
        (json.JSONDecodeError("an answer that was cut off", "", 0), "the API server does not answer"),
    ],
)
@pytest.mark.parametrize("methods", [("get",), WRITES], ids=["read", "write"])
async def test_what_cannot_be_counted_is_not_sent(
    error: Exception, why: str, methods: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Its reason says nothing of the cluster's inside; the log does."""
    counting = ledger(FaultyApi(always(error, *methods)))
    assert await counting.count(MAIL) == Hold(why, None)
    assert "a test mail is not counted, and so not sent" in caplog.text
    assert ("may not" in caplog.text) is (error is FORBIDDEN)


async def test_what_cannot_be_looked_up_is_not_begun() -> None:
    api = FaultyApi(always(FORBIDDEN, "get"))
    assert await ledger(api).look(MAIL) == Hold("the API server says 403 Forbidden", None)


@pytest.mark.parametrize("error", [CONFLICT, BUSY, GONE, ConnectionResetError()])
@pytest.mark.parametrize("method", WRITES)
async def test_passing_trouble_is_waited_out(error: Exception, method: str) -> None:
    api = FaultyApi()
    if method == "merge":
        await ledger(api).count(MAIL)
    api.fault = on(method, *[error] * (ATTEMPTS - 1))
    assert await ledger(api).count(MAIL) is None


async def test_it_is_not_tried_for_ever() -> None:
    api = FaultyApi(always(CONFLICT, *WRITES))
    await ledger(api).count(MAIL)
    assert api.asked.count("create") == ATTEMPTS * OF_A_TENANT


async def test_what_is_refused_for_good_is_not_tried_again() -> None:
    api = FaultyApi(always(FORBIDDEN, *WRITES))
    await ledger(api).count(MAIL)
    assert [api.asked.count("create"), *api.asked[:OF_A_TENANT]] == [OF_A_TENANT, "get", "get"]


async def test_a_server_that_does_not_answer_is_not_waited_for_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_ledger, "PATIENCE_S", 0.01)

    class Silent(FaultyApi):
        async def get(self, path: str) -> Json | None:
            await asyncio.Event().wait()
            return await super().get(path)

    assert await ledger(Silent()).count(MAIL) == Hold("the API server does not answer", None)


async def test_replica_that_may_not_write_any_more_ends_and_sends_nothing() -> None:
    with pytest.raises(asyncio.CancelledError):
        await ledger(FaultyApi(always(FencedError(), *WRITES))).count(MAIL)


@pytest.mark.parametrize("data", [None, {}, {DATA_KEY: "!"}, {DATA_KEY: base64.b64encode(b"\xff{").decode()}])
async def test_ledger_that_cannot_be_read_is_not_begun_anew(
    data: dict[str, Any] | None, caplog: pytest.LogCaptureFixture
) -> None:
    api = FaultyApi()
    await ledger(api).count(MAIL)
    for path, secret in api.kept.items():
        api.put(path, {**secret, "data": data})
    asked = len(api.asked)
    for hold in (await ledger(api).count(MAIL), await ledger(api).look(MAIL)):
        assert hold is not None
        assert hold.until is None
        assert re.fullmatch("the counts in the Secret mail-ledger-[0-9a-f] cannot be read", hold.why)
        assert hold.why in caplog.text
    assert {*api.asked[asked:]} == {"get"}


def moved(api: FaultyApi, seconds: int) -> None:
    """Has all windows begin so much later."""
    for path, secret in api.kept.items():
        moved = {name: (since_s + seconds, sent) for name, (since_s, sent) in counts_in(secret).items()}
        api.put(path, {**secret, "data": {DATA_KEY: base64.b64encode(json.dumps(moved).encode()).decode()}})


def counts_in(secret: Json) -> dict[str, tuple[int, int]]:
    counts: dict[str, tuple[int, int]] = json.loads(base64.b64decode(secret["data"][DATA_KEY]))
    return counts


def counted_in(api: FaultyApi) -> list[int]:
    """What is counted on each account."""
    return sorted(sent for secret in api.kept.values() for _, sent in counts_in(secret).values())


@pytest.mark.parametrize("looks", [True, False], ids=["looked at", "counted"])
async def test_full_window_that_a_fast_clock_wrote_ends_an_hour_after_it_is_seen(looks: bool) -> None:
    api, bounds = FaultyApi(), Bounds(of_namespace=9, to_recipient=1)
    await ledger(api, bounds).count(MAIL)
    moved(api, 30 * 86400)
    counting = ledger(api, bounds)
    for _ in range(2):
        hold = await (counting.look(MAIL) if looks else counting.count(MAIL))
        assert hold is not None
        assert hold.why.startswith("this recipient's")
    moved(api, -3600)
    assert await counting.look(MAIL) is None


async def test_a_window_that_is_right_is_not_written_where_there_is_no_room() -> None:
    api, bounds = FaultyApi(), Bounds(of_namespace=1, to_recipient=9)
    await ledger(api, bounds).count(MAIL)
    asked = len(api.asked)
    assert await ledger(api, bounds).look(MAIL) is not None
    assert await ledger(api, bounds).count(MAIL) is not None
    assert {*api.asked[asked:]} == {"get"}


async def test_looking_counts_nothing() -> None:
    api = FaultyApi()
    for _ in range(5):
        assert await ledger(api).look(MAIL) is None
    assert set(api.asked) == {"get"}


@pytest.mark.parametrize("namespace", ["", "mailsettings-system"])
async def test_tenants_cannot_have_the_administrators_mails_wait(namespace: str) -> None:
    counting = ledger(FaultyApi(), Bounds(of_namespace=2, to_recipient=1))
    assert await counting.count(MAIL) is None
    assert await counting.count(MAIL) is not None
    own = replace(MAIL, origin=replace(MAIL.origin, namespace=namespace))
    assert [await counting.count(own), await counting.count(own)] == [None, None]
    assert await counting.look(own) is not None


@pytest.mark.parametrize("bounds", [Bounds(1, 9), Bounds(9, 1)], ids=["namespace", "recipient"])
async def test_whichever_bound_is_reached_first_holds(bounds: Bounds) -> None:
    counting = ledger(FaultyApi(), bounds)
    assert await counting.count(MAIL) is None
    for hold in (await counting.look(MAIL), await counting.count(MAIL)):
        assert hold is not None
        assert hold.until is not None
        assert hold.why.endswith(" bound of 1 test mails in an hour is reached")


# What is kept from one mail to the next


MANY: Final = Bounds(of_namespace=1000, to_recipient=1000)


async def test_mail_is_counted_by_two_writes_at_the_same_time() -> None:
    both = asyncio.Barrier(OF_A_TENANT)

    class Slow(FaultyApi):
        async def merge(self, path: str, patch: Json) -> Json:
            await both.wait()
            return await super().merge(path, patch)

    api = Slow()
    counting = ledger(api, MANY)
    assert await counting.count(MAIL) is None
    asked = len(api.asked)
    for _ in range(3):
        async with asyncio.timeout(10):
            assert await counting.count(MAIL) is None
    assert api.asked[asked:] == ["merge", "merge"] * 3
    assert counted_in(api) == [4, 4]


async def test_of_what_another_replica_has_counted_meanwhile_nothing_is_lost() -> None:
    api = FaultyApi()
    replicas = ledger(api, MANY), ledger(api, MANY)
    for turn in range(6):
        assert await replicas[turn % 2].count(MAIL) is None
    assert counted_in(api) == [6, 6]


async def test_room_that_another_replica_has_taken_meanwhile_is_no_room() -> None:
    api = FaultyApi()
    first, second = ledger(api), ledger(api)
    assert [await first.count(MAIL), await second.count(MAIL), await second.count(MAIL)] == [None, None, None]
    hold = await first.count(MAIL)
    assert hold is not None
    assert hold.until is not None
    assert counted_in(api) == [3, 3]


async def test_that_there_is_no_room_is_read() -> None:
    api, bounds = FaultyApi(), Bounds(of_namespace=1, to_recipient=1)
    counting = ledger(api, bounds)
    assert await counting.count(MAIL) is None
    moved(api, -3600)
    assert await counting.count(MAIL) is None


async def test_ledger_that_somebody_deletes_begins_anew() -> None:
    api = FaultyApi()
    counting = ledger(api)
    assert await counting.count(MAIL) is None
    api.kept.clear()
    assert await counting.count(MAIL) is None
    assert counted_in(api) == [1, 1]


async def test_ledger_that_somebody_spoils_counts_nothing() -> None:
    api = FaultyApi()
    counting = ledger(api)
    assert await counting.count(MAIL) is None
    for path, secret in api.kept.items():
        api.put(path, {**secret, "data": {DATA_KEY: "!"}})
    hold = await counting.count(MAIL)
    assert hold is not None
    assert hold.why.endswith(" cannot be read")


@pytest.mark.parametrize("error", [CONFLICT, FORBIDDEN, BUSY, ConnectionResetError()])
@pytest.mark.parametrize("methods", [("merge",), ("get", "merge")], ids=["write", "all"])
async def test_what_is_kept_does_not_stand_for_a_count(error: Exception, methods: tuple[str, ...]) -> None:
    api = FaultyApi()
    counting = ledger(api)
    assert await counting.count(MAIL) is None
    api.fault = always(error, *methods)
    hold = await counting.count(MAIL)
    assert hold is not None
    assert hold.until is None


async def test_write_whose_answer_is_lost_is_not_counted_on() -> None:
    """Nobody knows whether it was done: so the mail may be counted twice, but never not at all."""

    class Lossy(FaultyApi):
        async def merge(self, path: str, patch: Json) -> Json:
            await super().merge(path, patch)
            lost = next(errors, None)
            if lost is not None:
                raise lost
            return self.kept[path]

    errors: Iterator[BaseException] = iter([ConnectionResetError()])
    api = Lossy()
    counting = ledger(api, MANY)
    assert [await counting.count(MAIL) for _ in range(3)] == [None, None, None]
    assert counted_in(api) == [3, 4]


async def test_where_one_account_has_no_room_the_other_is_not_charged() -> None:
    """Else a namespace that is at its bound could use up that of a recipient, by mails that are not sent."""
    api, bounds = FaultyApi(), Bounds(of_namespace=1, to_recipient=1000)
    counting = ledger(api, bounds)
    assert await counting.count(MAIL) is None
    for _ in range(3):
        assert await counting.count(MAIL) is not None
        assert await ledger(api, bounds).count(MAIL) is not None
    assert counted_in(api) == [1, 1]


async def test_of_mails_that_see_the_same_last_room_one_gets_it() -> None:
    api, bounds = FaultyApi(), Bounds(of_namespace=2, to_recipient=1000)
    counting = ledger(api, bounds)
    assert await counting.count(MAIL) is None
    holds = await asyncio.gather(*(counting.count(MAIL) for _ in range(3)))
    assert holds.count(None) == 1
    assert all(hold is None or hold.until is not None for hold in holds)
