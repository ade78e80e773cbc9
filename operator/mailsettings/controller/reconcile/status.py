"""Reads and writes the status of settings objects."""

from datetime import UTC, datetime
from typing import TypeVar

from pydantic import ValidationError

from mailsettings.api import names
from mailsettings.api.status import ServerStatus
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.store import SettingsRecord
from mailsettings.core.clock import format_time
from mailsettings.core.conditions import Findings, conditions, summarize, transitions
from mailsettings.edges.kubernetes import ApiError, settings_status_path

S = TypeVar("S", bound=ServerStatus)


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
    if status == record.status:
        return
    key = record.key
    metadata = {"name": key.name, "uid": record.uid} | ({"namespace": key.namespace} if key.namespace else {})
    body = {"apiVersion": names.API_VERSION, "kind": str(key.kind), "metadata": metadata, "status": status}
    try:
        path = settings_status_path(key.kind, key.namespace, key.name)
        applied = await services.api.apply(path, body, force=True)
    except ApiError as error:
        if error.is_not_found:
            return
        raise
    services.echoes.wrote(applied["metadata"])
    record.set_status(status)
    await services.events.record(key, record.uid, transitions(old, new))
