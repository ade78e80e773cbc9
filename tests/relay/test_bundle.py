"""What the relay reads, what it answers for others, and what it records."""

import json
from datetime import timedelta
from typing import Any

import pytest

from mailsettings.api.connection import ProxyProtocol
from mailsettings.api.providers import TlsMode
from mailsettings.api.sending import ForeignSender
from mailsettings.core.relay.audit import AuditRecord, Outcome
from mailsettings.core.relay.bundle import BundleError, parse_bundle
from mailsettings.core.relay.faults import REPLIES, RelayFault, judged
from mailsettings.core.relay.passwords import hash_password
from mailsettings.core.relay.policy import Policy
from mailsettings.core.relay.rates import RateLimit
from mailsettings.core.relay.replies import MAX_LINES, Reply, passed_on
from mailsettings.core.server import BearerToken, Credentials, Proxy, Server, Source

HASH = hash_password("x", b"0" * 16)


def document(**changes: Any) -> dict[str, Any]:
    tenant = {
        "username": "acme.notifications",
        "namespace": "acme",
        "settings": "notifications",
        "passwords": [HASH],
        "mailFrom": "Acme <no-reply@acme.example>",
    }
    return {
        "version": 1,
        "credential": "system",
        "level": "System",
        "server": {"host": "smtp.acme.example", "port": 587, "tlsMode": "StartTLS"},
        "login": {"username": "u", "password": "upstream-secret"},
        "tenants": [tenant],
        **changes,
    }


class TestBundle:
    def test_a_short_one(self) -> None:
        bundle = parse_bundle(json.dumps(document()))
        assert bundle.upstream_server == Server("smtp.acme.example", 587, TlsMode.START_TLS, timedelta(seconds=10))
        assert bundle.upstream_login == Credentials("u", "upstream-secret")
        assert bundle.level is Source.SYSTEM
        assert bundle.tenants[0].policy == Policy("acme", "Acme <no-reply@acme.example>")

    def test_all_that_there_is(self) -> None:
        given = document(
            login={"username": "u", "accessToken": "tok-en", "expiresAt": "2026-11-22T16:40:00Z"},
            server={
                "host": "smtp.acme.example",
                "port": 465,
                "tlsMode": "Implicit",
                "timeoutSeconds": 3,
                "tlsMinVersion": "TLSv1.3",
                "tlsServerName": "mail.acme.example",
                "caBundle": "pem",
                "proxy": {"protocol": "SOCKS5", "host": "p", "port": 1080, "username": "a", "password": "b"},
            },
        )
        given["tenants"][0] |= {
            "sending": "Blocked",
            "allowedFrom": ["*@{namespace}.example"],
            "foreignSender": "Rewrite",
            "recipientDomains": ["*.example"],
            "maxMessageOctets": 1000,
            "rateLimits": "10:60",
        }
        bundle = parse_bundle(json.dumps(given))
        assert bundle.upstream_login == BearerToken("u", "tok-en")
        assert bundle.upstream_server.proxy == Proxy(ProxyProtocol.SOCKS5, "p", 1080, Credentials("a", "b"))
        assert bundle.upstream_server.tls_server_name == "mail.acme.example"
        assert bundle.tenants[0].policy == Policy(
            "acme",
            "Acme <no-reply@acme.example>",
            ("*@{namespace}.example",),
            ForeignSender.REWRITE,
            ("*.example",),
            1000,
            (RateLimit(10, 60),),
            blocked=True,
        )

    def test_a_server_without_a_login_and_one_whose_token_is_still_to_come(self) -> None:
        assert not parse_bundle(json.dumps(document(login=None))).lacks_login
        waiting = parse_bundle(json.dumps(document(login={"username": "u"})))
        assert waiting.lacks_login
        assert waiting.upstream_login is None

    def test_no_secret_is_in_its_representation(self) -> None:
        text = repr(parse_bundle(json.dumps(document())))
        assert "upstream-secret" not in text
        assert HASH not in text

    @pytest.mark.parametrize(
        "changes",
        [
            {"version": 2},
            {"tenants": [{**document()["tenants"][0], "passwords": ["geheim"]}]},
            {"tenants": [{**document()["tenants"][0], "passwords": [HASH] * 3}]},
            {"tenants": [{**document()["tenants"][0], "rateLimits": "often"}]},
            {"tenants": document()["tenants"] * 2},
            {"server": {"host": "a b", "port": 587, "tlsMode": "StartTLS"}},
            {"login": {"username": "u", "password": {"geheim": 1}}},
        ],
    )
    def test_what_is_no_bundle(self, changes: dict[str, Any]) -> None:
        with pytest.raises(BundleError) as error:
            parse_bundle(json.dumps(document(**changes)))
        assert next(iter(changes)) in str(error.value)
        assert "geheim" not in str(error.value)

    def test_what_is_no_json(self) -> None:
        with pytest.raises(BundleError):
            parse_bundle(b"{geheim")


class TestReplies:
    @pytest.mark.parametrize(
        ("code", "message", "wire"),
        [
            (250, "2.0.0 Ok: queued as 4711", b"250 2.0.0 Ok: queued as 4711\r\n"),
            (550, "5.7.1 no\n5.7.1 never", b"550-5.7.1 no\r\n550 5.7.1 never\r\n"),
            (550, "no", b"550 no\r\n"),
            (550, "2.0.0 no", b"550 2.0.0 no\r\n"),
            (550, "5.1.1", b"550 5.1.1 \r\n"),
            (550, "5.1.1 nö\x00\r250 ok", b"550 5.1.1 n???250 ok\r\n"),
        ],
    )
    def test_what_a_server_says_is_passed_on(self, code: int, message: str, wire: bytes) -> None:
        assert passed_on(code, message).encode() == wire

    def test_in_bounds(self) -> None:
        wire = passed_on(550, "\n".join(["x" * 2000] * 50)).encode()
        assert wire.count(b"\r\n") == MAX_LINES
        assert max(len(line) for line in wire.split(b"\r\n")) <= 510

    @pytest.mark.parametrize(
        ("code", "message", "expected"),
        [
            (250, "2.0.0 ok", Reply(250, "ok", "2.0.0")),
            (550, "5.1.1 no", Reply(550, "no", "5.1.1")),
            (421, "4.7.0 later", Reply(451, "later", "4.7.0")),
            (530, "5.7.57 log in", RelayFault.LOGIN),
            (535, "5.7.8 who?", RelayFault.LOGIN),
            (354, "go", RelayFault.GARBAGE),
            (-1, "", RelayFault.GARBAGE),
            (600, "", RelayFault.GARBAGE),
        ],
    )
    def test_judgements(self, code: int, message: str, expected: Reply | RelayFault) -> None:
        assert judged(code, message) == expected

    def test_the_relays_own_faults_are_for_a_while(self) -> None:
        assert {*REPLIES} == {*RelayFault}
        permanent = [fault for fault, reply in REPLIES.items() if not 400 <= reply.code < 500]
        assert permanent == [RelayFault.NOT_CONVERTIBLE]
        assert REPLIES[RelayFault.OUTCOME_UNKNOWN].encode().startswith(b"451 4.4.2 ")


def test_an_audit_line() -> None:
    record = AuditRecord(
        "acme", "x", "a@b.example", 2, 1234, Outcome.ACCEPTED, 250, "2.0.0", "queued\n", duration_s=0.1
    )
    line = record.line()
    assert "\n" not in line
    assert json.loads(line) == {
        "event": "message",
        "namespace": "acme",
        "settings": "x",
        "sender": "a@b.example",
        "recipients": 2,
        "octets": 1234,
        "outcome": "accepted",
        "code": 250,
        "enhanced": "2.0.0",
        "reply": "queued\n",
        "seconds": 0.1,
        "upstreamSeconds": 0.0,
    }
    with_recipients = AuditRecord("acme", "x", "", 1, 0, Outcome.DENIED, 550, addresses=("c@d.example",))
    assert json.loads(with_recipients.line())["to"] == ["c@d.example"]
