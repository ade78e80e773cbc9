"""Whatever the relay is told, nobody sends through it without a login, and the mail server hears nothing of him."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from mailsettings.core.relay.passwords import hash_password, new_password
from tests.support.relay import (
    ACCOUNT,
    HASH,
    RECIPIENT,
    SECRET,
    SENDER,
    RawClient,
    RunningRelay,
    bundle,
    running,
    tenant,
)
from tests.support.smtp_server import scripted_server

TOKEN: Final = "ey.a-token.of-another-namespace"
OLD: Final = new_password()
COMMANDS: Final = (f"MAIL FROM:<{SENDER}>".encode(), f"RCPT TO:<{RECIPIENT}>".encode(), b"DATA")

EVERYTHING: Final = {
    "allowedFrom": ["*@*"],
    "foreignSender": "Rewrite",
    "recipientDomains": ["*"],
    "tokens": True,
}
ENDED: Final = {"passwords": [HASH, hash_password(OLD)], "until": datetime.now(tz=UTC) - timedelta(seconds=1)}

CONFIGURATIONS: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {
    "it has been told nothing": [],
    "a mail server with a login": [{}],
    "a mail server without a login": [{"login": None}],
    "a mail server whose access token is not there yet": [{"login": {"username": "mailer"}}],
    "everything is permitted": [{"login": None, "tenant": EVERYTHING}],
    "ServiceAccounts alone": [{"login": None, "tenant": {"passwords": [], "tokens": True}}],
    "nobody may log in": [{"login": None, "tenant": {"passwords": []}}],
    "sending is blocked": [{"login": None, "tenant": {"sending": "Blocked"}}],
    "an old password has ended": [{"login": None, "tenant": ENDED}],
    "several tenants": [
        {"login": None, "tenants": [tenant(), tenant(username="other.mail", namespace="other", passwords=[])]}
    ],
}


class AnotherNamespace:
    """Knows one ServiceAccount, which is of none of the tenants' namespaces."""

    async def namespace(self, token: str) -> str | None:
        return "elsewhere" if token == TOKEN else None


def plain(username: str, password: str, authorization: str = "") -> bytes:
    """A login by PLAIN. Source: RFC 4616 §2."""
    return b"AUTH PLAIN " + base64.b64encode(f"{authorization}\0{username}\0{password}".encode())


async def says_nothing(client: RawClient) -> None:
    """Goes on to MAIL at once."""


async def says_rset(client: RawClient) -> None:
    """Begins anew."""
    assert (await client.say(b"RSET")).startswith("250")
    assert (await client.say(b"HELO app")).startswith("250")


async def gives_up(client: RawClient) -> None:
    """Begins a login and breaks it off."""
    assert (await client.say(b"AUTH PLAIN")).startswith("334")
    assert (await client.say(b"*")).startswith("501")


def presents(*login: str) -> Callable[[RawClient], Awaitable[None]]:
    """Somebody who is refused."""

    async def refused(client: RawClient) -> None:
        assert (await client.say(plain(*login))).startswith(("535", "454", "501"))

    return refused


STRANGERS: Final[Mapping[str, Callable[[RawClient], Awaitable[None]]]] = {
    "nothing": says_nothing,
    "RSET and HELO": says_rset,
    "a login that is broken off": gives_up,
    "a wrong password": presents(ACCOUNT, "wrong"),
    "no password": presents(ACCOUNT, ""),
    "what is kept of the password": presents(ACCOUNT, HASH),
    "a password that has ended": presents(ACCOUNT, OLD),
    "the password of another": presents("other.mail", SECRET),
    "a tenant's name to act for": presents("nobody", SECRET, ACCOUNT),
    "a token of another namespace": presents(ACCOUNT, TOKEN),
}


async def tries(relay: RunningRelay, introduce: Callable[[RawClient], Awaitable[None]]) -> None:
    """To send, and is refused each command."""
    async with RawClient.to(relay) as client:
        assert (await client.reply()).startswith("220")
        assert (await client.say(b"EHLO app")).startswith("250")
        await introduce(client)
        for command in COMMANDS:
            assert (await client.say(command)).startswith("530")


@pytest.mark.parametrize("told", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
async def test_nobody_sends_without_a_login(told: Sequence[Mapping[str, Any]]) -> None:
    async with scripted_server() as server:
        bundles = [bundle(server.port, **each) for each in told]
        async with running(*bundles, reviewer=AnotherNamespace()) as relay:
            await asyncio.gather(*(tries(relay, introduce) for introduce in STRANGERS.values()))
        assert server.lines == []
        assert relay.sink.records == []


@pytest.mark.parametrize("told", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
async def test_nobody_sends_without_tls(told: Sequence[Mapping[str, Any]]) -> None:
    """Not with the right password either: it has been overheard."""
    async with scripted_server() as server:
        bundles = [bundle(server.port, **each) for each in told]
        async with running(*bundles) as relay, RawClient.to(relay, implicit=False) as client:
            assert (await client.reply()).startswith("220")
            assert "AUTH" not in await client.say(b"EHLO app")
            assert (await client.say(plain(ACCOUNT, SECRET))).startswith(("530", "538"))
            for command in COMMANDS:
                assert (await client.say(command)).startswith("530")
        assert server.lines == []


@pytest.mark.parametrize(
    "login", [plain(ACCOUNT, "wrong"), plain(ACCOUNT, SECRET), b"AUTH PLAIN ="], ids=["wrong", "right", "empty"]
)
async def test_what_comes_with_a_login_at_once_is_not_listened_to(login: bytes) -> None:
    async with scripted_server() as server:
        async with running(bundle(server.port, login=None)) as relay, RawClient.to(relay) as client:
            assert (await client.reply()).startswith("220")
            assert (await client.say(b"EHLO app")).startswith("250")
            await client.send(b"\r\n".join((login, *COMMANDS, b"")))
            replies = [await client.reply() for _ in range(1 + len(COMMANDS))]
            assert replies[0].startswith("554 5.5.0")
            assert replies[1:] == ["", "", ""]
        assert server.lines == []
