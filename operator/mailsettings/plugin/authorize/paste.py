"""Reads an address that a person pastes into the terminal."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Final

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

MAX_LINE_BYTES: Final = 32 * 1024
_CHUNK: Final = 4096
_BACKSPACE: Final = (0x08, 0x7F)
_ERASE_LINE: Final = 0x15
_END_OF_FILE: Final = 0x04
_END_OF_LINE: Final = (0x0A, 0x0D)


class Lines:
    """The lines that come in at a file descriptor.

    They are read by a thread that nobody waits for: the command may end while it still reads.
    """

    def __init__(self, descriptor: int) -> None:
        """Nothing is read yet."""
        self._descriptor = descriptor
        self._buffer = bytearray()

    async def next(self) -> str | None:
        """The next line with something in it; None: there is none any more, or it is longer than any address."""
        loop = asyncio.get_running_loop()
        line: asyncio.Future[str | None] = loop.create_future()

        def deliver(text: str | None) -> None:
            if not line.done():
                line.set_result(text)

        def read() -> None:
            text = self._read()
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(deliver, text)

        threading.Thread(target=read, name="paste", daemon=True).start()
        return await line

    def _read(self) -> str | None:
        line = bytearray()
        while len(line) <= MAX_LINE_BYTES:
            if not self._buffer:
                with contextlib.suppress(OSError):
                    self._buffer += os.read(self._descriptor, _CHUNK)
                if not self._buffer:
                    return line.decode(errors="replace") if line else None
            byte = self._buffer.pop(0)
            if byte == _END_OF_FILE:
                return None
            if byte not in _END_OF_LINE:
                _edit(line, byte)
            elif line:
                return line.decode(errors="replace")
        return None


def _edit(line: bytearray, byte: int) -> None:
    if byte == _ERASE_LINE:
        line.clear()
    elif byte in _BACKSPACE:
        del line[-1:]
    else:
        line.append(byte)


@contextlib.contextmanager
def unseen(descriptor: int) -> Iterator[None]:
    """A terminal neither shows what is typed, nor cuts it off: by lines it takes 4095 bytes at most.

    Nothing is done to what is no terminal.
    """
    if termios is None or not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    changed = [*before]
    changed[3] = before[3] & ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(descriptor, termios.TCSADRAIN, changed)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
