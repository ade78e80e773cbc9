"""What to do is shown with commands that can be copied: whole, on lines of their own, and about these settings."""

import base64
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from mailsettings.api import names
from mailsettings.core.causes.catalog import CATALOG, SHAPE_OF_PASSWORD
from mailsettings.core.causes.cause import Cause
from mailsettings.core.documentation import DOCUMENTATION
from mailsettings.core.oauth2.faults import _AUTHORIZE, _BEGIN_AGAIN
from mailsettings.core.remedies import REMEDIES, advice
from mailsettings.plugin.advice import advice_lines, filled, known_of, known_of_test, parted
from mailsettings.plugin.status.chain import Seen, system_chain, tenant_chain
from mailsettings.plugin.status.show import whole
from mailsettings.plugin.test.outcome import said_of
from tests.plugin.test_status import GOOD, NOW, OWN, PROBE, condition, settings

EFFECTIVE: Final = {
    "source": "Tenant",
    "settingsName": "mail",
    "settingsGeneration": 1,
    "provider": "Custom",
    "mailFrom": "Acme <no-reply@acme.example>",
    "host": "smtp.acme.example",
    "port": 465,
    "protocol": "smtps",
    "tls": "Implicit",
    "auth": "Basic",
}
BASIC: Final = {"basic": {"username": "box@acme.example", "passwordSecretRef": {"name": "smtp", "key": "pass.word"}}}
OAUTH2: Final = {"oauth2": {"username": "box@acme.example", "clientID": "app-1"}}


def tenant(auth: Any = None, **effective: Any) -> dict[str, Any]:
    return {
        "kind": names.TENANT_KIND,
        "metadata": {"name": "mail", "namespace": "shop"},
        "spec": {"auth": auth or BASIC},
        "status": {"effective": {**EFFECTIVE, **effective}},
    }


def system() -> dict[str, Any]:
    return {**tenant(), "kind": names.CLUSTER_KIND, "metadata": {"name": "default"}}


# --- commands apart from words ---


@pytest.mark.parametrize(
    ("remedy", "words", "commands"),
    [
        ("Do this.", "Do this.", ()),
        ("", "", ()),
        ("Do this. Run: `a b`.", "Do this.", ("a b",)),
        ("Do this. Run: `a` or `b: c`.", "Do this.", ("a", "b: c")),
        ("Begin again: `a`.", "Begin again:", ("a",)),
        ("Open x, or run: `a`", "Open x, or run:", ("a",)),
        ("Look at `a` first.", "Look at `a` first.", ()),
        ('It said "run: `rm`". No.', 'It said "run: `rm`". No.', ()),
    ],
)
def test_commands_at_the_end_stand_apart(remedy: str, words: str, commands: tuple[str, ...]) -> None:
    assert parted(remedy) == (words, commands)


@pytest.mark.parametrize("cause", Cause)
def test_every_command_of_the_catalog_comes_apart(cause: Cause) -> None:
    words, commands = parted(advice(cause))
    assert "`" not in words
    assert len(commands) == len(CATALOG[cause].commands)
    assert not any("\n" in command for command in commands)


@pytest.mark.parametrize("remedy", [*(remedy.text for remedy in REMEDIES), _AUTHORIZE, _BEGIN_AGAIN])
def test_every_other_remedy_has_its_commands_at_its_end(remedy: str) -> None:
    assert "`" not in parted(remedy)[0]


# --- what is known ---


@pytest.mark.parametrize(
    ("document", "command", "expected"),
    [
        (tenant(), "kubectl mailsettings authorize NAME", "kubectl mailsettings authorize mail -n shop"),
        (system(), "kubectl mailsettings authorize NAME", "kubectl mailsettings authorize --cluster default"),
        (
            tenant(source="System", settingsName="mass"),
            "kubectl mailsettings authorize NAME",
            "kubectl mailsettings authorize --cluster mass",
        ),
        (tenant(), "kubectl get mss NAME -o x", "kubectl get mss mail -n shop -o x"),
        (system(), "kubectl get mss NAME -o x", "kubectl get cmss default -o x"),
        (tenant(), "kubectl get secret SECRET {.data.KEY}", r"kubectl get secret smtp -n shop {.data.pass\.word}"),
        (system(), "kubectl get secret SECRET", "kubectl get secret smtp -n mailsettings-system"),
        (
            tenant(),
            "openssl s_client -starttls smtp -connect HOST:PORT",
            "openssl s_client -connect smtp.acme.example:465",
        ),
        (
            tenant(tls="StartTLS", port=587),
            "openssl s_client -starttls smtp -connect HOST:PORT",
            "openssl s_client -starttls smtp -connect smtp.acme.example:587",
        ),
        (
            tenant(host="2001:db8::1"),
            "openssl s_client -starttls smtp -connect HOST:PORT",
            "openssl s_client -connect '[2001:db8::1]:465'",
        ),
        (tenant(host="2001:db8::1"), "nslookup HOST", "nslookup 2001:db8::1"),
        (tenant(), "dig DOMAIN _dmarc.DOMAIN", "dig acme.example _dmarc.acme.example"),
        (tenant(), "Set-CASMailbox -Identity MAILBOX $false", "Set-CASMailbox -Identity box@acme.example $false"),
        (
            tenant(),
            "Add-RecipientPermission FROM -Trustee LOGIN",
            "Add-RecipientPermission no-reply@acme.example -Trustee box@acme.example",
        ),
        (tenant(OAUTH2), "az --id CLIENT_ID -ObjectId OBJECT_ID", "az --id app-1 -ObjectId OBJECT_ID"),
    ],
)
def test_placeholders_are_filled_with_what_is_known(document: dict[str, Any], command: str, expected: str) -> None:
    assert filled(command, known_of(document)) == expected


@pytest.mark.parametrize("evil", ["$(id)", "a;b", "-x", "a b", "`id`", "a'b", "a\nb", ""])
def test_what_means_something_to_a_shell_is_not_filled_in(evil: str) -> None:
    auth = {"basic": {"username": evil, "passwordSecretRef": {"name": evil, "key": "k"}}}
    known = known_of(tenant(auth, host=evil, mailFrom=evil))
    assert filled("x HOST LOGIN MAILBOX secret SECRET KEY", known) == "x HOST LOGIN MAILBOX secret SECRET KEY"


def test_nothing_is_known_of_what_is_not_there() -> None:
    bare = {"kind": names.TENANT_KIND, "metadata": {"name": "mail", "namespace": "shop"}}
    assert filled("NAME HOST:PORT FROM SECRET", known_of(bare)) == "mail -n shop HOST:PORT FROM SECRET"
    assert filled("NAME", {}) == "NAME"


def test_a_test_knows_what_it_tests() -> None:
    metadata = {"name": "mail-x", "namespace": "shop"}
    saved = {"metadata": metadata, "spec": {"settingsRef": {"name": "mail"}}, "status": {"effective": EFFECTIVE}}
    assert filled("NAME HOST secret SECRET", known_of_test(saved)) == "mail -n shop smtp.acme.example secret SECRET"
    unsaved = {"metadata": metadata, "spec": {"settings": {"auth": BASIC}}}
    assert filled("NAME HOST secret SECRET", known_of_test(unsaved)) == "NAME HOST secret smtp -n shop"
    of_system = {"metadata": metadata, "spec": {"settingsRef": {"kind": names.CLUSTER_KIND, "name": "default"}}}
    assert filled("NAME", known_of_test(of_system)) == "--cluster default"


# --- as it is shown ---


def test_lines() -> None:
    assert advice_lines("Do.", ("a", "b"), "docs/a.md#b", "PortBlocked") == [
        "What to do: Do.",
        "    a",
        "    b",
        "More: kubectl mailsettings explain PortBlocked",
        "      docs/a.md#b",
    ]
    assert advice_lines("", (), "", "") == []


def test_links_of_the_operator_lead_to_where_the_person_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DOCUMENTATION, "url", "https://docs.example.com")
    assert advice_lines("", (), "docs/a.md#b", "") == ["      https://docs.example.com/a.md#b"]


REFUSED: Final = {
    "stage": "auth",
    "cause": "BadCredentials",
    "message": "The server refused the login.",
    "remedy": advice(Cause.BAD_CREDENTIALS),
    "docs": "docs/troubleshooting.md#badcredentials",
}
COMMAND: Final = (
    r"kubectl get secret smtp -n shop -o jsonpath='{.data.pass\.word}' | "
    r"""base64 -d | tr -c "'\" \t\r\n" x | od -A d -c"""
)


def test_status_shows_commands_whole_and_filled_in() -> None:
    failing = (condition("ProbeSucceeded", "False", "BadCredentials"), condition("Ready", "False", "BadCredentials"))
    document = settings(
        *GOOD[:2], *failing, spec={**OWN, "auth": BASIC}, probe={**PROBE, "failure": REFUSED}, effective=EFFECTIVE
    )
    chain = tenant_chain(document, None, Seen(), NOW, may_read_system=True)
    shown = [text for text, _ in whole(chain, 80)]
    assert COMMAND in [line.strip("│└─ ") for line in shown]
    assert chain.failing is not None
    assert chain.failing[1].commands == (COMMAND,)


def test_status_says_of_the_system_how_its_consent_is_given() -> None:
    told = "Nobody has consented yet. Run: `kubectl mailsettings authorize --cluster default`"
    failing = (
        condition("Authorized", "False", "ConsentRequired", told),
        condition("Ready", "False", "ConsentRequired"),
    )
    chain = system_chain(settings(*GOOD[:2], *failing, kind=names.CLUSTER_KIND), NOW)
    shown = [text.strip("│└─ ") for text, _ in whole(chain, 80)]
    assert shown[-3:] == [
        "Nobody has consented yet.",
        "kubectl mailsettings authorize --cluster default",
        "More: kubectl mailsettings explain ConsentRequired",
    ]


def test_test_shows_commands_whole_and_filled_in() -> None:
    conditions = [condition("Complete", "True", "BadCredentials"), condition("Succeeded", "False", "BadCredentials")]
    test = {
        "metadata": {"name": "mail-x", "namespace": "shop"},
        "spec": {"settings": {"auth": BASIC}},
        "status": {"conditions": conditions, "effective": EFFECTIVE, "failure": REFUSED},
    }
    assert said_of(test, known_of_test(test))[2] == f"    {COMMAND}"


# --- the command for passwords ---


@pytest.mark.parametrize(
    ("password", "shape"),
    [
        ("hunter2", "x   x   x   x   x   x   x 0000007"),
        ("'hunter2'\n", r"'   x   x   x   x   x   x   x   '  \n 0000010"),
        ('"hu nter2"\r\n', r'"   x   x       x   x   x   x   x   "  \r  \n 0000012'),
    ],
)
def test_form_of_a_password_is_shown_and_nothing_of_it(tmp_path: Path, password: str, shape: str) -> None:
    """By the real programs; only kubectl is one that has the Secret."""
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f'#!/bin/sh\nprintf %s "{base64.b64encode(password.encode()).decode()}"\n')
    kubectl.chmod(0o755)
    said = subprocess.run(
        ["/bin/sh", "-c", SHAPE_OF_PASSWORD],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    ).stdout
    assert " ".join(said.removeprefix("0000000").split()) == " ".join(shape.split())


def test_no_command_of_the_catalog_prints_a_secret() -> None:
    for entry in CATALOG.values():
        for command in entry.commands:
            assert "xxd" not in command
            assert "base64 -d" not in command or " tr -c " in command
