"""The kopf handlers: they unpack and hand over, nothing else.

Only bare event handlers are used: they add no finalizers and no annotations to anybody's objects.
"""

from collections.abc import Callable
from typing import Any

import kopf

from mailsettings.api import names
from mailsettings.controller.barrier import Barrier
from mailsettings.controller.echoes import Echoes
from mailsettings.controller.keys import Kind
from mailsettings.controller.triggers import Triggers

_PLURALS = {Kind.CLUSTER: names.CLUSTER_PLURAL, Kind.TENANT: names.TENANT_PLURAL}


def registry(
    triggers: Triggers, echoes: Echoes, barrier: Barrier, *, login: Callable[..., Any]
) -> kopf.OperatorRegistry:
    """The handlers, bound to where their news goes.

    Args:
        triggers: gets the news.
        echoes: tells what is none.
        barrier: is told what has been seen.
        login: gives kopf its credentials.
    """
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(login)
    for kind, plural in _PLURALS.items():
        _watch_settings(handlers, triggers, echoes, barrier, kind, plural)
    _watch_mail_tests(handlers, triggers, echoes, barrier)
    return handlers


def _watch_settings(
    handlers: kopf.OperatorRegistry, triggers: Triggers, echoes: Echoes, barrier: Barrier, kind: Kind, plural: str
) -> None:
    @kopf.on.event(names.GROUP, names.VERSION, plural, registry=handlers, id=plural)
    async def event(event: kopf.RawEvent, **_: object) -> None:
        body = event["object"]
        if event["type"] == "DELETED":
            echoes.forget(body["metadata"])
            triggers.deleted(kind, body)
        elif not echoes.is_outdated(body["metadata"]):
            triggers.settings_changed(kind, body)
        _note(barrier, event)


def _watch_mail_tests(handlers: kopf.OperatorRegistry, triggers: Triggers, echoes: Echoes, barrier: Barrier) -> None:
    @kopf.on.event(names.GROUP, names.VERSION, names.TEST_PLURAL, registry=handlers, id=names.TEST_PLURAL)
    async def event(event: kopf.RawEvent, **_: object) -> None:
        body = event["object"]
        if event["type"] == "DELETED":
            echoes.forget(body["metadata"])
            triggers.deleted(Kind.TEST, body)
        elif not echoes.is_outdated(body["metadata"]):
            triggers.mail_test_changed(body)
        _note(barrier, event)


def _note(barrier: Barrier, event: kopf.RawEvent) -> None:
    metadata = event["object"]["metadata"]
    if event["type"] == "DELETED":
        barrier.gone(metadata["uid"])
    else:
        barrier.saw(metadata["uid"], int(metadata["resourceVersion"]))
