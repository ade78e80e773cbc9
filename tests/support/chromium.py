"""A real browser, without a window: the distribution's Chromium."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Final, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

TIMEOUT_MS: Final = 20_000
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
NARROW: Final = 320
"""CSS pixels, in which a page has to fit without scrolling sideways. Source: WCAG 2.2, 1.4.10."""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Until the block ends. Tests skip where there is none, but not in continuous integration."""
    path = shutil.which("chromium")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium has to be installed here")
        pytest.skip("there is no chromium on the PATH (Debian's package of that name)")
    with sync_playwright() as playwright:
        # Its sandbox cannot be had as root in a container; it only ever sees pages of the tests.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def assert_is_accessible(page: Page, *, but: tuple[str, ...] = ()) -> None:
    """The checks of axe-core, in both colour schemes, and what it leaves out.

    `but` are rules that are broken on purpose.
    """
    wide = page.viewport_size
    assert wide is not None
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").count() == page.locator("main").count() == page.locator("footer").count() == 1
    assert page.title() == f"{page.locator('h1').inner_text()} - mailsettings"
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["id"] not in but] == [], scheme
    page.set_viewport_size({"width": NARROW, "height": wide["height"]})
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW
    page.set_viewport_size(wide)
