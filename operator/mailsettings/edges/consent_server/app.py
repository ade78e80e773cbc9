"""The HTTP endpoint at which a person consents in a browser.

It gives nothing away and writes next to nothing: a page that anybody may open shows what is in no way secret, and only
a provider's answer to a flow that this very browser has begun is kept, for the active operator to judge.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

import aiohttp
from aiohttp import web

from mailsettings.core.oauth2.consent import ANSWER_PARAMETERS, ConsentKey, ConsentResult
from mailsettings.core.oauth2.terms import CALLBACK_PATH, START_PATH
from mailsettings.edges.consent_server import pages
from mailsettings.edges.errors import described
from mailsettings.edges.kubernetes import ApiError

COOKIE: Final = "__Host-mailsettings-consent"
"""The prefix makes browsers refuse one that another host, or a page without TLS, sets. Source: RFC 6265bis §4.1.3."""

COOKIE_LIFE_S: Final = 15 * 60
RESULT_PATH: Final = "/oauth2/result"
MAX_BODY_BYTES: Final = 16 * 1024
MAX_HEADER_BYTES: Final = 16 * 1024
"""Of the request line, in which the code comes, and of each header."""

RESULT_HOLD: Final = 1.0
"""Seconds that somebody who waits for a result is kept waiting before being told that there is none yet."""

_RESULT_PAUSE: Final = 0.25

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{pages.STYLE_HASH}'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Problem(Enum):
    """Why a page cannot do what it is for: title, message and HTTP status."""

    UNKNOWN = (
        "No such settings",
        "There are no settings under this address that ask for a consent in a browser. They may have been deleted or "
        "made anew; their status.oauth2.authorizeURL has the present address.",
        404,
    )
    FORM = (
        "Please begin again",
        "The form came from another page or another browser, or is too old. Open the address of the settings, their "
        "status.oauth2.authorizeURL, and use the button there. Cookies must be allowed.",
        403,
    )
    STATE = (
        "Nothing was begun here",
        "The address has no state of this operator's, so it is not the end of a consent that was begun here. Begin "
        "again at the settings' status.oauth2.authorizeURL.",
        400,
    )
    BROWSER = (
        "Another browser has begun this",
        "A consent must end in the browser in which it was begun, so this answer was not used. Begin again at the "
        "settings' status.oauth2.authorizeURL, and follow no link that somebody sends you.",
        403,
    )
    HOST = (
        "The answer came from elsewhere",
        "The answer did not come from the provider that was asked, so it was not used. Begin again at the settings' "
        "status.oauth2.authorizeURL; if it happens again, tell your administrator.",
        400,
    )
    MANY = (
        "Too many at once",
        "Many consents for these settings were begun within a few minutes. Wait ten minutes and begin again.",
        429,
    )
    GONE = (
        "Nothing is known of this consent",
        "It ended a while ago. The condition Authorized of the settings says how things stand.",
        404,
    )
    UNAVAILABLE = (
        "The cluster does not answer",
        "The answer could not be kept for now. Reload this page in a minute; after ten minutes begin again.",
        503,
    )
    BROKEN = (
        "Something broke",
        "This is a fault of the operator; its log says more. Begin again at the settings' status.oauth2.authorizeURL.",
        500,
    )


class ProblemError(Exception):
    """A request comes to nothing."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.name)
        self.problem = problem


class Desk(Protocol):
    """Who knows the settings and keeps the answers."""

    def settings(self, uid: str) -> pages.Settings:
        """What a person is shown. Raises `ProblemError`."""

    def form_token(self, uid: str, browser: str) -> str:
        """Shows that a form was loaded, and by which browser."""

    def begin(self, uid: str, browser: str) -> str:
        """The provider's address with a new state. Raises `ProblemError`."""

    async def accept(self, host: str, answer: Mapping[ConsentKey, str], browser: str) -> str:
        """Keeps an answer; the name of the flow that it ends. Raises `ProblemError`, `ApiError`."""

    async def result(self, flow: str) -> ConsentResult | None:
        """What has become of it; None: nothing yet. Raises `ProblemError`, `ApiError`."""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(desk: Desk, logger: logging.Logger) -> web.Application:
    """The endpoint; `logger` is told what goes wrong, without anything of a request."""
    endpoint = _Endpoint(desk)

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except ProblemError as error:
            response = _problem(error.problem)
        except web.HTTPException as error:
            response = refusal(error.status)
            response.headers.update({name: error.headers[name] for name in error.headers.keys() & {"Allow"}})
        except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
            logger.warning("a consent could not be handled: %s", type(error).__name__)
            response = _problem(Problem.UNAVAILABLE)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text may hold what came with the request
            logger.error("a consent page broke: %s", described(error))  # noqa: TRY400
            response = _problem(Problem.BROKEN)
        response.force_close()
        response.headers.update(HEADERS)
        return response

    app = web.Application(middlewares=[guarded], client_max_size=MAX_BODY_BYTES)
    app.router.add_get(f"{START_PATH}/{{uid}}", endpoint.start)
    app.router.add_post(f"{START_PATH}/{{uid}}", endpoint.begin)
    app.router.add_get(f"{CALLBACK_PATH}/{{host}}", endpoint.callback, allow_head=False)  # it does something
    app.router.add_get(f"{RESULT_PATH}/{{flow:[0-9a-f]{{32}}}}", endpoint.result)
    return app


@dataclass(frozen=True, slots=True)
class _Endpoint:
    desk: Desk

    async def start(self, request: web.Request) -> web.StreamResponse:
        uid = request.match_info["uid"]
        settings = self.desk.settings(uid)
        browser = _browser(request) or secrets.token_urlsafe(32)
        response = _html(pages.start_page(settings, self.desk.form_token(uid, browser)))
        # Lax: the provider's redirect brings it along, a form on another site does not.
        response.set_cookie(
            COOKIE, browser, max_age=COOKIE_LIFE_S, path="/", secure=True, httponly=True, samesite="Lax"
        )
        return response

    async def begin(self, request: web.Request) -> web.StreamResponse:
        uid, browser = request.match_info["uid"], _browser(request)
        token = await _field(request, "token")
        if not browser or not token or not _equal(token, self.desk.form_token(uid, browser)):
            raise ProblemError(Problem.FORM)
        return _redirect(self.desk.begin(uid, browser))

    async def callback(self, request: web.Request) -> web.StreamResponse:
        answer = {key: request.query[name] for name, key in ANSWER_PARAMETERS.items() if request.query.get(name)}
        flow = await self.desk.accept(request.match_info["host"], answer, _browser(request))
        # Away from the address with the code, which is in the browser's history as it is.
        return _redirect(f"{RESULT_PATH}/{flow}")

    async def result(self, request: web.Request) -> web.StreamResponse:
        flow = request.match_info["flow"]
        result = await self.desk.result(flow)
        until = asyncio.get_running_loop().time() + RESULT_HOLD
        while result is None and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(_RESULT_PAUSE)
            result = await self.desk.result(flow)
        return _html(pages.waiting_page() if result is None else pages.result_page(result))


async def _field(request: web.Request, name: str) -> str:
    """A field of the form; empty: there is none, or the body cannot be read as a form."""
    try:
        value = (await request.post()).get(name)
    except (ValueError, LookupError, web.RequestPayloadError):  # text, charset and encoding that are not what they say
        return ""
    return value if isinstance(value, str) else ""


def _browser(request: web.Request) -> str:
    """The cookie's value; empty: there is none that can be one of ours."""
    value = request.cookies.get(COOKIE, "")
    return value if len(value) == _BROWSER_LENGTH and value.isascii() else ""


_BROWSER_LENGTH: Final = len(secrets.token_urlsafe(32))


def _equal(given: str, expected: str) -> bool:
    """Whether two texts are the same; some charsets, such as UTF-7, give surrogates, which UTF-8 has not."""
    return secrets.compare_digest(given.encode(errors="surrogatepass"), expected.encode(errors="surrogatepass"))


def _problem(problem: Problem) -> web.Response:
    title, message, status = problem.value
    return _html(pages.message_page(title, message), status)


_REFUSALS: Final = {
    404: ("There is no such page", "Open the address of the settings, their status.oauth2.authorizeURL."),
    405: ("This is no way to ask", "This address does not take requests of this method."),
    413: ("Too much", "The request is larger than any form of these pages."),
}


def refusal(status: int) -> web.Response:
    """The page for a request that cannot be answered, or read; it shows nothing of the request."""
    title, message = _REFUSALS.get(
        status, ("The request is not understood", "It is not one that a browser makes here.")
    )
    return _html(pages.message_page(title, message), status)


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8")


def _redirect(location: str) -> web.Response:
    """Source: RFC 9110 §15.4.4: 303, so that the form's POST becomes a GET."""
    return web.Response(status=303, headers={"Location": location})
