"""Which replicas of the relay are there: the endpoints of its Service."""

import logging
from collections.abc import AsyncIterator

from mailsettings.api import names
from mailsettings.edges.kubernetes import Json, KubernetesApi, endpoint_slices_path
from mailsettings.edges.metadata_watch import Changed, Deleted, Listed, watch_objects


def ready_replicas(endpoint_slice: Json) -> set[str]:
    """Those that take connections, each by one name, whatever addresses it has.

    Source: Kubernetes, EndpointSlices: no `ready` counts as ready.
    """
    return {
        (endpoint.get("targetRef") or {}).get("uid") or endpoint["addresses"][0]
        for endpoint in endpoint_slice.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready", True) is not False
    }


async def watch_replicas(api: KubernetesApi, namespace: str, logger: logging.Logger) -> AsyncIterator[int]:
    """How many replicas are ready, now and whenever something changes, for ever.

    Args:
        api: The connection.
        namespace: The relay's.
        logger: Is told of trouble.
    """
    ready: dict[str, set[str]] = {}
    selector = f"kubernetes.io/service-name={names.RELAY_SERVICE}"
    path = endpoint_slices_path(namespace)
    async for event in watch_objects(api, path, logger, record=_record, label_selector=selector):
        match event:
            case Listed(records):
                ready = dict(records)
            case Changed((name, replicas)):
                ready[name] = replicas
            case Deleted((name, _)):
                ready.pop(name, None)
        yield len(set().union(*ready.values()))


def _record(endpoint_slice: Json) -> tuple[str, set[str]]:
    return endpoint_slice["metadata"]["name"], ready_replicas(endpoint_slice)
