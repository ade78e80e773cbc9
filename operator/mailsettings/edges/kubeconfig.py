"""Access by a kubeconfig, in all the ways that the official client knows; those of cloud providers too."""

from collections.abc import Mapping

from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from mailsettings.edges.kubernetes import Access


async def access_by_kubeconfig(files: str, *, context: str | None = None) -> Access:
    """The access that a kubeconfig gives.

    Args:
        files: one, or several as `$KUBECONFIG` has them.
        context: the context that is meant; None: the current one.

    Raises:
        kubernetes.aio.config.ConfigException: there are no usable credentials.
    """
    configuration = Configuration()
    await config.load_kube_config(files, context=context, client_configuration=configuration)

    async def headers() -> Mapping[str, str]:
        settings = (await configuration.auth_settings()).get("BearerToken")
        value = settings["value"] if settings else None
        return {"Authorization": value} if value else {}

    return Access(
        server=configuration.host,
        context=RESTClientObject(configuration).ssl_context,
        headers=headers,
        server_name=configuration.tls_server_name,
        proxy=configuration.proxy,
    )
