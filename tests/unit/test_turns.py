"""Whose probe is next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.api.providers import OFFICE365, PROVIDERS, MailboxLimits
from mailsettings.core.turns import PATIENT_TURN, SHARE, Passed, Turn, next_turn, pause_s

LIMITS = MailboxLimits(connections=3, messages_per_minute=30)
BOX = Turn("shop", "box", LIMITS)


def following(
    waiting: Sequence[Turn],
    running: Sequence[Turn] = (),
    *,
    places: int = 16,
    sent_s: Mapping[str, Sequence[float]] | None = None,
) -> Turn | None:
    return pick(waiting, running, places=places, sent_s=sent_s or {}, now_s=1000)


@dataclass(frozen=True, eq=False)
class Waits:
    """Something that waits, unlike all others."""

    turn: Turn


def pick(
    waiting: Sequence[Turn],
    running: Sequence[Turn] = (),
    *,
    places: int,
    passed: Passed | None = None,
    sent_s: Mapping[str, Sequence[float]] | None = None,
    now_s: float = 0,
) -> Turn | None:
    """Whose turn it is."""
    people, others = ([Waits(turn) for turn in waiting if turn.asked_for is asked] for asked in (True, False))
    found = next_turn(
        people, others, running, places=places, sent_s=sent_s or {}, now_s=now_s, passed=passed or Passed()
    )
    return found.turn if found is not None else None


def test_who_came_first_goes_first() -> None:
    assert following([]) is None
    assert following([Turn("a"), Turn("b")]) == Turn("a")


def test_a_person_goes_first() -> None:
    assert following([Turn("a"), Turn("b", asked_for=True)]) == Turn("b", asked_for=True)


@pytest.mark.parametrize("mailbox", ["box", None])
def test_people_do_not_go_first_for_ever(mailbox: str | None) -> None:
    """Nor where there are always more of them than places."""
    person = Turn("shop", mailbox, LIMITS, asked_for=True)
    waiting, passed, order = [Turn("", mailbox, LIMITS), person], Passed(), []
    for _ in range(PATIENT_TURN):
        passed.keep([Waits(turn) for turn in waiting if not turn.asked_for])
        turn = pick(waiting, places=1, passed=passed)
        assert turn is not None
        passed.begun(turn)
        waiting.remove(turn)
        order.append(turn)
        waiting.append(person)
    assert [turn.asked_for for turn in order] == [True] * (PATIENT_TURN - 1) + [False]


def test_each_mailbox_has_patient_turns_of_its_own() -> None:
    """So that turns which others take while it is busy are not its only ones."""
    person, passed = replace(BOX, asked_for=True), Passed()
    for _ in range(PATIENT_TURN - 1):
        passed.begun(person)
    passed.begun(Turn("other"))
    waiting = [Turn("other"), person, BOX]
    assert pick(waiting, places=1, passed=passed) == BOX
    passed.keep([Waits(Turn("other"))])
    assert pick(waiting, places=1, passed=passed) == person


def test_who_has_fewer_places_goes_first() -> None:
    assert following([Turn("a"), Turn("b")], [Turn("a")]) == Turn("b")


def test_nobody_goes_where_no_place_is_left() -> None:
    assert following([Turn("z", asked_for=True)], [Turn(str(number)) for number in range(16)]) is None


def test_no_namespace_takes_more_than_its_share() -> None:
    hanging = [Turn("a")] * (16 // SHARE)
    assert following([Turn("a", asked_for=True), Turn("b")], hanging) == Turn("b")
    assert following([Turn("a", asked_for=True)], hanging) is None
    assert following([Turn("a")], [], places=1) == Turn("a")


def test_a_mailbox_has_no_more_connections_than_its_provider_leaves_to_probes() -> None:
    assert following([BOX], [BOX]) is None
    assert following([BOX, replace(BOX, mailbox="other")], [BOX]) == replace(BOX, mailbox="other")
    # Nothing is known of this provider.
    assert following([Turn("shop", "box")], [Turn("shop", "box")] * 2) == Turn("shop", "box")
    assert following([replace(BOX, limits=MailboxLimits(9, 90))], [BOX] * 2) is not None


def test_a_mailbox_sends_no_more_than_its_provider_leaves_to_probes() -> None:
    sends = replace(BOX, sends=True)
    full = {"box": [950.0 + number for number in range(10)]}
    assert following([sends], sent_s=full) is None
    assert following([BOX], sent_s=full) == BOX
    assert following([replace(sends, mailbox="other")], sent_s=full) is not None
    assert pause_s([sends], sent_s=full, now_s=1000) == 10
    assert pause_s([BOX], sent_s=full, now_s=1000) is None
    assert following([sends], sent_s={"box": [940.0, *full["box"][1:]]}) == sends


def test_microsofts_limits_leave_most_to_applications() -> None:
    limits = PROVIDERS[OFFICE365].limits
    assert limits is not None
    assert (limits.connections, limits.messages_per_minute) == (3, 30)
    assert (limits.probe_connections, limits.probe_messages_per_minute) == (1, 10)


TURNS = st.builds(
    Turn,
    namespace=st.sampled_from("abc"),
    mailbox=st.sampled_from([None, "x", "y"]),
    limits=st.sampled_from([None, LIMITS]),
    asked_for=st.booleans(),
    sends=st.booleans(),
)


@given(waiting=st.lists(TURNS, max_size=40), places=st.integers(1, 16))
def test_whoever_waits_gets_a_turn_when_those_before_have_ended(waiting: list[Turn], places: int) -> None:
    rounds = 0
    while waiting:
        running: list[Turn] = []
        while (turn := pick(waiting, running, places=places)) is not None:
            waiting.remove(turn)
            running.append(turn)
        assert running, "somebody waits for nothing"
        assert len(running) <= places
        rounds += 1
    assert rounds <= 40


@pytest.mark.parametrize("places", [1, 3, 16])
@given(waiting=st.lists(TURNS, max_size=40))
def test_the_bounds_hold(places: int, waiting: list[Turn]) -> None:
    running: list[Turn] = []
    while (turn := pick(waiting, running, places=places)) is not None:
        waiting.remove(turn)
        running.append(turn)
    for namespace in "abc":
        assert sum(turn.namespace == namespace for turn in running) <= max(1, places // SHARE)
