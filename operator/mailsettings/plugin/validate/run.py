"""Does what `validate` was asked for."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from mailsettings.plugin.command import FAILURE, SUCCESS, USAGE
from mailsettings.plugin.terminal import Style, Terminal
from mailsettings.plugin.validate.check import Problem, Settings, Severity, check_references, content_of
from mailsettings.plugin.validate.objects import Found, objects_of
from mailsettings.plugin.validate.source import SourceError, documents

STDIN: Final = "-"
SUFFIXES: Final = (".json", ".yaml", ".yml")

_STYLES: Final = {Severity.ERROR: Style.BAD, Severity.WARNING: Style.STRONG}


@dataclass(slots=True)
class _File:
    name: str
    settings: list[Settings] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """Without those of the settings."""
    others: int = 0
    objects: list[Found] = field(default_factory=list)
    """Secrets and ConfigMaps among them."""

    def all_problems(self) -> list[Problem]:
        found = [*self.problems, *(problem for settings in self.settings for problem in settings.problems)]
        return sorted(found, key=lambda problem: problem.line)


def run(options: argparse.Namespace) -> int:
    """Runs the command; the exit status."""
    terminal, files, unreadable = Terminal.standard(), [], False
    for name in options.filename:
        try:
            files += [_read(path) for path in _paths(name, recursive=options.recursive)]
        except OSError as error:
            terminal.say_line(f"{error.filename or name}: it cannot be read: {error.strerror or error}", Style.BAD)
            unreadable = True
    check_references(settings for file in files for settings in file.settings)
    for file in files:
        for problem in file.all_problems():
            _tell(terminal, file.name, problem, as_json=options.output == "json")
    terminal.say(_summary(files))
    has_errors = any(problem.severity is Severity.ERROR for file in files for problem in file.all_problems())
    status = USAGE if unreadable else FAILURE if has_errors else SUCCESS
    if options.probe and status == SUCCESS:
        return _probe(options, terminal, files)
    return status


def _probe(options: argparse.Namespace, terminal: Terminal, files: Iterable[_File]) -> int:
    from mailsettings.plugin.validate.probe import Trial, run  # noqa: PLC0415 - without it no network is needed

    files = list(files)
    trials = [Trial(file.name, settings) for file in files for settings in file.settings]
    return run(options, terminal, trials, [found for file in files for found in file.objects])


def _paths(name: str, *, recursive: bool) -> Iterator[str]:
    """The files that an argument stands for.

    Raises:
        OSError: There is no such file.
    """
    folder = Path(name)
    if name == STDIN or not folder.is_dir():
        yield name
        return
    found = sorted(folder.rglob("*") if recursive else folder.iterdir())
    yield from (str(path) for path in found if path.suffix in SUFFIXES and path.is_file())


def _read(name: str) -> _File:
    """What is in a file.

    Raises:
        OSError: It cannot be read.
    """
    file = _File("stdin" if name == STDIN else name)
    content = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    try:
        for document in documents(content.decode("utf-8-sig")):
            found = content_of(document)
            file.settings += found.settings
            file.problems += found.problems
            file.others += found.others
            file.objects += objects_of(document)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        file.problems.append(Problem(line, "", "", Severity.ERROR, "this is no YAML: it is not written in UTF-8"))
    except SourceError as error:
        file.problems.append(Problem(error.line, "", "", Severity.ERROR, str(error)))
    return file


def _tell(terminal: Terminal, name: str, problem: Problem, *, as_json: bool) -> None:
    if as_json:
        terminal.tell_document(json.dumps({"file": name, **asdict(problem)}))
        return
    what = [f"{name}:{problem.line}", problem.field]
    severity = [str(problem.severity)] if problem.severity is Severity.WARNING else []
    terminal.tell_line(": ".join(filter(None, [*what, *severity, problem.message])), _STYLES[problem.severity])


def _summary(files: Iterable[_File]) -> str:
    settings = [settings for file in files for settings in file.settings]
    others = sum(file.others for file in files)
    valid = sum(each.spec is not None and not _has_errors(each) for each in settings)
    parts = [f"{valid} of {_counted(len(settings), 'settings object')} valid" if settings else "no settings found"]
    if others:
        parts.append(f"{_counted(others, 'object')} of other kinds skipped")
    return f"{'; '.join(parts)}."


def _has_errors(settings: Settings) -> bool:
    return any(problem.severity is Severity.ERROR for problem in settings.problems)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
