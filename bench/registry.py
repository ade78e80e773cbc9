"""All benchmarks, in the order in which they are run."""

from typing import Final

from bench import (
    apply_during_fan_out,
    apply_to_ready,
    fan_out,
    fan_out_always,
    first_sight,
    memory,
    probes,
    relay,
    restart,
    steady,
)
from bench.benchmark import Benchmark

BENCHMARKS: Final[tuple[Benchmark, ...]] = (
    fan_out.BENCHMARK,
    fan_out_always.BENCHMARK,
    first_sight.BENCHMARK,
    restart.BENCHMARK,
    apply_to_ready.BENCHMARK,
    apply_during_fan_out.BENCHMARK,
    steady.BENCHMARK,
    memory.BENCHMARK,
    probes.BENCHMARK,
    relay.BENCHMARK,
    relay.CONNECTIONS,
    relay.LATENCY,
    relay.MEMORY,
)
