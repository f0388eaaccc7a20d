"""Trees of unread tensors read at once, and the handle of what a reader gives."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from flamingo_jax.checkpoints.published import Published
from flamingo_jax.checkpoints.tensors import Stacked, Tensor
from flamingo_jax.inference.handle import Flamingo
from flamingo_jax.models.flamingo import FlamingoModel


def materialise(tree: Any) -> Any:
    """The tree with an array for each tensor."""
    return jax.tree.map(_read, tree)


def handle(published: Published) -> Flamingo:
    """The model in memory, without a tokenizer, after its tree was found to be the model's own."""
    variables = materialise(published.variables)
    chex.assert_trees_all_equal_shapes(variables, _shapes(published))
    return Flamingo.from_variables(published.config, variables, published.text)


def _shapes(published: Published) -> Any:
    config, model = published.config, FlamingoModel(published.config)
    size = config.vision.image_size
    tokens, images = jnp.zeros((1, 2), int), jnp.zeros((1, 1, 1, size, size, 3))

    def init() -> Any:
        return model.init(jax.random.key(0), tokens, images, tokens, method="from_pixels")

    return jax.eval_shape(init)


def _read(leaf: Tensor | Stacked) -> np.ndarray:
    if isinstance(leaf, Tensor):
        array = leaf.read()
        assert array.shape == leaf.shape
        return array
    array = np.empty(leaf.shape, leaf.dtype)
    for index, tensor in leaf.slices():
        array[index] = tensor.read()
    return array
