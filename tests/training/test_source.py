"""Batches of pixels and masks become features and answers."""

from typing import Any

import numpy as np

from flamingo_jax.data.batch import Batch
from flamingo_jax.data.datasets import DatasetConfig
from flamingo_jax.training.source import Source
from tests.training.test_step import layout_of

DATASETS = (
    DatasetConfig("a", "pairs", 2, 1.0, 5, 3, 3, frames=2),
    DatasetConfig("b", "pairs", 1, 1.0, 4, 2, 2, frames=2),
)


class Batches:
    """Two data sets; the number of the batch is in the tokens."""

    def __init__(self) -> None:
        self.number = 0

    def __next__(self) -> dict[str, Batch]:
        self.number += 1
        return {"a": batch(self.number, 2, 5, 3), "b": batch(self.number, 1, 4, 2)}

    def get_state(self) -> Any:
        return self.number

    def set_state(self, state: Any) -> None:
        self.number = state


def batch(number: int, B: int, T: int, N: int) -> Batch:
    mask = np.zeros((B, T), np.float32)
    mask[:, 2:4] = (1.0, 0.1)
    images = np.arange(B * N * 2 * 4 * 4 * 3, dtype=np.uint8).reshape(B, N, 2, 4, 4, 3)
    tokens = 100 * number + np.arange(B * T, dtype=np.int32).reshape(B, T)
    return Batch(tokens, mask, images, np.full((B, T), number, np.int32))


def brightest(images: np.ndarray) -> np.ndarray:
    """[..., H, W, 3] -> [..., 1, 3]."""
    return images.max((-3, -2))[..., None, :].astype(np.float32)


def test_inputs_are_those_of_the_batch() -> None:
    inputs = next(Source(Batches(), DATASETS, layout_of(), brightest))
    assert set(inputs) == {"a", "b"}
    found, given = inputs["a"], batch(1, 2, 5, 3)
    np.testing.assert_array_equal(found.tokens_BxT, given.tokens_BxT)
    np.testing.assert_array_equal(found.media_index_BxT, given.media_index_BxT)
    np.testing.assert_array_equal(found.features_BxNxFxPxC, brightest(given.images_BxNxFxHxWx3))
    assert found.features_BxNxFxPxC.shape == (2, 3, 2, 1, 3)
    # The tokens at 2 and 3 are scored, from the positions before them; the third place is padding.
    np.testing.assert_array_equal(np.asarray(found.at_BxA)[:, :2], [[1, 2], [1, 2]])
    np.testing.assert_array_equal(np.asarray(found.targets_BxA)[:, :2], [[102, 103], [107, 108]])
    np.testing.assert_allclose(found.weights_BxA, [[1, 0.1, 0], [1, 0.1, 0]])
    assert np.asarray(inputs["b"].at_BxA).shape == (1, 2)


def test_without_features_the_pixels_are_passed_on() -> None:
    found = next(Source(Batches(), DATASETS, layout_of(), None))["a"]
    assert found.features_BxNxFxPxC is None
    np.testing.assert_array_equal(found.images_BxNxFxHxWx3, batch(1, 2, 5, 3).images_BxNxFxHxWx3)


def test_its_place_is_that_of_the_batches() -> None:
    source = Source(Batches(), DATASETS, layout_of(), brightest)
    next(source)
    place = source.get_state()
    assert place == 1
    expected = next(source)["a"].tokens_BxT
    source.set_state(place)
    np.testing.assert_array_equal(next(source)["a"].tokens_BxT, expected)
