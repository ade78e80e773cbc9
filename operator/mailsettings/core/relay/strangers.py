"""Connections without a login: anybody in the cluster can open some, so there is a bound on them. Pure."""

from typing import Generic, TypeVar

T = TypeVar("T")


class Strangers(Generic[T]):
    """Those who have not logged in yet, by their address.

    Where there are too many, the oldest one of the address that has most goes. So whoever opens connections without
    end ends its own, and who logs in at once, as clients do, finds a place.
    """

    def __init__(self, *, total: int, per_source: int) -> None:
        """Nobody is there.

        Args:
            total: How many there may be.
            per_source: Of those, from one address.
        """
        self._total = total
        self._per_source = per_source
        self._sources: dict[str, dict[T, None]] = {}
        self._count = 0

    def admit(self, source: str, who: T) -> bool:
        """Counts somebody who has come; False: too many are there from the same address."""
        if len(self._sources.get(source, ())) >= self._per_source:
            return False
        self._sources.setdefault(source, {})[who] = None
        self._count += 1
        return True

    def one_too_many(self) -> T | None:
        """Who has to go, and is not counted any more; None: nobody."""
        if self._count <= self._total:
            return None
        source = max(self._sources, key=lambda each: len(self._sources[each]))
        who = next(iter(self._sources[source]))
        self.leave(source, who)
        return who

    def leave(self, source: str, who: T) -> None:
        """Somebody has gone or logged in, or does so once more."""
        found = self._sources.get(source, {})
        if who not in found:
            return
        del found[who]
        self._count -= 1
        if not found:
            del self._sources[source]
