"""What DNS says of a sender's domain, and what of that keeps mail from being delivered. Pure: it asks by a generator.

All of it is advice: receivers decide by themselves, and a relay on the way may sign and rewrite what it likes.
"""

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mailsettings.api.providers import PROVIDERS

MAX_SPF_LOOKUPS: Final = 10
"""Source: RFC 7208 §4.6.4; with more of them the record is an error."""

MAX_DMARC_STEPS: Final = 4
"""How many of the domains above are asked, too."""


class RecordType(StrEnum):
    """What is asked for."""

    TXT = "TXT"
    MX = "MX"
    A = "A"
    AAAA = "AAAA"


@dataclass(frozen=True, slots=True)
class Question:
    """What DNS is asked."""

    name: str
    type: RecordType


Answer = Sequence[str]
"""The records; of TXT their strings put together, of MX the hosts, `.` for none. Empty: there are none."""


class UnansweredError(Exception):
    """Is thrown into what asks: nobody has answered, so what the question was for stays unknown."""


Asking = Generator[Question, Answer, list[str]]
"""Asks, and ends with what is to be warned of."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends, through whom."""

    domain: str
    """Of `mailFrom`, in ASCII."""
    provider: str


def warnings(sender: Sender) -> Asking:
    """What is to be warned of, in sentences for people; at most one each for SPF, DMARC and MX."""
    found = []
    for part in (_spf(sender), _dmarc(sender.domain), _mail_host(sender.domain)):
        try:
            found.append((yield from part))
        except UnansweredError:
            continue
    return [each for each in found if each is not None]


Part = Generator[Question, Answer, str | None]


def _spf(sender: Sender) -> Part:
    domain, include = sender.domain, PROVIDERS[sender.provider].spf_include
    records = _spf_records((yield Question(domain, RecordType.TXT)))
    term = f"include:{include}" if include else "the addresses of the server"
    if not records:
        return (
            f"{domain} has no SPF record: add a TXT record such as `v=spf1 {term} ~all`"
            if include
            else (f"{domain} has no SPF record: add a TXT record that names {term}")
        )
    if len(records) > 1:
        return f"{domain} has {len(records)} SPF records, which counts as an error (RFC 7208 §4.5): make one of them"
    walk = _Walk(include)
    yield from walk.through(records[0], {domain.lower()})
    if walk.found:
        return None
    if walk.lookups > MAX_SPF_LOOKUPS:
        return f"the SPF record of {domain} takes more than {MAX_SPF_LOOKUPS} look-ups (RFC 7208 §4.6.4): shorten it"
    if include is None:
        return None
    note = PROVIDERS[sender.provider].spf_note
    return f"the SPF record of {domain} does not name {PROVIDERS[sender.provider].title}: add {term}{note}"


def _spf_records(answer: Answer) -> list[str]:
    """Source: RFC 7208 §4.5."""
    return [text for text in answer if re.match(r"(?i)v=spf1(?: |$)", text)]


_TERM: Final = re.compile(r"(?i)[-+~?]?(?P<name>include|a|mx|ptr|exists)(?:[:/].*)?|(?P<redirect>redirect)=.*")
"""The terms that cost a look-up."""


class _Walk:
    """Goes through an SPF record and those that it includes, until the include is found or the look-ups are used up."""

    def __init__(self, wanted: str | None) -> None:
        self._wanted = wanted
        self.found = False
        self.lookups = 0

    def through(self, record: str, above: set[str]) -> Generator[Question, Answer, None]:
        """Goes through one record.

        Args:
            record: The text.
            above: The domains whose records have led here; none of them is asked again.
        """
        for term in record.split()[1:]:
            if self.found or self.lookups > MAX_SPF_LOOKUPS:
                return
            match = _TERM.fullmatch(term)
            if match is None:
                continue
            self.lookups += 1
            if match["redirect"] or (match["name"] or "").lower() == "include":
                yield from self._into(re.split("[:=]", term, maxsplit=1)[-1].lower().removesuffix("."), above)

    def _into(self, domain: str, above: set[str]) -> Generator[Question, Answer, None]:
        if domain == self._wanted:
            self.found = True
        elif self.lookups <= MAX_SPF_LOOKUPS and domain not in above and "%" not in domain:
            records = _spf_records((yield Question(domain, RecordType.TXT)))
            if len(records) == 1:
                yield from self.through(records[0], above | {domain})


def _dmarc(domain: str) -> Part:
    """The domain's own record, or the next one above it. Source: RFC 7489 §6.6.3, and its successor's walk up."""
    labels = domain.split(".")
    for step in range(min(len(labels) - 1, MAX_DMARC_STEPS + 1)):
        answer = yield Question(f"_dmarc.{'.'.join(labels[step:])}", RecordType.TXT)
        if len([text for text in answer if re.match(r"(?i)v\s*=\s*DMARC1\s*(?:;|$)", text)]) == 1:
            return None
    return (
        f"{domain} has no DMARC record, which large receivers demand: add a TXT record _dmarc.{domain} such as "
        "`v=DMARC1; p=none`"
    )


def _mail_host(domain: str) -> Part:
    """Whether bounces and answers find their way. Source: RFC 5321 §5.1, RFC 7505 §4.1."""
    hosts = yield Question(domain, RecordType.MX)
    if [host.rstrip(".") for host in hosts] == [""]:
        return f"{domain} takes no mail by its MX record, and receivers may refuse a sender that cannot be answered"
    if hosts:
        return None
    for kind in (RecordType.A, RecordType.AAAA):
        if (yield Question(domain, kind)):
            return None
    return f"{domain} has neither MX nor address records, and many receivers refuse mail from such a domain: add an MX"
