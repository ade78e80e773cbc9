"""Runs `kubectl mailsettings` as a person does: as a process, in a terminal or in a pipe."""

import os
import pty
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dev.role_process import ROOT
from tests.support.kube import Kube

TIMEOUT_S: Final = 40.0


def install(folder: Path) -> Path:
    """A folder for the PATH that has what an installation of the project puts there."""
    script = folder / "kubectl-mailsettings"
    script.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT / "operator"}" exec "{sys.executable}" -m mailsettings.plugin "$@"\n'
    )
    script.chmod(0o755)
    return folder


def command() -> list[str]:
    """Through kubectl where there is one."""
    return ["kubectl", "mailsettings"] if shutil.which("kubectl") else ["kubectl-mailsettings"]


@dataclass
class Running:
    """The plugin at work."""

    process: "subprocess.Popen[bytes]"
    keyboard: int
    """Where it is typed."""
    _out: bytearray = field(default_factory=bytearray)
    _err: bytearray = field(default_factory=bytearray)
    _readers: list[threading.Thread] = field(default_factory=list)

    @property
    def out(self) -> str:
        """Of standard output."""
        return self._out.decode()

    @property
    def err(self) -> str:
        """Of standard error; in a terminal everything."""
        return self._err.decode().replace("\r\n", "\n")

    def type(self, line: str) -> None:
        os.write(self.keyboard, f"{line}\n".encode())

    def wait_text(self, pattern: str, *, timeout: float = TIMEOUT_S) -> str:
        """The first group of what is found on standard error, once it is there."""
        deadline = time.monotonic() + timeout
        while (found := re.search(pattern, self.err, re.MULTILINE)) is None:
            if time.monotonic() > deadline or (self.process.poll() is not None and not self._are_reading()):
                raise AssertionError(f"waited in vain for {pattern!r}; it said:\n{self.err}\n{self.out}")
            time.sleep(0.02)
        return found[1] if found.re.groups else found[0]

    def wait_url(self) -> str:
        """The address that a person is to open."""
        return self.wait_text(r"^(?:\x1b\[1m)?(https://[^\s\x1b]+)(?:\x1b\[0m)?\n")

    def wait(self, *, timeout: float = TIMEOUT_S) -> int:
        """The exit status."""
        status = self.process.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        return status

    def _are_reading(self) -> bool:
        return any(reader.is_alive() for reader in self._readers)


@dataclass(frozen=True)
class Person:
    """Somebody at a shell."""

    kubeconfig: Path
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def runs(self, *arguments: str, terminal: bool = False) -> Iterator[Running]:
        """The plugin with these arguments; it is killed with the block."""
        environment = {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "KUBECONFIG": str(self.kubeconfig),
            "TERM": "xterm",
            **self.environment,
        }
        line = [*command(), *arguments]
        with _in_terminal(line, environment) if terminal else _in_pipe(line, environment) as running:
            try:
                yield running
            finally:
                running.process.kill()
                running.wait()


RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"


def bind(kube: Kube, account: str, namespace: str, role: str, *, kind: str = "ClusterRole", where: str = "") -> None:
    """Gives a ServiceAccount of a namespace a role there, or in the namespace `where`."""
    body = {
        "metadata": {"name": f"{account}-{role}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }
    kube.api.request("POST", f"{RBAC}/namespaces/{where or namespace}/rolebindings", body)


@contextmanager
def _in_pipe(line: list[str], environment: Mapping[str, str]) -> Iterator[Running]:
    pipe = subprocess.PIPE
    with subprocess.Popen(line, env=dict(environment), stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        running = Running(process, process.stdin.fileno())
        _read_on(running, process.stdout.fileno(), running._out)
        _read_on(running, process.stderr.fileno(), running._err)
        yield running


@contextmanager
def _in_terminal(line: list[str], environment: Mapping[str, str]) -> Iterator[Running]:
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            line, env=dict(environment), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        ) as process:
            os.close(theirs)
            running = Running(process, ours)
            _read_on(running, ours, running._err)
            yield running
    finally:
        os.close(ours)


def _read_on(running: Running, descriptor: int, into: bytearray) -> None:
    def read() -> None:
        while True:
            try:
                chunk = os.read(descriptor, 4096)
            except OSError:  # the other end of a terminal has gone
                return
            if not chunk:
                return
            into.extend(chunk)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    running._readers.append(thread)
