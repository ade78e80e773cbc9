"""Logins of clients: what each mechanism's exchange comes to.

Sources: RFC 4616 (PLAIN), draft-murchison-sasl-login (LOGIN), RFC 7628 (OAUTHBEARER), Google (XOAUTH2).
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Presented:
    """Who a client says that it is, and what it shows for it."""

    username: str
    secret: str = field(repr=False)
    is_token: bool = False
    """Whether the mechanism says that the secret is a token; otherwise it is a password, or a token in its place."""


class LoginError(ValueError):
    """What a client sent is not what its mechanism wants. The text holds nothing of it."""


Exchange = Generator[bytes, bytes, Presented]
"""Gives challenges and is sent the responses, both without base64; returns what was presented."""


def begin(mechanism: str, initial: bytes | None) -> Exchange | None:
    """An exchange; None: there is no such mechanism.

    Args:
        mechanism: In capitals.
        initial: What came with the command; None: nothing did.

    Raises:
        LoginError: From the generator.
    """
    exchange = _MECHANISMS.get(mechanism)
    return None if exchange is None else exchange(initial)


def _plain(initial: bytes | None) -> Exchange:
    response = initial if initial is not None else (yield b"")
    parts = _decoded(response).split("\0")
    if len(parts) != 3:
        raise LoginError("this is no PLAIN response")
    authorize, username, password = parts
    if authorize not in ("", username):
        raise LoginError("nobody may act for somebody else")
    return _presented(username, password)


def _login(initial: bytes | None) -> Exchange:
    username = initial if initial is not None else (yield b"Username:")
    password = yield b"Password:"
    return _presented(_decoded(username), _decoded(password))


_XOAUTH2: Final = re.compile("user=(?P<user>[^\x01]*)\x01auth=Bearer +(?P<token>[^\x01]*)\x01\x01", re.IGNORECASE)
_OAUTHBEARER: Final = re.compile(
    "(?:n|y),(?:a=(?P<user>(?:[^\x00\x01,=]|=2C|=3D)*))?,\x01(?P<pairs>(?:[A-Za-z]+=[^\x00\x01]*\x01)*)\x01"
)
_BEARER: Final = re.compile("Bearer +(?P<token>[^ ]+)", re.IGNORECASE)


def _xoauth2(initial: bytes | None) -> Exchange:
    response = initial if initial is not None else (yield b"")
    found = _XOAUTH2.fullmatch(_decoded(response))
    if found is None:
        raise LoginError("this is no XOAUTH2 response")
    return _presented(found["user"], found["token"], is_token=True)


def _oauthbearer(initial: bytes | None) -> Exchange:
    response = initial if initial is not None else (yield b"")
    found = _OAUTHBEARER.fullmatch(_decoded(response))
    if found is None:
        raise LoginError("this is no OAUTHBEARER response")
    pairs = [pair.partition("=") for pair in found["pairs"].split("\x01") if pair]
    tokens = [match for name, _, value in pairs if name == "auth" and (match := _BEARER.fullmatch(value))]
    if len(tokens) != 1:
        raise LoginError("this OAUTHBEARER response has not one token")
    username = (found["user"] or "").replace("=2C", ",").replace("=3D", "=")
    return _presented(username, tokens[0]["token"], is_token=True)


_MECHANISMS: Final[dict[str, Callable[[bytes | None], Exchange]]] = {
    "PLAIN": _plain,
    "LOGIN": _login,
    "XOAUTH2": _xoauth2,
    "OAUTHBEARER": _oauthbearer,
}
MECHANISMS: Final = tuple(_MECHANISMS)
"""In the order in which they are offered."""

BEARER: Final = frozenset({"XOAUTH2", "OAUTHBEARER"})
"""Mechanisms that refuse by a challenge first."""

REFUSAL_CHALLENGE: Final = json.dumps({"status": "invalid_token", "schemes": "bearer"}).encode()
"""Why a token is refused. Source: RFC 7628 §3.2.2."""

MAX_USERNAME: Final = 320
"""In characters."""


def _presented(username: str, secret: str, *, is_token: bool = False) -> Presented:
    if not username or len(username) > MAX_USERNAME or not username.isprintable():
        raise LoginError("the user name is empty, too long or not printable")
    if not secret:
        raise LoginError("the password is empty")
    return Presented(username, secret, is_token)


def _decoded(response: bytes) -> str:
    try:
        return response.decode("utf-8")
    except UnicodeDecodeError:
        raise LoginError("this is no UTF-8") from None


def from_base64(line: bytes) -> bytes:
    """A response as it stands on the line. Source: RFC 4954 §4.

    Raises:
        LoginError: It is no base64.
    """
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        raise LoginError("this is no base64") from None


_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{8,2048}\.[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{8,2048}")

MAX_TOKEN_LENGTH: Final = 8192


def looks_like_token(secret: str, audience: str) -> bool:
    """Whether a secret has the form of a ServiceAccount's token for the audience.

    It says nothing about whether the token is genuine, and spares the API server the question where it cannot be.
    Source: RFC 7519 §7.2.
    """
    if len(secret) > MAX_TOKEN_LENGTH or _TOKEN.fullmatch(secret) is None:
        return False
    payload = secret.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return False
    found = claims.get("aud") if isinstance(claims, dict) else None
    return audience in (found if isinstance(found, list) else [found])
