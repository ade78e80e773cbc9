"""What `test` makes of manifests and of what a MailServerTest says."""

import time
from collections.abc import Iterator
from typing import Any, Final, cast

import pytest

from mailsettings.plugin.command import CommandError
from mailsettings.plugin.connection import ObjectApi
from mailsettings.plugin.test.follow import Follower
from mailsettings.plugin.test.manifest import inline_settings
from mailsettings.plugin.test.outcome import (
    document_of,
    is_seen,
    said_of,
    stage_lines,
    state_of,
    summary_lines,
    title_of,
)
from mailsettings.plugin.test.run import LOOK_S, states

MANIFEST: Final = """\
apiVersion: v1
kind: Secret
metadata: {name: smtp}
---
apiVersion: mailsettings.dev/v1alpha1
kind: MailServerSettings
metadata: {name: mail}
spec:
  mailFrom: a@acme.example
  connection: {host: smtp.acme.example, port: 587}
  suspend: true
  probe: {mode: Send, recipient: b@acme.example}
---
"""
INHERITING: Final = "kind: MailServerSettings\nmetadata: {name: other}\nspec: {mailFrom: a@acme.example}\n"
SERVER: Final = {"mailFrom": "a@acme.example", "connection": {"host": "smtp.acme.example", "port": 587}}


@pytest.mark.parametrize("name", [None, "mail"])
def test_server_of_a_manifest_is_what_is_tried(name: str | None) -> None:
    assert inline_settings(MANIFEST, name) == SERVER


def test_of_several_settings_one_is_named() -> None:
    assert inline_settings(f"{MANIFEST}{INHERITING}", "mail") == SERVER


def test_a_spec_alone_and_json_will_do() -> None:
    assert inline_settings('{"mailFrom": "a@acme.example", "provider": "Google", "output": {}}', None) == {
        "mailFrom": "a@acme.example",
        "provider": "Google",
    }


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("a: [", None, "no YAML"),
        ("", None, "no settings of a mail server"),
        ("- 1", None, "no settings of a mail server"),
        (MANIFEST, "absent", "no settings named 'absent'"),
        (f"{MANIFEST}{INHERITING}", None, "several settings of a mail server; name the ones"),
        (INHERITING, None, "use the system's server"),
        ("kind: MailServerSettings\nspec: 5", None, "no settings of a mail server"),
    ],
)
def test_file_that_says_no_server_is_refused(text: str, name: str | None, message: str) -> None:
    with pytest.raises(CommandError, match=message) as caught:
        inline_settings(text, name)
    assert caught.value.reason == "FileInvalid"


def condition(kind: str, status: str, reason: str = "BadCredentials") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": "Renew the password."}


def mail_test(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "mail-abcde", "namespace": "shop"}, "status": status}


FAILED: Final = mail_test(
    observedGeneration=1,
    conditions=[condition("Complete", "True"), condition("Succeeded", "False")],
    mode="Authenticate",
    effective={"host": "smtp.acme.example", "port": 587, "tls": "StartTLS"},
    duration="41ms",
    stages=[{"name": "connect", "duration": "12ms"}, {"name": "auth", "duration": "29ms"}],
    failure={"stage": "auth", "cause": "BadCredentials", "message": "Renew the password."},
    server={
        "tlsVersion": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "chain": [
            {"subject": "CN=smtp", "issuer": "CN=ca", "expiresAt": "2027-01-01T00:00:00Z"},
            {"subject": "CN=ca", "issuer": "CN=root", "expiresAt": "2028-01-01T00:00:00Z"},
        ],
        "mechanisms": ["PLAIN", "LOGIN"],
        "size": 1000,
    },
    dialogue=["S: 220 hello"],
)


def test_how_it_ended_is_told_with_what_to_do() -> None:
    assert said_of(FAILED, {}) == [
        "BadCredentials: Renew the password.",
        "More: kubectl mailsettings explain BadCredentials",
    ]
    failure = {**FAILED["status"]["failure"], "message": "No.", "remedy": "Renew it.", "docs": "docs/a.md#b"}
    told = said_of({**FAILED, "status": {**FAILED["status"], "failure": failure}}, {})
    more = "More: kubectl mailsettings explain BadCredentials"
    assert told == ["BadCredentials: No.", "What to do: Renew it.", more, "      docs/a.md#b"]
    other = said_of({**FAILED, "status": {**FAILED["status"], "failure": {**failure, "cause": "DnsNotFound"}}}, {})
    assert other == ["BadCredentials: Renew the password.", more]
    ended = [condition("Complete", "True"), condition("Succeeded", "True")]
    assert said_of(mail_test(conditions=ended, failure=failure), {}) == ["BadCredentials: Renew the password."]


def test_stages_are_shown_with_their_times_and_the_failing_one_is_marked() -> None:
    assert title_of(FAILED) == "smtp.acme.example:587, TLS StartTLS, up to Authenticate"
    assert [*stage_lines(FAILED), *summary_lines(FAILED)] == [
        "  connect       12ms",
        "  auth          29ms  failed here",
        "  in all        41ms",
        "  TLSv1.3 TLS_AES_256_GCM_SHA384",
        "  certificate of CN=smtp",
        "    by CN=ca",
        "    until 2027-01-01T00:00:00Z",
        "  certificate of CN=ca",
        "    by CN=root",
        "    until 2028-01-01T00:00:00Z",
        "  login by PLAIN, LOGIN",
        "  mails up to 1000 bytes",
    ]


def test_program_gets_the_whole_result() -> None:
    document = document_of(FAILED)
    assert (document["name"], document["succeeded"], document["reason"]) == ("mail-abcde", False, "BadCredentials")
    assert document["dialogue"] == ["S: 220 hello"]
    assert document["failure"]["stage"] == "auth"
    assert "effective" not in document


def test_test_that_nobody_has_looked_at_waits() -> None:
    fresh = mail_test(observedGeneration=-1)
    assert not is_seen(fresh)
    state = state_of(fresh)
    assert (state.ended, state.succeeded, state.reason) == (False, False, "TestWaiting")
    assert [*stage_lines(fresh), *summary_lines(fresh)] == []
    assert title_of(fresh) == ""


def stages(**durations: str) -> list[dict[str, str]]:
    return [{"name": name, "duration": duration} for name, duration in durations.items()]


def test_stages_are_told_as_they_come_each_turn_by_itself() -> None:
    told: list[str] = []
    follower = Follower(told.append, told.append)
    effective = FAILED["status"]["effective"]
    for status in (
        {},
        {"effective": effective, "mode": "Authenticate", "stage": "connect"},
        {"effective": effective, "mode": "Authenticate", "stages": stages(connect="12ms"), "stage": "ehlo"},
        {"effective": effective, "mode": "Authenticate", "stages": stages(connect="12ms", ehlo="3ms"), "stage": "tls"},
        {"effective": effective, "mode": "Authenticate", "stages": stages(connect="12ms", ehlo="3ms", tls="9ms")},
        {"effective": effective, "mode": "Authenticate", "stages": stages(connect="12ms", ehlo="5ms", tls="9ms")},
        {
            "effective": effective,
            "mode": "Authenticate",
            "stages": stages(connect="12ms", ehlo="5ms", tls="9ms", auth="29ms"),
            "failure": {"stage": "auth"},
        },
    ):
        follower.look(mail_test(**status))
    assert told == [
        "smtp.acme.example:587, TLS StartTLS, up to Authenticate",
        "  connect       12ms",
        "  ehlo           3ms",
        "  tls            9ms",
        "  ehlo           2ms",
        "  auth          29ms  failed here",
    ]


def test_test_that_is_over_at_once_is_told_at_once() -> None:
    told: list[str] = []
    Follower(told.append, told.append).look(FAILED)
    assert told == [title_of(FAILED), *stage_lines(FAILED)]


class Hanging:
    """An API server of which no watch works, and the first look gets no answer."""

    def __init__(self) -> None:
        self.looks_s: list[float] = []

    def watch_object(self, *_: object, **__: object) -> Iterator[tuple[str, Any]]:
        raise ConnectionRefusedError

    def get(self, _path: str, *, timeout_s: float) -> dict[str, Any]:
        self.looks_s.append(timeout_s)
        if len(self.looks_s) == 1:
            raise TimeoutError
        return {"metadata": {"name": "a", "resourceVersion": "2"}}


def test_a_look_that_hangs_leaves_time_for_another() -> None:
    api = Hanging()
    test = {"metadata": {"name": "a", "namespace": "shop", "resourceVersion": "1"}}
    seen = next(states(cast("ObjectApi", api), test, time.monotonic() + 600))
    assert seen["metadata"]["resourceVersion"] == "2"
    assert api.looks_s == [LOOK_S, LOOK_S]
