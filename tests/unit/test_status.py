"""What is known of a status after it has been written."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mailsettings.api.conditions import ConditionType, Reason
from mailsettings.api.status import MailServerSettingsStatus
from mailsettings.controller.echoes import Echoes
from mailsettings.controller.keys import Kind
from mailsettings.controller.reconcile.services import Services
from mailsettings.controller.reconcile.status import write_status
from mailsettings.controller.store import SettingsRecord, Store, settings_record
from mailsettings.core.finding import passed


def record(version: int, *, uid: str = "u") -> SettingsRecord:
    metadata = {"name": "mail", "namespace": "shop", "uid": uid, "generation": 1, "resourceVersion": str(version)}
    return settings_record(Kind.TENANT, {"metadata": metadata, "spec": {}})


async def written(store: Store, seen: SettingsRecord) -> dict[str, Any]:
    """Writes a status, as one that looked at the given record; what was written."""
    statuses: list[dict[str, Any]] = []

    async def apply(_path: str, body: dict[str, Any], *, force: bool) -> dict[str, Any]:
        assert force
        statuses.append(body["status"])
        return {"metadata": {"uid": seen.uid, "resourceVersion": "7"}, "status": body["status"]}

    async def nothing(*_: object) -> None:
        pass

    services = SimpleNamespace(
        store=store, echoes=Echoes(), api=SimpleNamespace(apply=apply), events=SimpleNamespace(record=nothing)
    )
    findings = {ConditionType.PROBE_SUCCEEDED: passed(Reason.PROBE_PASSED, "It accepts the login.")}
    empty = MailServerSettingsStatus()
    await write_status(cast("Services", services), seen, empty, empty, findings)
    return statuses[0]


@pytest.mark.parametrize(("uid", "is_known"), [("u", True), ("another", False)])
async def test_what_was_written_is_known_of_what_a_watch_has_delivered_since(*, uid: str, is_known: bool) -> None:
    store, seen, newer = Store(), record(1), record(5, uid=uid)
    store.put_settings(seen)
    store.put_settings(newer)

    status = await written(store, seen)

    assert newer.status == (status if is_known else {})
    assert seen.status == status
