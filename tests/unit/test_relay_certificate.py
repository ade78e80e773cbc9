"""The relay's certificate, as a client's TLS sees it."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from mailsettings.edges.relay_certificate import (
    CERTIFICATE_LIFE,
    RENEWED_BEFORE,
    Authority,
    is_good,
    issue,
    new_authority,
    relay_hosts,
)

HOSTS: Final = relay_hosts("mailsettings-relay", "mailsettings-relay.mailsettings-relay.svc")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority(datetime.now(UTC))


def handshake(chain: str, key: str, trusted: str, host: str, folder: Path) -> None:
    for name, text in (("tls.crt", chain), ("tls.key", key)):
        (folder / name).write_text(text)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    client = ssl.create_default_context(cadata=trusted)
    pipes = [ssl.MemoryBIO() for _ in range(2)]
    ends = [
        client.wrap_bio(pipes[0], pipes[1], server_hostname=host),
        server.wrap_bio(pipes[1], pipes[0], server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize("host", HOSTS)
def test_clients_trust_it_for_every_name_of_the_service(authority: Authority, host: str, tmp_path: Path) -> None:
    certificate, key = issue(authority, HOSTS, datetime.now(UTC))
    handshake(certificate, key, authority.pem, host, tmp_path)


def test_clients_trust_it_for_no_other_name_and_by_no_other_authority(authority: Authority, tmp_path: Path) -> None:
    certificate, key = issue(authority, HOSTS, datetime.now(UTC))
    with pytest.raises(ssl.SSLCertVerificationError, match="match"):
        handshake(certificate, key, authority.pem, "smtp.acme.example", tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(certificate, key, new_authority(datetime.now(UTC)).pem, HOSTS[0], tmp_path)


def test_it_is_renewed_in_time_and_for_other_names(authority: Authority) -> None:
    now = datetime.now(UTC)
    certificate, _ = issue(authority, HOSTS, now)
    assert is_good(certificate, authority, HOSTS, now)
    assert is_good(certificate, authority, HOSTS, now + CERTIFICATE_LIFE - RENEWED_BEFORE - timedelta(hours=1))
    assert not is_good(certificate, authority, HOSTS, now + CERTIFICATE_LIFE - RENEWED_BEFORE + timedelta(hours=1))
    assert not is_good(certificate, authority, ["127.0.0.1", *HOSTS], now)
    assert not is_good(certificate, new_authority(now), HOSTS, now)
    assert not is_good("", authority, HOSTS, now)
