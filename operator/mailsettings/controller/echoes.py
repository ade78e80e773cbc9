"""Keeps what the watches repeat, early or late, from being taken for news."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Echoes:
    """The versions that the operator has written, or is writing, and that the watches have still to repeat.

    Between a write and its echo a watch may deliver what was there before: taken for news, it would bring back a
    status without the result of a probe that has just ended, and so a second probe. And the echo may be faster than the
    answer: taken for news, it would have the object looked at once more for nothing.
    """

    def __init__(self) -> None:
        self._written: dict[str, int] = {}
        self._held: dict[Hashable, dict[str, Callable[[], None]]] = {}
        """Of what is being written: by uid, the news to deliver afterwards. Another object may replace it meanwhile."""

    @contextmanager
    def writing(self, what: Hashable) -> Iterator[None]:
        """While the block runs, news of an object is held back: a write of it is under way.

        Args:
            what: The object, as `holds` is told it. Nobody else writes it meanwhile.
        """
        self._held[what] = {}
        try:
            yield
        finally:
            for deliver in self._held.pop(what).values():
                deliver()

    def holds(self, what: Hashable, uid: str, deliver: Callable[[], None]) -> bool:
        """Whether news of an object has to wait for the end of a write; then the latest of each uid is delivered.

        Those of several uids are delivered in the order in which the uids came.
        """
        held = self._held.get(what)
        if held is None:
            return False
        held[uid] = deliver
        return True

    def wrote(self, metadata: Mapping[str, Any]) -> None:
        """Notes a write by the metadata of its answer."""
        self._written[metadata["uid"]] = int(metadata["resourceVersion"])

    def forget(self, what: Hashable, uid: str) -> None:
        """Expects no echo any more: the object is gone. What may have replaced it is still news."""
        self._written.pop(uid, None)
        self._held.get(what, {}).pop(uid, None)

    def is_outdated(self, uid: str, version: int) -> bool:
        """Whether what a watch delivers is older than what was written.

        Resource versions of one object are numbers that grow. Source: Kubernetes, API Concepts, Resource versions.
        """
        if version < self._written.get(uid, 0):
            return True
        self._written.pop(uid, None)
        return False
