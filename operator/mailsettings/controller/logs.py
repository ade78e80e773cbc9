"""Logging: what may be said of an error, and how the operator's log lines look."""

import logging
import sys
import traceback
from pathlib import Path

from mailsettings.edges.kubernetes import ApiError

LOGGER = logging.getLogger("mailsettings")


def described(error: BaseException) -> str:
    """An error for the log: its type and place, without its text, which may hold what a server or a Secret said."""
    if isinstance(error, ApiError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def causes(error: Exception) -> list[Exception]:
    """The errors that a task group has collected, or the error itself."""
    if not isinstance(error, ExceptionGroup):
        return [error]
    return [cause for member in error.exceptions for cause in causes(member)]


def set_up_logging(level: str) -> None:
    """One line for each record on standard error; libraries only from WARNING on, whatever the level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    LOGGER.setLevel(level)
