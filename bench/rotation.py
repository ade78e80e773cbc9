"""OAuth2 credentials that expire soon are all due at once: each is renewed before it does, gently and with few writes.

The operator was away while they came due, so nothing spreads them but its own bounds.
"""

import asyncio
import json
import secrets
import ssl
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench import objects
from bench.audit import to
from bench.bare import create
from bench.benchmark import Benchmark, Plan
from bench.errors import BenchError
from bench.identity_provider import CA_FILE, CONSENTS_FILE, LATENCY_S
from bench.programs import program
from bench.progress import say
from bench.result import FORBIDDEN, Result
from bench.world import World, Worlds
from dev.audit import Write
from dev.operator_process import NAMESPACE
from mailsettings.api.names import token_secret_name
from tests.support.identity_provider import CLIENT_SECRET
from tests.support.listening import LOOPBACK

NAME: Final = "rotation"
AT_ONCE: Final = 8
"""The operator's default: how many calls of identity providers may be under way."""
WRITES_AT_MOST: Final = 4
"""For each credential: the claim, the token, the application's Secret, the status."""
DUE_AT_LATEST: Final = 1 / 3
"""Of its life, a token that lives for less than 22.5 minutes."""
LONG_LIFE_S: Final = 3600.0
START_S: Final = 60.0
CREATE_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Credential:
    """One settings object with a token.

    Attributes:
        namespace: Where it is.
        token_secret: The name of the operator's Secret with the token.
        renewable_at: When it may be renewed at the latest, in seconds since 1970.
        expires_at: When its access token expires.
    """

    namespace: str
    token_secret: str
    renewable_at: float
    expires_at: float


async def run(plan: Plan, worlds: Worlds) -> list[Result]:
    """Gets tokens that live for the plan's seconds, waits until they are due, and has them renewed."""
    async with worlds() as place:
        arguments = (str(place.folder), str(plan.tenants))
        async with program("bench.identity_provider", *arguments, says_within_s=START_S) as port:
            place.configure(
                MAILSETTINGS_OAUTH2_CA_FILE=str(place.folder / CA_FILE), MAILSETTINGS_OAUTH2_LIMIT=str(AT_ONCE)
            )
            provider = Provider(int(port), place.folder)
            await provider.set_life(plan.seconds)
            credentials = await _authorized(place, provider, plan)
            due_at = max(credential.renewable_at for credential in credentials)
            say(f"  waiting for {max(0.0, due_at - time.time()):.0f} s until all are due")
            await asyncio.sleep(max(0.0, due_at - time.time()))
            await provider.set_life(LONG_LIFE_S)
            return [await _rotated(place, provider, credentials, plan)]


async def _authorized(place: World, provider: "Provider", plan: Plan) -> list[Credential]:
    """Settings that have a token each; the operator is stopped."""
    consents = json.loads((place.folder / CONSENTS_FILE).read_text())
    prefix = f"rotating-{secrets.token_hex(3)}"
    names = [f"{prefix}-{number:05d}" for number in range(plan.tenants)]
    await place.create_namespaces([{"metadata": {"name": name}} for name in names])
    await place.create(
        [
            create(objects.secrets_in(name), objects.oauth2_login(CLIENT_SECRET, consent))
            for name, consent in zip(names, consents, strict=True)
        ]
    )
    settings = objects.with_oauth2(place.mail_port, provider.token_uri)
    await place.create_settings(dict.fromkeys(names, settings))
    place.audit.forget()
    await place.start()
    await place.audit.settled(lambda writes: _delivered(writes, names) == len(names), timeout_s=CREATE_TIMEOUT_S)
    place.stop()
    found = {item["metadata"]["namespace"]: item for item in await place.admin.items(objects.SETTINGS)}
    return [_credential(found[name], plan.seconds) for name in names]


def _delivered(writes: Sequence[Write], namespaces: Sequence[str]) -> int:
    return len({write.namespace for write in to(writes, "secrets")} & {*namespaces})


def _credential(settings: Mapping[str, Any], life_s: float) -> Credential:
    if not objects.ready(settings):
        raise BenchError(f"the settings in {settings['metadata']['namespace']} are not ready")
    expires_at = datetime.fromisoformat(settings["status"]["oauth2"]["accessTokenExpiresAt"]).timestamp()
    return Credential(
        settings["metadata"]["namespace"],
        token_secret_name(settings["metadata"]["uid"]),
        # What the status says is rounded down to a second.
        expires_at - life_s * (1 - DUE_AT_LATEST) + 1,
        expires_at,
    )


async def _rotated(place: World, provider: "Provider", credentials: Sequence[Credential], plan: Plan) -> Result:
    place.audit.forget()
    names = [credential.namespace for credential in credentials]
    began, _ = await place.start()
    left_s = max(credential.expires_at for credential in credentials) - began
    writes = await place.audit.settled(
        lambda writes: _delivered(writes, names) == len(names), timeout_s=left_s + CREATE_TIMEOUT_S
    )
    rss = place.rss_mb()
    place.stop()
    most_at_once = await provider.most_at_once()
    ends = _ends(writes)
    late = max(
        (ends[credential.namespace] - began) / max(1.0, credential.expires_at - began) for credential in credentials
    )
    most_writes = max(writes_of(credentials, writes).values())
    ours_s = max(ends[name] for name in names) - began
    say(
        f"  the last after {ours_s:.1f} s, {late:.2f} of the time that it had; {most_writes} writes for one at most; "
        f"{most_at_once} at once at most"
    )
    return Result(
        name=NAME,
        tenants=plan.tenants,
        ours_s=ours_s,
        floor_s=len(credentials) * LATENCY_S / AT_ONCE,
        rss_mb=rss,
        writes=sum(write.is_done for write in writes),
        share=share_of(most_writes, most_at_once, late),
    )


def share_of(most_writes: int, most_at_once: int, late: float) -> float:
    """What was reached in relation to what must be.

    Args:
        most_writes: For one credential.
        most_at_once: Requests at the provider.
        late: When the last token was delivered, as a share of the time that it had.
    """
    return FORBIDDEN if most_writes > WRITES_AT_MOST or most_at_once > AT_ONCE else late


def _ends(writes: Sequence[Write]) -> dict[str, float]:
    """By namespace: when the application's Secret was written last."""
    ends: dict[str, float] = {}
    for write in to(writes, "secrets"):
        ends[write.namespace] = max(write.at, ends.get(write.namespace, 0.0))
    return ends


def writes_of(credentials: Sequence[Credential], writes: Sequence[Write]) -> Counter[str]:
    """How many writes each credential has cost, by its namespace: those there, and those of its token."""
    whose = {credential.token_secret: credential.namespace for credential in credentials}
    names = {*whose.values()}
    counted: Counter[str] = Counter()
    for write in writes:
        namespace = whose.get(write.name, "") if write.namespace == NAMESPACE else write.namespace
        if write.is_done and namespace in names:
            counted[namespace] += 1
    return counted


class Provider:
    """The identity provider's program."""

    def __init__(self, port: int, folder: Path) -> None:
        self._origin = f"https://{LOOPBACK}:{port}"
        self._context = ssl.create_default_context(cafile=str(folder / CA_FILE))
        self.token_uri = f"{self._origin}/token"

    async def set_life(self, seconds: float) -> None:
        """How long access tokens live from now on."""
        await self._ask("PUT", f"/access-life/{seconds}")

    async def most_at_once(self) -> int:
        """How many requests for tokens were under way at once.

        Raises:
            BenchError: It has refused some.
        """
        counted = json.loads(await self._ask("GET", "/statistics"))
        if counted["refused"]:
            raise BenchError(f"the identity provider has refused {counted['refused']} requests")
        return int(counted["mostAtOnce"])

    async def _ask(self, method: str, path: str) -> bytes:
        async with (
            aiohttp.ClientSession(self._origin, connector=aiohttp.TCPConnector(ssl=self._context)) as session,
            session.request(method, path, raise_for_status=True) as answer,
        ):
            return await answer.read()


BENCHMARK: Final = Benchmark(
    name=NAME,
    summary="OAuth2 credentials come due at once: renewed before they expire, few at a time, with four writes each",
    run=run,
    full=(Plan(5000, rounds=1, seconds=600),),
    quick=Plan(60, rounds=1, seconds=45),
)
