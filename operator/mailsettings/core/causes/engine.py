"""From any text of a failure to its cause."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mailsettings.core.causes import fallback, oauth_rules, smtp_rules, transport_rules
from mailsettings.core.causes.cause import Cause
from mailsettings.core.causes.clues import Failure, read
from mailsettings.core.causes.rule import Rule
from mailsettings.core.rules import first


class Basis(StrEnum):
    """What a diagnosis rests on."""

    RULE = "rule"
    """A rule for these words or numbers."""
    ENHANCED_CODE = "enhanced-code"
    """The words are unknown: what the enhanced status code means in general."""
    REPLY_CODE = "reply-code"
    """The words are unknown: what the reply code means in general."""
    STAGE = "stage"
    """Nothing in the text is known: what most often goes wrong at this step."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A cause, and how it was found. Holds nothing of the text."""

    cause: Cause
    basis: Basis
    source: str
    """Where the rule comes from."""


RULES: Final[tuple[Rule, ...]] = (
    *oauth_rules.OAUTH_RULES,
    *transport_rules.PROXY,
    *smtp_rules.EXCHANGE_LOGIN,
    *transport_rules.DNS,
    *transport_rules.WRONG_PORT,
    *transport_rules.CERTIFICATE,
    *transport_rules.TLS_MODE,
    *transport_rules.NO_SERVER,
    *oauth_rules.OAUTH_WORDS,
    *smtp_rules.EXCHANGE_CODES,
    *smtp_rules.DOMAIN,
    *smtp_rules.LIMITS,
    *smtp_rules.LOGIN,
    *smtp_rules.SENDER,
    *smtp_rules.RELAY,
    *smtp_rules.MAIL,
    *transport_rules.SOCKET,
    *smtp_rules.LATER,
    *smtp_rules.STEMS,
)
"""The first that holds decides."""

_FALLBACKS: Final = (
    (Basis.ENHANCED_CODE, fallback.BY_ENHANCED_CODE),
    (Basis.REPLY_CODE, fallback.BY_REPLY_CODE),
    (Basis.STAGE, fallback.BY_STAGE),
)


def diagnose(failure: Failure) -> Diagnosis:
    """The cause of a failure. Every text has one; the answer says what it rests on."""
    clues = read(failure)
    for basis, rules in ((Basis.RULE, RULES), *_FALLBACKS):
        rule = first(rules, clues)
        if rule is not None:
            return Diagnosis(rule.cause, basis, rule.source)
    raise AssertionError("the last rule of the last table holds always")
