"""Frozen weights apart: the same numbers, from less memory."""

import dataclasses
from typing import Any

import chex
import jax
import numpy as np
import pytest

from flamingo_jax.models.axes import parameter_axes
from flamingo_jax.models.flamingo import FlamingoConfig, FlamingoModel
from flamingo_jax.parallel.layout import Layout, make_layout
from flamingo_jax.parallel.mesh import MeshConfig
from flamingo_jax.training.frozen import ByLayer, by_layer, stacked
from flamingo_jax.training.optimizer import OptimizerConfig, make_optimizer
from flamingo_jax.training.state import TrainState
from flamingo_jax.training.step import make_step
from tests.models.test_flamingo import tiny_config
from tests.training.test_step import WEIGHTS, inputs_of


def unrolled(layers: int) -> FlamingoConfig:
    """With layers below, of a whole group of two, and of a last one of one."""
    config = tiny_config(0.5, layers=layers)
    xattn = dataclasses.replace(config.xattn, first=1, every=2)
    return dataclasses.replace(config, xattn=xattn, unroll=True)


def setting(config: FlamingoConfig) -> tuple[Layout, Any]:
    one = inputs_of(0)
    arguments = (one.tokens_BxT, one.features_BxNxFxPxC, one.media_index_BxT)
    variables = jax.jit(FlamingoModel(config).init)(jax.random.key(0), *arguments)
    return make_layout(MeshConfig(), parameter_axes), jax.tree.map(np.array, variables)


def test_stacks_of_layers_are_apart_and_nothing_else() -> None:
    config = unrolled(layers=4)
    layout, variables = setting(config)
    frozen = layout.place(variables["frozen"])
    apart = by_layer(frozen, config, layout)
    language = apart["language"]
    group = language["groups"]["language"]["layers"]["attention"]["query"]["kernel"]
    assert [len(part.parts) for part in group.parts] == [2]
    for part in ("below", "last_group"):
        tree = language[part].get("language", language[part])
        assert len(tree["layers"]["mlp"]["up"]["kernel"].parts) == 1
    assert not isinstance(language["vocabulary"]["embedding"], ByLayer)
    chex.assert_trees_all_equal(stacked(apart), frozen)


def test_loops_take_stacks() -> None:
    config = dataclasses.replace(unrolled(layers=4), unroll=False)
    layout, variables = setting(config)
    assert by_layer(variables["frozen"], config, layout) is variables["frozen"]


def test_shapes_are_those_of_the_arrays() -> None:
    config = unrolled(layers=4)
    layout, variables = setting(config)
    arrays = by_layer(layout.place(variables["frozen"]), config, layout)
    shapes = by_layer(layout.abstract(variables["frozen"]), config, layout)
    told = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.sharding), (arrays, shapes))
    assert told[0] == told[1]


@pytest.mark.slow
def test_a_step_is_the_same_and_copies_no_layers() -> None:
    config = unrolled(layers=7)
    layout, variables = setting(config)
    optimizer = make_optimizer(OptimizerConfig(warmup_steps=0), 10)
    inputs = {"episodes": inputs_of(0), "pairs": inputs_of(1)}
    whole = layout.place(variables["frozen"])
    results, memory = [], []
    for frozen in (whole, by_layer(whole, config, layout)):
        step = make_step(FlamingoModel(config), optimizer, WEIGHTS, layout)
        state = layout.place(TrainState.create(variables["params"], optimizer))
        results.append(jax.device_get(step(state, frozen, inputs)))
        memory += step.blocks.values()
    chex.assert_trees_all_equal(*results)
    layers = whole["language"]["groups"]["language"]["layers"]
    assert memory[0] - memory[1] > sum(leaf.nbytes for leaf in jax.tree.leaves(layers)) / 2
