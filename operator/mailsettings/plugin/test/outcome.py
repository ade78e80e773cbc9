"""What a MailServerTest says, for a person and for a program. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mailsettings.plugin.advice import Known, advice_lines, dissected, filled, parted

Json = Mapping[str, Any]

_FIELDS: Final = ("mode", "duration", "stages", "server", "failure", "messageID", "warnings", "dialogue")


@dataclass(frozen=True, slots=True)
class State:
    """How far a test has come."""

    ended: bool
    succeeded: bool
    reason: str
    message: str


def state_of(test: Json) -> State:
    """What the conditions say; a test that nobody has looked at is waiting."""
    found = {each["type"]: each for each in (test.get("status") or {}).get("conditions") or ()}
    said = found.get("Succeeded", {})
    return State(
        ended=found.get("Complete", {}).get("status") == "True",
        succeeded=said.get("status") == "True",
        reason=said.get("reason", "TestWaiting"),
        message=said.get("message", "The operator has not seen the test yet."),
    )


def is_seen(test: Json) -> bool:
    """Whether the operator has looked at it."""
    observed = (test.get("status") or {}).get("observedGeneration", -1)
    return bool(observed >= 0)


def document_of(test: Json) -> dict[str, Any]:
    """For a program."""
    state, status = state_of(test), test.get("status") or {}
    return {
        "name": test["metadata"]["name"],
        "namespace": test["metadata"]["namespace"],
        "succeeded": state.succeeded,
        "reason": state.reason,
        "message": state.message,
        **{field: status[field] for field in _FIELDS if field in status},
    }


def said_of(test: Json, known: Known) -> list[str]:
    """How it ended, what to do and where more is told. A line that begins with a blank is for copying.

    Args:
        test: As the API server has it.
        known: For the commands of what to do.
    """
    state, failure = state_of(test), (test.get("status") or {}).get("failure")
    if state.succeeded:
        return [f"{state.reason}: {state.message}"]
    if failure is not None and failure.get("cause") == state.reason:
        words, docs = failure["message"], failure.get("docs") or ""
        remedy, commands = parted(failure.get("remedy") or "")
    else:
        words, commands, docs = dissected(state.message)
        remedy = ""
    commands = tuple(filled(command, known) for command in commands)
    return [f"{state.reason}: {words}", *advice_lines(remedy, commands, docs, state.reason)]


def title_of(test: Json) -> str:
    """What is tested, in one line."""
    effective, mode = (test.get("status") or {}).get("effective"), (test.get("status") or {}).get("mode")
    if effective is None:
        return ""
    return f"{effective['host']}:{effective['port']}, TLS {effective['tls']}, up to {mode}"


def stage_lines(test: Json) -> Iterator[str]:
    """The stages with their times."""
    status = test.get("status") or {}
    failing = (status.get("failure") or {}).get("stage")
    for stage in status.get("stages") or ():
        yield stage_line(stage["name"], stage["duration"], failed=stage["name"] == failing)


def stage_line(name: str, duration: str, *, failed: bool) -> str:
    """A stage with its time."""
    return f"  {name:<9}{duration:>9}{'  failed here' if failed else ''}"


def summary_lines(test: Json) -> Iterator[str]:
    """How long all took, and what the server has shown of itself."""
    status = test.get("status") or {}
    if status.get("duration"):
        yield f"  {'in all':<9}{status['duration']:>9}"
    yield from _server(status.get("server") or {})
    if status.get("messageID") is not None:
        yield f"  Message-ID {status['messageID']}"


def _server(server: Json) -> Iterator[str]:
    if server.get("tlsVersion"):
        yield f"  {server['tlsVersion']} {server.get('cipher', '')}".rstrip()
    for each in server.get("chain") or ():
        yield f"  certificate of {each['subject']}"
        yield f"    by {each['issuer']}"
        yield f"    until {each['expiresAt']}"
    if server.get("mechanisms"):
        yield f"  login by {', '.join(server['mechanisms'])}"
    if server.get("size"):
        yield f"  mails up to {server['size']} bytes"
