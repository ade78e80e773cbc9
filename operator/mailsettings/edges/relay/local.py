"""One process's own answers to what the relay wants: enough for tests, benchmarks, and one replica."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from mailsettings.api.providers import MailboxLimits
from mailsettings.core.relay.audit import AuditRecord
from mailsettings.core.relay.bundle import Bundle, BundleError, parse_bundle, without_doubles
from mailsettings.core.relay.rates import Buckets, RateLimit
from mailsettings.core.slots import Budget
from mailsettings.edges.relay.interfaces import Account, Sink

LOGGER: Final = logging.getLogger("mailsettings.relay")

MAX_RATES: Final = 20_000
"""Tenants of whose messages the count is kept."""


class MemoryBundles:
    """Bundles that somebody puts in."""

    def __init__(self, bundles: Iterable[Bundle] = ()) -> None:
        """These, and none else.

        Args:
            bundles: Of different credentials and user names.
        """
        self._bundles: Mapping[str, Bundle] = {}
        self._accounts: Mapping[str, Account] = {}
        self._shared: frozenset[str] = frozenset()
        self.replace(bundles)

    def replace(self, bundles: Iterable[Bundle]) -> None:
        """Has these from now on."""
        bundles = list(bundles)
        self._bundles = {bundle.credential: bundle for bundle in bundles}
        self._accounts = {
            tenant.username: Account(tenant, bundle, tenant.policy) for bundle in bundles for tenant in bundle.tenants
        }
        namespaces: dict[str, set[str]] = {}
        for bundle in bundles:  # of one credential there may be several
            namespaces.setdefault(bundle.credential, set()).update(tenant.namespace for tenant in bundle.tenants)
        self._shared = frozenset(credential for credential, found in namespaces.items() if len(found) > 1)

    def find(self, username: str) -> Account | None:
        """The account of a user name."""
        return self._accounts.get(username)

    def bundle(self, credential: str) -> Bundle | None:
        """The bundle of a credential."""
        return self._bundles.get(credential)

    def is_shared(self, credential: str) -> bool:
        """Whether tenants of several namespaces use a credential."""
        return credential in self._shared


class FolderBundles(MemoryBundles):
    """The bundles of a folder: each file that ends in .json is one."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read yet.

        Args:
            folder: Where they are.
        """
        super().__init__()
        self._folder = folder
        self._read: dict[Path, tuple[tuple[int, int], Bundle]] = {}
        self._complaints: frozenset[str] = frozenset()

    def load(self) -> None:
        """Reads what has changed. A file that is no bundle leaves what it held before.

        What two files hold of the same name is left out of both: nobody can tell whose it is. Of both it is complained
        once for as long as it lasts.
        """
        read: dict[Path, tuple[tuple[int, int], Bundle]] = {}
        complaints: list[str] = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                status = path.stat()
                stamp = (status.st_mtime_ns, status.st_size)
                known = self._read.get(path)
                read[path] = known if known and known[0] == stamp else (stamp, parse_bundle(path.read_bytes()))
            except (OSError, BundleError) as error:
                text = str(error) if isinstance(error, BundleError) else type(error).__name__
                complaints.append(f"{path.name}: {text}")
                if path in self._read:
                    read[path] = self._read[path]
        bundles, doubled = without_doubles([bundle for _, bundle in read.values()])
        complaints += doubled
        if read != self._read:
            self._read = read
            self.replace(bundles)
        for complaint in complaints:
            if complaint not in self._complaints:
                LOGGER.warning("%s", complaint)
        self._complaints = frozenset(complaints)

    async def keep_loaded(self, every_s: float = 1.0) -> None:
        """Looks again and again for changes, until it is cancelled."""
        while True:
            await asyncio.sleep(every_s)
            await asyncio.to_thread(self.load)


class NoTokens:
    """Nobody renews access tokens."""

    async def renewed(self, bundle: Bundle) -> Bundle | None:  # noqa: ARG002 - the interface's
        """None."""
        return None


class NoReviewer:
    """Nobody knows ServiceAccounts."""

    async def namespace(self, token: str) -> str | None:  # noqa: ARG002 - the interface's
        """None."""
        return None


class _Free:
    is_held = True

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.user = ""

    def when_over(self, tell: Callable[[], None]) -> None:
        """Nobody else wants it."""

    def free(self) -> None:
        """Nothing was taken."""


class UnsharedSlots:
    """There is one process: its own pools count the connections."""

    async def take(
        self,
        credential: str,  # noqa: ARG002 - the interface's
        limits: MailboxLimits,
        waiting: Collection[str] = (),  # noqa: ARG002 - the interface's
    ) -> _Free:
        """Always there."""
        return _Free(Budget(limits.messages_per_minute_of_slot))


class LocalRates:
    """The counts of one process, which has its part of each limit."""

    def __init__(self, replicas: Callable[[], int] = lambda: 1) -> None:
        """Nothing has been counted.

        Args:
            replicas: How many share the limits at present, this one included.
        """
        self._replicas = replicas
        self._buckets: OrderedDict[str, Buckets] = OrderedDict()

    async def take(self, account: Account) -> RateLimit | None:
        """Counts a message."""
        limits = account.policy.rate_limits
        if not limits:
            return None
        now = asyncio.get_running_loop().time()
        name = account.tenant.username
        buckets = self._buckets.pop(name, None)
        replicas = max(1, self._replicas())
        if buckets is None:
            buckets = Buckets(limits, now)
        elif buckets.limits != limits:
            buckets = buckets.followed_by(limits, now, replicas=replicas)
        self._buckets[name] = buckets
        if len(self._buckets) > MAX_RATES:
            self._buckets.popitem(last=False)
        return buckets.take(now, replicas=replicas)


class Sinks:
    """Tells several."""

    def __init__(self, *sinks: Sink) -> None:
        """These.

        Args:
            sinks: Each is told everything.
        """
        self._sinks = sinks

    def message(self, record: AuditRecord) -> None:
        """A message has come to its end."""
        for sink in self._sinks:
            sink.message(record)

    def login(self, username: str, *, accepted: bool) -> None:
        """Somebody has tried to log in."""
        for sink in self._sinks:
            sink.login(username, accepted=accepted)

    def upstream_failed(self, credential: str, reason: str) -> None:
        """There is no connection to a mail server."""
        for sink in self._sinks:
            sink.upstream_failed(credential, reason)


class LogSink:
    """Writes audit lines to the log."""

    def message(self, record: AuditRecord) -> None:
        """One line."""
        if LOGGER.isEnabledFor(logging.INFO):
            LOGGER.info("%s", record.line())

    def login(self, username: str, *, accepted: bool) -> None:
        """Only refusals."""
        if not accepted:
            LOGGER.warning("login refused: %s", username or "an unknown user")

    def upstream_failed(self, credential: str, reason: str) -> None:
        """The reason, without what the server said."""
        LOGGER.warning("no connection to the mail server of %s: %s", credential, reason)
