"""All benchmarks, in the order in which they are run."""

from typing import Final

from bench import (
    apply_during_fan_out,
    apply_to_ready,
    fan_out,
    fan_out_always,
    first_sight,
    growth,
    memory,
    plugin_test,
    probes,
    relay,
    restart,
    rotation,
    steady,
)
from bench.benchmark import Benchmark

BENCHMARKS: Final[tuple[Benchmark, ...]] = (
    apply_to_ready.BENCHMARK,
    fan_out_always.BENCHMARK,
    first_sight.BENCHMARK,
    fan_out.BENCHMARK,
    apply_during_fan_out.BENCHMARK,
    restart.BENCHMARK,
    steady.BENCHMARK,
    memory.BENCHMARK,
    growth.BENCHMARK,
    rotation.BENCHMARK,
    probes.BENCHMARK,
    plugin_test.BENCHMARK,
    relay.BENCHMARK,
    relay.CONNECTIONS,
    relay.LATENCY,
    relay.MEMORY,
)
"""What needs less comes first: quick ones are run on one control plane, to which each adds."""
