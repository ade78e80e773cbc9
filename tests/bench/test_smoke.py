"""One benchmark, with so few tenants that it measures nothing, against everything that is real."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240


@pytest.mark.cluster
@pytest.mark.skipif(bool(os.environ.get("MAILSETTINGS_KUBECONFIG")), reason="needs a control plane with an audit log")
def test_a_fan_out_is_measured_checked_and_set_against_the_floor() -> None:
    command = [sys.executable, "-m", "bench", "fan-out", "--tenants", "3", "--rounds", "1", "--no-quick"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert (result["name"], result["tenants"]) == ("fan-out", 3)
    # A Secret and a status for each; the cluster object's own status says the new generation.
    assert result["writes"] == 3 + 3 + 1
    assert result["ours_s"] > 0
    assert result["floor_s"] > 0
    assert result["rss_mb"] > 0


def test_what_is_no_benchmark_is_told() -> None:
    command = [sys.executable, "-m", "bench", "fan-in"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "there is no benchmark fan-in; see --help" in done.stderr
