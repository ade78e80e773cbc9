"""What a benchmark is."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from bench.result import Result
from bench.world import Worlds

QUICK_TENANTS: Final = 150
"""Of all quick benchmarks that share a control plane: each would measure the others' too."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is to be measured.

    Attributes:
        tenants: How many tenants there are.
        rounds: How often ours and the floor are measured, in turn; results are medians.
        seconds: How long a benchmark lasts that has no end of its own.
    """

    tenants: int
    rounds: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One of them.

    Attributes:
        name: As results have it.
        summary: What it measures, in a line.
        run: Measures.
        full: The plans that are carried out one after the other.
        quick: The plan where there is little time; None: it is left out then.
        misses_by: By what factor it is known, and documented, to miss what must be reached; 1 if it does not. Quick
            runs see to it that it gets no worse.
    """

    name: str
    summary: str
    run: Callable[[Plan, Worlds], Coroutine[Any, Any, list[Result]]]
    full: tuple[Plan, ...]
    quick: Plan | None
    misses_by: float = 1.0
