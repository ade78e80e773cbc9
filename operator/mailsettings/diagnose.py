"""The command `diagnose`, which the operator's image and the kubectl plugin share: failures in, causes out."""

import argparse
import io
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final, TextIO

SUMMARY: Final = "name the cause of a failure, and what to do about it"

DESCRIPTION: Final = """\
Names the cause of a failure: an SMTP reply, the text of an exception of any
program, or a token endpoint's answer. It needs no cluster.

The failure is TEXT, or what standard input holds. A stream of JSON objects, one
a line, with the fields raw, stage, provider, auth and id (all but raw may be
missing) is diagnosed line by line; so are objects over several lines, and those
of an array. One that cannot be read is told with its line on standard error,
and the rest goes on."""

EPILOG: Final = """\
examples:
  # one failure: here (in quotes, if it has blanks), or on standard input
  {program} diagnose --stage token AADSTS7000222
  {program} diagnose --stage auth --provider Office365 --auth oauth2

  # many failures, for a program
  {program} diagnose --output json --json-lines

exit status: 0 all were diagnosed; 1 some could not be read; 2 usage"""

_DETECT_LINES: Final = 20
"""So many lines are looked at to tell a stream of records from one failure."""
_MAX_TEXT: Final = 65_536
"""Of one failure, in characters; the rest is not read."""
_MAX_DOCUMENTS: Final = 16_777_216
"""Of JSON that is read as a whole, in characters."""
_COLUMNS: Final = 80
_WANTED: Final = "What is wanted is one JSON object a line, as\n`jq -c .` writes it, or an array of them."
_REMEDY: Final = f"Every other failure was diagnosed. {_WANTED}"
_OPENS_OBJECT: Final = re.compile(r"\s*\[?\s*\{")
_RAW: Final = re.compile(r'"raw"\s*:')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("text", nargs="?", metavar="TEXT", help="the failure (default: standard input)")
    parser.add_argument(
        "--stage",
        default="",
        metavar="NAME",
        help="the step that failed: dns, proxy, connect, greeting, tls, ehlo, auth, mail_from, rcpt, data, consent or "
        "token",
    )
    parser.add_argument("--provider", default="", metavar="NAME", help="Office365, Google, SendGrid or Custom")
    parser.add_argument("--auth", default="", metavar="KIND", help="basic, oauth2 or none")
    parser.add_argument("--json-lines", action="store_true", help="standard input is JSON lines (default: found out)")
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "json"),
        default="text",
        metavar="FORMAT",
        help="text or json: one object a line",
    )


def complain(options: argparse.Namespace) -> str | None:
    """What is wrong with options that are each right for themselves; None: nothing."""
    from mailsettings.core.causes.clues import LOGINS, PROVIDERS, STAGES, known_stage  # noqa: PLC0415 - for help

    if options.text is not None and options.json_lines:
        return "TEXT and --json-lines exclude each other"
    if options.stage and known_stage(options.stage) not in STAGES:
        return f"--stage is one of {', '.join(STAGES)}"
    if options.provider and options.provider.lower() not in {each.lower() for each in PROVIDERS}:
        return f"--provider is one of {', '.join(PROVIDERS)}"
    if options.auth and options.auth.lower() not in LOGINS:
        return f"--auth is one of {', '.join(LOGINS)}"
    return None


@dataclass(slots=True)
class Streams:
    """Where failures come from, and where diagnoses and complaints go."""

    source: TextIO
    result: TextIO
    complaints: TextIO


def run(options: argparse.Namespace) -> int:
    """Diagnoses; the exit status."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    try:
        return diagnose(options, Streams(sys.stdin, sys.stdout, sys.stderr))
    except BrokenPipeError:  # the reader has seen enough
        sys.stderr.close()
        return 0


def diagnose(options: argparse.Namespace, streams: Streams) -> int:
    """The same with streams that are given."""
    if options.text is not None:
        return _whole(options, options.text, streams)
    if streams.source.isatty():
        streams.complaints.write("Type or paste the failure, then press Ctrl-D in a new line:\n")
        streams.complaints.flush()
    opening = _opening(streams.source)
    if _opens_document(opening):
        return _documents(options, opening, streams)
    _pass_over(streams.source, opening)
    lines = chain(io.StringIO(opening), _lines(streams.source))
    head = _head(lines)
    if options.json_lines or _has_record(head):
        return _many(options, enumerate(chain(head, lines), start=1), streams)
    return _whole(options, "".join(_up_to(chain(head, lines), _MAX_TEXT)), streams)


def _opening(stream: TextIO) -> str:
    """All up to the end of the first line that is not blank."""
    from mailsettings.core.causes.records import MAX_LINE  # noqa: PLC0415 - the rules take long to compile

    text = ""
    while len(text) < _MAX_TEXT and not text.strip() and (line := stream.readline(MAX_LINE + 1)):
        text += line
    return text


def _opens_document(opening: str) -> bool:
    """Whether it begins an array, or an object that goes on in the next line or that another one follows at once."""
    text = opening.strip()
    if not text.startswith("{"):
        return text.startswith("[")
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return text[error.pos : error.pos + 1] in ("", "{")
    except (RecursionError, ValueError):
        return False
    return False


def _documents(options: argparse.Namespace, opening: str, streams: Streams) -> int:
    """JSON as `jq` prints it, or an array; or what only looks like that."""
    from mailsettings.core.causes.records import is_record, items_of  # noqa: PLC0415

    text = opening + streams.source.read(_MAX_DOCUMENTS)
    is_cut = len(text) >= len(opening) + _MAX_DOCUMENTS
    items = [] if is_cut else items_of(text)
    if any(is_record(item) for _, item in items):
        return _many(options, items, streams)
    if items and text.lstrip().startswith("["):
        streams.complaints.write("Nothing in this array is a failure: each needs a field raw, which holds its text.\n")
        return 1
    lines = [*io.StringIO(text)]  # `splitlines` also splits where JSON does not
    if options.json_lines or any(map(is_record, lines)):
        return _many(options, enumerate(chain(lines, _lines(streams.source)), start=1), streams)
    if not items and _OPENS_OBJECT.match(text) and _RAW.search(text):
        why = f"JSON over {_MAX_DOCUMENTS} characters is not read as a whole" if is_cut else "this JSON is broken"
        streams.complaints.write(f"No failure was diagnosed: {why}.\n{_WANTED}\n")
        return 1
    return _whole(options, text[:_MAX_TEXT], streams)


def _whole(options: argparse.Namespace, text: str, streams: Streams) -> int:
    if not text.strip():
        streams.complaints.write("There is no failure: give TEXT, or write it to standard input.\n")
        return 2
    _one(options, text, streams.result)
    return 0


def _head(lines: Iterator[str]) -> list[str]:
    """The first lines, up to one that is a record."""
    from mailsettings.core.causes.records import is_record  # noqa: PLC0415 - the rules take long to compile

    head = []
    for line in lines:
        head.append(line)
        if len(head) >= _DETECT_LINES or is_record(line):
            break
    return head


def _has_record(head: list[str]) -> bool:
    from mailsettings.core.causes.records import is_record  # noqa: PLC0415

    return bool(head) and is_record(head[-1])


def _lines(stream: TextIO) -> Iterator[str]:
    """The lines, of which one that is too long comes cut, so that no line fills the memory."""
    from mailsettings.core.causes.records import MAX_LINE  # noqa: PLC0415

    while line := stream.readline(MAX_LINE + 1):
        yield line
        _pass_over(stream, line)


def _pass_over(stream: TextIO, line: str) -> None:
    """What is left in the stream of a line that was cut."""
    from mailsettings.core.causes.records import MAX_LINE  # noqa: PLC0415

    while len(line) > MAX_LINE and not line.endswith("\n"):
        line = stream.readline(MAX_LINE + 1)


def _up_to(lines: Iterable[str], length: int) -> Iterator[str]:
    for line in lines:
        yield line[:length]
        length -= len(line)
        if length <= 0:
            return


def _many(options: argparse.Namespace, lines: Iterable[tuple[int, str]], streams: Streams) -> int:
    from mailsettings.core.causes import engine, records  # noqa: PLC0415

    status = 0
    for number, line in lines:
        if not line.strip():
            continue
        try:
            record = records.parse(line)
        except records.RecordError as error:
            streams.complaints.write(f"line {number}: {error}\n")
            status = 1
            continue
        diagnosis = engine.diagnose(record.failure)
        document = records.to_document(diagnosis, record.id)
        name = f"{document.get('id', f'line {number}')}: "
        streams.result.write(
            f"{json.dumps(document)}\n" if options.output == "json" else f"{_plain(name)}{diagnosis.cause}\n"
        )
        streams.result.flush()
    if status != 0:
        streams.complaints.write(f"{_REMEDY}\n")
    return status


def _one(options: argparse.Namespace, text: str, result: TextIO) -> None:
    from mailsettings.core.causes import engine, records  # noqa: PLC0415
    from mailsettings.core.causes.clues import Failure  # noqa: PLC0415

    failure = Failure(text, options.stage, options.provider, options.auth)
    diagnosis = engine.diagnose(failure)
    if options.output == "json":
        result.write(f"{json.dumps(records.to_document(diagnosis))}\n")
    else:
        result.write(as_text(records.diagnosis_paragraphs(diagnosis)))


def as_text(paragraphs: Iterable[str]) -> str:
    """Paragraphs for a terminal. What begins with a blank is for copying and stays on one line."""
    return "".join(f"{each if each.startswith(' ') else _wrapped(each)}\n" for each in paragraphs)


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, _COLUMNS, break_long_words=False, break_on_hyphens=False)


def _plain(text: str) -> str:
    """Without what a terminal obeys."""
    return "".join(each if each.isprintable() else " " for each in text)
