"""What a tenant may send: senders, recipients, sizes, and how refusals say which rule it was. Pure."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from mailsettings.api.scalars import lower_ascii
from mailsettings.api.sending import ForeignSender
from mailsettings.core.mailbox import may_route, parse_mailbox
from mailsettings.core.relay.addresses import EnvelopeAddress, parse_address
from mailsettings.core.relay.commands import Mail, Rcpt
from mailsettings.core.relay.header import Authors, HeaderCollector, HeaderError, authors, with_author
from mailsettings.core.relay.rates import RateLimit
from mailsettings.core.relay.replies import Reply
from mailsettings.core.tenancy import matches, matches_text


class Rule(StrEnum):
    """What refuses a message; named as the field that sets it."""

    SENDING = "sending"
    ALLOWED_FROM = "allowedFrom"
    RECIPIENT_DOMAINS = "recipientDomains"
    MAX_MESSAGE_SIZE = "maxMessageSize"
    RATE_LIMITS = "rateLimits"
    HEADER = "header"
    """No field: a message whose author cannot be told for certain is not sent."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What one tenant may send. The administrator's bounds and the tenant's own wishes are one by now."""

    namespace: str
    mail_from: str
    """The settings' own sender, an address with or without a name. Alone permitted where there are no patterns."""
    allowed_from: tuple[str, ...] | None = None
    """Patterns, see `FromPattern`; None: there are none."""
    foreign_sender: ForeignSender = ForeignSender.REFUSE
    recipient_domains: tuple[str, ...] | None = None
    """Domains, in which `*` stands for any text; None: all."""
    max_message_octets: int | None = None
    rate_limits: tuple[RateLimit, ...] = ()
    blocked: bool = False

    @property
    def own_address(self) -> str:
        """The address of `mail_from`."""
        return parse_mailbox(self.mail_from).addr_spec

    def permits_sender(self, address: str) -> bool:
        """Whether messages may be from this address; case does not count, the null sender never is."""
        folded = lower_ascii(address)
        if self.allowed_from is None:
            return folded == lower_ascii(self.own_address)
        return bool(folded) and any(matches(pattern, folded, self.namespace) for pattern in self.allowed_from)

    def permits_recipient(self, address: EnvelopeAddress) -> bool:
        """Whether messages may go to this address; where domains are named, the address may hold no route."""
        if self.recipient_domains is None:
            return True
        if may_route(address.local):
            return False
        domain = lower_ascii(address.domain)
        return any(matches_text(lower_ascii(pattern), domain) for pattern in self.recipient_domains)


class RefusedError(Exception):
    """The policy refuses a message."""

    def __init__(self, rule: Rule, reply: Reply) -> None:
        super().__init__(reply.text)
        self.rule = rule
        self.reply = reply


def _refusal(rule: Rule, code: int, enhanced: str, text: str) -> RefusedError:
    return RefusedError(rule, Reply(code, f"{rule}: {text}", enhanced))


def check_mail(policy: Policy, mail: Mail) -> Mail:
    """The MAIL command to say to the mail server.

    Raises:
        RefusedError: The policy does not permit it.
    """
    if policy.blocked:
        raise _refusal(Rule.SENDING, 550, "5.7.1", "sending is blocked for these settings")
    if mail.size is not None:
        _check_size(policy, mail.size)
    if policy.permits_sender(mail.sender.text):
        return mail
    if policy.foreign_sender is ForeignSender.REWRITE:
        return replace(mail, sender=parse_address(policy.own_address))
    raise _refusal(Rule.ALLOWED_FROM, 550, "5.7.1", "these settings may not send with this envelope sender")


def check_rcpt(policy: Policy, rcpt: Rcpt) -> None:
    """Judges a recipient.

    Raises:
        RefusedError: The policy does not permit it.
    """
    if not policy.permits_recipient(rcpt.recipient):
        raise _refusal(Rule.RECIPIENT_DOMAINS, 550, "5.7.1", "these settings may not send to this domain")


def rate_refusal(limit: RateLimit) -> RefusedError:
    """Too many messages have been sent; they may be tried again later."""
    return _refusal(
        Rule.RATE_LIMITS, 450, "4.7.28", f"more than {limit.capacity} messages in {limit.period_s} s; try again later"
    )


def _check_size(policy: Policy, octets: int) -> None:
    most = policy.max_message_octets
    if most is not None and octets > most:
        raise _refusal(Rule.MAX_MESSAGE_SIZE, 552, "5.3.4", f"messages may have {most} octets")


_NO_AUTHOR: Final = (554, "5.6.0")


class MessageGate:
    """Lets a message's pieces through once its header has been judged, within its size."""

    def __init__(self, policy: Policy, max_octets: int) -> None:
        """A gate for one message.

        Args:
            policy: The tenant's.
            max_octets: Of any message, whoever sends it.
        """
        self._policy = policy
        self._max_octets = max_octets
        self._header: HeaderCollector | None = HeaderCollector()
        self.octets = 0
        """Of the message that have come."""

    def feed(self, piece: bytes) -> bytes:
        """What of the message may go on.

        Raises:
            RefusedError: The policy does not permit the message.
        """
        self.octets += len(piece)
        _check_size(self._policy, self.octets)
        if self.octets > self._max_octets:
            raise _refusal(Rule.MAX_MESSAGE_SIZE, 552, "5.3.4", f"messages may have {self._max_octets} octets here")
        if self._header is None:
            return piece
        try:
            self._header.feed(piece)
            return b"" if self._header.size is None else self._judged(self._header)
        except HeaderError as error:
            raise _refusal(Rule.HEADER, *_NO_AUTHOR, str(error)) from None

    def end(self) -> bytes:
        """What is left when the message has ended.

        Raises:
            RefusedError: The policy does not permit the message.
        """
        if self._header is None:
            return b""
        try:
            self._header.close()
            return self._judged(self._header)
        except HeaderError as error:
            raise _refusal(Rule.HEADER, *_NO_AUTHOR, str(error)) from None

    def _judged(self, collector: HeaderCollector) -> bytes:
        self._header = None
        data = bytes(collector.data)
        size = len(data) if collector.size is None else collector.size
        header, body = data[:size], data[size:]
        found = authors(header)
        if all(self._policy.permits_sender(address) for address in found.addresses):
            return data
        return self._rewritten(header, found) + body

    def _rewritten(self, header: bytes, found: Authors) -> bytes:
        if self._policy.foreign_sender is not ForeignSender.REWRITE:
            raise _refusal(
                Rule.ALLOWED_FROM, 550, "5.7.1", "these settings may not send with this From, Sender or Resent field"
            )
        return with_author(header, found, self._policy.mail_from)
