"""Flamingo as a whole: identity at closed gates, φ masking, and the frozen collection."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from flamingo_jax.models.decoder import DecoderConfig
from flamingo_jax.models.flamingo import FlamingoConfig, FlamingoModel, gates, stack_layers
from flamingo_jax.models.resampler import ResamplerConfig
from flamingo_jax.models.xattn import CrossAttentionConfig

B, T, N, F, P, C = 2, 10, 3, 2, 4, 5


def tiny_config(alpha: float, first: int = 1, every: int = 2, layers: int = 6) -> FlamingoConfig:
    return FlamingoConfig(
        DecoderConfig(50, 16, layers, 4, 2, 4, 32),
        ResamplerConfig(16, 2, 4, 2, 8),
        CrossAttentionConfig(2, 8, first, every, alpha_init=alpha, alpha_dense_init=alpha),
    )


def random_variables(model, alpha, *inputs):
    """Random leaves, drawn by NumPy: compiling their initial values takes longer than the test."""
    draw = np.random.default_rng(0)

    def value(path, leaf):
        name = jax.tree_util.keystr(path)
        if "alpha" in name:
            return np.full(leaf.shape, alpha, np.float32)
        scale = 0.5 if "embedding" in name else 0.25
        return (draw.normal(size=leaf.shape) * scale + ("scale" in name)).astype(np.float32)

    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    return jax.tree_util.tree_map_with_path(value, shapes)


@functools.cache
def build(*args):
    model = FlamingoModel(tiny_config(*args))
    keys = jax.random.split(jax.random.key(0), 4)
    tokens = jax.random.randint(keys[0], (B, T), 0, 50)
    features = jax.random.normal(keys[1], (B, N, F, P, C))
    index = jnp.array([[0, 1, 1, 1, 2, 2, 2, 3, 3, 3], [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]])
    variables = random_variables(model, args[0], tokens, features, index)
    return jax.jit(model.apply), variables, tokens, features, index


@pytest.mark.parametrize(("first", "every", "layers"), [(0, 1, 3), (1, 2, 6), (2, 2, 6), (0, 7, 3)])
def test_closed_gates_equal_the_language_model_bit_for_bit(first, every, layers):
    apply, variables, tokens, features, index = build(0.0, first, every, layers)
    with_images = apply(variables, tokens, features, index)
    alone = apply(variables, tokens)
    chex.assert_shape(with_images, (B, T, 50))
    np.testing.assert_array_equal(with_images, alone)


def test_open_gates_change_only_tokens_that_see_an_image_or_follow_one():
    apply, variables, tokens, features, index = build(0.7)
    variables = jax.tree_util.tree_map_with_path(
        lambda path, x: x * 0 if "alpha_dense" in jax.tree_util.keystr(path) else x, variables
    )
    changed = apply(variables, tokens, features, index) != apply(variables, tokens)
    np.testing.assert_array_equal(changed.any(-1), np.cumsum(index > 0, axis=1) > 0)


def test_each_token_sees_its_own_image_only():
    """Brute force: change medium n; at a single layer only tokens with φ = n change directly."""
    apply, variables, tokens, features, index = build(0.7, 5, 1)
    base = apply(variables, tokens, features, index)
    for n in range(N):
        other = apply(variables, tokens, features.at[:, n].add(1.0), index)
        changed = np.asarray((base != other).any(-1))
        direct = np.asarray(index) == n + 1
        # Later tokens change too, through self-attention, but none before the first that sees it.
        np.testing.assert_array_equal(changed, np.cumsum(direct, axis=1) > 0)


def test_padding_media_do_not_matter():
    apply, variables, tokens, features, index = build(0.7)
    short = jnp.minimum(index, 2)
    np.testing.assert_array_equal(
        apply(variables, tokens, features, short),
        apply(variables, tokens, features.at[:, 2].set(1e3), short),
    )


def test_logits_at_positions():
    apply, variables, tokens, features, index = build(0.7)
    at = jnp.array([[1, 4, 9], [0, 0, 3]])
    everywhere = apply(variables, tokens, features, index)
    some = apply(variables, tokens, features, index, at)
    expected = np.take_along_axis(np.asarray(everywhere), np.asarray(at)[..., None], axis=1)
    np.testing.assert_allclose(some, expected, rtol=1e-5, atol=1e-5)


def test_unrolled_layers_are_the_same_model():
    apply, variables, tokens, features, index = build(0.7)
    config = dataclasses.replace(tiny_config(0.7), unroll=True)
    unrolled = jax.jit(FlamingoModel(config).apply)
    expected = apply(variables, tokens, features, index)
    np.testing.assert_allclose(
        unrolled(variables, tokens, features, index), expected, rtol=1e-5, atol=1e-5
    )


def test_collections_hold_what_they_should():
    _, variables, *_ = build(0.0)
    assert set(variables) == {"params", "frozen"}
    assert set(variables["params"]["language"]["groups"]) == {"xattn"}
    assert set(variables["frozen"]) == {"language"}


def test_stack_layers_gives_the_frozen_tree():
    _, variables, *_ = build(0.0)
    layer = jax.tree.map(
        lambda x: np.asarray(x[0]), variables["frozen"]["language"]["below"]["layers"]
    )
    stacked = stack_layers([layer] * 6, tiny_config(0.0))
    for part, tree in stacked.items():
        chex.assert_trees_all_equal_shapes(tree, variables["frozen"]["language"][part])


@pytest.mark.parametrize("conditioning", ["gated_xattn_dense", "vanilla_xattn", "grafting"])
def test_images_after_a_token_never_change_its_logits(conditioning):
    config = tiny_config(0.7)
    xattn = dataclasses.replace(config.xattn, conditioning=conditioning)
    model = FlamingoModel(dataclasses.replace(config, xattn=xattn))
    _, _, tokens, features, index = build(0.7)
    variables = random_variables(model, 0.7, tokens, features, index)
    apply = jax.jit(model.apply)
    base = apply(variables, tokens, features, index)
    changed = (base != apply(variables, tokens, features.at[:, 1].add(1.0), index)).any(-1)
    np.testing.assert_array_equal(changed, np.cumsum(index == 2, axis=1) > 0)


def test_media_in_another_order_are_the_same_media():
    """Two images swapped, and the numbers that tokens see them by: nothing else changes."""
    apply, variables, tokens, features, index = build(0.7)
    swapped = features[:, jnp.array([1, 0, 2])]
    number = jnp.array([0, 2, 1, 3])[index]
    np.testing.assert_allclose(
        apply(variables, tokens, swapped, number),
        apply(variables, tokens, features, index),
        atol=1e-5,
    )


def test_grafts_come_after_the_whole_language_model():
    """The language model's own hidden states do not change: gates or not, images or not."""
    config = dataclasses.replace(
        tiny_config(0.7), xattn=dataclasses.replace(tiny_config(0.7).xattn, conditioning="grafting")
    )
    model = FlamingoModel(config)
    _, plain, tokens, features, index = build(0.7)
    variables = random_variables(model, 0.7, tokens, features, index)
    assert set(variables["params"]["language"]) == {"grafts"}
    bridges = variables["params"]["language"]["grafts"]["xattn"]["alpha_xattn"]
    chex.assert_shape(bridges, (config.num_bridges,))
    frozen = plain["frozen"]
    alone = jax.jit(model.apply)({"params": {}, "frozen": frozen}, tokens)
    expected = jax.jit(FlamingoModel(tiny_config(0.7)).apply)(
        {"params": {}, "frozen": frozen}, tokens
    )
    np.testing.assert_array_equal(alone, expected)


def test_a_trained_language_model_is_the_same_in_the_other_collection():
    apply, variables, tokens, features, index = build(0.7)
    model = FlamingoModel(dataclasses.replace(tiny_config(0.7), language="fine_tuned"))
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens, features, index)
    assert set(shapes) == {"params"}
    params = {
        **traverse_util.flatten_dict(variables["params"]),
        **traverse_util.flatten_dict(variables["frozen"]),
    }
    params = traverse_util.unflatten_dict(params)
    chex.assert_trees_all_equal_shapes(params, shapes["params"])
    np.testing.assert_allclose(
        jax.jit(model.apply)({"params": params}, tokens, features, index),
        apply(variables, tokens, features, index),
        atol=1e-6,
    )


@pytest.mark.parametrize("every", [2, 3])
def test_gates_are_told_by_language_layer(every):
    for gating in (True, False):
        config = tiny_config(0.5, 1, every, 6)
        config = dataclasses.replace(
            config, xattn=dataclasses.replace(config.xattn, gating=gating, vector_gates=gating)
        )
        _, _, tokens, features, index = build(0.7)
        init = functools.partial(FlamingoModel(config).init, jax.random.key(0))
        shapes = jax.eval_shape(init, tokens, features, index)["params"]
        params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.25, np.float32), shapes)
        found = gates(config, params)
        assert found["layers"] == list(range(1, 6, every))
        expected = [0.25] * config.num_bridges if gating else []
        assert found["alpha_xattn"] == found["alpha_dense"] == expected
