"""How kopf is set up."""

import itertools
from collections.abc import Iterator
from typing import Final, cast

import kopf

IDLE_SECONDS: Final = 0.5
"""How long kopf keeps a task for an object of which there is no more news."""


def kopf_settings() -> kopf.OperatorSettings:
    """Kopf watches and hands over; what it would do beside that is off."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # the kinds are known; this spares the right to list CRDs
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.queueing.idle_timeout = IDLE_SECONDS
    settings.networking.request_timeout = 60
    settings.networking.error_backoffs = _Backoffs()
    return settings


class _NoDiffs(kopf.DiffBaseStorage):
    """Spares the copy of each object that kopf would compare its changes by; no handler here asks for any."""

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002
        return None

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:  # noqa: ARG002
        return cast(kopf.BodyEssence, {})

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        pass


class _Backoffs:
    """Seconds that kopf waits after each failure of the API server in a row; at their end it would give up."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 1, 2, 3), itertools.repeat(5))
