"""The kopf handlers: they unpack and hand over, nothing else.

Only indices and bare event handlers are used: they add no finalizers and no annotations to anybody's objects, and kopf
calls the event handlers only after every index has been filled, so nothing is decided on half of the picture.
"""

from collections.abc import Callable
from typing import Any

import kopf

from mailsettings.api import names
from mailsettings.controller.keys import Kind
from mailsettings.controller.triggers import Triggers

_PLURALS = {Kind.CLUSTER: names.CLUSTER_PLURAL, Kind.TENANT: names.TENANT_PLURAL}


def registry(triggers: Triggers, *, login: Callable[..., Any], indexed: Callable[[], None]) -> kopf.OperatorRegistry:
    """The handlers, bound to where their news goes.

    Args:
        triggers: gets the news.
        login: gives kopf its credentials.
        indexed: called, perhaps more than once, when everything that exists has been seen.
    """
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(login)
    for kind, plural in _PLURALS.items():
        _watch_settings(handlers, triggers, kind, plural)
    _watch_namespaces(handlers, triggers, indexed)
    return handlers


def _watch_settings(handlers: kopf.OperatorRegistry, triggers: Triggers, kind: Kind, plural: str) -> None:
    resource = (names.GROUP, names.VERSION, plural)

    @kopf.index(*resource, registry=handlers, id=f"{plural}_seen")
    async def seen(body: kopf.Body, **_: object) -> None:
        triggers.settings_changed(kind, body)

    @kopf.on.event(*resource, registry=handlers, id=f"{plural}_event")
    async def event(type: str | None, body: kopf.Body, **_: object) -> None:  # noqa: A002 - kopf's name
        if type == "DELETED":
            triggers.settings_deleted(kind, body)


def _watch_namespaces(handlers: kopf.OperatorRegistry, triggers: Triggers, indexed: Callable[[], None]) -> None:
    @kopf.index("", "v1", "namespaces", registry=handlers, id="namespaces_seen")
    async def seen(body: kopf.Body, **_: object) -> None:
        triggers.namespace_changed(body)

    @kopf.on.event("", "v1", "namespaces", registry=handlers, id="namespaces_event")
    async def event(type: str | None, body: kopf.Body, **_: object) -> None:  # noqa: A002 - kopf's name
        indexed()
        if type == "DELETED":
            triggers.namespace_deleted(body)
