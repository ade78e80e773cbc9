"""Consent end to end in a real browser, against the provider's real login form."""

import asyncio
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from tests.support.chromium import TIMEOUT_MS, assert_is_accessible
from tests.support.consent import KIND, OTHER
from tests.support.consent_pages import PASSWORD
from tests.support.identity_provider import ACCOUNT, Behaviour, IdentityProvider
from tests.support.kube import Json, Kube, condition, reason_of

COOKIE: Final = "__Host-mailsettings-consent"


@pytest.fixture
def new_context(real_browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """People's browsers. They trust the provider's certificate."""
    opened = []

    def new(**options: bool) -> BrowserContext:
        context = real_browser.new_context(ignore_https_errors=True, **options)  # type: ignore[arg-type]
        context.set_default_timeout(TIMEOUT_MS)
        opened.append(context)
        return context

    yield new
    for context in opened:
        context.close()


@pytest.fixture
def context(new_context: Callable[..., BrowserContext]) -> BrowserContext:
    return new_context()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture
def start_url(consent_settings: Json) -> str:
    return str(consent_settings["status"]["oauth2"]["authorizeURL"])


def heading(page: Page, text: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(text, timeout=TIMEOUT_MS)


def begin(page: Page, start_url: str) -> None:
    """Opens the page and presses the button."""
    page.goto(start_url)
    page.get_by_role("button").click()


def log_in(page: Page, account: str = ACCOUNT, decision: str = "Allow") -> None:
    """Fills in the provider's form and decides."""
    page.get_by_label("Username").fill(account)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name=decision).click()


def assert_nothing_in_the_address(page: Page, external_url: str) -> None:
    parts = urlsplit(page.url)
    assert f"{parts.scheme}://{parts.netloc}" == external_url
    assert parts.path.startswith("/oauth2/result/")
    assert parts.query == parts.fragment == ""


# --- it works ---


def test_whole_consent_by_keyboard(
    kube: Kube,
    namespace: str,
    consent_provider: IdentityProvider,
    start_url: str,
    external_url: str,
    context: BrowserContext,
    page: Page,
) -> None:
    requests: list[Request] = []
    context.on("request", lambda request: requests.append(request))  # noqa: PLW0108 - playwright marks it
    console: list[str] = []
    context.on("console", lambda message: console.append(message.text))
    released = threading.Event()
    consent_provider.answers.append(when_released(consent_provider, released))

    page.goto(start_url)
    heading(page, "Let a cluster send mail")
    assert_is_accessible(page)
    page.keyboard.press("Tab")
    expect(page.get_by_role("button")).to_be_focused()
    page.keyboard.press("Enter")

    heading(page, "Sign in")
    expect(page.get_by_label("Username")).to_have_value(ACCOUNT)
    for key in ("Tab", "Tab"):
        page.keyboard.press(key)
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    heading(page, "Permissions requested")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    heading(page, "Fetching the tokens")
    released.set()
    heading(page, "Mail can be sent")
    assert ACCOUNT in page.get_by_role("status").inner_text()
    assert_is_accessible(page)
    assert_nothing_in_the_address(page, external_url)
    kube.wait_ready("mail", namespace)

    hosts = {urlsplit(request.url).netloc for request in requests}
    assert hosts == {urlsplit(external_url).netloc, f"127.0.0.1:{consent_provider.port}"}
    ours = [request for request in requests if request.url.startswith(external_url)]
    assert {request.resource_type for request in ours} == {"document"}
    assert [line for line in console if "Content Security" in line] == []
    [cookie] = [each for each in context.cookies() if each["name"] == COOKIE]
    assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, True, "Lax", "/")


def when_released(provider: IdentityProvider, released: threading.Event) -> Behaviour:
    """Answers a token request as always, when the test allows it, or else shortly before the operator gives up."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.to_thread(released.wait, 2.5)
        form = {name: str(value) for name, value in (await request.post()).items()}
        return web.json_response(provider._grant(request, form))

    return answer


def test_without_scripts(
    kube: Kube, namespace: str, start_url: str, new_context: Callable[..., BrowserContext]
) -> None:
    page = new_context(java_script_enabled=False).new_page()
    begin(page, start_url)
    log_in(page)
    heading(page, "Mail can be sent")
    kube.wait_ready("mail", namespace)


def test_two_tabs_at_once(
    kube: Kube, namespace: str, start_url: str, context: BrowserContext, consent_provider: IdentityProvider
) -> None:
    """Neither takes the other's cookie or state away."""
    one, two = context.new_page(), context.new_page()
    one.goto(start_url)
    two.goto(start_url)
    one.get_by_role("button").click()
    two.get_by_role("button").click()
    for page in (two, one):
        log_in(page)
        heading(page, "Mail can be sent")
    assert len(consent_provider.token_requests) == 2
    kube.wait_ready("mail", namespace)


def test_back_and_reload(
    kube: Kube,
    namespace: str,
    start_url: str,
    external_url: str,
    context: BrowserContext,
    page: Page,
    consent_provider: IdentityProvider,
) -> None:
    callbacks: list[str] = []
    context.on("request", lambda asked: callbacks.append(asked.url) if "/oauth2/callback/" in asked.url else None)
    begin(page, start_url)
    log_in(page)
    heading(page, "Mail can be sent")
    page.reload()
    heading(page, "Mail can be sent")
    page.goto(start_url)
    page.go_back()
    heading(page, "Mail can be sent")
    page.goto(callbacks[0])
    heading(page, "Mail can be sent")
    page.reload()
    heading(page, "Mail can be sent")
    assert_nothing_in_the_address(page, external_url)
    assert len(consent_provider.token_requests) == 1
    kube.wait_ready("mail", namespace)
    page.goto(start_url)
    page.get_by_role("button").click()
    heading(page, "Sign in")
    page.go_back()
    page.get_by_role("button").click()
    heading(page, "Sign in")


# --- it does not, and says so ---


def test_denial(kube: Kube, namespace: str, start_url: str, external_url: str, page: Page) -> None:
    begin(page, start_url)
    log_in(page, decision="Decline")
    heading(page, "No consent")
    denied = kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentDenied")
    assert (condition(denied, "Authorized") or {})["message"] in page.get_by_role("status").inner_text()
    assert_is_accessible(page)
    assert_nothing_in_the_address(page, external_url)


def test_wrong_account(kube: Kube, namespace: str, start_url: str, page: Page) -> None:
    begin(page, start_url)
    log_in(page, OTHER)
    heading(page, "No consent")
    assert OTHER in page.get_by_role("status").inner_text()
    kube.wait_condition("mail", namespace, "Authorized", "False", "WrongAccount")


def test_wrong_password_at_first(kube: Kube, namespace: str, start_url: str, page: Page) -> None:
    begin(page, start_url)
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("password is wrong")
    log_in(page)
    heading(page, "Mail can be sent")
    kube.wait_ready("mail", namespace)


def test_cookies_are_blocked(
    kube: Kube, namespace: str, start_url: str, context: BrowserContext, consent_provider: IdentityProvider
) -> None:
    page = context.new_page()
    page.goto(start_url)
    context.clear_cookies()
    page.get_by_role("button").click()
    heading(page, "Please begin again")
    expect(page.get_by_role("alert")).to_contain_text("Cookies must be allowed")
    assert consent_provider.pages.authorized == []


# --- an attacker gets nothing ---


def test_another_browser_is_refused(
    kube: Kube,
    namespace: str,
    start_url: str,
    page: Page,
    consent_provider: IdentityProvider,
    new_context: Callable[..., BrowserContext],
) -> None:
    """The attacker begins, and the victim gets the provider's address, and logs in."""
    begin(page, start_url)
    heading(page, "Sign in")
    victim = new_context().new_page()
    victim.goto(start_url)
    asked = consent_provider.pages.authorized[-1]
    victim.goto(page.url)
    log_in(victim)
    heading(victim, "Another browser has begun this")
    assert asked["state"] in victim.url, "it is worth nothing in this browser"
    assert consent_provider.token_requests == []
    assert reason_of(kube.settings("mail", namespace) or {}, "Authorized") == ("False", "ConsentRequired")


@contextmanager
def elsewhere(text: str) -> Iterator[str]:
    """A page on another site, until the block ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_form_on_another_site_begins_nothing(
    start_url: str,
    page: Page,
    consent_provider: IdentityProvider,
    new_context: Callable[..., BrowserContext],
) -> None:
    """Not even with a token of the attacker's own."""
    attacker = new_context().new_page()
    attacker.goto(start_url)
    token = attacker.locator("input[name=token]").get_attribute("value")
    page.goto(start_url)
    form = (
        f"<!doctype html><form method=post action='{start_url}'><input name=token value='{token}'></form>"
        "<script>document.forms[0].submit()</script>"
    )
    with elsewhere(form) as url:
        page.goto(url)
        heading(page, "Please begin again")
    assert page.url == start_url
    assert_is_accessible(page)
    assert consent_provider.pages.authorized == []


def test_page_is_in_no_frame(start_url: str, page: Page) -> None:
    with elsewhere(f"<!doctype html><iframe src='{start_url}'></iframe>") as url:
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(url)
        frame = page.frames[1]
        expect(frame.locator("form")).to_have_count(0)
        assert "Let a cluster" not in frame.content()
        assert any("frame-ancestors" in line for line in said), said


def test_settings_that_hold_html_are_shown_as_text(kube: Kube, namespace: str, start_url: str, page: Page) -> None:
    hostile = "<img/src=x/onerror=document.title=1>"
    client_id = f"{hostile}<script>document.title=1</script>"
    changed = {"username": f"{hostile}@acme.example", "clientID": client_id, "scopes": [hostile, "openid"]}
    kube.patch(KIND, "mail", namespace, spec={"auth": {"oauth2": changed}})
    kube.wait_condition("mail", namespace, "Authorized", "False", "ConsentRequired")
    page.goto(start_url)
    for text in (changed["username"], client_id, f"{hostile}, openid"):
        expect(page.get_by_role("definition").get_by_text(str(text), exact=True)).to_be_visible()
    assert page.locator("img, script").count() == 0
    assert page.title() == "Let a cluster send mail - mailsettings"
