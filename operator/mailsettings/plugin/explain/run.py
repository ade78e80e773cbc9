"""Explains a cause."""

import argparse
import json
import sys
from typing import TextIO

from mailsettings.core.causes.catalog import CATALOG
from mailsettings.core.causes.cause import Cause
from mailsettings.core.causes.records import explanation, to_entry
from mailsettings.diagnose import as_text
from mailsettings.plugin.command import FAILURE, SUCCESS


def run(options: argparse.Namespace) -> int:
    """Explains one cause, or lists them all; the exit status."""
    return explain(options, sys.stdout, sys.stderr)


def explain(options: argparse.Namespace, result: TextIO, complaints: TextIO) -> int:
    """The same with streams that are given."""
    if options.cause is None:
        result.write(_list(options.output))
        return SUCCESS
    cause = _find(options.cause)
    if cause is None:
        complaints.write("There is no such cause. Without an argument, explain lists them.\n")
        return FAILURE
    result.write(f"{json.dumps(to_entry(cause))}\n" if options.output == "json" else as_text(explanation(cause)))
    return SUCCESS


def _find(name: str) -> Cause | None:
    """Whatever the case of its letters."""
    return next((cause for cause in Cause if cause.lower() == name.lower()), None)


def _list(output: str | None) -> str:
    if output == "json":
        return f"{json.dumps([to_entry(cause) for cause in Cause])}\n"
    width = max(map(len, Cause))
    return "".join(f"{cause:{width}}  {CATALOG[cause].title}\n" for cause in Cause)
