"""An identity provider over https in the test's own event loop, shaped like Microsoft's and Google's.

Below `authority` it is Microsoft's; `authorization_uri`, `token_uri` and `device_authorization_uri` are like Google's
and everybody else's. `pages` is what people see of it.

It works, and it can be told to misbehave: `answers` and `discoveries` hold what the next requests are answered instead.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import secrets
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final
from urllib.parse import unquote_plus

import jwt
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from tests.support.consent_pages import PASSWORD, Code, ConsentPages, Device, Flow, Visitor, verifies
from tests.support.jwt import ALGORITHM, Signer
from tests.support.listening import LOOPBACK, listening
from tests.support.smtp_server import certificate

DIRECTORY: Final = "72f988bf-0000-4000-8000-2d7cd011db47"
CLIENT_ID: Final = "11112222-bbbb-3333-cccc-4444dddd5555"
CLIENT_SECRET: Final = "Xy7~q+1W/e8Q=and:a~colon.of.the-secret"
ACCOUNT: Final = "no-reply@acme.example"
SCOPE: Final = "https://outlook.office.com/SMTP.Send"
SERVICE_ACCOUNT: Final = "mailer@acme-project.iam.gserviceaccount.com"
GOOGLE_AUDIENCE: Final = "https://oauth2.googleapis.com/token"


@cache
def _signer() -> Signer:
    """The provider's key: slow to make and therefore made once."""
    return Signer()


Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""What answers one request."""

JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
REDIRECT_URI: Final = "https://mail.acme.example/oauth2/callback/login.acme.example"


@dataclass(frozen=True)
class RegisteredClient:
    """What the provider knows of a client. One with nothing but an ID is a public client."""

    id: str = CLIENT_ID
    secret: str | None = None
    assertion_key: str | None = None
    """The PEM of a public key: of the client's certificate, or of the issuer of federated tokens."""
    redirect_uris: frozenset[str] = frozenset({REDIRECT_URI})
    """Compared exactly (RFC 9700 §2.1)."""


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    form: Mapping[str, str]


@dataclass
class _Consent:
    """What an account allowed a client, and the tokens that came of it."""

    client_id: str
    account: str
    scopes: tuple[str, ...]
    is_revoked: bool = False
    access_tokens: list[str] = field(default_factory=list)


@dataclass
class _RefreshToken:
    consent: _Consent
    is_replaced: bool = False


class RefusedError(Exception):
    """The provider refuses: an error of RFC 6749 §5.2, and Microsoft's number for it."""

    def __init__(self, error: str, code: int, description: str, status: int = 400) -> None:
        super().__init__(error)
        self.error = error
        self.code = code
        self.description = description
        self.status = status


@dataclass
class IdentityProvider:
    """A working provider, what it is to do, and what it was asked."""

    port: int = 0
    ca_pem: str = field(default="", repr=False)
    signer: Signer = field(default_factory=_signer)
    clients: dict[str, RegisteredClient] = field(default_factory=dict)
    accounts: set[str] = field(default_factory=lambda: {ACCOUNT})
    service_account_key: str = ""
    """The PEM of the service account's public key."""
    access_life: timedelta = timedelta(hours=1)
    rotates: bool = True
    """A refresh gives a new refresh token."""
    detects_reuse: bool = False
    """A replaced refresh token that comes back ends the whole consent; else it goes on working, as Microsoft's."""
    kills_old_access: bool = False
    """A refresh ends the access tokens before it."""
    gives_refresh_token: bool = True
    id_token_claims: dict[str, Any] = field(default_factory=dict)
    """What ID tokens say otherwise than they should; None: not at all."""
    takes_basic: bool = True
    """A client secret in the Authorization header; one in the body is always taken."""
    answers: deque[Behaviour] = field(default_factory=deque)
    standing: Behaviour | None = None
    """What answers a request for a token when `answers` is empty."""
    revocations: deque[Behaviour] = field(default_factory=deque)
    discoveries: deque[Behaviour] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    _refresh_tokens: dict[str, _RefreshToken] = field(default_factory=dict)
    _access_tokens: dict[str, _Consent] = field(default_factory=dict)
    pages: ConsentPages = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.pages = ConsentPages(
            registered=lambda id_: self.clients[id_].redirect_uris if id_ in self.clients else None,
            knows=lambda account: account in self.accounts,
            issuer=lambda is_microsoft: self.issuer if is_microsoft else self.origin,
        )

    async def log_in(
        self, authorize_url: str, *, account: str = ACCOUNT, decision: str = "allow", password: str = PASSWORD
    ) -> str:
        """Fills in the login form and the consent page; gives the URL that the browser is sent to."""
        return await Visitor(self.ca_pem, account, password).consent(authorize_url, decision)

    async def log_in_device(self, user_code: str, *, account: str = ACCOUNT, decision: str = "allow") -> None:
        """Enters the code of a device, and goes on as `log_in`."""
        await Visitor(self.ca_pem, account).allow_device(f"{self.origin}/device", user_code, decision)

    @property
    def origin(self) -> str:
        return f"https://{LOOPBACK}:{self.port}"

    @property
    def authority(self) -> str:
        return f"{self.origin}/{DIRECTORY}"

    @property
    def token_uri(self) -> str:
        return f"{self.origin}/token"

    @property
    def authorization_uri(self) -> str:
        return f"{self.origin}/authorize"

    @property
    def microsoft_authorization_uri(self) -> str:
        return f"{self.authority}/oauth2/v2.0/authorize"

    @property
    def revocation_uri(self) -> str:
        return f"{self.origin}/revoke"

    @property
    def device_authorization_uri(self) -> str:
        return f"{self.origin}/device_authorization"

    @property
    def issuer(self) -> str:
        return f"{self.authority}/v2.0"

    @property
    def token_requests(self) -> list[Asked]:
        return [each for each in self.asked if each.method == "POST" and each.path.endswith("/token")]

    @property
    def revocation_requests(self) -> list[Asked]:
        return [each for each in self.asked if each.path == "/revoke"]

    def register(self, client: RegisteredClient) -> None:
        self.clients[client.id] = client

    def consent(self, *, client_id: str = CLIENT_ID, account: str = ACCOUNT, scopes: tuple[str, ...] = (SCOPE,)) -> str:
        """The first refresh token of a consent."""
        return self._new_refresh_token(_Consent(client_id, account, scopes))

    def revoke(self, refresh_token: str) -> None:
        self._refresh_tokens[refresh_token].consent.is_revoked = True

    def is_live(self, access_token: str) -> bool:
        """Whether a mail server would take the token."""
        consent = self._access_tokens.get(access_token)
        if consent is None or consent.is_revoked or access_token not in consent.access_tokens:
            return False
        return float(self.claims(access_token)["exp"]) > time.time()

    def claims(self, access_token: str) -> dict[str, Any]:
        options: Any = {"verify_exp": False, "verify_aud": False}
        decoded = jwt.decode(access_token, self.signer.public_pem, algorithms=[ALGORITHM], options=options)
        return dict(decoded)

    # What it answers

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/{tenant}/v2.0/.well-known/openid-configuration", self._answer_discovery)
        application.router.add_post("/{tenant}/oauth2/v2.0/token", self._answer_token)
        application.router.add_post("/token", self._answer_token)
        application.router.add_post("/introspect", self._answer_introspection)
        application.router.add_post("/revoke", self._answer_revocation)
        application.router.add_post("/{tenant}/oauth2/v2.0/devicecode", self._answer_device)
        application.router.add_post("/device_authorization", self._answer_device)
        application.add_routes(self.pages.routes())
        return application

    async def _answer_discovery(self, request: web.Request) -> web.StreamResponse:
        await self._record(request)
        if self.discoveries:
            return await self.discoveries.popleft()(request)
        if request.match_info["tenant"] != DIRECTORY:
            return _microsoft_answer(RefusedError("invalid_tenant", 90002, "Tenant not found. Check your tenant ID."))
        return web.json_response(self.discovery_document())

    def discovery_document(self, **changes: str) -> dict[str, str]:
        endpoints = f"{self.authority}/oauth2/v2.0"
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{endpoints}/authorize",
            "token_endpoint": f"{endpoints}/token",
            "device_authorization_endpoint": f"{endpoints}/devicecode",
            **changes,
        }

    async def _answer_token(self, request: web.Request) -> web.StreamResponse:
        form = await self._record(request)
        if self.answers:
            return await self.answers.popleft()(request)
        if self.standing is not None:
            return await self.standing(request)
        try:
            return web.json_response(self._grant(request, form), headers={"Cache-Control": "no-store"})
        except RefusedError as refused:
            return _microsoft_answer(refused) if "tenant" in request.match_info else _plain_answer(refused)

    async def _answer_device(self, request: web.Request) -> web.StreamResponse:
        """Source: RFC 8628 §3.1."""
        form = await self._record(request)
        if self.answers:
            return await self.answers.popleft()(request)
        is_microsoft = "tenant" in request.match_info
        try:
            client = self._authenticated(request, form)
        except RefusedError as refused:
            return _microsoft_answer(refused) if is_microsoft else _plain_answer(refused)
        scopes = tuple(form.get("scope", "").split())
        codes = self.pages.new_device(client.id, scopes, is_microsoft=is_microsoft, origin=self.origin)
        return web.json_response(codes)

    async def _answer_introspection(self, request: web.Request) -> web.StreamResponse:
        """Source: RFC 7662 §2.2."""
        token = (await self._record(request)).get("token", "")
        return web.json_response({"active": True, **self.claims(token)} if self.is_live(token) else {"active": False})

    async def _answer_revocation(self, request: web.Request) -> web.StreamResponse:
        """Source: RFC 7009 §2. A request of nobody is taken, as Google takes it."""
        form = await self._record(request)
        if self.revocations:
            return await self.revocations.popleft()(request)
        try:
            client = self._authenticated(request, form, self.token_uri) if len(form) > 1 else None
        except RefusedError as refused:
            return _plain_answer(refused)
        held = self._refresh_tokens.get(form.get("token", ""))
        if held is not None and client in (None, self.clients.get(held.consent.client_id)):
            if client is None and held.consent.is_revoked:
                return _plain_answer(RefusedError("invalid_token", 0, "Token expired or revoked"))
            held.consent.is_revoked = True
        return web.Response()

    async def _record(self, request: web.Request) -> dict[str, str]:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(Asked(request.method, request.path, dict(request.headers), form))
        return form

    def _grant(self, request: web.Request, form: Mapping[str, str]) -> dict[str, Any]:
        if form.get("grant_type") == JWT_BEARER:
            return self._service_account_grant(form)
        client = self._authenticated(request, form)
        if form.get("grant_type") == "refresh_token":
            return self._refreshed(client, form)
        if form.get("grant_type") == "authorization_code":
            return self._redeemed(client, form)
        if form.get("grant_type") == DEVICE_GRANT:
            return self._device_tokens(client, form)
        if form.get("grant_type") == "client_credentials":
            if client.secret is None and client.assertion_key is None:
                raise RefusedError("unauthorized_client", 7000216, "A public client has no such grant.")
            return self._new_tokens(_Consent(client.id, client.id, tuple(form.get("scope", "").split())))
        raise RefusedError("unsupported_grant_type", 70003, "The grant type is not supported.")

    def _refreshed(self, client: RegisteredClient, form: Mapping[str, str]) -> dict[str, Any]:
        token = form.get("refresh_token", "")
        held = self._refresh_tokens.get(token)
        if held is None or held.consent.client_id != client.id:
            raise RefusedError("invalid_grant", 70000, "The provided grant is invalid or malformed.")
        if held.is_replaced and self.detects_reuse:
            held.consent.is_revoked = True
        if held.consent.is_revoked:
            raise RefusedError("invalid_grant", 50173, "The provided grant has expired due to it being revoked.")
        if self.kills_old_access:
            held.consent.access_tokens.clear()
        if not self.rotates:
            return self._new_tokens(held.consent)
        held.is_replaced = True
        return {**self._new_tokens(held.consent), "refresh_token": self._new_refresh_token(held.consent)}

    def _redeemed(self, client: RegisteredClient, form: Mapping[str, str]) -> dict[str, Any]:
        """Source: RFC 6749 §4.1.3, RFC 7636 §4.6."""
        code = self.pages.codes.get(form.get("code", ""))
        if code is None or code.flow.client_id != client.id:
            raise RefusedError("invalid_grant", 70000, "The provided authorization code is invalid.")
        if code.is_used:
            for token in code.refresh_tokens:
                self.revoke(token)
            raise RefusedError("invalid_grant", 54005, "OAuth2 Authorization code was already redeemed.")
        if code.ends_at < time.monotonic():
            raise RefusedError("invalid_grant", 70008, "The provided authorization code is expired.")
        if form.get("redirect_uri") != code.flow.redirect_uri:
            raise RefusedError("invalid_grant", 500112, "The redirect_uri does not match that of the request.")
        if not verifies(form.get("code_verifier", ""), code.flow.challenge):
            raise RefusedError("invalid_grant", 501481, "The Code_Verifier does not match the code_challenge.")
        return self._consented(code.flow, code)

    def _device_tokens(self, client: RegisteredClient, form: Mapping[str, str]) -> dict[str, Any]:
        """Source: RFC 8628 §3.5."""
        device = self.pages.devices.get(form.get("device_code", ""))
        if device is None or device.flow.client_id != client.id or device.is_used:
            raise RefusedError("invalid_grant", 70019, "The verification code is invalid or used.")
        if device.ends_at < time.monotonic():
            raise RefusedError("expired_token", 70020, "The provided device code has expired.")
        if self.pages.slow_downs:
            self.pages.slow_downs -= 1
            raise RefusedError("slow_down", 0, "Poll less often.")
        if not device.decision:
            raise RefusedError("authorization_pending", 70016, "Authorization is pending. Continue polling.")
        if device.decision != "allow":
            declined = "authorization_declined" if device.flow.is_microsoft else "access_denied"
            raise RefusedError(declined, 65004, "The end user denied the authorization request.")
        return self._consented(device.flow, device)

    def _consented(self, flow: Flow, used: Code | Device) -> dict[str, Any]:
        """The tokens of a consent."""
        used.is_used = True
        mail = tuple(scope for scope in flow.scopes if scope not in _IDENTITY_SCOPES)
        consent = _Consent(flow.client_id, flow.account, mail)
        answer = self._new_tokens(consent)
        if not flow.is_microsoft:  # which names the scopes of the access token alone
            answer["scope"] = " ".join(flow.scopes)
        if "openid" in flow.scopes:
            answer["id_token"] = self._id_token(flow)
        if self.gives_refresh_token and ("offline_access" in flow.scopes or flow.access_type == "offline"):
            answer["refresh_token"] = self._new_refresh_token(consent)
            if isinstance(used, Code):
                used.refresh_tokens.append(answer["refresh_token"])
        return answer

    def _id_token(self, flow: Flow) -> str:
        """Sources: Microsoft identity platform, ID token claims; Google Identity, OpenID Connect."""
        subject = hashlib.sha256(flow.account.encode()).hexdigest()
        claims = {"aud": flow.client_id, "sub": subject[:21], "nonce": flow.nonce or None}
        if flow.is_microsoft:
            oid = f"{subject[:8]}-{subject[8:12]}-4{subject[13:16]}-8{subject[17:20]}-{subject[20:32]}"
            own: dict[str, Any] = {"iss": self.issuer, "tid": DIRECTORY, "oid": oid, "ver": "2.0"}
            own["preferred_username"] = flow.account
        else:
            own = {"iss": self.origin, "azp": flow.client_id, "email": flow.account, "email_verified": True}
        return self.signer.token({**claims, **own, **self.id_token_claims})

    def _service_account_grant(self, form: Mapping[str, str]) -> dict[str, Any]:
        try:
            claims = jwt.decode(
                form["assertion"], self.service_account_key, algorithms=["RS256"], audience=GOOGLE_AUDIENCE
            )
        except jwt.InvalidTokenError as error:
            raise RefusedError("invalid_grant", 0, "Invalid JWT Signature.") from error
        if claims["sub"] not in self.accounts:
            raise RefusedError("invalid_grant", 0, "Invalid email or User ID")
        return self._new_tokens(_Consent(claims["iss"], claims["sub"], tuple(claims["scope"].split())))

    def _authenticated(
        self, request: web.Request, form: Mapping[str, str], audience: str | None = None
    ) -> RegisteredClient:
        login = _basic(request.headers.get("Authorization"))
        if login and not self.takes_basic:
            raise RefusedError("invalid_client", 0, "Client authentication failed.", 401)
        client_id, secret = login or (form.get("client_id", ""), form.get("client_secret"))
        client = self.clients.get(client_id)
        if client is None:
            raise RefusedError("unauthorized_client", 700016, f"Application with identifier '{client_id}' not found.")
        if "client_assertion" in form:
            self._check_assertion(client, form, audience or f"{self.origin}{request.path}")
        elif (secret or None) != client.secret or (secret is None and client.assertion_key is not None):
            raise RefusedError("invalid_client", 7000215, "Invalid client secret provided.", 401)
        return client

    def _check_assertion(self, client: RegisteredClient, form: Mapping[str, str], audience: str) -> None:
        """Source: RFC 7523 §3."""
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        try:
            jwt.decode(
                form["client_assertion"],
                client.assertion_key or "",
                algorithms=["RS256", "PS256", "ES256"],
                audience=[audience, "api://AzureADTokenExchange"],
                options={"require": ["exp", "iss", "sub", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise RefusedError("invalid_client", 700027, "The certificate is not registered.", 401) from error

    def _new_tokens(self, consent: _Consent) -> dict[str, Any]:
        now = int(time.time())
        token = self.signer.token(
            {
                "iss": self.issuer,
                "sub": consent.account,
                "email": consent.account,
                "aud": "https://outlook.office.com",
                "azp": consent.client_id,
                "scope": " ".join(consent.scopes),
                "jti": secrets.token_hex(8),
                "iat": now,
                "nbf": now,
                "exp": now + int(self.access_life.total_seconds()),
            }
        )
        consent.access_tokens.append(token)
        self._access_tokens[token] = consent
        return {
            "token_type": "Bearer",
            "expires_in": int(self.access_life.total_seconds()),
            "scope": " ".join(consent.scopes),
            "access_token": token,
        }

    def _new_refresh_token(self, consent: _Consent) -> str:
        token = f"0.AX{secrets.token_urlsafe(40)}"
        self._refresh_tokens[token] = _RefreshToken(consent)
        return token


_IDENTITY_SCOPES: Final = frozenset({"openid", "profile", "email", "offline_access"})


def _basic(header: str | None) -> tuple[str, str] | None:
    """Source: RFC 6749 §2.3.1."""
    if header is None or not header.startswith("Basic "):
        return None
    name, _, secret = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
    return unquote_plus(name), unquote_plus(secret)


def microsoft_error(error: str, code: int, text: str, **more: Any) -> dict[str, Any]:
    """The JSON of Microsoft's errors: no two are the same."""
    trace, correlation = secrets.token_hex(16), secrets.token_hex(16)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return {
        "error": error,
        "error_description": f"AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {now}",
        "error_codes": [code],
        "timestamp": now,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": f"https://login.microsoftonline.com/error?code={code}",
        **more,
    }


def _microsoft_answer(refused: RefusedError) -> web.Response:
    return web.json_response(microsoft_error(refused.error, refused.code, refused.description), status=refused.status)


def _plain_answer(refused: RefusedError) -> web.Response:
    return web.json_response({"error": refused.error, "error_description": refused.description}, status=refused.status)


# Answers to order


def saying(content: object, status: int = 200, **headers: str) -> Behaviour:
    """An answer with this JSON, or with this text."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        text = content if isinstance(content, str) else json.dumps(content)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(text=text, status=status, headers=named, content_type="application/json")

    return answer


def redirecting(url: str, status: int = 307) -> Behaviour:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": url})

    return answer


def hanging() -> Behaviour:
    """No answer, until the client goes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        while request.transport is not None:  # noqa: ASYNC110 - aiohttp has no event for it
            await asyncio.sleep(0.02)
        return web.Response()

    return answer


def dripping(interval_s: float = 0.05) -> Behaviour:
    """One byte after the other, without an end: no single read takes long."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while request.transport is not None:
                await response.write(b" ")
                await asyncio.sleep(interval_s)
        return response

    return answer


def huge(size: int) -> Behaviour:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(size // 65536):
                await response.write(b" " * 65536)
        return response

    return answer


# Running


@contextlib.asynccontextmanager
async def identity_provider(context: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[IdentityProvider]:
    """A provider on a free loopback port, with the client `CLIENT_ID` and its secret."""
    issued = certificate(LOOPBACK)
    provider = IdentityProvider(ca_pem=issued.ca_pem, **options)
    provider.register(RegisteredClient(secret=CLIENT_SECRET))
    runner = web.AppRunner(provider.application(), shutdown_timeout=1)
    await runner.setup()
    assert runner.server is not None
    async with listening(runner.server, context=context or issued.context) as provider.port:
        try:
            yield provider
        finally:
            await runner.cleanup()


# Keys of clients


@dataclass(frozen=True)
class KeyPair:
    """A client's key and its certificate, all PEM."""

    private_key: str = field(repr=False)
    certificate: str
    public_key: str


def key_pair(kind: str = "RSA", *, age_days: int = 1) -> KeyPair:
    """A key pair with a self-signed certificate that lives 30 days from now: `RSA`, or a curve.

    Slow to make, and therefore made once.
    """
    return _key_pair(kind, age_days)


@cache
def _key_pair(kind: str, age_days: int) -> KeyPair:
    key: CertificateIssuerPrivateKeyTypes
    key = rsa.generate_private_key(65537, 2048) if kind == "RSA" else ec.generate_private_key(_CURVES[kind])
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mailsettings")])
    today = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name)
        .public_key(key.public_key())
        .serial_number(int(hashlib.sha256(kind.encode()).hexdigest()[:8], 16))
        .not_valid_before(today - timedelta(days=age_days))
        .not_valid_after(today + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return KeyPair(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode(),
        signed.public_bytes(pem).decode(),
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo).decode(),
    )


_CURVES: Final = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}


def service_account_key(**changes: Any) -> str:
    """The key file of `SERVICE_ACCOUNT`."""
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "acme-project",
            "private_key_id": "f1e2d3c4",
            "private_key": key_pair().private_key,
            "client_email": SERVICE_ACCOUNT,
            "client_id": "100000000000000000001",
            "token_uri": GOOGLE_AUDIENCE,
            **changes,
        }
    )
