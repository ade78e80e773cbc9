"""Opens the person's browser, where there is one."""

import subprocess
import sys
from collections.abc import Mapping


def has_browser(environment: Mapping[str, str], platform: str) -> bool:
    """Whether there is a screen that a browser could show something on, or the person names a browser."""
    if platform in ("darwin", "win32", "cygwin"):
        return True
    return any(environment.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))


def open_browser(url: str) -> None:
    """Opens an address; whether that works shows on the screen only.

    In a process of its own: some browsers write to the terminal or wait to be closed.
    """
    command = [sys.executable, "-m", "webbrowser", url]
    nowhere = subprocess.DEVNULL
    subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)  # noqa: S603 - a checked https address
