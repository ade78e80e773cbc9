"""The operator, which stops itself once at a certain place of a refresh, as a machine that stands still would stop it.

    python standing_still.py PLACE FILE ARGUMENT...

It does so when FILE exists, and removes it. Only SIGCONT helps then.
"""

import signal
import ssl
import sys
import threading
from pathlib import Path
from typing import Any, Final

from mailsettings.__main__ import main
from mailsettings.edges.token_store import TokenStore

CHECKED: Final = "after the look at the claim"
SENDING: Final = "after the last look at the deadline"

_may_begin = TokenStore.may_begin
_send = ssl.SSLSocket.send


def _stop_if_told(file: Path) -> None:
    if file.exists():
        file.unlink()
        # To this thread: what is sent to the process may stop another thread first, and this one goes on for a moment.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def _run(place: str, file: Path, arguments: list[str]) -> int:
    async def may_begin(*positional: Any, **named: Any) -> bool:
        holds = await _may_begin(*positional, **named)
        _stop_if_told(file)
        return holds

    def send(self: ssl.SSLSocket, data: memoryview, *positional: Any) -> int:
        if b"grant_type=" in bytes(data):  # without the form the request is nothing yet
            _stop_if_told(file)
        return _send(self, data, *positional)

    if place == CHECKED:
        TokenStore.may_begin = may_begin  # type: ignore[method-assign]
    else:
        ssl.SSLSocket.send = send  # type: ignore[method-assign, assignment]
    return main(arguments)


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
