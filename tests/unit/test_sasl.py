"""Logins by an access token, as the mechanisms' authors wrote them down."""

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mailsettings.api.providers import TlsMode
from mailsettings.core.sasl import (
    MAX_CHALLENGE_CHARACTERS,
    MAX_COMMAND_OCTETS,
    MAX_RESPONSE_OCTETS,
    Challenge,
    Mechanism,
    UnsendableError,
    choose,
    exchange,
    initial_response,
    parse_challenge,
)
from mailsettings.core.server import BearerToken, Server
from tests.support.bearer import presented

XOAUTH2, OAUTHBEARER = Mechanism.XOAUTH2, Mechanism.OAUTHBEARER
USERNAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60)
TOKENS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=4000)


def server(host: str = "server.example.com", port: int = 587) -> Server:
    return Server(host, port, TlsMode.START_TLS, timedelta(seconds=10))


class TestExamples:
    """Of the specifications, to the letter."""

    def test_xoauth2(self) -> None:
        """Source: Google, OAuth 2.0 Mechanism, Initial Client Response."""
        login = BearerToken("someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg")
        assert initial_response(XOAUTH2, login, server()) == (
            b"dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52"
            b"YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ=="
        )

    @pytest.mark.parametrize(
        ("port", "response"),
        [
            (
                143,
                b"bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9QmVhcmVyIHZGOWRmdDRx"
                b"bVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB",
            ),
            (
                587,
                b"bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9NTg3AWF1dGg9QmVhcmVyIHZGOWRmdDRx"
                b"bVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB",
            ),
        ],
    )
    def test_oauthbearer(self, port: int, response: bytes) -> None:
        """Source: RFC 7628 §4.1 and §4.4."""
        login = BearerToken("user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")
        assert initial_response(OAUTHBEARER, login, server(port=port)) == response

    def test_challenge_of_oauthbearer(self) -> None:
        """Source: RFC 7628 §4.3."""
        text = (
            "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NvcGUiOiJleGFtcGxlX3Njb3BlIiwib3BlbmlkLWNvbmZpZ3VyYXRpb24iOiJodHRwczov"
            "L2V4YW1wbGUuY29tLy53ZWxsLWtub3duL29wZW5pZC1jb25maWd1cmF0aW9uIn0="
        )
        assert parse_challenge(text) == Challenge(
            status="invalid_token",
            scope="example_scope",
            openid_configuration="https://example.com/.well-known/openid-configuration",
        )

    def test_challenge_of_xoauth2(self) -> None:
        """Source: Google, OAuth 2.0 Mechanism, Error Response."""
        text = "eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIG1hYyIsInNjb3BlIjoiaHR0cHM6Ly9tYWlsLmdvb2dsZS5jb20vIn0K"
        assert parse_challenge(text) == Challenge("401", "https://mail.google.com/", "bearer mac")

    @pytest.mark.parametrize(("mechanism", "answer"), [(XOAUTH2, b""), (OAUTHBEARER, b"AQ==")])
    def test_acknowledgements(self, mechanism: Mechanism, answer: bytes) -> None:
        assert exchange(mechanism, BearerToken("a", "b"), server()).acknowledgement == answer


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["LOGIN", "XOAUTH2"], XOAUTH2),  # Microsoft
        (["LOGIN", "PLAIN", "XOAUTH2", "PLAIN-CLIENTTOKEN", "OAUTHBEARER", "XOAUTH"], XOAUTH2),  # Google
        (["oauthbearer", "xoauth2"], XOAUTH2),
        (["plain", "oauthbearer"], OAUTHBEARER),
        (["PLAIN", "LOGIN", "CRAM-MD5"], None),
        (["XOAUTH", "OAUTHBEARER2", ""], None),
        ([], None),
    ],
)
def test_choice(offered: list[str], chosen: Mechanism | None) -> None:
    assert choose(offered) is chosen


@given(mechanism=st.sampled_from(Mechanism), username=USERNAMES, token=TOKENS)
@example(OAUTHBEARER, "a=b,c=2Cd=3D", "t")
def test_a_server_reads_what_was_meant(mechanism: Mechanism, username: str, token: str) -> None:
    said = presented(mechanism, base64.b64decode(initial_response(mechanism, BearerToken(username, token), server())))
    assert (said.username, said.token) == (username, token)
    assert (said.host, said.port) == (("server.example.com", "587") if mechanism is OAUTHBEARER else ("", ""))


@given(mechanism=st.sampled_from(Mechanism), length=st.integers(1, 12000))
@example(XOAUTH2, 9176)  # the first that is too long
@example(XOAUTH2, 9173)
def test_the_response_stands_in_the_command_only_where_it_fits(mechanism: Mechanism, length: int) -> None:
    login = BearerToken("someuser@example.com", "x" * length)
    response = initial_response(mechanism, login, server())
    whole = b"AUTH " + mechanism.encode() + b" " + response + b"\r\n"
    if len(response) + 2 > MAX_RESPONSE_OCTETS:
        with pytest.raises(UnsendableError, match="12288 octets"):
            exchange(mechanism, login, server())
        return
    said = exchange(mechanism, login, server())
    assert (said.response is None) == (len(whole) <= MAX_COMMAND_OCTETS)
    assert len(b" ".join(said.command)) + 2 <= MAX_COMMAND_OCTETS
    assert b" ".join((*said.command, said.response or b"")).strip() == whole.strip()


@pytest.mark.parametrize(
    "login",
    [
        BearerToken("user@example.com", ""),
        BearerToken("user@example.com", "token\x01user=other@example.com"),
        BearerToken("user@example.com", "token\r\nMAIL FROM:<a@b>"),
        BearerToken("user@example.com", "tokén"),
        BearerToken("", "token"),
        BearerToken("user\x01auth=Bearer other", "token"),
        BearerToken("user\n", "token"),
        BearerToken("us\x00er", "token"),
        BearerToken("\ud800", "token"),
        BearerToken("user@example.com", "x" * MAX_RESPONSE_OCTETS),
    ],
)
@pytest.mark.parametrize("mechanism", Mechanism)
def test_what_cannot_be_sent_is_refused(login: BearerToken, mechanism: Mechanism) -> None:
    with pytest.raises(UnsendableError) as caught:
        exchange(mechanism, login, server())
    assert login.username not in str(caught.value) or not login.username
    assert login.access_token not in str(caught.value) or not login.access_token


def test_no_representation_shows_a_token() -> None:
    login = BearerToken("user@example.com", "ya29.secret")
    for mechanism in Mechanism:
        assert "ya29" not in repr(login)
        assert "AUTH" not in repr(exchange(mechanism, login, server()))


def encoded(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    ("text", "challenge"),
    [
        (encoded({"status": 401}), Challenge(status="401")),
        (encoded({"status": True, "scope": ["a"], "schemes": None, "openid-configuration": {}}), None),
        (encoded({"status": "400", "scope": ["a"]}), Challenge(status="400")),
        (encoded({"status": "400"}).rstrip("="), Challenge(status="400")),
        (f" {encoded({'status': '400'})[:8]}\n{encoded({'status': '400'})[8:]}\n", Challenge(status="400")),
        (encoded({}), None),
        (encoded({"error": "x"}), None),
        (encoded("text"), None),
        (encoded(["status"]), None),
        (base64.b64encode(b'{"status": "400"').decode(), None),
        (base64.b64encode(b'\xff{"status": "400"}').decode(), None),
        (base64.b64encode(b"[" * 6000).decode(), None),
        (base64.b64encode(b'{"status": ' + b"1" * 5000 + b"}").decode(), None),
        (encoded({"status": "x" * 9000}), None),
        ('{"status": "400"}', None),
        ("VXNlcm5hbWU6", None),
        ("a", None),
        ("é", None),
        ("", None),
    ],
)
def test_challenges(text: str, challenge: Challenge | None) -> None:
    assert parse_challenge(text) == challenge


@given(st.text() | st.binary().map(lambda data: base64.b64encode(data).decode()))
def test_no_challenge_breaks_the_parser(text: str) -> None:
    parse_challenge(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=9), children, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["status", "scope", "schemes", "openid-configuration", "x"]), JSON))
def test_challenges_of_any_json(value: dict[str, Any]) -> None:
    assume(len(encoded(value)) <= MAX_CHALLENGE_CHARACTERS)
    challenge = parse_challenge(encoded(value)) or Challenge()
    for name in ("status", "scope", "schemes"):
        said = value.get(name)
        expected = str(said) if isinstance(said, str | int) and not isinstance(said, bool) else ""
        assert getattr(challenge, name) == expected
