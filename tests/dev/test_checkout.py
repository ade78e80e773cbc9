"""docs/development.md: the operator runs from the checkout as it is written there, and the plugin beside it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from dev.cluster import ControlPlane
from tests.support.plugin import install
from tests.unit.test_docs import ROOT, blocks

PAGE: Final = ROOT / "docs" / "development.md"
TIMEOUT_S: Final = 60.0
READY: Final = "everything has been seen"

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl"),
]


def script(first_line: str) -> str:
    (found,) = [block.text for block in blocks(PAGE) if block.text.startswith(first_line)]
    return found


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A checkout's place for what is made, and a control plane there in the place of `make cluster`."""
    (tmp_path / ".run").mkdir()
    (tmp_path / ".venv").mkdir()
    programs = install_programs(tmp_path / ".venv" / "bin")
    for name in ("manifests", "dev"):
        (tmp_path / name).symlink_to(ROOT / name)
    with ControlPlane(tmp_path / ".run" / "cluster") as plane:
        yield {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}",
            "HOME": str(tmp_path),
            "KUBECONFIG": str(plane.kubeconfig),
        }


def install_programs(folder: Path) -> Path:
    """What `make venv` puts there, and `make` for the one target."""
    folder.mkdir()
    (folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "mailsettings-operator").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mailsettings "$@"\n')
    (folder / "make").write_text('#!/bin/sh\ntest "$1" = cluster\n')
    install(folder)
    for program in folder.iterdir():
        program.chmod(0o755)
    return folder


@contextmanager
def running(text: str, folder: Path, environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    log = (folder / "log").open("wb")
    with (
        log,
        subprocess.Popen(
            ["bash", "-euc", text], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        ) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def until(process: "subprocess.Popen[bytes]", log: Path, text: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.05)


def test_operator_and_plugin_run_from_the_checkout(tmp_path: Path, environment: dict[str, str]) -> None:
    with running(script("make cluster\n"), tmp_path, environment) as operator:
        until(operator, tmp_path / "log", READY)
        mode = (tmp_path / ".run" / "operator.kubeconfig").stat().st_mode
        assert mode & 0o077 == 0

        *setting_up, asking = script("export PATH=").splitlines()
        deadline = time.monotonic() + TIMEOUT_S
        shell("\n".join(setting_up), tmp_path, environment)
        while "SecretNotFound" not in (said := shell(asking, tmp_path, environment)):
            assert time.monotonic() < deadline, said
        os.killpg(operator.pid, signal.SIGINT)
        operator.wait(TIMEOUT_S)
    assert "Forbidden" not in (tmp_path / "log").read_text()


def shell(text: str, folder: Path, environment: dict[str, str]) -> str:
    ended = subprocess.run(
        ["bash", "-c", text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return ended.stdout + ended.stderr
