"""A test mail is sent only if it may be, which is asked at the last moment."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import pytest

from mailsettings.api.conditions import Reason
from mailsettings.api.probe import ProbeMode
from mailsettings.core import probe as interface
from mailsettings.core.probe import Hold, ProbeResult, Stage
from mailsettings.edges import smtp
from tests.support.smtp_probe import ALLOW_LOOPBACK, MAIL, PATIENT, request
from tests.support.smtp_server import Act, ScriptedServer, close, say, scripted_server

ROOM_AT: Final = datetime(2031, 1, 1, 12, tzinfo=UTC)
FULL: Final = Hold("the bound is reached", ROOM_AT)
UNCOUNTED: Final = Hold("the API server does not answer", None)


class Ledger:
    """Notes what the server had been told when it was asked."""

    def __init__(self, server: ScriptedServer, hold: Hold | None) -> None:
        self._server = server
        self._hold = hold
        self.asked: list[tuple[interface.TestMail, list[str]]] = []

    async def count(self, mail: interface.TestMail) -> Hold | None:
        self.asked.append((mail, verbs(self._server)))
        return self._hold


def verbs(server: ScriptedServer) -> list[str]:
    return [line.split(" ")[0] for line in server.lines]


async def tried(
    hold: Hold | None = None, mode: ProbeMode = ProbeMode.SEND, script: Mapping[str, Act] | None = None
) -> tuple[ProbeResult, Ledger, list[str]]:
    async with scripted_server(script or {}) as server:
        ledger = Ledger(server, hold)
        asked = request(server.port, mode)
        result = await smtp.probe(asked, permit=ledger.count, policy=ALLOW_LOOPBACK, deadline=PATIENT)
        return result, ledger, verbs(server)


async def test_it_is_asked_once_when_nothing_else_is_left_to_refuse() -> None:
    result, ledger, said = await tried()
    assert result.failure is None
    assert result.hold is None
    ((mail, before),) = ledger.asked
    assert mail == MAIL
    assert before == ["EHLO", "AUTH", "MAIL", "RCPT"]
    assert "DATA" in said


@pytest.mark.parametrize(("hold", "reason"), [(FULL, Reason.MAIL_LIMIT_REACHED), (UNCOUNTED, Reason.MAIL_NOT_COUNTED)])
async def test_what_may_not_be_sent_is_not(hold: Hold, reason: Reason) -> None:
    """And the session ends as one should."""
    result, _, said = await tried(hold)
    assert said == ["EHLO", "AUTH", "MAIL", "RCPT", "QUIT"]
    assert result.hold == hold
    assert result.message_id is None, "nobody would find it"
    assert result.failure is not None
    assert (result.failure.reason, result.failure.stage) == (reason, Stage.DATA)
    assert hold.why in result.failure.message


async def test_a_server_that_hangs_up_meanwhile_does_not_hide_why() -> None:
    result, *_ = await tried(FULL, script={"QUIT": close})
    assert result.failure is not None
    assert result.failure.reason is Reason.MAIL_LIMIT_REACHED


@pytest.mark.parametrize("mode", [ProbeMode.CONNECT, ProbeMode.AUTHENTICATE])
async def test_what_sends_nothing_asks_nobody(mode: ProbeMode) -> None:
    result, ledger, _ = await tried(FULL, mode)
    assert (result.failure, ledger.asked) == (None, [])


@pytest.mark.parametrize("step", ["AUTH", "MAIL", "RCPT"])
async def test_what_the_server_refuses_before_is_not_counted(step: str) -> None:
    result, ledger, _ = await tried(script={step: say("554 5.7.1 no")})
    assert result.failure is not None
    assert ledger.asked == []
