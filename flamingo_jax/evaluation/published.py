"""Figures that papers have published on the suite's benchmarks, to stand beside one's own.

`published.csv`: Flamingo (arXiv:2204.14198, table 1 and the tables of appendix B.2) and
OpenFlamingo (arXiv:2308.01390, v2 models; COCO and VQAv2), in the papers' units, where a share of 1
is 100.
"""

import csv
import functools
import importlib.resources
from typing import NamedTuple


class Published(NamedTuple):
    """One published score.

    Attributes:
      model: whose.
      shots: supports before the query.
      supports: `random` or `rices`.
      score: of 100.
    """

    model: str
    shots: int
    supports: str
    score: float


@functools.cache
def published() -> dict[str, tuple[Published, ...]]:
    """Scores by benchmark."""
    path = importlib.resources.files("flamingo_jax.evaluation") / "published.csv"
    found: dict[str, list[Published]] = {}
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        entry = Published(row["model"], int(row["shots"]), row["supports"], float(row["score"]))
        found.setdefault(row["benchmark"], []).append(entry)
    return {name: tuple(entries) for name, entries in found.items()}
