"""What tables of rules have in common: the first rule that holds decides."""

import re
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from mailsettings.core.expressions import Expression

CaseT_contra = TypeVar("CaseT_contra", contravariant=True)


class Rule(Protocol[CaseT_contra]):
    """When something holds."""

    def holds(self, case: CaseT_contra, /) -> bool:
        """Whether every condition does."""


RuleT = TypeVar("RuleT", bound=Rule[Any])


def first(rules: Iterable[RuleT], case: object) -> RuleT | None:
    """The first rule that holds for a case; None: none does."""
    return next((rule for rule in rules if rule.holds(case)), None)


def decisive(rules: Iterable[RuleT], case: object) -> RuleT:
    """The same for a table of which the last rule holds always."""
    return next(rule for rule in rules if rule.holds(case))


def is_in(value: object, values: frozenset[object] | None) -> bool:
    """Whether a condition on a value holds. None always does."""
    return values is None or value in values


def pattern(text: str) -> Expression:
    """An expression for texts of others, whatever the case of their letters."""
    return Expression(text, re.IGNORECASE)
