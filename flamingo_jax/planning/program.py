"""The programs of a config: jitted functions, and the shapes of their arguments on a slice."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from flamingo_jax.config import RunConfig
from flamingo_jax.data.datasets import DatasetConfig
from flamingo_jax.models.axes import parameter_axes
from flamingo_jax.models.flamingo import FlamingoModel
from flamingo_jax.parallel.flops import count_flops
from flamingo_jax.parallel.layout import Layout, make_layout
from flamingo_jax.planning.compiler import Program, argument_bytes
from flamingo_jax.planning.hardware import Topology, devices
from flamingo_jax.planning.traffic import Traffic, count_traffic
from flamingo_jax.training.inputs import Inputs
from flamingo_jax.training.optimizer import make_optimizer
from flamingo_jax.training.state import TrainState, in_compute_type, variable_shapes
from flamingo_jax.training.step import make_step


@dataclasses.dataclass(frozen=True)
class Work:
    """What a program does, counted before it is compiled; of all devices unless said.

    Attributes:
      params: parameters, trained and frozen.
      model_flops: of its products and convolutions, nothing computed twice.
      hardware_flops: with what is computed anew in the backward pass.
      traffic: bytes that these move.
      updated_bytes: of what an update reads and writes, parameters and optimizer state, a device.
    """

    params: int
    model_flops: int
    hardware_flops: int
    traffic: Traffic
    updated_bytes: int


def train_program(config: RunConfig, topology: Topology) -> Program:
    """The training step, its arguments laid out as in a run; tells its `Work`.

    Raises:
      UserError: there is no such slice, or something cannot be split as the rules say.
    """
    layout = make_layout(config.mesh, parameter_axes, devices(topology))
    step, arguments = _train_step(config, layout)
    traced = step.trace(*arguments).jaxpr
    model_flops = hardware_flops = count_flops(traced)
    if config.remat != "none":
        plain, _ = _train_step(dataclasses.replace(config, remat="none"), layout)
        model_flops = count_flops(plain.trace(*arguments).jaxpr)
    state, frozen, inputs = arguments
    flags = jax.tree.leaves(
        (_flags(state, False, params=True), _flags(frozen, True), _flags(inputs, False))
    )
    params = sum(leaf.size for leaf in jax.tree.leaves((state.params, frozen)))
    traffic, updated = count_traffic(traced, flags), argument_bytes(state)
    work = Work(params, model_flops, hardware_flops, traffic, updated)
    return Program(step, arguments, work)


def _flags(tree: Any, value: bool, params: bool | None = None) -> Any:
    flags = jax.tree.map(lambda _: value, tree)
    if params is None:
        return flags
    return dataclasses.replace(flags, params=jax.tree.map(lambda _: params, tree.params))


def held(config: RunConfig) -> tuple[TrainState, Any]:
    """Shapes of what a run holds from step to step: its state, and what is frozen."""
    variables, optimizer = variable_shapes(config.model), _optimizer(config)
    state = jax.eval_shape(lambda p: TrainState.create(p, optimizer), variables["params"])
    return state, in_compute_type(variables["frozen"], config.dtype)


def _optimizer(config: RunConfig) -> Any:
    return make_optimizer(config.optimizer, config.loop.steps)


def _train_step(config: RunConfig, layout: Layout) -> tuple[Any, tuple[Any, ...]]:
    state, frozen = held(config)
    datasets = config.mixture.datasets
    inputs = {dataset.name: _inputs(config, dataset, layout) for dataset in datasets}
    weights = {dataset.name: dataset.weight for dataset in datasets}
    step = make_step(FlamingoModel(config.model), _optimizer(config), weights, layout)
    return step.jitted, (layout.abstract(state), layout.abstract(frozen), inputs)


def _inputs(config: RunConfig, dataset: DatasetConfig, layout: Layout) -> Inputs:
    """Shapes of a data set's batch."""
    B, T, A = dataset.batch_size, dataset.length, dataset.max_answer_tokens

    def of(shape: tuple[int, ...], dtype: Any) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=layout.batch)

    media, side = (B, dataset.media, dataset.frames), config.vision.image_size
    images, features = of((*media, side, side, 3), jnp.uint8), None
    if config.features == "kept":
        images, features = None, of((*media, *_features(config)), jnp.float32)
    return Inputs(
        tokens_BxT=of((B, T), jnp.int32),
        media_index_BxT=of((B, T), jnp.int32),
        at_BxA=of((B, A), jnp.int32),
        targets_BxA=of((B, A), jnp.int32),
        weights_BxA=of((B, A), jnp.float32),
        features_BxNxFxPxC=features,
        images_BxNxFxHxWx3=images,
    )


def _features(config: RunConfig) -> tuple[int, ...]:
    """Positions and channels of an image's features."""
    side, model = config.vision.image_size, FlamingoModel(config.model)
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)

    def encode(key: Any, image: Any) -> Any:
        return model.init_with_output(key, image, method="encode")

    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(encode, key, image)[0].shape[1:]
