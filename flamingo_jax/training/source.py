"""Batches of the mixture turned into what the training step takes."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from flamingo_jax.data.batch import Batch
from flamingo_jax.training.loss import Inputs, select_answers


class Batches(Protocol):
    """A checkpointable iterator over one batch for each data set."""

    def __next__(self) -> dict[str, Batch]: ...

    def get_state(self) -> Any:
        """Plain JSON that tells where the iterator stands."""

    def set_state(self, state: Any) -> None:
        """Goes back to a place given by `get_state`."""


class Source:
    """A step's inputs by data set: features instead of pixels, answers instead of a mask."""

    def __init__(
        self,
        batches: Batches,
        features: Callable[[np.ndarray], np.ndarray],
        answers: Mapping[str, int],
    ) -> None:
        """`answers`: A by data set, the most scored tokens that a sequence may have."""
        self._batches = batches
        self._features = features
        self._answers = answers

    def __next__(self) -> dict[str, Inputs]:
        return {name: self._inputs(name, batch) for name, batch in next(self._batches).items()}

    def get_state(self) -> Any:
        """Plain JSON that tells where the iterator stands."""
        return self._batches.get_state()

    def set_state(self, state: Any) -> None:
        """Goes back to a place given by `get_state`."""
        self._batches.set_state(state)

    def _inputs(self, name: str, batch: Batch) -> Inputs:
        at_BxA, targets_BxA, weights_BxA = select_answers(batch, self._answers[name])
        return Inputs(
            tokens_BxT=batch.tokens_BxT,
            media_index_BxT=batch.media_index_BxT,
            features_BxNxFxPxC=self._features(batch.images_BxNxFxHxWx3),
            at_BxA=at_BxA,
            targets_BxA=targets_BxA,
            weights_BxA=weights_BxA,
        )
