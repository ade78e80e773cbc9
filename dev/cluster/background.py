"""A control plane that outlives the program that started it, known by its directory."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from dev.cluster.binaries import find_binaries
from dev.cluster.controlplane import READY_TIMEOUT_S, Cluster, existing_kubeconfig
from dev.cluster.errors import ClusterError
from dev.cluster.locks import is_locked, locked

ROOT = Path(__file__).parent.parent.parent
"""The repository, from which the package `dev` can be imported."""

STOP_TIMEOUT_S = 45.0
POLL_INTERVAL_S = 0.05


def start(directory: Path, *, owner: int | None = None) -> Cluster:
    """Starts a control plane in the background, or finds the one that runs in the directory already.

    Two programs may call this for the same directory at once: one starts it, both get it. Where the environment
    names an existing cluster, that one is given and nothing is started.

    Args:
        directory: Where its files, logs and kubeconfig go; what tells it from others.
        owner: The number of a process with which it is to stop; None lets it run until `stop`.

    Raises:
        ClusterError: It cannot be built or started.
    """
    existing = existing_kubeconfig()
    if existing is not None:
        return Cluster(existing)
    find_binaries()  # builds here, where its progress can be seen
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory = directory.resolve()
    waiting_for = "another start of this control plane"
    with locked(directory / "start.lock", timeout_s=3 * READY_TIMEOUT_S, waiting_for=waiting_for):
        if not is_running(directory):
            _start_daemon(directory, owner)
    return Cluster(directory / "kubeconfig")


def stop(directory: Path) -> bool:
    """Stops the control plane of a directory and waits until it is gone.

    Returns:
        False if none was running.

    Raises:
        ClusterError: It does not end, even by force.
    """
    if not is_running(directory):
        return False
    daemon = pid(directory)
    for demand in (signal.SIGTERM, signal.SIGKILL):
        if daemon is not None and is_running(directory):  # its lock is held, so the number is still its own
            with suppress(ProcessLookupError):
                os.kill(daemon, demand)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while is_running(directory) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_S)
        if not is_running(directory):
            return True
    raise ClusterError(f"The control plane's process {daemon} does not end; look at it with: ps -p {daemon}")


def is_running(directory: Path) -> bool:
    """Says whether a control plane runs in the directory; it holds a lock as long as it does."""
    return is_locked(lock_file(directory))


def pid(directory: Path) -> int | None:
    """The process number of the running control plane's daemon, the parent of its servers; None while it ends."""
    text = lock_file(directory).read_text()
    return int(text) if text else None


def lock_file(directory: Path) -> Path:
    """The file that the daemon locks while it runs, and in which its process number is."""
    return directory / "daemon.lock"


def _start_daemon(directory: Path, owner: int | None) -> None:
    log = directory / "daemon.log"
    command = [sys.executable, "-m", "dev.cluster.daemon", str(directory), str(owner or 0)]
    with log.open("wb") as errors:
        # The daemon keeps its standard output open until it is ready or has failed, so this returns at that moment.
        try:
            said = subprocess.run(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                timeout=3 * READY_TIMEOUT_S,
                check=False,
            ).stdout
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"The control plane said nothing for {error.timeout:.0f} s; see {log}") from error
    answer = json.loads(said) if said else {"error": f"The control plane ended while it started; see {log}"}
    if answer.get("error"):
        raise ClusterError(answer["error"])
