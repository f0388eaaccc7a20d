"""What training changes and what it only reads, as they are before the first step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from flamingo_jax.models.flamingo import FlamingoConfig, FlamingoModel
from flamingo_jax.parallel.layout import Layout

Array = jax.Array


@struct.dataclass
class TrainState:
    """What a step changes.

    Attributes:
      step: int32 number of finished steps.
      params: trained parameters, float32.
      opt_state: the optimizer's.
      skipped: int32 number of steps whose gradient was not finite, which changed nothing.
      bad_steps: int32, how many of them were the last ones.
    """

    step: Array
    params: Any
    opt_state: Any
    skipped: Array
    bad_steps: Array

    @classmethod
    def create(cls, params: Any, optimizer: optax.GradientTransformation) -> "TrainState":
        """The state before the first step."""
        return cls(*(jnp.int32(0), params, optimizer.init(params)), *(jnp.int32(0), jnp.int32(0)))


def init_variables(model: FlamingoModel, seed: int) -> Any:
    """Initial values of all collections; what is not used of them costs nothing under `jax.jit`."""
    size = model.config.vision.image_size
    images = np.zeros((1, 1, 1, size, size, 3), np.uint8)
    tokens = np.zeros((1, 2), np.int32)
    key = jax.random.key(seed)
    return model.init(key, tokens, images, np.ones_like(tokens), method="from_pixels")


def variable_shapes(config: FlamingoConfig) -> Any:
    """Shapes and types of all collections of a model; nothing is computed."""
    return jax.eval_shape(lambda: init_variables(FlamingoModel(config), 0))


def init_state(
    model: FlamingoModel, optimizer: optax.GradientTransformation, seed: int, layout: Layout
) -> TrainState:
    """The state before the first step, made where it belongs; its values depend on the seed alone.

    Raises:
      UserError: a parameter cannot be split as the rules say.
    """

    def init() -> TrainState:
        return TrainState.create(init_variables(model, seed)["params"], optimizer)

    return jax.jit(init, out_shardings=layout.shardings(jax.eval_shape(init)))()


def in_compute_type(frozen: Any, dtype: str) -> Any:
    """The shapes of frozen arrays, of the type that the model computes in."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(dtype)), frozen)
