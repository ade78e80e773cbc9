"""The TLS settings of every client of the operator: for mail servers and for identity providers."""

import re
import ssl
import unicodedata
from _ssl import ENCODING_DER
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Final

from cryptography import x509

from mailsettings.api.status import MAX_CHAIN
from mailsettings.core.probe import Certificate

_TLS_VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class CaBundleError(ValueError):
    """A CA bundle holds no readable PEM certificate."""


class _Connection(ssl.SSLObject):
    """A connection that tells which certificates it was not satisfied with: asyncio shows no connection then."""

    def do_handshake(self) -> None:
        """Goes on with the handshake.

        Raises:
            ssl.SSLCertVerificationError: The server is not trusted; `refused_chain` tells what it has sent.
            ssl.SSLError: TLS failed, or waits for the peer.
        """
        try:
            super().do_handshake()
        except ssl.SSLCertVerificationError as error:
            setattr(error, _CHAIN, sent_chain(self))
            raise


_CHAIN: Final = "mailsettings_chain"


def refused_chain(error: BaseException) -> tuple[Certificate, ...]:
    """What a server had sent, as `sent_chain` has it, whose certificate was refused; empty: it ended otherwise.

    Args:
        error: By which a connection of a `tls_context` ended.
    """
    found: tuple[Certificate, ...] = getattr(error, _CHAIN, ())
    return found


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
    context.sslobject_class = _Connection
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


MAX_LENGTH: Final = 32 * 1024
"""Of a certificate, in bytes; real ones have some two thousand. A longer one is not looked at."""


def sent_chain(connection: ssl.SSLObject) -> tuple[Certificate, ...]:
    """The certificates that the server has sent, as far as they can be read, its own first, and not too many.

    Args:
        connection: After the handshake, also one that failed over the certificate.
    """
    return _readable(_chain(connection, "get_unverified_chain"))


def trusted_chain(connection: ssl.SSLObject) -> tuple[Certificate, ...]:
    """Those from the server's own to the trusted authority's, which servers seldom send, likewise.

    Args:
        connection: After a handshake that has verified the server.
    """
    return _readable(_chain(connection, "get_verified_chain"))


def _chain(connection: ssl.SSLObject, name: str) -> Iterator[bytes]:
    """The chain in DER; where Python tells no more, the server's own certificate.

    Python 3.13 has the methods in public. They do what is done here, with the same private object, which has them since
    3.10 (bpo-18233, gh-109109). There is no other way to the chain of a connection of asyncio's.
    """
    method = getattr(connection, name, None) or getattr(getattr(connection, "_sslobj", None), name, None)
    found = (method() if method is not None else None) or _own(connection)
    return (each if isinstance(each, bytes) else each.public_bytes(ENCODING_DER) for each in found)


def _own(connection: ssl.SSLObject) -> list[bytes]:
    try:
        own = connection.getpeercert(binary_form=True)
    except ValueError:  # the handshake has failed
        return []
    return [own] if own else []


def _readable(chain: Iterable[bytes]) -> tuple[Certificate, ...]:
    short = (each for each in islice(chain, MAX_CHAIN) if len(each) <= MAX_LENGTH)
    return tuple(found for each in short if (found := _certificate(each)) is not None)


# Thousands of probes see the same few: those of a provider's servers and of its authorities.
@lru_cache(maxsize=64)
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
