"""What the relay wants from its surroundings; Kubernetes is one way to give it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from mailsettings.api.providers import MailboxLimits
from mailsettings.core.relay.audit import AuditRecord
from mailsettings.core.relay.bundle import Bundle, BundleTenant
from mailsettings.core.relay.policy import Policy
from mailsettings.core.relay.rates import RateLimit
from mailsettings.core.slots import Budget


@dataclass(frozen=True, slots=True)
class Account:
    """A login at the relay, and where its mail goes."""

    tenant: BundleTenant
    bundle: Bundle
    policy: Policy


class Bundles(Protocol):
    """Where bundles come from."""

    def find(self, username: str) -> Account | None:
        """The account of a user name, as it is at present. It must not wait."""

    def bundle(self, credential: str) -> Bundle | None:
        """The bundle of a login at a mail server, as it is at present. It must not wait."""

    def is_shared(self, credential: str) -> bool:
        """Whether tenants of several namespaces use a login at a mail server."""


class Tokens(Protocol):
    """Gets access tokens renewed."""

    async def renewed(self, bundle: Bundle) -> Bundle | None:
        """The bundle with another access token, after its own was refused; None: there is none."""


class Reviewer(Protocol):
    """Checks the tokens of ServiceAccounts."""

    async def namespace(self, token: str) -> str | None:
        """Whose namespace a token is of; None: it is not genuine, not for the relay, or of no ServiceAccount.

        Raises:
            OSError: It cannot be checked now.
        """


class Slot(Protocol):
    """The right to one connection."""

    user: str
    """The namespace whose messages go through it; empty: nobody's yet."""

    @property
    def is_held(self) -> bool:
        """Whether it surely is still nobody else's."""

    @property
    def budget(self) -> Budget:
        """How many messages may be begun under it."""

    def when_over(self, tell: Callable[[], None]) -> None:
        """Has it told, once, that the slot is to be freed as soon as can be."""

    def free(self) -> None:
        """Gives it back. It must not wait."""


class Slots(Protocol):
    """Counts the connections of all replicas to a login at a mail server."""

    async def take(self, credential: str, limits: MailboxLimits, waiting: Collection[str] = ()) -> Slot | None:
        """The right to one more connection; None: there is none now. It neither fails nor takes long.

        Args:
            credential: Names the login.
            limits: How many there may be at a time, everywhere.
            waiting: The namespaces that wait for one and have none of this process's.
        """


class Rates(Protocol):
    """Counts messages against the tenants' limits."""

    async def take(self, account: Account) -> RateLimit | None:
        """Counts a message; the limit that it would exceed, in which case it does not count."""


class Sink(Protocol):
    """Is told what happens. It must neither wait nor fail."""

    def message(self, record: AuditRecord) -> None:
        """A message has come to its end."""

    def login(self, username: str, *, accepted: bool) -> None:
        """Somebody has tried to log in; the name is empty where nobody has it."""

    def upstream_failed(self, credential: str, reason: str) -> None:
        """There is no connection to a mail server; the reason is one of the project's closed list."""
