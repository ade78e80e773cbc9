"""The server's end of a login by an access token, written from the specifications and not from the client's code."""

import json
import re
from dataclasses import dataclass
from typing import Final

CHALLENGE: Final = json.dumps(
    {"status": "invalid_token", "schemes": "Bearer", "scope": "https://mail.acme.example/smtp"}
).encode()
"""Says that a token is refused."""


@dataclass(frozen=True, slots=True)
class Presented:
    """What a client presented; host and port by OAUTHBEARER only."""

    username: str
    token: str
    host: str = ""
    port: str = ""


def presented(mechanism: str, response: bytes) -> Presented:
    """Reads an initial client response.

    Raises:
        ValueError: It has not the mechanism's form.
    """
    return _READERS[mechanism](response.decode("utf-8"))


def _read_xoauth2(text: str) -> Presented:
    """Source: Google, OAuth 2.0 Mechanism."""
    found = re.fullmatch("user=([^\x01]*)\x01auth=Bearer ([^\x01]*)\x01\x01", text)
    if found is None:
        raise ValueError("no XOAUTH2")
    return Presented(*found.groups())


def _read_oauthbearer(text: str) -> Presented:
    """Source: RFC 7628 §3.1, RFC 5801 §4."""
    name = "(?:[^\x00,=]|=2C|=3D)+"
    found = re.fullmatch(f"n,a=({name}),\x01host=([^\x01]*)\x01port=([0-9]*)\x01auth=Bearer ([^\x01]*)\x01\x01", text)
    if found is None:
        raise ValueError("no OAUTHBEARER")
    username, host, port, token = found.groups()
    return Presented(username.replace("=2C", ",").replace("=3D", "="), token, host, port)


_READERS: Final = {"XOAUTH2": _read_xoauth2, "OAUTHBEARER": _read_oauthbearer}
