"""What a probe brings home beside its verdict: times, the server's facts, the dialogue."""

import base64
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import pytest
import trustme
from cryptography import x509

from mailsettings.api.conditions import Reason
from mailsettings.api.connection import ProxyProtocol
from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import TlsMode
from mailsettings.api.status import MAX_CHAIN, ProbedServer
from mailsettings.core.clock import format_time
from mailsettings.core.diagnosis import Fault, diagnose
from mailsettings.core.egress import EgressPolicy
from mailsettings.core.probe import ProbeFailure, ProbeProgress, ProbeRequest, ProbeResult, ServerFacts, Stage, freely
from mailsettings.core.probing import certificate_warning, probed_server
from mailsettings.core.server import BearerToken, Proxy
from mailsettings.edges import smtp
from mailsettings.edges.tls import sent_chain, trusted_chain
from tests.support.listening import LOOPBACK
from tests.support.proxies import scripted_proxy
from tests.support.smtp_probe import ALLOW_LOOPBACK, PATIENT, probe, request
from tests.support.smtp_server import (
    PASSWORD,
    USERNAME,
    Certificate,
    Peer,
    another_authority_pem,
    certificate,
    chained_certificate,
    close,
    ended_authority,
    expired_certificate,
    mail_server,
    say,
    say_bytes,
    scripted_server,
    self_signed_certificate,
    upgrade,
)

S = Stage
TLS: Final = certificate(LOOPBACK)
TOKEN: Final = "".join(f"eyJ{number:04}aBc-_." for number in range(60))


def stages(result: ProbeResult) -> list[Stage]:
    return [each.stage for each in result.stages]


def lines(result: ProbeResult) -> list[str]:
    return [str(line) for line in result.dialogue]


async def test_every_stage_is_timed() -> None:
    async with mail_server(start_tls=TLS.context, auth_required=True) as server:
        result = await probe(request(server.port, tls_mode=TlsMode.START_TLS, ca_bundle=TLS.ca_pem))
    assert result.failure is None
    assert stages(result) == [S.RESOLVE, S.CONNECT, S.GREETING, S.EHLO, S.TLS, S.AUTH, S.MAIL, S.RCPT, S.DATA]
    together = sum((each.duration for each in result.stages), timedelta())
    assert timedelta() < together <= result.duration
    assert all(each.duration >= timedelta() for each in result.stages)


async def test_progress_is_told_stage_by_stage() -> None:
    told: list[ProbeProgress] = []
    async with mail_server(start_tls=TLS.context, auth_required=True) as server:
        asked = request(server.port, tls_mode=TlsMode.START_TLS, ca_bundle=TLS.ca_pem)
        result = await smtp.probe(asked, told.append, permit=freely, policy=ALLOW_LOOPBACK, deadline=PATIENT)
    assert [each.stage for each in told] == [
        S.RESOLVE, S.CONNECT, S.GREETING, S.EHLO, S.TLS, S.EHLO, S.AUTH, S.MAIL, S.RCPT, S.DATA,
    ]  # fmt: skip
    # What is said of a stage that comes again is what its first turn took, and then both.
    first, second = told[5].stages, told[6].stages
    assert [each.stage for each in first] == [each.stage for each in second]
    assert first[3].stage is S.EHLO
    assert first[3].duration < second[3].duration
    assert told[-1].stages == result.stages[:-1]


async def test_with_implicit_tls_the_greeting_counts_as_tls() -> None:
    async with mail_server(implicit_tls=TLS.context) as server:
        asked = request(server.port, ProbeMode.CONNECT, tls_mode=TlsMode.IMPLICIT, ca_bundle=TLS.ca_pem)
        result = await probe(asked)
    assert stages(result) == [S.RESOLVE, S.CONNECT, S.TLS, S.EHLO]


async def test_through_a_proxy_there_is_a_stage_for_it() -> None:
    async def converse(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(b"HTTP/1.1 200 ok\r\n\r\n220 hello\r\n")
        while line := await peer.reader.readline():
            await peer.say(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 hello\r\n")

    async with scripted_proxy(converse) as port:
        asked = request(2525, ProbeMode.CONNECT, credentials=None, proxy=Proxy(ProxyProtocol.HTTP, LOOPBACK, port))
        result = await probe(asked, policy=EgressPolicy.parse(allow="127.0.0.1:*", proxies=f"{LOOPBACK}:{port}"))
    assert stages(result) == [S.RESOLVE, S.PROXY, S.CONNECT, S.GREETING, S.EHLO]


async def test_the_stages_end_where_the_probe_failed() -> None:
    async with scripted_server({"AUTH": close}) as server:
        result = await probe(request(server.port))
    assert result.failure is not None
    assert stages(result)[-1] is result.failure.stage is S.AUTH


async def test_what_is_made_of_a_failure_is_no_time_of_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No stage has taken longer than the whole."""

    def slowly(fault: Fault, asked: ProbeRequest) -> ProbeFailure:
        time.sleep(0.1)
        return diagnose(fault, asked)

    monkeypatch.setattr(smtp, "diagnose", slowly)
    async with scripted_server({"AUTH": close}) as server:
        result = await probe(request(server.port))
    assert sum((each.duration for each in result.stages), timedelta()) <= result.duration


@pytest.mark.parametrize("mode", [TlsMode.START_TLS, TlsMode.IMPLICIT])
async def test_the_servers_certificate_and_cipher_are_kept(mode: TlsMode) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
    its = certificate(LOOPBACK, not_after=until)
    options = {"start_tls": its.context} if mode is TlsMode.START_TLS else {"implicit_tls": its.context}
    async with mail_server(**options) as server:  # type: ignore[arg-type]
        result = await probe(request(server.port, ProbeMode.CONNECT, tls_mode=mode, ca_bundle=its.ca_pem))
    facts = result.server
    assert (facts.tls_version, bool(facts.cipher)) == ("TLSv1.3", True)
    own = facts.chain[0]
    assert own.expires_at == until
    assert "trustme" in own.issuer
    assert own.subject
    assert f"-: [TLS: TLSv1.3, {facts.cipher}]" in lines(result)


SOON: Final = datetime.now(UTC).replace(microsecond=0) + timedelta(days=5)


async def seen(its: Certificate, mode: TlsMode, **server: Any) -> ServerFacts:
    options: Any = {"start_tls" if mode is TlsMode.START_TLS else "implicit_tls": its.context}
    async with mail_server(**options) as serving:
        result = await probe(
            request(serving.port, ProbeMode.CONNECT, tls_mode=mode, **{"ca_bundle": its.ca_pem, **server})
        )
    assert result.failure is None
    return result.server


@pytest.mark.parametrize("mode", [TlsMode.START_TLS, TlsMode.IMPLICIT])
async def test_the_whole_chain_is_kept_and_an_intermediate_that_ends_is_the_one_to_warn_of(mode: TlsMode) -> None:
    facts = await seen(chained_certificate(LOOPBACK, intermediate_until=SOON), mode)
    own, intermediate = facts.chain
    assert facts.trusted[:2] == facts.chain
    (root,) = facts.trusted[2:]
    assert (own.issuer, intermediate.issuer, root.issuer) == (intermediate.subject, root.subject, root.subject)
    assert intermediate.expires_at == SOON < min(own.expires_at, root.expires_at)
    told = probed_server(facts)
    assert told is not None
    assert told.certificate is not None
    assert told.certificate.subject == intermediate.subject
    assert [each.subject for each in told.chain or ()] == [own.subject, intermediate.subject]
    warning = certificate_warning(told, format_time(datetime.now(UTC)))
    assert warning.startswith(f" Warning: the certificate of {intermediate.subject} ends at {format_time(SOON)}")


async def test_what_a_server_sends_beside_its_chain_is_told_and_not_warned_of() -> None:
    """As servers did when an authority's old certificate ended."""
    facts = await seen(chained_certificate(LOOPBACK, beside=[ended_authority()]), TlsMode.IMPLICIT)
    assert len(facts.chain) == 3
    assert facts.chain[2].expires_at < datetime.now(UTC)
    told = probed_server(facts)
    assert certificate_warning(told, format_time(datetime.now(UTC))) == ""


async def test_without_verification_all_that_was_sent_counts() -> None:
    its = chained_certificate(LOOPBACK, intermediate_until=SOON)
    facts = await seen(its, TlsMode.IMPLICIT, tls_insecure_skip_verify=True)
    assert (len(facts.chain), facts.trusted) == (2, ())
    told = probed_server(facts)
    assert told is not None
    assert told.certificate is not None
    assert told.certificate.expires_at == format_time(SOON)


PAST: Final = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)


@pytest.mark.parametrize("mode", [TlsMode.START_TLS, TlsMode.IMPLICIT])
@pytest.mark.parametrize(
    ("make", "trusts", "reason"),
    [
        (self_signed_certificate, another_authority_pem, Reason.CERTIFICATE_UNTRUSTED),
        (lambda: chained_certificate(LOOPBACK), another_authority_pem, Reason.CERTIFICATE_UNTRUSTED),
        (lambda: expired_certificate(LOOPBACK), None, Reason.CERTIFICATE_EXPIRED),
        (lambda: chained_certificate(LOOPBACK, intermediate_until=PAST), None, Reason.CERTIFICATE_EXPIRED),
        (lambda: certificate("other.example"), None, Reason.CERTIFICATE_NAME_MISMATCH),
    ],
    ids=["self-signed", "unknown authority", "expired", "intermediate expired", "another name"],
)
async def test_certificates_that_are_refused_are_told(
    mode: TlsMode, make: Callable[[], Certificate], trusts: Callable[[], str] | None, reason: Reason
) -> None:
    its = make()
    script = {"EHLO": say("250-mail\n250 STARTTLS"), "STARTTLS": upgrade(its.context)}
    implicit = its.context if mode is TlsMode.IMPLICIT else None
    async with scripted_server(script, implicit_tls=implicit) as server:
        result = await probe(request(server.port, tls_mode=mode, ca_bundle=trusts() if trusts else its.ca_pem))
    assert result.failure is not None
    assert result.failure.reason is reason
    sent = [
        (each.subject.rfc4514_string(), each.issuer.rfc4514_string(), format_time(each.not_valid_after_utc))
        for each in x509.load_pem_x509_certificates(its.chain_pem.encode())
    ]
    told = probed_server(result.server)
    assert told is not None
    assert [(each.subject, each.issuer, each.expires_at) for each in told.chain or ()] == sent
    assert told.certificate is not None
    assert told.certificate.expires_at == min(expires_at for _, _, expires_at in sent)


async def test_a_chain_without_end_is_cut() -> None:
    its = chained_certificate(LOOPBACK, beside=[trustme.CA() for _ in range(20)])
    facts = await seen(its, TlsMode.IMPLICIT)
    assert len(facts.chain) == MAX_CHAIN
    assert ProbedServer.model_validate(probed_server(facts).document())  # type: ignore[union-attr]


class _LaterPython:
    """A connection of Python 3.13, whose chains are public, and bytes; or of one without any."""

    def __init__(self, chain: list[bytes] | None) -> None:
        self._own = ssl.PEM_cert_to_DER_cert(TLS.chain_pem)
        if chain is not None:
            self.get_unverified_chain = self.get_verified_chain = lambda: chain

    def getpeercert(self, *, binary_form: bool) -> bytes | None:
        return self._own if binary_form else None


@pytest.mark.parametrize(
    ("further", "count"), [(None, 1), ([], 1), (["ca"], 2), (["ca", "garbage"], 2), (["long", "ca"], 2)]
)
def test_every_pythons_way_to_the_chain_is_known(further: list[str] | None, count: int) -> None:
    ders = {"ca": ssl.PEM_cert_to_DER_cert(TLS.ca_pem), "garbage": b"no certificate", "long": b"x" * 99999}
    own = ssl.PEM_cert_to_DER_cert(TLS.chain_pem)
    chain = None if further is None else [own, *(ders[each] for each in further)] if further else []
    for read in (sent_chain, trusted_chain):
        assert len(read(cast("ssl.SSLObject", _LaterPython(chain)))) == count


async def test_an_unverified_certificate_is_kept_too() -> None:
    its = expired_certificate("other.example")
    async with mail_server(implicit_tls=its.context) as server:
        asked = request(server.port, ProbeMode.CONNECT, tls_mode=TlsMode.IMPLICIT, tls_insecure_skip_verify=True)
        result = await probe(asked)
    assert result.failure is None
    assert result.server.chain[0].expires_at < datetime.now(UTC)


@pytest.mark.parametrize(
    ("ehlo", "mechanisms", "size"),
    [
        ("250-h\n250-SIZE 35882577\n250 AUTH LOGIN PLAIN XOAUTH2", ("LOGIN", "PLAIN", "XOAUTH2"), 35882577),
        ("250-h\n250-SIZE\n250 AUTH=PLAIN", ("PLAIN",), None),
        ("250-h\n250-SIZE 0\n250 HELP", (), None),
        ("250-h\n250 SIZE 99999999999999999999999", (), None),
        ("250-h\n250 SIZE \u0665\u0666", (), None),
        ("250 AUTH " + "x" * 30 + " <b> PLAIN", (), None),
    ],
)
async def test_mechanisms_and_size_are_kept_where_they_are_well_formed(
    ehlo: str, mechanisms: tuple[str, ...], size: int | None
) -> None:
    async with scripted_server({"EHLO": say(ehlo)}) as server:
        result = await probe(request(server.port, ProbeMode.CONNECT, credentials=None))
    assert result.server == ServerFacts(mechanisms=mechanisms, size=size)


async def test_the_dialogue_is_kept_from_the_greeting_to_the_goodbye() -> None:
    async with scripted_server() as server:
        result = await probe(request(server.port))
    kept = lines(result)
    message = kept.pop(kept.index("C: DATA") + 1)
    assert message.startswith("-: [the message, ")
    assert kept == [
        "S: 220 mail.acme.example ESMTP",
        "C: EHLO [127.0.0.1]",
        "S: 250-mail.acme.example",
        "S: 250-SIZE 10000000",
        "S: 250 AUTH PLAIN LOGIN",
        "C: AUTH PLAIN [redacted]",
        "S: 235 2.7.0 ok",
        "C: MAIL FROM:<no-reply@acme.example>",
        "S: 250 2.1.0 ok",
        "C: RCPT TO:<ops@acme.example>",
        "S: 250 2.1.5 ok",
        "C: DATA",
        "S: 250 2.0.0 kept",
        "C: QUIT",
        "S: 221 2.0.0 bye",
    ]
    times = [line.at for line in result.dialogue]
    assert times == sorted(times)
    assert "Test mail" not in "".join(kept)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "OAUTHBEARER"])
async def test_whatever_the_server_repeats_of_the_login_is_not_in_the_dialogue(mechanism: str) -> None:
    """A server that repeats every line it gets, in the clear and in base64, in its challenges too."""
    said: list[str] = []

    async def repeat(peer: Peer) -> None:
        for _ in range(2):
            line = (await peer.reader.readline()).decode().strip()
            if not line or line == "QUIT":
                return
            said.append(line)
            await peer.say(f"334 {base64.b64encode(line.encode()).decode()}\r\n".encode())

    async def challenge(peer: Peer) -> None:
        await peer.say(f"334 {base64.b64encode(b'<1.2@mail>').decode()}\r\n".encode())
        await repeat(peer)
        await peer.say(("535-" + "\r\n535-".join([*said, *map(_decoded, said)]) + "\r\n535 no\r\n").encode())

    script = {"EHLO": say(f"250-h\n250 AUTH {mechanism}"), "AUTH": challenge}
    login = BearerToken(USERNAME, TOKEN) if "AUTH" in mechanism else None
    async with scripted_server(script) as server:
        asked = request(server.port, **({"credentials": login} if login else {}))  # type: ignore[arg-type]
        result = await probe(asked)
    assert result.failure is not None
    whole = "\n".join(lines(result))
    secrets = [PASSWORD, TOKEN, TOKEN[100:130], *said, *map(_decoded, said)]
    for secret in filter(lambda text: len(text) > 4, secrets):
        assert secret not in whole
        assert base64.b64encode(secret.encode()).decode() not in whole
    assert PASSWORD not in repr(result)


def _decoded(line: str) -> str:
    try:
        return base64.b64decode(line).decode("utf-8", "replace").replace("\0", " ").replace("\x01", " ")
    except ValueError:
        return ""


async def test_what_is_no_reply_is_only_noted() -> None:
    async with scripted_server({"EHLO": say_bytes(b"\xff\xfe what\r\n")}) as server:
        result = await probe(request(server.port))
    assert "-: [what came is no SMTP reply]" in lines(result)


async def test_a_refused_greeting_is_in_the_dialogue() -> None:
    async with scripted_server({"greeting": say("554 5.7.1 go away")}) as server:
        result = await probe(request(server.port))
    assert lines(result)[0] == "S: 554 5.7.1 go away"


async def test_the_test_mail_can_be_found_again() -> None:
    async with mail_server(auth_without_tls=True) as server:
        results = [await probe(request(server.port)) for _ in range(2)]
        assert [result.message_id for result in results] == [mail.message["Message-ID"] for mail in server.mails]
        assert len({result.message_id for result in results}) == 2
        assert (await probe(request(server.port, ProbeMode.AUTHENTICATE))).message_id is None
