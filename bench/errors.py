"""What can go wrong with a benchmark."""


class BenchError(Exception):
    """A benchmark has no result: what it measures did not happen, or not as it should have."""
