"""Probes whose name server is really asked, and does not know, does not want to, or does not answer.

The C library asks port 53 of what /etc/resolv.conf names, so a probe runs in a process with a network and a view of
the files of its own, where that is the test's server. It needs user namespaces, which some machines forbid.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
UNSHARE: Final = ("unshare", "--map-root-user", "--net", "--mount")

PROBE: Final = """
import asyncio, ctypes, fcntl, json, os, socket, struct, sys, threading
from datetime import timedelta

code, folder = int(sys.argv[1]), sys.argv[2]
with socket.socket() as any_socket:  # the loopback is down at first: SIOCSIFFLAGS, IFF_UP
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))
configuration = os.path.join(folder, "resolv.conf")
with open(configuration, "w") as file:
    file.write("nameserver 127.0.0.1\\noptions timeout:1 attempts:1\\n")
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(configuration.encode(), b"/etc/resolv.conf", None, 4096, None):  # MS_BIND
    sys.exit(f"no mount: {os.strerror(ctypes.get_errno())}")

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))

def answer():
    while True:
        query, client = server.recvfrom(512)
        if code >= 0:  # the question, with QR and RCODE set (RFC 1035 section 4.1.1)
            flags = struct.pack("!H", 0x8180 | code)
            server.sendto(query[:2] + flags + query[4:6] + bytes(6) + query[12:], client)

threading.Thread(target=answer, daemon=True).start()

from tests.support.smtp_probe import failure, request

asked = request(587, host="smtp.acme.example", timeout=timedelta(seconds=float(sys.argv[3])))
found = asyncio.run(failure(asked))
print(json.dumps([found.stage, found.reason, found.is_transient, found.explained]))
sys.stdout.flush()
os._exit(0)  # a look-up in a thread cannot be cancelled
"""


@cache
def _may_unshare() -> bool:
    try:
        return subprocess.run([*UNSHARE, "true"], check=False, capture_output=True, timeout=30).returncode == 0
    except FileNotFoundError:
        return False


def probed(code: int, folder: Path, *, timeout_s: float) -> list[Any]:
    """How a probe fails where the name server answers every question with this code; -1: with nothing."""
    command = [*UNSHARE, sys.executable, "-c", PROBE, str(code), str(folder), str(timeout_s)]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)
    assert ended.returncode == 0, ended.stderr
    found: list[Any] = json.loads(ended.stdout)
    return found


@pytest.mark.skipif(not _may_unshare(), reason="needs user namespaces")
@pytest.mark.parametrize(
    ("code", "timeout_s", "is_transient", "says"),
    [
        pytest.param(3, 20, False, "There is no address for the name smtp.acme.example", id="NXDOMAIN"),
        pytest.param(2, 20, True, "gave no answer for smtp.acme.example", id="SERVFAIL"),
        pytest.param(5, 20, True, "gave no answer for smtp.acme.example", id="REFUSED"),
        pytest.param(-1, 20, True, "gave no answer for smtp.acme.example", id="silence"),
        pytest.param(-1, 0.2, True, "gave no answer for smtp.acme.example", id="silence, the settings' timeout"),
    ],
)
def test_what_a_name_server_does_is_told_apart(
    code: int, timeout_s: float, is_transient: bool, says: str, tmp_path: Path
) -> None:
    stage, reason, transient, message = probed(code, tmp_path, timeout_s=timeout_s)
    assert (stage, reason, transient) == ("resolve", "DnsNotFound", is_transient)
    assert says in message
    assert "docs/troubleshooting.md#dnsnotfound" in message
