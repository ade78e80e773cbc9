"""The demo's certificate authority, which has signed the certificates of its servers."""

import ssl
from typing import Final

import trustme

HOST: Final = "127.0.0.1"
"""Where the demo's servers listen."""


class Authority:
    """Made anew for each demo, and known to nobody else: a browser warns of it."""

    def __init__(self) -> None:
        self._authority = trustme.CA()
        self.certificate: str = self._authority.cert_pem.bytes().decode()
        """In PEM."""

    def server_context(self) -> ssl.SSLContext:
        """For a server on `HOST`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(HOST).configure_cert(context)
        return context
