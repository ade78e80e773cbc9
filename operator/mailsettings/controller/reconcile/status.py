"""Reads and writes the status of settings objects."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from mailsettings.api import names
from mailsettings.api.conditions import ConditionType
from mailsettings.api.status import Condition, ServerStatus
from mailsettings.controller.keys import Key
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.store import SettingsRecord
from mailsettings.core.clock import format_time
from mailsettings.core.conditions import Findings, conditions, summarize, transitions
from mailsettings.core.oauth2.risks import announcements
from mailsettings.edges.kubernetes import ApiError, settings_path, settings_status_path

S = TypeVar("S", bound=ServerStatus)

_OWN_TYPES: Final = frozenset(map(str, ConditionType))


def read_status(model: type[S], record: SettingsRecord) -> S:
    """The status so far; a status that cannot be read counts as none."""
    try:
        return model.model_validate(record.status)
    except ValidationError:
        return model()


async def write_status(
    services: Services, record: SettingsRecord, before: ServerStatus, after: ServerStatus, findings: Findings
) -> None:
    """Writes the status if it says anything new, and announces what has changed.

    Args:
        services: the shared ones.
        record: the object.
        before: its status so far.
        after: its new status, without conditions.
        findings: what the conditions say.

    Raises:
        ApiError: the API server refused, or the object has been replaced by another of its name.
    """
    old = before.conditions or []
    new = conditions(summarize(findings), old, generation=record.generation, now=format_time(datetime.now(UTC)))
    status = after.model_copy(update={"conditions": new, "observed_generation": record.generation}).document()
    if status == _own(record.status):
        return
    key = record.key
    metadata = {"name": key.name, "uid": record.uid} | ({"namespace": key.namespace} if key.namespace else {})
    body = {"apiVersion": names.API_VERSION, "kind": str(key.kind), "metadata": metadata, "status": status}
    with services.echoes.writing(key):
        try:
            path = settings_status_path(key.kind, key.namespace, key.name)
            applied = await _applied(services, key, body, new)
            # Server-side apply leaves what others have written, also where it makes the operator's words untrue.
            if strays := [*_strays(status, _own(applied["status"])), *_stray_conditions(new, applied["status"])]:
                version = applied["metadata"]["resourceVersion"]
                applied = await services.api.remove(path, strays, resource_version=version)
        except ApiError as error:
            if error.is_not_found:
                return
            raise
        services.echoes.wrote(applied["metadata"])
        record.set_status(status)
        current = services.store.settings(key)
        # A watch may have delivered another record since, with the status as it was: then a probe would come again.
        if current is not None and current.uid == record.uid:
            current.set_status(status)
    warnings = announcements(before.oauth2, after.oauth2, generation=record.generation)
    await services.events.record(key, record.uid, [*transitions(old, new), *warnings])


async def _applied(services: Services, key: Key, body: dict[str, Any], new: list[Condition]) -> dict[str, Any]:
    """The object with the status applied.

    What others have written into a part that is to go would be left there without what the part needs, and be refused:
    then it goes first.

    Raises:
        ApiError: the API server refused.
    """
    path = settings_status_path(key.kind, key.namespace, key.name)
    try:
        return await services.api.apply(path, body, force=True)
    except ApiError as error:
        whole = settings_path(key.kind, key.namespace, key.name)
        found = await services.api.get(whole) if error.status == HTTPStatus.UNPROCESSABLE_ENTITY else None
        if found is None:
            raise
        strays = [*_strays(body["status"], _own(found["status"])), *_stray_conditions(new, found["status"])]
        if not strays:
            raise
    await services.api.remove(path, strays, resource_version=found["metadata"]["resourceVersion"])
    return await services.api.apply(path, body, force=True)


def _own(status: Mapping[str, Any]) -> dict[str, Any]:
    """A status without the conditions of other managers, who may have some of their own."""
    own = [condition for condition in status.get("conditions") or () if condition["type"] in _OWN_TYPES]
    return {**status, "conditions": own}


def _strays(wanted: Mapping[str, Any], found: Mapping[str, Any], path: str = "/status") -> Iterator[str]:
    """Where there is a field that is not wanted."""
    for name, value in found.items():
        if name not in wanted:
            yield f"{path}/{name}"
        elif isinstance(value, dict):
            yield from _strays(wanted[name], value, f"{path}/{name}")


def _stray_conditions(wanted: Iterable[Condition], found: Mapping[str, Any]) -> Iterator[str]:
    """Where there is a condition of the operator's types that does not hold, the last one first."""
    types = {condition.type for condition in wanted}
    conditions = found.get("conditions") or []
    for index in reversed(range(len(conditions))):
        if conditions[index]["type"] in _OWN_TYPES - types:
            yield f"/status/conditions/{index}"
