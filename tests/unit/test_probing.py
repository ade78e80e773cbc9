"""Whether to probe, and what a result means."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailsettings.api.conditions import Reason, waiting_in
from mailsettings.api.status import ProbeStatus
from mailsettings.core.credentials import ResolvedSettings
from mailsettings.core.digest import Digester
from mailsettings.core.finding import Finding
from mailsettings.core.probe import (
    Certificate,
    Hold,
    Line,
    Origin,
    ProbeFailure,
    ProbeResult,
    ServerFacts,
    Speaker,
    Stage,
    StageTime,
)
from mailsettings.core.probing import (
    TRIED_AGAIN,
    FinishedProbe,
    ProbeSubject,
    due_at,
    held_back,
    is_held_back,
    probe_subject,
    record,
    remembered,
    verdict,
)
from mailsettings.core.schedule import FIRST_RETRY, FIRST_RETRY_AFTER_REFUSAL, JITTER
from mailsettings.core.sender_dns import Sender
from tests.unit.builders import resolved

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DIGEST = Digester(b"k" * 32)
ORIGIN = Origin("MailServerSettings acme/mail", "acme")
BAD = ProbeFailure(Stage.AUTH, Reason.BAD_CREDENTIALS, "refused", 535, "5.7.8")


def subject(
    settings: ResolvedSettings | None = None, *, generation: int = 1, requested_at: str | None = None, **fields: Any
) -> ProbeSubject:
    made = probe_subject(
        settings or resolved(**fields),
        DIGEST,
        ORIGIN,
        uid="uid",
        generation=generation,
        requested_at=requested_at,
    )
    assert made is not None
    return made


def finished(tested: ProbeSubject, failure: ProbeFailure | None = None, *, at: datetime = NOW) -> FinishedProbe:
    return FinishedProbe(tested, ProbeResult(timedelta(milliseconds=180), failure), at)


def passed_status(tested: ProbeSubject) -> ProbeStatus:
    return record(finished(tested), None)


def found(tested: ProbeSubject, status: ProbeStatus | None, *, suspend: bool = False) -> Finding:
    return verdict(tested, status, suspend=suspend)


def test_disabled_probes_have_no_subject() -> None:
    settings = resolved(probe={"mode": "Disabled"})
    assert probe_subject(settings, DIGEST, ORIGIN, uid="u", generation=1, requested_at=None) is None


@pytest.mark.parametrize(
    "change",
    [
        {"connection": {"host": "other.example"}},
        {"connection": {"host": "smtp.acme.example", "port": 2525}},
        {"connection": {"host": "smtp.acme.example", "timeout": "3s"}},
        {"connection": {"host": "smtp.acme.example", "tls": {"minVersion": "TLSv1.3"}}},
        {"connection": {"host": "smtp.acme.example", "tls": {"serverName": "x.example"}}},
        {"password": b"rotated"},
        {"auth": None},
        {"probe": {"mode": "Connect"}},
        {"probe": {"mode": "Send", "recipient": "a@b.example"}},
    ],
)
def test_whatever_a_probe_depends_on_leads_to_a_new_one(change: dict[str, Any]) -> None:
    status = passed_status(subject())
    assert due_at(subject(**change), status) is None


@pytest.mark.parametrize("change", [{"replyTo": "a@b.example"}, {"mailFrom": "other@acme.example"}])
def test_what_a_login_does_not_depend_on_leads_to_none(change: dict[str, Any]) -> None:
    status = passed_status(subject())
    due = due_at(subject(**change, generation=2), status)
    assert due is not None
    assert NOW + timedelta(hours=5) < due <= NOW + timedelta(hours=6)


def test_fingerprint_does_not_give_the_password_away_nor_depends_on_the_process() -> None:
    first = subject().fingerprint
    assert first == subject().fingerprint
    other = probe_subject(resolved(), Digester(b"x" * 32), ORIGIN, uid="uid", generation=1, requested_at=None)
    assert other is not None
    assert other.fingerprint != first


def test_a_request_leads_to_one_probe() -> None:
    asked = subject(requested_at="now")
    status = passed_status(subject())
    assert due_at(asked, status) is None
    assert due_at(asked, record(finished(asked), status)) is not None


def test_failures_are_counted_and_a_success_ends_the_count() -> None:
    tested = subject()
    once = record(finished(tested, BAD), passed_status(tested))
    twice = record(finished(tested, BAD), once)
    healed = record(finished(tested), twice)

    assert (once.consecutive_failures, twice.consecutive_failures, healed.consecutive_failures) == (1, 2, 0)
    assert twice.last_success_time == "2026-01-01T12:00:00Z"
    assert twice.failure is not None
    assert (twice.failure.stage, twice.failure.code, twice.failure.enhanced_code) == ("auth", 535, "5.7.8")
    assert healed.failure is None


def test_verdict_is_unknown_until_the_changed_spec_is_tested() -> None:
    assert found(subject(), None).status is None
    assert found(subject(password=b"x", generation=2), passed_status(subject())).status is None


def test_while_suspended_the_last_verdict_stands() -> None:
    untested = found(subject(), None, suspend=True)
    assert (untested.status, untested.reason) == (None, Reason.SUSPENDED)
    tested = passed_status(subject())
    assert found(subject(password=b"x", generation=2), tested, suspend=True).status is True


def test_verdict_stands_while_only_a_secrets_content_has_changed() -> None:
    assert found(subject(password=b"rotated"), passed_status(subject())).status is True


def test_verdict_of_a_failure_is_the_failures_reason() -> None:
    failure = found(subject(), record(finished(subject(), BAD), None))
    assert (failure.status, failure.reason, failure.message) == (False, Reason.BAD_CREDENTIALS, "refused")


def test_verdict_says_what_to_do_and_where_more_is_told() -> None:
    failure = replace(BAD, message="No.", remedy="Do.", docs="docs/a.md#b")
    status = record(finished(subject(), failure), None)
    assert status.document()["failure"] == {
        "stage": "auth",
        "cause": "BadCredentials",
        "code": 535,
        "enhancedCode": "5.7.8",
        "message": "No.",
        "remedy": "Do.",
        "docs": "docs/a.md#b",
        "transient": False,
    }
    said = "No. Do. See docs/a.md#b or `kubectl mailsettings explain BadCredentials`."
    verdict = found(subject(), status)
    assert verdict.message == said
    assert verdict.advice == f"Do. {TRIED_AGAIN}"
    assert "mailsettings.dev/probe-requested-at" in TRIED_AGAIN


@pytest.mark.parametrize("is_transient", [True, False])
def test_what_may_pass_is_tried_sooner_and_stalls_nothing_whatever_its_reason(is_transient: bool) -> None:
    """A host name that is wrong and name servers that do not answer have one cause."""
    failure = ProbeFailure(Stage.RESOLVE, Reason.DNS_NOT_FOUND, "No.", is_transient=is_transient)
    status = record(finished(subject(), failure), None)
    assert found(subject(), status).needs_person is not is_transient
    first_retry = FIRST_RETRY if is_transient else FIRST_RETRY_AFTER_REFUSAL
    due = due_at(subject(), status)
    assert due is not None
    assert first_retry * (1 - JITTER) - timedelta(seconds=1) <= due - NOW <= first_retry


@pytest.mark.parametrize(
    ("reason", "stage", "token", "is_lenient"),
    [
        (Reason.BAD_CREDENTIALS, Stage.AUTH, "serial", True),
        (Reason.WRONG_TOKEN_SCOPE_OR_AUDIENCE, Stage.AUTH, "serial", True),
        (Reason.MAILBOX_NOT_PERMITTED, Stage.AUTH, "serial", True),
        (Reason.SMTP_AUTH_DISABLED_MAILBOX, Stage.AUTH, "serial", False),
        (Reason.SENDER_NOT_ALLOWED, Stage.MAIL, "serial", False),
        (Reason.BAD_CREDENTIALS, Stage.AUTH, None, False),
    ],
)
def test_a_refused_token_needs_a_person_only_if_a_renewed_one_is_refused_too(
    reason: Reason, stage: Stage, token: str | None, is_lenient: bool
) -> None:
    tested = replace(subject(), token=token)
    failure = ProbeFailure(stage, reason, "No.")
    once = record(finished(tested, failure), passed_status(tested))
    twice = record(finished(tested, failure), once)
    assert [found(tested, status).needs_person for status in (once, twice)] == [not is_lenient, True]
    assert (due_at(replace(tested, token="another"), once) is None) == is_lenient
    assert due_at(replace(tested, token="another"), twice) is not None


def test_the_provider_is_part_of_what_is_tested() -> None:
    """By it the same words of a server mean something else."""
    custom, office = subject(), subject(connection={"host": "smtp.acme.example"}, provider="Office365")
    assert (custom.request.provider, office.request.provider) == ("Custom", "Office365")
    assert custom.fingerprint != office.fingerprint


def seen(*days: int, **facts: Any) -> ProbeStatus:
    """The status after a probe of a server whose certificates end so many days later."""
    chain = tuple(Certificate(f"CN={each}", "CN=ca", NOW + timedelta(days=each)) for each in days)
    server = ServerFacts("TLSv1.3", "AES", chain, mechanisms=("PLAIN",), size=1000)
    stages = (StageTime(Stage.CONNECT, timedelta(milliseconds=2.6)), StageTime(Stage.TLS, timedelta(0)))
    tested = subject()
    result = ProbeResult(timedelta(milliseconds=180), server=replace(server, **facts), stages=stages)
    return record(FinishedProbe(tested, result, NOW), None)


def test_what_was_seen_is_in_the_status() -> None:
    assert seen(90, 300).document() | {"fingerprint": ""} == {
        **passed_status(subject()).document(),
        "fingerprint": "",
        "server": {
            "tlsVersion": "TLSv1.3",
            "cipher": "AES",
            "certificate": {"subject": "CN=90", "issuer": "CN=ca", "expiresAt": "2026-04-01T12:00:00Z"},
            "chain": [
                {"subject": "CN=90", "issuer": "CN=ca", "expiresAt": "2026-04-01T12:00:00Z"},
                {"subject": "CN=300", "issuer": "CN=ca", "expiresAt": "2026-10-28T12:00:00Z"},
            ],
            "mechanisms": ["PLAIN"],
            "size": 1000,
        },
        "stages": [{"name": "connect", "duration": "3ms"}, {"name": "tls", "duration": "0ms"}],
    }
    assert passed_status(subject()).server is None


@pytest.mark.parametrize(
    ("days", "warned"), [((90,), False), ((14,), False), ((13,), True), ((90, 5), True), ((), False)]
)
def test_a_certificate_that_ends_soon_is_warned_of(days: tuple[int, ...], warned: bool) -> None:
    verdict = found(subject(), seen(*days))
    assert verdict.holds
    assert ("Warning: the certificate of CN=" in verdict.message) == warned
    # The same however often it is looked at.
    assert verdict == found(subject(), seen(*days))


def test_the_dialogue_is_kept_whether_the_probe_passed_or_not_and_its_middle_left_out_where_it_is_long() -> None:
    def kept(*texts: str, failure: ProbeFailure | None = None) -> list[str] | None:
        dialogue = tuple(Line(Speaker.SERVER, text, timedelta()) for text in texts)
        result = ProbeResult(timedelta(milliseconds=180), failure, dialogue=dialogue)
        return record(FinishedProbe(subject(), result, NOW), seen(90)).dialogue

    assert kept("220 a", "250 b") == kept("220 a", "250 b", failure=BAD) == ["S: 220 a", "S: 250 b"]
    assert kept() is None, "nothing of the probe before"
    long = kept(*(f"250 {n} {'x' * 90}" for n in range(100)))
    assert long is not None
    assert (long[0][:8], long[-1][:9]) == ("S: 250 0", "S: 250 99")
    assert [line for line in long if line.startswith("-: [") and line.endswith(" lines are left out]")]
    assert 3500 < len("\n".join(long)) <= 4096


def test_of_a_verified_server_the_trusted_certificates_are_warned_of() -> None:
    soon, late = (Certificate(f"CN={days}", "CN=ca", NOW + timedelta(days=days)) for days in (5, 90))
    assert found(subject(), seen(90, trusted=(late, soon))).message.count("the certificate of CN=5") == 1
    assert "Warning" not in found(subject(), seen(5, trusted=(late,))).message


def test_a_forged_date_is_not_believed() -> None:
    status = seen(5)
    assert status.server is not None
    assert status.server.certificate is not None
    forged = status.server.certificate.model_copy(update={"expires_at": "soon"})
    server = status.server.model_copy(update={"certificate": forged})
    assert remembered(status.model_copy(update={"server": server})) is None
    assert remembered(status) == status


HOLD = Hold("this namespace's bound is reached", NOW + timedelta(minutes=20))


def test_a_probe_that_could_send_no_mail_tells_nothing_of_the_settings() -> None:
    tested = subject(probe={"mode": "Send", "recipient": "ops@acme.example"})
    assert is_held_back(replace(finished(tested), result=ProbeResult(timedelta(), BAD, hold=HOLD)))
    uncounted = replace(HOLD, until=None)
    assert is_held_back(replace(finished(tested), result=ProbeResult(timedelta(), BAD, hold=uncounted)))
    assert not is_held_back(finished(tested, BAD))


def test_what_waits_for_the_bound_says_so_and_until_when() -> None:
    waits = "The next test waits: this namespace's bound is reached; there is room again at 2026-01-01T12:20:00Z."
    tested = subject()
    never = held_back(found(tested, None), HOLD)
    assert (never.status, never.reason, never.message) == (None, Reason.MAIL_LIMIT_REACHED, waits)
    good = held_back(found(tested, passed_status(tested)), HOLD)
    assert (good.status, good.reason) == (True, Reason.PROBE_PASSED)
    assert good.message == f"{waits} The server was reached and accepted the login."
    bad = held_back(found(tested, record(finished(tested, BAD), None)), HOLD)
    assert (bad.status, bad.reason) == (False, Reason.BAD_CREDENTIALS)
    assert bad.message == f"{waits} {BAD.explained}", "the plugin looks for links and commands at its end"
    assert [waiting_in(each.message) for each in (never, good, bad)] == [waits] * 3
    assert waiting_in(BAD.explained) == ""


def test_whose_account_a_mail_is_on_is_no_part_of_what_is_tested() -> None:
    sends = resolved(probe={"mode": "Send", "recipient": "ops@acme.example"})
    here, there = (
        probe_subject(sends, DIGEST, replace(ORIGIN, namespace=each), uid="u", generation=1, requested_at=None)
        for each in ("a", "b")
    )
    assert here is not None
    assert there is not None
    assert here.fingerprint == there.fingerprint


def behind(**proxy: Any) -> ProbeSubject:
    spec = {"protocol": "HTTP", "host": "p.example", "port": 3128, **proxy}
    return subject(connection={"host": "smtp.acme.example", "proxy": spec})


def test_a_proxy_and_its_login_are_part_of_what_is_tested() -> None:
    login = {"basic": {"username": "u", "passwordSecretRef": {"name": "smtp", "key": "password"}}}
    fingerprints = {behind().fingerprint, behind(port=1).fingerprint, behind(**login).fingerprint}
    assert len({*fingerprints, subject().fingerprint}) == 4
    assert behind().fingerprint == behind().fingerprint


def test_the_clusters_name_is_no_part_of_what_is_tested() -> None:
    sends = resolved(probe={"mode": "Send", "recipient": "ops@acme.example"})
    subjects = [
        probe_subject(sends, DIGEST, replace(ORIGIN, cluster=cluster), uid="u", generation=1, requested_at=None)
        for cluster in ("a", "b")
    ]
    assert [each.request.mail.origin.cluster for each in subjects if each and each.request.mail] == ["a", "b"]
    assert len({each.fingerprint for each in subjects if each}) == 1


def checking(mail_from: str = "a@acme.example") -> ProbeSubject:
    settings = resolved(mailFrom=mail_from)
    made = probe_subject(settings, DIGEST, ORIGIN, uid="uid", generation=1, requested_at=None, checks_sender=True)
    assert made is not None
    return made


def test_senders_domain_is_part_of_what_is_tested_where_it_is_looked_at() -> None:
    assert subject().request.sender is None
    assert checking("A <a@acme.example>").request.sender == Sender("acme.example", "Custom")
    assert checking("a@acme.example").fingerprint == checking("b@acme.example").fingerprint
    assert (
        len({checking("a@acme.example").fingerprint, checking("a@b.example").fingerprint, subject().fingerprint}) == 3
    )


def test_warnings_about_the_sender_are_in_status_and_message() -> None:
    tested = checking()
    result = ProbeResult(timedelta(milliseconds=180), warnings=("it has no SPF record", "it has no MX"))
    status = record(FinishedProbe(tested, result, NOW), None)
    assert status.document()["warnings"] == ["it has no SPF record", "it has no MX"]
    verdict = found(tested, status)
    assert verdict.holds
    assert verdict.message.endswith(" Warning: it has no SPF record. Warning: it has no MX.")
    assert "warnings" not in passed_status(subject()).document()
