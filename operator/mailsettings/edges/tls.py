"""The TLS settings of every client of the operator: for mail servers and for identity providers."""

import ssl
from functools import lru_cache
from typing import Final

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
