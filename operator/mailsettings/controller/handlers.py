"""The kopf handlers: they unpack and hand over, nothing else.

Only bare event handlers are used: they add no finalizers and no annotations to anybody's objects.
"""

from collections.abc import Callable
from typing import Any

import kopf

from mailsettings.api import names
from mailsettings.controller.barrier import Barrier
from mailsettings.controller.keys import Kind
from mailsettings.controller.store import settings_record
from mailsettings.controller.triggers import Triggers


def registry(triggers: Triggers, barrier: Barrier, *, login: Callable[..., Any]) -> kopf.OperatorRegistry:
    """The handlers, bound to where their news goes.

    Args:
        triggers: gets the news.
        barrier: is told what has been seen.
        login: gives kopf its credentials.
    """

    def cluster_changed(body: Any) -> None:  # noqa: ANN401 - JSON
        triggers.settings_changed(settings_record(Kind.CLUSTER, body))

    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(login)
    _watch(handlers, triggers, barrier, Kind.CLUSTER, names.CLUSTER_PLURAL, cluster_changed)
    _watch(handlers, triggers, barrier, Kind.TEST, names.TEST_PLURAL, triggers.mail_test_changed)
    return handlers


def _watch(
    handlers: kopf.OperatorRegistry,
    triggers: Triggers,
    barrier: Barrier,
    kind: Kind,
    plural: str,
    changed: Callable[[Any], None],
) -> None:
    @kopf.on.event(names.GROUP, names.VERSION, plural, registry=handlers, id=plural)
    async def event(event: kopf.RawEvent, **_: object) -> None:
        body = event["object"]
        metadata = body["metadata"]
        if event["type"] == "DELETED":
            triggers.deleted(kind, body)
            barrier.gone(metadata["uid"])
        else:
            changed(body)
            barrier.saw(metadata["uid"], int(metadata["resourceVersion"]))
