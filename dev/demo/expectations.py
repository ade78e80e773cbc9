"""What each example is to come to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dev.demo.state import Place, Row, State


@dataclass(frozen=True, slots=True)
class Expectation:
    """The state that one example reaches."""

    namespace: str
    name: str
    ready: str
    """As in `Row`."""
    reason: str
    source: str
    secret: str
    """The delivered Secret; empty: there must be none in the namespace."""


EXPECTATIONS: Final = (
    Expectation("", "default", "True", "Ready", "System", ""),
    Expectation("shop", "mail", "True", "Ready", "System", "mail-smtp"),
    Expectation("news", "mail", "True", "Ready", "System", "mail-smtp"),
    Expectation("acme", "mail", "True", "Ready", "Tenant", "acme-mail"),
    Expectation("blog", "", "", "", "System", "default-smtp"),
    Expectation("lab", "mail", "False", "BadCredentials", "Tenant", "mail-smtp"),
    Expectation("reports", "mail", "False", "SecretNotFound", "Tenant", ""),
)

CONSENTED: Final = Expectation("billing", "mail", "True", "Ready", "Tenant", "mail-smtp")
"""What needs a person's consent on top."""

RELAYED: Final[Place] = ("news", "mail-smtp")
"""The Secret of the tenant that inherits and sends through the relay."""

INHERITING: Final[Place] = ("shop", "mail-smtp")
"""The Secret of the tenant that inherits, with which a mail is sent."""


def unmet(state: State) -> list[str]:
    """What is not yet as expected, as sentences; none: every example that needs nobody has reached its state."""
    return [fault for expected in EXPECTATIONS for fault in faults(expected, state)]


def faults(expected: Expectation, state: State) -> Iterator[str]:
    """What is not yet as expected of one example."""
    row = state.row(expected.namespace, expected.name)
    title = "/".join(filter(None, (expected.namespace, expected.name)))
    if row is None:
        yield f"{title}: is not there"
        return
    if (row.ready, row.reason) != (expected.ready, expected.reason):
        yield f"{title}: Ready is {_condition(row)}, not {_condition(expected)}"
    if row.source != expected.source:
        yield f"{title}: the source is {row.source or 'not known'}, not {expected.source}"
    if expected.namespace:
        present = {name for namespace, name in state.secrets if namespace == expected.namespace}
        wanted = {expected.secret} - {""}
        if present != wanted:
            yield f"{title}: the delivered Secrets are {_listed(present)}, not {_listed(wanted)}"


def _condition(state: Row | Expectation) -> str:
    return f"{state.ready} ({state.reason})" if state.ready else "not known yet"


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
