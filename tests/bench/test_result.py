"""What the benchmarks print, and how they judge it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench.__main__ import _parser, is_bad, is_worth_another_look, plans
from bench.benchmark import Benchmark, Plan
from bench.registry import BENCHMARKS
from bench.result import FORBIDDEN, Result, quantile

DOCS = Path(__file__).parents[2] / "docs"


def result(share: float = 0.5, **fields: float) -> Result:
    values: dict[str, float | None] = {"ours_s": 3.0, "floor_s": 2.0, "rss_mb": 100.04, **fields}
    return Result("fan-out", 1000, values["ours_s"], values["floor_s"], values["rss_mb"], 2001, share)


def test_a_result_is_one_line_of_json() -> None:
    assert json.loads(result().line()) == {
        "name": "fan-out",
        "tenants": 1000,
        "ours_s": 3.0,
        "floor_s": 2.0,
        "ratio": 1.5,
        "rss_mb": 100.0,
        "writes": 2001,
    }


def test_what_is_not_measured_is_null() -> None:
    document = json.loads(Result("memory", 1000, None, None, 99.0, None, 0.8, "large Secrets").line())
    assert (document["ours_s"], document["ratio"], document["writes"]) == (None, None, None)
    assert document["about"] == "large Secrets"


def test_a_verdict_says_how_far_it_is_from_what_must_be_reached() -> None:
    assert result(0.5).verdict() == "fan-out: reached, at 0.50 of what is allowed"
    assert result(1.5).verdict() == "fan-out: missed, at 1.50 times what is allowed"


def test_quick_runs_fail_only_beyond_twice_what_is_allowed() -> None:
    assert not is_bad(benchmark(), result(1.9))
    assert is_bad(benchmark(), result(2.1))


def test_times_of_their_own_grow_with_the_slowness_of_the_machine() -> None:
    slow = replace(result(5.9), slowness=3.0)
    assert not is_bad(benchmark(), slow)
    assert is_bad(benchmark(), replace(slow, share=6.1))
    assert slow.verdict() == "fan-out: missed, at 5.90 times what is allowed", "a verdict makes no excuses"


def test_what_is_known_to_be_missed_may_get_no_worse() -> None:
    missed = replace(benchmark(), misses_by=3.0)
    assert not is_bad(missed, result(5.9))
    assert is_bad(missed, result(6.1))


def test_what_must_not_be_is_not_looked_at_again() -> None:
    assert is_worth_another_look(benchmark(), result(2.1))
    assert not is_worth_another_look(benchmark(), result(1.9))
    assert not is_worth_another_look(benchmark(), result(FORBIDDEN))


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.99, 4.0), (0.25, 1.0), (1.0, 4.0)])
def test_quantiles_are_measured_values(share: float, value: float) -> None:
    assert quantile([3.0, 1.0, 4.0, 2.0], share) == value


def benchmark() -> Benchmark:
    return next(each for each in BENCHMARKS if each.name == "steady")


def test_options_change_the_plans() -> None:
    full, quick = benchmark().full, benchmark().quick
    assert plans(benchmark(), _parser().parse_args(["steady", "--no-quick"])) == [*full]
    assert plans(benchmark(), _parser().parse_args(["steady", "--quick"])) == [quick]
    growth = next(each for each in BENCHMARKS if each.name == "growth")
    assert plans(growth, _parser().parse_args(["--quick", "--tenants", "7"])) == []
    options = _parser().parse_args(["steady", "--no-quick", "--tenants", "7", "--seconds", "5", "--rounds", "2"])
    assert plans(benchmark(), options) == [Plan(7, rounds=2, seconds=5.0)]


def test_each_is_in_a_table_of_the_documentation_and_none_comes_twice() -> None:
    documented = "".join(page.read_text() for page in DOCS.glob("*.md"))
    found = [each.name for each in BENCHMARKS]
    assert [name for name in found if not re.search(rf"^\| `{name}` \|", documented, re.MULTILINE)] == []
    assert len(found) == len({*found})
