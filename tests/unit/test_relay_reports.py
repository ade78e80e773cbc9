"""What the operator makes of the relay's reports."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final, cast

import pytest

from mailsettings.api.status import RelayStatus
from mailsettings.controller import relay_reports
from mailsettings.controller.keys import Key, cluster_key, tenant_key
from mailsettings.controller.relay import Relay
from mailsettings.controller.relay_reports import RENEWAL_PAUSE_S, STATUS_PAUSE_S, RelayReports
from mailsettings.controller.store import SettingsRecord, Store
from mailsettings.core.digest import checksum
from mailsettings.core.relay.report import Counts, Report
from mailsettings.core.relaying import Passwords
from mailsettings.edges.relay_reports import Reports
from tests.support.relay import bundle

SINCE: Final = "2026-11-23T03:00:00Z"
OWN: Final = tenant_key("acme", "mail")
SYSTEM: Final = cluster_key("default")


@dataclass
class Record:
    key: Key
    uid: str


@dataclass
class Login:
    owner: str
    credential: str
    passwords: Passwords


class Known:
    """One tenant that inherits from a cluster object, and that object."""

    def __init__(self) -> None:
        self.records = {"tenant": Record(OWN, "tenant"), "system": Record(SYSTEM, "system")}
        self.token = "first"
        self.rotation: str | None = None
        self.undelivered: str | None = None

    def settings_by_uid(self, uid: str) -> Record | None:
        return self.records.get(uid)

    def login(self, username: str) -> Login | None:
        return Login("tenant", "system", Passwords(rotation=self.rotation)) if username == "acme.mail" else None

    def pending(self, username: str) -> str | None:
        return self.undelivered if username == "acme.mail" else None

    def usernames(self, credential: str) -> list[str]:
        return ["acme.mail"] if credential == "system" else []

    def upstream(self, credential: str) -> Any:
        return bundle(9, login={"username": "u", "accessToken": self.token}) if credential == "system" else None


class Asked:
    def __init__(self, known: Known) -> None:
        self.now: list[Key] = []
        self.later: list[tuple[Key, float]] = []
        self.reports = RelayReports(
            cast("Store", known), cast("Relay", known), self.now.append, lambda key, s: self.later.append((key, s))
        )

    def seen(self, accepted: int, replica: str = "one", **tokens: str) -> None:
        counts = {replica: Report(since=SINCE, tenants={"acme.mail": Counts(accepted=accepted)})}
        self.reports.seen(Reports(counts, {replica: tokens}))

    def status(self, before: RelayStatus | None, uid: str = "tenant") -> RelayStatus | None:
        key = OWN if uid == "tenant" else SYSTEM
        return self.reports.status(cast("SettingsRecord", Record(key, uid)), before)


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
async def asked(known: Known) -> Asked:
    return Asked(known)


def accepted(found: RelayStatus | None) -> int:
    assert found is not None
    assert found.messages is not None
    assert found.messages.since == SINCE
    return found.messages.accepted


class TestStatus:
    async def test_both_levels_are_told(self, asked: Asked) -> None:
        asked.seen(2)
        assert sorted(asked.later) == sorted([(OWN, 0.0), (SYSTEM, 0.0)])
        for uid in ("tenant", "system"):
            found = asked.status(None, uid)
            assert accepted(found) == 2

    async def test_nothing_new_asks_for_nothing(self, asked: Asked) -> None:
        asked.seen(2)
        asked.later.clear()
        asked.seen(2)
        asked.reports.seen(Reports({}, {}))
        assert asked.later == []

    async def test_it_changes_once_a_minute_at_most(self, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
        asked.seen(1)
        first = asked.status(None)
        asked.seen(2)
        asked.later.clear()
        assert asked.status(first) == first
        [(key, after_s)] = asked.later
        assert key == OWN
        assert 0 < after_s <= STATUS_PAUSE_S
        monkeypatch.setattr(relay_reports, "STATUS_PAUSE_S", 0.0)
        second = asked.status(first)
        assert accepted(second) == 2
        assert asked.status(second) == second

    async def test_who_has_no_login_there_has_no_status(self, asked: Asked) -> None:
        asked.seen(1)
        before = asked.status(None)
        assert asked.reports.status(cast("SettingsRecord", Record(tenant_key("acme", "other"), "x")), before) is None
        assert asked.reports.status(cast("SettingsRecord", Record(OWN, "another uid")), before) is None

    async def test_a_new_password_shows_at_once_when_it_is_delivered(self, asked: Asked, known: Known) -> None:
        first = asked.status(None)
        assert first is not None
        assert (first.username, first.last_handled_request, first.messages) == ("acme.mail", None, None)
        known.rotation, known.undelivered = "now", "password"
        assert asked.status(first) == first
        known.undelivered = None
        second = asked.status(first)
        assert second is not None
        assert second.last_handled_request == "now"
        system = asked.status(None, "system")
        assert system is not None
        assert (system.username, system.last_handled_request) == (None, None)


class TestRefusedTokens:
    def refused(self, asked: Asked, token: str, serial: str = "1") -> bool:
        return asked.reports.is_refused(cast("SettingsRecord", Record(SYSTEM, "system")), token, serial)

    async def test_the_present_token_is_renewed_and_no_other(self, asked: Asked) -> None:
        asked.seen(0, system=checksum("before"))
        assert asked.now == []
        asked.seen(0, system=checksum("first"))
        assert asked.now == [SYSTEM]
        assert self.refused(asked, "first")
        assert self.refused(asked, "first")
        assert not self.refused(asked, "second")

    async def test_not_again_and_again(self, asked: Asked, known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
        asked.seen(0, system=checksum("first"))
        assert self.refused(asked, "first")
        known.token = "second"
        asked.now.clear()
        asked.later.clear()
        asked.seen(0, system=checksum("second"))
        assert asked.now == []
        assert not self.refused(asked, "second")
        assert all(key == SYSTEM and 0 < after_s <= RENEWAL_PAUSE_S for key, after_s in asked.later)
        monkeypatch.setattr(relay_reports, "RENEWAL_PAUSE_S", 0.0)
        await asyncio.sleep(0)
        asked.seen(0, system=checksum("second"))
        assert asked.now == [SYSTEM]

    async def test_a_provider_that_gives_the_same_token_again_is_not_asked_on_and_on(self, asked: Asked) -> None:
        asked.seen(0, system=checksum("first"))
        assert self.refused(asked, "first", "1")
        asked.now.clear()
        asked.later.clear()
        asked.seen(0, system=checksum("first"))
        assert not self.refused(asked, "first", "2")
        assert asked.now == []
        assert all(key == SYSTEM and 0 < after_s <= RENEWAL_PAUSE_S for key, after_s in asked.later)

    async def test_other_settings_are_left_alone(self, asked: Asked) -> None:
        asked.seen(0, unknown=checksum("first"), tenant=checksum("first"))
        assert asked.now == []
        assert not self.refused(asked, "first")
