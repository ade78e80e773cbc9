"""The example with OAuth2: a person's consent, an application that sends every few seconds, a token that is renewed."""

import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from select import select
from typing import Final

from dev.cluster import Api, ClusterError
from dev.demo import application
from dev.demo.authority import Authority
from dev.demo.examples import ROOT
from dev.demo.expectations import CONSENTED, faults
from dev.demo.identity_provider import ACCESS_LIFE, ACCOUNT, PASSWORD, IdentityProvider
from dev.demo.mail_server import Mail, MailServer
from dev.demo.person import ConsentError, Person
from dev.demo.screen import Screen, clock
from dev.demo.state import Authorization, Place, Row, Sending, State

RECIPIENT: Final = "customer@billing.example"
INTERVAL_S: Final = 3.0
"""Between two mails of the application."""
TOKENS: Final = 2
"""How many tokens have to be seen: one from the consent and one from its renewal."""
PLUGIN: Final = Path(sys.prefix) / "bin" / "kubectl-mailsettings"
"""The kubectl plugin where it is installed together with the demo; it need not be on the PATH."""

_SECRET: Final[Place] = (CONSENTED.namespace, CONSENTED.secret)
_TITLE: Final = f"{CONSENTED.namespace}/{CONSENTED.name}"
_LIFE_MIN: Final = int(ACCESS_LIFE.total_seconds() // 60)


@dataclass(frozen=True, slots=True)
class Servers:
    """The demo's own servers."""

    authority: Authority
    provider: IdentityProvider
    mail: MailServer


class ConsentDemo:
    """From `NotGenerated` to a token that is renewed while mails are sent with it."""

    def __init__(self, api: Api, folder: Path, servers: Servers, screen: Screen, *, by_itself: bool) -> None:
        """With `by_itself` the demo is the person who consents; else it waits for one."""
        self._api = api
        self._folder = folder
        self._servers = servers
        self._screen = screen
        self._by_itself = by_itself
        self._is_awaited = False
        self._was_asked = False
        self._sends_at: float | None = None
        self._mails = 0
        self._token = 0
        self._failures: list[str] = []

    def step(self, state: State, *, asks: bool) -> None:
        """Does what is next.

        Args:
            state: The present state.
            asks: Whether a person may be asked to consent now.
        """
        row = state.row(CONSENTED.namespace, CONSENTED.name)
        if row is None or row.authorization is None:
            return
        if row.reason == "ConsentRequired" and row.authorization.authorize_url:
            self._await_consent(row, row.authorization, asks=asks)
        elif row.ready == "True":
            self._send(state)

    def take(self, mail: Mail) -> bool:
        """Whether a mail that has arrived is one of the application's."""
        if RECIPIENT not in mail.recipients:
            return False
        self._mails += 1
        if mail.token > self._token:
            how = f", in place of token {self._token}" if self._token else ""
            self._screen.say(f"{clock()} {_TITLE}: mail {self._mails} came with token {mail.token}{how}")
            self._token = mail.token
        return True

    def sending(self, state: State) -> Sending | None:
        """What the application has come to; None: it has not sent yet."""
        if not self._mails:
            return None
        row = state.row(CONSENTED.namespace, CONSENTED.name)
        renewal = row.authorization.renewal if row is not None and row.authorization is not None else None
        left = renewal - datetime.now(renewal.tzinfo) if renewal is not None else None
        return Sending(_TITLE, self._mails, self._token, self._servers.mail.refused_tokens, left)

    @property
    def summary(self) -> str:
        """What has come of it when nothing is unmet."""
        return f"{_TITLE}: {self._mails} mails were sent with {self._token} tokens, and none was refused."

    def unmet(self, state: State) -> list[str]:
        """What has not happened yet, or should not have happened, as sentences."""
        found = [*faults(CONSENTED, state), *self._failures]
        if not self._is_awaited:
            found.append(f"{_TITLE}: was not seen without a token, waiting for a consent")
        if self._token < TOKENS:
            found.append(f"{_TITLE}: no mail has come with {'a renewed' if self._token else 'a'} token")
        if self._servers.mail.refused_tokens:
            found.append(f"{_TITLE}: logins with a token that were refused: {self._servers.mail.refused_tokens}")
        return found

    def _await_consent(self, row: Row, authorization: Authorization, *, asks: bool) -> None:
        self._is_awaited = self._is_awaited or row.token == "NotGenerated"
        # What an administrator copies into the provider's console by hand.
        self._servers.provider.redirect_uris.add(authorization.redirect_uri)
        if self._by_itself:
            self._consent(authorization)
            return
        if asks and not self._was_asked:
            self._was_asked = True
            self._ask(authorization)
        if self._was_asked and _enter_was_pressed():
            self._consent(authorization)

    def _ask(self, authorization: Authorization) -> None:
        self._screen.say(
            f"\n{_TITLE} waits for your consent. Open this in a browser on this machine:\n"
            f"  {authorization.authorize_url}\n"
            "Press the button and log in; the browser warns of the demo's own certificate.\n"
            f"  user name: {ACCOUNT}\n"
            f"  password:  {PASSWORD}"
        )
        if PLUGIN.exists():
            program = PLUGIN.relative_to(ROOT) if PLUGIN.is_relative_to(ROOT) else PLUGIN
            self._screen.say("Or begin in another terminal, after the export line above:")
            self._screen.say(f"  {program} authorize {CONSENTED.name} -n {CONSENTED.namespace}")
        if _has_keyboard():
            self._screen.say("Or press Enter here, and the demo consents in your place.")

    def _consent(self, authorization: Authorization) -> None:
        self._screen.say(
            f"\n{clock()} a person consents for {_TITLE}, by HTTP and without a browser:\n"
            f"  opens {authorization.authorize_url}\n"
            f"  logs in at {self._servers.provider.origin} as {ACCOUNT}, and allows it"
        )
        self._by_itself = False  # once is enough
        try:
            said = Person(self._servers.authority.certificate).consent(authorization.authorize_url, ACCOUNT, PASSWORD)
        except ConsentError as error:
            self._fail(str(error))
            return
        self._screen.say(f'  is told: "{said}"')

    def _send(self, state: State) -> None:
        if _SECRET not in state.secrets:
            return
        now = time.monotonic()
        if self._sends_at is None:
            self._screen.say(
                f"\nsend_mail.py sends every {INTERVAL_S:.0f} s with the token in the Secret {'/'.join(_SECRET)}.\n"
                f"A token lives {_LIFE_MIN} minutes here, and is renewed after about 40 s."
            )
        elif now < self._sends_at:
            return
        self._sends_at = now + INTERVAL_S
        try:
            application.send_mail(self._api, _SECRET, RECIPIENT, self._folder)
        except ClusterError as error:
            self._fail(str(error))

    def _fail(self, what: str) -> None:
        self._failures.append(f"{_TITLE}: {what}")
        self._screen.say(f"{clock()} {_TITLE}: {what}")


def _has_keyboard() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _enter_was_pressed() -> bool:
    """Whether somebody at the terminal has ended a line."""
    return _has_keyboard() and bool(select([sys.stdin], [], [], 0)[0]) and sys.stdin.readline() != ""
