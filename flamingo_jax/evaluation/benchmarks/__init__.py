"""The published benchmarks, by name."""

from flamingo_jax.evaluation.benchmark import Benchmark

BENCHMARKS: dict[str, Benchmark] = {}
"""In the order of Flamingo's tables."""
