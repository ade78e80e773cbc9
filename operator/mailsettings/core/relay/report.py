"""What a replica of the relay reports to the operator: counts, last refusals, and refused access tokens. Pure.

It is no more than the relay knows of messages' outcomes: neither senders nor recipients nor contents.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from mailsettings.api import names
from mailsettings.api.status import RelayMessages, RelayRefusal, RelayStatus
from mailsettings.core.clock import format_time, parse_time
from mailsettings.core.relay.audit import AuditRecord, Outcome, without_addresses

MAX_OCTETS: Final = 900_000
"""Of the tenants in a report, which are those whose mail came last. A ConfigMap holds 1 MiB."""

MAX_TEXT: Final = 200
MAX_WORD: Final = 40


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


def _is_time(text: str) -> str:
    parse_time(text)
    return text


_Time = Annotated[str, AfterValidator(_is_time)]
_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Word = Annotated[str, Field(max_length=MAX_WORD, pattern="^[A-Za-z]*$")]


class Refusal(_Model):
    """A message that was not accepted."""

    time: _Time
    outcome: Outcome
    code: Annotated[int, Field(ge=0, le=599)]
    enhanced: Annotated[str, Field(pattern=r"^$|^[245]\.[0-9]{1,3}\.[0-9]{1,3}$")] = ""
    text: Annotated[str, Field(max_length=MAX_TEXT, pattern="^[ -~]*$")] = ""
    rule: _Word = ""
    fault: _Word = ""


class Counts(_Model):
    """What became of a tenant's messages."""

    accepted: _Count = 0
    denied: _Count = 0
    refused: _Count = 0
    failed: _Count = 0
    unknown: _Count = 0
    last: Refusal | None = None

    def with_one(self, record: AuditRecord, now: datetime) -> "Counts":
        """With another message."""
        name = str(record.outcome)
        changes: dict[str, object] = {name: getattr(self, name) + 1}
        if record.outcome is not Outcome.ACCEPTED:
            changes["last"] = Refusal(
                time=format_time(now),
                outcome=record.outcome,
                code=record.code,
                enhanced=record.enhanced,
                text=_plain(without_addresses(record.text)),
                rule=record.rule,
                fault=record.fault,
            )
        return self.model_copy(update=changes)


def _plain(text: str) -> str:
    return "".join(letter if " " <= letter <= "~" else "?" for letter in " ".join(text.split()))[:MAX_TEXT]


class Report(_Model):
    """Of one replica."""

    version: Literal[1] = 1
    since: _Time
    """When it was started."""
    tenants: dict[str, Counts] = {}
    """By user name."""


_Digest = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class RefusedTokens(_Model):
    """Access tokens that mail servers have refused."""

    tokens: dict[str, _Digest] = {}
    """By credential: a digest of the token, `core.digest.checksum`."""


def document(report: Report | RefusedTokens | Counts) -> str:
    """It as JSON."""
    return report.model_dump_json(by_alias=True, exclude_defaults=True)


class ReportError(ValueError):
    """A document is no report."""


def parse_report(document: str) -> Report:
    """The report of a JSON document.

    Raises:
        ReportError: It is none.
    """
    try:
        return Report.model_validate_json(document)
    except ValidationError:
        raise ReportError("no report of the relay") from None


def parse_refused_tokens(document: str) -> Mapping[str, str]:
    """By credential: the digest of the access token that was refused.

    Raises:
        ReportError: The document does not say so.
    """
    try:
        return RefusedTokens.model_validate_json(document).tokens
    except ValidationError:
        raise ReportError("no refused tokens") from None


class Counting:
    """Counts a replica's messages."""

    def __init__(self, since: datetime) -> None:
        """There were none.

        Args:
            since: When the replica was started.
        """
        self._since = since
        self._tenants: OrderedDict[str, Counts] = OrderedDict()
        self._octets: dict[str, int] = {}
        self._sum_octets = 0

    def note(self, record: AuditRecord, now: datetime) -> bool:
        """Counts a message; False: one that its client has given up is none."""
        if record.outcome is Outcome.ABANDONED:
            return False
        username = names.relay_username(record.namespace, record.settings)
        counts = self._tenants.pop(username, Counts()).with_one(record, now)
        self._tenants[username] = counts
        self._measure(username, len(f'"{username}":{document(counts)},'))
        while self._sum_octets > MAX_OCTETS:
            self._measure(self._tenants.popitem(last=False)[0], 0)
        return True

    def _measure(self, username: str, octets: int) -> None:
        self._sum_octets += octets - self._octets.pop(username, 0)
        if octets:
            self._octets[username] = octets

    @property
    def report(self) -> Report:
        """What is counted by now."""
        return Report(since=format_time(self._since), tenants=dict(self._tenants))


def total(reports: Iterable[Report], usernames: Iterable[str], before: RelayStatus) -> RelayStatus:
    """What the replicas have counted of some logins; what was known before where no replica has counted any.

    Who they are is left as it was.

    Args:
        reports: Of the replicas that there are.
        usernames: The logins.
        before: What was known before; of it the last refusal stays until there is another one.
    """
    wanted = [*usernames]
    found = [(report, report.tenants[name]) for report in reports for name in wanted if name in report.tenants]
    if not found:
        return before
    counts = [each for _, each in found]
    last = max((each.last for each in counts if each.last is not None), key=lambda each: each.time, default=None)
    known = before.last_refusal
    if last is not None and (known is None or last.time >= known.time):
        known = _refusal(last)
    messages = RelayMessages(
        since=min(report.since for report, _ in found),
        accepted=sum(each.accepted for each in counts),
        denied=sum(each.denied for each in counts),
        refused=sum(each.refused for each in counts),
        failed=sum(each.failed for each in counts),
        unknown=sum(each.unknown for each in counts),
    )
    return before.model_copy(update={"messages": messages, "last_refusal": known})


def _refusal(last: Refusal) -> RelayRefusal:
    return RelayRefusal(
        time=last.time,
        outcome=str(last.outcome),
        code=last.code,
        enhanced_code=last.enhanced or None,
        message=last.text,
        rule=last.rule or None,
        fault=last.fault or None,
    )
