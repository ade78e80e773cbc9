"""Fixtures for every test: the control plane that the tests of one run share."""

import os
import secrets
from collections.abc import Iterator

import pytest
from hypothesis import settings
from playwright.sync_api import Browser

from dev.cluster import Cluster, start
from tests.support.chromium import chromium

# How long an example takes says nothing: the machine may be busy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs the control plane, so that `-m "not cluster"` is the fast half of the tests; and the browser."""
    for item in items:
        if "control_plane" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cluster)
        if "real_browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Cluster:
    """A real API server, one for all pytest-xdist workers of the run; each test works in namespaces of its own.

    Whichever worker is first starts it. It stops with the process that started pytest, however that ends, and its
    logs stay in pytest's temporary folder.
    """
    folder = tmp_path_factory.getbasetemp()
    if worker_id == "master":  # pytest-xdist's name for "no workers"
        return start(folder / "cluster", owner=os.getpid())
    return start(folder.parent / "cluster", owner=os.getppid())


@pytest.fixture
def namespace(control_plane: Cluster) -> Iterator[str]:
    """The name of a namespace that only this test uses; its deletion begins when the test ends."""
    name = f"test-{secrets.token_hex(4)}"
    api = control_plane.api()
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    api.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module")  # playwright's loop runs in this thread until its end, where others want theirs
def real_browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium() as browser:
        yield browser
