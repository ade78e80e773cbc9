"""What a provider permits a login: connections at a time, messages a minute, shared out by slots."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.api.providers import MailboxLimits
from mailsettings.core.slots import LOOK_S, RESERVED_S, Ask, Budget, SeenSlot, Take, next_step
from mailsettings.edges.relay.server import Options
from tests.support.relay import ACCOUNT, SENDER, RawClient, bundle, eventually, running, tenant
from tests.support.smtp_server import Peer, close, scripted_server

MAIL: Final = f"MAIL FROM:<{SENDER}>".encode()
LIMITS: Final = {"connections": 3, "messagesPerMinute": 30}


class TestBudget:
    def test_so_many_a_minute(self) -> None:
        budget = Budget(2)
        assert budget.pause_s(0) == 0
        budget.begin(0)
        assert budget.pause_s(10) == 0
        budget.begin(10)
        assert (budget.pause_s(11), budget.spent(11)) == (49, 2)
        assert (budget.pause_s(60), budget.spent(60)) == (0, 1)
        budget.begin(60)
        budget.give_back()
        assert budget.pause_s(60) == 0

    def test_what_others_have_spent_counts(self) -> None:
        assert Budget(2, spent=1, now_s=5).pause_s(5) == 0
        assert Budget(2, spent=9, now_s=5).pause_s(5) == 60

    @given(st.lists(st.floats(0, 30), max_size=60), st.integers(1, 5))
    def test_never_more_in_any_minute(self, gaps: list[float], share: int) -> None:
        budget, now, begun = Budget(share), 0.0, []
        for gap in gaps:
            now += gap
            if budget.pause_s(now) <= 0:
                budget.begin(now)
                begun.append(now)
        assert all(sum(at <= other < at + 60 for other in begun) <= share for at in begun)


def seen(number: int, holder: str = "", **fields: Any) -> SeenSlot:
    return SeenSlot(number, holder, wait_s=fields.pop("wait_s", 9.0 if holder else 0.0), **fields)


class TestNextStep:
    @pytest.mark.parametrize(
        ("slots", "held", "step"),
        [
            ([seen(0), seen(1)], 0, Take(0)),
            ([seen(0, "a"), seen(1)], 0, Take(1)),
            ([seen(0, "a", wait_s=0.0)], 0, Take(0)),
            ([seen(0, "a"), seen(1, "a"), seen(2, "b")], 0, Ask(0)),
            ([seen(0, "b"), seen(1, "a"), seen(2, "a")], 0, Ask(1)),
            ([seen(0, "a"), seen(1, "b"), seen(2, "c")], 0, Ask(0)),
            ([seen(0, "a", wanted_by="b"), seen(1, "c")], 0, Ask(1)),
            ([seen(0, "a", wanted_by="me"), seen(1, "a")], 0, None),
            ([seen(0, "a"), seen(1, "a")], 1, None),
            ([seen(0, "a"), seen(1, "a"), seen(2, "a")], 1, Ask(0)),
            ([seen(0, wanted_by="b"), seen(1, "a")], 1, None),
            ([seen(0, wanted_by="b", unchanged_s=RESERVED_S)], 1, Take(0)),
            ([seen(0), seen(1, wanted_by="me")], 0, Take(1)),
            ([], 3, None),
        ],
    )
    def test_steps(self, slots: list[SeenSlot], held: int, step: object) -> None:
        assert next_step(slots, "me", held=[""] * held) == step

    @pytest.mark.parametrize(
        ("slots", "held", "waiting", "step"),
        [
            # Who has none gets one of those of whoever has several, wherever they are, and nobody else's.
            ([seen(0, "a", user="g"), seen(1, "b", user="g")], ["g"], ["o"], Ask(0)),
            ([seen(0, "a", user="x"), seen(1, "b", user="g")], ["g"], ["o"], Ask(1)),
            ([seen(0, "a", user="x"), seen(1, "b", user="g")], ["y"], ["o"], None),
            ([seen(0, "a"), seen(1, "b")], [""], ["o"], None),
            # Which comes free first nobody knows.
            ([seen(0, "a", user="g", wanted_by="me"), seen(1, "b", user="g")], ["g"], ["o"], Ask(1)),
            ([seen(0, "a", user="g", wanted_by="b"), seen(1, "b", user="g", wanted_by="me")], ["g"], ["o"], None),
            ([seen(0, "a", user="g", wanted_by="me"), seen(1, "b", user="g")], [], ["o"], Ask(1)),
            # Who has one, here or elsewhere, waits for the next turn.
            ([seen(0, "a", user="g"), seen(1, "b", user="g"), seen(2, "b", user="o")], ["g"], ["o"], None),
            ([seen(0, "a", user="g"), seen(1, "b", user="g")], ["g"], ["g"], None),
            ([seen(0, "a", user="g"), seen(1, "b", user="g")], ["g", "o"], ["o"], None),
            ([seen(0, "a", user="g"), seen(1, "b", user="g"), seen(2, "b", user="o")], ["g"], ["o", "p"], Ask(0)),
            # A free one is taken, and one that nobody holds is nobody's.
            ([seen(0, "a", user="g"), seen(1, user="g")], ["g"], ["o"], Take(1)),
            ([seen(0, "a", user="g"), seen(1, user="g", wanted_by="b")], [""], ["o"], None),
        ],
    )
    def test_steps_for_users(self, slots: list[SeenSlot], held: list[str], waiting: list[str], step: object) -> None:
        assert next_step(slots, "me", held=held, waiting=waiting) == step

    @given(st.integers(2, 6), st.integers(2, 6), st.data())
    def test_a_user_with_none_gets_one_wherever_it_waits(self, count: int, replicas: int, data: st.DataObject) -> None:
        """One uses all there are; whoever is asked gives it up. All the others know is what the holders say."""
        slots = {number: SeenSlot(number, f"r{number % replicas}", 9.0, user="greedy") for number in range(count)}
        me = f"r{data.draw(st.integers(0, replicas - 1))}"
        slow = data.draw(st.sets(st.integers(0, count - 1), max_size=count - 1))
        for _ in range(2 * count):
            held = [slot.user for slot in slots.values() if slot.holder == me]
            match next_step([slot for slot in slots.values() if slot.holder != me], me, held=held, waiting=["other"]):
                case Take(number):
                    return
                case Ask(number):
                    asked = replace(slots[number], wanted_by=me)
                    slots[number] = asked if number in slow else replace(asked, holder="", wait_s=0.0)
        assert all(slot.holder == me or slot.number in slow for slot in slots.values())

    @given(st.integers(1, 8), st.integers(1, 5), st.data())
    def test_nobody_waits_for_ever_and_slots_come_to_rest(self, count: int, replicas: int, data: st.DataObject) -> None:
        """All want all there are; whoever is asked gives it up. In the end nobody has two more than another."""
        who = [f"r{number}" for number in range(replicas)]
        slots = {number: SeenSlot(number) for number in range(count)}
        if replicas > count:
            return  # then they go round
        for _ in range(60):
            for me in data.draw(st.permutations(who)):
                held = sum(slot.holder == me for slot in slots.values())
                step = next_step([slot for slot in slots.values() if slot.holder != me], me, held=[""] * held)
                match step:
                    case Take(number):
                        slots[number] = SeenSlot(number, me, wait_s=9)
                    case Ask(number):
                        slots[number] = SeenSlot(number, "", wanted_by=me)
        counts = [sum(slot.holder == me for slot in slots.values()) for me in who]
        assert sum(counts) == count
        assert max(counts) - min(counts) <= 1


class Places:
    """Permits so many connections, and knows how many there are."""

    def __init__(self, left: int, budget: Callable[[], Budget] = lambda: Budget(100)) -> None:
        self.left = left
        self.held: list[Place] = []
        self.asked: list[tuple[str, int]] = []
        self.waiting: list[list[str]] = []
        self.budget = budget

    async def take(self, credential: str, limits: MailboxLimits, waiting: Collection[str] = ()) -> "Place | None":
        self.asked.append((credential, limits.connections))
        self.waiting.append([*waiting])
        if not self.left:
            return None
        self.left -= 1
        self.held.append(Place(self))
        return self.held[-1]


class Place:
    user = ""
    is_held = True

    def __init__(self, places: Places) -> None:
        self._places = places
        self.budget = places.budget()
        self.end: Callable[[], None] = lambda: None

    def when_over(self, tell: Callable[[], None]) -> None:
        self.end = tell

    def free(self) -> None:
        self._places.left += 1
        self._places.held.remove(self)


async def send(client: RawClient) -> str:
    await client.begin()
    return await client.say(b"From: no-reply@acme.example\r\n\r\n.")


async def test_a_slot_is_held_as_long_as_its_connection_stands() -> None:
    slots, options = Places(1), Options(upstream_wait_s=0.05)
    async with scripted_server() as server:
        async with running(bundle(server.port, limits=LIMITS), slots=slots, options=options) as relay:
            async with RawClient.to(relay) as first, RawClient.to(relay) as second:
                await first.log_in()
                await second.log_in()
                await first.begin()
                assert slots.left == 0
                assert (await second.say(MAIL)).startswith("451 4.3.2")
                assert (await first.say(b"From: no-reply@acme.example\r\n\r\n.")).startswith("250")
                assert slots.left == 0
                for client in (second, first):
                    assert (await send(client)).startswith("250")
            assert server.lines.count("QUIT") == 0
        assert slots.left == 1
        assert set(slots.asked) == {("system", 3)}


async def test_an_idle_slot_is_given_back() -> None:
    slots, options = Places(1), Options(upstream_idle_s=0.01)
    async with (
        scripted_server() as server,
        running(bundle(server.port, limits=LIMITS), slots=slots, options=options) as relay,
        RawClient.to(relay) as client,
    ):
        await client.log_in()
        assert (await send(client)).startswith("250")
        await eventually(lambda: slots.left == 1)


async def test_without_limits_nobody_is_asked() -> None:
    slots = Places(0)
    async with (
        scripted_server() as server,
        running(bundle(server.port), slots=slots) as relay,
        RawClient.to(relay) as client,
    ):
        await client.log_in()
        assert (await send(client)).startswith("250")
    assert slots.asked == []


async def test_a_slot_that_somebody_else_wants_goes_after_its_message() -> None:
    slots = Places(1)
    async with (
        scripted_server() as server,
        running(bundle(server.port, limits=LIMITS), slots=slots) as relay,
        RawClient.to(relay) as client,
    ):
        await client.log_in()
        await client.begin()
        slots.held[0].end()
        assert slots.left == 0
        assert (await client.say(b"From: no-reply@acme.example\r\n\r\n.")).startswith("250")
        await eventually(lambda: slots.left == 1)
        assert (await send(client)).startswith("250")
        slots.held[0].end()
        await eventually(lambda: slots.left == 1)


async def test_however_many_wait_the_looks_for_a_slot_are_few() -> None:
    slots, options = Places(0), Options(upstream_wait_s=0.02)
    async with (
        scripted_server() as server,
        running(bundle(server.port, limits=LIMITS), slots=slots, options=options) as relay,
        RawClient.to(relay) as client,
    ):
        await client.log_in()
        time = asyncio.get_running_loop().time
        began_s = time()
        for _ in range(12):
            assert (await client.say(MAIL)).startswith("451 4.3.2")
        assert 1 <= len(slots.asked) <= 2 + (time() - began_s) / LOOK_S


async def test_a_message_waits_for_a_slot_that_comes_free() -> None:
    slots = Places(0)
    async with (
        scripted_server() as server,
        running(bundle(server.port, limits=LIMITS), slots=slots) as relay,
        RawClient.to(relay) as client,
    ):
        await client.log_in()
        waiting = asyncio.ensure_future(client.say(MAIL))
        await eventually(lambda: slots.asked)
        slots.left = 1
        assert (await waiting).startswith("250")


async def test_more_slots_are_got_for_those_who_wait_and_no_more_than_there_are() -> None:
    slots, options = Places(9), Options(upstream_wait_s=2.5)
    async with (
        scripted_server() as server,
        running(bundle(server.port, limits={**LIMITS, "connections": 2}), slots=slots, options=options) as relay,
        RawClient.to(relay) as first,
        RawClient.to(relay) as second,
        RawClient.to(relay) as third,
    ):
        for client in (first, second, third):
            await client.log_in()
        await first.begin()
        assert len(slots.held) == 1
        await second.begin()
        assert (await third.say(MAIL)).startswith("451 4.3.2")
        assert len(slots.held) == 2


async def test_the_budget_of_a_slot_holds_and_refusals_cost_nothing() -> None:
    slots, options = Places(1, lambda: Budget(2)), Options(upstream_wait_s=0.05)
    async with (
        scripted_server() as server,
        running(bundle(server.port, limits=LIMITS), slots=slots, options=options) as relay,
        RawClient.to(relay) as client,
    ):
        await client.log_in()
        for _ in range(3):
            assert (await client.say(MAIL)).startswith("250")
            assert (await client.say(b"RSET")).startswith("250")
            await eventually(lambda: slots.held[0].budget.spent(0) == 0)
        for _ in range(2):
            assert (await send(client)).startswith("250")
        assert (await client.say(MAIL)).startswith("451 4.3.2")


async def test_a_message_counts_though_the_connection_ends_with_it() -> None:
    async def last(peer: Peer) -> None:
        await peer.say(b"250 2.0.0 kept\r\n")
        await peer.close()

    slots, options = Places(1, lambda: Budget(2)), Options(upstream_wait_s=0.05)
    async with (
        scripted_server({".": last}) as server,
        running(bundle(server.port, limits=LIMITS), slots=slots, options=options) as relay,
        RawClient.to(relay) as client,
    ):
        await client.log_in()
        for _ in range(2):
            assert (await send(client)).startswith("250")
        assert slots.held[0].budget.spent(asyncio.get_running_loop().time()) == 2
        assert (await client.say(MAIL)).startswith("451 4.3.2")


async def test_a_message_begins_when_the_budget_lets_it() -> None:
    def nearly_spent() -> Budget:
        return Budget(1, spent=1, now_s=asyncio.get_running_loop().time() - 59.9)

    async with (
        scripted_server() as server,
        running(bundle(server.port, limits=LIMITS), slots=Places(1, nearly_spent)) as relay,
        RawClient.to(relay) as client,
    ):
        await client.log_in()
        assert (await client.say(MAIL)).startswith("250")


async def test_a_connection_that_breaks_costs_no_new_slot() -> None:
    slots = Places(1)
    async with (
        scripted_server({".": close}) as server,
        running(bundle(server.port, limits=LIMITS), slots=slots) as relay,
        RawClient.to(relay) as client,
    ):
        await client.log_in()
        for _ in range(3):
            assert (await send(client)).startswith("451 4.4.2")
        assert len(slots.asked) == 1


async def test_tenants_take_turns_on_one_slot() -> None:
    tenants = [tenant(), tenant(username="other.x", namespace="other")]
    done: list[str] = []
    async with (
        scripted_server() as server,
        running(bundle(server.port, limits=LIMITS, tenants=tenants), slots=Places(1)) as relay,
    ):

        async def one(account: str) -> None:
            async with RawClient.to(relay) as client:
                await client.log_in(account)
                assert (await send(client)).startswith("250")
                done.append(account)

        async with RawClient.to(relay) as holder:
            await holder.log_in()
            await holder.begin()
            pool = relay.relay.pools.of("system")
            many = [asyncio.ensure_future(one(ACCOUNT)) for _ in range(8)]
            await eventually(lambda: pool._queue.waiting == 8)
            other = asyncio.ensure_future(one("other.x"))
            await eventually(lambda: pool._queue.waiting == 9)
            assert (await holder.say(b"From: no-reply@acme.example\r\n\r\n.")).startswith("250")
            await asyncio.gather(other, *many)
    assert done.index("other.x") <= 2


async def test_others_learn_who_uses_a_slot_and_who_waits_for_one() -> None:
    tenants = [tenant(), tenant(username="other.x", namespace="other")]
    slots = Places(1)
    async with (
        scripted_server() as server,
        running(bundle(server.port, limits=LIMITS, tenants=tenants), slots=slots) as relay,
        RawClient.to(relay) as first,
        RawClient.to(relay) as second,
        RawClient.to(relay) as third,
    ):
        await first.log_in()
        await first.begin()
        assert slots.held[0].user == "acme"
        await second.log_in()
        await third.log_in("other.x")
        queue = relay.relay.pools.of("system")._queue
        waiting = asyncio.ensure_future(third.say(MAIL))
        await eventually(lambda: queue.waiting == 1)
        too = asyncio.ensure_future(second.say(MAIL))
        await eventually(lambda: queue.waiting == 2)
        looks = len(slots.waiting)
        await eventually(lambda: len(slots.waiting) > looks)
        assert slots.waiting[-1] == ["other"]
        assert (await first.say(b"From: no-reply@acme.example\r\n\r\n.")).startswith("250")
        assert (await waiting).startswith("250")
        assert slots.held[0].user == "other"
        too.cancel()


async def test_nothing_is_begun_on_a_slot_that_may_be_anothers() -> None:
    slots, options = Places(1), Options(upstream_wait_s=0.05)
    async with (
        scripted_server() as server,
        running(bundle(server.port, limits=LIMITS), slots=slots, options=options) as relay,
        RawClient.to(relay) as client,
    ):
        await client.log_in()
        assert (await send(client)).startswith("250")
        slots.held[0].is_held = False
        assert (await client.say(MAIL)).startswith("451 4.3.2")
        slots.held[0].is_held = True
        assert (await send(client)).startswith("250")


async def test_tenants_in_different_bundles_of_one_login_share_it() -> None:
    """The system's bundle is several Secrets."""
    parts = [
        bundle(9),
        bundle(9, tenants=[tenant(username="other.x", namespace="other")]),
        bundle(9, credential="own", tenants=[tenant(username="third.x"), tenant(username="third.y")]),
    ]
    async with running(*parts) as relay:
        assert relay.bundles.is_shared("system")
        assert not relay.bundles.is_shared("own")
        assert not relay.bundles.is_shared("nobody")
