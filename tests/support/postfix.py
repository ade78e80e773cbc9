"""Real Postfix and Dovecot on free loopback ports, with a configuration of their own; the system's is not touched."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Final

import trustme

from tests.support.listening import LOOPBACK
from tests.support.smtp_server import PASSWORD, USERNAME

MASTER: Final = Path("/usr/lib/postfix/sbin/master")
DOVECOT: Final = Path("/usr/sbin/dovecot")
SUBMISSION: Final = Path("/usr/lib/dovecot/submission")
RECIPIENT: Final = "ops@acme.example"
START_S: Final = 30.0
STOP_S: Final = 10.0

_QUEUES: Final = "active bounce corrupt defer deferred flush hold incoming maildrop pid private public saved trace"

MAIN_CF: Final = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
daemon_directory = /usr/lib/postfix/sbin
command_directory = /usr/sbin
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
myhostname = mail.acme.example
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
disable_dns_lookups = yes
smtpd_peername_lookup = no
virtual_mailbox_domains = acme.example
virtual_mailbox_maps = inline:{{ {recipient}=ops/ }}
virtual_mailbox_base = {folder}/mail
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
smtpd_tls_chain_files = {folder}/server.pem
smtpd_tls_auth_only = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {folder}/auth-client
smtpd_delay_reject = no
smtpd_helo_required = yes
strict_names = reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname, reject_unknown_helo_hostname
smtpd_sender_login_maps = inline:{{ {username}={username} }}
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
"""
MASTER_CF: Final = """\
{relay} inet n - n - - smtpd
{start_tls} inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_helo_restrictions=$strict_names
  -o smtpd_sender_restrictions=reject_sender_login_mismatch
{implicit} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
  -o smtpd_sasl_auth_enable=yes
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""
DOVECOT_CONF: Final = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
instance_name = {folder}
protocols = submission
listen = 127.0.0.1
hostname = mail.acme.example
ssl = required
ssl_cert = <{folder}/server.pem
ssl_key = <{folder}/server.pem
auth_mechanisms = plain login {bearer_mechanisms}
auth_failure_delay = 0
mail_location = maildir:~/maildir
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {folder}/users
}}
{bearer_passdb}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/home
}}
submission_relay_host = 127.0.0.1
submission_relay_port = {relay}
submission_relay_trusted = no
service anvil {{
  # Without this failed logins slow down later ones.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  unix_listener {folder}/auth-client {{
    mode = 0660
    user = postfix
  }}
}}
service submission-login {{
  inet_listener submission {{
    port = {dovecot_start_tls}
  }}
  inet_listener submissions {{
    port = {dovecot_implicit}
    ssl = yes
  }}
}}
"""
BEARER_PASSDB: Final = """\
passdb {{
  driver = oauth2
  mechanisms = {mechanisms}
  args = {folder}/oauth2.conf.ext
}}
"""


@dataclass(frozen=True, slots=True)
class TokenValidation:
    """How Dovecot judges access tokens, and so Postfix, which asks it."""

    mechanisms: tuple[str, ...]
    """XOAUTH2, OAUTHBEARER."""
    settings: Mapping[str, str]
    """Source: Dovecot 2.3, Open Authentication v2.0 database."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Public keys in PEM, by `<azp or "default">/<algorithm>/<kid or "default">`; `{keys}` in the settings is their
    folder."""


@dataclass(frozen=True, slots=True)
class Postfix:
    """A running pair of servers."""

    folder: Path
    ca_pem: str
    relay: int
    """Postfix in the clear, without logins; takes mail for acme.example only."""
    start_tls: int
    """Postfix with STARTTLS and logins, both demanded; the login must own the sender, and clients' names are checked
    as strictly as Postfix can."""
    implicit: int
    """Postfix with implicit TLS and logins."""
    dovecot_start_tls: int
    """Dovecot's submission service, which passes mail on to `relay`."""
    dovecot_implicit: int

    def received(self, subject: str) -> EmailMessage:
        """The mail of that subject, as it lies in the recipient's maildir.

        Raises:
            TimeoutError: It has not come.
        """
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            for path in (self.folder / "mail" / "ops" / "new").glob("*"):
                message = message_from_bytes(path.read_bytes(), policy=SMTP)
                if message["Subject"] == subject:
                    assert isinstance(message, EmailMessage)
                    return message
            time.sleep(0.05)
        raise TimeoutError(f"no mail {subject!r} has come; {self.logs()}")

    def logs(self) -> str:
        paths = (self.folder / "postfix.log", self.folder / "dovecot.log")
        return "\n".join(path.read_text() for path in paths if path.exists())


def missing() -> str | None:
    """Why the servers cannot run here; None where they can."""
    absent = [str(path) for path in (MASTER, DOVECOT, SUBMISSION) if not path.exists()]
    if absent:
        return f"{', '.join(absent)} missing: apt-get install postfix dovecot-core dovecot-submissiond"
    if os.geteuid() != 0:
        return "Postfix and Dovecot start as root only"
    return None


@contextlib.contextmanager
def postfix(tokens: TokenValidation | None = None, *, parameters: str = "") -> Iterator[Postfix]:
    """Postfix and Dovecot until the block ends.

    Args:
        tokens: Takes access tokens too, as this says.
        parameters: More lines of main.cf, which win over the usual ones.
    """
    # Not in pytest's own folder: that is closed to the users that the servers run as.
    folder = Path(tempfile.mkdtemp(prefix="postfix-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        server = Postfix(folder, _certify(folder), *_free_ports(5))
        _configure(server, tokens or TokenValidation((), {}))
        with (folder / "etc" / "main.cf").open("a") as main_cf:
            main_cf.write(parameters)
        master: list[Path | str] = [MASTER, "-d", "-c", folder / "etc"]
        with _running([DOVECOT, "-F", "-c", folder / "dovecot.conf"], server), _running(master, server):
            _await_greeting(server, server.relay)
            _await_greeting(server, server.dovecot_start_tls)
            yield server
    finally:
        shutil.rmtree(folder)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def _certify(folder: Path) -> str:
    """Writes the servers' key and certificate; returns whom to trust."""
    ca = trustme.CA()
    chain = folder / "server.pem"
    chain.touch(0o600)
    ca.issue_cert(LOOPBACK, "mail.acme.example").private_key_and_cert_chain_pem.write_to_path(chain)
    return ca.cert_pem.bytes().decode()


def _configure(server: Postfix, tokens: TokenValidation) -> None:
    folder = server.folder
    owner, nobody = pwd.getpwnam("postfix"), pwd.getpwnam("nobody")
    values = {
        "folder": folder,
        "recipient": RECIPIENT,
        "username": USERNAME,
        "uid": nobody.pw_uid,
        "gid": nobody.pw_gid,
        "relay": server.relay,
        "start_tls": server.start_tls,
        "implicit": server.implicit,
        "dovecot_start_tls": server.dovecot_start_tls,
        "dovecot_implicit": server.dovecot_implicit,
        "bearer_mechanisms": (mechanisms := " ".join(tokens.mechanisms).lower()),
        "bearer_passdb": BEARER_PASSDB.format(mechanisms=mechanisms, folder=folder) if mechanisms else "",
    }
    for name, text in {
        "etc/main.cf": MAIN_CF,
        "etc/master.cf": MASTER_CF,
        "dovecot.conf": DOVECOT_CONF,
        "users": "{username}:{password}\n",
    }.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.format(**values, password=PASSWORD))
    for name, text in {
        "oauth2.conf.ext": "".join(f"{name} = {value}\n" for name, value in tokens.settings.items()),
        **{f"keys/{name}": key for name, key in tokens.keys.items()},
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("{keys}", f"{folder}/keys"))
    for name in _QUEUES.split():
        path = folder / "queue" / name
        path.mkdir(parents=True)
        if name != "pid":
            os.chown(path, owner.pw_uid, -1)
    for name, uid in {"data": owner.pw_uid, "mail": nobody.pw_uid, "home": nobody.pw_uid}.items():
        (folder / name).mkdir()
        os.chown(folder / name, uid, -1)


@contextlib.contextmanager
def _running(command: Sequence[Path | str], server: Postfix) -> Iterator[None]:
    """A daemon that stays in the foreground, in a session of its own since Postfix signals its whole group."""
    with (server.folder / f"{Path(command[0]).name}.out").open("wb") as output:
        daemon = subprocess.Popen([str(part) for part in command], stdout=output, stderr=output, start_new_session=True)
        try:
            yield
            assert daemon.poll() is None, f"{command[0]} ended by itself; {server.logs()}"
        finally:
            daemon.terminate()
            try:
                daemon.wait(STOP_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(STOP_S)


def _await_greeting(server: Postfix, port: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=5) as connection:
            if connection.recv(4) == b"220 ":
                connection.sendall(b"QUIT\r\n")
                return
        time.sleep(0.05)
    out = "\n".join(path.read_text() for path in server.folder.glob("*.out"))
    raise TimeoutError(f"nothing greets on port {port}; {out}\n{server.logs()}")
