"""The mixture: data sets in grain, every one with its batch size and weight.

A step gets a batch of each data set, or of one after another in turn. Example i of a data set
depends on the seed, the data set's name and i alone, and a step's examples on its number, so a run
can stop and go on anywhere, with any number of hosts and of processes that make its batches.
"""

import weakref
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from flamingo_jax.data.bad_records import Problem
from flamingo_jax.data.batch import Batch
from flamingo_jax.data.datasets import DatasetConfig, MixtureConfig
from flamingo_jax.data.drawings import Drawing
from flamingo_jax.data.drawn import make_example
from flamingo_jax.data.openmoji.builder import SIZE
from flamingo_jax.data.records import Example, Records, open_records
from flamingo_jax.data.shared import Receiver, Sender
from flamingo_jax.data.sources.base import Source
from flamingo_jax.data.staged import Staged, finish_all
from flamingo_jax.data.tasks import Pool
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError


class Mixture:
    """Iterator over steps, each a batch by data set; its place is the number of steps taken.

    Attributes:
      skipped: by data set, what could not be used for the batches given last.
    """

    def __init__(self, steps: grain.MapDataset, workers: int = 0) -> None:
        """`steps`: by data set, arrays of `Batch` by field, and problems, of any step.

        With `workers`, what `Sender.stack` gives in place of the arrays.
        """
        self.skipped: dict[str, list[Problem]] = {}
        self._steps, self._workers = steps, workers
        self._running: list[Any] = []  # grain's iterator, if any
        # At the end of the process, too, when the interpreter still is whole.
        weakref.finalize(self, _end, self._running)
        self.set_state({"step": 0})

    def __iter__(self) -> "Mixture":
        return self

    def __next__(self) -> dict[str, Batch]:
        made = next(self._running[0])
        if isinstance(made, str):  # in a worker process an exception would lose its type
            raise UserError(made)
        self._taken += 1
        self.skipped = {name: problems for name, (_, problems) in made.items()}
        batches = {name: batch for name, (batch, _) in made.items()}
        if self._workers:
            batches = {name: self._received.open(*sent) for name, sent in batches.items()}
        return {name: Batch(**arrays) for name, arrays in batches.items()}

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
        _end(self._running)
        self._running.append(iter(left))
        self._received = Receiver()


def _end(running: list[Any]) -> None:
    """Ends an iterator and its worker processes."""
    while running:
        running.pop().close()


def open_sources(config: MixtureConfig) -> dict[str, Source]:
    """The sources of the data sets that have a path, by the data set's name.

    Raises:
      UserError: one cannot be opened, makes nothing of its data set's kind, or a data set without a
        path cannot be made of drawings; the message names it.
    """
    for dataset in config.datasets:
        if dataset.kind == "interleaved" and dataset.path is None:
            raise UserError(
                f"Data set {dataset.name}: the drawings make no pages of interleaved text and "
                "images, only episodes, pairs and video: give it the path of some."
            )
    with_path = [dataset for dataset in config.datasets if dataset.path is not None]
    return {dataset.name: open_records(dataset) for dataset in with_path}


def make_iterator(
    config: MixtureConfig,
    drawings: Sequence[Drawing],
    tokenizer: Tokenizer,
    seed: int,
    split: str = "train",
    rows: Mapping[str, Sequence[int]] | None = None,
    told: Mapping[str, Sequence[int]] | None = None,
    image_size: int = SIZE,
) -> Mixture:
    """Batches of the drawings of one split, and of the sources that data sets name.

    Args:
      config: the data sets.
      drawings: all splits.
      tokenizer: of the language model.
      seed: of all that is drawn.
      split: whose drawings to take.
      rows: of each data set's batches, those to make; None for all.
      told: of these, the ones for which skipped records are told; None for all. Several processes
        may make the same rows.
      image_size: side of the vision encoder's input, pixels; that of the drawings if there are any.

    Raises:
      UserError: as `open_sources`; or, when a sequence is drawn, it does not fit its data set's
        sizes, or nothing of a source can be used.
    """
    sources, datasets = open_sources(config), config.datasets
    drawn = [dataset for dataset in datasets if dataset.path is None]
    pool = Pool(drawings, split) if drawn else None
    examples = [
        _Drawn(dataset, pool, tokenizer, seed)
        if pool is not None and dataset.path is None
        else Records(dataset, sources[dataset.name], tokenizer, image_size, seed)
        for dataset in datasets
    ]

    stack = Sender().stack if config.workers else _stack

    def batch(i: int, number: int) -> tuple[Any, list[Problem]]:
        size = datasets[i].batch_size
        wanted = range(size) if rows is None else rows[datasets[i].name]
        telling = wanted if told is None else told[datasets[i].name]
        made = finish_all([examples[i][number * size + row] for row in wanted])
        arrays = stack([arrays for arrays, _ in made])
        found = [made[place][1] for place, row in enumerate(wanted) if row in telling]
        return arrays, [problem for problems in found for problem in problems]

    def step(number: int) -> dict[str, tuple[Any, list[Problem]]] | str:
        try:
            if config.schedule == "accumulate":
                return {dataset.name: batch(i, number) for i, dataset in enumerate(datasets)}
            turn, i = divmod(number, len(datasets))
            return {datasets[i].name: batch(i, turn)}
        except UserError as error:
            return str(error)

    return Mixture(grain.MapDataset.range(2**31 - 1).map(step), config.workers)


def _stack(rows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {field: np.stack([row[field] for row in rows]) for field in rows[0]}


class _Drawn:
    """Every example of a data set made of drawings, by its number, to be finished."""

    def __init__(self, dataset: DatasetConfig, pool: Pool, tokenizer: Tokenizer, seed: int) -> None:
        def example(_: int, rng: np.random.Generator) -> Example:
            return make_example(dataset, pool, tokenizer, rng), []

        own_seed = zlib.crc32(f"{seed}:{dataset.name}".encode())
        numbers = grain.MapDataset.range(2**31 - 1)
        self._examples: Any = numbers.seed(own_seed).random_map(example)

    def __getitem__(self, number: int) -> Staged[Example]:
        yield
        return self._examples[number]
