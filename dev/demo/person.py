"""A person with a browser who consents, without the person and without the browser: real HTTP, page by page."""

import ssl
import time
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPCookieProcessor, HTTPSHandler, OpenerDirector, ProxyHandler, build_opener

_TIMEOUT_S: Final = 10.0
_REFRESHES: Final = 20
_REFRESH_INTERVAL_S: Final = 0.5


class ConsentError(Exception):
    """A page does not lead on; the message says which one."""


@dataclass
class _Page(HTMLParser):
    """A page as far as it matters: its heading, its first form, and whether it loads itself again."""

    url: str
    title: str = ""
    has_form: bool = False
    action: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    loads_again: bool = False
    _in_heading: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "h1":
            self._in_heading = True
        elif tag == "form":
            self.has_form, self.action = True, values.get("action", "")
        elif tag == "input" and "name" in values:
            self.fields[values["name"]] = values.get("value", "")
        elif tag == "meta" and values.get("http-equiv") == "refresh":
            self.loads_again = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "h1":
            self._in_heading = False

    def handle_data(self, data: str) -> None:
        if self._in_heading:
            self.title += data


class Person:
    """Keeps cookies and follows redirects, as a browser does."""

    def __init__(self, ca_certificate: str) -> None:
        """Trusts the identity provider's authority, in PEM, beside nobody."""
        # As browsers do, it counts an address of this machine as safe and sends cookies there that are `Secure`.
        policy = DefaultCookiePolicy(secure_protocols=("https", "http"))
        self._browser: OpenerDirector = build_opener(
            ProxyHandler({}),
            HTTPCookieProcessor(CookieJar(policy)),
            HTTPSHandler(context=ssl.create_default_context(cadata=ca_certificate)),
        )

    def consent(self, authorize_url: str, username: str, password: str) -> str:
        """Opens the address of settings, presses the button, logs in at the provider and allows what is asked for.

        Returns:
            The heading of the last page.

        Raises:
            ConsentError: A page could not be loaded, or has no form where one belongs.
        """
        try:
            login = self._pressed(self._opened(authorize_url))
            question = self._pressed(login, username=username, password=password)
            return self._last(self._pressed(question, decision="allow")).title
        except OSError as error:  # those of urllib are
            raise ConsentError(f"A page of the consent cannot be loaded: {error}") from error

    def _last(self, page: _Page) -> _Page:
        """What the page says when it has stopped to load itself again."""
        for _ in range(_REFRESHES):
            if not page.loads_again:
                return page
            time.sleep(_REFRESH_INTERVAL_S)
            page = self._opened(page.url)
        raise ConsentError(f'The page "{page.title}" has not ended.')

    def _pressed(self, page: _Page, **filled: str) -> _Page:
        if not page.has_form:
            raise ConsentError(f'The page "{page.title}" does not lead on.')
        return self._opened(urljoin(page.url, page.action), page.fields | filled)

    def _opened(self, url: str, form: dict[str, str] | None = None) -> _Page:
        data = None if form is None else urlencode(form).encode()
        with self._browser.open(url, data, timeout=_TIMEOUT_S) as response:
            page = _Page(response.url)
            page.feed(response.read().decode())
        return page
