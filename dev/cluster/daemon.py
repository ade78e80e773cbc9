"""The process that keeps a control plane in the background; `background.start` starts it.

    python -m dev.cluster.daemon DIRECTORY OWNER_PID

It says on its standard output, as one JSON object, that it is ready or what went wrong, and then closes it.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.cluster.background import lock_file
from dev.cluster.controlplane import ControlPlane
from dev.cluster.errors import ClusterError
from dev.cluster.locks import locked

CHECK_INTERVAL_S = 0.5
LOCK_TIMEOUT_S = 5.0


def main() -> None:
    """Leaves the caller, then runs the control plane until SIGTERM, or until its owner ends."""
    directory, owner = Path(sys.argv[1]), int(sys.argv[2])
    if os.fork():
        os._exit(0)  # nobody has to wait for the child now: it belongs to init
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    lock = lock_file(directory)
    try:
        # Whoever asks whether it runs holds the lock for an instant, so one failed attempt says nothing yet.
        with (
            locked(lock, timeout_s=LOCK_TIMEOUT_S, waiting_for="another control plane in this directory"),
            _pid_written(lock),
            ControlPlane(directory) as control_plane,
        ):
            _answer({})
            while not stopping.wait(CHECK_INTERVAL_S) and not (owner and _has_ended(owner)):
                control_plane.check()
    except ClusterError as error:
        print(error, file=sys.stderr, flush=True)
        _answer({"error": str(error)})


@contextmanager
def _pid_written(file: Path) -> Iterator[None]:
    file.write_text(str(os.getpid()))
    try:
        yield
    finally:
        file.write_text("")


def _answer(message: dict[str, str]) -> None:
    """Says it to the starter, the first time; later there is nobody to listen."""
    sys.stdout.write(json.dumps(message))
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


if __name__ == "__main__":
    main()
