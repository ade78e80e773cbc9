"""Reads what identity providers answer: tokens, errors and discovery documents, all of them untrusted."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from math import isnan
from typing import Any, Final
from urllib.parse import urlsplit

from mailsettings.api.status import MAX_SCOPES
from mailsettings.core.oauth2.faults import Failure, FailureKind, error_code
from mailsettings.core.oauth2.request import (
    DEVICE_INTERVAL,
    DeviceAuthorization,
    RefreshToken,
    ServiceAccount,
    Token,
    TokenRequest,
)

ASSUMED_LIFE: Final = timedelta(hours=1)
"""Of a token of whose life the provider says nothing (RFC 6749 §5.1 lets it); an hour is what most give."""

MAX_LIFE: Final = timedelta(days=365)

MAX_RETRY_AFTER: Final = timedelta(hours=1)
"""A provider that asks for more is asked again all the same: a token may end meanwhile."""

_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,65536}")
"""A token; source: RFC 6749 §A.12, without the space, which neither a header nor SASL could carry."""

_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")
"""One scope. Source: the `scope-token` of RFC 6749 §3.3; the bound is that of `auth.oauth2.scopes`."""

MAX_ACCOUNT_LENGTH: Final = 320
"""Of the account's name, in characters: as `auth.oauth2.username` has it."""


def read_token_answer(status: int, body: bytes, retry_after: str | None, *, now: datetime) -> dict[str, Any] | Failure:
    """The JSON of a token endpoint that gives a token, or what it answered instead.

    Args:
        status: The HTTP status.
        body: The content.
        retry_after: The header of that name.
        now: The present time.
    """
    content = _success(status, body)
    if content is not None:
        return content if _gives_token(content) else Failure(FailureKind.NO_TOKEN, status)
    return _refusal(status, body, retry_after, now=now)


def read_device_answer(status: int, body: bytes, retry_after: str | None, *, now: datetime) -> dict[str, Any] | Failure:
    """The JSON of a device authorization endpoint that gives codes, or what it answered instead.

    The arguments are those of `read_token_answer`.
    """
    content = _success(status, body)
    if content is not None:
        return content if _gives_codes(content) else Failure(FailureKind.NOT_JSON, status)
    return _refusal(status, body, retry_after, now=now)


def read_revocation_answer(
    status: int, body: bytes, retry_after: str | None, *, now: datetime
) -> dict[str, Any] | Failure:
    """Nothing, if the token is worth nothing from now on, or what was answered instead.

    Google refuses a token that is revoked already (`invalid_token`), for which the RFC has a success. Source: RFC 7009
    §2.2, whose success has no content that counts.

    The arguments are those of `read_token_answer`.
    """
    refusal = None if status == 200 else _refusal(status, body, retry_after, now=now)
    if refusal is None or (status, refusal.error) == (400, "invalid_token"):
        return {}
    return refusal


def _success(status: int, body: bytes) -> dict[str, Any] | None:
    """The JSON of a success; some answer 200 with an error in it."""
    content = _object(body) if status == 200 else None
    return None if content is None or "error" in content else content


def _refusal(status: int, body: bytes, retry_after: str | None, *, now: datetime) -> Failure:
    """What an answer means that is no success."""
    content = _object(body)
    wait = parse_retry_after(retry_after, now=now)
    if 300 <= status < 400:
        return Failure(FailureKind.REDIRECT, status)
    if content is None and status not in _TELLING:
        return Failure(FailureKind.NOT_JSON, status)
    return _error(status, content or {}, wait)


_TELLING: Final = frozenset({401, 408, 429, *range(500, 600)})
"""Statuses that say enough by themselves: what comes with them is rarely JSON."""


def read_discovery(status: int, body: bytes, retry_after: str | None, *, now: datetime) -> dict[str, str] | Failure:
    """The endpoints that an OpenID discovery document names, or what was answered instead.

    The arguments are those of `read_token_answer`.
    """
    content = _object(body)
    if status != 200 or content is None:
        return _refusal(status, body, retry_after, now=now)
    endpoints = {name: value for name in _DISCOVERED if isinstance(value := content.get(name), str)}
    usable = {name for name, value in endpoints.items() if _is_endpoint(value)}
    return endpoints if usable.issuperset(_REQUIRED) else Failure(FailureKind.NOT_JSON, status)


_REQUIRED: Final = frozenset({"authorization_endpoint", "token_endpoint"})
_DISCOVERED: Final = ("issuer", *sorted(_REQUIRED), "device_authorization_endpoint")


def parse_token(answer: Mapping[str, Any], request: TokenRequest, *, issued_at: datetime) -> Token:
    """The token in an answer that `read_token_answer` let through.

    Args:
        answer: The answer.
        request: What was asked for.
        issued_at: When it was asked for: the provider's count of seconds began no earlier.
    """
    claims = _claims(answer)
    return Token(
        access_token=answer["access_token"],
        issued_at=issued_at,
        expires_at=issued_at + _life(answer),
        refresh_token=_refresh_token(answer, request),
        scopes=_scopes(answer, request),
        account=request.grant.subject if isinstance(request.grant, ServiceAccount) else _account(claims),
        refresh_token_expires_at=_refresh_token_end(answer, issued_at),
        claims=claims,
    )


MAX_DEVICE_LIFE: Final = timedelta(hours=1)
MIN_DEVICE_INTERVAL: Final = timedelta(seconds=1)
MAX_DEVICE_INTERVAL: Final = timedelta(minutes=1)
ASSUMED_DEVICE_LIFE: Final = timedelta(minutes=10)
"""Where the provider breaks RFC 8628 §3.2, which demands it."""


def parse_device_authorization(answer: Mapping[str, Any], *, asked_at: datetime) -> DeviceAuthorization:
    """The codes in an answer that `read_device_answer` let through.

    Args:
        answer: The answer.
        asked_at: When it was asked for.
    """
    complete = answer.get("verification_uri_complete")
    life = _seconds(answer.get("expires_in")) or ASSUMED_DEVICE_LIFE
    interval = _seconds(answer.get("interval"))
    return DeviceAuthorization(
        device_code=answer["device_code"],
        user_code=answer["user_code"],
        verification_uri=answer["verification_uri"],
        verification_uri_complete=complete if _is_address(complete) else None,
        expires_at=asked_at + min(life, MAX_DEVICE_LIFE),
        interval=DEVICE_INTERVAL if interval is None else max(MIN_DEVICE_INTERVAL, min(interval, MAX_DEVICE_INTERVAL)),
    )


_USER_CODE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,62}[\x21-\x7e])?")
"""What a person reads and enters; the bound is ours."""

_ADDRESS: Final = re.compile(r"https://[\x21-\x7e]{1,2000}")
"""What a person opens: nothing but https, and nothing that a browser or a terminal would show otherwise."""


def _gives_codes(answer: Mapping[str, Any]) -> bool:
    device, user = answer.get("device_code"), answer.get("user_code")
    return (
        isinstance(device, str)
        and _TOKEN.fullmatch(device) is not None
        and isinstance(user, str)
        and _USER_CODE.fullmatch(user) is not None
        and _is_address(answer.get("verification_uri"))
    )


def _is_address(url: object) -> bool:
    return isinstance(url, str) and _ADDRESS.fullmatch(url) is not None


def parse_retry_after(text: str | None, *, now: datetime) -> timedelta | None:
    """How long a provider asks to be left alone: seconds or a date. Source: RFC 9110 §10.2.3."""
    if text is None:
        return None
    if re.fullmatch("[0-9]{1,9}", text.strip()):
        return min(timedelta(seconds=int(text)), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(timedelta(), min(moment.replace(tzinfo=moment.tzinfo or UTC) - now, MAX_RETRY_AFTER))


def _object(body: bytes) -> dict[str, Any] | None:
    """The JSON object that a body is."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _gives_token(answer: Mapping[str, Any]) -> bool:
    token, kind = answer.get("access_token"), answer.get("token_type", "Bearer")
    return (
        isinstance(token, str)
        and _TOKEN.fullmatch(token) is not None
        and isinstance(kind, str)
        and kind.lower() == "bearer"
        and _life(answer) > timedelta()
    )


def _life(answer: Mapping[str, Any]) -> timedelta:
    """How long the access token lives."""
    seconds = _seconds(answer.get("expires_in"))
    return ASSUMED_LIFE if seconds is None else seconds


def _refresh_token_end(answer: Mapping[str, Any], issued_at: datetime) -> datetime | None:
    """When the refresh token ends. No RFC has a name for it; 0 is Keycloak's word for "never"."""
    lives = (_seconds(answer.get(name)) for name in ("refresh_token_expires_in", "refresh_expires_in"))
    return next((issued_at + life for life in lives if life), None)


def _seconds(value: object) -> timedelta | None:
    """A number of seconds, which some providers write as a string or with a fraction."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,12}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or isnan(value):
        return None
    return timedelta(seconds=max(0, min(value, MAX_LIFE.total_seconds())))


def _refresh_token(answer: Mapping[str, Any], request: TokenRequest) -> str | None:
    """The new refresh token; an answer without one, or with the same, means that the old one stays good."""
    token = answer.get("refresh_token")
    if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
        return None
    return None if isinstance(request.grant, RefreshToken) and token == request.grant.token else token


def _scopes(answer: Mapping[str, Any], request: TokenRequest) -> tuple[str, ...]:
    """What is granted: what was asked for, unless the answer says otherwise (RFC 6749 §5.1).

    What is no scope is left out. What was asked for comes first, so that it is not what the bound cuts off.
    """
    text = answer.get("scope")
    if not isinstance(text, str) or not text.strip():
        return request.scopes
    granted = [scope for scope in text.split() if _SCOPE.fullmatch(scope)]
    return tuple(sorted(granted, key=lambda scope: scope not in request.scopes)[:MAX_SCOPES])


_ACCOUNT_CLAIMS: Final = ("preferred_username", "upn", "email")


def _claims(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The ID token's claims; its signature need not be checked (OpenID Connect Core 1.0 §3.1.3.7)."""
    token = answer.get("id_token")
    if not isinstance(token, str) or token.count(".") != 2:
        return {}
    payload = token.split(".")[1]
    try:
        return _object(base64.b64decode(payload + "=" * (-len(payload) % 4), altchars=b"-_", validate=True)) or {}
    except (binascii.Error, ValueError):
        return {}


def _account(claims: Mapping[str, Any]) -> str | None:
    """The account that the ID token names: whole, or not at all, since a part of it would be another one."""
    names = (claims.get(claim) for claim in _ACCOUNT_CLAIMS)
    return next((name for name in names if _is_account(name)), None)


def _is_account(name: object) -> bool:
    """Whether it is a name that can be kept and shown: no control, format or surrogate characters."""
    return isinstance(name, str) and 0 < len(name) <= MAX_ACCOUNT_LENGTH and name.isprintable() and not name.isspace()


def _error(status: int, content: Mapping[str, Any], retry_after: timedelta | None) -> Failure:
    error = content.get("error")
    if isinstance(error, dict):  # Google's other APIs, behind the same host
        content = {"error": error.get("status"), "error_description": error.get("message")}
    description = content.get("error_description")
    numbers = content.get("error_codes")
    return Failure(
        FailureKind.ANSWER,
        status,
        error=error_code(content.get("error")),
        suberror=error_code(content.get("suberror") or content.get("error_subtype")),
        codes=frozenset(n for n in numbers if isinstance(n, int)) if isinstance(numbers, list) else frozenset(),
        description=description if isinstance(description, str) else "",
        retry_after=retry_after,
    )


def _is_endpoint(url: str) -> bool:
    """Whether msal can take a URL for an endpoint: https, a host, and a path that begins with the directory."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and len(parts.path.strip("/")) > 0
