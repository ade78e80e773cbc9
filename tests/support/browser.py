"""A browser without a screen: it keeps cookies, follows redirects one at a time, and presses buttons."""

import html
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin

import requests

TIMEOUT_S: Final = 10


@dataclass(frozen=True)
class Page:
    """What is on the screen."""

    url: str
    status: int
    text: str
    headers: dict[str, str]

    @property
    def location(self) -> str:
        """Where a redirect leads to."""
        return urljoin(self.url, self.headers["Location"])

    @property
    def title(self) -> str:
        found = re.search("<h1>(.*?)</h1>", self.text)
        assert found is not None, self.text
        return html.unescape(found[1])

    @property
    def said(self) -> str:
        """The text, without tags."""
        return " ".join(html.unescape(re.sub("<style>.*?</style>|<[^>]*>", " ", self.text)).split())


class Browser:
    """As browsers do, it counts a loopback address as safe: it sends cookies there that are marked `Secure`."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}
        """Of the one host that is visited; ports make no difference (RFC 6265 §8.5)."""
        self.history: list[Page] = []
        """Everything that has been on the screen."""

    def open(self, url: str) -> Page:
        return self._sent("GET", url)

    def post(self, url: str, **form: str) -> Page:
        return self._sent("POST", url, form)

    def press(self, page: Page) -> Page:
        """Sends the form of a page with what is in it."""
        fields = re.findall('<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
        return self.post(page.url, **{name: html.unescape(value) for name, value in fields})

    def _sent(self, method: str, url: str, form: dict[str, str] | None = None) -> Page:
        with requests.Session() as session:
            session.trust_env = False
            response = session.request(
                method, url, data=form, cookies=self.cookies, allow_redirects=False, timeout=TIMEOUT_S
            )
        self.cookies |= {cookie.name: cookie.value or "" for cookie in response.cookies}
        page = Page(response.url, response.status_code, response.text, {**response.headers})
        self.history.append(page)
        return page
