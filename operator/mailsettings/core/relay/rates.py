"""Rate limits in ThingsBoard's notation, `1000:60,10000:3600`: how many messages in how many seconds. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mailsettings.api.sending import RATE_LIMITS_PATTERN


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One limit: a bucket that holds `capacity` and is filled again evenly within `period_s`."""

    capacity: int
    period_s: int

    def __str__(self) -> str:
        """`1000:60`."""
        return f"{self.capacity}:{self.period_s}"


def parse_rate_limits(text: str) -> tuple[RateLimit, ...]:
    """The limits of a text; none where it is empty.

    Raises:
        ValueError: It does not match `RATE_LIMITS_PATTERN`.
    """
    if not text:
        return ()
    if re.fullmatch(RATE_LIMITS_PATTERN, text, re.ASCII) is None:
        raise ValueError("not a list of COUNT:SECONDS, separated by commas")
    pairs = (pair.split(":") for pair in text.split(","))
    return tuple(RateLimit(int(capacity), int(period)) for capacity, period in pairs)


@dataclass(slots=True)
class _Bucket:
    level: float
    at_s: float


class Buckets:
    """What is left of some limits, for one tenant."""

    def __init__(self, limits: Sequence[RateLimit], now_s: float) -> None:
        """Full ones.

        Args:
            limits: Which hold together.
            now_s: The present time, in seconds by a clock that does not go back.
        """
        self.limits = tuple(limits)
        self._buckets = [_Bucket(limit.capacity, now_s) for limit in limits]

    def take(self, now_s: float, *, replicas: int = 1) -> RateLimit | None:
        """Takes one from each; None. Where one of them is empty it takes nothing and says which.

        Args:
            now_s: The present time.
            replicas: How many count for themselves: each has that part of every limit. Even a part that is less than
                one message lets one through, only less often.
        """
        self._fill(now_s, replicas)
        for limit, bucket in zip(self.limits, self._buckets, strict=True):
            if bucket.level < 1:
                return limit
        for bucket in self._buckets:
            bucket.level -= 1
        return None

    def followed_by(self, limits: Sequence[RateLimit], now_s: float, *, replicas: int = 1) -> "Buckets":
        """What is left of other limits that hold from now on: whoever changes one of several fills none of them.

        A limit that stays keeps its level; a new one is as full as the emptiest of those that it takes the place of.

        Args:
            limits: Which hold together.
            now_s: The present time.
            replicas: How many count for themselves.
        """
        self._fill(now_s, replicas)
        kept = {limit: bucket.level for limit, bucket in zip(self.limits, self._buckets, strict=True)}
        ended = [level / limit.capacity for limit, level in kept.items() if limit not in limits]
        fraction = min(ended, default=1.0)
        following = Buckets(limits, now_s)
        for limit, bucket in zip(following.limits, following._buckets, strict=True):
            bucket.level = kept.get(limit, limit.capacity * fraction)
        return following

    def _fill(self, now_s: float, replicas: int) -> None:
        for limit, bucket in zip(self.limits, self._buckets, strict=True):
            part = limit.capacity / replicas
            gained = max(0.0, now_s - bucket.at_s) * part / limit.period_s
            bucket.level = min(max(1.0, part), bucket.level + gained)
            bucket.at_s = now_s
