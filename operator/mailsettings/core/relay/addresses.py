"""Addresses as the envelope has them, strictly. Sources: RFC 5321 §4.1.2, RFC 6531 §3.3."""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from mailsettings.core.expressions import Expression

MAX_LOCAL_OCTETS: Final = 64
"""Source: RFC 5321 §4.5.3.1.1."""

MAX_DOMAIN_OCTETS: Final = 255
"""Source: RFC 5321 §4.5.3.1.2."""

# What is not ASCII counts as a letter (RFC 6531 §3.3), except the controls of C1 and what separates lines.
_WIDE: Final = "\u00a1-\u2027\u202f-\ud7ff\ue000-\U0010ffff"
_ATOM: Final = f"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{_WIDE}-]+"
_DOT_ATOM: Final = rf"{_ATOM}(?:\.{_ATOM})*"
_QUOTED: Final = rf'"(?:[\x20\x21\x23-\x5b\x5d-\x7e{_WIDE}]|\\[\x20-\x7e])*"'
_ALNUM: Final = f"[A-Za-z0-9{_WIDE}]"
_LABEL: Final = f"{_ALNUM}(?:[A-Za-z0-9{_WIDE}-]*{_ALNUM})?"
_DOMAIN: Final = rf"{_LABEL}(?:\.{_LABEL})*"
_MAILBOX: Final = Expression(rf"(?P<local>{_DOT_ATOM}|{_QUOTED})@(?:(?P<domain>{_DOMAIN})|\[(?P<literal>[^\]]+)\])")


@dataclass(frozen=True, slots=True)
class EnvelopeAddress:
    """The mailbox of a MAIL or RCPT command; both parts empty: the null sender, `<>`."""

    local: str
    domain: str
    """A domain, or an address literal in its brackets."""

    @property
    def text(self) -> str:
        """`user@example.com`; empty for the null sender."""
        return f"{self.local}@{self.domain}" if self.domain else ""

    @property
    def is_ascii(self) -> bool:
        """Whether it needs no SMTPUTF8."""
        return self.text.isascii()


NULL_SENDER: Final = EnvelopeAddress("", "")
"""Of notifications that nobody shall answer. Source: RFC 5321 §4.5.5."""


@lru_cache(maxsize=1024)
def parse_address(text: str) -> EnvelopeAddress:
    """A mailbox without its angle brackets.

    Raises:
        ValueError: It is none, or too long. Source routes and names without a domain count as none.
    """
    found = _MAILBOX.fullmatch(text)
    if found is None:
        raise ValueError("this is no mailbox")
    literal = found["literal"]
    if literal is not None:
        _check_literal(literal)
    domain = found["domain"] or f"[{literal}]"
    if len(found["local"].encode()) > MAX_LOCAL_OCTETS or len(domain.encode()) > MAX_DOMAIN_OCTETS:
        raise ValueError("this mailbox is too long")
    if any(len(label) > 63 for label in domain.split(".")):
        raise ValueError("a label of this domain is too long")
    return EnvelopeAddress(found["local"], domain)


def _check_literal(literal: str) -> None:
    """Source: RFC 5321 §4.1.3.

    Raises:
        ValueError: It is no address.
    """
    if literal[:5].upper() == "IPV6:":
        IPv6Address(literal[5:])
        if "%" in literal:  # a zone, which Python takes
            raise ValueError("an address with a zone")
    else:
        IPv4Address(literal)
