"""No secret survives redaction, in whatever form it came back."""

import base64
import html
import json
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mailsettings.api.probe import ProbeMode
from mailsettings.api.providers import TlsMode
from mailsettings.core.causes.catalog import CATALOG
from mailsettings.core.diagnosis import Fault, FaultKind, diagnose
from mailsettings.core.probe import ProbeRequest, Stage
from mailsettings.core.redact import MARK, _forms, _may_be_written, redact
from mailsettings.core.remedies import REMEDIES
from mailsettings.core.server import Credentials, Server, Source

PRINTABLE = st.characters(exclude_categories=["C", "Z"])
TEXTS = st.text(PRINTABLE | st.just(" "), max_size=60)
SECRETS = st.text(PRINTABLE, min_size=4, max_size=40)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


ENCODINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "capitals": lambda s: s.upper() if s.upper().lower() == s.lower() and len(s.upper()) == len(s) else s,
    "base64": b64,
    "base64, unpadded": lambda s: b64(s).rstrip("="),
    "base64, URL-safe": lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
    "base64, one byte before": lambda s: b64(f"x{s}y"),
    "base64, two bytes before": lambda s: b64(f"\0x{s}"),
    "base64, SASL PLAIN": lambda s: b64(f"\0user@example.com\0{s}"),
    "percent": lambda s: quote(s, safe=""),
    "percent, lower case": lambda s: quote(s, safe="").lower(),
    "percent, plus": quote_plus,
    "percent, every byte": lambda s: "".join(f"%{byte:02x}" for byte in s.encode()),
    "hexadecimal": lambda s: s.encode().hex(),
    "JSON": json.dumps,
    "JSON, Unicode": lambda s: json.dumps(s, ensure_ascii=False),
    "Python": repr,
    "Python bytes": lambda s: repr(s.encode()),
    "HTML": html.escape,
    "quoted-string": lambda s: '"' + s.replace("\\", "\\\\").replace('"', '\\"') + '"',
}


def recognisable(secret: str, text: str) -> list[str]:
    """The names of the encodings in which the secret can be read out of the text."""
    bare = text.replace(MARK, "\x00").casefold()
    return [
        name
        for name, encode in ENCODINGS.items()
        if len(encode(secret)) >= len(secret) and encode(secret).casefold() in bare
    ]


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(before=TEXTS, secret=SECRETS, after=TEXTS)
@example(before="", secret="0000", after="")
@example(before="aaaa", secret="aaaa", after="aaa")
@example(before="", secret="c2VjcmV0", after="c2VjcmV0")
@example(before="x", secret="pa ss", after="y")
def test_no_form_of_a_secret_survives(encoding: str, before: str, secret: str, after: str) -> None:
    said = f"{before} {ENCODINGS[encoding](secret)} {after}"
    shown = redact(said, [secret])
    assert MARK in shown
    assert recognisable(secret, shown) == []


# Everything that a Secret's value may hold: control characters and line separators are refused.
VALUES = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
    | st.sampled_from(" \u00a0\u3000\u200b\u202e\ufeff\u00ad\"'"),
    max_size=40,
).filter(lambda value: len(visible(value)) >= 4)
TEXTS_WITH_BLANKS = st.text(PRINTABLE | st.sampled_from(" \t\n\u00a0\u200b"), max_size=60)
REQUEST = ProbeRequest(
    Server("smtp.example.com", 587, TlsMode.START_TLS, timedelta(seconds=10)), ProbeMode.AUTHENTICATE, Source.TENANT
)


def visible(value: str) -> str:
    """Without blanks and what cannot be seen."""
    return "".join(char for char in value if unicodedata.category(char)[0] not in "CZ")


def one_line(value: str) -> str:
    """With single blanks, and without what cannot be seen."""
    return " ".join("".join(char for char in value if unicodedata.category(char)[0] != "C").split())


def marked(value: str) -> str:
    """With single blanks, and a mark for each character that cannot be seen."""
    return " ".join("".join("\ufffd" if unicodedata.category(char)[0] == "C" else char for char in value).split())


DAMAGES: dict[str, Callable[[str], str]] = {
    "single blanks": lambda value: " ".join(value.split()),
    "nothing invisible": one_line,
    "marks": marked,
    "plain blanks": lambda value: "".join(" " if unicodedata.category(c)[0] == "Z" else c for c in value),
    "a line break for each blank": lambda value: "\n".join(value.split()),
}
"""What servers do to a text before they repeat it."""


OUR_WORDS: Final = " ".join(
    [*(f"{entry.title} {entry.remedy}" for entry in CATALOG.values()), *(remedy.text for remedy in REMEDIES)]
)
"""What a message may say of itself, whatever the server repeats."""


def message(said: str, login: Credentials | None) -> str:
    return diagnose(Fault(Stage.AUTH, FaultKind.REPLY, 535, said), replace(REQUEST, credentials=login)).message


@pytest.mark.parametrize("repeat", [*ENCODINGS.values(), *DAMAGES.values()], ids=[*ENCODINGS, *DAMAGES])
@given(before=TEXTS_WITH_BLANKS, secret=VALUES, after=TEXTS_WITH_BLANKS, is_password=st.booleans())
@example(before="", secret="pa  ss  word", after="", is_password=True)
@example(before="", secret="pass\u00a0word", after="", is_password=True)
@example(before="", secret="pass\u3000word", after="", is_password=True)
@example(before="", secret="pass\u200bword", after="", is_password=True)
@example(before="", secret=" password ", after="", is_password=True)
@example(before="", secret="pass\"\u00a0'word", after="", is_password=True)
@example(before="", secret="SIZE LIMIT", after="", is_password=False)
def test_no_form_of_a_login_is_in_a_message(
    repeat: Callable[[str], str], before: str, secret: str, after: str, is_password: bool
) -> None:
    login = Credentials("\u2603" * 4, secret) if is_password else Credentials(secret, "\u2603" * 4)
    forms = [secret, one_line(secret), marked(secret), " ".join(secret.split())]
    ours = message("", login) + message(before, None) + message(after, None)
    assume(not any(recognisable(form, ours + OUR_WORDS) for form in forms))
    shown = message(f"{before} {repeat(secret)} {after}", login)
    assert [name for form in forms for name in recognisable(form, shown)] == []


@given(before=TEXTS, first=SECRETS, second=SECRETS, after=TEXTS)
def test_secrets_that_overlap_leave_no_halves(before: str, first: str, second: str, after: str) -> None:
    shown = redact(f"{before}{first}{second[1:]}{after}", [first, second]).replace(MARK, "\x00")
    assert first not in shown
    assert second not in shown


@given(text=TEXTS, username=SECRETS, password=SECRETS)
def test_of_an_auth_line_that_holds_a_secret_nothing_is_left(text: str, username: str, password: str) -> None:
    for line in (b64(username), b64(f"\0{username}\0{password}"), b64(f"{username} 0123456789abcdef")):
        assert line not in redact(f"{text} {line}", [username])


@given(text=TEXTS)
def test_without_secrets_nothing_changes(text: str) -> None:
    assert redact(text, []) == text
    assert redact(text, [""]) == text


@pytest.mark.parametrize(
    ("said", "secrets", "shown"),
    [
        ("bad password hunter22!", ["hunter22!"], f"bad password {MARK}!"[:-1]),
        ("bad abc", ["abc"], f"bad {MARK}"),
        ("abcabc dabc abc.", ["abc"], f"abcabc dabc {MARK}."),  # short: whole words only
        (f"got {b64('abc')}", ["abc"], f"got {MARK}"),
        (f"got {b64('xabc')}", ["abc"], f"got {b64('xabc')}"),
        ("no secret here", ["hunter22"], "no secret here"),
        ("""got 'o"neil it\\'s-secret'""", ["it's-secret"], f"""got 'o"neil {MARK}'"""),  # as Python's repr has both
        ("got GIZLIPAROLA", ["g\u0131zl\u0131parola"], f"got {MARK}"),
        (
            f"AUTH PLAIN {b64(chr(0) + 'me@acme.example' + chr(0) + 'pw')}",
            ["pw", "me@acme.example"],
            f"AUTH PLAIN {MARK}",
        ),
        (f"{b64('me@acme.example')}", ["me@acme.example"], MARK),
        ("aaaaaaa", ["aaaa"], MARK),
    ],
)
def test_examples(said: str, secrets: list[str], shown: str) -> None:
    assert redact(said, secrets) == shown


def test_long_texts_take_no_longer_than_their_length() -> None:
    """A run that begins like a secret at every character, as long as a reply may be."""
    shown = redact("A" * 32_768 + "==", ["A" * 40 + "B", "A" * 40 + "C"])
    assert MARK not in shown


TOKEN = "".join(f"{number:03}-aB.c_" for number in range(100))


@given(start=st.integers(0, len(TOKEN) - 16), length=st.integers(16, 400), before=TEXTS, after=TEXTS)
def test_no_piece_of_a_token_survives(start: int, length: int, before: str, after: str) -> None:
    text = redact(f"{before} {TOKEN[start : start + length]} {after}", (), tokens=(TOKEN,))
    assert MARK in text
    assert not any(TOKEN[at : at + 16] in text for at in range(len(TOKEN) - 15))


def test_what_only_resembles_a_piece_of_a_token_stays() -> None:
    text = f"{TOKEN[:15]} https://support.google.com/mail/?p=BadCredentials 550-xy.z_551-xy.z_"
    assert redact(text, (), tokens=(TOKEN, "", "short")) == text


@given(secret=st.text(min_size=1, max_size=20), before=TEXTS, after=TEXTS)
def test_no_form_is_overlooked_by_the_first_look(secret: str, before: str, after: str) -> None:
    """Without that look all forms would be searched for in each text."""
    for form in _forms(secret):
        text = f"{before}{form}{after}"
        assert _may_be_written([secret], text.lower() if text.isascii() else None)


@given(token=st.text("abAB01.-", min_size=16, max_size=64), at=st.integers(0, 48), before=TEXTS, after=TEXTS)
def test_no_piece_of_a_token_is_left(token: str, at: int, before: str, after: str) -> None:
    """Wherever it begins in the run of characters around it."""
    piece = token[min(at, len(token) - 16) :][:16]
    assert piece not in redact(f"{before}{piece}{after}", [], tokens=[token]).replace(MARK, "\x00")
