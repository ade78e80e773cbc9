"""How a command that has something to tidy up is interrupted.

It holds where Ctrl-C is not the terminal's: a pipeline's job that is stopped is told so by SIGTERM, and what a shell
has started in the background ignores SIGINT until it asks for it.
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final

_SIGNALS: Final = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """The first signal cancels the current task; those that follow find the tidying up, which ends by itself."""
    import asyncio  # noqa: PLC0415 - who has no event loop does without

    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def end() -> None:
        if task is not None and not task.cancelling():
            task.cancel()

    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C alone, by asyncio.run
        for each in _SIGNALS:
            loop.add_signal_handler(each, end)
    yield


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """The same without an event loop.

    Raises:
        KeyboardInterrupt: There was a signal.
    """
    has_come = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal has_come
        if not has_come:
            has_come = True
            raise KeyboardInterrupt

    before = [(each, signal.signal(each, interrupt)) for each in _SIGNALS]
    try:
        yield
    finally:
        for each, handler in before:
            signal.signal(each, handler)
