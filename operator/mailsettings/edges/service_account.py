"""Access by the Pod's ServiceAccount, without the libraries that the operator logs in by: the relay is small."""

import asyncio
import os
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mailsettings.edges.kubernetes import Access

FOLDER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

REFRESH_SECONDS: Final = 60.0
"""How long a token is used before it is read again; the kubelet replaces one well before it expires."""


async def access_by_service_account(folder: Path = FOLDER) -> Access:
    """The access that a Pod has. Source: Kubernetes, Accessing the Kubernetes API from a Pod.

    Args:
        folder: Where its token and the API server's authority are.

    Raises:
        OSError: They cannot be read, or this is no Pod.
    """
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise OSError("KUBERNETES_SERVICE_HOST is not set: this is no Pod")
    token = _Token(folder / "token")
    await token.headers()
    context = await asyncio.to_thread(ssl.create_default_context, cafile=str(folder / "ca.crt"))
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    # The API server is in the same cluster: no proxy leads there.
    return Access(server=server, context=context, headers=token.headers, asks_environment=False)


class _Token:
    """Read again once a minute."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._due_s = 0.0
        self._headers: Mapping[str, str] = {}

    async def headers(self) -> Mapping[str, str]:
        if time.monotonic() >= self._due_s:
            token = await asyncio.to_thread(self._path.read_text)
            self._headers = {"Authorization": f"Bearer {token.strip()}"}
            self._due_s = time.monotonic() + REFRESH_SECONDS
        return self._headers
