"""Keeps what the watches repeat late from undoing what the operator has written since."""

from collections.abc import Mapping
from typing import Any


class Echoes:
    """The versions that the operator has written and that the watches have still to repeat.

    Between a write and its echo a watch may deliver what was there before: taken for news, it would bring back a
    status without the result of a probe that has just ended, and so a second probe.
    """

    def __init__(self) -> None:
        self._written: dict[str, int] = {}

    def wrote(self, metadata: Mapping[str, Any]) -> None:
        """Notes a write by the metadata of its answer."""
        self._written[metadata["uid"]] = int(metadata["resourceVersion"])

    def forget(self, uid: str) -> None:
        """Expects no echo any more: the object is gone."""
        self._written.pop(uid, None)

    def is_outdated(self, uid: str, version: int) -> bool:
        """Whether what a watch delivers is older than what was written.

        Resource versions of one object are numbers that grow. Source: Kubernetes, API Concepts, Resource versions.
        """
        if version < self._written.get(uid, 0):
            return True
        self._written.pop(uid, None)
        return False
