"""Shows a MailServerTest's stages as they come."""

from collections.abc import Callable, Mapping
from typing import Any

from mailsettings.plugin.test.outcome import stage_line, title_of

Json = Mapping[str, Any]


class Follower:
    """Tells of each turn of a stage once it is over.

    A stage that comes again, as EHLO does after STARTTLS, gets another line with what it has taken since.
    """

    def __init__(self, tell: Callable[[str], None], tell_title: Callable[[str], None]) -> None:
        """A follower that has told nothing yet.

        Args:
            tell: Shows a line.
            tell_title: Shows the one that says what is tested.
        """
        self._tell = tell
        self._tell_title = tell_title
        self._has_title = False
        self._told: dict[str, int] = {}

    def look(self, test: Json) -> None:
        """Tells what is new of a test."""
        status = test.get("status") or {}
        title = title_of(test)
        if title and not self._has_title:
            self._has_title = True
            self._tell_title(title)
        failing = (status.get("failure") or {}).get("stage")
        for stage in status.get("stages") or ():
            name, duration = stage["name"], _milliseconds(stage["duration"])
            told = self._told.get(name)
            if told is None or duration > told or name == failing:
                self._tell(stage_line(name, f"{duration - (told or 0)}ms", failed=name == failing))
                self._told[name] = duration


def _milliseconds(text: str) -> int:
    """Of a duration in a status, as the operator writes them."""
    number = text.removesuffix("ms")
    return int(number) if number.isdecimal() else 0
