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
        self._written[metadata["uid"]] = _version(metadata)

    def forget(self, metadata: Mapping[str, Any]) -> None:
        """Expects no echo any more: the object is gone."""
        self._written.pop(metadata["uid"], None)

    def is_outdated(self, metadata: Mapping[str, Any]) -> bool:
        """Whether what a watch delivers is older than what was written."""
        written = self._written.get(metadata["uid"], 0)
        if _version(metadata) < written:
            return True
        self._written.pop(metadata["uid"], None)
        return False


def _version(metadata: Mapping[str, Any]) -> int:
    """Resource versions of one object are numbers that grow. Source: Kubernetes, API Concepts, Resource versions."""
    return int(metadata["resourceVersion"])
