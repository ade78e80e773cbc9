"""The message that a probe of mode Send delivers."""

from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape
from typing import Final

from mailsettings.core.clock import format_time
from mailsettings.core.mailbox import parse_mailbox
from mailsettings.core.probe import TestMail

# Seven bits, so that it passes servers without 8BITMIME (RFC 6152) as it is.
_POLICY: Final = SMTP.clone(cte_type="7bit")

_TEXT: Final = """\
This is a test mail. It shows that these settings can send mail:

    Settings: {settings}
    Cluster:  {cluster}
    Time:     {time}
    Message:  {message_id}

It was sent automatically; there is no need to answer it.
"""
_HTML: Final = """\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Test mail</title></head>
<body>
<p>This is a test mail. It shows that these settings can send mail:</p>
<table>
<tr><th scope="row" align="left">Settings</th><td>{settings}</td></tr>
<tr><th scope="row" align="left">Cluster</th><td>{cluster}</td></tr>
<tr><th scope="row" align="left">Time</th><td>{time}</td></tr>
<tr><th scope="row" align="left">Message</th><td>{message_id}</td></tr>
</table>
<p>It was sent automatically; there is no need to answer it.</p>
</body>
</html>
"""


def compose(mail: TestMail, *, now: datetime, token: str) -> EmailMessage:
    """The test mail.

    It is made so that no machine answers it and none of its bounces goes round in circles: `Auto-Submitted` stops
    responders, and From and envelope sender are the one plain address of the settings.

    Args:
        mail: Sender, recipient and what is tested.
        now: The Date header; must be aware.
        token: The Message-ID's unique part, of letters, digits and `.`, `-`, `_`.

    Raises:
        ValueError: A header would hold a line break, or an address is none.
    """
    sender = parse_mailbox(mail.sender)
    # The sender's domain is public anyway; the machine's name is not (RFC 5322 §3.6.4 wants only uniqueness).
    message_id = f"<{token}@{sender.domain}>"
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = parse_mailbox(mail.recipient)
    message["Subject"] = f"Test mail of {mail.origin.settings}"
    message["Date"] = format_datetime(now)
    message["Message-ID"] = message_id
    # So that nobody's vacation responder answers. Source: RFC 3834 §5.
    message["Auto-Submitted"] = "auto-generated"
    # Exchange heeds this one instead. Source: MS-OXCMAIL §2.1.3.2.20.
    message["X-Auto-Response-Suppress"] = "DR, RN, NRN, OOF, AutoReply"
    said = {
        "settings": mail.origin.settings,
        "cluster": mail.origin.cluster,
        "time": format_time(now),
        "message_id": message_id,
    }
    message.set_content(_TEXT.format(**said))
    message.add_alternative(_HTML.format(**{name: escape(value) for name, value in said.items()}), subtype="html")
    return message
