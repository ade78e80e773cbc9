"""Logins by an OAuth2 access token: what the client says, and what the server's refusal means. Pure.

Both mechanisms carry the same token. XOAUTH2 is Google's; OAUTHBEARER is its standard successor, RFC 7628.
"""

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from mailsettings.core.server import BearerToken, Server


class Mechanism(StrEnum):
    """A way to log in by a token; the members stand in the order of preference.

    XOAUTH2 comes first because it is what applications speak: a probe should find what they will find. Microsoft offers
    nothing else, Google both, and neither protects the token better than the other.
    """

    XOAUTH2 = "XOAUTH2"
    OAUTHBEARER = "OAUTHBEARER"


MAX_COMMAND_OCTETS: Final = 512
"""Of a command with its line end. Source: RFC 5321 §4.5.3.1.4; RFC 4954 §4 holds AUTH to it.

Not a formality: with an initial response that is longer, Dovecot answers `500 5.5.2 Line too long` and Gmail
`555 5.5.2 command line too long`.
"""

MAX_RESPONSE_OCTETS: Final = 12288
"""Of a response on a line of its own, with its line end: what servers can be expected to take. Source: RFC 4954 §4."""

MAX_CHALLENGE_CHARACTERS: Final = 8192
"""Of an error challenge in base64: those of real servers have a few hundred."""


class UnsendableError(ValueError):
    """SMTP has no way to send this login; the text says why and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the client says, line by line, without the line ends."""

    command: tuple[bytes, ...] = field(repr=False)
    """The AUTH command's words; the last is the response where it is short enough for that."""
    response: bytes | None = field(repr=False)
    """What to answer to the server's first 334; None: it is in the command."""
    acknowledgement: bytes
    """What to answer to an error challenge, so that the server goes on to its refusal."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """Why the server refused the token, in its own words. Source: RFC 7628 §3.2.2."""

    status: str = ""
    """`invalid_token` or another of RFC 6750 §3.1; Google says `400` or `401`."""
    scope: str = ""
    """The scope that a token would need."""
    schemes: str = ""
    openid_configuration: str = ""


_ACKNOWLEDGEMENTS: Final = {
    Mechanism.XOAUTH2: b"",
    Mechanism.OAUTHBEARER: base64.b64encode(b"\x01"),  # RFC 7628 §3.2.3
}

_ACCESS_TOKEN: Final = re.compile(r"[\x20-\x7e]+")
"""Source: RFC 6749 §A.12."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
"""The mechanisms separate their fields by one of these."""


def choose(offered: Iterable[str]) -> Mechanism | None:
    """The mechanism to use of those that a server offers, whatever their case; None: it takes no tokens."""
    names = {name.upper() for name in offered}
    return next((mechanism for mechanism in Mechanism if mechanism in names), None)


def exchange(mechanism: Mechanism, login: BearerToken, server: Server) -> Exchange:
    """What to say to log in.

    Raises:
        UnsendableError: The login cannot be sent.
    """
    _check(login)
    response = initial_response(mechanism, login, server)
    if len(response) + 2 > MAX_RESPONSE_OCTETS:
        raise UnsendableError(
            f"its line would be longer than {MAX_RESPONSE_OCTETS} octets, which RFC 4954 deems enough"
        )
    command = (b"AUTH", mechanism.encode("ascii"))
    whole = (*command, response)
    fits = len(b" ".join(whole)) + 2 <= MAX_COMMAND_OCTETS
    return Exchange(
        command=whole if fits else command,
        response=None if fits else response,
        acknowledgement=_ACKNOWLEDGEMENTS[mechanism],
    )


def initial_response(mechanism: Mechanism, login: BearerToken, server: Server) -> bytes:
    """The response that carries the token, in base64."""
    header = {
        Mechanism.XOAUTH2: (f"user={login.username}",),
        Mechanism.OAUTHBEARER: (f"n,a={_sasl_name(login.username)},", f"host={server.host}", f"port={server.port}"),
    }
    fields = (*header[mechanism], f"auth=Bearer {login.access_token}", "", "")
    return base64.b64encode("\x01".join(fields).encode("utf-8", "replace"))


def parse_challenge(text: str) -> Challenge | None:
    """What an error challenge says; None: nothing that this knows.

    Args:
        text: The text of the 334 reply, as the server wrote it.
    """
    values = _json_object("".join(text.split()))
    challenge = Challenge(
        status=_word(values.get("status")),
        scope=_word(values.get("scope")),
        schemes=_word(values.get("schemes")),
        openid_configuration=_word(values.get("openid-configuration")),
    )
    return None if challenge == Challenge() else challenge


def decoded_challenge(text: str) -> str:
    """The JSON of an error challenge; empty: it is none."""
    return json.dumps(_json_object("".join(text.split()))) if parse_challenge(text) is not None else ""


def _check(login: BearerToken) -> None:
    if _ACCESS_TOKEN.fullmatch(login.access_token) is None:
        raise UnsendableError("it is empty or holds characters that no access token may have")
    try:
        login.username.encode("utf-8")
    except UnicodeEncodeError:
        raise UnsendableError("the user name that it goes with is not valid Unicode") from None
    if not login.username or _CONTROL.search(login.username):
        raise UnsendableError("the user name that it goes with is empty or holds control characters")


def _sasl_name(name: str) -> str:
    """Source: RFC 5801 §4, saslname."""
    return name.replace("=", "=3D").replace(",", "=2C")


def _json_object(encoded: str) -> dict[str, Any]:
    if len(encoded) > MAX_CHALLENGE_CHARACTERS:
        return {}
    try:
        value = json.loads(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (ValueError, RecursionError):  # no base64, no JSON, nested too deeply
        return {}
    return value if isinstance(value, dict) else {}


def _word(value: object) -> str:
    """A string or number as text; RFC 7628 wants strings, some servers send the status as a number."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
