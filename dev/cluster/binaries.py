"""Finds the control plane's programs: the user's own, those of the cache, or newly built ones."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dev.cluster.errors import ClusterError
from dev.cluster.golang import find_go, required_version
from dev.cluster.locks import locked
from dev.cluster.progress import Progress

MODULE = Path(__file__).parent.parent / "controlplane"
"""go.mod and go.sum, which name the programs and pin every module that they are built from."""

BUILD_TIMEOUT_S = 3600
"""A cold build takes six minutes on two cores; an hour is for a slow machine and a slow network."""

ERROR_LINES = 15


@dataclass(frozen=True)
class Binaries:
    """The programs of a control plane.

    Attributes:
        etcd: The database.
        apiserver: kube-apiserver.
        controller_manager: kube-controller-manager; None where a folder such as envtest's has none, and then namespaces
            are never finally deleted, nothing is collected and no ServiceAccount is made by itself.
    """

    etcd: Path
    apiserver: Path
    controller_manager: Path | None

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        """Takes the programs of a folder laid out as envtest's `KUBEBUILDER_ASSETS`.

        Raises:
            ClusterError: etcd or kube-apiserver is missing.
        """
        for name in ("etcd", "kube-apiserver"):
            if not os.access(folder / name, os.X_OK):
                raise ClusterError(f"KUBEBUILDER_ASSETS: there is no program {folder / name}; unset it or mend it.")
        manager = folder / "kube-controller-manager"
        return cls(folder / "etcd", folder / "kube-apiserver", manager if manager.exists() else None)


def find_binaries() -> Binaries:
    """Gives the programs to run, building them first where that has not been done.

    Raises:
        ClusterError: They cannot be built, or `KUBEBUILDER_ASSETS` names a folder without them.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        return Binaries.in_folder(Path(assets))
    folder = cache_folder() / _cache_key()
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        waiting_for = "another build of the control plane"
        with locked(folder.with_suffix(".lock"), timeout_s=BUILD_TIMEOUT_S, waiting_for=waiting_for):
            if not folder.exists():
                _build(folder)
    return Binaries(folder / "server", folder / "kube-apiserver", folder / "kube-controller-manager")


def cache_folder() -> Path:
    """The user's folder of built control planes, one subfolder for each state of go.mod, go.sum and flags."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mailsettings" / "controlplane"


def kubernetes_version() -> str:
    """Reads the version of Kubernetes that go.mod asks for, such as "v1.36.3".

    Raises:
        ClusterError: go.mod does not name it.
    """
    match = re.search(r"k8s\.io/kubernetes (v\d+\.\d+\.\d+)", (MODULE / "go.mod").read_text())
    if match is None:
        raise ClusterError(f"{MODULE / 'go.mod'} names no version of k8s.io/kubernetes; restore the file from git.")
    return match[1]


def _build_flags() -> list[str]:
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".")
    package = "k8s.io/component-base/version"
    # Unstamped servers report a version that kubectl and Helm cannot parse.
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    return ["-ldflags=" + " ".join(["-s -w", *(f"-X {package}.{key}={value}" for key, value in stamps.items())])]


def _cache_key() -> str:
    content = [(MODULE / "go.mod").read_bytes(), (MODULE / "go.sum").read_bytes(), *map(str.encode, _build_flags())]
    content.append(f"{platform.system()} {platform.machine()}".encode())
    return hashlib.sha256(b"\0".join(content)).hexdigest()[:16]


def _build(folder: Path) -> None:
    """Builds into a neighbouring folder and renames it, so that a folder that exists is complete."""
    go = find_go(required_version(MODULE / "go.mod"), cache_folder().parent / "go")
    partial = folder.with_suffix(".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    with Progress("Building the control plane, once") as progress:
        packages = _go(go, ["list", "-deps", "tool"], _DownloadCount(progress))
        _go(go, ["build", "-v", *_build_flags(), "-o", f"{partial}/", "tool"], _PackageCount(progress, len(packages)))
    partial.rename(folder)


class _DownloadCount:
    """Reads what `go list` says about the modules that it downloads."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._count = 0

    def __call__(self, line: str) -> None:
        if line.startswith("go: downloading"):
            self._count += 1
            self._progress.update(f"{self._count} modules fetched")


class _PackageCount:
    """Reads the names of the packages that `go build -v` compiles; those of Go's own cache are not named."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._count = 0

    def __call__(self, line: str) -> None:
        if not line.startswith("go: "):
            self._count += 1
            self._progress.update(f"{self._count:,} of at most {self._total:,} packages")


def _go(go: Path, arguments: list[str], on_message: _DownloadCount | _PackageCount) -> list[str]:
    """Runs go in the module's folder.

    Args:
        go: The program.
        arguments: Its arguments.
        on_message: Gets each line of its standard error.

    Returns:
        The lines of its standard output.

    Raises:
        ClusterError: It failed or took too long; the message has the last lines of what it said.
    """
    # CGO_ENABLED=0: no C compiler is needed and the programs run beside any libc.
    settings = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "GOWORK": "off", "CGO_ENABLED": "0"}
    environment = os.environ | settings
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [go, *arguments], cwd=MODULE, env=environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 - PIPE was asked for
        assert process.stderr is not None  # noqa: S101
        last: deque[str] = deque(maxlen=ERROR_LINES)
        reader = threading.Thread(target=_read, args=(process.stderr, last, on_message), daemon=True)
        reader.start()
        overdue = threading.Timer(BUILD_TIMEOUT_S, process.kill)
        overdue.daemon = True
        overdue.start()
        try:
            output = process.stdout.read().splitlines()
            status = process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            overdue.cancel()
            reader.join()
    if status != 0:
        raise ClusterError(
            f"`go {arguments[0]}` failed in {MODULE}:\n" + "\n".join(last) + "\n"
            "Try again with a network connection and 4 GB of free disk, or set KUBEBUILDER_ASSETS to a folder with "
            "etcd and kube-apiserver."
        )
    return output


def _read(stream: Iterable[str], last: deque[str], on_message: _DownloadCount | _PackageCount) -> None:
    for line in stream:
        last.append(line.rstrip())
        on_message(line)
