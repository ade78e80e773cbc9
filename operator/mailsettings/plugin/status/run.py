"""Does what `status` was asked for."""

import argparse
import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from mailsettings.api import names
from mailsettings.edges.kubernetes import (
    ApiError,
    Json,
    KubernetesApi,
    core_path,
    settings_collection_path,
    settings_path,
)
from mailsettings.plugin.advice import Known, filled, in_cluster, known_of_cluster
from mailsettings.plugin.command import FAILURE, SUCCESS, CommandError
from mailsettings.plugin.connection import connected, not_found, told
from mailsettings.plugin.status.chain import (
    Chain,
    Link,
    Node,
    Seen,
    State,
    inherits_from,
    provisioned_chain,
    secret_name,
    system_chain,
    tenant_chain,
    with_dialogue_of,
)
from mailsettings.plugin.status.show import Line, brief, in_ascii, whole
from mailsettings.plugin.terminal import Terminal

_ORDER: Final = (State.FAILED, State.WAITING, State.UNKNOWN, State.GOOD)
MAX_REQUESTS: Final = 16
"""At a time."""


def run(options: argparse.Namespace) -> int:
    """Runs the command; the exit status."""
    terminal = Terminal.standard()
    try:
        where, chains = asyncio.run(_main(options))
    except CommandError as error:
        terminal.complain(error.reason, error.message, in_cluster(error, options).commands)
        return FAILURE
    except KeyboardInterrupt:
        return FAILURE
    chains.sort(key=_urgency)
    _tell(terminal, [_with_commands(chain, known_of_cluster(options)) for chain in chains], where, options)
    return SUCCESS if all(chain.state is State.GOOD for chain in chains) else FAILURE


def _urgency(chain: Chain) -> tuple[int, bool, str, str]:
    node = chain.last
    return _ORDER.index(chain.state), chain.tenant is not None, node.namespace, node.name


def _with_commands(chain: Chain, known: Known) -> Chain:
    """The chain with what is known of the cluster in its commands."""
    return chain.with_links(
        lambda link: replace(link, commands=tuple(filled(command, known) for command in link.commands))
    )


def _tell(terminal: Terminal, chains: list[Chain], where: str, options: argparse.Namespace) -> None:
    if options.output in ("json", "yaml"):
        terminal.tell_object(_document(chains), options.output)
        return
    if not chains:
        terminal.say(f"There are no mail settings {where}.")
    for chain in chains:
        for text, style in _lines(chain, terminal.columns, options):
            terminal.tell_line(text if terminal.is_unicode else in_ascii(text), style)


def _lines(chain: Chain, columns: int, options: argparse.Namespace) -> Iterable[Line]:
    """One that is asked for by its name is shown with the dialogue of a probe that failed, as `test` shows it."""
    if options.dialogue:
        return whole(chain, columns)
    if options.name is not None:
        return whole(with_dialogue_of(chain, {State.FAILED}), columns)
    if options.output == "wide" or chain.state is not State.GOOD:
        return whole(with_dialogue_of(chain, ()), columns)
    return [brief(chain)]


def _document(chains: Iterable[Chain]) -> dict[str, Any]:
    """For programs."""
    return {"settings": [_chain(chain) for chain in chains]}


def _chain(chain: Chain) -> dict[str, Any]:
    node, failing = chain.last, chain.failing
    return {
        **_node(node),
        "system": _node(chain.system) if chain.tenant is not None and chain.system is not None else None,
        "failing": {"of": failing[0].title, **_link(failing[1])} if failing is not None else None,
    }


def _node(node: Node) -> dict[str, Any]:
    return {**asdict(node), "state": str(node.state), "links": [_link(link) for link in node.links]}


def _link(link: Link) -> dict[str, Any]:
    return {**asdict(link), "state": str(link.state)}


async def _main(options: argparse.Namespace) -> tuple[str, list[Chain]]:
    """Where was looked, and what was found there."""
    async with connected(options) as connection:
        reader = _Reader(connection.api, datetime.now(UTC))
        if options.cluster:
            return "of the cluster", await reader.systems(options.name)
        if options.all_namespaces:
            return "in any namespace", [*await reader.readable_systems(), *await reader.tenants(None, None)]
        namespace = options.namespace or connection.namespace
        return f"in the namespace {namespace}", await reader.tenants(namespace, options.name)


@dataclass(slots=True)
class _Reader:
    """Reads what is needed, each thing once; what may not be read is left out."""

    api: KubernetesApi
    now: datetime
    _systems: dict[str, "asyncio.Task[Json | None]"] = field(default_factory=dict)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_REQUESTS))

    async def systems(self, name: str | None) -> list[Chain]:
        """The chains of cluster objects.

        Raises:
            CommandError: They cannot be read.
        """
        documents = await self._settings(names.CLUSTER_KIND, None, name)
        return [system_chain(document, self.now) for document in documents]

    async def readable_systems(self) -> list[Chain]:
        """The same, as far as they may be read."""
        try:
            return await self.systems(None)
        except CommandError as error:
            if error.reason != "Forbidden":
                raise
            return []

    async def tenants(self, namespace: str | None, name: str | None) -> list[Chain]:
        """The chains of a namespace's settings, or of every namespace's.

        Raises:
            CommandError: They cannot be read.
        """
        documents = await self._settings(names.TENANT_KIND, namespace, name)
        chains = await asyncio.gather(*(self._tenant(document) for document in documents))
        if not chains and namespace is not None:
            return await self._provisioned(namespace)
        return list(chains)

    async def _settings(self, kind: str, namespace: str | None, name: str | None) -> list[Json]:
        where = f"in the namespace {namespace}" if namespace else "of the cluster"
        with told(f"read the {kind} {where}"):
            if name is None:
                items = await self.api.list_objects(settings_collection_path(kind, namespace))
                return [{"kind": kind, **item} for item in items]
            found = await self.api.get(settings_path(kind, namespace or "", name))
        if found is None:
            raise not_found(kind, namespace or "", name)
        return [found]

    async def _tenant(self, document: Json) -> Chain:
        inherited = inherits_from(document)
        system, may_read = await self._system(inherited) if inherited is not None else (None, True)
        secret = await self._secret(document["metadata"]["namespace"], secret_name(document))
        return tenant_chain(document, system, secret, self.now, may_read_system=may_read)

    async def _provisioned(self, namespace: str) -> list[Chain]:
        secret = await self._secret(namespace, names.ALWAYS_SECRET_NAME)
        if secret.metadata is None or _label(secret.metadata) != names.MANAGED_BY:
            return []
        system, _ = await self._system(names.DEFAULT_SETTINGS)
        return [provisioned_chain(namespace, secret.metadata, system, self.now)]

    async def _system(self, name: str) -> tuple[Json | None, bool]:
        """A cluster object, and whether it may be read."""
        if name not in self._systems:
            self._systems[name] = asyncio.create_task(self.api.get(settings_path(names.CLUSTER_KIND, "", name)))
        try:
            with told(f"read the {names.CLUSTER_KIND} {name}"):
                return await self._systems[name], True
        except CommandError as error:
            if error.reason != "Forbidden":
                raise
            return None, False

    async def _secret(self, namespace: str, name: str) -> Seen:
        with told(f"read the Secrets of the namespace {namespace}"):
            try:
                async with self._slots:
                    return Seen(metadata=await self.api.get_metadata(core_path("secrets", namespace, name)))
            except ApiError as error:
                if error.status != 403:
                    raise
                return Seen(is_readable=False)


def _label(metadata: Mapping[str, Any]) -> str:
    return str((metadata.get("labels") or {}).get(names.LABEL_MANAGED_BY, ""))
