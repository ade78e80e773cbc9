"""The demo's identity provider: one account, a login form, and access tokens that live two minutes.

Small, and strict where it matters: redirect URIs are compared exactly, codes live a minute and work once, PKCE is
required, and each refresh gives a new refresh token; an old one that comes back ends the whole consent (RFC 9700
§2.1, §2.1.1, §4.14.2).
"""

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote_plus, urlencode, urlsplit

import jwt
from aiohttp import web

from dev.demo.authority import HOST, Authority
from dev.loop_thread import LoopThread

CLIENT_ID: Final = "mailsettings"
CLIENT_SECRET: Final = "change-me-as-well-please-32-bytes"
"""Those of dev/examples; the secret also signs the ID tokens, for which it has to have 32 bytes (RFC 7518 §3.2)."""
ACCOUNT: Final = "invoices@billing.example"
"""As in dev/examples."""
PASSWORD: Final = "let-me-in"
"""Of the account; shown to whoever runs the demo."""
ACCESS_LIFE: Final = timedelta(minutes=2)
_CODE_LIFE_S: Final = 60.0
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

_Form = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Flow:
    """What was asked for at the authorization endpoint."""

    redirect_uri: str
    state: str
    scopes: tuple[str, ...]
    nonce: str
    challenge: str


@dataclass(slots=True)
class _Consent:
    """What became of a flow in which the person consented."""

    flow: _Flow
    is_revoked: bool = False


@dataclass(slots=True)
class _RefreshToken:
    consent: _Consent
    is_replaced: bool = False


@dataclass(frozen=True, slots=True)
class _Expiring:
    """An authorization code or an access token."""

    consent: _Consent
    ends_at: float
    """By the monotonic clock."""


class _RefusedError(Exception):
    """An error of the token endpoint. Source: RFC 6749 §5.2."""


class IdentityProvider:
    """Listens on a free loopback port, over https, while the `with` block runs."""

    def __init__(self, authority: Authority) -> None:
        self.origin = ""
        """What its addresses begin with."""
        self.redirect_uris: set[str] = set()
        """Where a person may be sent back to: what somebody has copied into the provider's console."""
        self._context = authority.server_context()
        self._thread = LoopThread("identity provider")
        self._flows: dict[str, _Flow] = {}
        self._codes: dict[str, _Expiring] = {}
        self._refresh_tokens: dict[str, _RefreshToken] = {}
        self._access_tokens: dict[str, _Expiring] = {}

    @property
    def authorization_uri(self) -> str:
        """Where a person is sent to."""
        return f"{self.origin}/authorize"

    @property
    def token_uri(self) -> str:
        """Where codes and refresh tokens are redeemed."""
        return f"{self.origin}/token"

    def account_of(self, access_token: str) -> str:
        """Whom a live token speaks for; empty: it is none. For the mail server, in its own thread."""
        held = self._access_tokens.get(access_token)
        if held is None or held.ends_at < time.monotonic() or held.consent.is_revoked:
            return ""
        return ACCOUNT

    def __enter__(self) -> Self:
        """Starts to listen."""
        self._thread.start()
        self._thread.run(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Breaks off what is going on and stops."""
        self._thread.run(self._runner.cleanup())
        self._thread.stop()

    async def _listen(self) -> None:
        application = web.Application()
        application.router.add_get("/authorize", self._authorize)
        application.router.add_post("/login", self._log_in)
        application.router.add_post("/consent", self._decide)
        application.router.add_post("/token", self._token)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0, ssl_context=self._context).start()
        self.origin = f"https://{HOST}:{self._runner.addresses[0][1]}"

    # What a person sees

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = request.query
        redirect_uri = asked.get("redirect_uri", "")
        if asked.get("client_id") != CLIENT_ID or not self._is_registered(redirect_uri):
            # Nobody is sent to where nobody said (RFC 6749 §4.1.2.1).
            return _page("Error", "<p role='alert'>The client or its redirect URI is not known here.</p>", 400)
        flow = _Flow(
            redirect_uri,
            asked.get("state", ""),
            tuple(asked.get("scope", "").split()),
            asked.get("nonce", ""),
            asked.get("code_challenge", ""),
        )
        if asked.get("response_type") != "code" or asked.get("code_challenge_method") != "S256" or not flow.challenge:
            return self._sent_back(flow, error="invalid_request")
        return self._login_page(flow)

    def _is_registered(self, redirect_uri: str) -> bool:
        """Whether it is one of `redirect_uris`, or on this machine as a program's own (RFC 8252 §7.3)."""
        parts = urlsplit(redirect_uri)
        is_program = parts.scheme == "http" and parts.hostname in _LOOPBACK and parts.path in ("", "/")
        return redirect_uri in self.redirect_uris or is_program

    def _login_page(self, flow: _Flow, alert: str = "") -> web.Response:
        return _page(
            "Log in",
            f"<p role='alert'>{alert}</p>"
            f"<p>This is the demo's own identity provider. Its one account is <b>{ACCOUNT}</b>, with the password "
            f"<b>{PASSWORD}</b>.</p>"
            f"<form method='post' action='/login'>{self._remembered(flow)}"
            f"<p><label>User name<br><input name='username' value='{ACCOUNT}'></label></p>"
            "<p><label>Password<br><input name='password' type='password' autofocus></label></p>"
            "<p><button>Log in</button></p></form>",
        )

    async def _log_in(self, request: web.Request) -> web.Response:
        form = await _form(request)
        flow = self._flows.pop(form.get("flow", ""), None)
        if flow is None:
            return _page("Error", "<p role='alert'>This page is too old; begin again.</p>", 400)
        if (form.get("username"), form.get("password")) != (ACCOUNT, PASSWORD):
            return self._login_page(flow, "The user name or the password is wrong.")
        scopes = "".join(f"<li>{escape(scope)}</li>" for scope in flow.scopes)
        return _page(
            "Allow it?",
            f"<p>{CLIENT_ID} wants to act for {ACCOUNT}:</p><ul>{scopes}</ul>"
            f"<form method='post' action='/consent'>{self._remembered(flow)}"
            "<button name='decision' value='allow'>Allow</button> "
            "<button name='decision' value='deny'>Deny</button></form>",
        )

    async def _decide(self, request: web.Request) -> web.Response:
        form = await _form(request)
        flow = self._flows.pop(form.get("flow", ""), None)
        if flow is None:
            return _page("Error", "<p role='alert'>This page is too old; begin again.</p>", 400)
        if form.get("decision") != "allow":
            return self._sent_back(flow, error="access_denied")
        code = secrets.token_urlsafe(32)
        self._codes[code] = _Expiring(_Consent(flow), time.monotonic() + _CODE_LIFE_S)
        return self._sent_back(flow, code=code)

    def _remembered(self, flow: _Flow) -> str:
        """The hidden field by which the next page knows the flow."""
        key = secrets.token_urlsafe(16)
        self._flows[key] = flow
        return f"<input type='hidden' name='flow' value='{key}'>"

    def _sent_back(self, flow: _Flow, **answer: str) -> web.Response:
        """Back to the client, with the issuer (RFC 9207)."""
        answer |= {"state": flow.state, "iss": self.origin}
        return web.Response(status=303, headers={"Location": f"{flow.redirect_uri}?{urlencode(answer)}"})

    # What the operator asks

    async def _token(self, request: web.Request) -> web.Response:
        form = await _form(request)
        try:
            _check_client(request)
            return web.json_response(self._granted(form), headers={"Cache-Control": "no-store"})
        except _RefusedError as error:
            return web.json_response({"error": str(error)}, status=400)

    def _granted(self, form: _Form) -> dict[str, Any]:
        match form.get("grant_type"):
            case "authorization_code":
                return self._redeemed(form)
            case "refresh_token":
                return self._refreshed(form)
        raise _RefusedError("unsupported_grant_type")

    def _redeemed(self, form: _Form) -> dict[str, Any]:
        """Source: RFC 6749 §4.1.3, RFC 7636 §4.6."""
        code = self._codes.pop(form.get("code", ""), None)
        if code is None or code.ends_at < time.monotonic():
            raise _RefusedError("invalid_grant")
        flow = code.consent.flow
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if form.get("redirect_uri") != flow.redirect_uri or challenge != flow.challenge:
            raise _RefusedError("invalid_grant")
        return {**self._new_tokens(code.consent), "id_token": self._id_token(flow)}

    def _refreshed(self, form: _Form) -> dict[str, Any]:
        held = self._refresh_tokens.get(form.get("refresh_token", ""))
        if held is None:
            raise _RefusedError("invalid_grant")
        if held.is_replaced:  # it was stolen from one of the two that have used it
            held.consent.is_revoked = True
        if held.consent.is_revoked:
            raise _RefusedError("invalid_grant")
        held.is_replaced = True
        return self._new_tokens(held.consent)

    def _new_tokens(self, consent: _Consent) -> dict[str, Any]:
        access, refresh = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        life = ACCESS_LIFE.total_seconds()
        self._access_tokens[access] = _Expiring(consent, time.monotonic() + life)
        self._refresh_tokens[refresh] = _RefreshToken(consent)
        return {
            "token_type": "Bearer",
            "access_token": access,
            "expires_in": int(life),
            "refresh_token": refresh,
            "scope": " ".join(consent.flow.scopes),
        }

    def _id_token(self, flow: _Flow) -> str:
        """Source: OpenID Connect Core 1.0 §2."""
        now = int(time.time())
        claims = {"iss": self.origin, "sub": "1", "aud": CLIENT_ID, "iat": now, "exp": now + 300, "email": ACCOUNT}
        return jwt.encode(claims | ({"nonce": flow.nonce} if flow.nonce else {}), CLIENT_SECRET, "HS256")


def _check_client(request: web.Request) -> None:
    """Source: RFC 6749 §2.3.1."""
    header = request.headers.get("Authorization", "")
    try:
        login = base64.b64decode(header.removeprefix("Basic "), validate=True).decode()
    except ValueError as error:
        raise _RefusedError("invalid_client") from error
    name, _, secret = login.partition(":")
    if (unquote_plus(name), unquote_plus(secret)) != (CLIENT_ID, CLIENT_SECRET):
        raise _RefusedError("invalid_client")


async def _form(request: web.Request) -> _Form:
    return {name: str(value) for name, value in (await request.post()).items()}


_STYLE: Final = "body { font: 1rem/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 40rem; padding: 2rem 1rem; }"


def _page(title: str, body: str, status: int = 200) -> web.Response:
    text = (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1>{body}</html>"
    )
    return web.Response(text=text, status=status, content_type="text/html")
