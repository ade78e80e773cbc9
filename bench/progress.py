"""Words for whoever waits, beside the results."""

import sys


def say(text: str) -> None:
    """Writes a line on standard error."""
    print(text, file=sys.stderr, flush=True)
