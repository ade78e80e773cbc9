"""Whether the relay is there: the endpoints of its Service."""

from mailsettings.edges.kubernetes import Json


def has_ready_endpoint(endpoint_slice: Json) -> bool:
    """Whether some endpoint takes connections. Source: Kubernetes, EndpointSlices: no `ready` counts as ready."""
    endpoints = endpoint_slice.get("endpoints") or ()
    return any((endpoint.get("conditions") or {}).get("ready", True) is not False for endpoint in endpoints)
