"""The credentials of a kubeconfig, where they are of the simple kinds: a token, or a certificate."""

import base64
import binascii
import os
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mailsettings.edges.kubernetes_light import LightAccess
from mailsettings.plugin.kubeconfig import Kubeconfig

_CLUSTER: Final = frozenset(
    {"server", "certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify", "extensions"}
)
_USER: Final = frozenset(
    {"token", "tokenFile", "client-certificate", "client-certificate-data", "client-key", "client-key-data"}
    | {"extensions"}
)
_PROXIES: Final = ("https_proxy", "http_proxy", "all_proxy")


def light_access(found: Kubeconfig, environment: Mapping[str, str]) -> LightAccess | None:
    """With what to connect; None: that takes more than the standard library, or cannot be read."""
    if any(environment.get(name) or environment.get(name.upper()) for name in _PROXIES):
        return None
    if not (_set(found.cluster) <= _CLUSTER and _set(found.user) <= _USER):
        return None
    server = str(found.cluster.get("server") or "")
    try:
        if server.startswith("http://"):
            return LightAccess(server, None, _headers(found))
        return LightAccess(server, _context(found), _headers(found)) if server.startswith("https://") else None
    except (OSError, ValueError, ssl.SSLError):
        return None


def _set(entry: Mapping[str, Any]) -> set[str]:
    return {name for name, value in entry.items() if value}


def _headers(found: Kubeconfig) -> dict[str, str]:
    """A file goes before a token beside it, as in kubectl."""
    token = found.user.get("token")
    if found.user.get("tokenFile"):
        token = (found.folder_of_user / str(found.user["tokenFile"])).read_text(encoding="utf-8").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _context(found: Kubeconfig) -> ssl.SSLContext:
    authority = _content(found.cluster, "certificate-authority", found.folder_of_cluster)
    # With an authority given, Python does not read the system's.
    context = ssl.create_default_context(cadata=authority)
    if found.cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate = _content(found.user, "client-certificate", found.folder_of_user)
    key = _content(found.user, "client-key", found.folder_of_user)
    if certificate and key:
        _load(context, certificate, key)
    return context


def _content(entry: Mapping[str, Any], name: str, folder: Path) -> str | None:
    data = entry.get(f"{name}-data")
    if data:
        try:
            return base64.b64decode(str(data), validate=True).decode("ascii")
        except binascii.Error as error:
            raise ValueError(name) from error
    return (folder / str(entry[name])).read_text(encoding="ascii") if entry.get(name) else None


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """OpenSSL reads keys from files only: from one in memory, or one that is nobody else's and gone at once."""
    content = f"{certificate}\n{key}\n".encode("ascii")
    if sys.platform == "linux":
        with os.fdopen(os.memfd_create("key", os.MFD_CLOEXEC), "wb") as file:
            file.write(content)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        return
    import tempfile  # noqa: PLC0415 - it takes a while

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "key.pem"
        path.write_bytes(content)
        context.load_cert_chain(path)
