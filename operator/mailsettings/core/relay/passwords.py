"""The relay's own passwords, and what is kept of them.

A password holds 256 random bits, so it cannot be guessed, however fast a guess is: a slow hash such as scrypt would
protect nothing, and would let anybody who can connect use up the relay's processor with wrong passwords. A salt still
keeps equal passwords from being seen to be equal.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Iterable
from typing import Final

PASSWORD_LENGTH: Final = 43
SALT_BYTES: Final = 16
MAX_HASHES: Final = 2
"""Of one login: while a password is being replaced, the old and the new one both hold."""

HASH_PATTERN: Final = "^hmac-sha256[$][A-Za-z0-9_-]{22}[$][A-Za-z0-9_-]{43}$"

_SCHEME: Final = "hmac-sha256"
_CHARACTERS: Final = string.ascii_letters + string.digits


def new_password() -> str:
    """A random one, of characters that need no escape in any URI or file; no command takes it for an option."""
    return "".join(secrets.choice(_CHARACTERS) for _ in range(PASSWORD_LENGTH))


def hash_password(password: str, salt: bytes | None = None) -> str:
    """What to keep of a password: `hmac-sha256$SALT$DIGEST`, both in base64url.

    Args:
        password: One that `new_password` has made: others could be guessed from their hash.
        salt: `SALT_BYTES` bytes; None: random ones.
    """
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    return f"{_SCHEME}${_encoded(salt)}${_encoded(_digest(password, salt))}"


_NOBODY: Final = f"{_SCHEME}${'A' * 22}${'A' * 43}"
"""A digest that no password is known for: compared with where there is no such user, so that the time tells nothing."""


def verify_password(password: str, hashes: Iterable[str]) -> bool:
    """Whether one of the hashes is the password's.

    The time does not depend on which, nor on whether there are any.
    """
    return matching_hash(password, hashes) is not None


def matching_hash(password: str, hashes: Iterable[str]) -> str | None:
    """The hash that is the password's; None: none is.

    The time does not depend on which, nor on whether there are any.
    """
    compared = list(hashes)[:MAX_HASHES]
    compared += [_NOBODY] * (MAX_HASHES - len(compared))
    found = [each for each in compared if _matches(password, each)]
    return found[0] if found else None


def _matches(password: str, kept: str) -> bool:
    if re.fullmatch(HASH_PATTERN, kept, re.ASCII) is None:
        return False
    _, salt, digest = kept.split("$")
    try:
        return hmac.compare_digest(_digest(password, _decoded(salt)), _decoded(digest))
    except binascii.Error:
        return False


def _digest(password: str, salt: bytes) -> bytes:
    return hmac.new(salt, password.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
