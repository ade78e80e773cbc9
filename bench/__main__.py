"""`python -m bench`: runs benchmarks and prints one JSON object a line."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from bench.benchmark import Benchmark, Plan
from bench.errors import BenchError
from bench.progress import say
from bench.registry import BENCHMARKS
from bench.result import Result
from dev.cluster import ClusterError
from dev.role_process import StartError

TOLERANCE: Final = 2.0
"""On a machine that does other things too, and with small numbers, a result counts as bad only beyond this."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what was asked for.

    Returns:
        The exit status: 1 if a quick benchmark is bad or any has no result.
    """
    options = _parser().parse_args(arguments)
    unknown = sorted({*options.names} - {benchmark.name for benchmark in BENCHMARKS})
    if unknown:
        _parser().error(f"there is no benchmark {', '.join(unknown)}; see --help")
    chosen = [benchmark for benchmark in BENCHMARKS if not options.names or benchmark.name in options.names]
    try:
        bad = [result for benchmark in chosen for result in _run(benchmark, options) if _is_bad(result, options.quick)]
    except (BenchError, ClusterError, StartError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    return 1 if bad else 0


def _run(benchmark: Benchmark, options: argparse.Namespace) -> list[Result]:
    results: list[Result] = []
    for plan in plans(benchmark, options):
        say(f"{benchmark.name}, {plan.tenants} tenants")
        found = asyncio.run(benchmark.run(plan))
        for result in found:
            print(result.line(), flush=True)
            say(f"  {result.verdict()}")
        results += found
    return results


def plans(benchmark: Benchmark, options: argparse.Namespace) -> list[Plan]:
    """What is to be carried out, by the options."""
    chosen = (benchmark.quick,) if options.quick else benchmark.full
    if options.tenants:
        chosen = (replace(chosen[0], tenants=options.tenants),)
    changes = {name: value for name in ("rounds", "seconds") if (value := getattr(options, name)) is not None}
    return [replace(plan, **changes) for plan in chosen]


def _is_bad(result: Result, quick: bool) -> bool:
    return quick and result.share > TOLERANCE


def _parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {benchmark.name:<22}{benchmark.summary}" for benchmark in BENCHMARKS)
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures the operator on a control plane of its own, beside the least that anybody would need.\n"
        "Results are JSON, one object a line; progress goes to standard error.\n\n"
        f"benchmarks:\n{lines}",
        epilog="examples:\n"
        '  make bench ARGS="fan-out --tenants 1000"\n'
        "  QUICK=1 make bench\n"
        "  python -m bench steady --seconds 60",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which benchmarks (default: all)")
    parser.add_argument("--tenants", type=int, metavar="N", help="how many tenants (default: the benchmark's own)")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often ours and the floor are measured, in turn")
    parser.add_argument("--seconds", type=float, metavar="S", help="how long a benchmark without an end lasts")
    parser.add_argument(
        "--quick",
        action=argparse.BooleanOptionalAction,
        default=bool(os.environ.get("QUICK")),
        help=f"small numbers; fail on what misses its aim by a factor of {TOLERANCE:g} (default: $QUICK is set)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
