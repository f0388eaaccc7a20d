"""Scores as the benchmarks' official code gives them, and intervals around them.

All are shares of 1 except CIDEr, which is about 1.0 for what papers print as 100 points.
"""

from flamingo_jax.evaluation.metrics.rows import Row, bootstrap_interval
from flamingo_jax.evaluation.metrics.vqa import vqa_accuracy

__all__ = ["Row", "bootstrap_interval", "vqa_accuracy"]
