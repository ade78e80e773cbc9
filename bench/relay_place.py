"""A mail server, the relay before it and email-oauth2-proxy before it, each a process of its own."""

import asyncio
import base64
import contextlib
import importlib.util
import json
import os
import secrets
import ssl
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trustme
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from bench.errors import BenchError
from bench.programs import program
from bench.relay_clients import SENDER, Endpoint
from dev.relay_process import RelayProcess
from mailsettings.core.relay.passwords import hash_password, new_password
from tests.support.listening import LOOPBACK, free_port

CONNECTIONS: Final = 64
"""More to the mail server than anybody needs here."""
START_S: Final = 30.0
STOP_S: Final = 10.0
TOKEN: Final = secrets.token_urlsafe(900)
"""As long as providers' access tokens are."""
OTHER: Final = "emailproxy"
ITERATIONS: Final = 1_200_000
"""Of the key that email-oauth2-proxy keeps tokens by; it derives one at each login. Source: its `Cryptographer`."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is measured."""

    direct: Endpoint
    relay: Endpoint
    process: RelayProcess
    """The relay's."""
    other: Endpoint | None
    """email-oauth2-proxy; None: it is not installed."""

    def rss_mb(self) -> float:
        """The relay's resident memory, in units of 10^6 bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6

    def cpu_s(self) -> float:
        """The processor time that the relay has used, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def place(tenants: int) -> AsyncIterator[Place]:
    """Everything, until the block ends.

    Args:
        tenants: How many the relay knows, all with every policy.

    Raises:
        BenchError: The mail server or email-oauth2-proxy does not start.
        StartError: The relay does not.
    """
    with TemporaryDirectory(prefix="mailsettings-bench-") as name:
        folder = Path(name)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.crt")
        own = authority.issue_cert(LOOPBACK)
        own.cert_chain_pems[0].write_to_path(folder / "tls.crt")
        own.private_key_pem.write_to_path(folder / "tls.key")
        trust = ssl.create_default_context(cafile=folder / "ca.crt")
        files = (str(folder / "tls.crt"), str(folder / "tls.key"))
        async with program("bench.relay_upstream", *files, says_within_s=START_S) as said:
            port = int(said)
            logins = _write_bundle(folder, port, tenants)
            process = RelayProcess(None, folder)
            process.start()
            try:
                async with _other(folder, port) as other_port:
                    yield Place(
                        Endpoint("direct", port, trust, logins),
                        Endpoint("relay", process.port, trust, logins),
                        process,
                        Endpoint(OTHER, other_port, trust, [(SENDER, "password")]) if other_port else None,
                    )
            finally:
                process.stop()


def _write_bundle(folder: Path, port: int, tenants: int) -> list[tuple[str, str]]:
    """Tells the relay of its tenants; their logins."""
    logins = [(f"acme-{number}.notifications", new_password()) for number in range(tenants)]
    bundle = {
        "credential": "system",
        "level": "System",
        "server": {
            "host": LOOPBACK,
            "port": port,
            "tlsMode": "StartTLS",
            "caBundle": (folder / "ca.crt").read_text(encoding="ascii"),
        },
        "login": {"username": SENDER, "accessToken": TOKEN},
        "connections": CONNECTIONS,
        "tenants": [_tenant(username, password) for username, password in logins],
    }
    (folder / "bundles").mkdir()
    (folder / "bundles" / "system.json").write_text(json.dumps(bundle), encoding="ascii")
    return logins


def _tenant(username: str, password: str) -> dict[str, object]:
    """One with every policy."""
    return {
        "username": username,
        "namespace": username.partition(".")[0],
        "settings": "notifications",
        "passwords": [hash_password(password)],
        "mailFrom": SENDER,
        "allowedFrom": ["*@{namespace}.example", "*@acme.example"],
        "recipientDomains": ["*.example"],
        "maxMessageOctets": 40_000_000,
        "rateLimits": "1000000:60,10000000:3600",
    }


# email-oauth2-proxy


@asynccontextmanager
async def _other(folder: Path, upstream: int) -> AsyncIterator[int | None]:
    if importlib.util.find_spec(OTHER) is None:
        yield None
        return
    port = free_port()
    config = folder / "emailproxy.config"
    config.write_text("\n".join(_configuration(folder, port, upstream)), encoding="ascii")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", OTHER, "--no-gui", "--external-auth", "--config-file", str(config)),
        env={"PATH": os.environ["PATH"], "SSL_CERT_FILE": str(folder / "ca.crt"), **_path_of_packages()},
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await _listens(port)
        yield port
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _path_of_packages() -> dict[str, str]:
    return {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}


def _configuration(folder: Path, port: int, upstream: int) -> Iterator[str]:
    salt = secrets.token_bytes(16)
    key = PBKDF2HMAC(algorithm=hashes.SHA256(), length=32, salt=salt, iterations=ITERATIONS).derive(b"password")
    token = Fernet(base64.urlsafe_b64encode(key)).encrypt(TOKEN.encode())
    yield f"[SMTP-{port}]"
    yield f"local_address = {LOOPBACK}"
    yield "local_starttls = True"
    yield f"local_certificate_path = {folder}/tls.crt"
    yield f"local_key_path = {folder}/tls.key"
    yield f"server_address = {LOOPBACK}"
    yield f"server_port = {upstream}"
    yield "server_starttls = True"
    yield f"[{SENDER}]"
    yield "token_url = https://idp.acme.example/token"
    yield "oauth2_scope = mail"
    yield "client_id = bench"
    yield f"token_salt = {base64.b64encode(salt).decode()}"
    yield f"token_iterations = {ITERATIONS}"
    yield f"access_token = {token.decode()}"
    yield f"access_token_expiry = {int(time.time()) + 86400}"
    yield f"last_activity = {int(time.time())}"
    yield ""


async def _listens(port: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.transport.abort()
            return
        await asyncio.sleep(0.05)
    raise BenchError(f"{OTHER} does not listen")
