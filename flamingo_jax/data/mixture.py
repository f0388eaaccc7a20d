"""The mixture: a grain stream for each data set, every one with its batch size and weight.

A step gets a batch of each data set, or of one after another in turn. Example i of a data set
depends on the seed, the data set's name and i alone, and the place in the stream is a few integers,
so a run can stop and go on anywhere.
"""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import grain
import numpy as np

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
    """

    datasets: tuple[DatasetConfig, ...]
    schedule: Literal["accumulate", "round_robin"] = "accumulate"

    @property
    def turns(self) -> int:
        """Steps until every data set has been trained on."""
        return len(self.datasets) if self.schedule == "round_robin" else 1


class Mixture:
    """Iterator over one batch for each data set; its place is plain JSON."""

    def __init__(self, streams: Mapping[str, Any]) -> None:
        self._streams = dict(streams)

    def __next__(self) -> dict[str, Batch]:
        return {name: Batch(**next(stream)) for name, stream in self._streams.items()}

    def get_state(self) -> dict[str, Any]:
        """Where each stream stands."""
        return {name: stream.get_state() for name, stream in self._streams.items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes back to a place given by `get_state`."""
        for name, stream in self._streams.items():
            stream.set_state(state[name])


class RoundRobin:
    """Iterator over one batch of one data set, of each in turn; its place is plain JSON."""

    def __init__(self, streams: Mapping[str, Any]) -> None:
        self._streams = dict(streams)
        self._turn = 0

    def __next__(self) -> dict[str, Batch]:
        name = list(self._streams)[self._turn]
        self._turn = (self._turn + 1) % len(self._streams)
        return {name: Batch(**next(self._streams[name]))}

    def get_state(self) -> dict[str, Any]:
        """Whose turn it is, and where each stream stands."""
        streams = {name: stream.get_state() for name, stream in self._streams.items()}
        return {"turn": self._turn, "streams": streams}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes back to a place given by `get_state`."""
        self._turn = state["turn"]
        for name, stream in self._streams.items():
            stream.set_state(state["streams"][name])


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
) -> Mixture | RoundRobin:
    """Batches of the drawings of one split.

    Raises:
      UserError: as `check_kinds`; or, when a sequence is drawn, it does not fit its data set's
        sizes.
    """
    check_kinds(config)
    pool = Pool(drawings, split)

    def stream(dataset: DatasetConfig) -> Any:
        def example(_: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
            return make_example(dataset, pool, tokenizer, rng)

        own_seed = zlib.crc32(f"{seed}:{dataset.name}".encode())
        numbers = grain.MapDataset.range(2**31 - 1).seed(own_seed)
        examples = numbers.random_map(example).batch(dataset.batch_size)
        return iter(examples.to_iter_dataset(grain.ReadOptions(num_threads=0)))

    streams = {dataset.name: stream(dataset) for dataset in config.datasets}
    return Mixture(streams) if config.schedule == "accumulate" else RoundRobin(streams)


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
