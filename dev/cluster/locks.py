"""File locks, which the kernel releases however their holder ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.cluster.errors import ClusterError

POLL_INTERVAL_S = 0.1


def try_lock(path: Path) -> int | None:
    """Takes a lock without waiting.

    Returns:
        The file descriptor that holds the lock until it is closed, or None if another holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(path: Path) -> bool:
    """Says whether some process holds the lock; a file that does not exist is not locked."""
    if not path.exists():
        return False
    descriptor = try_lock(path)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


@contextmanager
def locked(path: Path, *, timeout_s: float, waiting_for: str) -> Iterator[None]:
    """Holds a lock during the block, waiting for it first.

    Args:
        path: The lock file; made where it is missing, and left behind.
        timeout_s: How long to wait for another holder, in seconds.
        waiting_for: What the other holder is doing, for the error's text.

    Raises:
        ClusterError: The other holder did not let go in time.
    """
    deadline = time.monotonic() + timeout_s
    while (descriptor := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise ClusterError(f"Waited {timeout_s:.0f} s for {waiting_for}; see who holds {path}: fuser {path}")
        time.sleep(POLL_INTERVAL_S)
    try:
        yield
    finally:
        os.close(descriptor)
