"""The message that a probe of mode Send delivers."""

from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from mailsettings.core.mailbox import parse_mailbox
from mailsettings.core.probe import TestMail

# Seven bits, so that it passes servers without 8BITMIME (RFC 6152) as it is.
_POLICY: Final = SMTP.clone(cte_type="7bit")

_TEXT: Final = """\
This is a test mail. It shows that these settings can send mail:

    {settings}

It was sent automatically; there is no need to answer it.
"""


def compose(mail: TestMail, *, now: datetime, token: str) -> EmailMessage:
    """The test mail.

    Args:
        mail: Sender, recipient and what is tested.
        now: The Date header; must be aware.
        token: The Message-ID's unique part, of letters, digits and `.`, `-`, `_`.

    Raises:
        ValueError: A header would hold a line break, or an address is none.
    """
    sender = parse_mailbox(mail.sender)
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = parse_mailbox(mail.recipient)
    message["Subject"] = f"Test mail of {mail.settings}"
    message["Date"] = format_datetime(now)
    # The sender's domain is public anyway; the machine's name is not (RFC 5322 §3.6.4 wants only uniqueness).
    message["Message-ID"] = f"<{token}@{sender.domain}>"
    # So that nobody's vacation responder answers. Source: RFC 3834 §5.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_TEXT.format(settings=mail.settings))
    return message
