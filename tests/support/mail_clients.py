"""Mail clients of other languages, in processes of their own: npm's nodemailer, and Jakarta Mail on a JVM."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.listening import LOOPBACK

REQUIRED: Final = "MAILSETTINGS_MAIL_CLIENTS"
"""Set to `required` where a client that is not installed is a failure, as in continuous integration."""

NODEMAILER: Final = Path(__file__).parent / "nodemailer"
JAKARTA_MAIL: Final = Path(__file__).parent / "jakarta_mail" / "Send.java"
JARS: Final = tuple(Path("/usr/share/java") / name for name in ("jakarta-mail.jar", "jakarta-activation.jar"))
"""Where Debian has it."""

WITHIN_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Submission:
    """Where mails are to go, and as whom."""

    port: int
    """On the loopback."""
    implicit_tls: bool
    server_name: str
    """What the server's certificate has to be for."""
    ca_pem: str = field(repr=False)
    mechanism: str
    """PLAIN, LOGIN, XOAUTH2."""
    username: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail as it goes out."""

    sender: str
    recipient: str
    octets: bytes
    """With line ends as the client is to find them."""


class ClientError(Exception):
    """A client has failed; the message is what it said."""


async def send_by_nodemailer(where: Submission, mails: Sequence[Mail], folder: Path) -> None:
    """Sends mails through a pool of connections.

    Args:
        where: Through what.
        mails: All at once.
        folder: For nothing; every client is given one.

    Raises:
        ClientError: One of them was not taken.
    """
    _skip_without("node", NODEMAILER / "node_modules", "make npm-packages")
    oauth2 = where.mechanism == "XOAUTH2"
    login = {"type": "OAuth2", "accessToken": where.secret} if oauth2 else {"pass": where.secret}
    transport: dict[str, Any] = {
        "pool": True,
        "host": LOOPBACK,
        "port": where.port,
        "secure": where.implicit_tls,
        "requireTLS": not where.implicit_tls,
        "tls": {"ca": where.ca_pem, "servername": where.server_name},
        "auth": {"user": where.username, **login},
        **({} if oauth2 else {"authMethod": where.mechanism}),
    }
    told = [
        {
            "envelope": {"from": mail.sender, "to": mail.recipient, "use8BitMime": True},
            "raw": mail.octets.decode(),
        }
        for mail in mails
    ]
    await _run(["node", str(NODEMAILER / "send.mjs")], json.dumps({"transport": transport, "mails": told}).encode())


async def send_by_jakarta_mail(where: Submission, mails: Sequence[Mail], folder: Path) -> None:
    """Sends mails, one after the other.

    Args:
        where: Through what.
        mails: Recipients and senders are those of their headers.
        folder: For files that it is told by.

    Raises:
        ClientError: One of them was not taken.
    """
    for path in JARS:
        _skip_without("javac", path, "apt-get install libjakarta-mail-java default-jdk-headless")
    properties = {
        "mail.smtp.host": where.server_name,
        "mail.smtp.port": where.port,
        "mail.smtp.auth": "true",
        "mail.smtp.auth.mechanisms": where.mechanism,
        "mail.smtp.allow8bitmime": "true",
        "mail.smtp.ssl.checkserveridentity": "true",
        "mail.smtp.ssl.enable": str(where.implicit_tls).lower(),
        "mail.smtp.starttls.enable": "true",
        "mail.smtp.starttls.required": str(not where.implicit_tls).lower(),
        "user": where.username,
        "password": where.secret,
    }
    (folder / "session.properties").write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    (folder / "hosts").write_text(f"{LOOPBACK} {where.server_name}\n")
    (folder / "client-ca.crt").write_text(where.ca_pem)
    command = ["java", f"-Djdk.net.hosts.file={folder}/hosts", "-cp", ":".join(map(str, JARS)), str(JAKARTA_MAIL)]
    for mail in mails:
        await _run([*command, f"{folder}/session.properties", f"{folder}/client-ca.crt"], mail.octets)


Sending = Callable[[Submission, Sequence[Mail], Path], Coroutine[Any, Any, None]]
CLIENTS: Final[tuple[Sending, ...]] = (send_by_nodemailer, send_by_jakarta_mail)


def _skip_without(program: str, path: Path, remedy: str) -> None:
    """Skips the test where something is not installed, unless it has to be."""
    if shutil.which(program) is not None and path.exists():
        return
    reason = f"there is no {program}, or no {path.name}: {remedy}"
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(reason)
    pytest.skip(reason)


async def _run(command: Sequence[str], stdin: bytes) -> None:
    def work() -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(command, input=stdin, capture_output=True, timeout=WITHIN_S, check=False)

    done = await asyncio.to_thread(work)
    if done.returncode:
        raise ClientError((done.stdout + done.stderr).decode(errors="replace"))
