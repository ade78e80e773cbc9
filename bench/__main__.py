"""`python -m bench`: runs benchmarks and prints one JSON object a line."""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from bench.benchmark import Benchmark, Plan
from bench.errors import BenchError
from bench.progress import say
from bench.registry import BENCHMARKS
from bench.result import FORBIDDEN, Result
from bench.world import Worlds, one_world, world
from dev.cluster import ClusterError
from dev.role_process import StartError

TOLERANCE: Final = 2.0
"""On a machine that does other things too, and with small numbers, a time counts as bad only beyond this."""


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
        bad = asyncio.run(_run_all(chosen, options))
    except (BenchError, ClusterError, StartError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    return 1 if bad else 0


async def _run_all(chosen: Sequence[Benchmark], options: argparse.Namespace) -> list[Result]:
    """Runs one after the other; what is bad."""
    bad: list[Result] = []
    began = time.monotonic()
    async with one_world() if options.quick else _worlds_of_their_own() as worlds:
        for benchmark in chosen:
            for plan in plans(benchmark, options):
                results = await _run(benchmark, plan, worlds)
                if options.quick and any(is_worth_another_look(benchmark, result) for result in results):
                    say("  once more: the machine may have been busy")
                    results = await _run(benchmark, plan, worlds)
                bad += [result for result in results if options.quick and is_bad(benchmark, result)]
    say(f"all in {time.monotonic() - began:.0f} s")
    return bad


@asynccontextmanager
async def _worlds_of_their_own() -> AsyncIterator[Worlds]:
    yield world


async def _run(benchmark: Benchmark, plan: Plan, worlds: Worlds) -> list[Result]:
    say(f"{benchmark.name}, {plan.tenants} tenants" if plan.tenants else benchmark.name)
    began = time.monotonic()
    results = await benchmark.run(plan, worlds)
    for result in results:
        print(result.line(), flush=True)
        say(f"  {result.verdict()}")
    say(f"  measured in {time.monotonic() - began:.0f} s")
    return results


def plans(benchmark: Benchmark, options: argparse.Namespace) -> list[Plan]:
    """What is to be carried out, by the options."""
    chosen = benchmark.full
    if options.quick:
        chosen = (benchmark.quick,) if benchmark.quick else ()
    if options.tenants and chosen:
        chosen = (replace(chosen[0], tenants=options.tenants),)
    changes = {name: value for name in ("rounds", "seconds") if (value := getattr(options, name)) is not None}
    return [replace(plan, **changes) for plan in chosen]


def is_bad(benchmark: Benchmark, result: Result) -> bool:
    """Whether a quick run fails by a result."""
    return result.share > TOLERANCE * result.slowness * benchmark.misses_by


def is_worth_another_look(benchmark: Benchmark, result: Result) -> bool:
    """Whether a result is bad and may be so because the machine did something else: times may, facts may not."""
    return is_bad(benchmark, result) and result.share < FORBIDDEN


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
