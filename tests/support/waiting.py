"""Waiting for what the API server and its controllers do a moment later."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

LIMIT_S: Final = 20.0
PAUSE_S: Final = 0.05

T = TypeVar("T")


def eventually(attempt: Callable[[], T], accept: Callable[[T], object] = bool) -> T:
    """The first result that is accepted.

    Raises:
        AssertionError: None was, in `LIMIT_S`; the message has the last.
    """
    deadline = time.monotonic() + LIMIT_S
    while not accept(result := attempt()):
        assert time.monotonic() < deadline, f"after {LIMIT_S:.0f} s still {result!r}"
        time.sleep(PAUSE_S)
    return result
