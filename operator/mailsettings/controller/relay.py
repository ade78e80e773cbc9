"""The logins at the relay: what tenants are to have, what the relay has been told, and the bundles that tell it.

A password is told to the relay, by its hash, before any Secret holds it. Between the two it is kept here and nowhere
else; if the operator ends meanwhile, another is made.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from mailsettings.api import names
from mailsettings.api.providers import MailboxLimits
from mailsettings.controller.keys import COALESCE_SECONDS, RELAY_SWEEP, Key, bundle_key
from mailsettings.core.digest import checksum
from mailsettings.core.relay.bundle import Bundle
from mailsettings.core.relaying import RelayAddress
from mailsettings.edges.errors import described
from mailsettings.edges.kubernetes import ApiError, Json
from mailsettings.edges.relay_bundles import (
    BundleStore,
    RelayLogin,
    bundle_name,
    fitting,
    manifest,
    shard,
)

FULL: Final = (
    "the relay's bundle for this mail server is full, or the namespace's part of it; use several cluster objects, or "
    "fewer settings"
)


@dataclass(slots=True)
class _Upstream:
    """A login at a mail server."""

    bundle: Bundle
    """Without tenants."""
    owner: Json
    """The reference to the object that its bundles are collected with."""
    divided: bool
    """Whether its tenants are spread over several bundles."""
    problem: str = ""
    """Why the relay cannot be told; empty: it can."""


@dataclass(slots=True)
class Relay:
    """What is known of the relay, shared by the reconcilers."""

    bundles: BundleStore
    enqueue: Callable[[Key], None]
    enqueue_after: Callable[[Key, float], None]
    logger: logging.Logger
    host: str
    """Where clients find it."""
    port: int
    audit_recipients: bool = False
    """Whether its audit lines name recipients in full."""
    ca_bundle: str | None = None
    """PEM certificates that its own is trusted by; None: it has no certificate yet; empty: the public authorities."""
    ready: bool = False
    """Whether a replica is there that takes connections."""
    _logins: dict[str, RelayLogin] = field(default_factory=dict)
    _upstreams: dict[str, _Upstream] = field(default_factory=dict)
    _pending: dict[str, str] = field(default_factory=dict)
    """By user name: a password that is in no Secret yet."""
    _told: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By user name: the hashes that the relay can read."""
    _left_out: set[str] = field(default_factory=set)
    _written: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By the name of a Secret: a digest of what was written, and the version that made; an empty one is not known."""
    _keys: dict[str, Key] = field(default_factory=dict)
    """By user name: what is to be reconciled when the relay has been told."""

    @property
    def address(self) -> RelayAddress | None:
        """Where clients find it; None: it has no certificate yet."""
        return RelayAddress(self.host, self.port, self.ca_bundle) if self.ca_bundle is not None else None

    async def load(self) -> None:
        """Takes up what a former run has left.

        Raises:
            ApiError: The API server refused.
        """
        for kept in await self.bundles.load():
            credential = kept.bundle.credential
            divided = kept.name != bundle_name(credential, None)
            self._upstreams[credential] = _Upstream(kept.bundle, kept.owner, divided)
            self._written[kept.name] = ("", "")
            for login in kept.logins:
                self._logins[login.tenant.username] = login
                self._told[login.tenant.username] = login.passwords.hashes

    def login(self, username: str) -> RelayLogin | None:
        """The login of a user name."""
        return self._logins.get(username)

    def problem(self, username: str) -> str:
        """Why the relay cannot be told of a login; empty: it can."""
        login = self._logins.get(username)
        if login is None:
            return ""
        if username in self._left_out:
            return FULL
        upstream = self._upstreams.get(login.credential)
        return upstream.problem if upstream is not None else "its mail server has no login yet"

    def set_upstream(self, bundle: Bundle, owner: Json, *, divided: bool) -> None:
        """The login at a mail server is this now."""
        before = self._upstreams.get(bundle.credential)
        if before is not None and (before.bundle, before.owner, before.divided) == (bundle, owner, divided):
            return
        self._upstreams[bundle.credential] = _Upstream(bundle, owner, divided)
        self.enqueue(bundle_key(bundle.credential))

    def upstream(self, credential: str) -> Bundle | None:
        """The login at a mail server as it is known at present, without tenants."""
        known = self._upstreams.get(credential)
        return known.bundle if known is not None else None

    def usernames(self, credential: str) -> list[str]:
        """Who sends through a login at a mail server."""
        return [username for username, login in self._logins.items() if login.credential == credential]

    def is_used(self, credential: str) -> bool:
        """Whether somebody sends through a login at a mail server."""
        return any(login.credential == credential for login in self._logins.values())

    def limits(self, credential: str) -> MailboxLimits | None:
        """What the provider permits a login at a mail server; None: it states no limit, or nobody sends through it."""
        known = self._upstreams.get(credential)
        limits = known.bundle.mailbox_limits if known is not None else None
        return limits if limits is not None and self.is_used(credential) else None

    def renew_login(self, bundle: Bundle) -> None:
        """The login at a mail server has another access token, and nothing else changes."""
        known = self._upstreams.get(bundle.credential)
        if known is not None:
            self.set_upstream(bundle, known.owner, divided=known.divided)

    def put(self, login: RelayLogin, key: Key, password: str | None = None) -> None:
        """A login is to be this; `key` is reconciled when the relay has been told.

        Args:
            login: The login.
            key: What its Secret belongs to.
            password: A new one, for which `pending` is asked then.
        """
        username = login.tenant.username
        before = self._logins.get(username)
        self._keys[username] = key
        if password is not None:
            self._pending[username] = password
        if before == login:
            return
        self._logins[username] = login
        for credential in {login.credential, before.credential if before is not None else login.credential}:
            self.enqueue_after(bundle_key(credential), COALESCE_SECONDS)

    def pending(self, username: str) -> str | None:
        """A password that is in no Secret yet."""
        return self._pending.get(username)

    def delivered(self, username: str) -> None:
        """A Secret holds the password."""
        self._pending.pop(username, None)

    def is_told(self, login: RelayLogin) -> bool:
        """Whether the relay can read the login's present password."""
        return login.passwords.hashes[:1] == self._told.get(login.tenant.username, ())[:1]

    def age(self, username: str, now: datetime) -> None:
        """Ends a password whose time has passed."""
        login = self._logins.get(username)
        if login is None or login.passwords.aged(now) == login.passwords:
            return
        self._logins[username] = replace(login, passwords=login.passwords.aged(now))
        self.enqueue_after(bundle_key(login.credential), COALESCE_SECONDS)

    def release(self, username: str, owner: str) -> None:
        """The settings of this uid have no login at the relay any more."""
        login = self._logins.get(username)
        if login is None or login.owner != owner:
            return
        self._forget(username)
        self.enqueue_after(bundle_key(login.credential), COALESCE_SECONDS)

    def _forget(self, username: str) -> None:
        self._logins.pop(username, None)
        self._pending.pop(username, None)
        self._told.pop(username, None)
        self._left_out.discard(username)
        self._keys.pop(username, None)

    def sweep(self, is_alive: Callable[[RelayLogin], bool], exists: Callable[[str], bool]) -> None:
        """Removes logins whose settings are gone, and bundles without logins.

        Args:
            is_alive: Whether a login's settings are there.
            exists: Whether the settings of a uid are there.
        """
        for username, login in [*self._logins.items()]:
            if not is_alive(login):
                self._forget(username)
                self.enqueue(bundle_key(login.credential))
        used = {login.credential for login in self._logins.values()}
        for credential in self._upstreams.keys() - used:
            if exists(credential) or any(self._credential_of(name) == credential for name in self._written):
                self.enqueue(bundle_key(credential))
            else:
                del self._upstreams[credential]

    def changed(self, name: str, resource_version: str) -> None:
        """A Secret in the relay's namespace was seen; somebody else may have written it. Empty version: it is gone."""
        if name not in self._written or self._written[name][1] in ("", resource_version):
            return
        self._written[name] = ("", "")
        credential = self._credential_of(name)
        if credential is not None:
            self.enqueue_after(bundle_key(credential), COALESCE_SECONDS)

    def _credential_of(self, name: str) -> str | None:
        bare = name.removeprefix(names.BUNDLE_PREFIX)
        return next((each for each in (bare, bare.rpartition("-")[0]) if each in self._upstreams), None)

    def set_ready(self, *, ready: bool) -> None:
        """Whether a replica takes connections."""
        if ready != self.ready:
            self.ready = ready
            self.wake()

    def set_certificate(self, ca_bundle: str | None) -> None:
        """What the relay's certificate is trusted by."""
        if ca_bundle != self.ca_bundle:
            self.ca_bundle = ca_bundle
            self.wake()

    def wake(self) -> None:
        """Has everything reconciled that has a login at the relay, or waits for one."""
        for key in {*self._keys.values()}:
            self.enqueue(key)

    def wait_for_relay(self, username: str, key: Key) -> None:
        """Reconciles the key when something about the relay changes."""
        self._keys[username] = key

    async def write(self, credential: str) -> None:
        """Makes the bundles of a login at a mail server true.

        Raises:
            ApiError: The API server is in trouble; try again.
        """
        upstream = self._upstreams.get(credential)
        if upstream is None:
            return
        logins = sorted(
            (each for each in self._logins.values() if each.credential == credential),
            key=lambda each: each.tenant.username,
        )
        parts = _parts(credential, logins, divided=upstream.divided)
        before = upstream.problem
        try:
            for name, part in parts.items():
                await self._write_part(upstream, name, part)
            await self._remove_others(credential, parts)
        except ApiError as error:
            upstream.problem = f"the relay cannot be told of the login: {error.status} {error.reason}"
            self.logger.warning("the bundle of %s is not written: %s", credential, described(error))
            if upstream.problem != before:
                self._wake(logins)
            raise
        upstream.problem = ""
        if before:
            self._wake(logins)

    async def _write_part(self, upstream: _Upstream, name: str, logins: list[RelayLogin]) -> None:
        kept, bundle = fitting(upstream.bundle, logins, self._told)
        body = manifest(self.bundles.namespace, name, bundle, kept, upstream.owner)
        digest = checksum(body)
        if self._written.get(name, ("", ""))[0] != digest:
            self._written[name] = (digest, await self.bundles.write(body))
        told = {login.tenant.username for login in kept}
        for login in logins:
            username = login.tenant.username
            if username not in told and username not in self._left_out:
                self._left_out.add(username)
                self._told.pop(username, None)
                self._wake([login])
        for login in kept:
            username = login.tenant.username
            self._left_out.discard(username)
            before = self._told.get(username)
            self._told[username] = login.passwords.hashes
            if before != login.passwords.hashes or username in self._pending:
                self._wake([login])

    async def _remove_others(self, credential: str, parts: dict[str, list[RelayLogin]]) -> None:
        for name in [name for name in self._written if self._credential_of(name) == credential and name not in parts]:
            await self.bundles.remove(name)
            self._written.pop(name, None)

    def _wake(self, logins: list[RelayLogin]) -> None:
        for login in logins:
            key = self._keys.get(login.tenant.username)
            if key is not None:
                self.enqueue(key)

    def sweep_soon(self) -> None:
        """Looks for logins whose settings are gone, soon."""
        self.enqueue_after(RELAY_SWEEP, COALESCE_SECONDS)


def _parts(credential: str, logins: list[RelayLogin], *, divided: bool) -> dict[str, list[RelayLogin]]:
    """By the names of their Secrets; no logins give none."""
    parts: dict[str, list[RelayLogin]] = {}
    for login in logins:
        number = shard(login.tenant.username) if divided else None
        parts.setdefault(bundle_name(credential, number), []).append(login)
    return parts
