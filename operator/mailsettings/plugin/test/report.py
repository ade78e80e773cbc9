"""Prints how a test has ended: one in the cluster, or one on the person's machine."""

from collections.abc import Mapping
from typing import Any

from mailsettings.plugin.advice import Known
from mailsettings.plugin.terminal import Style, Terminal
from mailsettings.plugin.test.outcome import said_of, stage_lines, state_of, summary_lines, title_of

Json = Mapping[str, Any]


def show_stages(terminal: Terminal, test: Json) -> None:
    """What was tested, and the stages with their times."""
    title = title_of(test)
    if title:
        terminal.tell_line(title, Style.STRONG)
    for line in stage_lines(test):
        terminal.tell_line(line)


def show_rest(terminal: Terminal, test: Json, *, whole: bool) -> None:
    """What the server has shown of itself, and all that was said where that is wanted."""
    for line in summary_lines(test):
        terminal.tell_line(line)
    if whole:
        for line in (test.get("status") or {}).get("dialogue") or ():
            terminal.tell_line(f"  {line}")


def tell_verdict(terminal: Terminal, test: Json, known: Known) -> None:
    """How it has ended: the result, whichever it is."""
    style = Style.GOOD if state_of(test).succeeded else Style.BAD
    for text in said_of(test, known):
        terminal.tell(text, None if text.startswith(" ") else style)
