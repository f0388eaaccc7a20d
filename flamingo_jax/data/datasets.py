"""The data sets of a run, their sizes and weights."""

import dataclasses
from typing import Literal

from flamingo_jax.data.tasks import FAMILIES
from flamingo_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
    """One data set of the mixture.

    Attributes:
      name: of the data set.
      kind: `episodes` of few-shot tasks, pages with text and images `interleaved`, `pairs` of an
        image and a text, or of a `video` and a text.
      batch_size: B, sequences a step.
      weight: λ, the weight of its loss (arXiv:2204.14198, eq. 5).
      length: T, tokens a sequence.
      media: N, media a sequence.
      max_answer_tokens: A, scored tokens a sequence.
      frames: F, frames a medium.
      families: share of each family among the episodes.
      p_next: share of sequences whose text comes before its media.
      eoc_weight: weight of the loss on `<|endofchunk|>`.
      path: of a source of documents, see `sources.opening`; None makes them of drawings.
      held_out: of so many records of the path one is not trained on, and the loss on it is
        measured at the run's end; 0 for none.
      flip: images are mirrored half of the time, where the text does not speak of sides.
      colour: images get other colours, where the text does not speak of colours.
    """

    name: str
    kind: Literal["episodes", "interleaved", "pairs", "video"]
    batch_size: int
    weight: float
    length: int
    media: int
    max_answer_tokens: int
    frames: int = 1
    families: dict[str, float] = dataclasses.field(default_factory=dict)
    p_next: float = 0.0
    eoc_weight: float = 0.1
    path: str | None = None
    held_out: int = 0
    flip: bool = False
    colour: bool = False

    def __post_init__(self) -> None:
        if self.kind == "episodes" and not self.families:
            raise UserError(f"Data set {self.name}: families is empty, name at least one.")
        if self.kind == "episodes" and self.path is not None:
            raise UserError(
                f"Data set {self.name}: episodes are made of drawings, not of {self.path}: set "
                "kind to interleaved, pairs or video."
            )
        if self.held_out and self.path is None:
            raise UserError(
                f"Data set {self.name}: held_out is for data sets with a path; drawings have a "
                "test split."
            )
        for family in self.families:
            if family not in FAMILIES:
                raise UserError(f"Data set {self.name}: no family {family!r}, only {[*FAMILIES]}.")


@dataclasses.dataclass(frozen=True)
class MixtureConfig:
    """The data sets of a run.

    Attributes:
      datasets: in the order of their turns.
      schedule: `accumulate` the gradients of all data sets before each update, or one data set's
        batch a step, `round_robin` (arXiv:2204.14198, §3.3).
      workers: processes that make batches ahead of the steps; 0 makes them in the run's own.
      max_bad_fraction: of a data set's records, share that may be skipped before the run stops.
    """

    datasets: tuple[DatasetConfig, ...]
    schedule: Literal["accumulate", "round_robin"] = "accumulate"
    workers: int = 0
    max_bad_fraction: float = 0.1

    @property
    def turns(self) -> int:
        """Steps until every data set has been trained on."""
        return len(self.datasets) if self.schedule == "round_robin" else 1

    def batches_until(self, dataset: int, step: int) -> int:
        """How many batches of a data set, by its place, the steps up to `step` took."""
        return (step + self.turns - 1 - dataset) // self.turns if self.turns > 1 else step
