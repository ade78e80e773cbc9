"""Logging: how the operator's log lines look."""

import logging
import sys

LOGGER = logging.getLogger("mailsettings")


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
