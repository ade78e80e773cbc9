"""What a rule of the cause table is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mailsettings.core.causes.cause import Cause
from mailsettings.core.causes.clues import Clues
from mailsettings.core.expressions import Expression
from mailsettings.core.rules import is_in

BEFORE_LOGIN: Final = frozenset({"dns", "proxy", "connect", "greeting", "tls", "ehlo"})
ENVELOPE: Final = frozenset({"mail_from", "rcpt", "data"})
OAUTH: Final = frozenset({"token", "consent"})


@dataclass(frozen=True, slots=True)
class Rule:
    """When a cause holds. A condition that is None always holds."""

    cause: Cause
    source: str
    """Where the wording or the number comes from."""
    text: Expression | None = None
    """Found in the words."""
    unless: Expression | None = None
    """Not found in them."""
    stages: frozenset[str] | None = None
    providers: frozenset[str] | None = None
    """In lower case."""
    auths: frozenset[str] | None = None
    codes: frozenset[int] | None = None
    """One of them is in the text."""
    enhanced: Expression | None = None
    """Matches a whole enhanced status code of the text."""
    aadsts: frozenset[int] | None = None
    mentions: Expression | None = None
    """Found in the words, unless stage or login say already that OAuth2 is at work."""
    without_code: bool = False
    """There is no reply code in the text: nothing that a server of mail said."""

    def holds(self, clues: Clues) -> bool:
        """Whether every condition does."""
        return (
            is_in(clues.stage, self.stages)
            and is_in(clues.provider, self.providers)
            and is_in(clues.auth, self.auths)
            and (self.codes is None or not self.codes.isdisjoint(clues.codes))
            and not (self.without_code and clues.codes)
            and (self.aadsts is None or not self.aadsts.isdisjoint(clues.aadsts))
            and (self.enhanced is None or any(map(self.enhanced.fullmatch, clues.enhanced)))
            and (self.text is None or self.text.search(clues.said) is not None)
            and (self.mentions is None or _is_oauth(clues) or self.mentions.search(clues.said) is not None)
            and (self.unless is None or self.unless.search(clues.said) is None)
        )


def _is_oauth(clues: Clues) -> bool:
    return clues.stage in OAUTH or clues.auth == "oauth2"


def words(*alternatives: str) -> Expression:
    """One of these expressions, which are in lower case. A gap in one is bounded, so that matching stays linear."""
    return Expression("|".join(f"(?:{each})" for each in alternatives))


def says(
    source: str,
    cause: Cause,
    *alternatives: str,
    unless: Iterable[str] = (),
    without_code: bool = False,
    **where: Iterable[str],
) -> Rule:
    """A rule on the words, and on where they were met: `stages`, `providers`, `auths`."""
    return Rule(
        cause,
        source,
        text=words(*alternatives),
        unless=words(*unless) if unless else None,
        without_code=without_code,
        **{name: frozenset(values) for name, values in where.items()},  # type: ignore[arg-type]
    )


def numbered(source: str, causes: Mapping[Cause, Iterable[int]]) -> tuple[Rule, ...]:
    """Rules on Microsoft's error numbers."""
    return tuple(Rule(cause, source, aadsts=frozenset(numbers)) for cause, numbers in causes.items())
