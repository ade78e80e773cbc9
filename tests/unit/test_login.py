"""The operator's credentials for its own requests."""

import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import kopf
import pytest
import trustme
import yaml

from mailsettings.controller import login as module
from mailsettings.controller.login import access, kubeconfig_path, login
from mailsettings.edges import kubernetes
from mailsettings.edges.kubernetes import Access, KubernetesApi


def write(path: Path, token: str, *, server: str = "http://127.0.0.1:1", **cluster: Any) -> Path:
    config = {
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "me", "user": {"token": token}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


async def test_a_token_that_is_replaced_is_read_again_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "elsewhere")
    file = write(tmp_path / "kubeconfig", "first")
    found = access(login(file))
    assert (found.server, found.context) == ("http://127.0.0.1:1", None)
    assert await found.headers() == {"Authorization": "Bearer first"}
    write(file, "second")
    assert await found.headers() == {"Authorization": "Bearer first"}
    monkeypatch.setattr(module, "REFRESH_SECONDS", -1.0)
    impatient = access(login(file))
    write(file, "third")
    assert await impatient.headers() == {"Authorization": "Bearer third"}


def test_the_server_is_trusted_by_the_authority_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "elsewhere")
    authority = tmp_path / "ca.crt"
    trustme.CA().cert_pem.write_to_path(authority)
    file = write(
        tmp_path / "kubeconfig", "t", server="https://127.0.0.1:1/", **{"certificate-authority": str(authority)}
    )
    found = access(login(file))
    assert found.server == "https://127.0.0.1:1"
    assert found.context is not None
    assert found.context.verify_mode is ssl.CERT_REQUIRED
    assert len(found.context.get_ca_certs()) == 1


def test_without_credentials_there_is_no_access() -> None:
    with pytest.raises(kopf.LoginError, match="no credentials"):
        access(lambda **_: None)


def test_a_kubeconfig_wins_over_the_pods_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = tmp_path / "token"
    account.touch()
    monkeypatch.setattr(module, "SERVICE_ACCOUNT", account)
    monkeypatch.setenv("KUBECONFIG", "here")
    assert kubeconfig_path() == Path("here")
    monkeypatch.delenv("KUBECONFIG")
    assert kubeconfig_path() is None
    assert login(None) is kopf.login_with_service_account
    account.unlink()
    assert kubeconfig_path() == Path.home() / ".kube" / "config"


@pytest.mark.parametrize(
    ("own", "excepted", "expected"),
    [
        (None, "", "http://proxy.example:3128"),
        (None, "api.example", None),
        ("http://own.example", "", "http://own.example"),
    ],
)
def test_a_proxy_is_the_accesss_own_or_the_environments(
    monkeypatch: pytest.MonkeyPatch, own: str | None, excepted: str, expected: str | None
) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "all_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", excepted)

    async def headers() -> dict[str, str]:
        return {}

    api = KubernetesApi(Access("https://api.example:6443", None, headers, proxy=own))
    assert api._proxy == expected
    assert kubernetes._environment_proxy("https://api.example:6443") == (
        None if excepted else "http://proxy.example:3128"
    )


def test_in_a_pod_the_api_server_is_reached_without_the_environments_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    found = kopf.ConnectionInfo(server="http://10.96.0.1", token="t")
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: found)
    assert KubernetesApi(access(login(None)))._proxy is None
    monkeypatch.setenv("KUBECONFIG", "elsewhere")
    outside = access(login(write(tmp_path / "kubeconfig", "t", server="http://10.96.0.1")))
    assert KubernetesApi(outside)._proxy == "http://proxy.example:3128"


def test_the_operator_has_no_heavy_clients_in_memory() -> None:
    """Kopf would import the official client if it found it, which costs 30 MB."""
    look = (
        "import sys, mailsettings.controller.run\n"
        "print([name for name in ('kubernetes', 'msal', 'google.auth', 'requests') if name in sys.modules])\n"
        "import kubernetes.aio.config"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout == "[]\n"


def environment() -> dict[str, str]:
    return {"PYTHONPATH": str(Path(module.__file__).parents[2])}
