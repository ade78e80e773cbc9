"""Says what long work is doing: a live line on a terminal, now and then a plain line elsewhere."""

import sys
import threading
import time
from types import TracebackType
from typing import Self

TERMINAL_INTERVAL_S = 0.2
LOG_INTERVAL_S = 15.0
"""Without a terminal each report stays in a log for good, so it comes seldom."""

WIDTH = 79


def clock(seconds: float) -> str:
    """Writes a duration as people read it on a stopwatch, such as `4:07`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"


class Progress:
    """Reports on standard error until the block ends.

    Args:
        title: What is being done, as a sentence's beginning: "Building the control plane".
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._detail = ""
        self._began = time.monotonic()
        self._done = threading.Event()
        self._live = sys.stderr.isatty()
        self._thread = threading.Thread(target=self._report, name="progress", daemon=True)

    def __enter__(self) -> Self:
        if not self._live:
            self._print_line()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        if self._live:
            sys.stderr.write("\r\x1b[K")
        outcome = "done" if error is None else "failed"
        print(f"{self._title}: {outcome} after {clock(self.elapsed)}", file=sys.stderr, flush=True)

    @property
    def elapsed(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self._began

    def update(self, detail: str) -> None:
        """Says how far the work is, such as "1,200 of 2,500 packages"."""
        self._detail = detail

    def _report(self) -> None:
        interval = TERMINAL_INTERVAL_S if self._live else LOG_INTERVAL_S
        while not self._done.wait(interval):
            if self._live:
                sys.stderr.write(f"\r\x1b[K{self._line()[:WIDTH]}")
                sys.stderr.flush()
            else:
                self._print_line()

    def _print_line(self) -> None:
        print(self._line(), file=sys.stderr, flush=True)

    def _line(self) -> str:
        detail = f": {self._detail}" if self._detail else ""
        return f"{self._title} [{clock(self.elapsed)}]{detail}"
