"""Access tokens as identity providers sign them."""

import base64
import json
import time
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ALGORITHM: Final = "RS256"


@dataclass(frozen=True)
class Signer:
    """A key pair and what it signs. Sources: RFC 7515 §3.1, RFC 7518 §3.3."""

    key_id: str = "test"
    _key: rsa.RSAPrivateKey = field(
        default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048), repr=False
    )

    @property
    def public_pem(self) -> str:
        public = self._key.public_key()
        return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()

    def token(self, claims: dict[str, Any]) -> str:
        """A token of one hour, unless the claims say otherwise; a claim that is None is left out."""
        now = int(time.time())
        header = {"typ": "JWT", "alg": ALGORITHM, "kid": self.key_id}
        defaults = {"iat": now - 60, "nbf": now - 60, "exp": now + 3600}
        payload = {name: value for name, value in {**defaults, **claims}.items() if value is not None}
        signed = f"{_encoded(json.dumps(header).encode())}.{_encoded(json.dumps(payload).encode())}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_encoded(signature)}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
