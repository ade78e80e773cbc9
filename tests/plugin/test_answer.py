"""What a provider's redirect says, as it arrives or is pasted."""

from urllib.parse import urlencode

import pytest

from mailsettings.core.oauth2.consent import MAX_VALUE_BYTES, ConsentKey
from mailsettings.plugin.authorize.answer import AnswerError, parse_pasted, parse_query, state_of
from mailsettings.plugin.command import CommandError

STATE = "the-State_1"
URI = "http://127.0.0.1:4711"
CODE = "1.Aabc+/=~"
GOOD = f"{URI}/?{urlencode({'code': CODE, 'state': STATE, 'iss': 'https://id.example', 'session_state': 'x'})}"
ANSWER = {ConsentKey.CODE: CODE, ConsentKey.STATE: STATE, ConsentKey.ISS: "https://id.example"}


def test_a_pasted_address_gives_the_answer() -> None:
    assert parse_pasted(GOOD, URI, STATE) == ANSWER


@pytest.mark.parametrize(
    "text",
    [
        f"  {GOOD}\t",
        f"'{GOOD}'",
        f"<{GOOD}>",
        GOOD.removeprefix("http://"),
        GOOD.replace("/?", "?"),
        GOOD.replace("http", "HTTP", 1),
        f"{GOOD}#",
    ],
)
def test_what_browsers_and_people_make_of_it_is_understood(text: str) -> None:
    assert parse_pasted(text, URI, STATE) == ANSWER


def test_an_error_is_an_answer() -> None:
    query = urlencode({"error": "access_denied", "error_description": "no & never", "state": STATE})
    assert parse_query(query, STATE) == {
        ConsentKey.ERROR: "access_denied",
        ConsentKey.ERROR_DESCRIPTION: "no & never",
        ConsentKey.STATE: STATE,
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "nothing in it"),
        ("   ", "nothing in it"),
        ("hello", "does not begin with"),
        ("https://id.example/authorize?client_id=x&state=y", "finish at the provider first"),
        (GOOD.replace("4711", "4712"), "does not begin with"),
        (GOOD.replace("127.0.0.1", "localhost"), "does not begin with"),
        (GOOD.replace("http:", "https:"), "does not begin with"),
        (GOOD.replace("/?", "/other?"), "does not begin with"),
        (GOOD.replace("4711", "nonsense"), "no address"),
        ("http://[::1", "no address"),
        (URI, "no state"),
        (f"{URI}/?code=x", "no state"),
        (GOOD.replace(STATE, "another"), "another attempt"),
        (GOOD.replace(STATE, "ünknown"), "another attempt"),
        (f"{URI}/?state={STATE}", "neither a code nor an error"),
        (f"{URI}/?code=&state={STATE}", "neither a code nor an error"),
        (f"{GOOD}&code=other", "twice"),
        (f"{GOOD}&state={STATE}", "twice"),
        (f"{GOOD}&" + "&".join(f"a{n}=1" for n in range(40)), "too many"),
        (f"{URI}/?state={STATE}&code={'x' * (MAX_VALUE_BYTES + 1)}", "longer than"),
        (f"{URI}/?state={STATE}&code={'%F0%9F%93%A7' * (MAX_VALUE_BYTES // 4 + 1)}", "longer than"),
    ],
)
def test_anything_else_is_refused_and_told_without_its_content(text: str, why: str) -> None:
    with pytest.raises(AnswerError, match=why) as caught:
        parse_pasted(text, URI, STATE)
    assert STATE not in str(caught.value)
    assert "Aabc" not in str(caught.value)


@pytest.mark.parametrize("uri", ["http://localhost", "http://[::1]:9/cb", "http://localhost:8400/a/b?x=1"])
def test_every_redirect_uri_is_known_again(uri: str) -> None:
    joint = "&" if "?" in uri else "?"
    assert parse_pasted(f"{uri}{joint}code=c&state={STATE}", uri, STATE)[ConsentKey.CODE] == "c"


def test_the_state_is_read_from_the_address() -> None:
    assert state_of(f"https://id.example/authorize?client_id=x&state={STATE}") == STATE


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://id.example/authorize",
        f"http://id.example/authorize?state={STATE}",
        f"javascript:alert(1)?state={STATE}",
        f"file:///etc/passwd?state={STATE}",
        f"--help?state={STATE}",
        f"https://id.example/authorize?state={STATE}&x=\x1b[2J",
        f"https://[id.example/authorize?state={STATE}",
    ],
)
def test_what_is_no_address_of_a_consent_is_not_opened(url: str) -> None:
    """Whoever may write Secrets in the namespace could have put it there."""
    with pytest.raises(CommandError) as caught:
        state_of(url)
    assert STATE not in str(caught.value)
