"""Regular expressions that are compiled when they are first needed. Pure.

Tables of rules hold hundreds of them: to compile them all takes a tenth of the operator's start, and most of its lives
pass without a failure that has to be understood.
"""

import re
from functools import cached_property


class Expression:
    """As `re.Pattern`, as far as it is needed."""

    def __init__(self, pattern: str, flags: re.RegexFlag = re.NOFLAG) -> None:
        """Nothing is compiled yet.

        Args:
            pattern: As `re.compile` reads it.
            flags: Likewise.
        """
        self.pattern = pattern
        self._flags = flags

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern, self._flags)

    def search(self, text: str) -> re.Match[str] | None:
        """Where it first matches."""
        return self._compiled.search(text)

    def fullmatch(self, text: str) -> re.Match[str] | None:
        """Whether it matches the whole text."""
        return self._compiled.fullmatch(text)
