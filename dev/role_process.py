"""A role of the operator's image as a process of its own, as the demo, the tests and the benchmarks run it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LOOPBACK: Final = "127.0.0.0/8:* [::1/128]:*"
"""What the demo and the tests let every role connect to; the egress policy denies loopback to everybody."""
START_TIMEOUT_S: Final = 30.0

_TETHER: Final = ROOT / "dev" / "cluster" / "tether.py"
_STOP_TIMEOUT_S: Final = 15.0
_POLL_S: Final = 0.05


class StartError(Exception):
    """A role did not start; the message holds the end of its log."""


class RoleProcess:
    """Starts and stops one. On Linux it dies with the thread that started it."""

    def __init__(
        self,
        log: Path,
        environment: Mapping[str, str] | None = None,
        *,
        program: Sequence[str] = ("-m", "mailsettings"),
    ) -> None:
        """Nothing is started yet.

        Args:
            log: Where all that it says goes.
            environment: Its configuration, beside the permission to connect to loopback.
            program: What Python runs; tests put one there that breaks at a certain place.
        """
        self.log = log
        self._environment = {"MAILSETTINGS_EGRESS_ALLOW": LOOPBACK, **(environment or {})}
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self._process.pid if self._process else None

    def launch(self, arguments: Sequence[str], ready: Callable[[str], bool], timeout: float) -> str:
        """Starts it and waits until its log says that it is ready; what that says.

        Args:
            arguments: Of the command line.
            ready: Judges what it has logged since.
            timeout: How long that may take, in seconds.

        Raises:
            StartError: It ended, or took longer.
        """
        python = [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), sys.executable]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "operator"), **self._environment}
        with self.log.open("ab") as log:
            begin = log.tell()
            self._process = subprocess.Popen(
                [*python, *self._program, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + timeout
        while not ready(said := self._log_since(begin)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise StartError(f"{arguments[0]} did not start:\n{self._log_since(begin)[-2000:]}")
            time.sleep(_POLL_S)
        return said

    def stop(self) -> int | None:
        """Ends it as Kubernetes would: SIGTERM, and SIGKILL if that does not help; its exit status."""
        if self._process is None:
            return None
        self._process.terminate()
        try:
            status = self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._process = None
        return status

    def kill(self) -> None:
        """Ends it without a chance to tidy up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def log_text(self) -> str:
        """All that it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _log_since(self, begin: int) -> str:
        with self.log.open("rb") as log:
            log.seek(begin)
            return log.read().decode(errors="replace")
