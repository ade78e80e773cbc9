"""What people see of the identity provider: the login form, the consent page, the page for device codes.

Real forms, for a real browser; `log_in` and `allow_device` fill them in without one.
"""

import base64
import hashlib
import html
import re
import secrets
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import aiohttp
from aiohttp import web

PASSWORD: Final = "correct horse battery staple"


@dataclass
class Flow:
    """One person's way through the pages."""

    client_id: str
    scopes: tuple[str, ...]
    is_microsoft: bool
    redirect_uri: str = ""
    state: str = ""
    nonce: str = ""
    challenge: str = ""
    access_type: str = ""
    login_hint: str = ""
    user_code: str = ""
    """Of a device; empty: the browser is sent back."""
    account: str = ""


@dataclass
class Code:
    """An authorization code and what it is bound to."""

    flow: Flow
    ends_at: float
    is_used: bool = False
    refresh_tokens: list[str] = field(default_factory=list)


@dataclass
class Device:
    """A device code."""

    flow: Flow
    ends_at: float
    decision: str = ""
    """Empty: the person has not finished."""
    is_used: bool = False


@dataclass
class ConsentPages:
    """The pages, what they are to do, and what has been decided on them."""

    registered: Callable[[str], frozenset[str] | None]
    """The redirect URIs of a client; None: there is no such client."""
    knows: Callable[[str], bool]
    """Whether there is an account of that name."""
    issuer: Callable[[bool], str]
    """Microsoft's, or the other one."""
    sends_issuer: bool = True
    """`iss` in the redirect (RFC 9207)."""
    code_life_s: float = 600
    device_life_s: int = 900
    device_interval_s: int = 1
    slow_downs: int = 0
    """So many of the next polls are answered with `slow_down`."""
    declined_scopes: frozenset[str] = frozenset()
    """What people untick."""
    redirect_errors: deque[Mapping[str, str]] = field(default_factory=deque)
    """What the next visits of the authorization endpoint are sent back with at once."""
    authorized: list[Mapping[str, str]] = field(default_factory=list)
    """The parameters of the authorization requests."""
    codes: dict[str, Code] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    """By device code."""
    _flows: dict[str, Flow] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/authorize", self._authorize),
            web.get("/{tenant}/oauth2/v2.0/authorize", self._authorize),
            web.post("/login", self._log_in),
            web.post("/consent", self._consent),
            web.get("/device", self._device_page),
            web.post("/device", self._enter_code),
        ]

    # Devices

    def new_device(self, client_id: str, scopes: tuple[str, ...], *, is_microsoft: bool, origin: str) -> dict[str, Any]:
        """Source: RFC 8628 §3.2; Microsoft's has no complete URI."""
        device_code, user_code = secrets.token_urlsafe(30), "-".join(secrets.token_hex(2).upper() for _ in range(2))
        flow = Flow(client_id, scopes, is_microsoft, user_code=user_code)
        self.devices[device_code] = Device(flow, time.monotonic() + self.device_life_s)
        complete = {} if is_microsoft else {"verification_uri_complete": f"{origin}/device?user_code={user_code}"}
        return {
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": f"{origin}/device",
            "expires_in": self.device_life_s,
            "interval": self.device_interval_s,
            **complete,
        }

    def expire_devices(self) -> None:
        for device in self.devices.values():
            device.ends_at = 0

    # Pages

    async def _authorize(self, request: web.Request) -> web.StreamResponse:
        asked = dict(request.query)
        self.authorized.append(asked)
        uris = self.registered(asked.get("client_id", ""))
        if uris is None:
            return _page("Error", "<p role='alert'>AADSTS700016: There is no such application.</p>", 400)
        if asked.get("redirect_uri", "") not in uris:  # nobody is sent to where nobody said (RFC 6749 §4.1.2.1)
            said = html.escape(asked.get("redirect_uri", ""))
            return _page("Error", f"<p role='alert'>redirect_uri_mismatch, AADSTS50011: {said}</p>", 400)
        flow = Flow(
            client_id=asked["client_id"],
            scopes=tuple(asked.get("scope", "").split()),
            is_microsoft="tenant" in request.match_info,
            redirect_uri=asked["redirect_uri"],
            state=asked.get("state", ""),
            nonce=asked.get("nonce", ""),
            challenge=asked.get("code_challenge", ""),
            access_type=asked.get("access_type", ""),
            login_hint=asked.get("login_hint", ""),
        )
        if self.redirect_errors:
            return self._back(flow, dict(self.redirect_errors.popleft()))
        if asked.get("response_type") != "code":
            return self._back(flow, {"error": "unsupported_response_type"})
        if not flow.challenge or asked.get("code_challenge_method") != "S256":
            return self._back(flow, {"error": "invalid_request", "error_description": "PKCE with S256 is required."})
        return self._login_page(flow)

    def _login_page(self, flow: Flow, error: str = "") -> web.Response:
        key = secrets.token_urlsafe(16)
        self._flows[key] = flow
        alert = f"<p role='alert'>{error}</p>" if error else ""
        hint = html.escape(flow.login_hint)
        fields = (
            f"<p><label for='username'>Username</label> <input id='username' name='username' value='{hint}'></p>"
            "<p><label for='password'>Password</label> <input id='password' name='password' type='password'></p>"
        )
        return _page("Sign in", f"{alert}{_form('/login', key, fields + '<button>Sign in</button>')}")

    async def _log_in(self, request: web.Request) -> web.StreamResponse:
        form = await _fields(request)
        flow = self._flows.pop(form.get("flow", ""), None)
        if flow is None:
            return _page("Error", "<p role='alert'>This page is too old.</p>", 400)
        if not self.knows(form.get("username", "")) or form.get("password") != PASSWORD:
            return self._login_page(flow, "The user name or the password is wrong.")
        flow.account = form["username"]
        key = secrets.token_urlsafe(16)
        self._flows[key] = flow
        scopes = "".join(f"<li>{html.escape(scope)}</li>" for scope in flow.scopes)
        buttons = (
            "<button name='decision' value='allow'>Allow</button> "
            "<button name='decision' value='decline'>Decline</button>"
        )
        asks = f"<p>{html.escape(flow.client_id)} wants to act for {html.escape(flow.account)}:</p><ul>{scopes}</ul>"
        return _page("Permissions requested", asks + _form("/consent", key, buttons))

    async def _consent(self, request: web.Request) -> web.StreamResponse:
        form = await _fields(request)
        flow = self._flows.pop(form.get("flow", ""), None)
        if flow is None:
            return _page("Error", "<p role='alert'>This page is too old.</p>", 400)
        allows = form.get("decision") == "allow"
        flow.scopes = tuple(scope for scope in flow.scopes if scope not in self.declined_scopes)
        if flow.user_code:
            device = next(each for each in self.devices.values() if each.flow.user_code == flow.user_code)
            device.flow, device.decision = flow, "allow" if allows else "decline"
            return _page("Done", "<p>You may close this page.</p>")
        if not allows:
            text = "AADSTS65004: User declined to consent to access the app."
            return self._back(flow, {"error": "access_denied", "error_description": text})
        code = f"1.A{secrets.token_urlsafe(32)}"
        self.codes[code] = Code(flow, time.monotonic() + self.code_life_s)
        return self._back(flow, {"code": code})

    async def _device_page(self, request: web.Request) -> web.StreamResponse:
        code = html.escape(request.query.get("user_code", ""))
        field_ = f"<p><label for='code'>Code</label> <input id='code' name='user_code' value='{code}'></p>"
        return _page("Enter the code", _form("/device", "", field_ + "<button>Next</button>"))

    async def _enter_code(self, request: web.Request) -> web.StreamResponse:
        code = (await _fields(request)).get("user_code", "").strip().upper()
        open_ = (each for each in self.devices.values() if each.flow.user_code == code and not each.decision)
        device = next(open_, None)
        if device is None or device.ends_at < time.monotonic():
            return _page("Error", "<p role='alert'>There is no such code.</p>", 400)
        return self._login_page(device.flow)

    def _back(self, flow: Flow, answer: dict[str, str]) -> web.Response:
        state = {"state": flow.state} if flow.state else {}
        issuer = {"iss": self.issuer(flow.is_microsoft)} if self.sends_issuer else {}
        joint = "&" if urlsplit(flow.redirect_uri).query else "?"
        url = f"{flow.redirect_uri}{joint}{urlencode({**answer, **state, **issuer})}"
        return web.Response(status=302, headers={"Location": url})


def verifies(verifier: str, challenge: str) -> bool:
    """Source: RFC 7636 §4.6."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge


async def _fields(request: web.Request) -> dict[str, str]:
    return {name: str(value) for name, value in (await request.post()).items()}


def _form(action: str, flow: str, inner: str) -> str:
    return f"<form method='post' action='{action}'><input type='hidden' name='flow' value='{flow}'>{inner}</form>"


def _page(title: str, body: str, status: int = 200) -> web.Response:
    text = f"<!doctype html><html lang='en'><title>{title}</title><h1>{title}</h1>{body}</html>"
    return web.Response(text=text, status=status, content_type="text/html")


# Without a browser


class NoConsentError(Exception):
    """A page did not lead on."""


@dataclass
class Visitor:
    """A person at the provider, without a browser."""

    ca_pem: str = field(repr=False)
    account: str
    password: str = PASSWORD

    async def consent(self, authorize_url: str, decision: str = "allow") -> str:
        """Logs in and decides; gives the URL that the browser is sent to, which is not opened."""
        async with self._session() as session:
            async with session.get(authorize_url, allow_redirects=False) as page:
                if page.status in (302, 303):
                    return page.headers["Location"]
                sent = await self._decided(session, page, decision)
            return sent.headers["Location"]

    async def allow_device(self, verification_uri: str, user_code: str, decision: str = "allow") -> None:
        """Enters the code, logs in and decides."""
        async with self._session() as session, session.get(verification_uri) as page:
            entered = await _submitted(session, page, user_code=user_code)
            await self._decided(session, entered, decision)

    def _session(self) -> aiohttp.ClientSession:
        trust = ssl.create_default_context(cadata=self.ca_pem)
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust))

    async def _decided(
        self, session: aiohttp.ClientSession, page: aiohttp.ClientResponse, decision: str
    ) -> aiohttp.ClientResponse:
        asked = await _submitted(session, page, username=self.account, password=self.password)
        return await _submitted(session, asked, decision=decision)


async def _submitted(
    session: aiohttp.ClientSession, page: aiohttp.ClientResponse, **filled: str
) -> aiohttp.ClientResponse:
    """The answer to the form of a page."""
    text = await page.text()
    form = re.search(r"<form method='post' action='([^']*)'>", text)
    wanted = set(re.findall(r" name='(\w+)'", text))
    if page.status != 200 or form is None or not wanted.issuperset(filled):
        raise NoConsentError(text)
    hidden = dict(re.findall(r"<input type='hidden' name='(\w+)' value='([^']*)'>", text))
    return await session.post(urljoin(str(page.url), form[1]), data={**hidden, **filled}, allow_redirects=False)


def query(url: str) -> dict[str, str]:
    """The query of a URL, as a callback would see it."""
    return dict(parse_qsl(urlsplit(url).query))
