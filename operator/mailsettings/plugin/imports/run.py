"""Does what `import` was asked for."""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from mailsettings.api import names
from mailsettings.plugin.command import FAILURE, SUCCESS, USAGE
from mailsettings.plugin.imports.thingsboard import ForeignSettingsError, Wish, convert, parse
from mailsettings.plugin.terminal import Style, Terminal
from mailsettings.plugin.validate.check import Severity, content_of
from mailsettings.plugin.validate.source import documents, is_plain_text

DEFAULT_NAME = "mail"


def run(options: argparse.Namespace) -> int:
    """Runs the command; the exit status."""
    terminal = Terminal.standard()
    try:
        text = _read(options.file)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not written in UTF-8"
        terminal.say_line(f"{options.file}: it cannot be read: {why}", Style.BAD)
        return USAGE
    try:
        imported = convert(parse(text), _wish(options))
    except ForeignSettingsError as error:
        terminal.say_line(f"{options.file}: {error}", Style.BAD)
        return FAILURE
    manifests = to_manifests(*filter(None, (imported.secret, imported.settings)))
    terminal.tell_document(manifests)
    for note in imported.notes:
        terminal.say_line(note)
    found = [each for document in documents(manifests) for each in content_of(document).settings]
    problems = [problem for each in found for problem in each.problems]
    for problem in problems:
        is_error = problem.severity is Severity.ERROR
        text = f"{problem.field}: {'' if is_error else 'warning: '}{problem.message}"
        terminal.say_line(text, Style.BAD if is_error else Style.STRONG)
    return FAILURE if any(problem.severity is Severity.ERROR for problem in problems) else SUCCESS


def _read(name: str) -> str:
    data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    return data.decode("utf-8-sig")


def _wish(options: argparse.Namespace) -> Wish:
    return Wish(
        name=options.name or (names.DEFAULT_SETTINGS if options.cluster else DEFAULT_NAME),
        namespace=options.operator_namespace if options.cluster else options.namespace or "",
        is_cluster=options.cluster,
    )


class _Dumper(yaml.SafeDumper):
    """Writes texts so that kubectl reads the same ones.

    To PyYAML `y` and `1e3` are texts without quotes, and it writes U+0085 or U+2028 as they are, which end a line.
    """


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if is_plain_text(text) and text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def to_manifests(*manifests: dict[str, Any]) -> str:
    """The manifests as one text, which does not end in an empty line."""
    text: str = yaml.dump_all(
        manifests, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, explicit_start=False
    )
    return text.rstrip("\n")
