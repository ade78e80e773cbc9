"""One server of a control plane as a child process."""

import os
import subprocess
import sys
from pathlib import Path

from dev.cluster.errors import ClusterError

TETHER = Path(__file__).with_name("tether.py")
LOG_LINES = 12
STOP_TIMEOUT_S = 10.0
"""How long a server may take to end after SIGTERM before it is killed."""


class Server:
    """A child process that writes a log, and that ends with the process that started it.

    On Linux it ends with the *thread* that started it: start it from one that lives as long as it is needed.

    Args:
        name: What people call it, such as "etcd"; the log is `<name>.log`.
        command: The program's absolute path and its arguments.
        directory: Its working directory, where the log goes too.
    """

    def __init__(self, name: str, command: list[str], directory: Path) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        tethered = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *command]
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C in the terminal is for the parent, which stops the servers in order.
            self._process = subprocess.Popen(
                tethered, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """The process's number, also after it has ended."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def check(self) -> None:
        """Makes sure that it still runs.

        Raises:
            ClusterError: It has ended; the message has its log's last lines.
        """
        if not self.running:
            raise self.failure(f"ended with status {self._process.returncode}")

    def failure(self, what: str) -> ClusterError:
        """Makes an error about this server, with the last lines of its log.

        Args:
            what: What it did, as a sentence without its subject: "was not ready after 30 s".
        """
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return ClusterError(f"{self.name} {what}. The last lines of {self.log}:\n" + "\n".join(lines))

    def stop(self) -> None:
        """Ends it: politely first, by force after `STOP_TIMEOUT_S`. Returns when it is gone."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)
