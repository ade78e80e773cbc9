"""Passwords, their hashes, guessing, and what may be a token."""

import base64
import json
import math

import pytest

from mailsettings.core.relay.guessing import FORGOTTEN_AFTER_S, MAX_DELAY_S, MAX_PAIRS, MAX_WAIT_S, GuessingDelays
from mailsettings.core.relay.login import looks_like_token
from mailsettings.core.relay.passwords import hash_password, new_password, verify_password


class TestPasswords:
    def test_a_new_one_holds_256_random_bits(self) -> None:
        passwords = {new_password() for _ in range(200)}
        characters = set("".join(passwords))
        assert len(passwords) == 200
        assert min(map(len, passwords)) * math.log2(len(characters)) >= 256

    def test_no_command_takes_one_for_an_option(self) -> None:
        """Nor does a URI, a shell or a file need escapes for it."""
        assert "".join(new_password() for _ in range(200)).isalnum()

    def test_two_hold_at_a_time(self) -> None:
        old, new, other = new_password(), new_password(), new_password()
        hashes = [hash_password(old), hash_password(new)]
        assert verify_password(old, hashes)
        assert verify_password(new, hashes)
        assert not verify_password(other, hashes)
        assert not verify_password(other, [*hashes, hash_password(other)])

    def test_nobody_has_no_password(self) -> None:
        assert not verify_password(new_password(), [])
        assert not verify_password("", [])

    def test_a_hash_does_not_show_that_passwords_are_equal(self) -> None:
        password = new_password()
        assert hash_password(password) != hash_password(password)
        assert password not in hash_password(password)
        assert hash_password("x", b"0" * 16) == (
            "hmac-sha256$MDAwMDAwMDAwMDAwMDAwMA$B5QU50mYUmCp1fIykazi1NJCnAl8n9KNJ6JtP7doieM"
        )

    @pytest.mark.parametrize("kept", ["", "x", "plain$x$secret", "hmac-sha256$$", f"hmac-sha256${'A' * 22}$"])
    def test_what_is_no_hash_matches_nothing(self, kept: str) -> None:
        assert not verify_password("", [kept])
        assert not verify_password("secret", [kept])


class TestGuessing:
    def test_delays_double_up_to_a_bound(self) -> None:
        delays, now, waited = GuessingDelays(), 0.0, []
        for _ in range(9):
            delay = delays.delay_s("10.0.0.1", "acme.x", now)
            assert delay is not None
            now += delay
            waited.append(delay)
            delays.failed("10.0.0.1", "acme.x", now)
        assert waited == [0, 0.5, 1, 2, 4, 8, 16, 16, 16]

    def test_nobody_else_waits(self) -> None:
        delays = GuessingDelays()
        for _ in range(20):
            delays.failed("10.0.0.1", "acme.x", 0)
        assert delays.delay_s("10.0.0.2", "acme.x", 0) == 0
        assert delays.delay_s("10.0.0.1", "other.x", 0) == 0

    def test_who_knows_the_password_begins_anew(self) -> None:
        delays = GuessingDelays()
        delays.failed("10.0.0.1", "acme.x", 0)
        delays.succeeded("10.0.0.1", "acme.x")
        assert delays.delay_s("10.0.0.1", "acme.x", 0) == 0

    def test_guesses_at_the_same_time_wait_for_each_other(self) -> None:
        delays = GuessingDelays()
        for _ in range(6):
            delays.failed("10.0.0.1", "acme.x", 0)
        assert [delays.delay_s("10.0.0.1", "acme.x", 0) for _ in range(3)] == [MAX_DELAY_S, 2 * MAX_DELAY_S, None]
        assert MAX_WAIT_S == 2 * MAX_DELAY_S

    def test_it_is_forgotten(self) -> None:
        delays = GuessingDelays()
        delays.failed("10.0.0.1", "acme.x", 0)
        assert delays.delay_s("10.0.0.1", "acme.x", FORGOTTEN_AFTER_S + 1) == 0

    def test_what_is_remembered_is_bounded(self) -> None:
        delays = GuessingDelays()
        for number in range(MAX_PAIRS + 1):
            delays.failed("10.0.0.1", f"{number}", 0)
        assert delays.delay_s("10.0.0.1", "0", 0) == 0
        assert delays.delay_s("10.0.0.1", "1", 0) == 0.5


def token(payload: object) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256", "kid": "x"}, payload, "signature")]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


class TestTokens:
    @pytest.mark.parametrize("audience", ["mailsettings-relay", ["other", "mailsettings-relay"]])
    def test_the_form_of_a_token(self, audience: object) -> None:
        assert looks_like_token(token({"aud": audience, "exp": 1}), "mailsettings-relay")

    @pytest.mark.parametrize(
        "secret",
        [
            "",
            "secret",
            "q7Zk0mJcT1xW3sVb9eRy5uIo2pAdFgHjKlNzQwEtYxc",
            "aaaaaaaa.aaaaaaaa.aaaaaaaa",
            token({"aud": "https://kubernetes.default.svc"}),
            token({"aud": None}),
            token([1, 2, 3, 4]),
            token({"aud": "mailsettings-relay", "x": "y" * 9000}),
            token({"aud": "mailsettings-relay"}) + ".x",
        ],
    )
    def test_what_the_api_server_need_not_be_asked(self, secret: str) -> None:
        assert not looks_like_token(secret, "mailsettings-relay")
