"""Sends a mail with a mounted Secret, as an application would: python send_mail.py /etc/smtp you@acme.example."""

import smtplib
import ssl
import sys
from email.message import EmailMessage
from pathlib import Path


def connect(smtp: dict[str, str]) -> smtplib.SMTP:
    """A logged-in client for the settings of a Secret."""
    host, port = smtp["host"], int(smtp["port"])
    context = ssl.create_default_context(cadata=smtp.get("ca.crt"))
    if smtp["tls"] == "Implicit":
        client: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=10, context=context)
    else:
        client = smtplib.SMTP(host, port, timeout=10)
    if smtp["tls"] == "StartTLS":
        client.starttls(context=context)
    if "access-token" in smtp:
        log_in_with_token(client, smtp["username"], smtp["access-token"])
    elif "username" in smtp:
        client.login(smtp["username"], smtp["password"])
    return client


def log_in_with_token(client: smtplib.SMTP, username: str, token: str) -> None:
    """SASL XOAUTH2; a server that refuses the token says why in a challenge, which is answered with nothing."""
    response = f"user={username}\x01auth=Bearer {token}\x01\x01"
    client.ehlo_or_helo_if_needed()
    client.auth("XOAUTH2", lambda challenge=None: response if challenge is None else "")


def main(folder: str, recipient: str) -> None:
    """Reads the Secret anew for each mail, so that changed settings and renewed tokens hold at once."""
    smtp = {file.name: file.read_text() for file in Path(folder).iterdir() if file.is_file()}
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = smtp["from"], recipient, "Your order"
    message.set_content("It is on its way.")
    with connect(smtp) as client:
        client.send_message(message)


if __name__ == "__main__":
    main(*sys.argv[1:])
