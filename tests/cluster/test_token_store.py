"""The token store against a real API server: who may renew a token, and what is never lost."""

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

import aiohttp
import pytest

from dev.cluster import Cluster
from dev.operator_process import NAMESPACE
from mailsettings.api import names
from mailsettings.core.oauth2.request import Token
from mailsettings.core.oauth2.stored import StoredToken
from mailsettings.edges.kubeconfig import access_by_kubeconfig
from mailsettings.edges.kubernetes import ApiError, Json, KubernetesApi, core_path
from mailsettings.edges.token_store import CLOCK_SKEW, TAKEOVER, Claim, ClaimError, TokenPlace, TokenStore
from tests.support.kube import Kube
from tests.unit.test_oauth2_fingerprint import subject

LASTS: Final = timedelta(seconds=30)
LOGGER: Final = logging.getLogger("test")
TROUBLES: Final = (
    aiohttp.ServerDisconnectedError(),
    ApiError(503, "", ""),
    TimeoutError(),
    json.JSONDecodeError("an answer that was cut off", "", 0),
)


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def api(installed: Cluster) -> AsyncIterator[KubernetesApi]:
    async with KubernetesApi(await access_by_kubeconfig(str(installed.kubeconfig))) as connection:
        yield connection


@pytest.fixture
def store(api: KubernetesApi, clock: Clock) -> TokenStore:
    return TokenStore(api, NAMESPACE, holder="one", logger=LOGGER, now=clock)


@pytest.fixture
def other(api: KubernetesApi, clock: Clock) -> TokenStore:
    return TokenStore(api, NAMESPACE, holder="two", logger=LOGGER, now=clock)


@pytest.fixture
def place(kube: Kube, namespace: str) -> TokenPlace:
    """Of an object that exists, so that no operator sweeps it."""
    created = kube.create(names.TENANT_KIND, "mail", namespace, spec={"suspend": True})
    owner = kube.get("Namespace", namespace)
    assert owner is not None
    reference = {"apiVersion": "v1", "kind": "Namespace", "name": namespace, "uid": owner["metadata"]["uid"]}
    return TokenPlace(names.TENANT_KIND, namespace, "mail", created["metadata"]["uid"], reference)


def token(access: str) -> StoredToken:
    now = datetime.now(UTC)
    return StoredToken.of(Token(access, now, now + timedelta(hours=1)), subject(), sent="seed")


async def test_only_one_of_many_gets_the_first_claim(store: TokenStore, other: TokenStore, place: TokenPlace) -> None:
    claims = [each.claim(place, serial=None, lasts=LASTS) for each in (store, other) * 5]
    results = await asyncio.gather(*claims, return_exceptions=True)
    assert len([result for result in results if not isinstance(result, ClaimError)]) == 1


async def test_claim_keeps_others_out_until_its_deadline(
    store: TokenStore, other: TokenStore, place: TokenPlace, clock: Clock
) -> None:
    held = await store.claim(place, serial=None, lasts=LASTS)
    with pytest.raises(ClaimError) as caught:
        await other.claim(place, serial=None, lasts=LASTS)
    assert held.claim is not None
    assert caught.value.until == held.claim.deadline + CLOCK_SKEW
    clock.ahead = LASTS + CLOCK_SKEW + timedelta(seconds=1)
    taken = await other.claim(place, serial=None, lasts=LASTS)
    assert not await store.may_begin(place, held, takes=timedelta(seconds=1))
    assert await other.may_begin(place, taken, takes=timedelta(seconds=1))


@pytest.mark.parametrize("skew", [CLOCK_SKEW, -CLOCK_SKEW], ids=["ahead", "behind"])
async def test_clocks_that_differ_let_no_two_renew_at_once(
    api: KubernetesApi, store: TokenStore, place: TokenPlace, clock: Clock, skew: timedelta
) -> None:
    """At every moment at which the holder may still be at work, whatever the other's clock says."""

    def others() -> datetime:
        return clock() + skew

    other = TokenStore(api, NAMESPACE, holder="two", logger=LOGGER, now=others)
    held = await store.claim(place, serial=None, lasts=LASTS)
    for seconds in (0, 20, 29.5):
        clock.ahead = timedelta(seconds=seconds)
        with pytest.raises(ClaimError):
            await other.claim(place, serial=None, lasts=LASTS)
    clock.ahead = LASTS + 2 * CLOCK_SKEW + timedelta(seconds=1)
    assert not await store.may_begin(place, held, takes=timedelta())
    await other.claim(place, serial=None, lasts=LASTS)


async def test_ended_claim_is_respected_for_a_moment_after_a_takeover(
    store: TokenStore, other: TokenStore, place: TokenPlace, clock: Clock
) -> None:
    await store.claim(place, serial=None, lasts=LASTS)
    clock.ahead = 10 * LASTS
    other.taken_over()
    with pytest.raises(ClaimError) as caught:
        await other.claim(place, serial=None, lasts=LASTS)
    assert caught.value.until is not None
    clock.ahead += TAKEOVER + timedelta(seconds=1)
    await other.claim(place, serial=None, lasts=LASTS)


async def test_own_claim_that_has_ended_needs_no_allowance(store: TokenStore, place: TokenPlace, clock: Clock) -> None:
    await store.claim(place, serial=None, lasts=LASTS)
    clock.ahead = LASTS + timedelta(seconds=1)
    await store.claim(place, serial=None, lasts=LASTS)


@pytest.mark.parametrize(
    "deadline", [datetime(2099, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)], ids=["far", "farthest"]
)
async def test_claim_by_a_clock_that_ran_ahead_keeps_nobody_out(
    store: TokenStore, place: TokenPlace, kube: Kube, deadline: datetime
) -> None:
    await store.claim(place, serial=None, lasts=LASTS)
    claim = Claim("other", "attempt", deadline)
    secret = names.token_secret_name(place.uid)
    kube.patch("Secret", secret, NAMESPACE, metadata={"annotations": {names.ANNOTATION_CLAIM: claim.text()}})
    taken = await store.claim(place, serial=None, lasts=LASTS)
    assert await store.may_begin(place, taken, takes=timedelta(seconds=1))


def test_claim_beyond_all_time_cannot_be_read() -> None:
    claim = {"holder": "other", "attempt": "attempt", "deadline": "9999-12-31T23:59:59-12:00"}
    assert Claim.parse(json.dumps(claim)) is None


async def test_process_that_stood_still_does_not_begin(store: TokenStore, place: TokenPlace, clock: Clock) -> None:
    held = await store.claim(place, serial=None, lasts=LASTS)
    assert await store.may_begin(place, held, takes=timedelta(seconds=20))
    clock.ahead = timedelta(seconds=11)
    assert not await store.may_begin(place, held, takes=timedelta(seconds=20))


async def test_stored_token_ends_the_claim_and_is_not_replaced_unseen(
    store: TokenStore, other: TokenStore, place: TokenPlace
) -> None:
    held = await store.claim(place, serial=None, lasts=LASTS)
    first = token("first")
    assert await store.store(place, held, first)
    with pytest.raises(ClaimError):
        await other.claim(place, serial=None, lasts=LASTS)
    again = await other.claim(place, serial=first.serial, lasts=LASTS)
    assert again.token == first
    assert again.claim is not None


async def test_somebody_elses_label_does_not_lose_the_token(store: TokenStore, place: TokenPlace, kube: Kube) -> None:
    held = await store.claim(place, serial=None, lasts=LASTS)
    name = names.token_secret_name(place.uid)
    kube.patch("Secret", name, NAMESPACE, metadata={"labels": {"backup": "yes"}})
    assert await store.store(place, held, token("new"))
    found = await store.read(place.uid)
    assert found is not None
    assert found.token is not None
    assert found.token.access_token == "new"


@pytest.mark.parametrize("applied", [False, True], ids=["before it was written", "after it was written"])
async def test_api_server_that_goes_away_loses_no_token(
    store: TokenStore, place: TokenPlace, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch, applied: bool
) -> None:
    held = await store.claim(place, serial=None, lasts=LASTS)
    merge, troubles = api.merge, iter(TROUBLES)

    async def troubled(path: str, patch: Json, **options: bool) -> Json:
        trouble = next(troubles, None)
        if trouble is None or applied:
            answer = await merge(path, patch, **options)
        if trouble is not None:
            raise trouble
        return answer

    monkeypatch.setattr(api, "merge", troubled)
    assert await store.store(place, held, token("new"))
    found = await store.read(place.uid)
    assert found is not None
    assert found.token is not None
    assert found.token.access_token == "new"


async def test_token_that_cannot_be_written_is_given_up(store: TokenStore, place: TokenPlace) -> None:
    held = await store.claim(place, serial=None, lasts=LASTS)
    unwritable = token("new").model_copy(update={"account": "\ud800"})
    async with asyncio.timeout(5):
        with pytest.raises(ValueError, match="surrogates not allowed"):
            await store.store(place, held, unwritable)
        with pytest.raises(ValueError, match="surrogates not allowed"):
            await store.adopt(place, unwritable)


async def test_write_that_fails_for_what_is_written_is_not_tried_again(
    store: TokenStore, place: TokenPlace, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await store.claim(place, serial=None, lasts=LASTS)

    async def unwritable(_path: str, _patch: Json, **_: bool) -> Json:
        raise ValueError("of what is written")

    monkeypatch.setattr(api, "merge", unwritable)
    async with asyncio.timeout(5):
        with pytest.raises(ValueError, match="of what is written"):
            await store.store(place, held, token("new"))
        with pytest.raises(ValueError, match="of what is written"):
            await store.adopt(place, token("new"))


async def test_lost_answer_to_the_storing_is_found_out(store: TokenStore, place: TokenPlace) -> None:
    held = await store.claim(place, serial=None, lasts=LASTS)
    new = token("new")
    assert await store.store(place, held, new)
    assert await store.store(place, held, new)


async def test_late_answer_does_not_replace_a_newer_token(
    store: TokenStore, other: TokenStore, place: TokenPlace, clock: Clock
) -> None:
    late = await store.claim(place, serial=None, lasts=LASTS)
    clock.ahead = LASTS + CLOCK_SKEW + timedelta(seconds=1)
    newer = await other.claim(place, serial=None, lasts=LASTS)
    assert await other.store(place, newer, token("newer"))
    assert not await store.store(place, late, token("late"))
    found = await store.read(place.uid)
    assert found is not None
    assert found.token is not None
    assert found.token.access_token == "newer"


async def test_removed_secret_is_not_brought_back(store: TokenStore, place: TokenPlace) -> None:
    held = await store.claim(place, serial=None, lasts=LASTS)
    await store.remove(place.uid, held)
    assert not await store.store(place, held, token("late"))
    assert await store.read(place.uid) is None


async def test_dropped_token_leaves_the_claim(store: TokenStore, other: TokenStore, place: TokenPlace) -> None:
    held = await store.claim(place, serial=None, lasts=LASTS)
    first = token("first")
    await store.store(place, held, first)
    claimed = await store.claim(place, serial=first.serial, lasts=LASTS)
    dropped = await other.drop(place, claimed)
    assert (dropped.token, dropped.claim) == (None, claimed.claim)
    assert not await store.store(place, claimed, token("late")), "it belonged to what was dropped"


async def test_released_claim_is_free(store: TokenStore, other: TokenStore, place: TokenPlace) -> None:
    held = await store.claim(place, serial=None, lasts=LASTS)
    await store.release(place, held)
    await other.claim(place, serial=None, lasts=LASTS)


async def test_damaged_token_counts_as_none(store: TokenStore, place: TokenPlace, kube: Kube) -> None:
    await store.store(place, await store.claim(place, serial=None, lasts=LASTS), token("first"))
    kube.patch("Secret", names.token_secret_name(place.uid), NAMESPACE, stringData={"token.json": "{"})
    found = await store.read(place.uid)
    assert found is not None
    assert found.token is None
    assert await store.store(place, await store.claim(place, serial=None, lasts=LASTS), token("second"))


async def test_sweep_removes_orphans_and_nothing_else(
    store: TokenStore, place: TokenPlace, kube: Kube, api: KubernetesApi
) -> None:
    await store.claim(place, serial=None, lasts=LASTS)
    gone = TokenPlace(place.kind, place.namespace, "gone", f"gone-{secrets.token_hex(4)}", place.owner)
    replaced = TokenPlace(place.kind, place.namespace, "mail", f"old-{secrets.token_hex(4)}", place.owner)
    for orphan in (gone, replaced):
        await store.claim(orphan, serial=None, lasts=LASTS)
    foreign = f"oauth2-{secrets.token_hex(4)}"
    kube.secret(foreign, NAMESPACE, a="b")
    await store.sweep()
    assert await store.read(place.uid) is not None
    assert await store.read(gone.uid) is None
    assert await store.read(replaced.uid) is None
    assert await api.get(core_path("secrets", NAMESPACE, foreign)) is not None
    kube.delete("Secret", foreign, NAMESPACE)
