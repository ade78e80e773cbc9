"""The operator's credentials, for its own requests and for kopf's: those of its ServiceAccount, or of a kubeconfig.

They are kopf's own logins, which need none of the heavy clients.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import kopf

from mailsettings.edges.kubernetes import Access

REFRESH_SECONDS: Final = 60.0
"""How long a token is used before it is read again; the kubelet replaces one well before it expires."""

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

Login = Callable[..., Any]
"""A handler of kopf's."""


def kubeconfig_path() -> Path | None:
    """The kubeconfig to use; None: the Pod's ServiceAccount. `KUBECONFIG` wins over both."""
    if os.environ.get("KUBECONFIG"):
        return Path(os.environ["KUBECONFIG"])
    return None if SERVICE_ACCOUNT.exists() else Path.home() / ".kube" / "config"


def login(kubeconfig: Path | None) -> Login:
    """What gives kopf its credentials.

    Args:
        kubeconfig: where they are; None: they are the Pod's.
    """
    if kubeconfig is None:
        return kopf.login_with_service_account
    os.environ["KUBECONFIG"] = str(kubeconfig)
    return kopf.login_with_kubeconfig


def access(login: Login) -> Access:
    """The same credentials for other requests, read again once a minute.

    Raises:
        OSError: there are none.
        kopf.LoginError: they cannot be used.
    """
    credentials = _Credentials(login)
    info = credentials.info
    return Access(
        server=info.server.rstrip("/"),
        context=info.as_ssl_context() if info.server.startswith("https:") else None,
        headers=credentials.headers,
        proxy=info.proxy_url,
        # In a Pod the API server is in the same cluster, and kopf's watches go there directly.
        asks_environment=login is not kopf.login_with_service_account,
    )


class _Credentials:
    """What a login gave last."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._refresh()

    async def headers(self) -> Mapping[str, str]:
        if time.monotonic() > self._due:
            self._refresh()
        return self._headers

    def _refresh(self) -> None:
        found = self._login(settings=kopf.OperatorSettings())
        if found is None:
            raise kopf.LoginError("there are no credentials for the API server")
        self.info: kopf.ConnectionInfo = found
        self._headers: Mapping[str, str] = found.as_http_headers()
        self._due = time.monotonic() + REFRESH_SECONDS
