"""Whose probe is next."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.api.providers import OFFICE365, PROVIDERS, MailboxLimits
from mailsettings.core import turns
from mailsettings.core.turns import PATIENT_TURN, SHARE, Line, Turn

LIMITS = MailboxLimits(connections=3, messages_per_minute=30)
BOX = Turn("shop", "box", LIMITS)


def line(waiting: Iterable[Turn]) -> Line:
    found = Line()
    for turn in waiting:
        found.join(turn)
    return found


def following(
    waiting: Sequence[Turn],
    running: Sequence[Turn] = (),
    *,
    places: int = 16,
    sent_s: Mapping[str, Sequence[float]] | None = None,
) -> Turn | None:
    ticket = line(waiting).next(running, places=places, sent_s=sent_s or {}, now_s=1000)
    return None if ticket is None else waiting[ticket]


def begun(waiting: Line, running: Sequence[Turn] = (), *, places: int = 1) -> int | None:
    """The ticket of what has begun."""
    ticket = waiting.next(running, places=places, sent_s={}, now_s=0)
    if ticket is not None:
        waiting.begin(ticket)
    return ticket


def test_who_came_first_goes_first() -> None:
    assert following([]) is None
    assert following([Turn("a"), Turn("b")]) == Turn("a")


def test_a_person_goes_first() -> None:
    assert following([Turn("a"), Turn("b", asked_for=True)]) == Turn("b", asked_for=True)


@pytest.mark.parametrize("mailbox", ["box", None])
def test_people_do_not_go_first_for_ever(mailbox: str | None) -> None:
    """Nor where there are always more of them than places."""
    person = Turn("shop", mailbox, LIMITS, asked_for=True)
    waiting = line([Turn("", mailbox, LIMITS), person])
    order = []
    for _ in range(PATIENT_TURN):
        order.append(begun(waiting))
        waiting.join(person)
    assert order.index(0) == PATIENT_TURN - 1


def test_each_mailbox_has_patient_turns_of_its_own() -> None:
    """So that turns which others take while it is busy are not its only ones."""
    person, busy = replace(BOX, asked_for=True), [Turn("shop", "box")]
    waiting = line([BOX, *[person] * (PATIENT_TURN + 1), *[replace(BOX, namespace="other", mailbox="other")] * 2])
    assert [begun(waiting) for _ in range(PATIENT_TURN - 1)] == [*range(1, PATIENT_TURN)]
    # Its mailbox is busy meanwhile, so the turn that is due goes to another.
    assert begun(waiting, busy, places=2) == PATIENT_TURN + 2
    assert begun(waiting) == 0


def test_what_a_mailbox_was_passed_over_is_forgotten_with_the_last_that_waits_for_it() -> None:
    person = replace(BOX, asked_for=True)
    waiting = line([BOX, *[person] * (PATIENT_TURN + 1), Turn("other"), Turn("other")])
    for _ in range(PATIENT_TURN - 1):
        begun(waiting)
    waiting.leave(0)
    assert begun(waiting) == PATIENT_TURN + 2
    waiting.join(BOX)
    assert begun(waiting) == PATIENT_TURN


def test_namespaces_take_turns() -> None:
    """However many wait in one of them."""
    waiting = line([*[Turn("a")] * 3, Turn("b")])
    assert [begun(waiting) for _ in range(4)] == [0, 3, 1, 2]


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
    assert line([sends]).pause_s(sent_s=full, now_s=1000) == 10
    assert line([BOX]).pause_s(sent_s=full, now_s=1000) is None
    left = line([sends, sends])
    left.leave(0)
    assert left.pause_s(sent_s=full, now_s=1000) == 10
    left.leave(1)
    assert left.pause_s(sent_s=full, now_s=1000) is None
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


def together(waiting: Line, turns: Sequence[Turn], places: int) -> list[Turn]:
    """What runs at once, until nothing more may begin."""
    running: list[Turn] = []
    while (ticket := begun(waiting, running, places=places)) is not None:
        running.append(turns[ticket])
    return running


@given(waiting=st.lists(TURNS, max_size=40), places=st.integers(1, 16))
def test_whoever_waits_gets_a_turn_when_those_before_have_ended(waiting: list[Turn], places: int) -> None:
    waits, begun_at_all = line(waiting), 0
    for _ in range(len(waiting)):
        running = together(waits, waiting, places)
        assert len(running) <= places
        begun_at_all += len(running)
        if begun_at_all == len(waiting):
            break
        assert running, "somebody waits for nothing"
    assert begun_at_all == len(waiting)


@pytest.mark.parametrize("places", [1, 3, 16])
@given(waiting=st.lists(TURNS, max_size=40))
def test_the_bounds_hold(places: int, waiting: list[Turn]) -> None:
    running = together(line(waiting), waiting, places)
    for namespace in "abc":
        assert sum(turn.namespace == namespace for turn in running) <= max(1, places // SHARE)


@given(
    first=st.lists(TURNS, max_size=20),
    running=st.lists(TURNS, max_size=4),
    later=st.lists(TURNS, max_size=10),
)
def test_who_comes_later_holds_nobody_up_who_might_begin(
    first: list[Turn], running: list[Turn], later: list[Turn]
) -> None:
    alone, among = line(first), line([*first, *later])
    if begun(alone, running, places=8) is not None:
        assert begun(among, running, places=8) is not None


MANY = 500


@pytest.mark.parametrize(
    "waiting",
    [
        pytest.param([Turn("shop", str(number)) for number in range(MANY)], id="one namespace"),
        pytest.param([Turn(str(number), "box") for number in range(MANY)], id="many namespaces"),
        pytest.param([replace(BOX, sends=True)] * MANY, id="one mailbox"),
        pytest.param([replace(BOX, mailbox=str(number)) for number in range(MANY)], id="many limited mailboxes"),
    ],
)
def test_what_it_takes_to_find_the_next_does_not_grow_with_how_many_wait(
    monkeypatch: pytest.MonkeyPatch, waiting: list[Turn]
) -> None:
    looks = 0
    may_connect = turns._may_connect

    def counted(turn: Turn, connected: Mapping[str | None, int]) -> bool:
        nonlocal looks
        looks += 1
        return may_connect(turn, connected)

    monkeypatch.setattr(turns, "_may_connect", counted)
    waits, running, ended = Line(), list[Turn](), 0

    def begin() -> None:
        while (ticket := begun(waits, running, places=16)) is not None:
            running.append(waiting[ticket])

    # As the runner does: whenever one has come, and whenever one has ended.
    for turn in waiting:
        waits.join(turn)
        begin()
    while running:
        running.pop(0)
        ended += 1
        begin()
    assert ended == MANY
    assert looks <= 4 * MANY
