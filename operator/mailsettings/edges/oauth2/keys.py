"""Keys of clients: read, checked, and used to sign."""

import time
from datetime import datetime
from secrets import token_urlsafe
from typing import Final

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mailsettings.core.oauth2.faults import FailureKind
from mailsettings.core.oauth2.request import ClientCertificate
from mailsettings.edges.oauth2.http import FailureError

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""Source: RFC 7523 §2.2."""

_ASSERTION_LIFE_S: Final = 300

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey


def load_pair(auth: ClientCertificate) -> tuple[PrivateKey, x509.Certificate]:
    """The key and the certificate of a client.

    Raises:
        FailureError: One cannot be read, or they do not belong together.
    """
    # Neither library's words are shown: they may repeat what they could not read.
    try:
        key = load_pem_private_key(auth.private_key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise FailureError(FailureKind.KEY, "the private key is not one in PEM form without a password") from None
    try:
        certificate = x509.load_pem_x509_certificate(auth.certificate.encode())
    except ValueError:
        raise FailureError(FailureKind.KEY, "the certificate is not one in PEM form") from None
    if not isinstance(key, RSAPrivateKey) and not (
        isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)
    ):
        raise FailureError(FailureKind.KEY, "the private key is neither RSA nor of the curve P-256")
    if _public_bytes(key.public_key()) != _public_bytes(certificate.public_key()):
        raise FailureError(FailureKind.KEY, "the private key and the certificate do not belong together")
    return key, certificate


def certificate_life(pem: str) -> tuple[datetime, datetime] | None:
    """From when until when a certificate is valid; None: it cannot be read, which its use will say."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return None
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def sign_assertion(auth: ClientCertificate, *, client_id: str, audience: str) -> str:
    """A JWT by which a client authenticates itself (`private_key_jwt`). Source: RFC 7523 §3, RFC 7515 §4.1.8.

    Raises:
        FailureError: The key or the certificate cannot be used.
    """
    key, certificate = load_pair(auth)
    now = int(time.time())
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "jti": token_urlsafe(16),
        "iat": now,
        "exp": now + _ASSERTION_LIFE_S,
    }
    thumbprint = jwt.utils.base64url_encode(certificate.fingerprint(hashes.SHA256())).decode()
    algorithm = "RS256" if isinstance(key, RSAPrivateKey) else "ES256"
    return jwt.encode(claims, key, algorithm=algorithm, headers={"x5t#S256": thumbprint})


def _public_bytes(key: object) -> bytes:
    data: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return data
