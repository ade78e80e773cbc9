"""Kubernetes events: one for each transition of a condition that a person would want to hear of."""

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import aiohttp

from mailsettings.api import names
from mailsettings.api.conditions import ConditionType, Reason
from mailsettings.api.status import Condition
from mailsettings.controller.keys import Key, Kind
from mailsettings.core.clock import format_time
from mailsettings.core.conditions import is_warning
from mailsettings.edges.kubernetes import ApiError, KubernetesApi, events_path

MAX_NOTE: Final = 1024
"""Characters. Source: events.k8s.io/v1, `note`."""

CLUSTER_EVENTS_NAMESPACE: Final = "default"
"""Where events of objects without a namespace go, and where `kubectl describe` looks for them."""

LEADER_ELECTION: Final = "LeaderElection"
"""The reason of events about a Lease. Source: the Kubernetes components' own (client-go, resourcelock)."""


class EventRecorder:
    """Posts events. One that cannot be posted is logged: it must not hold up what it reports."""

    def __init__(self, api: KubernetesApi, instance: str, logger: logging.Logger) -> None:
        self._api = api
        self._instance = instance
        self._logger = logger

    async def record(self, key: Key, uid: str, transitions: Iterable[Condition]) -> None:
        """Announces the conditions that have just changed."""
        for condition in transitions:
            await self._post(key, uid, condition)

    async def announce(self, key: Key, uid: str, reason: Reason, message: str, *, generation: int) -> None:
        """Announces, of a token, what no condition shows, or not for long."""
        condition = Condition(
            type=ConditionType.AUTHORIZED,
            status="False",
            reason=reason,
            message=message,
            last_transition_time=format_time(datetime.now(UTC)),
            observed_generation=generation,
        )
        await self.record(key, uid, [condition])

    async def announce_leader(self, lease: Mapping[str, str], note: str) -> None:
        """Announces, of the Lease, whose it has become or no longer is. Any replica may.

        Args:
            lease: Which object it is, with its uid.
            note: What has happened to it.
        """
        about = {"action": LEADER_ELECTION, "reason": LEADER_ELECTION, "note": note, "type": "Normal"}
        await self._create(lease["namespace"], {**about, "regarding": dict(lease)}, fenced=False)

    async def _post(self, key: Key, uid: str, condition: Condition) -> None:
        regarding = {
            "apiVersion": "v1" if key.kind is Kind.NAMESPACE else names.API_VERSION,
            "kind": str(key.kind),
            "namespace": key.namespace,
            "name": key.name,
            "uid": uid,
        }
        about = {
            "action": condition.type,
            "reason": condition.reason,
            "regarding": regarding,
            "note": condition.message[:MAX_NOTE],
            "type": "Warning" if is_warning(condition) else "Normal",
        }
        await self._create(key.namespace or CLUSTER_EVENTS_NAMESPACE, about)

    async def _create(self, namespace: str, about: Mapping[str, Any], *, fenced: bool = True) -> None:
        regarding = about["regarding"]
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{regarding['name']}.{uuid4().hex[:16]}", "namespace": namespace},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": f"{names.GROUP}/operator",
            "reportingInstance": self._instance,
            **about,
        }
        try:
            await self._api.create(events_path(namespace), body, fenced=fenced)
        except (ApiError, aiohttp.ClientError, TimeoutError) as error:
            whose = " ".join((regarding["kind"], "/".join(filter(None, (regarding["namespace"], regarding["name"])))))
            self._logger.warning("%s: the event %s was not posted: %s", whose, about["reason"], type(error).__name__)
