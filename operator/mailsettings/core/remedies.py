"""What to do about what a server says: in the fields of the settings where those are known, else as the catalog has it.

Pure. A remedy holds nothing of what the server said.
"""

from dataclasses import dataclass, field
from typing import Final

from mailsettings.api.providers import OFFICE365, SENDGRID, TlsMode
from mailsettings.core.causes.catalog import CATALOG
from mailsettings.core.causes.cause import Cause
from mailsettings.core.expressions import Expression
from mailsettings.core.probe import ProbeRequest, Stage
from mailsettings.core.rules import first, is_in, pattern
from mailsettings.core.server import BearerToken


@dataclass(frozen=True, slots=True)
class About:
    """What is to be mended."""

    cause: Cause
    stage: Stage
    """Where the server said so."""
    request: ProbeRequest
    said: str = field(repr=False)
    """All that it said. For matching only: it may hold secrets."""


@dataclass(frozen=True, slots=True)
class _Remedy:
    """When something is to be done. A condition that is None always holds."""

    cause: Cause
    text: str
    stages: frozenset[Stage] | None = None
    tls: frozenset[TlsMode] | None = None
    providers: frozenset[str] | None = None
    has_login: bool | None = None
    by_token: bool | None = None
    said: Expression | None = None

    def holds(self, about: About) -> bool:
        """Whether every condition does."""
        request = about.request
        return (
            about.cause is self.cause
            and is_in(about.stage, self.stages)
            and is_in(request.server.tls_mode, self.tls)
            and is_in(request.known_provider, self.providers)
            and self.has_login in (None, request.credentials is not None)
            and self.by_token in (None, isinstance(request.credentials, BearerToken))
            and (self.said is None or self.said.search(about.said) is not None)
        )


def remedy_of(about: About) -> str:
    """What to do."""
    remedy = first(REMEDIES, about)
    return advice(about.cause) if remedy is None else remedy.text


def advice(cause: Cause) -> str:
    """What to do about a cause whatever the settings are, with what to type, on one line."""
    entry = CATALOG[cause]
    remedy = entry.remedy.replace("`", "")
    commands = " or ".join(f"`{command}`" for command in entry.commands)
    return f"{remedy} Run: {commands}." if commands else remedy


_AT_AUTH: Final = frozenset({Stage.AUTH})
_DISABLED: Final = frozenset({TlsMode.DISABLED})
_ENCRYPTED: Final = frozenset({TlsMode.START_TLS, TlsMode.IMPLICIT})
_TOO_LONG: Final = pattern(r"too long|\b5\.5\.6\b")  # the code: RFC 4954 §6

REMEDIES: Final = (
    _Remedy(
        Cause.START_TLS_EXPECTED,
        "Set connection.tls.mode to StartTLS.",
        tls=_DISABLED,
    ),
    _Remedy(
        Cause.START_TLS_EXPECTED,
        "The connection is encrypted already: whoever runs the server finds out why it does not count it as such.",
        tls=_ENCRYPTED,
    ),
    _Remedy(
        Cause.BAD_CREDENTIALS,
        "Check that the token is for this very mailbox and bears the scope and audience that the mail server wants, "
        "and that the provider lets this account and application use SMTP.",
        by_token=True,
    ),
    _Remedy(
        Cause.BAD_CREDENTIALS,
        "The user name is apikey for every account: check that the Secret that auth.basic.passwordSecretRef names "
        "holds a whole API key, not its ID, that is still there and may send mail.",
        providers=frozenset({SENDGRID}),
        by_token=False,
    ),
    _Remedy(
        Cause.BAD_CREDENTIALS,
        "Check the user name, and the password in the Secret that auth.basic.passwordSecretRef names: a wrong account, "
        "an old password, quotes or a line break at the end.",
        by_token=False,
    ),
    _Remedy(
        Cause.WRONG_TOKEN_SCOPE_OR_AUDIENCE,
        "Check that the scope is SMTP.Send of outlook.office.com, or for an application SMTP.SendAsApp of "
        "outlook.office365.com with a service principal and mailbox permission in Exchange; that the user name is no "
        "shared mailbox; and that SMTP AUTH is enabled for it.",
        providers=frozenset({OFFICE365}),
    ),
    _Remedy(
        Cause.TOKEN_EXPIRED,
        "The token is too close to its end for this server, which wants about ten minutes; a new one will do.",
        by_token=True,
        said=pattern(r"\b5\.5\.127\b"),  # Microsoft's High Volume Email
    ),
    _Remedy(
        Cause.TOKEN_EXPIRED,
        "A renewed token is tried at once. If that is refused too, check that it is for this mailbox, and that its "
        "issuer, audience and scope are those that the mail server wants.",
        by_token=True,
    ),
    _Remedy(
        Cause.PROTOCOL_ERROR,
        "Google says so where auth.oauth2.username is a service account's own address: set it to the mailbox. "
        "Otherwise the token is longer than this server takes.",
        stages=_AT_AUTH,
        by_token=True,
        said=_TOO_LONG,
    ),
    _Remedy(
        Cause.AUTH_REQUIRED,
        "Set auth: the server takes mail after a login only.",
        has_login=False,
    ),
    _Remedy(
        Cause.AUTH_REQUIRED,
        "The login went well, and the server does not count it: check that connection.host and connection.port are "
        "those for submission, and which account the server expects.",
        has_login=True,
    ),
    _Remedy(
        Cause.RELAY_DENIED,
        "Set auth, or have the server admit the cluster's outbound addresses.",
        has_login=False,
    ),
    _Remedy(
        Cause.RELAY_DENIED,
        "Use another probe.recipient, or have the server relay for this login.",
        has_login=True,
    ),
    _Remedy(
        Cause.SENDER_NOT_ALLOWED,
        "Set mailFrom to an address that the login may use, or have it granted the right to send as that one. "
        "Run: `Add-RecipientPermission FROM -Trustee LOGIN -AccessRights SendAs`.",
        providers=frozenset({OFFICE365}),
    ),
    _Remedy(
        Cause.SENDER_NOT_ALLOWED,
        "Set mailFrom to an address that the server accepts for this login, or have the right granted.",
    ),
    _Remedy(
        Cause.RECIPIENT_REJECTED,
        "Check the recipient: for the settings' own probe it is probe.recipient.",
    ),
)
"""The first that holds is what to do; the catalog's where none does."""
