"""How often the API server is asked about tokens: whoever can connect could have it asked without end. Pure."""

from collections import OrderedDict
from typing import Final

from mailsettings.core.relay.rates import Buckets, RateLimit

OF_A_SOURCE: Final = RateLimit(20, 10)
"""So one that shows false tokens does not use up what the others need: a token that is right is asked about once a
minute."""

OF_ALL: Final = RateLimit(200, 10)
"""Of all sources together that have shown no right token of late, and once more of all that have: so many addresses
together that show false ones do not use up what those need that are known."""

KNOWN_S: Final = 7200.0
"""For how long a source that has shown a right token is known: longer than the session that it began."""

MAX_SOURCES: Final = 10_000
"""Of which it is known how much they have asked, or that they have shown a right token; beyond that, those that have
been silent the longest are forgotten."""


class ReviewRates:
    """What is left, for each source and for all together."""

    def __init__(self, now_s: float) -> None:
        """Nobody has asked yet.

        Args:
            now_s: The present time, in seconds by a clock that does not go back.
        """
        self._strangers, self._known = (Buckets((OF_ALL,), now_s) for _ in range(2))
        self._sources: OrderedDict[str, Buckets] = OrderedDict()
        self._right: OrderedDict[str, float] = OrderedDict()

    def take(self, source: str, now_s: float) -> bool:
        """Whether one more token may be asked about for a source, and if so, counts it."""
        own = self._sources.setdefault(source, Buckets((OF_A_SOURCE,), now_s))
        self._sources.move_to_end(source)
        if len(self._sources) > MAX_SOURCES:
            self._sources.popitem(last=False)
        is_known = now_s - self._right.get(source, -KNOWN_S) < KNOWN_S
        together = self._known if is_known else self._strangers
        return own.take(now_s) is None and together.take(now_s) is None

    def was_right(self, source: str, now_s: float) -> None:
        """A source has shown a right token."""
        self._right[source] = now_s
        self._right.move_to_end(source)
        if len(self._right) > MAX_SOURCES:
            self._right.popitem(last=False)
