"""What the relay's replicas report: counts for the status of the settings, and access tokens that are to be renewed."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mailsettings.api import names
from mailsettings.api.status import RelayStatus
from mailsettings.controller.keys import Key, Kind
from mailsettings.controller.relay import Relay
from mailsettings.controller.store import SettingsRecord, Store
from mailsettings.core.digest import checksum
from mailsettings.core.relay.report import Counts, total
from mailsettings.edges.relay_reports import Reports

STATUS_PAUSE_S: Final = 60.0
"""From one change of an object's `status.relay` to the next, at least."""

RENEWAL_PAUSE_S: Final = 3600.0
"""From one renewal that the relay has asked for to the next of the same settings, at least: a mailbox that lacks a
right, or a relay that is not what it should be, would have its token renewed for ever."""


@dataclass(slots=True)
class RelayReports:
    """The latest reports, shared by the reconcilers."""

    store: Store
    relay: Relay
    enqueue: Callable[[Key], None]
    enqueue_after: Callable[[Key, float], None]
    _reports: Reports = field(default_factory=lambda: Reports({}, {}))
    _written_s: dict[str, float] = field(default_factory=dict)
    """By uid: when `status.relay` was last changed."""
    _renewed: dict[str, tuple[tuple[str, str], float]] = field(default_factory=dict)
    """By uid: the digest and the serial of the token whose renewal the relay asked for last, and when."""

    def seen(self, reports: Reports) -> None:
        """Has those objects reconciled that something new is reported of."""
        before, self._reports = self._reports, reports
        self._written_s = {uid: moment for uid, moment in self._written_s.items() if self.store.settings_by_uid(uid)}
        self._renewed = {uid: last for uid, last in self._renewed.items() if self.store.settings_by_uid(uid)}
        for username in _changed(before, reports):
            login = self.relay.login(username)
            if login is None:
                continue
            for uid in {login.owner, login.credential}:
                record = self.store.settings_by_uid(uid)
                if record is not None:
                    self.enqueue_after(record.key, self._pause_s(uid))
        for credential in {each for tokens in reports.refused_tokens.values() for each in tokens}:
            record = self.store.settings_by_uid(credential)
            known = self.relay.upstream(credential)
            token = known.login.access_token if known is not None and known.login is not None else None
            if record is not None and token is not None and self._is_reported(credential, checksum(token)):
                self._reconcile_refused(record)

    def _reconcile_refused(self, record: SettingsRecord) -> None:
        pause_s = self._renewal_pause_s(record.uid)
        if pause_s > 0:
            self.enqueue_after(record.key, pause_s)
        else:
            self.enqueue(record.key)

    def status(self, record: SettingsRecord, before: RelayStatus | None) -> RelayStatus | None:
        """What `status.relay` is to say; None: the relay does not send with the settings.

        Args:
            record: The settings.
            before: What it says so far. It stays while it was changed a moment ago; the settings are reconciled again.
        """
        usernames = self._usernames(record)
        if not usernames:
            self._written_s.pop(record.uid, None)
            return None
        known = before or RelayStatus()
        return self._counted(record, usernames, known).model_copy(update=self._identity(record, usernames))

    def _identity(self, record: SettingsRecord, usernames: list[str]) -> dict[str, str | None]:
        if record.key.kind is Kind.CLUSTER:
            return {}
        login = self.relay.login(usernames[0])
        handled = login.passwords.rotation if login is not None else None
        is_delivered = self.relay.pending(usernames[0]) is None
        return {"username": usernames[0], **({"last_handled_request": handled} if is_delivered else {})}

    def _counted(self, record: SettingsRecord, usernames: list[str], before: RelayStatus) -> RelayStatus:
        wanted = total(self._reports.counts.values(), usernames, before)
        if wanted == before:
            return before
        pause_s = self._pause_s(record.uid)
        if pause_s > 0:
            self.enqueue_after(record.key, pause_s)
            return before
        self._written_s[record.uid] = asyncio.get_running_loop().time()
        return wanted

    def _usernames(self, record: SettingsRecord) -> list[str]:
        if record.key.kind is Kind.CLUSTER:
            return self.relay.usernames(record.uid)
        username = names.relay_username(record.key.namespace, record.key.name)
        login = self.relay.login(username)
        return [username] if login is not None and login.owner == record.uid else []

    def _pause_s(self, uid: str) -> float:
        written_s = self._written_s.get(uid)
        return 0.0 if written_s is None else written_s + STATUS_PAUSE_S - asyncio.get_running_loop().time()

    def is_refused(self, record: SettingsRecord, token: str, serial: str) -> bool:
        """Whether the relay was refused this access token and another one may be got for that now.

        Args:
            record: The settings.
            token: The access token that is held.
            serial: Of its renewal: a provider may give the same token again, and is not asked on and on for that.
        """
        renewal = (checksum(token), serial)
        if not self._is_reported(record.uid, renewal[0]):
            return False
        before = self._renewed.get(record.uid)
        if before is not None and before[0] == renewal:
            return True
        pause_s = self._renewal_pause_s(record.uid)
        if pause_s > 0:
            self.enqueue_after(record.key, pause_s)
            return False
        self._renewed[record.uid] = (renewal, asyncio.get_running_loop().time())
        return True

    def _is_reported(self, uid: str, digest: str) -> bool:
        return any(tokens.get(uid) == digest for tokens in self._reports.refused_tokens.values())

    def _renewal_pause_s(self, uid: str) -> float:
        before = self._renewed.get(uid)
        return 0.0 if before is None else before[1] + RENEWAL_PAUSE_S - asyncio.get_running_loop().time()


def _changed(before: Reports, after: Reports) -> set[str]:
    """The user names of which something new is reported; what is reported no more is nothing new."""
    changed: set[str] = set()
    for name, report in after.counts.items():
        known: dict[str, Counts] = before.counts[name].tenants if name in before.counts else {}
        if report.tenants is not known:
            changed.update(username for username, counts in report.tenants.items() if known.get(username) != counts)
    return changed
