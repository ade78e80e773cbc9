"""The state of a consent: signed, bound, short-lived."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from mailsettings.core.oauth2.authorization import code_challenge
from mailsettings.core.oauth2.state import LIFE, MAX_LENGTH, ConsentState, Flows, StateError

FLOWS: Final = Flows(b"k" * 32)
NOW: Final = datetime(2026, 11, 22, 16, 40, tzinfo=UTC)
UID: Final = "0b7f6a3e-9a51-4c55-9a44-6f0f7f5a2d10"
FLOW: Final = bytes(range(16))


def minted(flows: Flows = FLOWS) -> str:
    return flows.mint(flow=FLOW, uid=UID, fingerprint="fingerprint", holder="browser", now=NOW)


def test_state_says_what_it_was_made_for() -> None:
    state = FLOWS.read(minted())
    assert (state.flow, state.uid, state.expires_at) == (FLOW.hex(), UID, NOW + LIFE)
    assert state.fits("fingerprint")
    assert not state.fits("another")
    assert state.is_bound_to("browser")
    assert not state.is_bound_to("another")
    assert not state.is_bound_to("")


def test_state_fits_into_a_url_as_it_is() -> None:
    assert len(minted()) <= MAX_LENGTH
    assert minted().replace("-", "").replace("_", "").isalnum()


def test_every_bit_is_signed() -> None:
    whole = base64.urlsafe_b64decode(minted() + "==")
    for index in range(len(whole)):
        changed = bytes([*whole[:index], whole[index] ^ 1, *whole[index + 1 :]])
        with pytest.raises(StateError):
            FLOWS.read(base64.urlsafe_b64encode(changed).decode().rstrip("="))


@pytest.mark.parametrize(
    "text",
    ["", "a", "=", "ä", "not a state", "A" * MAX_LENGTH, "A" * (MAX_LENGTH + 1), minted()[:-4], minted() + "AAAA"],
)
def test_what_is_no_state(text: str) -> None:
    with pytest.raises(StateError):
        FLOWS.read(text)


def test_another_operator_reads_nothing() -> None:
    with pytest.raises(StateError, match="not signed"):
        Flows(b"K" * 32).read(minted())


def test_verifier_and_nonce_are_known_to_whoever_has_the_key_and_to_nobody_else() -> None:
    again = Flows(b"k" * 32)
    flow = FLOWS.read(minted()).flow
    assert FLOWS.verifier(flow) == again.verifier(flow)
    assert FLOWS.nonce(flow) == again.nonce(flow)
    told = {Flows(key).verifier(name) for key in (b"k" * 32, b"K" * 32) for name in (flow, "0" * 32)}
    assert len({*told, FLOWS.nonce(flow)}) == 5
    assert 43 <= len(FLOWS.verifier(flow)) <= 128, "RFC 7636 §4.1"
    assert code_challenge(FLOWS.verifier(flow)) not in minted()


def test_form_token_is_of_one_object_and_one_browser() -> None:
    tokens = {FLOWS.form_token(uid, browser) for uid in (UID, "other") for browser in ("a", "b")}
    assert len(tokens) == 4


def test_nothing_secret_is_shown() -> None:
    assert "k" * 8 not in repr(FLOWS)


def test_life_is_whole_seconds() -> None:
    state = FLOWS.mint(flow=FLOW, uid=UID, fingerprint="f", holder="b", now=NOW + timedelta(milliseconds=999))
    read: ConsentState = FLOWS.read(state)
    assert read.expires_at == NOW + LIFE
