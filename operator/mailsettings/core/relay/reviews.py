"""How often the API server is asked about tokens: whoever can connect could have it asked without end. Pure."""

from collections import OrderedDict
from typing import Final

from mailsettings.core.relay.rates import Buckets, RateLimit

OF_A_SOURCE: Final = RateLimit(20, 10)
"""So one that shows false tokens does not use up what the others need: a token that is right is asked about once a
minute."""

OF_ALL: Final = RateLimit(200, 10)

MAX_SOURCES: Final = 10_000
"""Of which it is known how much they have asked; beyond that, those that have been silent the longest are forgotten."""


class ReviewRates:
    """What is left, for each source and for all together."""

    def __init__(self, now_s: float) -> None:
        """Nobody has asked yet.

        Args:
            now_s: The present time, in seconds by a clock that does not go back.
        """
        self._all = Buckets((OF_ALL,), now_s)
        self._sources: OrderedDict[str, Buckets] = OrderedDict()

    def take(self, source: str, now_s: float) -> bool:
        """Whether one more token may be asked about for a source, and if so, counts it."""
        own = self._sources.setdefault(source, Buckets((OF_A_SOURCE,), now_s))
        self._sources.move_to_end(source)
        if len(self._sources) > MAX_SOURCES:
            self._sources.popitem(last=False)
        return own.take(now_s) is None and self._all.take(now_s) is None
