"""What a person reads: progress and problems on standard error, the result on standard output."""

import io
import json
import os
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TextIO

MAX_COLUMNS: Final = 80


class Style(Enum):
    """How a text stands out on a terminal: SGR parameters of ECMA-48."""

    STRONG = "1"
    GOOD = "32"
    BAD = "31"
    PENDING = "33"


@dataclass(slots=True)
class Terminal:
    """Where a command writes."""

    result: TextIO
    progress: TextIO
    environment: Mapping[str, str]
    columns: int = MAX_COLUMNS
    _has_tick: bool = field(default=False, init=False)

    @classmethod
    def standard(cls) -> "Terminal":
        """The process's own."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        return cls(sys.stdout, sys.stderr, os.environ, min(MAX_COLUMNS, columns(os.environ)))

    @property
    def is_unicode(self) -> bool:
        """Whether the result may hold any character."""
        encoding = self.result.encoding or "utf-8"
        return encoding.lower().replace("_", "-").startswith("utf")

    def say(self, text: str = "", style: Style | None = None) -> None:
        """One paragraph of progress, wrapped unless it begins with a blank: that is for copying."""
        self._write(self.progress, self._wrapped(text), style)

    def say_line(self, text: str, style: Style | None = None) -> None:
        """One line of progress, however long."""
        self._write(self.progress, plain(text), style)

    def show(self, text: str) -> None:
        """A text to copy, such as an address: as it is, however long, between empty lines."""
        self._write(self.progress, "", None)
        self._write(self.progress, plain(text), Style.STRONG)
        self._write(self.progress, "", None)

    def tick(self, text: str) -> None:
        """What is going on just now, in one line that the next one replaces. Only on a terminal."""
        if self.progress.isatty():
            self.progress.write(f"\r\x1b[K{plain(text)[: self.columns - 1]}")
            self.progress.flush()
            self._has_tick = True

    def complain(self, reason: str, message: str, commands: Iterable[str] = ()) -> None:
        """Why a command comes to nothing, with the commands that help on lines of their own."""
        self.say(f"{reason}: {message}", Style.BAD)
        for command in commands:
            self.say_line(f"    {command}")

    def tell(self, text: str = "", style: Style | None = None) -> None:
        """A paragraph of the result, wrapped likewise."""
        self._write(self.result, self._wrapped(text), style)

    def tell_line(self, text: str, style: Style | None = None) -> None:
        """A part of the result in one line, however long, so that other programs can read it by lines."""
        self._write(self.result, plain(text), style)

    def tell_document(self, text: str) -> None:
        """The result, for a program."""
        self._write(self.result, text, None)

    def tell_object(self, value: Any, output: str) -> None:  # noqa: ANN401 - whatever JSON holds
        """The result, for a program: as `json` or as `yaml`."""
        if output == "json":
            self.tell_document(json.dumps(value, indent=2))
            return
        from mailsettings.api.crd import to_yaml  # noqa: PLC0415 - it takes a while

        self.tell_document(to_yaml(value).rstrip("\n"))

    def _wrapped(self, text: str) -> str:
        if text.startswith(" "):  # for copying
            return plain(text)
        # Addresses and names stay whole, so that they can be copied.
        return textwrap.fill(plain(text), self.columns, break_long_words=False, break_on_hyphens=False)

    def _write(self, stream: TextIO, text: str, style: Style | None) -> None:
        if self._has_tick:
            self._has_tick = False
            self.progress.write("\r\x1b[K")
            self.progress.flush()
        stream.write(f"{self._styled(stream, text, style)}\n")
        stream.flush()

    def _styled(self, stream: TextIO, text: str, style: Style | None) -> str:
        """Source: no-color.org."""
        dull = self.environment.get("NO_COLOR") or self.environment.get("TERM") == "dumb"
        if style is None or dull or not text or not stream.isatty():
            return text
        return f"\x1b[{style.value}m{text}\x1b[0m"


def columns(environment: Mapping[str, str]) -> int:
    """As `shutil.get_terminal_size` has it, whose module takes long to import, for the compression in it."""
    given = environment.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or MAX_COLUMNS  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return MAX_COLUMNS


def plain(text: str) -> str:
    """Without what a terminal obeys: texts come from servers, too."""
    return "".join(each if each.isprintable() else " " for each in text)
