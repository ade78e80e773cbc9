"""From objects, as the API server has them, to the links between the system's settings and the application. Pure."""

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from pydantic import ValidationError

from mailsettings.api import names
from mailsettings.api.conditions import ConditionType, waiting_in
from mailsettings.api.spec import MailServerSettingsSpec
from mailsettings.api.status import (
    ClusterMailServerSettingsStatus,
    Condition,
    FailureStatus,
    MailServerSettingsStatus,
)
from mailsettings.core.clock import parse_time
from mailsettings.plugin.advice import Known, dissected, filled, known_of, parted

Json = Mapping[str, Any]


class State(StrEnum):
    """How a link is."""

    GOOD = "Good"
    FAILED = "Failed"
    WAITING = "Waiting"
    """It is being worked on."""
    UNKNOWN = "Unknown"
    """Whoever asks may not read it."""


@dataclass(frozen=True, slots=True)
class Link:
    """One step on the way."""

    name: str
    """In one word: `settings`, `credentials`, `token`, `probe`, `Secret`, `relay`, `tenants` or `operator`."""
    state: State
    reason: str = ""
    """The condition's, or empty."""
    message: str = ""
    """What happened, and what to do unless `remedy` says that; for a link that is good, what to know, or empty."""
    detail: str = ""
    """In a few words: which one, since when."""
    remedy: str = ""
    """What to do, where `message` does not say it already."""
    commands: tuple[str, ...] = ()
    """What to type for that, with what is known of the settings filled in."""
    docs: str = ""
    """Where the documentation tells of the reason."""
    dialogue: tuple[str, ...] = ()
    """Of a probe: what was said between the operator and the server, line by line."""


@dataclass(frozen=True, slots=True)
class Node:
    """One settings object."""

    kind: str
    namespace: str
    """Empty for a cluster object."""
    name: str
    state: State
    reason: str
    """Of `Ready`."""
    server: str
    """What is in force, in a few words; empty where nothing is."""
    links: tuple[Link, ...]

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.kind} {'/'.join(filter(None, (self.namespace, self.name)))}"


@dataclass(frozen=True, slots=True)
class Chain:
    """The way to one application, or to the system's settings alone."""

    system: Node | None
    tenant: Node | None

    @property
    def last(self) -> Node:
        """What it is the way to.

        Raises:
            ValueError: It has neither end.
        """
        node = self.tenant or self.system
        if node is None:
            raise ValueError("a chain has a node")
        return node

    @property
    def state(self) -> State:
        """Whether mail works there."""
        return self.last.state

    def with_links(self, changed: Callable[[Link], Link]) -> "Chain":
        """The same way with other links, each made of the one in its place."""
        nodes = (
            replace(node, links=tuple(map(changed, node.links))) if node is not None else None
            for node in (self.system, self.tenant)
        )
        return Chain(*nodes)

    @property
    def failing(self) -> tuple[Node, Link] | None:
        """Where it fails, or what it waits for; None: it does not."""
        if self.state is State.GOOD:
            return None
        links = [(node, link) for node in (self.system, self.tenant) if node is not None for link in node.links]
        for state in (State.FAILED, State.WAITING):
            for node, link in links:
                if link.state is state:
                    return node, link
        return None


def with_dialogue_of(chain: Chain, states: Container[State]) -> Chain:
    """The chain with the dialogues of those links only that are in one of these states."""
    return chain.with_links(lambda link: link if link.state in states else replace(link, dialogue=()))


UNREADABLE: Final = "you may not read it"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a Secret."""

    is_readable: bool = True
    metadata: Json | None = None
    """None: there is none."""


def system_chain(document: Json, now: datetime) -> Chain:
    """The chain of a cluster object."""
    return Chain(_system(document, now), None)


def tenant_chain(document: Json, system: Json | None, secret: Seen, now: datetime, *, may_read_system: bool) -> Chain:
    """The chain of a tenant's settings.

    Args:
        document: The tenant's settings.
        system: Those that they inherit from; None: there are none, or they cannot be read.
        secret: The application's, as `secret_name` names it.
        now: The present time.
        may_read_system: Whether the system's settings may be read.
    """
    inherited = inherits_from(document)
    tenant = _tenant(document, secret, now)
    if inherited is None:
        return Chain(None, tenant)
    if system is not None:
        # What is inherited is said of the system's settings already.
        links = tuple(link for link in tenant.links if link.name not in _SHARED)
        return Chain(_system(system, now), replace(tenant, links=links))
    if may_read_system:
        missing = Link("settings", State.FAILED, "SystemSettingsNotFound", "There is none of this name; create it.")
        return Chain(_nobody(inherited, State.FAILED, missing), tenant)
    return Chain(_nobody(inherited, State.UNKNOWN, Link("settings", State.UNKNOWN, detail=UNREADABLE)), tenant)


def provisioned_chain(namespace: str, secret: Json, system: Json | None, now: datetime) -> Chain:
    """The chain of a namespace that lives on `provision: Always`, without settings of its own."""
    link = Link("Secret", State.GOOD, detail=str(secret["name"]))
    unreadable = _nobody(names.DEFAULT_SETTINGS, State.UNKNOWN, Link("settings", State.UNKNOWN, detail=UNREADABLE))
    node = _system(system, now) if system is not None else unreadable
    return Chain(node, Node("Namespace", "", namespace, node.state, node.reason, "", (link,)))


def inherits_from(document: Json) -> str | None:
    """The cluster object that a tenant's settings inherit from."""
    return MailServerSettingsSpec.inherits_from(document.get("spec") or {})


def secret_name(document: Json) -> str:
    """The name of the application's Secret."""
    bound = ((document.get("status") or {}).get("binding") or {}).get("name")
    given = ((document.get("spec") or {}).get("output") or {}).get("secretName")
    return str(bound or given or names.default_secret_name(document["metadata"]["name"]))


_SHARED: Final = ("credentials", "token", "probe")
_NAMES: Final = {
    ConditionType.ACCEPTED: "settings",
    ConditionType.CREDENTIALS_RESOLVED: "credentials",
    ConditionType.AUTHORIZED: "token",
    ConditionType.PROBE_SUCCEEDED: "probe",
    ConditionType.DELIVERED: "Secret",
}
_STATES: Final = {"True": State.GOOD, "False": State.FAILED}

_Status = MailServerSettingsStatus | ClusterMailServerSettingsStatus


def _nobody(name: str, state: State, link: Link) -> Node:
    return Node(names.CLUSTER_KIND, "", name, state, link.reason, "", (link,))


def _system(document: Json, now: datetime) -> Node:
    status = _status(ClusterMailServerSettingsStatus, document)
    links = [*_links(document, status, now), *_relay(status, now)]
    if isinstance(status, ClusterMailServerSettingsStatus) and status.tenants is not None:
        links.append(_tenants(status))
    return _node(document, status, links)


def _tenants(status: ClusterMailServerSettingsStatus) -> Link:
    tenants = status.tenants
    if tenants is None:
        return Link("tenants", State.WAITING)
    failures = "; ".join(f"{failure.namespace}: {failure.reason}" for failure in tenants.failures or ())
    message = f"These namespaces cannot be served: {failures}." if failures else ""
    return Link("tenants", State.GOOD, "", message, f"{tenants.allowed} allowed, {tenants.inheriting} inheriting")


def _tenant(document: Json, secret: Seen, now: datetime) -> Node:
    status = _status(MailServerSettingsStatus, document)
    links = [_with_secret(link, document, secret) for link in _links(document, status, now)]
    return _node(document, status, [*links, *_relay(status, now)])


def _relay(status: _Status, now: datetime) -> Iterator[Link]:
    """What became of the messages. One that was not accepted is news, but no failure of the settings."""
    relay = status.relay
    if relay is None or (relay.username is None and relay.messages is None):
        return
    counts = relay.messages.model_dump(exclude={"since"}) if relay.messages else {"accepted": 0}
    told = [f"{count} {outcome}" for outcome, count in counts.items() if count or outcome == "accepted"]
    last, message = relay.last_refusal, ""
    if last is not None:
        reply = " ".join(filter(None, (str(last.code), last.enhanced_code, last.message)))
        message = f"The last message that was not accepted, {_when(last.time, now)}: {last.outcome} with {reply}"
    yield Link("relay", State.GOOD, "", message, ", ".join(filter(None, (relay.username, *told))))


def _with_secret(link: Link, document: Json, secret: Seen) -> Link:
    if link.name != "Secret":
        return link
    name = secret_name(document)
    if not secret.is_readable:
        return replace(link, detail=f"{name}, {UNREADABLE}")
    if secret.metadata is None and link.state is State.GOOD:
        message = "It was delivered, but is gone; the operator makes it anew, if it runs."
        return replace(link, state=State.WAITING, reason="Gone", message=message, detail=name)
    return replace(link, detail=name)


def _node(document: Json, status: _Status, links: list[Link]) -> Node:
    metadata = document["metadata"]
    ready = _condition(status, ConditionType.READY)
    is_current = status.observed_generation == metadata["generation"]
    state = _STATES.get(ready.status, State.WAITING) if ready is not None and is_current else State.WAITING
    if state is State.GOOD and any(link.state is State.WAITING for link in links):
        state = State.WAITING
    return Node(
        kind=document["kind"],
        namespace=metadata.get("namespace") or "",
        name=metadata["name"],
        state=state,
        reason=ready.reason if ready is not None and is_current else "",
        server=_server(status),
        links=tuple(links),
    )


def _status(model: type[_Status], document: Json) -> _Status:
    """What cannot be read, since another version of the operator wrote it, is as if it were not there."""
    try:
        return model.model_validate(document.get("status") or {})
    except ValidationError:
        return model()


def _condition(status: _Status, wanted: ConditionType) -> Condition | None:
    return next((each for each in status.conditions or () if each.type == wanted), None)


def _server(status: _Status) -> str:
    it = status.effective
    if it is None:
        return ""
    login = "no login" if it.auth == "None" else it.auth
    return f"{it.provider}, {it.host}:{it.port}, TLS {it.tls}, {login}, from {it.mail_from}"


def _links(document: Json, status: _Status, now: datetime) -> Iterator[Link]:
    generation = document["metadata"]["generation"]
    if document["metadata"].get("deletionTimestamp"):
        yield Link("operator", State.WAITING, "Deleting", "The settings are being deleted.")
    if status.observed_generation != generation:
        what = "The operator has not acted on the settings as they are now"
        yield Link("operator", State.WAITING, "NotObserved", f"{what}. If it stays so, the operator does not run.")
    details = {"token": _token(status, now), "probe": _probe(status, now)}
    failures = {
        "token": status.oauth2.failure if status.oauth2 else None,
        "probe": status.probe.failure if status.probe else None,
    }
    for kind, name in _NAMES.items():
        condition = _condition(status, kind)
        if condition is not None:
            state = _STATES.get(condition.status, State.WAITING)
            message = _told(condition, status) if state is State.GOOD else condition.message
            dialogue = status.probe.dialogue if name == "probe" and status.probe else None
            link = Link(name, state, condition.reason, message, details.get(name, ""), dialogue=tuple(dialogue or ()))
            yield _with_commands(_with_failure(link, failures.get(name)), known_of(document))


def _with_failure(link: Link, failure: FailureStatus | None) -> Link:
    """What failed (after what the next test waits for), what to do and where more is told, each for itself."""
    if failure is None or link.state is not State.FAILED or failure.cause != link.reason:
        return link
    message = _joined(waiting_in(link.message), failure.message)
    return replace(link, message=message, remedy=failure.remedy or "", docs=failure.docs or "")


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def _with_commands(link: Link, known: Known) -> Link:
    """What to type, and where more is told, apart from what is said."""
    if link.remedy:
        remedy, commands = parted(link.remedy)
        return replace(link, remedy=remedy, commands=tuple(filled(command, known) for command in commands))
    message, commands, docs = dissected(link.message)
    found = tuple(filled(command, known) for command in commands)
    return replace(link, message=message, commands=found, docs=link.docs or docs)


def _told(condition: Condition, status: _Status) -> str:
    """Of what is good only what the next test waits for, and the warnings."""
    if condition.type == ConditionType.AUTHORIZED and status.oauth2 is not None:
        if status.oauth2.failure is not None:
            return condition.message
        return " ".join(warning.message for warning in status.oauth2.warnings or ())
    _, marker, warnings = condition.message.partition("Warning: ")
    return _joined(waiting_in(condition.message), f"{marker}{warnings}")


def _token(status: _Status, now: datetime) -> str:
    oauth2 = status.oauth2
    if oauth2 is None:
        return ""
    parts = [str(oauth2.token_state), oauth2.account]
    if oauth2.access_token_expires_at:
        parts.append(f"runs out {_when(oauth2.access_token_expires_at, now)}")
    return ", ".join(parts)


def _probe(status: _Status, now: datetime) -> str:
    probe = status.probe
    if probe is None:
        return ""
    parts = [str(probe.mode), f"{_when(probe.last_probe_time, now)}, {probe.duration}"]
    if probe.consecutive_failures > 1:
        parts.append(f"{probe.consecutive_failures} failures in a row")
    return ", ".join(parts)


def _when(moment: str, now: datetime) -> str:
    """Such as `3m ago` or `in 2h`."""
    try:
        away = parse_time(moment) - now
    except ValueError:
        return "at an unknown time"
    length = _length(abs(away))
    return f"in {length}" if away > timedelta() else f"{length} ago"


_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def _length(away: timedelta) -> str:
    seconds = int(away.total_seconds())
    for size, unit in _UNITS:
        if seconds >= 2 * size or size == 1:
            return f"{seconds // size}{unit}"
    return "0s"
