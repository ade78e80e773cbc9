"""Which certificates identity providers are trusted by."""

import ssl
from functools import lru_cache
from pathlib import Path


def trusted(additional: Path | None) -> str | None:
    """The public authorities and those of a file, in PEM; None: the public ones alone.

    Raises:
        OSError: The file cannot be read.
    """
    return None if additional is None else _public() + additional.read_text(encoding="ascii")


@lru_cache(maxsize=1)
def _public() -> str:
    return "".join(map(ssl.DER_cert_to_PEM_cert, ssl.create_default_context().get_ca_certs(binary_form=True)))
