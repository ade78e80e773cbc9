"""The relay's parts: certificates, folders of bundles, queues, slots, rates."""

import asyncio
import json
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.core.relay.fairness import FairQueue
from mailsettings.core.relay.replies import Repetition
from mailsettings.core.relay.reviews import KNOWN_S, MAX_SOURCES, OF_ALL, ReviewRates
from mailsettings.core.relay.strangers import Strangers
from mailsettings.edges.relay.channel import Channel, PeerGoneError
from mailsettings.edges.relay.interfaces import Account
from mailsettings.edges.relay.local import FolderBundles, LocalRates
from mailsettings.edges.relay.server import Certificate
from mailsettings.edges.relay_endpoints import ready_replicas
from tests.support.listening import listening
from tests.support.relay import ACCOUNT, bundle, running, tenant
from tests.support.smtp_server import certificate


class TestFairness:
    def test_who_has_fewest_is_next(self) -> None:
        queue: FairQueue[int] = FairQueue(per_tenant=10, total=100)
        for number in range(4):
            assert queue.push("many", number)
        assert queue.push("few", 10)
        order = []
        while (found := queue.pop(100)) is not None:
            queue.begin(found[0])
            order.append(found)
        assert order == [("many", 0), ("few", 10), ("many", 1), ("many", 2), ("many", 3)]
        assert queue.running == 5

    def test_nobody_has_more_than_the_share(self) -> None:
        queue: FairQueue[int] = FairQueue(per_tenant=10, total=100)
        queue.begin("many")
        assert queue.push("many", 1)
        assert queue.pop(1) is None
        assert queue.push("few", 2)
        assert queue.pop(1) == ("few", 2)
        assert queue.pop(2) == ("many", 1)

    def test_it_is_bounded(self) -> None:
        queue: FairQueue[int] = FairQueue(per_tenant=2, total=3)
        assert [queue.push("a", 1), queue.push("a", 2), queue.push("a", 3)] == [True, True, False]
        assert [queue.push("b", 1), queue.push("c", 1)] == [True, False]
        queue.drop("a", 1)
        queue.drop("a", 1)
        queue.drop("nobody", 1)
        assert queue.push("c", 1)
        assert not queue.push("d", 1)

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["push", "pop", "end"])), max_size=60))
    def test_everybody_gets_a_turn_once(self, steps: list[tuple[str, str]]) -> None:
        queue: FairQueue[int] = FairQueue(per_tenant=100, total=100)
        pushed: list[int] = []
        popped: list[int] = []
        for number, (who, step) in enumerate(steps):
            if step == "push":
                queue.push(who, number)
                pushed.append(number)
            elif step == "end":
                queue.end(who)
            elif (found := queue.pop(100)) is not None:
                queue.begin(found[0])
                popped.append(found[1])
        while (found := queue.pop(100)) is not None:
            popped.append(found[1])
        assert sorted(popped) == pushed
        assert not any(queue.waits(who) for who in "abc")


class TestRepetition:
    @pytest.mark.parametrize(
        "text", ["x SECRET-token-0815 y", "secret-toke", "c2VjcmV0LXRva2VuLTA4MTU", "abc", "xABCx"]
    )
    def test_what_repeats_a_secret(self, text: str) -> None:
        repeated = Repetition(["secret-token-0815", "abc"]).within(text)
        assert repeated is (text != "secret-toke")

    def test_what_does_not(self) -> None:
        assert not Repetition(["secret-token-0815"]).within("Ok: queued as 4XyZabcdEFGh")
        assert not Repetition(["", "secret-token-0815"]).within("")

    def test_a_long_reply_costs_one_look_for_each_piece(self) -> None:
        looked: list[str] = []

        class Pieces(frozenset[str]):
            def __contains__(self, piece: object) -> bool:
                looked.append(str(piece))
                return super().__contains__(piece)

        repetition = Repetition([f"secret-token-{number}" for number in range(20)])
        repetition._pieces = Pieces(repetition._pieces)
        assert not repetition.within("x" * 7680)
        assert len(looked) == 7680 - 11


class TestFolder:
    def folder(self, tmp_path: Path) -> FolderBundles:
        bundles = FolderBundles(tmp_path)
        bundles.load()
        return bundles

    def put(self, path: Path, text: str) -> None:
        part = path.with_suffix(".part")
        part.write_text(text)
        part.replace(path)

    def document(self, port: int = 587) -> str:
        return bundle(port).model_dump_json(by_alias=True)

    def test_changes_are_read(self, tmp_path: Path) -> None:
        bundles = self.folder(tmp_path)
        assert bundles.find(ACCOUNT) is None
        self.put(tmp_path / "a.json", self.document())
        bundles.load()
        found = bundles.find(ACCOUNT)
        assert found is not None
        assert found.bundle is bundles.bundle("system")
        bundles.load()
        assert bundles.find(ACCOUNT) is found
        self.put(tmp_path / "a.json", self.document(2525))
        bundles.load()
        changed = bundles.bundle("system")
        assert changed is not None
        assert changed.server.port == 2525
        (tmp_path / "a.json").unlink()
        bundles.load()
        assert bundles.find(ACCOUNT) is None

    def test_what_is_no_bundle_changes_nothing(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.put(tmp_path / "a.json", self.document())
        bundles = self.folder(tmp_path)
        self.put(tmp_path / "a.json", json.dumps({"login": {"password": "geheim"}}))
        self.put(tmp_path / "b.json", "{geheim")
        bundles.load()
        assert bundles.find(ACCOUNT) is not None
        assert "a.json" in caplog.text
        assert "geheim" not in caplog.text
        said = len(caplog.records)
        assert said == 2
        bundles.load()
        assert len(caplog.records) == said
        self.put(tmp_path / "a.json", self.document())
        bundles.load()
        self.put(tmp_path / "a.json", "{}")
        bundles.load()
        assert len(caplog.records) == said + 1

    def test_what_two_files_hold_is_in_neither(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        other = bundle(9, credential="second", tenants=[tenant(namespace="evil"), tenant(username="other.x")])
        self.put(tmp_path / "a.json", self.document())
        bundles = self.folder(tmp_path)
        self.put(tmp_path / "b.json", other.model_dump_json(by_alias=True))
        for _ in range(2):
            bundles.load()
            assert bundles.find(ACCOUNT) is None
            assert bundles.find("other.x") is not None
            assert len(caplog.records) == 1
        assert ACCOUNT in caplog.text
        self.put(tmp_path / "b.json", bundle(9, tenants=[tenant(username="other.x")]).model_dump_json(by_alias=True))
        bundles.load()
        assert bundles.bundle("system") is None
        assert bundles.find(ACCOUNT) is None
        assert bundles.find("other.x") is None
        assert "credential system" in caplog.text
        (tmp_path / "b.json").unlink()
        bundles.load()
        assert bundles.find(ACCOUNT) is not None


class TestCertificate:
    def put(self, folder: Path) -> str:
        own = certificate("127.0.0.1")
        (folder / "tls.crt").write_text(own.chain_pem)
        (folder / "tls.key").write_text(own.key_pem)
        return own.chain_pem

    async def presented(self, port: int) -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return ssl.DER_cert_to_PEM_cert(der)

    async def test_a_new_one_is_used_from_the_next_connection_on(self, tmp_path: Path) -> None:
        first = self.put(tmp_path)
        own = Certificate(tmp_path / "tls.crt", tmp_path / "tls.key")
        async with running(bundle(9)) as relay:
            port = await _listening(relay.relay, own)
            assert await self.presented(port) == first
            assert not own.reload()
            second = self.put(tmp_path)
            assert own.reload()
            assert await self.presented(port) == second != first

    def test_no_handshake_meets_the_certificate_of_one_and_the_key_of_the_other(self, tmp_path: Path) -> None:
        """The files are looked at in a thread, and to load one and then the other into a context takes two steps."""
        self.put(tmp_path)
        own = Certificate(tmp_path / "tls.crt", tmp_path / "tls.key")
        before = own.context
        self.put(tmp_path)
        assert own.reload()
        assert own.context is not before

    async def test_half_a_change_is_none(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        first = self.put(tmp_path)
        own = Certificate(tmp_path / "tls.crt", tmp_path / "tls.key")
        (tmp_path / "tls.crt").write_text(certificate("127.0.0.1").chain_pem)
        assert not own.reload()
        assert "cannot be used" in caplog.text
        async with running(bundle(9)) as relay:
            port = await _listening(relay.relay, own)
            assert await self.presented(port) == first

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match=os.strerror(2)):
            Certificate(tmp_path / "tls.crt", tmp_path / "tls.key")


async def _listening(relay: object, own: Certificate) -> int:
    from mailsettings.edges.relay.server import Relay

    assert isinstance(relay, Relay)
    relay._context = lambda: own.context
    return await relay.listen("127.0.0.1", 0, implicit_tls=True)


async def test_tls_does_not_begin_behind_what_was_said_in_the_clear() -> None:
    taken: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()

    class Taken(Channel):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            taken.set_result(self)

    own = certificate("127.0.0.1")
    async with listening(Taken) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        channel = await taken
        channel.data_received(b"EHLO evil\r\n")
        context = ssl.create_default_context(cadata=own.ca_pem)
        client = asyncio.ensure_future(writer.start_tls(context, server_hostname="127.0.0.1"))
        with pytest.raises(PeerGoneError):
            await channel.start_tls(own.context, 20)
        channel.abort()
        await asyncio.gather(client, return_exceptions=True)
        writer.transport.abort()


async def test_rates_follow_the_settings() -> None:
    rates = LocalRates()

    def account(limits: str) -> Account:
        given = bundle(9, tenant={"rateLimits": limits})
        return Account(given.tenants[0], given, given.tenants[0].policy)

    assert await rates.take(account("")) is None
    assert await rates.take(account("1:3600")) is None
    assert str(await rates.take(account("1:3600"))) == "1:3600"
    assert await rates.take(account("")) is None


async def test_a_change_of_one_rate_fills_none() -> None:
    rates = LocalRates()

    def account(limits: str) -> Account:
        given = bundle(9, tenant={"rateLimits": limits})
        return Account(given.tenants[0], given, given.tenants[0].policy)

    for own in ("100:3600", "101:3600"):
        assert await rates.take(account(f"2:86400,{own}")) is None
    for changed in ("2:86400,102:3600", "2:86400", "4:86400"):
        assert await rates.take(account(changed)) is not None


async def test_replicas_share_the_rates_of_the_settings() -> None:
    given = bundle(9, tenant={"rateLimits": "4:3600"})
    account = Account(given.tenants[0], given, given.tenants[0].policy)
    there = 2
    rates = [LocalRates(lambda: there) for _ in range(2)]
    for _ in range(2):
        assert [await each.take(account) for each in rates] == [None, None]
    assert [str(await each.take(account)) for each in rates] == ["4:3600", "4:3600"]
    there = 0  # nobody knows of this process: it is there all the same
    assert await LocalRates(lambda: there).take(account) is None


@pytest.mark.parametrize(
    ("endpoints", "ready"),
    [
        ([], 0),
        ([{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}, {"addresses": ["10.0.0.2"]}], 2),
        ([{"addresses": ["10.0.0.1"], "conditions": {"ready": False}}, {"addresses": ["10.0.0.2"]}], 1),
        ([{"addresses": ["10.0.0.1"], "conditions": {}, "targetRef": {"uid": "a"}}], 1),
        (
            [
                {"addresses": ["10.0.0.1"], "targetRef": {"uid": "a"}},
                {"addresses": ["fd::1"], "targetRef": {"uid": "a"}},
            ],
            1,
        ),
        (None, 0),
    ],
)
def test_replicas_are_counted_by_pods(endpoints: list[Any] | None, ready: int) -> None:
    assert len(ready_replicas({"endpoints": endpoints})) == ready


def test_who_has_asked_about_tokens_is_known_of_so_many_sources() -> None:
    rates = ReviewRates(0)
    for number in range(MAX_SOURCES + 5):
        rates.take(f"{number}", number)
    assert len(rates._sources) == MAX_SOURCES
    assert "0" not in rates._sources


def test_who_has_shown_a_right_token_is_known_for_a_while_and_of_so_many_sources() -> None:
    rates = ReviewRates(0)
    for number in range(MAX_SOURCES + 5):
        rates.was_right(f"{number}", 0)
    assert len(rates._right) == MAX_SOURCES
    for now_s, known in ((0, True), (KNOWN_S - 10, True), (KNOWN_S, False)):
        for number in range(OF_ALL.capacity):
            assert rates.take(f"stranger {now_s} {number}", now_s)
        assert rates.take("17", now_s) is known
        assert not rates.take("0", now_s)


class TestStrangers:
    def test_of_the_source_that_has_most_the_oldest_goes(self) -> None:
        there: Strangers[int] = Strangers(total=4, per_source=3)
        for who, source in enumerate("abbb"):
            assert there.admit(source, who)
            assert there.one_too_many() is None
        assert not there.admit("b", 9)
        gone = []
        for who, source in enumerate("cdea", start=4):
            assert there.admit(source, who)
            gone.append(there.one_too_many())
        assert gone == [1, 2, 0, 3]
        assert there.one_too_many() is None

    def test_who_has_left_is_not_counted_twice(self) -> None:
        there: Strangers[int] = Strangers(total=1, per_source=1)
        assert there.admit("a", 0)
        for _ in range(2):
            there.leave("a", 0)
        there.leave("b", 0)
        assert there.admit("a", 1)
        assert there.one_too_many() is None
        assert there.admit("b", 2)
        assert there.one_too_many() == 1

    @given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=80), st.integers(1, 8), st.integers(1, 8))
    def test_no_more_than_there_may_be_and_never_the_newest(
        self, steps: list[tuple[int, bool]], total: int, per_source: int
    ) -> None:
        strangers: Strangers[int] = Strangers(total=total, per_source=per_source)
        there: dict[int, str] = {}
        for who, (number, comes) in enumerate(steps):
            if not comes:
                for each in [each for each, source in there.items() if source == f"{number}"][:1]:
                    strangers.leave(there.pop(each), each)
                continue
            of_source = sum(source == f"{number}" for source in there.values())
            assert strangers.admit(f"{number}", who) is (of_source < per_source)
            if of_source < per_source:
                there[who] = f"{number}"
            gone = strangers.one_too_many()
            assert (gone is None) is (len(there) <= total)
            if gone is not None:
                counts = [sum(source == each for source in there.values()) for each in there.values()]
                assert gone != who
                assert sum(source == there[gone] for source in there.values()) == max(counts)
                del there[gone]
