"""From what a user asks for to plans."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from flamingo_jax import config as configuration
from flamingo_jax.checks import check_config
from flamingo_jax.config import RunConfig
from flamingo_jax.parallel.mesh import AXES
from flamingo_jax.planning.hardware import parse
from flamingo_jax.planning.meshes import scaled, with_mesh
from flamingo_jax.planning.plan import Plan, plan_training
from flamingo_jax.planning.search import search
from flamingo_jax.planning.serving import Load, plan_serving

_PROMPTS = 8


def train(
    name: str, values: Mapping[str, Any], topology: str, batch: int | None, searching: bool
) -> list[Plan]:
    """Plans of the training step, the best first; one only unless `searching`.

    Args:
      name: of the recipe.
      values: fields of a RunConfig.
      topology: such as `v4:8x8x16`.
      batch: sequences of the first data set, others in proportion; None for the config's.
      searching: try several meshes.

    Raises:
      UserError: the message says what cannot be planned, and why.
    """
    config, slices = _config(values), parse(topology)
    if batch is not None:
        config = scaled(config, batch / config.mixture.datasets[0].batch_size)
    config = with_mesh(config, slices)
    return search(name, config, slices) if searching else [plan_training(name, config, slices)]


def serve(
    name: str,
    values: Mapping[str, Any],
    topology: str,
    batch: int | None,
    tokens: int,
    images: int,
    new_tokens: int,
) -> list[Plan]:
    """Plans of `prefill` and `decode`; `batch` None is the least from 8 that can be split.

    Raises:
      UserError: the message says what cannot be planned, and why.
    """
    config, slices = _config(values), parse(topology)
    load = Load(batch or max(_PROMPTS, slices.chips), tokens, images, new_tokens)
    return plan_serving(name, config, slices, load)


def _config(values: Mapping[str, Any]) -> RunConfig:
    """The config; whether its batches can be split is seen when there is a mesh."""
    config = configuration.resolve(values)
    one = dataclasses.replace(config.mesh, **dict.fromkeys(AXES, 1))
    check_config(dataclasses.replace(config, mesh=one), 1)
    return config
