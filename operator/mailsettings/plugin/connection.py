"""The connection to the cluster, and what its refusals mean to a person."""

import argparse
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mailsettings.api import names
from mailsettings.edges.api_server import ApiError, Json, unreachable
from mailsettings.edges.kubernetes_light import LightApi
from mailsettings.plugin.command import CommandError
from mailsettings.plugin.credentials import light_access
from mailsettings.plugin.kubeconfig import Kubeconfig, find_kubeconfig

if TYPE_CHECKING:
    from mailsettings.edges.kubernetes import KubernetesApi


@dataclass(frozen=True, slots=True)
class Connection:
    """An open connection and what the kubeconfig says beside it."""

    api: "KubernetesApi"
    namespace: str
    """The context's."""


class ObjectApi(Protocol):
    """What a command on single objects needs; each call waits."""

    def create(self, path: str, body: Json) -> Json:
        """Creates an object in the collection at a path."""

    def get(self, path: str, *, timeout_s: float = ...) -> Json | None:
        """The object at a path."""

    def delete(self, path: str, *, uid: str, timeout_s: float = ...) -> None:
        """Deletes an object if it is still the one with this uid."""

    def watch_object(
        self, collection: str, name: str, *, resource_version: str, timeout_s: float
    ) -> Iterator[tuple[str, Json]]:
        """The changes of one object, for so long at most."""


@dataclass(frozen=True, slots=True)
class LightConnection:
    """A `Connection` that does no more than a command on single objects needs."""

    api: ObjectApi
    namespace: str
    """The context's."""


@contextlib.contextmanager
def lightly_connected(options: argparse.Namespace) -> Iterator[LightConnection]:
    """A connection with the person's own credentials that is there at once, where these are of a simple kind.

    Raises:
        CommandError: There is no usable kubeconfig.
    """
    found = _found(options)
    access = light_access(found, os.environ)
    if access is not None:
        with LightApi(access) as api:
            yield LightConnection(api, found.namespace)
        return
    from mailsettings.plugin.waiting import waiting  # noqa: PLC0415 - it takes a while

    with waiting(connected(options)) as (connection, heavy):
        yield LightConnection(heavy, connection.namespace)


@contextlib.asynccontextmanager
async def connected(options: argparse.Namespace) -> AsyncIterator[Connection]:
    """A connection with the person's own credentials.

    Raises:
        CommandError: There is no usable kubeconfig.
    """
    from kubernetes.aio.config import ConfigException  # noqa: PLC0415 - it takes a while

    from mailsettings.edges.kubeconfig import access_by_kubeconfig  # noqa: PLC0415
    from mailsettings.edges.kubernetes import KubernetesApi  # noqa: PLC0415

    found = _found(options)
    try:
        access = await access_by_kubeconfig(found.files, context=found.context)
    except (ConfigException, OSError, ValueError) as error:
        raise CommandError("KubeconfigInvalid", f"The kubeconfig cannot be used: {error}") from None
    async with KubernetesApi(access, field_manager=names.PLUGIN_FIELD_MANAGER) as api:
        yield Connection(api, found.namespace)


def _found(options: argparse.Namespace) -> Kubeconfig:
    return find_kubeconfig(options.kubeconfig, options.context, os.environ, Path.home())


@contextlib.contextmanager
def told(doing: str) -> Iterator[None]:
    """Tells what the API server refused, or that it did not answer.

    Args:
        doing: What a person who is refused may not do, such as `create Secrets in the namespace shop`.

    Raises:
        CommandError: In place of what was raised.
    """
    try:
        yield
    except ApiError as error:
        raise _refused(error, doing) from None
    except unreachable() as error:
        what = str(error) or type(error).__name__
        raise CommandError("ApiServerUnreachable", f"The API server does not answer: {what}") from None


def not_found(kind: str, namespace: str, name: str) -> CommandError:
    """That there are no settings of a name, with the command that lists those that there are."""
    if namespace:
        listing = f"kubectl get mss -n {namespace}"
        return CommandError("NotFound", f"There is no {kind} {namespace}/{name}. Those that there are:", listing)
    return CommandError("NotFound", f"There is no {kind} {name}. Those that there are:", "kubectl get cmss")


def _refused(error: ApiError, doing: str) -> CommandError:
    match error.status:
        case 401:
            return CommandError("Unauthorized", f"The API server does not know you: {error.message}")
        case 403:
            return CommandError("Forbidden", f"You may not {doing}: {error.message}")
        case _:
            return CommandError(error.reason or "ApiServerError", f"The API server refused: {error.message}")
