"""`kubectl mailsettings explain`: whatever a person can be told in place of a reason is explained, offline."""

import json
import re
from pathlib import Path
from typing import Final

import pytest
import yaml

from mailsettings.api.conditions import ConditionType, Reason
from mailsettings.core.causes.catalog import CATALOG, SHAPE_OF_PASSWORD
from mailsettings.core.causes.cause import Cause
from mailsettings.core.causes.reasons import REASONS
from mailsettings.plugin.explain.own import OWN
from mailsettings.plugin.explain.terms import TERMS, Group, causes_of, find, near, paragraphs
from tests.plugin.test_command_line import ROOT, plugin
from tests.support.plugin import Person, install

PLUGIN: Final = ROOT / "operator" / "mailsettings" / "plugin"


def said(*arguments: str) -> str:
    ended = plugin("explain", *arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


@pytest.mark.parametrize("name", [*Cause, *Reason, *ConditionType, *OWN])
def test_every_word_that_a_person_can_see_is_explained(name: str) -> None:
    assert find(str(name))
    assert [term.name for term in find(name.upper())] == [str(name)] * len(find(name))
    for term in find(name):
        told = paragraphs(term)
        assert told[0].startswith(str(name))
        assert "`" not in "".join(line for line in told if not line.startswith(" "))


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_that_a_person_must_act_on_says_what_to_do(reason: Reason) -> None:
    for term in find(reason):
        if term.group in (Group.CAUSE, Group.REASON) and reason.needs_person:
            told = "\n".join(paragraphs(term))
            assert "What to do: " in told or "The condition's message says which it is:" in told


def test_every_reason_of_the_plugins_own_is_in_the_table() -> None:
    """Read off the sources: what is raised, shown as a link or put into a document."""
    text = "\n".join(file.read_text() for file in sorted(PLUGIN.rglob("*.py")))
    raised = re.findall(r'CommandError\(\s*"(\w+)"', text)
    linked = re.findall(r'Link\("\w+", State\.\w+, "(\w+)"', text)
    told = re.findall(r'reason="(\w+)"', text)
    assert {"TimedOut", "NotObserved", "Superseded", "Inherited"} <= {*raised, *linked, *told}
    assert {*raised, *linked, *told} <= {*OWN, *Reason}


def test_a_cause() -> None:
    text = said("securityDEFAULTS")
    assert text.startswith("SecurityDefaults: Entra security defaults block the sign-in\n")
    assert "What to do: Use auth.oauth2." in text
    assert "Whose move: the admin's." in text
    assert text.endswith("More: docs/troubleshooting.md#securitydefaults\n")


def test_a_command_keeps_its_lines() -> None:
    first, second = SHAPE_OF_PASSWORD.splitlines()
    assert f"\n    {first}\n    {second}\n" in said("BadCredentials")


def test_a_cause_that_conditions_call_otherwise() -> None:
    assert said("RefreshTokenRevoked").endswith("Conditions have the reason TokenRevoked for it.\n")


def test_a_reason_of_one_cause_is_explained_by_that() -> None:
    text = said("token-revoked")
    assert text.startswith("TokenRevoked, a reason of conditions and events: ")
    assert "RefreshTokenRevoked: The refresh token was withdrawn" in text
    assert text.endswith("More: docs/troubleshooting.md#refreshtokenrevoked\n")
    assert "More: docs/troubleshooting.md#consentrequired" in said("ConsentDenied")


def test_a_reason_of_several_causes_names_them() -> None:
    assert "    kubectl mailsettings explain RedirectUriMismatch\n" in said("ClientNotPermitted")
    assert causes_of(Reason.SECRET_NOT_FOUND) == []
    assert all(causes_of(reason) for reason in REASONS.values())


def test_a_reason_without_a_cause() -> None:
    text = said("SecretNotFound")
    assert "What to do: Create the Secret that the condition's message names" in text
    assert text.endswith("Waiting does not help.\n")
    assert "More: docs/security.md#egress-policy\n" in said("EgressDenied")


@pytest.mark.parametrize("reason", Reason)
def test_who_is_told_to_wait_is_not_told_that_waiting_does_not_help(reason: Reason) -> None:
    for term in find(reason):
        told = "\n".join(paragraphs(term))
        assert "What to do: Wait" not in told or "Waiting does not help." not in told


@pytest.mark.parametrize("reason", [Reason.TOO_MANY_TESTS, Reason.MAIL_LIMIT_REACHED])
def test_a_reason_that_passes_says_that_a_test_is_not_repeated(reason: Reason) -> None:
    assert "\nA test is not repeated by itself.\n" in said(reason)


def test_a_word_with_two_meanings_has_both() -> None:
    assert said("Accepted").count("\nAccepted, a type of condition: ") == 1
    both = json.loads(said("Accepted", "-o", "json"))
    assert [entry["kind"] for entry in both] == ["reason", "condition"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("SecretNotFund", "SecretNotFound"),
        ("badcredential", "BadCredentials"),
        ("smtpauth", "SmtpAuthDisabledTenant"),
        ("ProbeSuceeded", "ProbeSucceeded"),
        ("timeout", "ConnectionTimeout"),
    ],
)
def test_typing_mistakes_get_suggestions(typed: str, meant: str) -> None:
    assert meant in near(typed)
    ended = plugin("explain", typed)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"    kubectl mailsettings explain {meant}\n" in ended.stderr


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_programs_get_a_document_for_a_word_that_there_is_not(output: str) -> None:
    ended = plugin("explain", "SecretNotFund", "-o", output)
    assert ended.returncode == 1
    document = yaml.safe_load(ended.stdout)
    assert document["reason"] == "NotFound"
    assert document["message"] == "There is no cause, reason or type of condition 'SecretNotFund'."
    assert document["suggestions"][0] == "SecretNotFound"
    assert document["message"] in ended.stderr.replace("\n", " ")


def test_nonsense_gets_no_suggestion_but_the_way() -> None:
    assert near("q") == []
    ended = plugin("explain", "xyzzy")
    assert ended.returncode == 1
    assert "Did you mean" not in ended.stderr
    assert ended.stderr.endswith("    kubectl mailsettings explain\n    kubectl mailsettings diagnose\n")


def test_list_has_everything_in_groups_and_fits() -> None:
    text = said()
    assert max(map(len, text.splitlines())) <= 80
    heads = [line for line in text.splitlines() if line and not line.startswith(" ")]
    assert heads == [group.heading for group in Group]
    listed = re.findall(r"^  (\w+) ", text, re.MULTILINE)
    assert listed == [term.name for term in TERMS]
    assert {*Cause, *Reason, *ConditionType, *OWN} <= {*listed}


def test_programs_get_the_same() -> None:
    entries = json.loads(said("-o", "json"))
    assert [entry["name"] for entry in entries] == [term.name for term in TERMS]
    assert yaml.safe_load(said("-o", "yaml")) == entries
    one = json.loads(said("portblocked", "-o", "json"))
    assert (one["cause"], one["mover"], one["reason"]) == ("PortBlocked", "admin", "PortBlocked")
    assert one["remedy"] == CATALOG[Cause.PORT_BLOCKED].remedy
    assert json.loads(said("SecretNotFound", "-o", "json"))["needsPerson"] is True


def test_diagnose_in_a_terminal_says_what_it_waits_for(tmp_path: Path) -> None:
    person = Person(tmp_path / "none", install(tmp_path))
    with person.runs("diagnose", "--stage", "auth", terminal=True) as running:
        running.wait_text("Type or paste the failure, then press Ctrl-D in a new line:")
        running.type("535 5.7.8 no\n\x04")
        assert running.wait() == 0
    assert "BadCredentials: " in running.err


def test_in_a_terminal(tmp_path: Path) -> None:
    person = Person(tmp_path / "none", install(tmp_path))
    with person.runs("explain", "PkceMismatch", terminal=True) as running:
        assert running.wait() == 0
    shown = running.err.splitlines()
    assert shown[0] == "\x1b[1mPkceMismatch: The code verifier does not fit\x1b[0m"
    assert "    kubectl mailsettings authorize NAME" in shown
    assert max(map(len, shown[1:])) <= 80
