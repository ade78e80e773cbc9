"""Whose turn it is when connections are scarce. Pure."""

from collections import Counter, OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Those who wait: next is the tenant that has the fewest turns at present, of equals the one waiting longest."""

    def __init__(self, *, per_tenant: int, total: int) -> None:
        """Nobody waits.

        Args:
            per_tenant: How many of a tenant may wait.
            total: How many may wait.
        """
        self._per_tenant = per_tenant
        self._total = total
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._running: Counter[str] = Counter()
        self._count = 0

    @property
    def running(self) -> int:
        """How many turns are taken."""
        return self._running.total()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._count

    def waits(self, tenant: str) -> bool:
        """Whether the tenant waits already."""
        return tenant in self._waiting

    def without_turn(self) -> list[str]:
        """The tenants that wait and have no turn."""
        return [tenant for tenant in self._waiting if not self.turns(tenant)]

    def push(self, tenant: str, item: T) -> bool:
        """Begins to wait; False: too many do."""
        queue = self._waiting.setdefault(tenant, deque())
        if len(queue) >= self._per_tenant or self._count >= self._total:
            self._forget_if_empty(tenant)
            return False
        queue.append(item)
        self._count += 1
        return True

    def drop(self, tenant: str, item: T) -> None:
        """Waits no longer."""
        queue = self._waiting.get(tenant)
        if queue is not None and item in queue:
            queue.remove(item)
            self._count -= 1
            self._forget_if_empty(tenant)

    def turns(self, tenant: str) -> int:
        """How many turns a tenant has."""
        return self._running[tenant]

    def pop(self, share: int) -> tuple[str, T] | None:
        """Who is next; None: nobody waits who may have a turn. The turn is to be begun by `begin`.

        Args:
            share: How many turns a tenant may have.
        """
        if not self._waiting:
            return None
        tenant = min(self._waiting, key=self.turns)
        if self.turns(tenant) >= share:
            return None
        item = self._waiting[tenant].popleft()
        self._count -= 1
        self._waiting.move_to_end(tenant)
        self._forget_if_empty(tenant)
        return tenant, item

    def begin(self, tenant: str) -> None:
        """A turn of the tenant's begins."""
        self._running[tenant] += 1

    def end(self, tenant: str) -> None:
        """A turn of the tenant's ends."""
        self._running[tenant] -= 1
        if self._running[tenant] <= 0:
            del self._running[tenant]

    def _forget_if_empty(self, tenant: str) -> None:
        if not self._waiting[tenant]:
            del self._waiting[tenant]
