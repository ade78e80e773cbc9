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
from dev.demo.state import Row, Sending, State

WIDTH: Final = 79
_COLUMNS: Final = ("Settings", "Ready", "Reason", "Source", "Token", "Secret")
_COLOURS: Final = {"True": "green", "False": "red", "Unknown": "yellow"}
_AWAITED: Final = "ConsentRequired"
"""No fault: a person has something to do."""
_MAILS_PER_LINE: Final = 5
"""Where lines are appended, every so many mails one."""


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

    def show(self, state: State, sending: Sending | None = None) -> None:
        """Shows the present state, and what the application with access tokens has come to."""


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

    def show(self, state: State, sending: Sending | None = None) -> None:
        """Draws the table anew."""
        table = Table(*_COLUMNS, box=None, pad_edge=False, header_style="bold")
        for row in state.rows:
            colour = _colour(row)
            table.add_row(*(Text(cell, style=colour if at in (1, 2) else "") for at, cell in enumerate(_cells(row))))
        messages = [Text(f"{row.title}: {row.message}", style=_colour(row)) for row in state.rows if _has_words(row)]
        shown = Group("", table, "", *messages)
        if sending is not None:
            style = "red" if sending.refused else "green"
            shown = Group(shown, "", Text(_sending_text(sending), style=style))
        self._live.update(shown, refresh=True)


class PlainScreen:
    """Lines for files and pipes: a line for a row when it has changed."""

    def __init__(self) -> None:
        self._shown: dict[str, Row] = {}
        self._mails = 0

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

    def show(self, state: State, sending: Sending | None = None) -> None:
        """Appends the rows that have changed since they were last shown, and every few mails how many there are."""
        changed = [row for row in state.rows if self._shown.get(row.title) != row and (row.ready or not row.name)]
        if changed and not self._shown:
            print(f"\n{_line(_COLUMNS)}")
        for row in changed:
            print(_line(_cells(row)))
            if _has_words(row):
                print(textwrap.fill(row.message, WIDTH, initial_indent="    ", subsequent_indent="    "), flush=True)
        gone = self._shown.keys() - {row.title for row in state.rows}
        for title in sorted(gone):
            print(f"{title}: gone", flush=True)
        self._shown = {row.title: row for row in state.rows if row in changed or row.title in self._shown}
        if sending is not None and sending.mails >= self._mails + _MAILS_PER_LINE:
            self._mails = sending.mails
            print(f"{clock()} {_sending_text(sending)}", flush=True)


def clock() -> str:
    """The time of day."""
    return datetime.now().astimezone().strftime("%H:%M:%S")


def mail_text(mail: Mail) -> str:
    """A mail that has arrived, without what it says and without the password it came with."""
    lines = (
        f"{clock()} a mail arrived, sent with the login {mail.login}",
        f"  From:    {mail.sender}",
        f"  To:      {', '.join(mail.recipients)}",
        f"  Subject: {mail.subject}",
    )
    return "\n".join(textwrap.shorten(line, WIDTH) if not line.startswith("  ") else line[:WIDTH] for line in lines)


def _sending_text(sending: Sending) -> str:
    refused = f"{sending.refused} refused" if sending.refused else "none refused"
    seconds = -1 if sending.renewal_in is None else sending.renewal_in.total_seconds()
    renewal = f"; next token in {seconds:.0f} s" if seconds >= 0 else ""
    return f"{sending.title}: {_count(sending.mails, 'mail')}, {_count(sending.tokens, 'token')}, {refused}{renewal}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _has_words(row: Row) -> bool:
    return row.ready == "False"


def _colour(row: Row) -> str:
    return "yellow" if row.reason == _AWAITED else _COLOURS.get(row.ready, "dim")


def _cells(row: Row) -> tuple[str, ...]:
    return row.title, *(cell or "-" for cell in (row.ready, row.reason, row.source, row.token, row.secret))


def _line(cells: tuple[str, ...]) -> str:
    return "{:<18}  {:<7}  {:<15}  {:<6}  {:<12}  {}".format(*cells)
