"""Asks DNS about a sender's domain."""

import asyncio
from datetime import timedelta
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver

from mailsettings.core.sender_dns import Answer, Question, RecordType, Sender, UnansweredError, warnings

DEADLINE: Final = timedelta(seconds=5)
"""Of all questions together."""

MAX_RECORDS: Final = 32
"""Of one answer, so many are looked at."""


async def sender_warnings(
    sender: Sender, *, resolver: dns.asyncresolver.Resolver | None = None, within: timedelta = DEADLINE
) -> tuple[str, ...]:
    """What of the sender's domain may keep its mail from being delivered, as far as DNS answers.

    Args:
        sender: Who sends.
        resolver: Who is asked; None: whom the machine asks.
        within: How long all of it may take.
    """
    end_s = asyncio.get_running_loop().time() + within.total_seconds()
    try:
        return await _asked(sender, resolver or dns.asyncresolver.Resolver(), end_s)
    except (dns.exception.DNSException, OSError):  # the machine names nobody who could be asked
        return ()


async def _asked(sender: Sender, resolver: dns.asyncresolver.Resolver, end_s: float) -> tuple[str, ...]:
    asking = warnings(sender)
    question = next(asking)
    while True:
        answer = await _answer_until(end_s, resolver, question)
        try:
            question = asking.throw(UnansweredError) if answer is None else asking.send(answer)
        except StopIteration as end:
            return tuple(end.value)


async def _answer_until(end_s: float, resolver: dns.asyncresolver.Resolver, question: Question) -> Answer | None:
    """The records; None: nobody has answered by that moment of the loop's clock."""
    try:
        async with asyncio.timeout_at(end_s):
            return await _answer(resolver, question)
    except (TimeoutError, dns.exception.DNSException, OSError):
        return None


async def _answer(resolver: dns.asyncresolver.Resolver, question: Question) -> Answer:
    """The records; none where the name is not there, or is no name.

    Raises:
        dns.exception.DNSException: Nobody answers.
    """
    try:
        name = dns.name.from_text(question.name)
        found = await resolver.resolve(name, str(question.type), search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.name.LabelTooLong, dns.name.NameTooLong):
        return ()
    except (dns.name.EmptyLabel, dns.name.BadEscape):
        return ()
    return [_text(record, question.type) for record in [*found][:MAX_RECORDS]]


def _text(record: object, kind: RecordType) -> str:
    if kind is RecordType.TXT:
        return b"".join(getattr(record, "strings", ())).decode("utf-8", "replace")
    if kind is RecordType.MX:
        return str(getattr(record, "exchange", ""))
    return str(record)
