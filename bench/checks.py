"""Whether everything is as the operator should have made it, so that nothing is measured that did not happen."""

import base64
from collections.abc import Sequence

from bench import objects
from bench.errors import BenchError
from bench.world import World


async def delivered(world: World, sender: str, count: int) -> None:
    """That so many tenants' Secrets have a sender.

    Raises:
        BenchError: They have not.
    """
    wanted = base64.b64encode(sender.encode()).decode()
    secrets = await world.admin.items(objects.SECRETS)
    _expect("Secrets", [secret.get("data", {}).get("from") == wanted for secret in secrets], count)


async def reported(world: World, sender: str, count: int) -> None:
    """That so many tenants' statuses say that they are ready and have a sender.

    Raises:
        BenchError: They do not.
    """
    found = await world.admin.items(objects.SETTINGS)
    ready = [objects.ready(settings) and settings["status"]["effective"]["mailFrom"] == sender for settings in found]
    _expect("statuses", ready, count)


def _expect(what: str, right: Sequence[bool], count: int) -> None:
    if sum(right) != count:
        raise BenchError(f"{sum(right)} {what} are as they should be, of {count}")
