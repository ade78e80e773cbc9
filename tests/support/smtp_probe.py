"""Probes of servers on the loopback."""

from datetime import timedelta
from typing import Any, Final

from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import TlsMode
from mailsettings.core import probe as interface
from mailsettings.core.egress import EgressPolicy
from mailsettings.core.server import Credentials, Login, Server, Source
from mailsettings.edges import smtp
from tests.support.listening import LOOPBACK
from tests.support.smtp_server import PASSWORD, USERNAME

ALLOW_LOOPBACK: Final = EgressPolicy.parse(allow="127.0.0.0/8:* [::1/128]:*")
LOGIN: Final = Credentials(USERNAME, PASSWORD)
MAIL: Final = interface.TestMail(
    "Acme <no-reply@acme.example>", "ops@acme.example", "MailServerSettings acme/notifications"
)
PATIENT: Final = timedelta(seconds=20)
"""Of a step that is to succeed: no test waits this long."""


def request(
    port: int,
    mode: ProbeMode = ProbeMode.SEND,
    *,
    credentials: Login | None = LOGIN,
    mail: interface.TestMail | None = MAIL,
    level: Source = Source.TENANT,
    **server: Any,
) -> interface.ProbeRequest:
    """A request about a server on the loopback; without more a plain one."""
    server = {"host": LOOPBACK, "tls_mode": TlsMode.DISABLED, "timeout": PATIENT, **server}
    return interface.ProbeRequest(Server(port=port, **server), mode, level, credentials, mail, observed=True)


async def probe(
    asked: interface.ProbeRequest, *, policy: EgressPolicy = ALLOW_LOOPBACK, deadline: timedelta = PATIENT
) -> interface.ProbeResult:
    """`smtp.probe` where the loopback is allowed."""
    return await smtp.probe(asked, policy=policy, deadline=deadline)


async def failure(
    asked: interface.ProbeRequest, *, policy: EgressPolicy = ALLOW_LOOPBACK, deadline: timedelta = PATIENT
) -> interface.ProbeFailure:
    """How a probe failed that must fail."""
    result = await probe(asked, policy=policy, deadline=deadline)
    assert result.failure is not None, "the probe passed"
    return result.failure
