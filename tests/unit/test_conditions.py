"""From findings to conditions, and the summary that GitOps tools read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.api.conditions import ConditionType, Reason
from mailsettings.api.status import Condition
from mailsettings.core.conditions import conditions, is_warning, summarize, transitions
from mailsettings.core.finding import Finding, failed, passed, unknown

T = ConditionType
OK = passed(Reason.ACCEPTED, "fine")
BAD = failed(Reason.SECRET_NOT_FOUND, "no Secret 'x'; create it")
TEMPORARY = failed(Reason.CONNECTION_TIMEOUT, "no answer")
PENDING = unknown(Reason.PROBE_PENDING, "being tested")

findings = st.dictionaries(
    st.sampled_from([T.ACCEPTED, T.CREDENTIALS_RESOLVED, T.PROBE_SUCCEEDED, T.DELIVERED]),
    st.builds(
        Finding,
        st.sampled_from([True, False, None]),
        st.sampled_from(list(Reason)),
        st.just("text"),
        st.sampled_from([True, False, None]),
    ),
    min_size=1,
)


@given(findings)
def test_ready_is_true_exactly_if_everything_is(found: dict[ConditionType, Finding]) -> None:
    summary = summarize(found)
    assert summary[T.READY].holds == all(finding.holds for finding in found.values())


@given(findings)
def test_stalled_means_that_only_a_person_can_mend_it(found: dict[ConditionType, Finding]) -> None:
    summary = summarize(found)
    needs_person = any(
        f.status is False and (f.reason.needs_person if f.is_transient is None else not f.is_transient)
        for f in found.values()
    )
    assert (T.STALLED in summary) == needs_person
    assert not (T.STALLED in summary and summary[T.READY].holds)
    assert not (T.STALLED in summary and T.RECONCILING in summary)


def test_ready_names_the_first_thing_to_mend() -> None:
    ready = summarize({T.ACCEPTED: OK, T.CREDENTIALS_RESOLVED: BAD, T.PROBE_SUCCEEDED: PENDING})[T.READY]
    assert (ready.reason, ready.message) == (BAD.reason, f"CredentialsResolved: {BAD.message}")


def test_stalled_says_what_to_do_and_ready_all_of_it() -> None:
    refused = failed(Reason.BAD_CREDENTIALS, "It was refused. Mend it. See docs.", remedy="Mend it.")
    summary = summarize({T.ACCEPTED: OK, T.PROBE_SUCCEEDED: refused})
    assert summary[T.READY].message == "ProbeSucceeded: It was refused. Mend it. See docs."
    assert summary[T.STALLED].message == "ProbeSucceeded: Mend it."
    assert summarize({T.ACCEPTED: BAD})[T.STALLED].message == f"Accepted: {BAD.message}"


@pytest.mark.parametrize(("probe", "reconciling"), [(PENDING, True), (TEMPORARY, False), (OK, False)])
def test_reconciling_only_while_something_is_not_known(probe: Finding, reconciling: bool) -> None:
    assert (T.RECONCILING in summarize({T.ACCEPTED: OK, T.PROBE_SUCCEEDED: probe})) is reconciling


def test_transition_time_moves_only_with_the_status() -> None:
    first = conditions({T.ACCEPTED: OK}, [], generation=1, now="2026-01-01T00:00:00Z")
    same = conditions({T.ACCEPTED: passed(Reason.ACCEPTED, "x")}, first, generation=2, now="2026-01-02T00:00:00Z")
    other = conditions({T.ACCEPTED: BAD}, same, generation=3, now="2026-01-03T00:00:00Z")

    assert same[0].last_transition_time == "2026-01-01T00:00:00Z"
    assert (same[0].observed_generation, same[0].message) == (2, "x")
    assert other[0].last_transition_time == "2026-01-03T00:00:00Z"


@pytest.mark.parametrize(
    ("finding", "warns"),
    [(OK, False), (BAD, True), (PENDING, True), (failed(Reason.CONSENT_REQUIRED, "open it"), False)],
)
def test_events_warn_of_what_is_wrong(finding: Finding, warns: bool) -> None:
    (condition,) = conditions({T.AUTHORIZED: finding}, [], generation=1, now="2026-01-01T00:00:00Z")
    assert is_warning(condition) is warns


def made(**statuses: str) -> list[Condition]:
    return [
        Condition(
            type=name,
            status=status,
            reason="R",
            message="",
            last_transition_time="2026-01-01T00:00:00Z",
            observed_generation=1,
        )
        for name, status in statuses.items()
    ]


@pytest.mark.parametrize(
    ("before", "after", "news"),
    [
        ({}, {"Accepted": "True", "Ready": "True"}, ["Ready"]),
        ({}, {"Accepted": "False", "Delivered": "False", "Ready": "False"}, ["Accepted", "Delivered"]),
        ({"Ready": "True"}, {"Ready": "True"}, []),
        ({"Accepted": "True"}, {"Accepted": "False", "Ready": "False"}, ["Accepted"]),
        ({"Accepted": "False"}, {"Accepted": "False", "Ready": "False"}, []),
        ({"Ready": "False"}, {"Ready": "True"}, ["Ready"]),
        ({"Ready": "Unknown"}, {"Ready": "True"}, ["Ready"]),
    ],
)
def test_events_tell_of_transitions_only(before: dict[str, str], after: dict[str, str], news: list[str]) -> None:
    assert [condition.type for condition in transitions(made(**before), made(**after))] == news


@pytest.mark.parametrize("reason", [Reason.NOT_DELIVERED, Reason.LAST_GOOD_KEPT])
def test_what_only_repeats_another_condition_is_no_event(reason: Reason) -> None:
    found = {T.ACCEPTED: BAD, T.DELIVERED: failed(reason, "see above")}
    after = conditions(found, [], generation=1, now="2026-01-01T00:00:00Z")
    assert [condition.type for condition in transitions([], after)] == ["Accepted"]


def test_ready_says_how_far_it_was_tested() -> None:
    probed = summarize({T.ACCEPTED: OK, T.PROBE_SUCCEEDED: passed(Reason.PROBE_PASSED, "accepted a test mail")})
    assert probed[T.READY].message == "accepted a test mail"
    assert "disabled" in summarize({T.ACCEPTED: OK})[T.READY].message
