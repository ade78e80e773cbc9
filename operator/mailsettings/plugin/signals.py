"""How a command that has something to tidy up is interrupted."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """The first signal cancels the current task; those that follow find the tidying up, which ends by itself.

    It holds where Ctrl-C is not the terminal's: a pipeline's job that is stopped is told so by SIGTERM, and what a
    shell has started in the background ignores SIGINT until it asks for it.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    signals = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

    def end() -> None:
        if task is not None and not task.cancelling():
            task.cancel()

    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C alone, by asyncio.run
        for each in signals:
            loop.add_signal_handler(each, end)
    yield
