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

from mailsettings.core.oauth2.faults import Failure, FailureKind
from mailsettings.core.oauth2.request import RefreshToken, ServiceAccount, Token, TokenRequest

ASSUMED_LIFE: Final = timedelta(hours=1)
"""Of a token of whose life the provider says nothing (RFC 6749 §5.1 lets it); an hour is what most give."""

MAX_LIFE: Final = timedelta(days=365)

MAX_RETRY_AFTER: Final = timedelta(hours=1)
"""A provider that asks for more is asked again all the same: a token may end meanwhile."""

_CODE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,80}")
"""An error code. Source: RFC 6749 §5.2, without the space; the bound is ours."""

_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,65536}")
"""A token; source: RFC 6749 §A.12, without the space, which neither a header nor SASL could carry."""


def read_token_answer(status: int, body: bytes, retry_after: str | None, *, now: datetime) -> dict[str, Any] | Failure:
    """The JSON of a token endpoint that gives a token, or what it answered instead.

    Args:
        status: The HTTP status.
        body: The content.
        retry_after: The header of that name.
        now: The present time.
    """
    content = _object(body)
    wait = parse_retry_after(retry_after, now=now)
    if 300 <= status < 400:
        return Failure(FailureKind.REDIRECT, status)
    # Some answer 200 with an error in it.
    if status == 200 and content is not None and "error" not in content:
        return content if _gives_token(content) else Failure(FailureKind.NO_TOKEN, status)
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
        failure = read_token_answer(status, body, retry_after, now=now)
        return failure if isinstance(failure, Failure) else Failure(FailureKind.NOT_JSON, status)
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
    scope = answer.get("scope")
    return Token(
        access_token=answer["access_token"],
        issued_at=issued_at,
        expires_at=issued_at + _life(answer),
        refresh_token=_refresh_token(answer, request),
        scopes=tuple(scope.split()) if isinstance(scope, str) and scope.strip() else request.scopes,
        account=request.grant.subject if isinstance(request.grant, ServiceAccount) else _account(answer),
        refresh_token_expires_at=_refresh_token_end(answer, issued_at),
    )


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


_ACCOUNT_CLAIMS: Final = ("preferred_username", "upn", "email")


def _account(answer: Mapping[str, Any]) -> str | None:
    """The account that the ID token names; its signature need not be checked (OpenID Connect Core 1.0 §3.1.3.7)."""
    token = answer.get("id_token")
    if not isinstance(token, str) or token.count(".") != 2:
        return None
    payload = token.split(".")[1]
    try:
        claims = _object(base64.b64decode(payload + "=" * (-len(payload) % 4), altchars=b"-_", validate=True)) or {}
    except (binascii.Error, ValueError):
        return None
    names = (claims.get(claim) for claim in _ACCOUNT_CLAIMS)
    return next((name for name in names if isinstance(name, str) and name), None)


def _error(status: int, content: Mapping[str, Any], retry_after: timedelta | None) -> Failure:
    error = content.get("error")
    if isinstance(error, dict):  # Google's other APIs, behind the same host
        content = {"error": error.get("status"), "error_description": error.get("message")}
    description = content.get("error_description")
    numbers = content.get("error_codes")
    return Failure(
        FailureKind.ANSWER,
        status,
        error=_code(content.get("error")),
        suberror=_code(content.get("suberror") or content.get("error_subtype")),
        codes=frozenset(n for n in numbers if isinstance(n, int)) if isinstance(numbers, list) else frozenset(),
        description=description if isinstance(description, str) else "",
        retry_after=retry_after,
    )


def _code(value: object) -> str:
    return value if isinstance(value, str) and _CODE.fullmatch(value) else ""


def _is_endpoint(url: str) -> bool:
    """Whether msal can take a URL for an endpoint: https, a host, and a path that begins with the directory."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and len(parts.path.strip("/")) > 0
