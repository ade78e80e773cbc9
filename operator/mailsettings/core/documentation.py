"""Where people read the documentation: one address of the process, which begins every link.

It is the one thing of the core that is set at the start: links are parts of texts that are made in many places, and
mean the same for as long as the process lives.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

VARIABLE: Final = "MAILSETTINGS_DOCS_URL"
DEFAULT_URL: Final = "docs"
"""The folder in the repository: what is said where nothing is published."""
MAX_URL_LENGTH: Final = 200
"""In characters; links are parts of conditions and events."""


@dataclass(slots=True)
class Documentation:
    """The pages."""

    url: str = DEFAULT_URL
    """What a page's name follows after a slash."""

    def link(self, page: str, anchor: str) -> str:
        """Where a section is read."""
        return f"{self.url}/{page}#{anchor}"

    def resolved(self, link: str) -> str:
        """A link that another process made, which may not know where the pages are published."""
        folder, slash, rest = link.partition("/")
        return f"{self.url}/{rest}" if slash and folder == DEFAULT_URL else link


DOCUMENTATION: Final = Documentation()


def documentation_url(text: str) -> str:
    """An address as configured, without the slash at its end.

    Raises:
        ValueError: Pages cannot be below it; the message says what is wanted.
    """
    if text.rstrip("/") == DEFAULT_URL:
        return DEFAULT_URL
    parts = urlsplit(text)
    is_address = parts.scheme in ("https", "http") and parts.hostname and "@" not in parts.netloc
    if not is_address or re.search(r"[^!-~]|[?#\"'<>`]", text) or len(text) > MAX_URL_LENGTH:
        raise ValueError(
            "must be an http or https URL without a query, such as https://docs.example.com/mailsettings, "
            f"of at most {MAX_URL_LENGTH} characters"
        )
    return text.rstrip("/")


def publish(environment: Mapping[str, str]) -> None:
    """Takes the address from an environment, for programs that have no other configuration.

    Raises:
        ValueError: It cannot be used; the message names the variable.
    """
    given = environment.get(VARIABLE)
    if not given:
        return
    try:
        DOCUMENTATION.url = documentation_url(given)
    except ValueError as error:
        raise ValueError(f"{VARIABLE}: {error}") from None
