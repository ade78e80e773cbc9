"""A sender or recipient taken apart."""

import re
from email.headerregistry import Address
from typing import Final

from mailsettings.api.patterns import ADDRESS_PATTERN


def parse_mailbox(mailbox: str) -> Address:
    """A `Mailbox` of the spec taken apart.

    Args:
        mailbox: `no-reply@acme.example`, `Acme <no-reply@acme.example>` or `"Acme, Inc." <no-reply@acme.example>`.

    Raises:
        ValueError: There is no address in it, or it holds a line break.
    """
    if not mailbox.endswith(">"):
        return _address(mailbox)
    name, _, address = mailbox[:-1].rpartition("<")
    name = name.strip()
    quoted = len(name) > 1 and name.startswith('"') and name.endswith('"')
    return _address(address, name[1:-1] if quoted else name)


_ROUTING: Final = frozenset("%!@")
"""What mail servers may take for a route in a local part: `user%other.example`, `other.example!user`, and
`"user@other.example"` go on to other.example there. Source: RFC 5321 §3.6.1 and appendix F.2; Postfix,
allow_percent_hack and swap_bangpath, which are on by default."""


def may_route(local_part: str) -> bool:
    """Whether a mail server may send a recipient on to another domain than the one behind its last `@`.

    Args:
        local_part: As it is written: quotes and backslashes hide none of these characters.
    """
    return not _ROUTING.isdisjoint(local_part)


def _address(address: str, name: str = "") -> Address:
    # The standard library's own parser of addresses raises more than ValueErrors.
    if re.fullmatch(ADDRESS_PATTERN, address, re.ASCII) is None:
        raise ValueError(f"{address!r} is not a mail address")
    username, _, domain = address.rpartition("@")
    return Address(name, username, domain)
