"""How long the answer to a login waits after wrong ones, so that passwords cannot be guessed. Pure.

It is counted for each pair of source and user name. So nobody can lock a tenant out from elsewhere, and a tenant whose
own application has an old password delays only that application.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

FIRST_DELAY_S: Final = 0.5
"""After the first wrong login; it doubles with each further one."""

MAX_DELAY_S: Final = 16.0
MAX_WAIT_S: Final = 2 * MAX_DELAY_S
"""Beyond it a login is refused at once instead of being kept waiting."""

FORGOTTEN_AFTER_S: Final = 900.0
"""A pair without a wrong login for so long begins anew."""

MAX_PAIRS: Final = 10_000
"""Of which wrong logins are remembered; beyond that, the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class _Failures:
    count: int
    last_s: float
    free_s: float
    """From when on the next login is judged."""


class GuessingDelays:
    """Wrong logins by source and user name."""

    def __init__(self) -> None:
        """None have been."""
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    def delay_s(self, source: str, username: str, now_s: float) -> float | None:
        """How long to wait before the next login of this pair is judged; None: too many wait already.

        Each one that waits has the next turn, so that logins at the same time are no quicker.

        Args:
            source: The client's address.
            username: As it was said.
            now_s: The present time, in seconds by a clock that does not go back.
        """
        pair = (source, username)
        found = self._failures.get(pair)
        if found is None or now_s - found.last_s > FORGOTTEN_AFTER_S:
            self._failures.pop(pair, None)
            return 0.0
        begins_s = max(now_s, found.free_s)
        if begins_s - now_s > MAX_WAIT_S:
            return None
        self._failures[pair] = _Failures(found.count, found.last_s, begins_s + _pause_s(found.count))
        return begins_s - now_s

    def failed(self, source: str, username: str, now_s: float) -> None:
        """A login was wrong."""
        pair = (source, username)
        found = self._failures.pop(pair, None)
        count = found.count + 1 if found else 1
        free_s = max(found.free_s if found else 0.0, now_s + _pause_s(count))
        self._failures[pair] = _Failures(count, now_s, free_s)
        while len(self._failures) > MAX_PAIRS:
            self._failures.popitem(last=False)

    def succeeded(self, source: str, username: str) -> None:
        """A login was right: whoever knows the password need not guess it."""
        self._failures.pop((source, username), None)


def _pause_s(count: int) -> float:
    return min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(count - 1, 16))
