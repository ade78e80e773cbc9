"""Messages begin a few at a time, and none that is slow holds up others."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from mailsettings.edges.relay.admission import Admission
from tests.support.relay import SENDER, RawClient, bundle, eventually, running
from tests.support.smtp_server import HEALTHY, Act, Peer, scripted_server

FOR_EVER_S: Final = 3600.0
MAIL: Final = f"MAIL FROM:<{SENDER}>".encode()
RCPT: Final = b"RCPT TO:<ops@acme.example>"


class Entering:
    """Some that want to begin, one after the other."""

    def __init__(self, admission: Admission, names: str) -> None:
        self.begun = ""
        self.tasks = {name: asyncio.ensure_future(self._enter(admission, name)) for name in names}

    async def _enter(self, admission: Admission, name: str) -> None:
        await admission.enter(name)
        self.begun += name


async def test_so_many_begin_and_the_others_in_their_order() -> None:
    admission = Admission(2, FOR_EVER_S)
    entering = Entering(admission, "abcde")
    await eventually(lambda: entering.begun == "ab")
    admission.leave("e")  # it waits, and has nothing to leave
    admission.leave("b")
    await eventually(lambda: entering.begun == "abc")
    admission.leave("b")
    admission.leave("a")
    admission.leave("c")
    await asyncio.gather(*entering.tasks.values())
    assert entering.begun == "abcde"


async def test_one_that_waits_no_longer_is_passed_over() -> None:
    admission = Admission(1, FOR_EVER_S)
    entering = Entering(admission, "abc")
    await eventually(lambda: entering.begun == "a")
    entering.tasks["b"].cancel()
    await asyncio.wait([entering.tasks["b"]])
    admission.leave("a")
    await entering.tasks["c"]
    assert entering.begun == "ac"


async def test_nobody_waits_long_for_one_that_is_slow() -> None:
    async with asyncio.timeout(20):
        entering = Entering(Admission(2, 0.001), "abcdefgh")
        await asyncio.gather(*entering.tasks.values())
    assert entering.begun == "abcdefgh"


async def test_nobody_overtakes_those_who_wait() -> None:
    admission, time = Admission(1, 0.001), asyncio.get_running_loop().time
    first = Entering(admission, "ab")
    await asyncio.sleep(0)
    over_s = time() + 0.002
    while time() < over_s:  # there is room now, and nobody could be told so yet
        pass
    second = Entering(admission, "c")
    await second.tasks["c"]
    assert first.begun == "ab"


async def test_the_same_may_begin_again() -> None:
    admission = Admission(1, FOR_EVER_S)
    await admission.enter("a")
    admission.leave("a")
    await admission.enter("a")
    entering = Entering(admission, "b")
    admission.leave("a")
    await entering.tasks["b"]


async def _ends_it(client: RawClient) -> None:
    await client.begin()
    client.writer.write(f"From: {SENDER}\r\n\r\nhello\r\n.\r\n".encode())


async def _gives_it_up(client: RawClient) -> None:
    assert (await client.say(MAIL)).startswith("250")
    assert (await client.say(b"RSET")).startswith("250")


async def _is_refused(client: RawClient) -> None:
    assert (await client.say(b"MAIL FROM:<somebody@foreign.example>")).startswith("550")


async def _vanishes(client: RawClient) -> None:
    assert (await client.say(MAIL)).startswith("250")
    client.writer.transport.abort()


@pytest.mark.parametrize("first", [_ends_it, _gives_it_up, _is_refused, _vanishes])
async def test_a_message_makes_room_when_it_is_over(first: Callable[[RawClient], Awaitable[None]]) -> None:
    others_have_begun = asyncio.Event()

    async def hesitant(peer: Peer) -> None:
        await others_have_begun.wait()
        await HEALTHY["."](peer)

    # What the mail server thinks of the whole message is not waited for.
    script: dict[str, Act] = {**HEALTHY, ".": hesitant}
    async with scripted_server(script) as server, running(bundle(server.port)) as where:
        where.relay.admission = Admission(1, FOR_EVER_S)
        async with RawClient.to(where) as one, RawClient.to(where) as other:
            await one.log_in()
            await other.log_in()
            await first(one)
            assert (await other.say(MAIL)).startswith("250")
            assert (await other.say(RCPT)).startswith("250")
            others_have_begun.set()


async def test_what_has_been_begun_goes_first() -> None:
    async with scripted_server() as server, running(bundle(server.port)) as where:
        where.relay.admission = Admission(1, FOR_EVER_S)
        async with RawClient.to(where) as one, RawClient.to(where) as other:
            await one.log_in()
            await other.log_in()
            assert (await one.say(MAIL)).startswith("250")
            await other.send(MAIL + b"\r\n")
            assert (await one.say(RCPT)).startswith("250")
            assert (await one.say(b"RSET")).startswith("250")
            assert (await other.reply()).startswith("250")
        verbs = [line[:4] for line in server.lines if line.startswith(("MAIL", "RCPT"))]
        assert verbs == ["MAIL", "RCPT", "MAIL"]


async def test_a_slow_client_holds_up_nobody() -> None:
    async with scripted_server() as server, running(bundle(server.port)) as where:
        where.relay.admission = Admission(1)
        async with RawClient.to(where) as slow, RawClient.to(where) as other:
            await slow.log_in()
            await other.log_in()
            await slow.begin()
            await other.begin()
