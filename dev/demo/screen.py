"""What the demo shows: a live table on a terminal, lines that are appended elsewhere."""

import sys
import textwrap
from datetime import datetime
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dev.demo.mail_server import Mail
from dev.demo.state import Row, State

WIDTH: Final = 79
_COLUMNS: Final = ("Settings", "Ready", "Reason", "Source", "Secret")
_COLOURS: Final = {"True": "green", "False": "red", "Unknown": "yellow"}


class Screen(Protocol):
    """Where the demo speaks; a context manager that shows states only inside its block."""

    def __enter__(self) -> Self:
        """Begins to show states."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves what was shown last."""

    def say(self, text: str) -> None:
        """Says something once; lines that are too long are wrapped, commands are left whole."""

    def show(self, state: State) -> None:
        """Shows the present state."""


def open_screen() -> Screen:
    """The screen that fits the standard output."""
    console = Console(highlight=False)
    # Not `console.is_terminal`: some environments have it say so of pipes, for the sake of colours.
    return LiveScreen(console) if sys.stdout.isatty() and not console.is_dumb_terminal else PlainScreen()


class LiveScreen:
    """A table that is kept up to date below what has been said."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        """Begins to show states."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the last table where it is."""
        self._live.stop()

    def say(self, text: str) -> None:
        """Says something above the table."""
        for line in text.splitlines():
            # A command is coloured, and not wrapped so that it can be copied.
            is_command = line.startswith("  ")
            self._console.print(Text(line, style="cyan" if is_command else ""), soft_wrap=is_command)

    def show(self, state: State) -> None:
        """Draws the table anew."""
        table = Table(*_COLUMNS, box=None, pad_edge=False, header_style="bold")
        for row in state.rows:
            colour = _COLOURS.get(row.ready, "dim")
            table.add_row(*(Text(cell, style=colour if at in (1, 2) else "") for at, cell in enumerate(_cells(row))))
        messages = [Text(f"{row.title}: {row.message}", style="red") for row in state.rows if row.ready == "False"]
        self._live.update(Group("", table, "", *messages), refresh=True)


class PlainScreen:
    """Lines for files and pipes: a line for a row when it has changed."""

    def __init__(self) -> None:
        self._shown: dict[str, Row] = {}

    def __enter__(self) -> Self:
        """Nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to leave."""

    def say(self, text: str) -> None:
        """Appends it."""
        for line in text.splitlines() or [""]:
            print(line if line.startswith("  ") else textwrap.fill(line, WIDTH), flush=True)

    def show(self, state: State) -> None:
        """Appends the rows that have changed since they were last shown."""
        changed = [row for row in state.rows if self._shown.get(row.title) != row and (row.ready or not row.name)]
        if changed and not self._shown:
            print(f"\n{_line(_COLUMNS)}")
        for row in changed:
            print(_line(_cells(row)))
            if row.ready == "False":
                print(textwrap.fill(row.message, WIDTH, initial_indent="    ", subsequent_indent="    "), flush=True)
        gone = self._shown.keys() - {row.title for row in state.rows}
        for title in sorted(gone):
            print(f"{title}: gone", flush=True)
        self._shown = {row.title: row for row in state.rows if row in changed or row.title in self._shown}


def mail_text(mail: Mail) -> str:
    """A mail that has arrived, without what it says and without the password it came with."""
    now = datetime.now().astimezone().strftime("%H:%M:%S")
    lines = (
        f"{now} a mail arrived, sent with the login {mail.login}",
        f"  From:    {mail.sender}",
        f"  To:      {', '.join(mail.recipients)}",
        f"  Subject: {mail.subject}",
    )
    return "\n".join(textwrap.shorten(line, WIDTH) if not line.startswith("  ") else line[:WIDTH] for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    return row.title, row.ready or "-", row.reason or "-", row.source or "-", row.secret or "-"


def _line(cells: tuple[str, ...]) -> str:
    return "{:<21} {:<8} {:<20} {:<7} {}".format(*cells)
