"""What can be typed next: the command lines of the commands, read off their own definitions."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from mailsettings.plugin.command import PROGRAM, SUCCESS, Command

Word = tuple[str, str]
"""A word and what it means, which may be empty."""

Live = Callable[[str, argparse.Namespace], Iterable[str]]
"""Gives the `names`, `namespaces`, `contexts` or `words` that there are, as the options so far say where."""


class Directive(IntEnum):
    """What the shell does besides. Source: cobra, ShellCompDirective."""

    FILES = 0
    """It completes names of files."""
    NO_FILES = 4


@dataclass(frozen=True, slots=True)
class Completion:
    """What can come next."""

    words: list[Word]
    directive: Directive = Directive.NO_FILES

    def text(self) -> str:
        """As kubectl takes it."""
        lines = [f"{word}\t{meaning}" if meaning else word for word, meaning in self.words]
        return "".join(f"{line}\n" for line in [*lines, f":{self.directive.value}"])


_FILES: Final = ("filename", "kubeconfig", "file")
_LIVE: Final = {"namespace": "namespaces", "operator_namespace": "namespaces", "context": "contexts", "word": "words"}


class _Recorder(argparse.ArgumentParser):
    """Knows the arguments that were added to it."""

    def __init__(self) -> None:
        self.actions: list[argparse.Action] = []
        super().__init__(prog=PROGRAM)

    def _add_action(self, action: argparse.Action) -> Any:  # noqa: ANN401 - the base class's
        self.actions.append(action)
        return super()._add_action(action)


@dataclass(slots=True)
class _Typed:
    """What the words before the last one say."""

    options: argparse.Namespace
    pending: argparse.Action | None = None
    """The option whose value comes next."""
    positionals: int = 0
    used: set[str] = field(default_factory=set)


def complete(commands: Sequence[Command], typed: Sequence[str], live: Live) -> Completion:
    """What can come next.

    Args:
        commands: All that there are.
        typed: The words after the program's name; the last one is being typed, and may be empty.
        live: Knows the cluster.
    """
    *before, current = typed or [""]
    if not before:
        known = [(command.name, command.summary) for command in commands]
        return _matching([*known, ("--help", "show what there is")], current)
    command = next((command for command in commands if command.name == before[0]), None)
    if command is None:
        return Completion([])
    recorder = _Recorder()
    command.add_arguments(recorder)
    return _complete_argument(recorder.actions, _read(recorder.actions, before[1:]), current, live)


def _complete_argument(actions: list[argparse.Action], state: _Typed, current: str, live: Live) -> Completion:
    if state.pending is not None:
        return _values(state.pending, current, state.options, live)
    name, equals, value = current.partition("=")
    if equals and (action := _option(actions, name)) is not None:
        found = _values(action, value, state.options, live)
        return Completion([(f"{name}={word}", meaning) for word, meaning in found.words], found.directive)
    if current.startswith("-"):
        return _matching(_options(actions, state.used), current)
    positionals = [action for action in actions if not action.option_strings]
    if state.positionals < len(positionals):
        return _values(positionals[state.positionals], current, state.options, live)
    return Completion([])


def _read(actions: list[argparse.Action], words: Sequence[str]) -> _Typed:
    state = _Typed(argparse.Namespace(context=None, kubeconfig=None, namespace=None, cluster=False))
    for word in words:
        if state.pending is not None:
            setattr(state.options, state.pending.dest, word)
            state.pending = None
            continue
        name, equals, value = word.partition("=")
        action = _option(actions, name)
        if action is None:
            state.positionals += not word.startswith("-")
            continue
        state.used.add(action.dest)
        if action.nargs == 0:
            setattr(state.options, action.dest, True)
        elif equals:
            setattr(state.options, action.dest, value)
        else:
            state.pending = action
    return state


def _option(actions: list[argparse.Action], name: str) -> argparse.Action | None:
    return next((action for action in actions if name in action.option_strings), None)


def _options(actions: list[argparse.Action], used: set[str]) -> list[Word]:
    """Each by its longest name."""
    fresh = [each for each in actions if each.option_strings and (each.dest not in used or each.dest == "filename")]
    return [(max(each.option_strings, key=len), _meaning(each)) for each in fresh]


def _meaning(action: argparse.Action) -> str:
    return (action.help or "").partition(" (default")[0]


def _values(action: argparse.Action, current: str, options: argparse.Namespace, live: Live) -> Completion:
    if action.choices is not None:
        return _matching([(str(choice), "") for choice in action.choices], current)
    if action.dest in _FILES:
        return Completion([], Directive.FILES)
    what = "names" if action.dest == "name" and not action.option_strings else _LIVE.get(action.dest)
    return _matching([(word, "") for word in live(what, options)], current) if what else Completion([])


def _matching(words: Iterable[Word], current: str) -> Completion:
    return Completion([word for word in words if word[0].startswith(current)])


def main(commands: Sequence[Command], typed: Sequence[str]) -> int:
    """Answers `__complete`; whatever goes wrong in the cluster, there is just nothing to offer."""
    from mailsettings.plugin.completion.live import there_are  # noqa: PLC0415 - only where it is needed

    sys.stdout.write(complete(commands, typed, there_are).text())
    return SUCCESS
