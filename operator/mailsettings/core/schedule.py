"""When the next probe is due. Pure: the same settings and times always give the same answer."""

import hashlib
from datetime import timedelta
from typing import Final

JITTER: Final = 0.1
"""How far, as a share, a due time is moved ahead, so that probes of many objects do not meet."""

FIRST_RETRY: Final = timedelta(minutes=1)
FIRST_RETRY_AFTER_REFUSAL: Final = timedelta(minutes=10)
"""Servers lock accounts that fail to log in too often; and waiting does not mend what needs a person."""


def share(seed: str) -> float:
    """A number from 0 to 1 that depends on the seed alone, so that a restart does not move due times."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") / 2**32


def delay_until_next_probe(
    interval: timedelta, *, consecutive_failures: int, needs_person: bool, seed: str
) -> timedelta:
    """The time from the end of one probe to the next.

    Args:
        interval: the time between probes that pass.
        consecutive_failures: how many probes in a row have failed, the last one included.
        needs_person: whether waiting cannot mend why the last probe failed.
        seed: what the jitter depends on, such as the object's uid.
    """
    delay = interval
    if consecutive_failures > 0:
        first = FIRST_RETRY_AFTER_REFUSAL if needs_person else FIRST_RETRY
        doublings = min(consecutive_failures - 1, 20)
        delay = min(interval, first * 2**doublings)
    return delay * (1 - JITTER * share(f"{seed}/{consecutive_failures}"))
