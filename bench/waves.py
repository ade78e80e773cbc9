"""What every benchmark does that sends a change to all tenants: measure it, check it, set it against the floor."""

from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import Final

from bench.audit import to
from bench.benchmark import Plan
from bench.progress import say
from bench.replay import Replay
from bench.result import Result
from bench.world import World
from dev.audit import Write

WAVE_TIMEOUT_S: Final = 600.0
TO_TENANTS: Final = ("secrets", "mailserversettings/status")


class Waves:
    """Measures wave after wave, and the floor after each."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._replay = Replay(world.admin, world.as_operator)
        self._ours: list[float] = []
        self._writes: list[int] = []
        self._rss: list[float] = []

    async def measure(
        self,
        begin: Callable[[], Awaitable[float]],
        is_complete: Callable[[Sequence[Write]], bool],
        check: Callable[[], Awaitable[None]],
    ) -> None:
        """One wave with the operator, which is stopped then, and one without.

        Args:
            begin: Causes the wave; when it did, in seconds since 1970.
            is_complete: Whether the writes so far can be all.
            check: Looks at what has come of them.
        """
        self._world.audit.forget()
        cpu_s = self._world.cpu_s()
        began = await begin()
        writes = await self._world.audit.settled(is_complete, timeout_s=WAVE_TIMEOUT_S)
        self._ours.append(max(write.at for write in to(writes, *TO_TENANTS)) - began)
        self._writes.append(sum(write.is_done for write in writes))
        self._rss.append(self._world.rss_mb())
        cpu_s = self._world.cpu_s() - cpu_s
        await check()
        self._world.stop()
        await self._replay.times(to(writes, *{write.resource for write in writes}))
        say(
            f"  ours {self._ours[-1]:.2f} s ({cpu_s:.2f} s of CPU), {self._writes[-1]} writes; "
            f"floor so far {self._replay.floor_s:.2f} s"
        )

    def result(self, name: str, plan: Plan, *, at_most: float) -> Result:
        """The medians.

        Args:
            name: The benchmark's.
            plan: What was carried out.
            at_most: The ratio that must be reached.
        """
        ours, floor = median(self._ours), self._replay.floor_s
        return Result(
            name=name,
            tenants=plan.tenants,
            ours_s=ours,
            floor_s=floor,
            rss_mb=max(self._rss),
            writes=max(self._writes),
            share=ours / floor / at_most,
        )
