"""Which namespaces may use a cluster object, and which sender they may choose."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mailsettings.api.scalars import lower_ascii
from mailsettings.api.tenants import LabelSelector, LabelSelectorRequirement, SelectorOperator, Tenants
from mailsettings.core.mailbox import may_route, parse_mailbox

_SYSTEM_PREFIX = "kube-"


@dataclass(frozen=True, slots=True)
class Namespace:
    """What matters of a namespace."""

    name: str
    labels: Mapping[str, str]
    terminating: bool = False
    uid: str = ""
    version: int = field(default=0, compare=False)
    """Its resource version."""


def allows(tenants: Tenants | None, namespace: Namespace, *, operator_namespace: str) -> bool:
    """Whether the namespace may use the settings: (selected or named) and not excluded."""
    if tenants is None or namespace.terminating:
        return False
    if namespace.name == operator_namespace or namespace.name.startswith(_SYSTEM_PREFIX):
        return False
    if namespace.name in (tenants.exclude or ()):
        return False
    if namespace.name in (tenants.namespaces or ()):
        return True
    selector = tenants.namespace_selector
    return selector is not None and _selects(selector, namespace.labels)


def _selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in (selector.match_labels or {}).items()) and all(
        _meets(requirement, labels) for requirement in selector.match_expressions or ()
    )


def _meets(requirement: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    """As Kubernetes has it: `NotIn` also holds where the label is absent."""
    value = labels.get(requirement.key)
    match requirement.operator:
        case SelectorOperator.IN:
            return value is not None and value in (requirement.values or ())
        case SelectorOperator.NOT_IN:
            return value is None or value not in (requirement.values or ())
        case SelectorOperator.EXISTS:
            return value is not None
        case SelectorOperator.DOES_NOT_EXIST:
            return value is None


def sender_permitted(mailbox: str, *, patterns: list[str] | None, system_from: str, namespace: str) -> bool:
    """Whether an inheriting tenant may use this address.

    Without patterns only the system's own address is permitted. Case does not count.
    """
    address = parse_mailbox(mailbox).addr_spec.lower()
    if patterns is None:
        return address == parse_mailbox(system_from).addr_spec.lower()
    return any(matches(pattern, address, namespace) for pattern in patterns)


def recipient_permitted(recipient: str, *, patterns: list[str] | None, sender: str, namespace: str) -> bool:
    """Whether a test of the system's settings may send its mail to this address.

    Without patterns only the sender's own address is permitted. Case does not count. No address that may be sent on to
    another domain is, whatever the patterns.
    """
    if may_route(parse_mailbox(recipient).username):
        return False
    return sender_permitted(recipient, patterns=patterns, system_from=sender, namespace=namespace)


def matches(pattern: str, address: str, namespace: str) -> bool:
    """Whether a `FromPattern` permits an address, given in lower case.

    `*` does not stand for `@`, so what is between the `@` of both is compared piece by piece.
    """
    patterns = pattern.lower().replace("{namespace}", namespace).split("@")
    texts = address.split("@")
    return len(patterns) == len(texts) and all(map(matches_text, patterns, texts))


def pattern_within(pattern: str, bound: str, namespace: str) -> bool:
    """Whether all that a `FromPattern` stands for is permitted by another.

    A `*` in the one can be held only by a `*` in the other, so it is compared as if it were a letter.
    """
    return matches(bound, lower_ascii(pattern.replace("{namespace}", namespace)), namespace)


def matches_text(pattern: str, text: str) -> bool:
    """Whether `*` in the pattern can stand for some text, everywhere.

    Each literal is taken where it first occurs: that leaves the most to those after it, so nothing is tried twice. A
    regular expression would try every division of the text among the stars.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return first == text
    *between, last = rest
    begin, end = len(first), len(text) - len(last)
    if begin > end or not text.startswith(first) or not text.endswith(last):
        return False
    for literal in between:
        found = text.find(literal, begin, end)
        if found < 0:
            return False
        begin = found + len(literal)
    return True
