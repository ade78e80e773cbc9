"""The TLS settings of every client of the operator: for mail servers and for identity providers."""

import re
import ssl
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from cryptography import x509

from mailsettings.core.probe import Certificate

_TLS_VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class CaBundleError(ValueError):
    """A CA bundle holds no readable PEM certificate."""


@lru_cache(maxsize=32)
def tls_context(min_version: str, ca_bundle: str | None, *, verify: bool) -> ssl.SSLContext:
    """The TLS settings of a client.

    Slow for the public authorities (there are more than a hundred): call it off the event loop.

    Args:
        min_version: `TLSv1.2` or `TLSv1.3`.
        ca_bundle: PEM certificates that alone are trusted; None trusts the system's public authorities.
        verify: False accepts any certificate for any name.

    Raises:
        CaBundleError: The bundle holds no readable certificate.
    """
    # Not ssl.create_default_context: it would let the environment (SSLKEYLOGFILE) have the session keys written out.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _TLS_VERSIONS[min_version]
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if ca_bundle is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context
    # Whoever gives an intermediate's or the server's own certificate means that one to be trusted.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=ca_bundle)
    except (ssl.SSLError, ValueError, TypeError) as error:  # wrong, empty, not ASCII
        raise CaBundleError("the CA bundle holds no readable PEM certificate") from error
    return context


def is_usable_bundle(pem: str) -> bool:
    """Whether OpenSSL can read every certificate of a CA bundle."""
    try:
        # The very context of the connections: what was accepted here cannot fail there.
        tls_context("TLSv1.2", pem, verify=True)
    except CaBundleError:
        return False
    return True


MAX_NAME_LENGTH: Final = 200
"""Of a subject or issuer, in characters."""


def presented_chain(connection: ssl.SSLObject, *, verified: bool) -> tuple[Certificate, ...]:
    """The server's certificates as far as they can be read, its own first.

    Args:
        connection: After the handshake.
        verified: Whether the chain was verified: then it is the one that was trusted, and not all that was sent.
    """
    name = "get_verified_chain" if verified else "get_unverified_chain"
    whole = getattr(connection, name, None)  # from Python 3.13 on
    own = connection.getpeercert(binary_form=True)
    chain: Sequence[bytes] = (whole() or ()) if whole is not None else ([own] if own else [])
    return tuple(found for each in chain if (found := _certificate(each)) is not None)


def _certificate(der: bytes) -> Certificate | None:
    try:
        certificate = x509.load_der_x509_certificate(der)
        subject = certificate.subject.rfc4514_string() or _first_name(certificate)
        return Certificate(
            _shown(subject), _shown(certificate.issuer.rfc4514_string()), certificate.not_valid_after_utc
        )
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return None


def _first_name(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return next(iter(names.get_values_for_type(x509.DNSName)), "")


def _shown(name: str) -> str:
    """The server's own words, fit to be shown."""
    visible = "".join(char for char in re.sub(r"\s+", " ", name) if unicodedata.category(char)[0] != "C")
    return visible if len(visible) <= MAX_NAME_LENGTH else f"{visible[: MAX_NAME_LENGTH - 1]}…"
