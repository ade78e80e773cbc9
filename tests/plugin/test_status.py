"""`kubectl mailsettings status`: from objects to links, and how they look."""

from collections.abc import Container
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from mailsettings.api import names
from mailsettings.api.conditions import EXPLAIN
from mailsettings.plugin.status.chain import (
    Chain,
    Seen,
    State,
    provisioned_chain,
    secret_name,
    system_chain,
    tenant_chain,
    with_dialogue_of,
)
from mailsettings.plugin.status.show import brief, in_ascii, whole

NOW: Final = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
Json = dict[str, Any]

EFFECTIVE: Final = {
    "source": "Tenant", "settingsName": "mail", "settingsGeneration": 1, "provider": "Custom", "mailFrom": "Acme <a@b>",
    "host": "smtp.acme.example", "port": 587, "protocol": "smtp", "tls": "StartTLS", "auth": "Basic",
}  # fmt: skip


def condition(kind: str, status: str, reason: str, message: str = "As it should be.") -> Json:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-22T11:00:00Z",
        "observedGeneration": 1,
    }


def settings(
    *conditions: Json, kind: str = names.TENANT_KIND, generation: int = 1, spec: Json | None = None, **status: Any
) -> Json:
    metadata = {"name": "mail", "namespace": "shop"} if kind == names.TENANT_KIND else {"name": "default"}
    return {
        "kind": kind,
        "metadata": {**metadata, "generation": generation},
        "spec": spec or {},
        "status": {"observedGeneration": 1, "conditions": [*conditions], "effective": EFFECTIVE, **status},
    }


OWN: Final = {"mailFrom": "a@b", "connection": {"host": "smtp.acme.example"}}
GOOD: Final = (
    condition("Accepted", "True", "Accepted"),
    condition("CredentialsResolved", "True", "Resolved"),
    condition("ProbeSucceeded", "True", "ProbePassed"),
    condition("Delivered", "True", "Delivered"),
    condition("Ready", "True", "Ready"),
)
SYSTEM: Final = settings(*GOOD[:3], GOOD[4], kind=names.CLUSTER_KIND, tenants={"allowed": 2, "inheriting": 1})
REFUSED: Final = 'AUTH: the server refused the login with 535 5.7.8 "no". Check the user name and the password.'
FAILURE: Final = {
    "stage": "auth",
    "cause": "BadCredentials",
    "code": 535,
    "message": 'AUTH: smtp.acme.example:587 refused the login with 535 5.7.8 "no".',
    "remedy": "Check the user name and the password.",
    "docs": "docs/troubleshooting.md#badcredentials",
}
PROBE: Final = {
    "mode": "Authenticate",
    "lastProbeTime": "2026-11-22T11:57:00Z",
    "duration": "12ms",
    "consecutiveFailures": 3,
    "fingerprint": "x",
    "generation": 1,
    "failure": FAILURE,
}
FAILING: Final = (
    condition("ProbeSucceeded", "False", "BadCredentials", REFUSED),
    condition("Ready", "False", "BadCredentials", f"ProbeSucceeded: {REFUSED}"),
)
THERE: Final = Seen(metadata={"name": "mail-smtp"})


def own(*conditions: Json, secret: Seen = THERE, **status: Any) -> Chain:
    return tenant_chain(settings(*conditions, spec=OWN, **status), None, secret, NOW, may_read_system=True)


def lines(chain: Chain) -> list[str]:
    shown = [text for text, _ in whole(chain, 80)]
    assert max(map(len, shown)) <= 80
    return shown


def test_settings_that_work() -> None:
    chain = own(*GOOD)
    assert chain.state is State.GOOD
    assert chain.failing is None
    assert lines(chain) == [
        "✓ MailServerSettings shop/mail  Ready",
        "│ Custom, smtp.acme.example:587, TLS StartTLS, Basic, from Acme <a@b>",
        "├─ ✓ settings     Accepted",
        "├─ ✓ credentials  Resolved",
        "├─ ✓ probe        ProbePassed",
        "└─ ✓ Secret       Delivered, mail-smtp",
    ]
    assert brief(chain)[0] == "✓ MailServerSettings shop/mail  Ready  Secret mail-smtp"


def test_the_failing_link_is_marked_and_says_what_to_do() -> None:
    chain = own(*GOOD[:2], FAILING[0], GOOD[3], FAILING[1], probe=PROBE)
    assert chain.state is State.FAILED
    assert lines(chain)[4:] == [
        "├─ ✗ probe        BadCredentials, Authenticate, 3m ago, 12ms, 3 failures in a",
        "│                 row  <-- here",
        '│    AUTH: smtp.acme.example:587 refused the login with 535 5.7.8 "no".',
        "│    What to do: Check the user name and the password.",
        "│    More: kubectl mailsettings explain BadCredentials",
        "│          docs/troubleshooting.md#badcredentials",
        "└─ ✓ Secret       Delivered, mail-smtp",
    ]
    assert chain.failing is not None
    link = chain.failing[1]
    assert (link.reason, link.remedy, link.docs) == ("BadCredentials", FAILURE["remedy"], FAILURE["docs"])


SAID: Final = ["S: 220 mail.acme.example ESMTP", "C: AUTH PLAIN [redacted]", f"S: 535 5.7.8 {'no ' * 30}"]


@pytest.mark.parametrize(
    ("verdict", "states", "is_shown"),
    [
        (FAILING[0], {State.FAILED}, True),
        (FAILING[0], (), False),
        (GOOD[2], {State.FAILED}, False),
        (GOOD[2], State, True),
        (condition("ProbeSucceeded", "Unknown", "ProbePending"), {State.FAILED}, False),
    ],
)
def test_a_dialogue_is_shown_where_it_is_wanted(verdict: Json, states: Container[State], is_shown: bool) -> None:
    chain = own(*GOOD[:2], verdict, *GOOD[3:], probe={**PROBE, "dialogue": SAID})
    found = lines(with_dialogue_of(chain, states))
    assert ("│    What was said:" in found) == is_shown
    if is_shown:
        start = found.index("│    What was said:")
        assert found[start + 1 : start + 3] == [f"│      {line}" for line in SAID[:2]]
        assert found[start + 3].startswith("│      S: 535 5.7.8 no no")


def test_programs_get_the_dialogue_with_the_probe() -> None:
    chain = own(*GOOD[:2], FAILING[0], GOOD[4], probe={**PROBE, "dialogue": SAID})
    assert {link.name: link.dialogue for link in chain.last.links if link.dialogue} == {"probe": tuple(SAID)}


def test_a_failure_that_the_condition_does_not_speak_of_is_not_told() -> None:
    """Such as that of the probe before, while the condition says that the settings are being tested."""
    other = own(*GOOD[:2], FAILING[0], FAILING[1], probe={**PROBE, "failure": {**FAILURE, "cause": "DnsNotFound"}})
    assert other.failing is not None
    assert (other.failing[1].message, other.failing[1].remedy) == (REFUSED, "")
    pending = own(*GOOD[:2], condition("ProbeSucceeded", "Unknown", "BadCredentials"), FAILING[1], probe=PROBE)
    assert {link.remedy for link in pending.last.links} == {""}


WAITS: Final = "The next test waits: the bound is reached; there is room again at 2026-11-22T12:20:00Z."


def test_a_test_that_waits_is_told_before_a_failure() -> None:
    refused = f"{WAITS} {REFUSED} See {FAILURE['docs']} or `{EXPLAIN} BadCredentials`."
    failing = condition("ProbeSucceeded", "False", "BadCredentials", refused)
    chain = own(*GOOD[:2], failing, FAILING[1], probe=PROBE)
    assert chain.failing is not None
    link = chain.failing[1]
    assert (link.message, link.remedy, link.docs) == (
        f"{WAITS} {FAILURE['message']}",
        FAILURE["remedy"],
        FAILURE["docs"],
    )


@pytest.mark.parametrize("warning", ["", " Warning: it ends soon."])
def test_a_test_that_waits_is_told_of_settings_that_work(warning: str) -> None:
    good = condition("ProbeSucceeded", "True", "ProbePassed", f"{WAITS} The server accepted a test mail.{warning}")
    chain = own(*GOOD[:2], good, *GOOD[3:])
    assert chain.state is State.GOOD
    assert {link.name: link.message for link in chain.last.links if link.message} == {"probe": f"{WAITS}{warning}"}


def test_a_token_that_could_not_be_got_says_what_to_do() -> None:
    failure = {
        "cause": "TokenRevoked",
        "message": "It is revoked.",
        "remedy": "Authorize again.",
        "docs": "docs/troubleshooting.md#refreshtokenrevoked",
        "transient": False,
        "time": "2026-11-22T11:57:00Z",
        "consecutiveFailures": 1,
        "attempt": "x",
    }
    oauth2 = {"tokenState": "Revoked", "account": "a@b", "failure": failure}
    chain = own(
        *GOOD[:2],
        condition("Authorized", "False", "TokenRevoked", "x"),
        condition("Ready", "False", "TokenRevoked", "x"),
        oauth2=oauth2,
    )
    assert [line.strip("│ └─├✗") for line in lines(chain)[5:]] == [
        "It is revoked.",
        "What to do: Authorize again.",
        "More: kubectl mailsettings explain TokenRevoked",
        "docs/troubleshooting.md#refreshtokenrevoked",
    ]


def test_what_is_inherited_is_said_of_the_system_once() -> None:
    failing = (
        condition("ProbeSucceeded", "False", "Refused", REFUSED),
        condition("Ready", "False", "Refused", REFUSED),
    )
    system = settings(*GOOD[:2], *failing, kind=names.CLUSTER_KIND, effective=None)
    tenant = settings(*GOOD[:2], failing[0], GOOD[3], failing[1], effective=None)
    chain = tenant_chain(tenant, system, THERE, NOW, may_read_system=True)
    assert chain.failing is not None
    assert chain.failing[0].kind == names.CLUSTER_KIND
    assert [line for line in lines(chain) if REFUSED[:9] not in line and "password" not in line] == [
        "✗ ClusterMailServerSettings default  Refused",
        "├─ ✓ settings     Accepted",
        "├─ ✓ credentials  Resolved",
        "├─ ✗ probe        Refused  <-- here",
        "│    More: kubectl mailsettings explain Refused",
        "└─ ✗ MailServerSettings shop/mail  Refused",
        "   ├─ ✓ settings     Accepted",
        "   └─ ✓ Secret       Delivered, mail-smtp",
    ]


def test_a_system_that_may_not_be_read_is_unknown_and_no_failure() -> None:
    tenant = settings(*GOOD, effective=None)
    chain = tenant_chain(tenant, None, Seen(is_readable=False), NOW, may_read_system=False)
    assert chain.state is State.GOOD
    assert lines(chain) == [
        "? ClusterMailServerSettings default",
        "├─ ? settings     you may not read it",
        "└─ ✓ MailServerSettings shop/mail  Ready",
        "   ├─ ✓ settings     Accepted",
        "   ├─ ✓ credentials  Resolved",
        "   ├─ ✓ probe        ProbePassed",
        "   └─ ✓ Secret       Delivered, mail-smtp, you may not read it",
    ]


def test_a_system_that_is_missing_is_the_failing_link() -> None:
    failing = condition("Accepted", "False", "SystemSettingsNotFound", "There is no such thing.")
    tenant = settings(failing, condition("Ready", "False", "SystemSettingsNotFound"))
    chain = tenant_chain(tenant, None, Seen(), NOW, may_read_system=True)
    assert chain.failing is not None
    assert (chain.failing[0].title, chain.failing[1].reason) == (
        "ClusterMailServerSettings default",
        "SystemSettingsNotFound",
    )


def test_a_secret_that_is_gone_is_waited_for() -> None:
    chain = own(*GOOD, secret=Seen())
    assert chain.state is State.WAITING
    assert chain.failing is not None
    assert chain.failing[1].reason == "Gone"


@pytest.mark.parametrize("document", [settings(*GOOD, spec=OWN, generation=2), {**settings(spec=OWN), "status": None}])
def test_what_the_operator_has_not_seen_is_waited_for(document: Json) -> None:
    chain = tenant_chain(document, None, THERE, NOW, may_read_system=True)
    assert chain.state is State.WAITING
    assert chain.failing is not None
    assert chain.failing[1].name == "operator"
    assert "the operator does not run" in chain.failing[1].message


def test_a_status_of_another_version_is_as_if_it_were_not_there() -> None:
    document = {**settings(spec=OWN), "status": {"conditions": "none"}}
    assert tenant_chain(document, None, THERE, NOW, may_read_system=True).state is State.WAITING


def test_a_token_says_how_long_it_lives_and_what_runs_out() -> None:
    oauth2 = {
        "tokenState": "Generated", "account": "a@b", "accessTokenExpiresAt": "2026-11-22T13:00:00Z",
        "warnings": [{"cause": "ClientSecret", "message": "The client secret runs out."}],
    }  # fmt: skip
    chain = own(GOOD[0], condition("Authorized", "True", "Authorized"), *GOOD[1:], oauth2=oauth2)
    at = lines(chain).index("├─ ✓ token        Authorized, Generated, a@b, runs out in 60m")
    assert lines(chain)[at + 1] == "│    The client secret runs out."


def test_the_system_tells_of_its_tenants() -> None:
    chain = system_chain(SYSTEM, NOW)
    assert lines(chain)[-1] == "└─ ✓ tenants      2 allowed, 1 inheriting"
    status = {
        **SYSTEM["status"],
        "tenants": {"allowed": 2, "inheriting": 1, "failures": [{"namespace": "a", "reason": "B"}]},
    }
    assert lines(system_chain({**SYSTEM, "status": status}, NOW))[-1].endswith("cannot be served: a: B.")


MESSAGES: Final = {
    "accepted": 12,
    "denied": 2,
    "refused": 0,
    "failed": 0,
    "unknown": 0,
    "since": "2026-11-22T11:00:00Z",
}
LAST_REFUSAL: Final = {
    "time": "2026-11-22T11:57:00Z", "outcome": "denied", "code": 550, "enhancedCode": "5.7.1", "rule": "allowedFrom",
    "message": "allowedFrom: these settings may not send with this envelope sender",
}  # fmt: skip


@pytest.mark.parametrize(
    ("relay", "shown"),
    [
        ({"username": "shop.mail"}, ["└─ ✓ relay        shop.mail, 0 accepted"]),
        (
            {"username": "shop.mail", "messages": MESSAGES, "lastRefusal": LAST_REFUSAL},
            [
                "└─ ✓ relay        shop.mail, 12 accepted, 2 denied",
                "     The last message that was not accepted, 3m ago: denied with 550 5.7.1",
                "     allowedFrom: these settings may not send with this envelope sender",
            ],
        ),
        ({"lastHandledRequest": "1"}, []),
    ],
)
def test_what_the_relay_has_sent(relay: Json, shown: list[str]) -> None:
    chain = own(*GOOD, relay=relay)
    assert chain.state is State.GOOD
    assert lines(chain)[6:] == shown


def test_what_the_relay_has_sent_for_all_tenants() -> None:
    status = {**SYSTEM["status"], "relay": {"messages": MESSAGES}}
    assert "├─ ✓ relay        12 accepted, 2 denied" in lines(system_chain({**SYSTEM, "status": status}, NOW))


def test_a_namespace_without_settings_lives_on_the_systems() -> None:
    chain = provisioned_chain("blog", {"name": "default-smtp"}, SYSTEM, NOW)
    assert chain.state is State.GOOD
    assert lines(chain)[-2:] == ["└─ ✓ Namespace blog  Ready", "   └─ ✓ Secret       default-smtp"]
    assert provisioned_chain("blog", {"name": "default-smtp"}, None, NOW).state is State.UNKNOWN


def test_warnings_of_settings_that_are_accepted_are_shown() -> None:
    accepted = condition("Accepted", "True", "Accepted", "Complete. Warning: it goes away. Warning: so does that.")
    assert lines(own(accepted, *GOOD[1:]))[3] == "│    Warning: it goes away. Warning: so does that."


def test_a_secret_has_the_name_that_is_bound_or_wished_for_or_usual() -> None:
    assert secret_name(settings()) == "mail-smtp"
    assert secret_name(settings(spec={"output": {"secretName": "x"}})) == "x"
    assert secret_name(settings(spec={"output": {"secretName": "x"}}, binding={"name": "y"})) == "y"


def test_lines_in_ascii() -> None:
    shown = [in_ascii(line) for line in lines(own(*GOOD))]
    assert all(map(str.isascii, shown))
    assert shown[-1] == "`- + Secret       Delivered, mail-smtp"
