"""Takes a provider's answer at a port of this machine. Source: RFC 8252 §7.3."""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import escape
from typing import Final
from urllib.parse import unquote, urlsplit

from aiohttp import web

from mailsettings.core.oauth2.consent import ConsentKey
from mailsettings.plugin.authorize.answer import Answer, AnswerError, parse_query
from mailsettings.plugin.command import CommandError

IPV4: Final = "127.0.0.1"
IPV6: Final = "::1"
MAX_LINE_BYTES: Final = 16 * 1024
"""Of the request line, in which the code comes, and of each header."""
KEEP_ALIVE_S: Final = 5.0
SHUTDOWN_S: Final = 2.0
_TRIES: Final = 8
_NO_IPV6: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_SILENT: Final = logging.getLogger(f"{__name__}.silent")
"""Requests hold codes, and so do the texts of those that could not be read."""
_SILENT.disabled = True


@dataclass(frozen=True, slots=True)
class Listener:
    """Sockets of this machine that listen on one port, by IPv4 and, where there is such a thing, by IPv6."""

    port: int
    sockets: tuple[socket.socket, ...]

    def close(self) -> None:
        """Gives the port back."""
        for each in self.sockets:
            each.close()


def listen(port: int | None) -> Listener:
    """Listens on a port of this machine.

    A browser may come by either address where the redirect URI says `localhost`; so the port is taken at both, or
    another program would be given the code.

    Args:
        port: Which one; None: one that is free.

    Raises:
        CommandError: The port cannot be had.
    """
    failure: OSError | None = None
    for _ in range(_TRIES if port is None else 1):
        try:
            return _listen(port or 0)
        except OSError as error:
            failure = error
    what = f"The port {port} of this machine cannot be used" if port else "No port of this machine can be used"
    why = failure.strerror if failure else ""
    raise CommandError("PortUnavailable", f"{what}: {why}. Choose one with --port, or use --paste.")


def _listen(port: int) -> Listener:
    first = socket.create_server((IPV4, port))
    taken = first.getsockname()[1]
    try:
        return Listener(taken, (first, socket.create_server((IPV6, taken), family=socket.AF_INET6)))
    except OSError as error:
        if error.errno in _NO_IPV6 or not socket.has_ipv6:
            return Listener(taken, (first,))
        first.close()
        raise


@contextlib.asynccontextmanager
async def answers(listener: Listener, redirect_uri: str, state: str) -> AsyncIterator["asyncio.Future[Answer]"]:
    """Serves the redirect URI; the future is the answer to this attempt, and whatever else comes does not end it.

    Args:
        listener: Where.
        redirect_uri: Its path is the only one that is served.
        state: The one that the answer has to bring back.
    """
    desk = _Desk(unquote(urlsplit(redirect_uri).path) or "/", state, asyncio.get_running_loop().create_future())
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", desk.handle)
    runner = web.AppRunner(
        application,
        access_log=None,
        logger=_SILENT,
        keepalive_timeout=KEEP_ALIVE_S,
        shutdown_timeout=SHUTDOWN_S,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
    )
    await runner.setup()
    try:
        for each in listener.sockets:
            await web.SockSite(runner, each).start()
        yield desk.answer
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class _Desk:
    path: str
    state: str
    answer: "asyncio.Future[Answer]"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path != self.path:
            return _page("There is nothing here", "Go back to the terminal.", 404)
        if request.method != "GET":
            return _page("There is nothing here", "Go back to the terminal.", 405)
        try:
            answer = parse_query(request.rel_url.raw_query_string, self.state)
        except AnswerError as error:
            return _page("This is not the answer", f"The address cannot be used: {error}.", 400)
        if not self.answer.done():
            self.answer.set_result(answer)
        if ConsentKey.CODE in answer:
            return _page("The consent has arrived", "You can close this window; go back to the terminal.")
        return _page("No consent was given", "The terminal says why. You can close this window.")


def _page(title: str, text: str, status: int = 200) -> web.Response:
    body = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} - mailsettings</title></head>"
        f"<body><main><h1>{escape(title)}</h1><p>{escape(text)}</p></main></body></html>"
    )
    return web.Response(text=body, status=status, content_type="text/html", charset="utf-8", headers=_HEADERS)
