"""Explains a word."""

import argparse
import textwrap
from collections.abc import Iterable
from typing import Any, Final

from mailsettings.plugin.command import FAILURE, PROGRAM, SUCCESS
from mailsettings.plugin.explain.terms import TERMS, Group, Term, entry, find, near, paragraphs
from mailsettings.plugin.terminal import Style, Terminal

_NAME_COLUMNS: Final = 28


def run(options: argparse.Namespace) -> int:
    """Explains one word, or lists them all; the exit status."""
    terminal = Terminal.standard()
    if options.word is None:
        _list(terminal, options.output)
        return SUCCESS
    found = find(options.word)
    if not found:
        _complain(terminal, options.word)
        if options.output is not None:
            terminal.tell_object(_not_found(options.word), options.output)
        return FAILURE
    if options.output is not None:
        documents = [entry(term) for term in found]
        terminal.tell_object(documents[0] if len(documents) == 1 else documents, options.output)
        return SUCCESS
    for term in found:
        if term is not found[0]:
            terminal.tell()
        _tell(terminal, term)
    return SUCCESS


def _tell(terminal: Terminal, term: Term) -> None:
    head, *rest = paragraphs(term)
    terminal.tell(head, Style.STRONG)
    for paragraph in rest:
        for line in paragraph.split("\n"):
            terminal.tell(line)


def _no_such(word: str) -> str:
    return f"There is no cause, reason or type of condition {word!r}."


def _not_found(word: str) -> dict[str, Any]:
    """For a program."""
    return {"reason": "NotFound", "message": _no_such(word), "suggestions": near(word)}


def _complain(terminal: Terminal, word: str) -> None:
    terminal.say(_no_such(word), Style.BAD)
    suggestions = near(word)
    if suggestions:
        terminal.say("Did you mean:")
        for name in suggestions:
            terminal.say_line(f"    {PROGRAM} explain {name}")
    terminal.say("All that there are, and what names a failure by a server's own words:")
    terminal.say_line(f"    {PROGRAM} explain")
    terminal.say_line(f"    {PROGRAM} diagnose")


def _list(terminal: Terminal, output: str | None) -> None:
    if output is not None:
        terminal.tell_object([entry(term) for term in TERMS], output)
        return
    for group in Group:
        if group is not Group.CAUSE:
            terminal.tell()
        terminal.tell(group.heading, Style.STRONG)
        for line in _rows(term for term in TERMS if term.group is group):
            terminal.tell_line(line)


def _rows(terms: Iterable[Term]) -> Iterable[str]:
    for term in terms:
        yield from textwrap.wrap(
            term.title,
            80,
            initial_indent=f"  {term.name:<{_NAME_COLUMNS}}",
            subsequent_indent=" " * (_NAME_COLUMNS + 2),
            break_on_hyphens=False,
        )
