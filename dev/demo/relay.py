"""The demo's relay: a process on this machine, in the place of the Deployment."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from dev.cluster import Api, ApiError, Cluster, ClusterError
from dev.demo.authority import HOST
from dev.relay_process import NAMESPACE, RelayProcess
from dev.role_process import StartError

SLICES: Final = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
SLICE: Final = "mailsettings-relay-demo"


@contextmanager
def running_relay(cluster: Cluster, folder: Path, port: int) -> Iterator[RelayProcess]:
    """The relay under its own ServiceAccount while the block runs, once the operator has issued its certificate.

    Args:
        cluster: Where its bundles are.
        folder: For its files.
        port: Where it listens.

    Raises:
        ClusterError: It did not start.
    """
    place = folder / "relay"
    place.mkdir(mode=0o700)
    relay = RelayProcess(cluster, place)
    try:
        relay.start(port=port)
        _announce(cluster.api(), port)
        yield relay
    except StartError as error:
        raise ClusterError(str(error)) from error
    finally:
        with suppress(ApiError):
            cluster.api().request("DELETE", f"{SLICES}/{SLICE}")
        relay.stop()


def _announce(api: Api, port: int) -> None:
    """What Kubernetes does when a Pod is ready. No slice may name loopback: the address is one for documentation."""
    body = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": SLICE, "labels": {"kubernetes.io/service-name": "mailsettings-relay"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": True}}],
        "ports": [{"name": "submission", "port": port, "protocol": "TCP"}],
    }
    api.request("POST", SLICES, body)


def relay_environment(port: int) -> dict[str, str]:
    """Tells the operator where clients find it."""
    return {"MAILSETTINGS_RELAY_ADDRESS": f"{HOST}:{port}"}
