"""`oidc-provider`, an OpenID provider that was not written here, in a process of its own; and a person at its forms."""

import contextlib
import json
import os
import secrets
import selectors
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin

import aiohttp

from tests.support.identity_provider import ACCOUNT, CLIENT_ID, CLIENT_SECRET, REDIRECT_URI
from tests.support.listening import LOOPBACK
from tests.support.smtp_server import certificate

FOLDER: Final = Path(__file__).parent / "openid_provider"
REQUIRED: Final = "MAILSETTINGS_OPENID_PROVIDER"
"""Set to `required` where a provider that is not installed is a failure, as in continuous integration."""

PUBLIC_CLIENT: Final = "public-client"
POST_CLIENT: Final = "client-with-its-secret-in-the-form"
MAIL: Final = "mail.send"
START_S: Final = 30.0
STOP_S: Final = 10.0
MAX_PAGES: Final = 10

_GRANTS: Final = ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"]


def missing() -> str:
    """Why the provider cannot run here; empty: it can.

    Raises:
        RuntimeError: It cannot, and has to.
    """
    reason = ""
    if shutil.which("node") is None:
        reason = "there is no Node.js"
    elif not (FOLDER / "node_modules").is_dir():
        reason = "oidc-provider is not installed: make npm-packages"
    if reason and os.environ.get(REQUIRED) == "required":
        raise RuntimeError(reason)
    return reason


@dataclass(frozen=True)
class OpenIdProvider:
    """A running provider. Any account may log in, with any password."""

    port: int
    ca_pem: str = field(repr=False)

    @property
    def origin(self) -> str:
        return f"https://{LOOPBACK}:{self.port}"

    @property
    def authorization_uri(self) -> str:
        return f"{self.origin}/auth"

    @property
    def token_uri(self) -> str:
        return f"{self.origin}/token"

    @property
    def device_authorization_uri(self) -> str:
        return f"{self.origin}/device/auth"

    async def is_live(self, token: str) -> bool:
        """Whether a mail server would take an access token (RFC 7662)."""
        form = {"token": token, "client_id": POST_CLIENT, "client_secret": CLIENT_SECRET}
        async with self._session() as session, session.post(f"{self.origin}/token/introspection", data=form) as answer:
            return bool((await answer.json())["active"])

    async def log_in(self, authorize_url: str, *, account: str = ACCOUNT, decision: str = "allow") -> str:
        """Logs in and decides; gives the URL that the browser is sent to."""
        async with self._session() as session:
            return await _Person(session, self.origin, account, decision).finish(authorize_url)

    async def log_in_device(
        self, verification_uri: str, user_code: str, *, account: str = ACCOUNT, decision: str = "allow"
    ) -> str:
        """Enters the code, logs in and decides; gives the last page."""
        async with self._session() as session:
            return await _Person(session, self.origin, account, decision, user_code).finish(verification_uri)

    def _session(self) -> aiohttp.ClientSession:
        trust = ssl.create_default_context(cadata=self.ca_pem)
        cookies = aiohttp.CookieJar(unsafe=True)  # kept for IP addresses, too
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust), cookie_jar=cookies)


class _Page(HTMLParser):
    """The one form of a page: where it goes, its fields, and the link that declines."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.abort = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = given["action"]
        elif tag == "input" and "name" in given:
            self.fields[given["name"]] = given.get("value", "")
        elif tag == "a" and given.get("href", "").endswith("/abort"):
            self.abort = given["href"]


@dataclass
class _Person:
    """Somebody who fills in form after form."""

    session: aiohttp.ClientSession
    origin: str
    account: str
    decision: str
    user_code: str = ""
    has_declined: bool = False

    async def finish(self, url: str) -> str:
        """Goes on until a page has no form, or the browser is sent elsewhere: gives that text or that URL."""
        url, text = await self._open("GET", url, {})
        for _ in range(MAX_PAGES):
            page = _Page(text)
            if not page.action or self.has_declined:
                return text or url
            url, text = await self._answer(url, page)
        raise AssertionError(f"the forms of {url} lead nowhere: {text}")

    async def _answer(self, url: str, page: _Page) -> tuple[str, str]:
        if page.fields.get("prompt") == "consent" and self.decision != "allow":
            self.has_declined = True
            return await self._open("GET", urljoin(url, page.abort), {})
        known = {"login": self.account, "password": "any", "user_code": page.fields.get("user_code") or self.user_code}
        filled = {name: known.get(name, value) for name, value in page.fields.items()}
        return await self._open("POST", urljoin(url, page.action), filled)

    async def _open(self, method: str, url: str, data: dict[str, str]) -> tuple[str, str]:
        """The address at which redirects end, and its page; none where it is somebody else's."""
        while url.startswith(self.origin):
            async with self.session.request(method, url, data=data or None, allow_redirects=False) as answer:
                if answer.status not in (302, 303):
                    return url, await answer.text()
                method, url, data = "GET", urljoin(url, answer.headers["Location"]), {}
        return url, ""


def _clients(redirect_uri: str) -> list[dict[str, Any]]:
    common = {"redirect_uris": [redirect_uri], "grant_types": _GRANTS, "response_types": ["code"]}
    return [
        {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, **common},
        {
            "client_id": POST_CLIENT,
            "client_secret": CLIENT_SECRET,
            "token_endpoint_auth_method": "client_secret_post",
            **common,
        },
        {"client_id": PUBLIC_CLIENT, "token_endpoint_auth_method": "none", **common},
    ]


@contextlib.contextmanager
def openid_provider(access_life_s: int = 3600, redirect_uri: str = REDIRECT_URI) -> Iterator[OpenIdProvider]:
    """The provider on a free loopback port, with the clients `CLIENT_ID`, `POST_CLIENT` and `PUBLIC_CLIENT`.

    `{port}` in their redirect URI stands for the provider's own port.
    """
    issued = certificate(LOOPBACK)
    settings = {
        "host": LOOPBACK,
        "key": issued.key_pem,
        "certificate": issued.chain_pem,
        "cookieKey": secrets.token_hex(16),
        "clients": _clients(redirect_uri),
        "scopes": [MAIL],
        "accessLife": access_life_s,
    }
    process = subprocess.Popen(
        ["node", "server.mjs"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        process.stdin.flush()
        yield OpenIdProvider(_port(process), issued.ca_pem)
    finally:
        process.stdin.close()  # which ends it
        process.stdout.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(process: "subprocess.Popen[bytes]") -> int:
    """Where it listens, once it does."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(START_S):
            raise TimeoutError("the OpenID provider did not start")
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("the OpenID provider ended at once; start it by hand to see why")
    return int(json.loads(line)["port"])
