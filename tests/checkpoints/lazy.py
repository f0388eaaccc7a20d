"""The handle of what a reader of published checkpoints gives, without a file in between."""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from flamingo_jax.checkpoints.published import Published
from flamingo_jax.inference.handle import Flamingo
from flamingo_jax.models.flamingo import FlamingoModel
from tests.checkpoints.originals import materialised


def handle(published: Published) -> Flamingo:
    """The model in memory, without a tokenizer, after its tree was found to be the model's own."""
    variables = materialised(published.variables)
    chex.assert_trees_all_equal_shapes(variables, _shapes(published))
    return Flamingo.from_variables(published.config, variables, published.text)


def _shapes(published: Published) -> Any:
    config, model = published.config, FlamingoModel(published.config)
    size = config.vision.image_size
    tokens, images = jnp.zeros((1, 2), int), jnp.zeros((1, 1, 1, size, size, 3))

    def init() -> Any:
        return model.init(jax.random.key(0), tokens, images, tokens, method="from_pixels")

    return jax.eval_shape(init)
