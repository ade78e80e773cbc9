"""A bare kopf operator that only counts: what anything built on kopf cannot be faster than, nor smaller.

    KUBECONFIG=FILE python -m bench.counting_handler COUNT

It says `seen` once it has seen so many MailServerSettings, and runs on until SIGTERM.
"""

import asyncio
import sys

import kopf

from mailsettings.api import names


def main() -> None:
    """Counts until it is stopped."""
    expected = int(sys.argv[1])
    registry = kopf.OperatorRegistry()
    seen: set[str] = set()
    kopf.on.login(registry=registry)(kopf.login_with_kubeconfig)

    @kopf.on.event(names.GROUP, names.VERSION, names.TENANT_PLURAL, registry=registry)
    async def count(uid: str | None, **_: object) -> None:
        seen.add(uid or "")
        if len(seen) == expected:
            print("seen", flush=True)

    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.posting.enabled = False
    asyncio.run(kopf.operator(registry=registry, settings=settings, standalone=True, clusterwide=True))


if __name__ == "__main__":
    main()
