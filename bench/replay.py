"""The floor: the operator's own writes once more, by bare requests, as many at once as is fastest."""

import base64
import json
from collections.abc import Sequence
from statistics import median
from typing import Any, Final

from bench import objects
from bench.bare import Bare, Request, apply, create
from bench.errors import BenchError
from dev.audit import Write

Json = dict[str, Any]

AT_ONCE: Final = (16, 32, 64)
"""How many requests at once are tried."""

_NOT_APPLIED: Final = ("managedFields", "creationTimestamp", "resourceVersion", "generation", "uid")


class Replay:
    """Repeats writes with other values, so that each is a change."""

    def __init__(self, admin: Bare, operator: Bare) -> None:
        self._admin = admin
        self._operator = operator
        self._round = 0
        self._times: dict[int, list[float]] = {at_once: [] for at_once in AT_ONCE}

    async def times(self, writes: Sequence[Write]) -> None:
        """Makes the writes once for every concurrency that is still in question, and notes the seconds.

        Whoever calls this has stopped the operator.

        Raises:
            BenchError: the API server refused, or there is a kind of write that cannot be repeated.
        """
        for at_once in self._contenders():
            requests = await self.requests([write for write in writes if write.is_done])
            self._times[at_once].append(await self._operator.send_all(requests, at_once=at_once))

    @property
    def floor_s(self) -> float:
        """The median at the fastest concurrency."""
        return min(median(times) for times in self._times.values() if times)

    def _contenders(self) -> list[int]:
        """All at first, then the two that were fastest."""
        if not all(self._times.values()):
            return [*AT_ONCE]
        return sorted(AT_ONCE, key=lambda at_once: median(self._times[at_once]))[:2]

    async def requests(self, writes: Sequence[Write]) -> list[Request]:
        """What makes the writes once more, with other values. What they had created goes first.

        Raises:
            BenchError: there is a kind of write that cannot be repeated.
        """
        secrets = _by_place(await self._admin.items(objects.SECRETS))
        settings = _by_place(await self._admin.items(objects.SETTINGS))
        systems = _by_place(await self._admin.items(objects.SYSTEMS))
        requests = []
        await self._remove([write for write in writes if write.verb == "patch" and write.code == 201], secrets)
        for write in writes:
            self._round += 1
            place = (write.namespace, write.name)
            match write.resource:
                case "secrets" if place in secrets and write.verb == "patch":
                    path = f"{objects.secrets_in(write.namespace)}/{write.name}"
                    requests.append(_applied(path, _other_secret(secrets[place], self._round)))
                case "mailserversettings/status" if place in settings:
                    path = f"{objects.settings_in(write.namespace)}/{write.name}/status"
                    requests.append(_applied(path, _other_status(settings[place], self._round)))
                case "clustermailserversettings/status" if place in systems:
                    requests.append(_applied(f"{objects.SYSTEM}/status", _other_status(systems[place], self._round)))
                case "events":
                    path = f"/apis/events.k8s.io/v1/namespaces/{write.namespace}/events"
                    requests.append(create(path, _event(write.namespace, self._round)))
                case _:
                    raise BenchError(f"the floor does not know how to repeat {write}")
        return requests

    async def _remove(self, creations: Sequence[Write], secrets: dict[tuple[str, str], Json]) -> None:
        """What was created has to go, so that it can be created again."""
        gone = [
            write for write in creations if write.resource == "secrets" and (write.namespace, write.name) in secrets
        ]
        paths = [f"{objects.secrets_in(write.namespace)}/{write.name}" for write in gone]
        await self._admin.send_all([Request("DELETE", path) for path in paths], at_once=16)


def _by_place(items: Sequence[Json]) -> dict[tuple[str, str], Json]:
    return {(item["metadata"].get("namespace", ""), item["metadata"]["name"]): item for item in items}


def _applied(path: str, body: Json) -> Request:
    return apply(path, body, manager=objects.FIELD_MANAGER)


def _other_secret(secret: Json, number: int) -> Json:
    metadata = {key: value for key, value in secret["metadata"].items() if key not in _NOT_APPLIED}
    sender = base64.b64encode(objects.sender(number).encode()).decode()
    data = {**secret["data"], "from": sender}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": secret["type"], "data": data}


def _other_status(settings: Json, number: int) -> Json:
    metadata = {key: settings["metadata"][key] for key in ("name", "namespace") if key in settings["metadata"]}
    status = json.loads(json.dumps(settings["status"]))
    for condition in status["conditions"]:
        condition["message"] = f"{number} {condition['message']}"[:1000]
    return {"apiVersion": settings["apiVersion"], "kind": settings["kind"], "metadata": metadata, "status": status}


def _event(namespace: str, number: int) -> Json:
    return {
        "metadata": {"name": f"floor.{number:016x}", "namespace": namespace},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "mailsettings.dev/operator",
        "reportingInstance": "floor",
        "action": "Ready",
        "reason": "Ready",
        "regarding": {
            "apiVersion": "mailsettings.dev/v1alpha1",
            "kind": "MailServerSettings",
            "namespace": namespace,
            "name": objects.TENANT,
        },
        "note": "The settings were tested a moment ago, and all went well.",
        "type": "Normal",
    }
