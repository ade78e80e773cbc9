"""Who may send: passwords, tokens of ServiceAccounts, and those who guess."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from mailsettings.core.relay.login import Presented
from mailsettings.core.relay.passwords import hash_password, new_password
from mailsettings.core.relay.reviews import OF_A_SOURCE, OF_ALL
from mailsettings.core.relay.session import Limits
from mailsettings.edges.relay.authentication import AUDIENCE, Authenticator, Judgement
from mailsettings.edges.relay.local import MemoryBundles, NoReviewer
from mailsettings.edges.relay.server import Options
from tests.support.relay import ACCOUNT, SECRET, RawClient, Recorder, bundle, running, tenant

ACCEPTED, REFUSED, LATER = Judgement.ACCEPTED, Judgement.REFUSED, Judgement.LATER
RIGHT: Final = Presented(ACCOUNT, SECRET)
WRONG: Final = Presented(ACCOUNT, "wrong")


def token(number: int = 0, audience: str = AUDIENCE) -> str:
    """One that has the form of a ServiceAccount's."""
    parts = [{"alg": "RS256", "kid": "k"}, {"aud": [audience], "jti": f"{number}"}, "signature"]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)


class Cluster:
    """Knows tokens, and counts who asks."""

    def __init__(self, namespace: str | None = "acme", failure: OSError | None = None) -> None:
        self.asked: list[str] = []
        self._namespace = namespace
        self._failure = failure

    async def namespace(self, presented: str) -> str | None:
        self.asked.append(presented)
        if self._failure is not None:
            raise self._failure
        return self._namespace


class Waiting:
    """Takes the place of sleeping: it takes no time, and is noted."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waited.append(seconds)


Sleep = Callable[[float], Awaitable[None]]


def authenticator(cluster: Cluster | None = None, *, sleep: Sleep = asyncio.sleep, **changes: object) -> Authenticator:
    """One whose clock stands still."""
    given = bundle(9, tenants=[tenant(**changes), tenant(username="other.x", namespace="other", tokens=True)])
    source, reviewer = MemoryBundles([given]), cluster or NoReviewer()
    return Authenticator(source, reviewer, Recorder(), time=lambda: 1000.0, sleep=sleep)


class TestPasswords:
    async def test_both_hold_while_one_replaces_the_other(self) -> None:
        old, new = new_password(), new_password()
        judge = authenticator(passwords=[hash_password(old), hash_password(new)]).judge
        assert await judge(Presented(ACCOUNT, old), "a") is ACCEPTED
        assert await judge(Presented(ACCOUNT, new), "a") is ACCEPTED
        assert await judge(Presented(ACCOUNT, new_password()), "a") is REFUSED

    @pytest.mark.parametrize(("passed", "judgement"), [(timedelta(seconds=-1), ACCEPTED), (timedelta(), REFUSED)])
    async def test_the_old_one_ends_at_its_time(self, passed: timedelta, judgement: Judgement) -> None:
        old, new, until = new_password(), new_password(), datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
        given = bundle(9, tenant={"passwords": [hash_password(new), hash_password(old)], "until": until})
        judge = Authenticator(MemoryBundles([given]), NoReviewer(), Recorder(), now=lambda: until + passed).judge
        assert await judge(Presented(ACCOUNT, new), "a") is ACCEPTED
        assert await judge(Presented(ACCOUNT, old), "a") is judgement

    async def test_a_password_is_no_token(self) -> None:
        assert await authenticator().judge(Presented(ACCOUNT, SECRET, is_token=True), "a") is REFUSED

    async def test_nobody(self) -> None:
        assert await authenticator().judge(Presented("nobody", SECRET), "a") is REFUSED


class TestGuessing:
    async def test_each_guess_waits_longer(self) -> None:
        waiting = Waiting()
        judge = authenticator(sleep=waiting).judge
        for _ in range(4):
            assert await judge(WRONG, "10.0.0.1") is REFUSED
        assert waiting.waited == [0.5, 1, 2]

    async def test_nobody_else_waits(self) -> None:
        waiting = Waiting()
        judge = authenticator(sleep=waiting).judge
        await judge(WRONG, "10.0.0.1")
        assert await judge(RIGHT, "10.0.0.2") is ACCEPTED
        assert await judge(Presented("other.x", "wrong"), "10.0.0.1") is REFUSED
        assert waiting.waited == []

    async def test_who_knows_the_password_waits_once(self) -> None:
        waiting = Waiting()
        judge = authenticator(sleep=waiting).judge
        await judge(WRONG, "10.0.0.1")
        assert [await judge(RIGHT, "10.0.0.1") for _ in range(3)] == [ACCEPTED] * 3
        assert waiting.waited == [0.5]

    async def test_guesses_beside_each_other_are_cut_off(self) -> None:
        judge = authenticator(sleep=Waiting()).judge
        for _ in range(7):
            await judge(WRONG, "10.0.0.1")
        assert LATER in [await judge(WRONG, "10.0.0.1") for _ in range(4)]

    async def test_one_who_waits_does_not_make_others_wait(self) -> None:
        released = asyncio.Event()

        async def sleep(_seconds: float) -> None:
            await released.wait()

        judge = authenticator(sleep=sleep).judge
        assert await judge(WRONG, "10.0.0.1") is REFUSED
        delayed = asyncio.ensure_future(judge(WRONG, "10.0.0.1"))
        assert await judge(RIGHT, "10.0.0.2") is ACCEPTED
        assert not delayed.done()
        released.set()
        assert await delayed is REFUSED

    async def test_over_the_wire(self) -> None:
        options = Options(limits=Limits(logins=2))
        async with running(bundle(9), options=options) as relay, RawClient.to(relay) as client:
            await client.reply()
            await client.say(b"EHLO app")
            wrong = b"AUTH PLAIN " + base64.b64encode(f"\0{ACCOUNT}\0wrong".encode())
            assert [(await client.say(wrong))[:9] for _ in range(2)] == ["535 5.7.8"] * 2
            assert await client.reply() == ""
            assert relay.sink.logins == [(ACCOUNT, False)] * 2


class TestTokens:
    @pytest.mark.parametrize("is_token", [True, False])
    async def test_by_a_mechanism_for_tokens_or_in_the_passwords_place(self, *, is_token: bool) -> None:
        cluster = Cluster()
        judge = authenticator(cluster, tokens=True).judge
        assert await judge(Presented(ACCOUNT, token(), is_token), "a") is ACCEPTED

    async def test_the_cluster_is_asked_once_for_each_in_a_while(self) -> None:
        cluster = Cluster()
        judge = authenticator(cluster, tokens=True).judge
        for number in (1, 1, 2, 1):
            assert await judge(Presented(ACCOUNT, token(number)), "a") is ACCEPTED
        assert cluster.asked == [token(1), token(2)]

    async def test_of_another_namespace(self) -> None:
        cluster = Cluster("acme")
        judge = authenticator(cluster, tokens=True).judge
        assert await judge(Presented(ACCOUNT, token()), "a") is ACCEPTED
        assert await judge(Presented("other.x", token()), "a") is REFUSED

    @pytest.mark.parametrize(
        ("changes", "secret"),
        [({"tokens": False}, token()), ({"tokens": True}, token(audience="other")), ({"tokens": True}, "a.b.c")],
    )
    async def test_what_the_cluster_is_not_asked(self, changes: dict[str, Any], secret: str) -> None:
        cluster = Cluster()
        assert await authenticator(cluster, **changes).judge(Presented(ACCOUNT, secret), "a") is REFUSED
        assert cluster.asked == []

    async def test_refusals_are_not_remembered(self) -> None:
        cluster = Cluster(None)
        judge = authenticator(cluster, tokens=True).judge
        assert [await judge(Presented(ACCOUNT, token()), source) for source in "ab"] == [REFUSED, REFUSED]
        assert len(cluster.asked) == 2

    async def test_a_cluster_that_does_not_answer(self) -> None:
        judge = authenticator(Cluster(failure=ConnectionError()), tokens=True).judge
        assert await judge(Presented(ACCOUNT, token()), "a") is LATER

    async def test_the_cluster_is_not_flooded(self) -> None:
        cluster = Cluster(None)
        judge = authenticator(cluster, tokens=True).judge
        judged = [await judge(Presented(ACCOUNT, token(number)), f"{number}") for number in range(220)]
        assert judged.count(LATER) == 220 - OF_ALL.capacity
        assert len(cluster.asked) == OF_ALL.capacity

    async def test_one_who_floods_stops_nobody_else(self) -> None:
        genuine, cluster = token(1000), Cluster("acme")
        judge = authenticator(cluster, sleep=Waiting(), tokens=True).judge
        usernames = (ACCOUNT, "other.x")
        flood = [await judge(Presented(usernames[number % 2], token(number)), "10.0.0.1") for number in range(300)]
        assert flood[-1] is LATER
        assert len(cluster.asked) == OF_A_SOURCE.capacity
        assert await judge(Presented(ACCOUNT, genuine), "10.0.0.2") is ACCEPTED

    async def test_many_who_flood_stop_nobody_who_is_known(self) -> None:
        cluster = Cluster("acme")
        judge = authenticator(cluster, sleep=Waiting(), tokens=True).judge
        assert await judge(Presented(ACCOUNT, token(1000)), "known") is ACCEPTED
        assert await judge(Presented("other.x", token(1001)), "known only elsewhere") is REFUSED
        cluster._namespace = None
        for number in range(2 * OF_ALL.capacity):
            await judge(Presented(ACCOUNT, token(number)), f"stranger {number}")
        assert len(cluster.asked) == OF_ALL.capacity
        cluster._namespace = "acme"
        assert await judge(Presented(ACCOUNT, token(1002)), "known") is ACCEPTED
        for source in ("a stranger", "known only elsewhere"):
            assert await judge(Presented(ACCOUNT, token(1003)), source) is LATER
