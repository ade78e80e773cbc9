"""Every page of the consent endpoint in a real browser: accessible, and nothing in it that was not meant."""

from collections.abc import Iterator
from typing import Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from dev.loop_thread import LoopThread
from mailsettings.core.oauth2.consent import ConsentResult
from mailsettings.edges.consent_server import app
from mailsettings.edges.consent_server.app import Problem, ProblemError
from mailsettings.edges.consent_server.pages import Settings, waiting_page
from tests.support.chromium import assert_is_accessible
from tests.support.consent_desk import FLOW, UID, StubDesk, consent_endpoint
from tests.support.listening import LOOPBACK

RESULT: Final = f"/oauth2/result/{FLOW}"
START: Final = f"/oauth2/start/{UID}"
HOSTILE: Final = (
    "<img src=x onerror=document.title=1><script>document.title=1</script><style>*{display:none}</style>\"'&"
)
INJECTED: Final = (
    "<script>document.title='ran'</script><style>h1{display:none}</style><p style='color:red'>x</p>"
    "<img src='/x' onerror='document.title=1'>"
)
LONG: Final = "a-long-word-without-end-" * 40


@pytest.fixture
def desk() -> StubDesk:
    return StubDesk()


@pytest.fixture
def address(desk: StubDesk) -> Iterator[str]:
    loop_thread = LoopThread("consent pages")
    loop_thread.start()
    with loop_thread.entered(consent_endpoint(desk)) as port:
        yield f"http://{LOOPBACK}:{port}"
    loop_thread.stop()


@pytest.fixture
def context(real_browser: Browser) -> Iterator[BrowserContext]:
    context = real_browser.new_context()
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def violations(page: Page) -> list[str]:
    """What the browser says of the Content-Security-Policy, from now on."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if "Content Security" in message.text else None)
    return said


@pytest.mark.parametrize("problem", Problem)
def test_page_of_a_problem(desk: StubDesk, address: str, page: Page, problem: Problem) -> None:
    said = violations(page)
    desk.faults["settings"] = ProblemError(problem)
    response = page.goto(address + START)
    title, message, status = problem.value
    assert response is not None
    assert response.status == status
    assert page.get_by_role("heading", level=1).inner_text() == title
    assert page.get_by_role("alert").inner_text() == message
    assert_is_accessible(page)
    assert said == []


@pytest.mark.parametrize("long", [False, True])
def test_start_page(desk: StubDesk, address: str, page: Page, long: bool) -> None:
    said = violations(page)
    if long:
        desk.shown = Settings("MailServerSettings", "n" * 63, "m" * 63, LONG, LONG, LONG, LONG, (LONG, LONG))
    page.goto(address + START)
    assert page.get_by_role("definition").nth(0).inner_text() == desk.shown.account
    assert page.get_by_role("button").inner_text() == f"Continue to {desk.shown.host}"
    assert_is_accessible(page)
    assert said == []


@pytest.mark.parametrize("authorized", [True, False])
def test_result_page(desk: StubDesk, address: str, page: Page, authorized: bool) -> None:
    desk.outcome = ConsentResult(authorized, "WrongAccount", f"Somebody else. {LONG}")
    page.goto(address + RESULT)
    assert desk.outcome.message in page.get_by_role("status").inner_text()
    assert_is_accessible(page)


def test_waiting_page(desk: StubDesk, address: str, context: BrowserContext, page: Page) -> None:
    page.goto(address + RESULT)
    assert page.get_by_role("link").inner_text() == "Look again"
    desk.outcome = ConsentResult(True, "TokenValid", "Done.")
    page.get_by_role("status").get_by_text("Done.").wait_for()


def test_waiting_page_is_accessible(address: str, context: BrowserContext, page: Page) -> None:
    """It reloads by itself, as a page without scripts has to; no text is lost by that, and no time runs out."""
    text = waiting_page()
    context.route("**/still", lambda route: route.fulfill(body=text.replace('content="2"', 'content="60"')))
    page.goto(f"{address}/still")
    assert_is_accessible(page, but=("meta-refresh",))


def test_page_that_does_not_exist(address: str, page: Page) -> None:
    page.goto(f"{address}/elsewhere")
    assert_is_accessible(page)


@pytest.mark.parametrize("method", ["settings", "result"])
def test_text_stays_text(desk: StubDesk, address: str, page: Page, method: str) -> None:
    said = violations(page)
    desk.shown = Settings(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, (HOSTILE,))
    desk.outcome = ConsentResult(False, HOSTILE, HOSTILE)
    page.goto(address + {"settings": START, "result": RESULT}[method])
    assert page.locator("main").inner_text().count(HOSTILE) >= 2
    assert page.locator("img, script").count() == 0
    assert page.locator("style").count() == 1
    assert said == []


def test_what_was_injected_would_be_blocked(address: str, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second line, should the escaping ever be forgotten."""
    monkeypatch.setattr("mailsettings.edges.consent_server.pages.escape", lambda text: text)
    monkeypatch.setitem(app._REFUSALS, 404, ("Injected", INJECTED))
    said = violations(page)
    page.goto(f"{address}/elsewhere")
    assert page.title() == "Injected - mailsettings"
    assert page.get_by_role("heading", level=1).is_visible()
    assert {line.split(" violates")[0].split(" '")[0] for line in said} == {
        "Executing inline script",
        "Executing inline event handler",
        "Applying inline style",
        "Loading the image",
    }, said
