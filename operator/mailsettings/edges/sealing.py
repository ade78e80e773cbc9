"""Encrypts what the operator needs again later and has to leave where others can read."""

import base64
import binascii
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES: Final = 12


class SealError(ValueError):
    """A text was not sealed by this operator for this purpose."""


class Sealer:
    """Seals and opens texts under the operator's own key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(HKDF(algorithm=SHA256(), length=32, salt=None, info=b"mailsettings/seal").derive(key))

    def seal(self, text: str, *, about: str) -> str:
        """The text, encrypted; it can be opened only with the same `about`."""
        nonce = os.urandom(_NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, text.encode(), about.encode())).decode("ascii")

    def open(self, sealed: str, *, about: str) -> str:
        """What was sealed.

        Raises:
            SealError: It was not, or for something else.
        """
        try:
            whole = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(whole[:_NONCE_BYTES], whole[_NONCE_BYTES:], about.encode()).decode()
        except (binascii.Error, InvalidTag, ValueError):
            raise SealError("not sealed by this operator") from None
