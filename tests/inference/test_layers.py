"""The unstacked layers against the training model."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from flamingo_jax.inference.layers import forward, unstack
from flamingo_jax.models.flamingo import FlamingoModel, causal_context, stack_layers
from flamingo_jax.models.xattn import media_mask
from tests.inference.conftest import N, build


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-5), ("bfloat16", 0.3)])
def test_logits_equal_the_training_model(dtype, error):
    config, variables, weights, prompt, features = build(0.8, dtype)
    expected = jax.jit(FlamingoModel(config).apply)(
        variables, prompt.tokens_BxT, features, prompt.media_index_BxT
    )
    got, _ = jax.jit(
        lambda w, p: forward(
            config,
            w,
            p.tokens_BxT,
            p.media_BxNxRxD,
            media_mask(p.media_index_BxT, N),
            causal_context(*p.tokens_BxT.shape),
        )
    )(weights, prompt)
    np.testing.assert_allclose(got, expected, atol=error)


@pytest.mark.parametrize(("first", "every"), [(0, 1), (1, 2), (2, 3), (0, 7), (5, 1)])
def test_unstack_undoes_stack_layers(tiny, first, every):
    xattn = dataclasses.replace(tiny.config.xattn, first=first, every=every)
    config = dataclasses.replace(tiny.config, xattn=xattn)
    layers = [{"kernel": np.full((2, 3), i, np.float32)} for i in range(6)]
    below, whole, rest = config.groups()
    language = {"vocabulary": {}, **stack_layers(layers, config)}
    bridges = {}
    if whole:
        bridges["groups"] = {"xattn": {"alpha": np.arange(whole, dtype=np.float32)}}
    if rest:
        bridges["last_group"] = {"xattn": {"alpha": np.float32(whole)}}
    weights = unstack(config, {"language": bridges, "resampler": {}}, {"language": language})
    chex.assert_trees_all_equal(weights.layers, tuple(layers))
    places = {i: float(b["alpha"]) for i, b in enumerate(weights.bridges) if b is not None}
    assert places == {layer: n for n, layer in enumerate(range(below, 6, every))}
