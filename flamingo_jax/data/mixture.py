"""The mixture: data sets in grain, every one with its batch size and weight.

A step gets a batch of each data set, or of one after another in turn. Example i of a data set
depends on the seed, the data set's name and i alone, and a step's examples on its number, so a run
can stop and go on anywhere, with any number of hosts and of processes that make its batches.
"""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import grain
import numpy as np
from absl import flags

from flamingo_jax.data.batch import Batch
from flamingo_jax.data.drawings import Drawing
from flamingo_jax.data.sequences import encode_turns, pad
from flamingo_jax.data.tasks import FAMILIES, NAME_LANGUAGES, Episode, Pool, Turn, make_episode
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.data.video import make_clip
from flamingo_jax.errors import UserError

_DRAWS = 100  # of one example, before it is clear that none fits


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

    def __post_init__(self) -> None:
        if self.kind == "episodes" and not self.families:
            raise UserError(f"Data set {self.name}: families is empty, name at least one.")
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
    """

    datasets: tuple[DatasetConfig, ...]
    schedule: Literal["accumulate", "round_robin"] = "accumulate"
    workers: int = 0

    @property
    def turns(self) -> int:
        """Steps until every data set has been trained on."""
        return len(self.datasets) if self.schedule == "round_robin" else 1


class Mixture:
    """Iterator over steps, each a batch by data set; its place is the number of steps taken."""

    def __init__(self, steps: grain.MapDataset, workers: int = 0) -> None:
        """`steps`: arrays of `Batch` by field, by data set, of any step."""
        self._steps, self._workers = steps, workers
        self.set_state({"step": 0})

    def __next__(self) -> dict[str, Batch]:
        made = next(self._iterator)
        self._taken += 1
        return {name: Batch(**arrays) for name, arrays in made.items()}

    def get_state(self) -> dict[str, int]:
        """The number of steps taken."""
        return {"step": self._taken}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Goes to a place given by `get_state`, of an iterator with other rows or workers, too."""
        self._taken = state["step"]
        # Grain's own place would be that of each worker. What is left begins with the next step.
        left = self._steps[self._taken :].to_iter_dataset(grain.ReadOptions(num_threads=0))
        if self._workers:
            if not flags.FLAGS.is_parsed():  # grain has some: where no entry point parsed them
                flags.FLAGS.mark_as_parsed()
            left = left.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._workers))
        self._iterator = iter(left)


def check_kinds(config: MixtureConfig) -> None:
    """Looks for data sets that cannot be made of drawings.

    Raises:
      UserError: there is one; the message names it.
    """
    for dataset in config.datasets:
        if dataset.kind == "interleaved":
            raise UserError(
                f"Data set {dataset.name}: the drawings make no pages of interleaved text and "
                "images, only episodes, pairs and video."
            )


def make_iterator(
    config: MixtureConfig,
    drawings: Sequence[Drawing],
    tokenizer: Tokenizer,
    seed: int,
    split: str = "train",
    rows: Mapping[str, Sequence[int]] | None = None,
) -> Mixture:
    """Batches of the drawings of one split.

    Args:
      config: the data sets.
      drawings: all splits.
      tokenizer: of the language model.
      seed: of all that is drawn.
      split: whose drawings to take.
      rows: of each data set's batches, those to make; None for all.

    Raises:
      UserError: as `check_kinds`; or, when a sequence is drawn, it does not fit its data set's
        sizes.
    """
    check_kinds(config)
    pool, datasets = Pool(drawings, split), config.datasets
    examples = [_examples(dataset, pool, tokenizer, seed) for dataset in datasets]

    def batch(i: int, number: int) -> dict[str, np.ndarray]:
        size = datasets[i].batch_size
        wanted = range(size) if rows is None else rows[datasets[i].name]
        made = [examples[i][number * size + row] for row in wanted]
        return {field: np.stack([example[field] for example in made]) for field in made[0]}

    def step(number: int) -> dict[str, dict[str, np.ndarray]]:
        if config.schedule == "accumulate":
            return {dataset.name: batch(i, number) for i, dataset in enumerate(datasets)}
        turn, i = divmod(number, len(datasets))
        return {datasets[i].name: batch(i, turn)}

    return Mixture(grain.MapDataset.range(2**31 - 1).map(step), config.workers)


def _examples(dataset: DatasetConfig, pool: Pool, tokenizer: Tokenizer, seed: int) -> Any:
    """Every example of a data set, by its number."""

    def example(_: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return make_example(dataset, pool, tokenizer, rng)

    own_seed = zlib.crc32(f"{seed}:{dataset.name}".encode())
    return grain.MapDataset.range(2**31 - 1).seed(own_seed).random_map(example)


def make_example(
    config: DatasetConfig, pool: Pool, tokenizer: Tokenizer, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """One padded sequence, by field of `Batch` without the batch axis.

    Long names cost supports; where not even one turn fits, another example is drawn.

    Raises:
      UserError: none of many examples fits; the message says what to raise.
    """
    tokens = scored = 0
    for _ in range(_DRAWS):
        turns = _turns(config, pool, rng)
        text_first = bool(rng.random() < config.p_next)
        for first in range(len(turns)):
            sequence = encode_turns(turns[first:], tokenizer, config.eoc_weight, text_first)
            tokens = len(sequence.tokens)
            scored = sum(weight > 0 for weight in sequence.loss_mask)
            if tokens <= config.length and scored <= config.max_answer_tokens:
                where = f"Data set {config.name}"
                return pad(sequence, config.length, config.media, tokenizer.pad_id, where)
    raise UserError(
        f"Data set {config.name}: a sequence of one turn has {tokens} tokens, {scored} of "
        f"them scored: raise length from {config.length} or max_answer_tokens from "
        f"{config.max_answer_tokens}."
    )


def _turns(config: DatasetConfig, pool: Pool, rng: np.random.Generator) -> tuple[Turn, ...]:
    if config.kind == "episodes":
        return _episode(config, pool, rng).turns
    drawing = pool.any(rng)
    if config.kind == "video":
        clip, text = make_clip(drawing, pool.any(rng), config.frames, rng)
        return (Turn((clip,), text, True, (drawing,)),)
    return (Turn((drawing.image[None],), _description(drawing, rng), True, (drawing,)),)


def _episode(config: DatasetConfig, pool: Pool, rng: np.random.Generator) -> Episode:
    shares = np.array(list(config.families.values()))
    family = list(config.families)[int(rng.choice(len(shares), p=shares / shares.sum()))]
    turns = config.media // 2 if family == "same_different" else config.media
    return make_episode(family, pool, rng, turns)


def _description(drawing: Drawing, rng: np.random.Generator) -> str:
    """A name in one of the languages, or a short description in English."""
    name = drawing.names["en"]
    forms = [f"{drawing.category}: {name}", f"a drawing of {name}"]
    if drawing.colour:
        forms.append(f"{name}, {drawing.colour}")
    forms += [drawing.names[la] for la in NAME_LANGUAGES if la in drawing.names]
    return forms[int(rng.integers(len(forms)))]
