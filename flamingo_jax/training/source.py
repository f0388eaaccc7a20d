"""Batches of the mixture turned into what the training step takes."""

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import jax
import numpy as np

from flamingo_jax.data.batch import Batch
from flamingo_jax.data.datasets import DatasetConfig
from flamingo_jax.parallel.layout import Layout
from flamingo_jax.training.inputs import Inputs, select_answers


class Batches(Protocol):
    """A checkpointable iterator over one batch for each data set."""

    def __next__(self) -> dict[str, Batch]: ...

    def get_state(self) -> Any:
        """Plain JSON that tells where the iterator stands."""

    def set_state(self, state: Any) -> None:
        """Goes back to a place given by `get_state`."""


class Source:
    """A step's inputs by data set: answers instead of a mask, and features instead of pixels.

    Each process makes its rows of a batch; the arrays that come out are the whole batch's.

    Attributes:
      encoding: when the vision encoder began and ended its work for the last inputs, in seconds of
        `time.perf_counter`; this the device does, while what comes before it waits for data.
    """

    def __init__(
        self,
        batches: Batches,
        datasets: Iterable[DatasetConfig],
        layout: Layout,
        features: Callable[[np.ndarray], np.ndarray] | None,
    ) -> None:
        """Without `features` the pixels are passed on, for the step to encode."""
        self._batches = batches
        self._datasets = {dataset.name: dataset for dataset in datasets}
        self._layout = layout
        self._features = features
        self.encoding = (0.0, 0.0)

    def __next__(self) -> dict[str, Inputs]:
        batches = next(self._batches)
        began = time.perf_counter()
        inputs = {name: self._inputs(name, batch) for name, batch in batches.items()}
        if self._features:
            self.encoding = (began, time.perf_counter())
        return inputs

    def get_state(self) -> Any:
        """Plain JSON that tells where the iterator stands."""
        return self._batches.get_state()

    def set_state(self, state: Any) -> None:
        """Goes back to a place given by `get_state`."""
        self._batches.set_state(state)

    def _inputs(self, name: str, batch: Batch) -> Inputs:
        dataset, images = self._datasets[name], batch.images_BxNxFxHxWx3
        at_BxA, targets_BxA, weights_BxA = select_answers(batch, dataset.max_answer_tokens)
        local = Inputs(
            tokens_BxT=batch.tokens_BxT,
            media_index_BxT=batch.media_index_BxT,
            at_BxA=at_BxA,
            targets_BxA=targets_BxA,
            weights_BxA=weights_BxA,
            features_BxNxFxPxC=self._features(images) if self._features else None,
            images_BxNxFxHxWx3=None if self._features else images,
        )
        return jax.tree.map(lambda rows: self._layout.from_rows(rows, dataset.batch_size), local)
