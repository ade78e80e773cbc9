"""The kubeconfig, context and namespace in force are those that kubectl takes."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mailsettings.edges.kubeconfig import access_by_kubeconfig
from mailsettings.plugin.command import CommandError
from mailsettings.plugin.kubeconfig import Kubeconfig, find_kubeconfig


def write(path: Path, *contexts: str, current: str = "", **context: str) -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current,
        "clusters": [{"name": name, "cluster": {"server": f"http://{path.name}-{name}"}} for name in contexts],
        "users": [{"name": name, "user": {"token": "the-token"}} for name in contexts],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, **context}} for name in contexts],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


def find(
    home: Path, given: Path | None = None, context: str | None = None, environment: Mapping[str, str] | None = None
) -> Kubeconfig:
    return find_kubeconfig(str(given) if given else None, context, environment or {}, home)


def several(*paths: Path) -> dict[str, str]:
    return {"KUBECONFIG": os.pathsep.join(map(str, paths))}


def test_home_environment_and_option_in_this_order(tmp_path: Path) -> None:
    home = write(tmp_path / ".kube" / "config", "home", current="home")
    named = write(tmp_path / "named", "named", current="named", namespace="shop")
    assert find(tmp_path) == Kubeconfig(str(home), "home", "default")
    assert find(tmp_path, environment=several(named)) == Kubeconfig(str(named), "named", "shop")
    assert find(tmp_path, home, environment=several(named)).context == "home"


def test_a_context_that_is_named_wins(tmp_path: Path) -> None:
    file = write(tmp_path / "file", "a", "b", current="a", namespace="shop")
    assert find(tmp_path, file, "b") == Kubeconfig(str(file), "b", "shop")


async def test_several_files_are_merged_as_kubectl_does_it(tmp_path: Path) -> None:
    """The first that says something wins; the client library lets the last one choose the context."""
    empty = tmp_path / "empty"
    empty.touch()
    first = write(tmp_path / "first", "a", namespace="one")
    second = write(tmp_path / "second", "a", "b", current="b", namespace="two")
    third = write(tmp_path / "third", "c", current="c", namespace="three")
    environment = several(tmp_path / "missing", empty, first, second, third)

    found = find(tmp_path, environment=environment)
    assert (found.context, found.namespace) == ("b", "two")
    assert find(tmp_path, context="a", environment=environment).namespace == "one"
    assert find(tmp_path, context="c", environment=environment).namespace == "three"
    assert await server_of(found) == "http://second-b"
    assert await server_of(find(tmp_path, context="a", environment=environment)) == "http://first-a"
    if shutil.which("kubectl"):
        said = kubectl_view(environment)
        assert said["contexts"][0]["context"]["namespace"] == "two"
        assert said["clusters"][0]["cluster"]["server"] == "http://second-b"


async def server_of(found: Kubeconfig) -> str:
    return (await access_by_kubeconfig(found.files, context=found.context)).server


def kubectl_view(environment: Mapping[str, str]) -> Any:
    command = ["kubectl", "config", "view", "--minify", "-o", "json"]
    env = {"PATH": os.environ["PATH"], **environment}
    return json.loads(subprocess.run(command, env=env, check=True, capture_output=True, timeout=30).stdout)


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("token: the-token\n  :\n- [")
    listing = tmp_path / "listing"
    listing.write_text("[the-token]")
    aimless = write(tmp_path / "aimless", "a")
    for given, context, says in (
        (None, None, "there is no kubeconfig"),
        (tmp_path / "missing", None, "there is no file"),
        (broken, None, "is no YAML"),
        (listing, None, "is no kubeconfig"),
        (aimless, None, "no current context"),
        (aimless, "other", "no context 'other'"),
    ):
        with pytest.raises(CommandError, match=says) as caught:
            find(tmp_path, given, context)
        assert caught.value.reason == "KubeconfigInvalid"
        assert "the-token" not in str(caught.value)
