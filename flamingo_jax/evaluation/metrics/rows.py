"""Scores with intervals, and the rows of `results.json`."""

import dataclasses
from typing import Any

import numpy as np

REPLICATES = 2000


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure of the evaluation.

    Attributes:
      benchmark: family of tasks.
      shots: supports before the query.
      seed: of the draw of episodes.
      metric: `log_likelihood`, `exact_match`, `language`, or a ceiling's name.
      score: share of queries answered rightly.
      ci95: 95% interval, low and high.
      queries: number of them.
      images: `true`, `blank`, or `none` (the language model alone given the same text).
      chance: score expected of a guess; 0 where any text may be answered.
    """

    benchmark: str
    shots: int
    seed: int
    metric: str
    score: float
    ci95: tuple[float, float]
    queries: int
    images: str
    chance: float

    def to_json(self) -> dict[str, Any]:
        """Plain data, rounded to what the sample can carry."""
        low, high = self.ci95
        rounded = {"score": round(self.score, 4), "ci95": [round(low, 4), round(high, 4)]}
        return {**dataclasses.asdict(self), **rounded, "chance": round(self.chance, 4)}


def bootstrap_interval(
    values: np.ndarray, clusters: np.ndarray, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean, whole clusters drawn with replacement.

    Queries of one episode share its supports, so that they are not independent: episodes are the
    unit drawn (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13).

    Args:
      values: [n] scores.
      clusters: [n] label of each score's cluster.
      seed: of the draws.
      level: coverage.
    """
    _, cluster = np.unique(clusters, return_inverse=True)
    sums, sizes = np.bincount(cluster, values), np.bincount(cluster)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(sums), size=(REPLICATES, len(sums)))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
