"""What the relay reports to the operator: how it counts, what of it a status says, and when it is written."""

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import pytest

from mailsettings.api.status import RelayStatus
from mailsettings.core.digest import checksum
from mailsettings.core.relay import report
from mailsettings.core.relay.audit import AuditRecord, Outcome
from mailsettings.core.relay.bundle import Bundle
from mailsettings.core.relay.report import Counting, ReportError, parse_refused_tokens, parse_report, total
from mailsettings.edges.kubernetes import ApiError, KubernetesApi
from mailsettings.edges.relay.kubernetes import SecretBundles, SecretTokens
from mailsettings.edges.relay_reports import COUNTS_KEY, TOKENS_KEY, Replica, Reporter
from tests.support.relay import bundle, eventually

NOW: Final = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
LOGGER: Final = logging.getLogger("tests.reports")


def message(outcome: Outcome = Outcome.ACCEPTED, **fields: Any) -> AuditRecord:
    given = {"namespace": "acme", "settings": "mail", "sender": "secret@acme.example", "recipients": 1, "octets": 5}
    return AuditRecord(**{**given, "outcome": outcome, "code": 250, **fields})


def denied(**fields: Any) -> AuditRecord:
    given = {"code": 550, "enhanced": "5.7.1", "text": "allowedFrom: no", "rule": "allowedFrom", **fields}
    return message(Outcome.DENIED, **given)


class TestCounting:
    def test_outcomes(self) -> None:
        counting = Counting(NOW)
        for outcome in Outcome:
            assert counting.note(message(outcome), NOW) is (outcome is not Outcome.ABANDONED)
        counts = counting.report.tenants["acme.mail"]
        found = (counts.accepted, counts.denied, counts.refused, counts.failed, counts.unknown)
        assert found == (1, 1, 1, 1, 1)
        assert counts.last is not None
        assert counts.last.outcome is Outcome.UNKNOWN

    def test_a_report_says_nothing_of_whom_mail_is_from_or_to(self) -> None:
        counting = Counting(NOW)
        text = 'no "john hidden"@acme.example or <"a\\"b hidden"@acme.example>, hidden@acme.example here'
        counting.note(denied(addresses=("hidden@acme.example",), text=text), NOW)
        document = counting.report.model_dump_json(by_alias=True, exclude_defaults=True)
        assert parse_report(document) == counting.report
        assert "secret@" not in document
        assert "hidden" not in document
        assert "no (address) or <(address)>, (address) here" in document

    def test_it_is_bounded_and_plain(self, monkeypatch: pytest.MonkeyPatch) -> None:
        counting = Counting(NOW)
        counting.note(denied(settings="a", text="é\n\0" * 500), NOW)
        octets = len(report.document(counting.report.tenants["acme.a"])) + len('"acme.a":,')
        monkeypatch.setattr(report, "MAX_OCTETS", 2 * octets)
        for name in ("b", "a", "c"):
            counting.note(denied(settings=name, text="é\n\0" * 500), NOW)
        assert set(counting.report.tenants) == {"acme.a", "acme.c"}
        last = counting.report.tenants["acme.a"].last
        assert last is not None
        assert len(last.text) <= 200
        assert last.text.isascii()
        assert last.text.isprintable()
        parse_report(counting.report.model_dump_json(by_alias=True))

    def test_however_much_tenants_are_refused_it_stays_small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(report, "MAX_OCTETS", 20_000)
        counting = Counting(NOW)
        for number in range(200):
            name = f"{number:0253}"
            outcomes = [outcome for outcome in Outcome if outcome is not Outcome.ABANDONED]
            for outcome in outcomes:
                long = {"text": '"' * 500, "rule": "r" * report.MAX_WORD, "fault": "f" * report.MAX_WORD}
                counting.note(message(outcome, settings=name, enhanced="5.7.123", **long), NOW)
        document = report.document(counting.report)
        assert 15_000 < len(document) < 20_100
        assert parse_report(document) == counting.report

    @pytest.mark.parametrize(
        "document",
        ["", "[]", '{"since": "soon"}', '{"since": "2026-11-23T03:00:00Z", "tenants": {"a": {"failed": -1}}}'],
    )
    def test_what_is_no_report(self, document: str) -> None:
        with pytest.raises(ReportError):
            parse_report(document)
        with pytest.raises(ReportError):
            parse_refused_tokens('{"tokens": {"uid": "no digest"}}')


class TestTotal:
    def counted(self, *records: AuditRecord, since: datetime = NOW, at: datetime = NOW) -> Any:
        counting = Counting(since)
        for record in records:
            counting.note(record, at)
        return counting.report

    def test_replicas_are_added_up(self) -> None:
        later = NOW + timedelta(minutes=5)
        first = self.counted(message(), denied())
        second = self.counted(message(), message(Outcome.REFUSED, code=554), since=later, at=later)
        other = self.counted(message(settings="other"))
        found = total([first, second, other], ["acme.mail"], RelayStatus())
        messages = found.messages
        assert messages is not None
        assert (messages.since, messages.accepted, messages.denied) == ("2026-11-23T03:00:00Z", 2, 1)
        assert (messages.refused, messages.failed, messages.unknown) == (1, 0, 0)
        assert found.last_refusal is not None
        assert (found.last_refusal.outcome, found.last_refusal.code) == ("refused", 554)

    def test_logins_are_added_up(self) -> None:
        found = total([self.counted(message(), message(settings="other"))], ["acme.mail", "acme.other"], RelayStatus())
        assert found.messages is not None
        assert found.messages.accepted == 2

    def test_without_news_all_stays(self) -> None:
        before = total([self.counted(denied())], ["acme.mail"], RelayStatus())
        assert total([], ["acme.mail"], before) is before
        assert total([self.counted(message(settings="x"))], ["acme.mail"], RelayStatus()) == RelayStatus()

    def test_the_last_refusal_stays_until_there_is_another(self) -> None:
        before = total([self.counted(denied())], ["acme.mail"], RelayStatus())
        after = total([self.counted(message())], ["acme.mail"], before)
        assert after.last_refusal == before.last_refusal
        assert after.messages is not None
        assert after.messages.denied == 0
        old = self.counted(denied(code=551), at=NOW - timedelta(hours=1))
        again = total([old], ["acme.mail"], before)
        assert again.last_refusal == before.last_refusal


class Api:
    """Keeps what is applied."""

    def __init__(self) -> None:
        self.applied: list[dict[str, Any]] = []
        self.broken = False

    async def apply(self, path: str, body: dict[str, Any], *, force: bool) -> dict[str, Any]:
        assert (path.rpartition("/namespaces/")[2], force) == (f"relays/configmaps/{body['metadata']['name']}", True)
        if self.broken:
            raise ApiError(500, "", "down")
        self.applied.append(body)
        return body


class TestReporter:
    async def run(self, api: Api, *, every_s: float) -> tuple[Reporter, "asyncio.Task[None]"]:
        reporter = Reporter(cast("KubernetesApi", api), "relays", Replica("pod-1", "pod-uid"), LOGGER, every_s=every_s)
        return reporter, asyncio.create_task(reporter.keep_written())

    async def end(self, task: "asyncio.Task[None]") -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def test_many_messages_make_one_writing_and_none_makes_none(self) -> None:
        api = Api()
        reporter, task = await self.run(api, every_s=3600)
        for _ in range(3):
            reporter.message(message())
        await eventually(lambda: api.applied)
        for _ in range(5):
            reporter.message(message())
            await asyncio.sleep(0.001)
        assert len(api.applied) == 1
        [body] = api.applied
        assert json.loads(body["data"][COUNTS_KEY])["tenants"] == {"acme.mail": {"accepted": 3}}
        assert body["metadata"]["ownerReferences"][0]["uid"] == "pod-uid"
        await self.end(task)

    async def test_it_is_written_again_after_a_while_and_after_trouble(self) -> None:
        api = Api()
        reporter, task = await self.run(api, every_s=0.01)
        api.broken = True
        reporter.message(message())
        await asyncio.sleep(0.03)
        api.broken = False
        await eventually(lambda: api.applied)
        reporter.message(message())
        await eventually(lambda: len(api.applied) == 2)
        await self.end(task)

    async def test_a_refused_token_is_told_at_once(self) -> None:
        api = Api()
        reporter, task = await self.run(api, every_s=3600)
        reporter.message(message())
        await eventually(lambda: api.applied)
        reporter.message(message())
        reporter.token_refused("uid", checksum("token"))
        await eventually(lambda: len(api.applied) == 3)
        # In one of its own: that of the counts can be too large, or be refused for another reason.
        assert [body["metadata"]["name"] for body in api.applied[1:]] == ["report-tokens-pod-1", "report-pod-1"]
        [(key, text)] = api.applied[1]["data"].items()
        assert (key, parse_refused_tokens(text)) == (TOKENS_KEY, {"uid": checksum("token")})
        assert "token" not in text.replace("tokens", "")
        reporter.token_refused("uid", checksum("token"))
        await asyncio.sleep(0.01)
        assert len(api.applied) == 3
        await self.end(task)


class TestTokens:
    def given(self, token: str) -> Bundle:
        return bundle(9, login={"username": "u", "accessToken": token})

    def bundles(self, token: str) -> SecretBundles:
        bundles = SecretBundles(cast("KubernetesApi", None), "relays")
        bundles.replace([self.given(token)])
        return bundles

    def change(self, bundles: SecretBundles, *given: Bundle) -> None:
        bundles.replace(given)
        bundles.changed.set()
        bundles.changed = asyncio.Event()

    async def test_another_token_is_asked_for_and_awaited(self) -> None:
        bundles, asked = self.bundles("old"), []
        tokens = SecretTokens(bundles, lambda *what: asked.append(what))
        waiting = asyncio.create_task(tokens.renewed(self.given("old")))
        await eventually(lambda: asked)
        assert asked == [("system", checksum("old"))]
        self.change(bundles, self.given("old"))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        self.change(bundles, self.given("new"))
        renewed = await waiting
        assert renewed is not None
        assert renewed.login is not None
        assert renewed.login.access_token == "new"

    async def test_one_that_is_there_already_is_taken(self) -> None:
        asked: list[Any] = []
        renewed = await SecretTokens(self.bundles("new"), lambda *what: asked.append(what)).renewed(self.given("old"))
        assert renewed is not None
        assert asked == []

    async def test_in_vain(self) -> None:
        tokens = SecretTokens(self.bundles("old"), lambda *_: None)
        assert await tokens.renewed(self.given("old"), within_s=0.01) is None
        assert await tokens.renewed(bundle(9)) is None
        bundles = self.bundles("old")
        self.change(bundles)
        assert await SecretTokens(bundles, lambda *_: None).renewed(self.given("old")) is None
