"""The connection to the cluster, and what its refusals mean to a person."""

import argparse
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from kubernetes.aio.config import ConfigException

from mailsettings.api import names
from mailsettings.edges.kubeconfig import access_by_kubeconfig
from mailsettings.edges.kubernetes import ApiError, KubernetesApi
from mailsettings.plugin.command import CommandError
from mailsettings.plugin.kubeconfig import find_kubeconfig

UNREACHABLE: Final = (aiohttp.ClientError, TimeoutError, OSError)
"""What it means that the API server has not answered at all."""


@dataclass(frozen=True, slots=True)
class Connection:
    """An open connection and what the kubeconfig says beside it."""

    api: KubernetesApi
    namespace: str
    """The context's."""


@contextlib.asynccontextmanager
async def connected(options: argparse.Namespace) -> AsyncIterator[Connection]:
    """A connection with the person's own credentials.

    Raises:
        CommandError: There is no usable kubeconfig.
    """
    found = find_kubeconfig(options.kubeconfig, options.context, os.environ, Path.home())
    try:
        access = await access_by_kubeconfig(found.files, context=found.context)
    except (ConfigException, OSError, ValueError) as error:
        raise CommandError("KubeconfigInvalid", f"The kubeconfig cannot be used: {error}") from None
    async with KubernetesApi(access, field_manager=names.PLUGIN_FIELD_MANAGER) as api:
        yield Connection(api, found.namespace)


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
    except UNREACHABLE as error:
        what = str(error) or type(error).__name__
        raise CommandError("ApiServerUnreachable", f"The API server does not answer: {what}") from None


def _refused(error: ApiError, doing: str) -> CommandError:
    match error.status:
        case 401:
            return CommandError("Unauthorized", f"The API server does not know you: {error.message}")
        case 403:
            return CommandError("Forbidden", f"You may not {doing}: {error.message}")
        case _:
            return CommandError(error.reason or "ApiServerError", f"The API server refused: {error.message}")
