"""An event loop in a thread of its own, for servers beside code that is not asynchronous itself."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Final, TypeVar

TIMEOUT_S: Final = 10.0

T = TypeVar("T")


class LoopThread:
    """Runs from `start` to `stop`."""

    def __init__(self, name: str) -> None:
        self.loop: asyncio.AbstractEventLoop
        """There from `start` on."""
        self._name = name

    def start(self) -> None:
        """Begins to run."""
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=self._name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns that runs in the loop.

        Raises:
            TimeoutError: It took longer than 10 seconds.
        """
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(TIMEOUT_S)

    @contextmanager
    def entered(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Enters and leaves an asynchronous context manager in the loop; each may take 10 seconds."""
        value = self.run(_enter(manager))
        try:
            yield value
        finally:
            self.run(_leave(manager))

    async def cancel_all(self) -> None:
        """In the loop: breaks off everything else that runs in it."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def stop(self) -> None:
        """Ends the loop and the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(TIMEOUT_S)
        self.loop.close()


async def _enter(manager: AbstractAsyncContextManager[T]) -> T:
    return await manager.__aenter__()


async def _leave(manager: AbstractAsyncContextManager[Any]) -> None:
    await manager.__aexit__(None, None, None)
