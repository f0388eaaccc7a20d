"""Figures of a suite: scores, intervals, and where they come from."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.benchmark import Answer, Benchmark, Example, Score
from flamingo_jax.evaluation.metrics import bootstrap_interval
from flamingo_jax.evaluation.stages import answers
from flamingo_jax.evaluation.suite import Done, SuiteConfig

_REPLICATES = 500  # of scores that are no mean, each of which is computed anew


@dataclasses.dataclass(frozen=True)
class Figure:
    """A row of the suite's `results.json`.

    Attributes:
      benchmark: its name.
      metric: as papers call it.
      split: of the queries.
      shots: supports before the query.
      seed: of the draw of supports.
      supports: `random` or `rices`.
      images: `true` or `blank`.
      score: a share of 1; of CIDEr, 1 for what papers print as 100.
      ci95: 95% interval, low and high.
      queries: number of them.
      config_hash: tells the config from others.
      checkpoint_hash: tells the weights from others.
      seconds: that the answers took.
    """

    benchmark: str
    metric: str
    split: str
    shots: int
    seed: int
    supports: str
    images: str
    score: float
    ci95: tuple[float, float]
    queries: int
    config_hash: str
    checkpoint_hash: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain data; scores to six digits."""
        rounded = {
            "score": round(self.score, 6),
            "ci95": [round(end, 6) for end in self.ci95],
            "seconds": round(self.seconds, 1),
        }
        return {**dataclasses.asdict(self), **rounded}


def figure(done: Done, config: SuiteConfig, config_hash: str, checkpoint_hash: str) -> Figure:
    """The score of a stage; its lines get each query's own, where the score is their mean.

    Raises:
      UserError: the queries have no published answers.
    """
    replies = answers(done.benchmark, done.lines)
    score = done.benchmark.score(done.queries, replies)
    if score.queries is not None:
        for line, value in zip(done.lines, score.queries.tolist(), strict=True):
            line["score"] = value
    _, shots, seed = done.stage
    return Figure(
        benchmark=done.benchmark.name,
        metric=done.benchmark.metric,
        split=config.split or done.benchmark.query,
        shots=shots,
        seed=seed,
        supports=config.supports,
        images=config.images,
        score=score.value,
        ci95=interval(done.benchmark, done.queries, replies, score),
        queries=len(done.queries),
        config_hash=config_hash,
        checkpoint_hash=checkpoint_hash,
        seconds=done.seconds,
    )


def interval(
    benchmark: Benchmark, queries: Sequence[Example], replies: Sequence[Answer], score: Score
) -> tuple[float, float]:
    """95% bootstrap interval: queries, or groups that belong together, drawn with replacement."""
    groups = np.array([query.group or query.id for query in queries])
    if score.queries is not None:
        return bootstrap_interval(score.queries, groups)
    _, cluster = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(cluster == i) for i in range(cluster.max() + 1)]
    rng, values = np.random.default_rng(0), []
    for _ in range(_REPLICATES):
        drawn = [members[i] for i in rng.integers(len(members), size=len(members))]
        # A group that is drawn twice is two: RareAct weighs clips by how many their video has.
        asked = [
            dataclasses.replace(queries[i], group=str(n))
            for n, group in enumerate(drawn)
            for i in group
        ]
        try:
            again = benchmark.score(asked, [replies[i] for i in np.concatenate(drawn)])
        except UserError:
            continue  # a draw without one of the classes has no score
        values.append(again.value)
    low, high = np.quantile(values or [score.value], [0.025, 0.975])
    return float(low), float(high)
