"""Failures as programs hand them over, and diagnoses as they get them back: one JSON object a line."""

import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from mailsettings.core.causes.catalog import CATALOG, link
from mailsettings.core.causes.cause import Cause
from mailsettings.core.causes.clues import Failure
from mailsettings.core.causes.engine import Basis, Diagnosis

MAX_LINE: Final = 1_048_576
"""Of a line, in characters."""

MAX_ID: Final = 200
"""Of an id, in characters."""

_BLANKS: Final = re.compile(r"[ \t\r\n]*")


class RecordError(ValueError):
    """A line is no failure; the text says why and holds nothing of the line."""


@dataclass(frozen=True, slots=True)
class Record:
    """A failure, and what its sender calls it."""

    failure: Failure
    id: str | int | None = None


def parse(line: str) -> Record:
    """The failure in a line.

    Raises:
        RecordError: It is no JSON object, lacks `raw`, or a field is of another type.
    """
    value = _object(line)
    if "raw" not in value:
        raise RecordError("there is no field raw, which holds the failure's text")
    fields = {name: _text(value, name) for name in ("raw", "stage", "provider", "auth")}
    return Record(Failure(**fields), _id(value.get("id")))


def is_record(line: str) -> bool:
    """Whether a line is one, so that a stream can be told from a failure that happens to be JSON."""
    try:
        parse(line)
    except RecordError:
        return False
    return True


def items_of(text: str) -> list[tuple[int, str]]:
    """The values of a text that is JSON as a whole, each on one line, with the number of the line in which it begins.

    Values may follow each other; those of an array count each for itself. Empty: the text is no JSON that can be read.
    """
    try:
        return [*_items(text)]
    except (ValueError, IndexError, RecursionError):
        return []


def _items(text: str) -> Iterator[tuple[int, str]]:
    """The same.

    Raises:
        ValueError: It is no JSON.
        IndexError: It ends within an array.
    """
    decoder = json.JSONDecoder()
    at, line, counted, is_in_array = _after_blanks(text, 0), 1, 0, False
    while at < len(text) or is_in_array:
        if text[at] == ("]" if is_in_array else "["):
            is_in_array = not is_in_array
            at = _after_blanks(text, at + 1)
            continue
        value, end = decoder.raw_decode(text, at)
        line, counted = line + text.count("\n", counted, at), at
        yield line, json.dumps(value, ensure_ascii=False)
        at = _after_blanks(text, end)
        if is_in_array and text[at] != "]":
            if text[at] != ",":
                raise ValueError("an array's values are separated by commas")
            at = _after_blanks(text, at + 1)


def _after_blanks(text: str, at: int) -> int:
    return _BLANKS.match(text, at).end()  # type: ignore[union-attr]  # it matches everywhere


def _object(line: str) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise RecordError(f"it is longer than {MAX_LINE} characters")
    try:
        value = json.loads(line.rstrip().removesuffix(","))  # as in an array that is written a line each
    except RecursionError:
        raise RecordError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise RecordError(f"it is no JSON: {error.msg} at column {error.colno}") from None
    except ValueError:
        raise RecordError("it is no JSON that can be read") from None
    if not isinstance(value, dict):
        raise RecordError("it is no JSON object")
    return value


def _text(value: dict[str, Any], name: str) -> str:
    text = value.get(name)
    if text is None and name != "raw":
        return ""
    if not isinstance(text, str):
        raise RecordError(f"the field {name} is no string")
    return text


def _id(value: object) -> str | int | None:
    if isinstance(value, str):
        return value[:MAX_ID]
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def to_document(diagnosis: Diagnosis, record_id: str | int | None = None) -> dict[str, Any]:
    """A diagnosis for a program. Holds nothing of the failure's text."""
    return {
        **({} if record_id is None else {"id": record_id}),
        **to_entry(diagnosis.cause),
        "basis": diagnosis.basis.value,
        "fallback": diagnosis.basis is not Basis.RULE,
        "source": diagnosis.source,
    }


def to_entry(cause: Cause) -> dict[str, Any]:
    """A cause for a program."""
    entry = CATALOG[cause]
    return {
        "cause": cause.value,
        "title": entry.title,
        "meaning": cause.meaning,
        "remedy": entry.remedy,
        "commands": list(entry.commands),
        "retry": entry.retry.value,
        "mover": entry.mover.value,
        "docs": link(cause),
    }


def explanation(cause: Cause) -> Iterator[str]:
    """The paragraphs that tell a person of a cause. A command begins with four blanks."""
    entry = CATALOG[cause]
    yield f"{cause}: {entry.title}"
    yield cause.meaning
    yield f"What to do: {entry.remedy.replace('`', '')}"
    yield from (textwrap.indent(command, "    ") for command in entry.commands)
    yield f"Whose move: the {entry.mover}'s. Worth trying again: {entry.retry}."
    yield f"More: {link(cause)}"


FALLBACKS: Final = {
    Basis.ENHANCED_CODE: "No rule knows these words: this is what the enhanced status code means in general.",
    Basis.REPLY_CODE: "No rule knows these words: this is what the reply code means in general.",
    Basis.STAGE: "Nothing in this text is known: this is what most often goes wrong at that step.",
}


def diagnosis_paragraphs(diagnosis: Diagnosis) -> Iterable[str]:
    """The same for one diagnosis, which says how sure it is."""
    yield from explanation(diagnosis.cause)
    if diagnosis.basis in FALLBACKS:
        yield FALLBACKS[diagnosis.basis]
