"""Who a client is: a tenant's password, or a token of its namespace's ServiceAccounts."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Final

from mailsettings.core.relay.guessing import GuessingDelays
from mailsettings.core.relay.login import Presented, looks_like_token
from mailsettings.core.relay.passwords import matching_hash, verify_password
from mailsettings.core.relay.reviews import ReviewRates
from mailsettings.edges.relay.interfaces import Account, Bundles, Reviewer, Sink

AUDIENCE: Final = "mailsettings-relay"
"""Of the tokens that are taken."""

REVIEW_KEPT_S: Final = 60.0
"""How long a token that was genuine is taken without asking again."""

MAX_REVIEWS: Final = 10_000
"""Of which the answers are kept."""

REVIEW_WITHIN_S: Final = 10.0


class Judgement(Enum):
    """Of a login."""

    ACCEPTED = auto()
    REFUSED = auto()
    LATER = auto()
    """It cannot be judged now."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a client has logged in by."""

    namespace: str
    settings: str
    password_hash: str | None = field(repr=False)
    """What is kept of its password; None: it showed a token."""

    @classmethod
    def of(cls, account: Account, presented: Presented) -> "Proof":
        """Of a login that has been judged to be right."""
        tenant = account.tenant
        return cls(tenant.namespace, tenant.settings, matching_hash(presented.secret, tenant.passwords))

    def holds(self, account: Account, now: datetime) -> bool:
        """Whether the account, as it is by now, is still the same tenant's and would take what was shown."""
        tenant = account.tenant
        if (tenant.namespace, tenant.settings) != (self.namespace, self.settings):
            return False
        return tenant.tokens if self.password_hash is None else self.password_hash in tenant.passwords_at(now)


class Authenticator:
    """Judges logins."""

    def __init__(
        self,
        bundles: Bundles,
        reviewer: Reviewer,
        sink: Sink,
        *,
        time: Callable[[], float] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Nobody has tried yet.

        Args:
            bundles: Who there is.
            reviewer: Who knows tokens.
            sink: Is told of logins.
            time: The present time, in seconds by a clock that does not go back; None: the event loop's.
            now: The present time, by which passwords end.
            sleep: Waits so many seconds.
        """
        self._time = time or asyncio.get_running_loop().time
        self._now = now
        self._sleep = sleep
        self._bundles = bundles
        self._reviewer = reviewer
        self._sink = sink
        self._delays = GuessingDelays()
        self._reviewed: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._reviews = ReviewRates(self._time())

    def holds(self, proof: Proof, account: Account) -> bool:
        """Whether what a client has logged in by would be taken again now."""
        return proof.holds(account, self._now())

    async def judge(self, presented: Presented, source: str) -> Judgement:
        """Judges a login, after the delay that former wrong ones have earned.

        Args:
            presented: What the client said.
            source: The client's address.
        """
        delay_s = self._delays.delay_s(source, presented.username, self._time())
        if delay_s is None:
            return Judgement.LATER
        if delay_s:
            await self._sleep(delay_s)
        judgement = await self._judged(presented, source)
        if judgement is Judgement.ACCEPTED:
            self._delays.succeeded(source, presented.username)
        elif judgement is Judgement.REFUSED:
            self._delays.failed(source, presented.username, self._time())
        if judgement is not Judgement.LATER:
            # A name that nobody has may be a password that was put into the wrong place.
            known = self._bundles.find(presented.username) is not None
            self._sink.login(presented.username if known else "", accepted=judgement is Judgement.ACCEPTED)
        return judgement

    async def _judged(self, presented: Presented, source: str) -> Judgement:
        account = self._bundles.find(presented.username)
        if looks_like_token(presented.secret, AUDIENCE):
            return await self._review(presented.secret, account, source)
        hashes = account.tenant.passwords_at(self._now()) if account and not presented.is_token else ()
        return Judgement.ACCEPTED if verify_password(presented.secret, hashes) else Judgement.REFUSED

    async def _review(self, token: str, account: Account | None, source: str) -> Judgement:
        if account is None or not account.tenant.tokens:
            return Judgement.REFUSED
        now = self._time()
        digest = hashlib.sha256(token.encode()).digest()
        kept = self._reviewed.get(digest)
        if kept is None or kept[0] < now:
            if not self._reviews.take(source, now):
                return Judgement.LATER
            try:
                async with asyncio.timeout(REVIEW_WITHIN_S):
                    namespace = await self._reviewer.namespace(token)
            except OSError:
                return Judgement.LATER
            if namespace is None:
                return Judgement.REFUSED
            if namespace == account.tenant.namespace:
                self._reviews.was_right(source, now)
            kept = (now + REVIEW_KEPT_S, namespace)
            self._reviewed[digest] = kept
            if len(self._reviewed) > MAX_REVIEWS:
                self._reviewed.popitem(last=False)
        return Judgement.ACCEPTED if kept[1] == account.tenant.namespace else Judgement.REFUSED
