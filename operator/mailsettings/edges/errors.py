"""What may be said of an error."""

import traceback
from pathlib import Path

from mailsettings.edges.kubernetes import ApiError


def described(error: BaseException) -> str:
    """An error for the log: its type and place, without its text, which may hold what a server or a Secret said."""
    if isinstance(error, ApiError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
