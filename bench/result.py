"""What a benchmark has found: one JSON object a line, and how far it is from what must be reached."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

FORBIDDEN: Final = 100.0
"""The share that something comes to which must not be at all, such as a write where nothing has changed."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of results. What a benchmark does not measure is None.

    Attributes:
        name: The benchmark's.
        tenants: How many tenants there were.
        ours_s: What the operator needed, in seconds.
        floor_s: What is taken for the least that anybody would need, in seconds.
        rss_mb: The operator's resident memory, in units of 10^6 bytes, at the end.
        writes: How many writes of the operator the API server has taken.
        share: What was reached in relation to what must be: above 1 it is missed.
        about: What the line is about, where a benchmark has several: `p99`.
        slowness: How many times slower than a quiet one the machine is now, where what must be reached is a time and no
            ratio; never below 1.
    """

    name: str
    tenants: int
    ours_s: float | None
    floor_s: float | None
    rss_mb: float | None
    writes: int | None
    share: float
    about: str = ""
    slowness: float = 1.0

    @property
    def ratio(self) -> float | None:
        """Ours to the floor; None: one of them was not measured."""
        if self.ours_s is None or not self.floor_s:
            return None
        return self.ours_s / self.floor_s

    def line(self) -> str:
        """The result as a JSON object in one line."""
        document = {
            "name": self.name,
            "tenants": self.tenants,
            "ours_s": _rounded(self.ours_s),
            "floor_s": _rounded(self.floor_s),
            "ratio": _rounded(self.ratio),
            "rss_mb": _rounded(self.rss_mb, 1),
            "writes": self.writes,
        }
        return json.dumps(document | ({"about": self.about} if self.about else {}))

    def verdict(self) -> str:
        """In words for people: `fan-out: misses what it must reach, by a factor of 1.23`."""
        what = f"{self.name} {self.about}".strip()
        if self.share <= 1:
            return f"{what}: reached, at {self.share:.2f} of what is allowed"
        return f"{what}: missed, at {self.share:.2f} times what is allowed"


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that is not exceeded by that share of them; of several middle ones the lower.

    Args:
        values: At least one.
        share: Such as 0.99.
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
